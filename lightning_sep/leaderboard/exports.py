"""A board for other programs: a table of its runs, learning curves, a card of its best run."""

import csv
import io
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from lightning_sep.errors import ConfigError
from lightning_sep.fsio import make_folder, write_aside, write_aside_with
from lightning_sep.leaderboard.archive import runs_of
from lightning_sep.leaderboard.board import Board, load_boards
from lightning_sep.leaderboard.rows import Row, by_seed
from lightning_sep.leaderboard.runs import Run
from lightning_sep.leaderboard.words import apart_text, headline, known_as
from lightning_sep.record import RECORD
from lightning_sep.tracking.tensorboard import writer_module


def write_csv(home: Path, name: str, path: Path) -> None:
    """A line per run of a board; what a run lacks is empty.

    Raises:
        ConfigError: there is no such board.
        StorageError: the disk refused.
    """
    lines = _lines(home, name)
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(lines), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_aside(path, text.getvalue().encode("utf-8", errors="replace"))


def write_parquet(home: Path, name: str, path: Path) -> None:
    """The same table for pandas, polars and others.

    Raises:
        ConfigError: there is no such board, or a library is missing.
        StorageError: the disk refused.
    """
    try:
        import pandas
        import pyarrow  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--parquet needs {error.name}: pip install pandas pyarrow, or use --csv"
        ) from error
    lines = _lines(home, name)
    frame = pandas.DataFrame(lines, columns=_columns(lines)).convert_dtypes()
    for column in frame.columns[frame.dtypes == "object"]:  # numbers here, words there
        frame[column] = frame[column].map(lambda one: one if one is None else str(one))
    write_aside_with(path, lambda file: frame.to_parquet(file, index=False))


def write_tensorboard(home: Path, name: str, folder: Path) -> None:
    """The learning curves of a board's runs: a folder of events for each, by epoch.

    Raises:
        ConfigError: there is no such board, or what writes the events is missing.
    """
    make = import_module(writer_module("--tensorboard")).SummaryWriter
    runs, _ = runs_of(home, name)
    for run in runs:
        make_folder(folder)
        writer: Any = make(str(folder / run.run_id))
        for metric, curve in sorted(run.history().items()):
            for epoch, value in curve.items():
                writer.add_scalar(metric, value, epoch)
        writer.close()


def write_model_card(home: Path, name: str, path: Path) -> None:
    """What is known of a board's best run, as hubs of models read it: YAML, then Markdown.

    Raises:
        ConfigError: there is no such board, nothing on it is ranked, or it is several boards.
        StorageError: the disk refused.
    """
    boards = load_boards(home, [name]).boards
    ranked = [board for board in boards if board.best is not None]
    if len(ranked) != 1 or ranked[0].best is None:
        what = "nothing is ranked" if not ranked else f"these are {len(ranked)} boards"
        raise ConfigError(f"{name}: {what}, so there is no one best run to write a card of")
    write_aside(path, _card(ranked[0], ranked[0].best).encode("utf-8", errors="replace"))


def _lines(home: Path, name: str) -> list[dict[str, Any]]:
    """A mapping per run: where its setting stands, what it was asked, what it measured."""
    found = []
    for board in load_boards(home, [name]).boards:
        rows: list[tuple[Row | None, list[Run], str]] = [
            *((row, row.runs, "ranked") for row in board.rows),
            *((one.row, one.row.runs, apart_text(one)) for one in board.apart),
            *((None, one.runs, "searched") for one in board.tried),
        ]
        labels = {one.config_hash: one.label for one in board.tried}
        for row, runs, standing in rows:
            for run in by_seed(runs):
                label = row.label if row is not None else labels[run.config_hash]
                found.append(
                    {
                        "board": board.name,
                        "standing": standing,
                        "place": row.standing.place if row and row.standing else None,
                        "best": row is not None and row is board.best,
                        "may_be_best": row is not None and row.may_be_best,
                        "run_id": run.run_id,
                        "config_hash": run.config_hash,
                        "purpose": run.purpose,
                        "state": run.state,
                        "seed": run.seed,
                        "trial": run.trial,
                        **{f"setting/{key}": value for key, value in label},
                        run.monitor_name or "monitor": run.monitor_value,
                        **run.metrics,
                        "parameters": run.parameters,
                        "wall_s": run.wall_s,
                        "device": run.device,
                        "commit": run.environment.get("code_revision"),
                        "data": " ".join(f"{key}:{value}" for key, value in run.data.items()),
                        "error": run.error,
                    }
                )
    return found


def _columns(lines: list[dict[str, Any]]) -> list[str]:
    """Settings before metrics, each as often as any run has it."""
    names = dict.fromkeys(name for line in lines for name in line)
    order = {"setting/": 1, "val/": 3, "test/": 2, "train/": 4}
    head = ["board", "standing", "place", "best", "may_be_best", "run_id", "config_hash"]
    head += ["purpose", "state", "seed", "trial"]

    def rank(name: str) -> int:
        if name in head:
            return 0
        return next((at for start, at in order.items() if name.startswith(start)), 5)

    return sorted(names, key=rank)


def _card(board: Board, best: Row) -> str:
    run = next(score.run for score in best.scores if score.run.run_id == best.run_id)
    record = json.loads((run.folder / RECORD).read_text(encoding="utf-8"))
    metric = board.metric
    value = run.metrics[metric.key]
    head = {
        "library_name": "lightning_sep",
        "tags": ["audio", board.task],
        "datasets": list(run.data),
        "model-index": [
            {
                "name": best.name,
                "results": [
                    {
                        "task": {"type": board.task},
                        "dataset": {"name": name, "type": name},
                        "metrics": [{"type": metric.name, "name": metric.label, "value": value}],
                    }
                    for name in run.data
                ],
            }
        ],
    }
    hashes = record.get("hashes") or {}
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {best.name}",
        "",
        f"Run `{run.run_id}` of the board {board.name}, task {board.task}: {metric.label} "
        f"{metric.with_unit(value)} with seed {run.seed}.",
        "",
        headline(board),
        "",
        f"The setting: {metric.label} {known_as(best, board)}.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| data | {name}, hash `{value}` |" for name, value in run.data.items()),
        f"| parameters | {run.parameters} |",
        f"| commit | {best.commit or 'none'} |",
        f"| weights | SHA-256 of the tensors `{hashes.get('weights') or 'not kept'}` |",
        f"| device | {run.device}{_threads(run)} |",
        "",
        "To train it anew and compare it with its record, and to do so anywhere:",
        "",
        f"    lightning-sep reproduce {run.run_id}",
        f"    {next(score.command for score in best.scores if score.run is run)}",
        "",
        "## Settings",
        "",
        "```yaml",
        yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _threads(run: Run) -> str:
    """How many threads a run computed with, where its record says so."""
    count = run.environment.get("threads")
    return "" if count is None else f", {count} thread{'' if count == 1 else 's'}"
