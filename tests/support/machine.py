"""The machine that plays clients against the real ledger and the model at once, and compares them after every step."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from rm.core.card import Allotment
from rm.core.claims import Asker, Common, Ids, Run, Units
from rm.core.errors import Refusal
from rm.core.events import Extended, LeaseEnded, Renewed, Request, RequestForgone, RevocationBegan, UnitsReturned
from rm.core.lease import Lease
from rm.core.limits import NOTICE_NS_DEFAULT, NOTICE_NS_MAX
from rm.core.types import NS_PER_S, LeaseId, PoolName, SessionId
from support.books import record
from support.comparison import ASKERS, agree, parts_of
from support.model_words import INVALID, NOT_FOUND, NOT_OWNER, Part, Refused
from support.reservation_rules import ReservationRules, askers, picks

notices = st.sampled_from([0, NS_PER_S, 3 * NS_PER_S, NOTICE_NS_MAX, NOTICE_NS_MAX + 1])
ttls = st.sampled_from([None, 1 * NS_PER_S, 2 * NS_PER_S, 5 * NS_PER_S])


class LedgerMachine(ReservationRules):
    """Each rule asks the model what must be answered, asks the ledger, compares, and only then applies."""

    # Acquiring.

    @rule(data=st.data(), who=askers, card=picks, ttl_ns=ttls)
    def acquire(self, data: st.DataObject, who: Asker, card: int, ttl_ns: int | None) -> None:
        self.acquire_now(who, data.draw(self.requests), ttl_ns, self._card_or_any(card))

    @rule(who=askers, count=st.integers(1, 7), align=st.sampled_from([1, 1, 2, 4]), ttl_ns=ttls)
    def acquire_run(self, who: Asker, count: int, align: int, ttl_ns: int | None) -> None:
        self.acquire_now(who, (Run(PoolName("memory"), unit_count=count, align_count=align),), ttl_ns)

    @rule(
        who=askers, name=st.sampled_from(["streams", "cores", "memory", "streams", "nowhere"]), count=st.integers(0, 4)
    )
    def acquire_units(self, who: Asker, name: str, count: int) -> None:
        self.acquire_now(who, (Units(PoolName(name), count),), None)

    @rule(who=askers, unit=st.integers(0, 3))
    def acquire_id(self, who: Asker, unit: int) -> None:
        self.acquire_now(who, (Ids(PoolName("streams"), (unit,)),), None)

    @rule(
        who=askers,
        sites=st.sampled_from([(), (), (), (0,), (1,), (2,), (1, 0), (0, 2), (0, 1, 2)]),
        is_common=st.booleans(),
    )
    def acquire_channel(self, who: Asker, sites: tuple[int, ...], is_common: bool) -> None:
        """The same channel at several sites, or at all; or any at each, so that sites come to differ."""
        pool = self._pool("bcast", "vnpu")
        at = tuple(pool.sites[site] for site in sites if site < len(pool.sites))
        kind = Common(pool.name, at) if is_common or not at else Units(pool.name, 1, at)
        self.acquire_now(who, (kind,), None)

    @precondition(lambda self: self.asked)
    @rule(which=picks, is_changed=st.booleans())
    def acquire_again(self, which: int, is_changed: bool) -> None:
        """The same request id again: with the same parameters, or with others."""
        wish = self.asked[which % len(self.asked)]
        self.ask(replace(wish, fingerprint=b"other") if is_changed else wish)

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), which=picks, who=askers, is_mine=st.integers(0, 4))
    def extend(self, data: st.DataObject, which: int, who: Asker, is_mine: int) -> None:
        lease_id = self._lease(which)
        who = self._owner(lease_id) if is_mine else who
        claims = data.draw(self.requests)
        request = self.request(who)

        def expected() -> list[Part]:
            lease = self.model.growing(lease_id, who.session)
            return self.model.place(claims, [lease.card], who)[1]

        event = self.decide(expected, lambda: self.ledger.decide_extend(LeaseId(lease_id), claims, who, request))
        if isinstance(event, Extended):
            agree("added", parts_of(event.allotments), expected())
            self.model.extend(lease_id, expected())
            self.apply(event)

    # Giving back.

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), which=picks, who=askers, is_mine=st.integers(0, 4), to_pool=st.booleans())
    def give_back(self, data: st.DataObject, which: int, who: Asker, is_mine: int, to_pool: bool) -> None:
        lease_id = self._lease(which)
        who = self._owner(lease_id) if is_mine else who
        card = self.model.leases[lease_id].card
        pool, at, ids = data.draw(self._some_units(lease_id))
        request = self.request(who)

        def expected() -> set:
            self.model.mine(lease_id, who.session)
            lost = self.model.units_to_give_back(lease_id, pool, ids, at)
            if to_pool:
                self.model.must_own(lost, who)
            return lost

        def decide() -> UnitsReturned | LeaseEnded | Lease | None:
            return self.ledger.decide_give_back(
                LeaseId(lease_id), who, request, pool=PoolName(pool), ids=ids, at=tuple(at), to_pool=to_pool
            )

        event = self.decide(expected, decide)
        if isinstance(event, Refusal):
            return
        self.given_back.append((decide, who.session, request.id, lease_id))
        lost = expected()
        ends = lost == set(self.model.spots_of(lease_id))
        agree("ends", isinstance(event, LeaseEnded), ends)
        if isinstance(event, UnitsReturned):
            parts = zip(self.ledger.leases[LeaseId(lease_id)].allotments, event.lost, strict=True)
            units = [Allotment(allotment.pool, part) for allotment, part in parts]
            agree(
                "lost", {(card, p, s, b) for p, at_site in parts_of(units) for s, bits in at_site for b in bits}, lost
            )
        self.model.give_back(lease_id, lost, to_pool=to_pool)
        self.apply(event)

    @precondition(lambda self: self.given_back)
    @rule(which=picks)
    def give_back_again(self, which: int) -> None:
        """The same request id again: what is left of the lease, or nothing where it has ended by then."""
        decide, session, request_id, lease_id = self.given_back[which % len(self.given_back)]
        is_forgotten = (session, request_id) not in self.model.answers and lease_id in self.model.leases
        if is_forgotten or self.model.answers.get((session, request_id), (b"", lease_id))[1] is None:
            return
        answer = self.decide(lambda: None, decide)
        agree("what is left", answer.id if isinstance(answer, Lease) else answer, self._live(lease_id))

    @precondition(lambda self: self.model.leases)
    @rule(which=picks, who=askers, is_mine=st.integers(0, 4), to_pool=st.booleans(), is_live=st.integers(0, 2))
    def release(self, which: int, who: Asker, is_mine: int, to_pool: bool, is_live: int) -> None:
        lease_id = self._lease(which) if is_live else f"L{which % (self.model.token + 2)}"
        if is_mine and lease_id in self.model.leases:
            who = self._owner(lease_id)
        had_ended = lease_id not in self.model.leases and 1 <= int(lease_id[1:]) <= self.model.token

        def expected() -> None:
            if not had_ended:
                self.model.mine(lease_id, who.session)
                if to_pool:
                    self.model.must_own(set(self.model.spots_of(lease_id)), who)

        event = self.decide(expected, lambda: self.ledger.decide_release(LeaseId(lease_id), who, to_pool=to_pool))
        if had_ended:
            agree("an ended lease released again", event, None)
        elif isinstance(event, LeaseEnded):
            self.model.end(lease_id, is_violent=False, to_pool=to_pool)
            self.apply(event)

    @precondition(lambda self: self.asked)
    @rule(which=picks)
    def forgo(self, which: int) -> None:
        """Gives up a request that was asked, or one that has not arrived yet."""
        wish = self.asked[which % len(self.asked)]
        key = (wish.asker.session, wish.request_id if which % 3 else self.request(wish.asker).id)
        lease_id = self.model.answers.get(key, (b"", None))[1]
        event = self.decide(lambda: None, lambda: self.ledger.decide_forgo(*key))
        if lease_id is None:
            agree("forgone", event, RequestForgone(Request(*key, b"")))
            self.model.answers[key] = (b"", None)
            self.apply(event)
        elif lease_id in self.model.leases:
            agree("ended", event, LeaseEnded(LeaseId(lease_id), "released", is_violent=False))
            self.model.end(lease_id, is_violent=False)
            self.apply(event)
        else:
            agree("neither", event, None)

    @precondition(lambda self: len(self.model.leases) > 2)
    @rule(who=askers, is_violent=st.booleans(), is_forgotten=st.booleans())
    def end_session(self, who: Asker, is_violent: bool, is_forgotten: bool) -> None:
        mine = [lease_id for lease_id, lease in self.model.leases.items() if lease.session == who.session]
        events = list(self.ledger.decide_end_session(who.session, "gone", is_violent=is_violent))
        agree("leases of the session", [event.lease_id for event in events], mine)
        for event in events:
            self.model.end(event.lease_id, is_violent=is_violent)
            self.apply(event)
        if is_forgotten:
            self.apply(self.ledger.decide_forget_session(who.session))
            self.model.sessions.discard(who.session)
            self.model.answers = {key: kept for key, kept in self.model.answers.items() if key[0] != who.session}

    @precondition(lambda self: len(self.model.sessions) < len(ASKERS))
    @rule(who=askers)
    def open_session(self, who: Asker) -> None:
        if who.session not in self.model.sessions:
            self.model.sessions.add(who.session)
            self.apply(self.ledger.decide_open_session(record(who.session)))

    @precondition(lambda self: self.ledger.quarantine)
    @rule(which=picks)
    def quiet(self, which: int) -> None:
        waiting = sorted(self.ledger.quarantine)
        lease_id = waiting[which % len(waiting)]
        event = self.ledger.decide_quiet(lease_id)
        self.model.quiet(lease_id)
        self.apply(event)

    # Time.

    @rule(passed_ns=st.sampled_from([0, 1, NS_PER_S - 1, NS_PER_S, None, None]))
    def tick(self, passed_ns: int | None) -> None:
        """Moves the clock (None: to the next deadline) and ends what is overdue: at its deadline a lease is."""
        due = [lease.deadline_ns for lease in self.model.leases.values() if lease.deadline_ns is not None]
        self.now_ns = min(due, default=self.now_ns) if passed_ns is None else self.now_ns + passed_ns
        events = self.ledger.decide_expire(now_ns=self.now_ns)
        agree("expired", [event.lease_id for event in events], self.model.expired(self.now_ns))
        for event in events:
            if event.lease_id not in self.model.revoking:
                self._told(event, event.lease_id, "keepalive missed", NOTICE_NS_DEFAULT)
            else:
                cause, _ = self.model.revoking[event.lease_id]
                agree("ended", event, LeaseEnded(event.lease_id, cause, is_violent=True))
                self.model.end(event.lease_id, is_violent=True)
                self.apply(event)

    @precondition(lambda self: self.model.token)
    @rule(which=picks, who=askers, is_admin=st.integers(0, 4), is_live=st.integers(0, 2), notice_ns=notices)
    def revoke(self, which: int, who: Asker, is_admin: int, is_live: int, notice_ns: int) -> None:
        """An admin tells a lease to end, with a notice that may be shorter than its keepalive, or longer."""
        who = ASKERS[-1] if is_admin else who
        has_one = is_live and self.model.leases
        lease_id = LeaseId(self._lease(which) if has_one else f"L{which % (self.model.token + 2)}")

        def expected() -> None:
            if notice_ns > NOTICE_NS_MAX:
                raise Refused(INVALID)
            if not who.is_admin:
                raise Refused(NOT_OWNER)
            if not 1 <= int(lease_id[1:]) <= self.model.token:
                raise Refused(NOT_FOUND)

        event = self.decide(
            expected,
            lambda: self.ledger.decide_revoke(lease_id, who, "asked to", notice_ns=notice_ns, now_ns=self.now_ns),
        )
        if isinstance(event, Refusal):
            return
        live = self.model.leases.get(lease_id)
        is_sooner = live and lease_id in self.model.revoking and live.deadline_ns > self.now_ns + notice_ns
        if live and (lease_id not in self.model.revoking or is_sooner):
            self._told(event, lease_id, "asked to", notice_ns)
        else:
            agree("nothing to tell", event, None)

    def _told(self, event: object, lease_id: LeaseId, cause: str, notice_ns: int) -> None:
        agree("told to end", event, RevocationBegan(lease_id, cause, self.now_ns + notice_ns, notice_ns))
        self.model.revoke(lease_id, cause, notice_ns=notice_ns, now_ns=self.now_ns)
        self.apply(event)

    @rule(who=askers, others=st.lists(picks, max_size=2))
    def renew(self, who: Asker, others: list[int]) -> None:
        mine = [lease_id for lease_id, lease in self.model.leases.items() if lease.session == who.session]
        named = mine + [f"L{pick % (self.model.token + 2)}" for pick in others]

        def expected() -> list[str]:
            for lease_id in named:
                if lease_id in self.model.leases:
                    self.model.mine(lease_id, who.session)
            return [name for name in named if name not in self.model.leases or name in self.model.revoking]

        answer = self.decide(
            expected, lambda: self.ledger.decide_renew([LeaseId(n) for n in named], who.session, now_ns=self.now_ns)
        )
        if isinstance(answer, Refusal):
            return
        event, lost = answer
        assert isinstance(event, Renewed)
        agree("lost", list(lost), expected())
        for lease_id in named:
            lease = self.model.leases.get(lease_id)
            if lease is not None and lease.ttl_ns is not None and lease_id not in self.model.revoking:
                lease.deadline_ns = max(lease.deadline_ns, self.now_ns + lease.ttl_ns)
        self.apply(event)

    @rule(gap_ns=st.integers(1, NS_PER_S))
    def postpone(self, gap_ns: int) -> None:
        """The daemon itself was stopped for a while: nobody is to blame for that."""
        self.now_ns += gap_ns
        self.ledger.deadlines.postpone(gap_ns)
        for lease in self.model.leases.values():
            lease.deadline_ns = None if lease.deadline_ns is None else lease.deadline_ns + gap_ns

    # What a rule chooses from.

    def _lease(self, which: int) -> str:
        live = sorted(self.model.leases)
        return live[which % len(live)]

    def _live(self, lease_id: str) -> str | None:
        return lease_id if lease_id in self.model.leases else None

    def _owner(self, lease_id: str) -> Asker:
        return next(who for who in ASKERS if who.session == SessionId(self.model.leases[lease_id].session))

    def _pool(self, *names: str):
        return next(pool for pool in self.cards[0].pools if pool.name in names)

    def _some_units(self, lease_id: str) -> st.SearchStrategy[tuple[str, list[str], list[int]]]:
        """A pool, sites and unit ids that the lease mostly has, all of a part or some of it."""
        lease = self.model.leases[lease_id]
        choices = []
        for name, at_sites in lease.parts:
            spec = self.model.pools[lease.card][name]
            for site, bits in at_sites:
                at = [spec.sites[site]] if spec.sites else []
                choices.append((name, at, sorted({bit // spec.slices_per_unit for bit in bits})))

        def some(choice: tuple[str, list[str], list[int]]) -> st.SearchStrategy:
            name, at, units = choice
            few = st.lists(st.sampled_from([*units, units[-1] + 1]), min_size=1, max_size=3, unique=True)
            return st.tuples(st.just(name), st.just(at), st.just(units) | few)

        return st.sampled_from(choices).flatmap(some)
