"""``make axcl-table``: tries every statement, and prints what the shipped library and what this one answers."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from support.statements import STATEMENTS
from support.statements.case import cases


def main() -> int:
    """Prints the table; answers 1 where something is not as it stands there."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=False)
    table.add_column("#", justify="right")
    for name in ("statement", "gen-1", "here"):
        table.add_column(name, overflow="fold", ratio=2)
    table.add_column("", no_wrap=True)
    wrong = other = 0
    with cases() as run:
        for number, one in sorted(STATEMENTS.items()):
            told = run(one.run)
            is_right, is_same = told == one.ours, one.ours == one.gen1
            wrong += not is_right
            other += is_right and not is_same
            verdict = f"WRONG, not {one.ours}" if not is_right else "same" if is_same else "safer"
            here = told if is_same else f"{told}\n[dim]{one.why}[/dim]"
            table.add_row(str(number), one.says, one.gen1, here, verdict)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(table)
    right = len(STATEMENTS) - wrong
    console.print(f"{right} of {len(STATEMENTS)} statements hold: {right - other} as gen-1, {other} answered safely.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
