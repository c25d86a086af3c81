"""What the engine asks of a kind of card. The bits are the ledger's; a back end makes them real on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rm.core.card import Allotment, CardSpec
from rm.core.types import CardId, LeaseId


@dataclass(frozen=True, slots=True)
class Window:
    """The memory of one allotment, as a file that the client maps. The back end owns ``fd``."""

    allotment_index: int
    size_bytes: int
    fd: int


class Backend(Protocol):
    """One kind of card, for all cards of that kind on this host."""

    @property
    def cards(self) -> tuple[CardSpec, ...]:
        """The cards there are."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, one sentence each."""

    def prepare(self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int) -> None:
        """Makes ready what a grant of ``allotments`` needs, before it is granted; undone by ``end``.

        ``first_index`` is the index in the lease of the first of them.

        Raises:
            CardFailed: it cannot; nothing is left of the try.
        """

    def windows(self, lease_id: LeaseId) -> list[Window]:
        """The windows of a lease, in the order of its allotments."""

    def used_bytes(self, lease_id: LeaseId) -> int:
        """Memory of a lease that has really been touched; 0 where the card cannot tell."""

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        """Takes back what one allotment needed."""

    def end(self, lease_id: LeaseId, on_quiet: Callable[[], None] | None = None) -> bool:
        """Takes back everything of a lease; idempotent. Answers whether its units may be given on at once.

        Without ``on_quiet`` nobody uses them any more: the holder is dead, or has let go. With it the holder may still
        use them: where the answer is False, the card is not proven quiet until ``on_quiet`` is called, from any thread.
        """

    def close(self) -> None:
        """Ends, and takes back everything."""
