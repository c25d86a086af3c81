"""Combo events: two to four events of one module, joined by logic into one."""

from collections.abc import Sequence

from leasehold.aie.claimed import PlainResource
from leasehold.aie.device import Device
from leasehold.aie.event import Event, EventLike, event_of
from leasehold.claims import Claim, Site
from leasehold.errors import Invalid

INPUT_COUNTS = (2, 3, 4)
OPERATOR_COUNT_MAX = 3
OPERATORS = ("and", "and_not", "or", "or_not")


class ComboEvent(PlainResource):
    """Two to four inputs of a module's combo logic (``XAieComboEvent``): as many ``combo_event`` in a row.

    Two inputs begin at an even slot, three and four at slot 0. Which combo event they make follows from the slot.
    """

    pool = "combo_event"

    def __init__(self, device: Device, tile: Site, input_count: int = 2, *, reservation: str = "") -> None:
        """Claims nothing. ``reservation`` names what a compiler set aside for it.

        Raises:
            Invalid: there is no such tile, or another number of inputs than 2 to 4.
        """
        if input_count not in INPUT_COUNTS:
            raise Invalid(f"a combo event has 2 to 4 inputs, not {input_count!r}", facts={"input_count": input_count})
        self._input_count = input_count
        self._events: tuple[Event, ...] = ()
        self._operators: tuple[str, ...] = ()
        super().__init__(device, tile, reservation=reservation)

    @property
    def input_count(self) -> int:
        """How many inputs it has, 2 to 4."""
        return self._input_count

    @property
    def events(self) -> tuple[Event, ...]:
        """Its input events; empty until it is configured."""
        return self._events

    @property
    def operators(self) -> tuple[str, ...]:
        """What joins the inputs; empty until it is configured."""
        return self._operators

    @property
    def event(self) -> Event:
        """The event that all its inputs make: combo event 0 or 1 from two of them, 2 from more.

        Raises:
            WrongState: it is not reserved.
            Invalid: its pairs were configured to stay apart; ``results`` has both.
        """
        if self._input_count == 2:
            return self._result(self.id // 2)
        self._check_reserved("event")
        if len(self._operators) == 2:
            raise Invalid(f"no third operator of {self} joins its pairs: each has an event of its own")
        return self._result(2)

    @property
    def results(self) -> tuple[Event, ...]:
        """The events that it raises, one an operator; empty until it is configured.

        Raises:
            WrongState: it is not reserved.
        """
        first = self.id // 2
        return tuple(self._result(first + index) for index in range(len(self._operators)))

    def configure(self, events: Sequence[EventLike], operators: Sequence[str]) -> None:
        """Names its inputs, in the order of its slots, and what joins them.

        Two inputs have one operator. Of three and four the first operator joins inputs 0 and 1, the second 2 and 3, and
        a third, where there is one, the two results. An operator is ``and``, ``and_not``, ``or`` or ``or_not``. The
        inputs are events of its own module; ``Broadcast`` brings others.

        Raises:
            WrongState: it runs.
            Invalid: another number of events than it has inputs, too few or too many operators, or none there is.
        """
        found = tuple(event_of(event) for event in events)
        self._check_arity(len(found), tuple(operators))
        for event in found:
            if event.module != self._tile[2]:
                text = f"{event} is no event of module {self._tile[2]}; a broadcast channel can bring it there"
                raise Invalid(text, facts={"event": str(event), "module": self._tile[2]})
        with self._device.lock:
            self._check_stopped("change")
            self._events, self._operators = found, tuple(operators)
            self._is_configured = True

    def _result(self, number: int) -> Event:
        return self._device.event(self._tile, f"COMBO_EVENT_{number}")

    def _check_arity(self, event_count: int, operators: tuple[str, ...]) -> None:
        if unknown := [one for one in operators if one not in OPERATORS]:
            raise Invalid(f"an operator is {', '.join(OPERATORS)}, not {unknown[0]!r}")
        if event_count != self._input_count:
            text = f"{self} has {self._input_count} inputs, and {event_count} events are named"
            raise Invalid(text, facts={"input_count": self._input_count, "event_count": event_count})
        least, most = (1, 1) if event_count == 2 else (2, OPERATOR_COUNT_MAX)
        if not least <= len(operators) <= most:
            text = f"{event_count} inputs are joined by {least} to {most} operators, not {len(operators)}"
            raise Invalid(text, facts={"operator_count": len(operators), "least": least, "most": most})

    def _claim(self) -> Claim:
        return self._run_claim(self._input_count)
