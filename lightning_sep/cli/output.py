"""Results on stdout as tables and lines; errors on stderr."""

import sys
from collections.abc import Mapping, Sequence

from lightning_sep.cli.command import PROGRAM
from lightning_sep.terminal import plain


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Rows of equal keys, aligned under their names; in a pipe each row is one line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        print("none")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(plain(cell(row.get(name)))) for name in rows[0]))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(highlight=False, width=width)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(lines), file=console.file)  # which may hold rich's own codes


def cell(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def tell(written: object) -> None:
    """Each path that a command has written, on a line of its own."""
    for one in written if isinstance(written, list | tuple) else [written]:
        if one is not None:
            print(one)


def fail(message: str, code: int) -> int:
    """Say in one line what went wrong, and return the exit code."""
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return code
