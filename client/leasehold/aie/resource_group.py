"""Several objects of one array that are reserved together, all or none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

from leasehold.aie.array import Tile
from leasehold.aie.claimed import ClaimedResource, counts_of, reserve_together
from leasehold.errors import Invalid, WrongState


class ResourceGroup:
    """Objects of one device (``XAieRscGroupRuntime``): reserved in one request, as one lease, and usable one by one.

    A slot of a trace unit cannot be a member: its unit is what can be reserved.
    """

    def __init__(self, resources: Sequence[ClaimedResource]) -> None:
        """Claims nothing.

        Raises:
            Invalid: no resources, one twice, of several devices, or something else.
        """
        members = tuple(resources)
        if not members or not all(isinstance(one, ClaimedResource) for one in members):
            raise Invalid("a group has one member at least, and only what has units of its own")
        if len(set(map(id, members))) < len(members):
            raise Invalid("a group has each of its members once")
        if any(one.device is not members[0].device for one in members):
            raise Invalid("the members of a group are made for one device")
        self._members = members
        self._device = members[0].device

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ClaimedResource]:
        return iter(self._members)

    def counts(self) -> dict[tuple[Tile, str], int]:
        """How many units its members hold together, by module and pool; 0 is left out."""
        with self._device.lock:
            return counts_of(self._members)

    def reserve(self) -> None:
        """Reserves every member, in one request, or none.

        Raises:
            WrongState: one is not initialized, or is reserved.
            Refused: one of its kinds says why; nothing was taken.
        """
        with self._device.lock:
            for member in self._members:
                member._check_may_reserve()
            reserve_together(self._device, self._members)

    def start(self) -> None:
        """Starts every member; where one cannot, stops those that this call has started.

        Raises:
            As ``Resource.start``.
        """
        with self._device.lock, ExitStack() as undo:
            for member in self._members:
                if not member.is_running:
                    member.start()
                    undo.callback(member.stop)
            undo.pop_all()

    def stop(self) -> None:
        """Stops every member.

        Raises:
            Exception: what an ``on_program`` raised; the others are stopped all the same.
        """
        self._each(ClaimedResource.stop)

    def free(self) -> None:
        """Gives the units of every member back to where they were set aside.

        Raises:
            WrongState: one runs, or has nothing that was set aside; nothing was given back.
        """
        with self._device.lock:
            for member in self._members:
                if not member.is_prereserved:
                    raise WrongState(f"{member} has nothing that was set aside before; release it")
                member._check_stopped("free")
            self._each(ClaimedResource.free)

    def release(self) -> None:
        """Gives the units of every member to the pool.

        Raises:
            WrongState: one runs; nothing was given back.
            NotOwner: units were set aside by another user; their members still have them.
        """
        with self._device.lock:
            for member in self._members:
                member._check_stopped("release")
            self._each(ClaimedResource.release)

    def close(self) -> None:
        """Ends every member in whatever state.

        Raises:
            Exception: what an ``on_program`` raised; the units are back all the same.
        """
        self._each(ClaimedResource.close)

    def __enter__(self) -> "ResourceGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, act: Callable[[ClaimedResource], None]) -> None:
        """Does the same to every member, in order, whatever the others raise."""
        with self._device.lock, ExitStack() as stack:
            for member in reversed(self._members):
                stack.callback(act, member)
