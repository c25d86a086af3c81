"""Event ports of a stream switch: which stream the port events tell of."""

from dataclasses import dataclass

from leasehold.aie.claimed import PlainResource
from leasehold.aie.device import Device
from leasehold.aie.event import Event
from leasehold.claims import Site
from leasehold.errors import Invalid

DIRECTIONS = ("master", "slave")
PORT_EVENTS = ("IDLE", "RUNNING", "STALLED", "TLAST")


@dataclass(frozen=True, slots=True)
class StreamPort:
    """A port of a stream switch: its direction, the driver's name of its kind (``DMA``, ``CORE``, ...), its number."""

    direction: str
    kind: str
    number: int

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise Invalid(f"a port is {' or '.join(DIRECTIONS)}, not {self.direction!r}")
        if not isinstance(self.kind, str) or not self.kind or not self.kind.isprintable():
            raise Invalid(f"a port's kind is a name, not {self.kind!r}")
        if isinstance(self.number, bool) or not isinstance(self.number, int) or self.number < 0:
            raise Invalid(f"a port's number is 0 or more, not {self.number!r}")


class StreamPortSelect(PlainResource):
    """A selector of the stream that port events tell of (``XAieStreamPortSelect``): one ``ss_event_port``."""

    pool = "ss_event_port"

    def __init__(self, device: Device, tile: Site, *, reservation: str = "") -> None:
        super().__init__(device, tile, reservation=reservation)
        self._port: StreamPort | None = None

    @property
    def port(self) -> StreamPort | None:
        """The port that it is set to; None until it is configured."""
        return self._port

    def configure(self, direction: str, kind: str, number: int) -> None:
        """Says which port its events tell of.

        Raises:
            WrongState: it runs.
            Invalid: no port can be called so.
        """
        with self._device.lock:
            self._check_stopped("change")
            self._port = StreamPort(direction, kind, number)
            self._is_configured = True

    def event(self, what: str) -> Event:
        """The event that its port is ``IDLE``, ``RUNNING``, ``STALLED``, or has passed the last word (``TLAST``).

        Raises:
            WrongState: it is not reserved.
            Invalid: no such event.
        """
        if what not in PORT_EVENTS:
            raise Invalid(f"a port's event is {', '.join(PORT_EVENTS)}, not {what!r}")
        return self._device.event(self._tile, f"PORT_{what}_{self.id}")
