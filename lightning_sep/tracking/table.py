"""A run's history as a table that spreadsheets open: ``metrics.csv`` beside ``metrics.jsonl``."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_sep.checks import whole_number
from lightning_sep.fsio import write_aside

NAME = "metrics.csv"


class CsvTracking:
    """Mirrors runs as CSV files.

    Args:
        audio_examples: test examples whose audio is written, per run.
    """

    def __init__(self, audio_examples: int = 3) -> None:
        self.audio_examples = whole_number("audio_examples", audio_examples, at_least=0)

    def open(self, folder: Path, about: Mapping[str, Any]) -> "CsvTracker":
        """The tracker of one run."""
        return CsvTracker(folder / NAME)


class CsvTracker:
    """Mirrors one run: a line per epoch, a column per metric.

    Whoever goes on with a run tells all lines so far, so the file is whole whatever was lost.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}  # by epoch

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one line of the history."""
        self.rows[row["epoch"]] = dict(row)
        names = dict.fromkeys(name for one in self.rows.values() for name in one)
        text = io.StringIO()
        table = csv.DictWriter(text, list(names), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows[epoch] for epoch in sorted(self.rows))
        write_aside(self.path, text.getvalue())

    def histogram(self, name: str, counts: Any, edges: Any, step: int) -> None:
        """A table has no place for histograms."""

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """What came of the run stands in its record."""

    def left(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Every line is on the disk already."""
