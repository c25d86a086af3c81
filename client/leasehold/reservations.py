"""What a blocking client says of reservations and of AI Engine arrays: set aside, take away, list, dump, gate."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leasehold import calls
from leasehold.card import ReservationInfo, card_named, reservation_info_from
from leasehold.claims import Claim
from leasehold.errors import LeaseholdError
from leasehold.statistics import SiteCounts, count_sites, names_with
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

if TYPE_CHECKING:
    from leasehold.aie.array import ArrayShape

_STABLE_TRIES = 20  # to read all pools as of one moment, while others change them


class ReservationCalls(ABC):
    """The part of a client that speaks of reservations. It calls through ``_call`` and ``_read`` of the client."""

    def reserve(
        self,
        artifact: str | os.PathLike[str],
        *,
        name: str | None = None,
        card: str | None = None,
        shared: bool = False,
        replace: bool = False,
    ) -> ReservationInfo:
        """Sets aside what a file says: a manifest, a resource file, or an artifact with either packed into it.

        ``name`` is that of the file's reservation unless given; otherwise as ``reserve_claims``.

        Raises:
            Refused: as ``reserve_claims``, and
            Invalid: the file says nothing of the kind, or what it carries was made for another content.
        """
        from leasehold.artifacts.reservable import manifest_of

        manifest = manifest_of(Path(artifact))
        claims = manifest.claims(self.array_shape(card) if manifest.resources else None)
        return self.reserve_claims(
            name or manifest.name,
            *claims,
            content_hash=manifest.content_hash,
            card=card,
            profile=manifest.profile,
            shared=shared,
            replace=replace,
        )

    def reserve_claims(
        self,
        name: str,
        *claims: Claim,
        memory: str | int | None = None,
        content_hash: str = "",
        card: str | None = None,
        profile: str = "",
        shared: bool = False,
        replace: bool = False,
        **counts: float | None,
    ) -> ReservationInfo:
        """Sets units aside under ``name``: all that is claimed, or nothing.

        Plain claims never take them; who names the reservation, or a unit by its id, does: its owner (this user), an
        admin, or anybody where it is ``shared``. ``content_hash`` stands for what they are for: who sets the same aside
        again gets the reservation that is there. ``profile`` is the kind of card that is needed, where it matters.
        ``replace`` puts it in the place of one of this name, whose units must not be in use.

        Raises:
            Held: a unit is held or reserved; the text says by whom.
            Exhausted: not enough is free.
            NotOwner: it would replace another user's.
            Invalid: no such card, pool or unit; or the name is in use for something else.
        """
        request = calls.reserve_request(
            name,
            claims,
            memory=memory,
            counts=counts,
            content_hash=content_hash,
            card=card,
            profile=profile,
            shared=shared,
            replace=replace,
        )
        response: pb.ReserveResponse = self._call("Reserve", request)
        return reservation_info_from(response.reservation)

    def unreserve(self, name: str) -> None:
        """Takes a reservation away; its units go to the pool.

        Raises:
            Held: units of it are held.
            NotOwner: it is another user's.
            Invalid: there is none of this name.
        """
        self._call("Unreserve", pb.UnreserveRequest(name=name))

    def reservations(self, key: str = "") -> list[ReservationInfo]:
        """The reservations of a name or content hash, or all, in the order of their names."""
        return [reservation_info_from(one) for one in self.reservation_messages(key)]

    def reservation_messages(self, key: str = "", *, with_units: bool = False) -> Sequence[types_pb2.Reservation]:
        """Reservations as their messages; ``with_units`` of one reservation also its units."""
        request = pb.ListReservationsRequest(key=key, with_units=with_units)
        response: pb.ListReservationsResponse = self._read("ListReservations", request)
        return response.reservations

    def statistics(self, pool: str, card: str | None = None) -> list[SiteCounts]:
        """How much of a pool is free, held and reserved at each of its sites, and whose it is.

        Raises:
            Invalid: no such card or pool.
        """
        response: pb.GetBitmapResponse = self._read("GetBitmap", pb.GetBitmapRequest(card=card or "", pool=pool))
        names = names_with(self.reservation_messages(), pool)
        found = [one for name in names for one in self.reservation_messages(name, with_units=True) if one.name == name]
        return count_sites(response.bitmap, self.lease_messages(pool), found)

    # AI Engine arrays.

    def array_shape(self, card: str | None = None) -> "ArrayShape":
        """The shape of an AI Engine array.

        Raises:
            Invalid: the card is none.
        """
        from leasehold.aie.bitmaps import shape_of

        return shape_of(self._array_bitmaps(card)[0])

    def dump(self, card: str | None = None, *, with_reserved: bool = False) -> bytes:
        """The units of an array that are held (and, if wanted, those reserved) as the driver's resource file.

        Raises:
            Invalid: the card is no AI Engine array.
            LeaseholdError: others change it all the time, so that no one state could be read.
        """
        from leasehold.aie.bitmaps import held_of, shape_of
        from leasehold.aie.resource_file import write_resources

        for _ in range(_STABLE_TRIES):
            bitmaps, is_one_state = self._array_bitmaps(card)
            if is_one_state:
                return write_resources(
                    shape_of(bitmaps), {one.pool.name: held_of(one, with_reserved) for one in bitmaps}
                )
        raise LeaseholdError("the card changes too often to be dumped; try again when fewer processes use it")

    def gate(self, tiles: Iterable[tuple[int, int]] | None = None, *, card: str | None = None) -> None:
        """Turns the clocks of tiles ``(column, row)``, and of those above them in their column, off; None means all.

        For admins, one at a time: it reads which clocks are off, and says which are then. The shim's always runs.

        Raises:
            Held: somebody holds units there.
            NotOwner: this process runs neither as root nor as the daemon's user.
            Invalid: no such tile.
        """
        shape, gated = self.array_shape(card), set(self._card_message(card).gated_sites)
        self._gate_sites(card, gated | shape.sites_from(tiles))

    def ungate(self, tiles: Iterable[tuple[int, int]] | None = None, *, card: str | None = None) -> None:
        """Turns the clocks of tiles ``(column, row)``, and of those below them in their column, on; None means all.

        Raises:
            NotOwner, Invalid: as ``gate``.
        """
        shape, gated = self.array_shape(card), set(self._card_message(card).gated_sites)
        self._gate_sites(card, gated - shape.sites_up_to(tiles))

    def _gate_sites(self, card: str | None, sites: Iterable[str]) -> None:
        self._call("GateSites", pb.GateSitesRequest(card=card or "", sites=sorted(sites)))

    def _array_bitmaps(self, card: str | None) -> tuple[list[types_pb2.PoolBitmap], bool]:
        """The bits of every pool of an array, and whether all are as of one moment."""
        responses: list[pb.GetBitmapResponse] = [
            self._read("GetBitmap", pb.GetBitmapRequest(card=card or "", pool=name))
            for name in self._resource_pools(card)
        ]
        return [one.bitmap for one in responses], len({one.revision for one in responses}) <= 1

    def _resource_pools(self, card: str | None) -> list[str]:
        from leasehold.aie.array import RESOURCE_TYPES

        return [pool.name for pool in self._card_message(card).pools if pool.name in RESOURCE_TYPES]

    def _card_message(self, card: str | None) -> types_pb2.Card:
        response: pb.ListCardsResponse = self._read("ListCards", pb.ListCardsRequest())
        return card_named(response.cards, card)

    # What the client has.

    @abstractmethod
    def _call(self, method: str, request: Any) -> Any:  # noqa: ANN401 - one of many messages
        """Sends a request under the session, until it is answered."""

    @abstractmethod
    def lease_messages(self, pool: str = "") -> Iterator[types_pb2.Lease]:
        """All live leases as their messages."""

    @abstractmethod
    def _read(self, method: str, request: Any) -> Any:  # noqa: ANN401
        """Sends a request that needs no session."""
