"""Audio examples of a board: small files of its runs, embedded, each sound once."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_sep.leaderboard.board import Board

KINDS = {".mp3": "audio/mpeg", ".flac": "audio/flac"}


@dataclass(frozen=True)
class Clip:
    """One sound: which row made it, what it is, and the sound itself as a data URI."""

    row: str
    run_id: str
    example: str
    signal: str
    uri: str

    @property
    def is_of_test_set(self) -> bool:
        """Mixtures and targets belong to the test set, everything else to the row."""
        return self.signal.startswith(("mixture", "target"))


def clips_of(boards: Sequence[Board], budget_bytes: int) -> tuple[list[list[Clip]], int]:
    """Clips per board, best rows first, and how many found no room.

    Args:
        boards: the page's boards, which share the budget evenly.
        budget_bytes: of encoded audio on the whole page.
    """
    chosen, left_out = [], 0
    share = budget_bytes // max(1, len(boards))
    for board in boards:
        clips, missing = _board_clips(board, share)
        chosen.append(clips)
        left_out += missing
    return chosen, left_out


def _board_clips(board: Board, budget_bytes: int) -> tuple[list[Clip], int]:
    clips: list[Clip] = []
    left_out, used = 0, 0
    seen: set[str] = set()  # rows share their test set: mixtures and targets are the same sounds
    for row in board.rows:
        run = row.scores[0].run
        folder = run.folder / "audio"
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            kind = KINDS.get(path.suffix.lower())
            if kind is None or path.is_symlink() or not path.is_file():
                continue
            size = (path.stat().st_size + 2) // 3 * 4
            if used + size > budget_bytes:
                left_out += 1
                continue
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if digest in seen:
                continue
            seen.add(digest)
            used += size
            example, signal = _named(path.stem)
            encoded = base64.b64encode(content).decode("ascii")
            clips.append(
                Clip(row.name, run.run_id, example, signal, f"data:{kind};base64,{encoded}")
            )
    return clips, left_out


def _named(stem: str) -> tuple[str, str]:
    """``0-estimate-1`` is example 0, "estimate 1"."""
    match = re.fullmatch(r"(\d+)-(.+)", stem)
    return (match[1], match[2].replace("-", " ")) if match else ("", stem.replace("-", " "))
