"""Performance counters, with the channels that carry their events from the other module of the tile."""

from collections.abc import Sequence

from leasehold.aie.array import Tile
from leasehold.aie.channels import channel_claim, modules_of, named, roles_across
from leasehold.aie.claimed import ClaimedResource, Plan
from leasehold.aie.device import Device
from leasehold.aie.event import Event, EventLike, event_of
from leasehold.aie.grants import Part
from leasehold.claims import Site
from leasehold.errors import Invalid, WrongState


class PerfCounter(ClaimedResource):
    """A counter of a tile's module (``XAiePerfCounter``): one ``perfcnt``, and a channel for each event from elsewhere.

    All of it is one lease. ``cross_module`` lets the counter be the other module's where this one's are all taken;
    which events need a channel then follows from where it lies.
    """

    pool = "perfcnt"

    def __init__(self, device: Device, tile: Site, *, cross_module: bool = False, reservation: str = "") -> None:
        """Claims nothing. ``reservation`` names what a compiler set aside: counter and channels are to come from there.

        Raises:
            Invalid: there is no such tile, or it has no counters.
        """
        super().__init__(device, tile, reservation=reservation)
        self._is_cross_module = cross_module
        self._modules: dict[str, str] = {}
        self._events: dict[str, Event] = {}
        self._home: Tile | None = None
        self._threshold = 0

    def initialize(self, start: EventLike | str, stop: EventLike | str, reset: EventLike | str | None = None) -> None:
        """Says which events start, stop and reset it, or only of which module they are, to be named by ``configure``.

        Raises:
            WrongState: it is reserved.
            Invalid: an event of a module that the tile does not have.
        """
        with self._device.lock:
            self._check_not_reserved("it is initialized anew")
            roles = {"start": start, "stop": stop} | ({} if reset is None else {"reset": reset})
            self._modules = modules_of(self._device, self._tile, roles)
            self._events = named(roles)
            self._initialize(is_configured=self._is_complete())

    def configure(
        self,
        *,
        start: EventLike | None = None,
        stop: EventLike | None = None,
        reset: EventLike | None = None,
        threshold: int | None = None,
    ) -> None:
        """Names other events of the modules it was initialized with, or a threshold for its own event.

        Raises:
            WrongState: it is not initialized, or runs.
            Invalid: an event of another module, or in a role it was not initialized with: that may need a channel.
        """
        with self._device.lock:
            if not self.is_initialized:
                raise WrongState(f"{self} is not initialized, and cannot be configured")
            self._check_stopped("change")
            given = {"start": start, "stop": stop, "reset": reset}
            events = {role: event_of(value) for role, value in given.items() if value is not None}
            for role, event in events.items():
                if event.module != self._modules.get(role):
                    was = f"of module {self._modules[role]}" if role in self._modules else "none"
                    text = f"{self} was initialized with a {role} event that is {was}; {event} needs it done anew"
                    raise Invalid(text, facts={"role": role, "event": str(event)})
            if threshold is not None and (
                isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 0
            ):
                raise Invalid(f"a threshold is a number from 0, not {threshold!r}")
            self._events |= events
            self._threshold = self._threshold if threshold is None else threshold
            self._is_configured = self._is_complete()

    # What it got.

    @property
    def home(self) -> Tile:
        """The module whose counter it got: its own, or with ``cross_module`` the other one of the tile.

        Raises:
            WrongState: it is not reserved.
        """
        self._check_reserved("counter")
        assert self._home is not None, "a reserved counter lies somewhere"
        return self._home

    @property
    def channels(self) -> dict[str, int]:
        """The channel of each role (``start``, ``stop``, ``reset``) whose event comes from another module.

        Raises:
            WrongState: it is not reserved.
        """
        allotments = self._held_part("channels").allotments[1:]
        roles = roles_across(self._modules, self.home)
        return {role: allotment.ids[0] for role, allotment in zip(roles, allotments, strict=True)}

    @property
    def events(self) -> dict[str, Event]:
        """The event in each role that has one."""
        return dict(self._events)

    @property
    def threshold(self) -> int:
        """The count at which it raises its own event; 0 for none."""
        return self._threshold

    @property
    def event(self) -> Event:
        """The event that it raises at its threshold, in the module where it lies.

        Raises:
            WrongState: it is not reserved.
        """
        return self._device.event(self.home, f"PERF_CNT_{self.id}")

    # How it is reserved.

    def _plans(self) -> Sequence[Plan]:
        homes = [self._tile]
        if self._is_cross_module:
            homes += [other for other in self._device.modules(self._tile) if other != self._tile]
        return [self._plan(home) for home in homes]

    def _plan(self, home: Tile) -> Plan:
        across = roles_across(self._modules, home)
        channels = [channel_claim(self._device, home, self._reservation) for _ in across]
        return Plan(home, (self._unit_claim(home), *channels))

    def _take(self, plan: Plan, part: Part | None) -> None:
        super()._take(plan, part)
        self._home = plan.tile

    def _is_complete(self) -> bool:
        return {"start", "stop"} <= self._events.keys()
