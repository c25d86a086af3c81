"""What the engine asks of a kind of card. The bits are the ledger's; a back end makes them real on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from rm.core.card import Allotment, CardSpec
from rm.core.lease import Lease, WindowMark
from rm.core.types import CardId, LeaseId


@dataclass(frozen=True, slots=True)
class Window:
    """The memory of one allotment, as a file that the client maps. The back end owns ``fd``."""

    mark: WindowMark
    fd: int


class Fence(Enum):
    """How far a lease that ended in violence is from being unused."""

    QUIET = auto()  # nobody can use its units any more
    SOON = auto()  # the back end is taking them away, and tells when it has
    OUT_OF_REACH = auto()  # they cannot be taken away; the back end tells when nobody uses them any more


class Backend(Protocol):
    """One kind of card, for all cards of that kind on this host."""

    on_in_use: Callable[[LeaseId, float], None]
    """Called, from any thread and more than once, for a lease for which a fence answered OUT_OF_REACH, where it is seen
    in use though its holder has had a moment to let go; with the time of that look, as ``time.monotonic`` has it."""

    @property
    def cards(self) -> tuple[CardSpec, ...]:
        """The cards there are."""

    @property
    def incarnations(self) -> tuple[tuple[CardId, str], ...]:
        """For each card a word that changes when the card is reset: what was on it is gone then."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, one sentence each."""

    def prepare(
        self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int
    ) -> tuple[WindowMark, ...]:
        """Makes ready what a grant of ``allotments`` needs, before it is granted; undone by ``end``.

        ``first_index`` is the index in the lease of the first of them. Answers how its windows are known again.

        Raises:
            CardFailed: it cannot; nothing is left of the try.
        """

    def adopt(self, lease: Lease) -> None:
        """Takes over a lease of a daemon before this one, whose descriptors died with it."""

    def hand_back(self, lease: Lease, allotment_index: int, fd: int) -> None:
        """Takes a window of an adopted lease back from its client, and with it the means to fence it. Owns ``fd``.

        Raises:
            InvalidRequest: it is not that window, or was tampered with.
        """

    def remake(self, lease: Lease) -> tuple[WindowMark, ...]:
        """Makes the windows anew that died with the daemon before anybody had them; answers all marks of the lease.

        Raises:
            CardFailed: somebody has one: it must be handed back instead.
        """

    def windows(self, lease_id: LeaseId) -> list[Window]:
        """The windows of a lease, in the order of its allotments, but for those that were not handed back yet."""

    def used_bytes(self, lease_id: LeaseId) -> int:
        """Memory of a lease that has really been touched; 0 where the card cannot tell."""

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        """Takes back what one allotment needed."""

    def end(self, lease_id: LeaseId) -> None:
        """Takes back everything of a lease that its holder has let go of; idempotent."""

    def fence(self, lease: Lease, on_quiet: Callable[[], None], *, is_holder_dead: bool) -> Fence:
        """Sees to it that nobody uses the units of a lease that ended in violence; idempotent.

        Where it answers other than QUIET, ``on_quiet`` is called, once and from any thread, when that is so.
        """

    def close(self) -> None:
        """Ends, and lets go of everything. Clients keep what they have: a daemon that starts later adopts it."""
