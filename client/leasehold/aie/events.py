"""Events that software or the program counter raises: one unit each, or two in a row for a range."""

from leasehold.aie.claimed import PlainResource
from leasehold.aie.device import Device
from leasehold.aie.event import Event
from leasehold.claims import Claim, Site
from leasehold.errors import Invalid

RANGE_COUNT = 2  # a range takes two events in a row, the first of them even


class UserEvent(PlainResource):
    """An event line that software raises (``XAieUserEvent``): one ``user_event``. It needs no configuring."""

    pool = "user_event"

    def __init__(self, device: Device, tile: Site, *, reservation: str = "") -> None:
        super().__init__(device, tile, reservation=reservation)
        self._is_configured = True

    @property
    def event(self) -> Event:
        """The event that it raises.

        Raises:
            WrongState: it is not reserved.
        """
        return self._device.event(self._tile, f"USER_EVENT_{self.id}")


class _Addressed(PlainResource):
    """What PC events and ranges share: addresses of program memory."""

    pool = "pc_event"
    _addresses: tuple[int, ...] = ()

    @property
    def addresses(self) -> tuple[int, ...]:
        """The addresses that it compares with; empty until it is configured."""
        return self._addresses

    def _configure(self, *addresses: int) -> None:
        with self._device.lock:
            self._check_stopped("change")
            for address in addresses:
                if isinstance(address, bool) or not isinstance(address, int) or address < 0:
                    raise Invalid(f"an address is a number from 0, not {address!r}")
            if list(addresses) != sorted(addresses):
                raise Invalid(f"a range ends where it begins or later, not at {addresses[-1]} from {addresses[0]}")
            self._addresses = addresses
            self._is_configured = True


class PCEvent(_Addressed):
    """An event at an address of the program counter (``XAiePCEvent``): one ``pc_event`` of a core module."""

    @property
    def event(self) -> Event:
        """The event that it raises.

        Raises:
            WrongState: it is not reserved.
        """
        return self._device.event(self._tile, f"PC_{self.id}")

    def configure(self, address: int) -> None:
        """Says at which address of program memory it is raised.

        Raises:
            WrongState: it runs.
            Invalid: no address.
        """
        self._configure(address)


class PCRange(_Addressed):
    """An event while the program counter is in a range (``XAiePCRange``): two ``pc_event`` in a row, 0-1 or 2-3."""

    @property
    def event(self) -> Event:
        """The event that it raises.

        Raises:
            WrongState: it is not reserved.
        """
        return self._device.event(self._tile, f"PC_RANGE_{self.id}_{self.id + 1}")

    def configure(self, first: int, last: int) -> None:
        """Says between which addresses of program memory it is raised, both of them included.

        Raises:
            WrongState: it runs.
            Invalid: no addresses, or the last before the first.
        """
        self._configure(first, last)

    def _claim(self) -> Claim:
        return self._run_claim(RANGE_COUNT)
