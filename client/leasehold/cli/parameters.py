"""What a command line can be given besides plain numbers and texts: sizes and durations, as people write them."""

from collections.abc import Callable
from typing import Any

import click

from leasehold.quantity import parse_duration, parse_size


class Quantity(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.2
    """A value that ``parse`` reads; what it refuses with ``ValueError`` is a mistake of usage."""

    def __init__(self, name: str, parse: Callable[[Any], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """The value that was given, as a number."""
        try:
            return self._parse(value)
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


SIZE = Quantity("size", parse_size)  # 512MiB, 64KiB or bytes: whole bytes
DURATION = Quantity("duration", parse_duration)  # 30s, 500ms or seconds: seconds
