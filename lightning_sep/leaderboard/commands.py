"""What `lightning-sep leaderboard` and the end of a sweep do: rank, print, write the page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_sep.errors import ConfigError
from lightning_sep.fsio import write_aside
from lightning_sep.leaderboard.board import SINGLE, Board, Boards, board_name, load_boards
from lightning_sep.leaderboard.document import as_text
from lightning_sep.leaderboard.table import markdown, plain, print_rich, skipped_text
from lightning_sep.memory import no_collection


@no_collection()
def leaderboard(
    board: str | None, *, home: Path, as_json: bool = False, out: Path | None = None
) -> int:
    """Print the ranked table; nothing is written unless ``out`` asks for it.

    Args:
        board: a sweep's name, or its file; "single" for the runs outside of sweeps; None for all.
        home: folder of runs; it may be one that can only be read.
        as_json: print one JSON document on stdout and nothing else there.
        out: where to write the page, and nothing else.

    Raises:
        ConfigError: there is no such board.
    """
    name = None if board is None else board_name(board)
    found = load_boards(home, None if name is None else [name])
    target = _page_path(home, name) if out is None else _html(out)
    if out is not None:
        write_aside(target, _encoded(_page(found)))
    if as_json:
        print(as_text(found))
    elif sys.stdout.isatty():
        from rich.console import Console

        print_rich(found, Console())
    else:
        print(plain(found), end="")
    if found.skipped:
        print(skipped_text(found), file=sys.stderr)
    if found.singles and not as_json:
        runs = "1 single run is" if found.singles == 1 else f"{found.singles} single runs are"
        print(f"{runs} not shown: `lightning-sep leaderboard single` ranks them", file=sys.stderr)
    if out is not None:
        print(f"page: {target}", file=sys.stderr)
    elif target.exists():
        print(f"page of the last sweep: {target}; --html writes a new one", file=sys.stderr)
    return 0


def write_page(sweeps: Sequence[str], home: Path) -> Path:
    """Write each sweep's report, and one page of all of them when there are several.

    A sweep that has no record yet gets a page that says so: its end must not fail over its report.

    Returns:
        The page that shows all of ``sweeps``.
    """
    names = list(sweeps)
    if not names:
        _write(load_boards(home), target := _page_path(home, None))
        return target
    for name in names:
        _write(load_boards(home, [name], missing_ok=True), _page_path(home, name))
    if len(names) == 1:
        return _page_path(home, names[0])
    _write(load_boards(home, names, missing_ok=True), target := _page_path(home, None))
    return target


def boards_of(sweeps: Sequence[str], home: Path) -> list[Board]:
    """The boards of sweeps that have records."""
    return load_boards(home, list(sweeps), missing_ok=True).boards


def _write(found: Boards, target: Path) -> None:
    for path, content in (
        (target.with_suffix(".md"), markdown(found)),
        (target.with_suffix(".json"), as_text(found) + "\n"),
        (target, _page(found)),
    ):
        write_aside(path, _encoded(content))


def _page(found: Boards) -> str:
    from lightning_sep.leaderboard.page import page  # a table is said without it

    return page(found)


def _encoded(text: str) -> bytes:
    """Names in records may hold half a character, which no encoding can write."""
    return text.encode("utf-8", errors="replace")


def _page_path(home: Path, name: str | None) -> Path:
    if name is None:
        return home / "leaderboard.html"
    if name == SINGLE:
        return home / "single.html"
    if Path(name).name != name or name in (".", ".."):  # a record must not say where we write
        raise ConfigError(f"{name!r} cannot name a sweep's folder; --html says where to write")
    return home / "sweeps" / name / "report.html"


def _html(out: Path) -> Path:
    if out.is_dir():
        return out / "leaderboard.html"
    if out.suffix not in ("", ".html", ".htm"):
        raise ConfigError(
            f"--html {out}: a page is called .html, such as {out.with_suffix('.html')}"
        )
    return out if out.suffix else out.with_name(out.name + ".html")
