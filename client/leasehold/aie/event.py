"""An event of the array: the module that raises it, and the driver's name or number for it.

Which module it is decides whether a channel has to carry it; the rest passes through unread. Events that are made here
have the driver's name without ``XAIE_EVENT_``: ``Event("core", "USER_EVENT_0_CORE")``.
"""

from dataclasses import dataclass

from leasehold.errors import Invalid

MODULES = ("core", "mem", "pl")


@dataclass(frozen=True, slots=True)
class Event:
    """An event that a module raises: ``module`` is ``core``, ``mem`` or ``pl``, ``name`` a name or a number."""

    module: str
    name: str | int

    def __post_init__(self) -> None:
        if self.module not in MODULES:
            raise Invalid(
                f"an event is of module {', '.join(MODULES)}, not {self.module!r}", facts={"event": str(self)}
            )
        is_name = isinstance(self.name, str) and self.name and self.name.isprintable()
        is_number = isinstance(self.name, int) and not isinstance(self.name, bool) and self.name >= 0
        if not is_name and not is_number:
            raise Invalid(f"an event has a name, or a number from 0, not {self.name!r}", facts={"event": str(self)})

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


# How users may write one: an event, or its two parts.
EventLike = Event | tuple[str, str | int]


def event_of(value: EventLike) -> Event:
    """The event that a user means.

    Raises:
        Invalid: it is none.
    """
    if isinstance(value, Event):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return Event(*value)
    raise Invalid(f"an event is an Event or (module, name), not {value!r}")


def module_of(value: EventLike | str) -> str:
    """The module of an event, or of one that is to be named later.

    Raises:
        Invalid: it is neither.
    """
    if isinstance(value, str):
        if value not in MODULES:
            raise Invalid(f"a module is {', '.join(MODULES)}, not {value!r}")
        return value
    return event_of(value).module
