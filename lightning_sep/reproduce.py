"""A finished run trained anew, and what its record says against it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.fingerprint import software
from lightning_sep.fsio import append_line
from lightning_sep.leaderboard.metric import Metric, metric_of
from lightning_sep.leaderboard.runs import read_run
from lightning_sep.leaderboard.statistics import prediction_interval
from lightning_sep.record import RECORD, misfits, now, read_record, read_records
from lightning_sep.settings import from_tree

FOLDER = "reproductions"  # in the home: no board looks into it
FILE = "verifications.jsonl"  # in the folder of the run that was reproduced

Grade = Literal["bitwise", "statistical", "different"]


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Args:
        run_id: of the run that was trained anew.
        grade: ``bitwise``: weights and values per example are equal; ``statistical``: on another
            machine or with other libraries, the score lies where the setting's other seeds predict
            one; ``different``: neither.
        reason: of the grade, in words.
        metric: the score that is compared.
        recorded: that of the record.
        again: that of the new run.
        interval: where a score of this setting is expected; ``None`` without other seeds.
        differs: what was not as it was, by name: before and now.
        folder: of the new run.
    """

    run_id: str
    grade: Grade
    reason: str
    metric: str
    recorded: float
    again: float
    interval: tuple[float, float] | None
    differs: dict[str, tuple[Any, Any]]
    folder: Path

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return asdict(self) | {"folder": str(self.folder)}


def reproduce(
    folder: Path,
    *,
    home: Path,
    should_stop: Callable[[], bool] | None = None,
    tell: Callable[[str], None] = print,
) -> Reproduction:
    """Train a finished run anew, in a folder of its own, and compare it with its record.

    An interrupted reproduction goes on from its checkpoint when it is asked for again. The result
    is appended to the run's ``verifications.jsonl``.

    Args:
        folder: of the run.
        home: folder of all runs.
        should_stop: asked after each batch; ``True`` saves and raises ``Interrupted``.
        tell: gets a line for all that is not as it was, before anything is trained.

    Raises:
        ConfigError: the run is not finished, or its record, examples or weights were changed.
        DataError: the data are not those that it was trained on.
        Interrupted: stopped on request.
    """
    record = read_record(folder)
    if record is None or record.get("state") != "finished":
        raise ConfigError(f"{folder} holds no finished run: there is nothing to compare with")
    if record.get("format") == 1:
        raise ConfigError(
            f"{folder / RECORD} is of format 1, which keeps no hashes to compare with"
        )
    changed = misfits(folder, record, checkpoint=True)
    if changed:
        raise ConfigError(f"{'; '.join(changed)}: what is not as it was cannot be reproduced")
    settings = from_tree(record["settings"])
    prepared = experiment.open_data(settings)
    here = {prepared.name: prepared.hash}
    if here != record["data"]:
        raise DataError(
            f"{prepared.name} is not what run {record['run_id']} was trained on: its hash is "
            f"{prepared.hash[:12]}, the record says {', '.join(record['data'].values())[:12]}"
        )
    differs: dict[str, tuple[Any, Any]] = {}
    identity = experiment.identify(settings, prepared)
    if identity != record["run_id"]:
        differs["run id, by the code that its settings reach"] = record["run_id"], identity
    now_here = software()
    for name, key in [("lock", "lock"), ("code of the package", "code")]:
        before, after = record["hashes"].get(key), now_here[f"{key}_hash"]
        if before != after:
            differs[name] = before, after
    for name, (before, after) in differs.items():
        tell(f"{name}: was {before}, is {after}")
    place = _place(home / FOLDER / record["run_id"], identity)
    result = experiment.run(settings, home=place, data=prepared, should_stop=should_stop)
    differs |= _fingerprints(record, result.record)
    found = graded(folder, record, result, home, differs)
    entry = {key: value for key, value in found.as_json().items() if key != "folder"}
    told = result.record["attempted"][-1]
    append_line(folder / FILE, json.dumps({"time": now(), "host": told["host"], **entry}))
    return found


def graded(
    folder: Path,
    record: Mapping[str, Any],
    result: experiment.Result,
    home: Path,
    differs: dict[str, tuple[Any, Any]],
) -> Reproduction:
    """How well a new run agrees with a record; see :class:`Reproduction`."""
    metric = metric_of(read_run(folder))
    recorded, again = (one["metrics"][metric.key] for one in (record, result.record))
    same = all(
        record["hashes"].get(part) == result.record["hashes"].get(part)
        for part in ("weights", "examples")
    )
    interval = expected(record, home, metric)
    grade: Grade
    if same:
        grade, reason = "bitwise", "weights and values per example are equal"
    elif record["fingerprint_hash"] == result.record["fingerprint_hash"] and not differs:
        grade = "different"
        reason = "the same machine, libraries and code gave other weights or values"
    elif interval is None:
        grade = "different"
        reason = "weights or values differ, and no other seeds of it are here to say by how much"
    elif interval[0] <= again <= interval[1]:
        grade, reason = "statistical", "weights differ, the score lies where other seeds predict it"
    else:
        grade, reason = "different", "the score lies outside of where other seeds predict it"
    return Reproduction(
        run_id=record["run_id"],
        grade=grade,
        reason=reason,
        metric=metric.key,
        recorded=recorded,
        again=again,
        interval=interval,
        differs=differs,
        folder=result.folder,
    )


def expected(record: Mapping[str, Any], home: Path, metric: Metric) -> tuple[float, float] | None:
    """Where one more seed of a setting should score, from those in the home: 95 %, Student's t,
    within what the metric can be."""
    scores = [
        one["metrics"][metric.key]
        for one in read_records(home)
        if one.get("config_hash") == record["config_hash"] and one.get("state") == "finished"
    ]
    if len(scores) < 2 or not all(map(math.isfinite, scores)):
        return None
    found = prediction_interval(scores)
    low, high = metric.clipped(found.low, found.high)
    return None if low is None or high is None else (low, high)


def _fingerprints(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    old, new = before["fingerprint"], after["fingerprint"]
    names = sorted({*old, *new})
    return {
        name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)
    }


def _place(root: Path, identity: str) -> Path:
    """A home for the next reproduction; that of the last one where it was interrupted."""
    number = 1
    while (root / str(number) / identity / RECORD).exists():
        number += 1
    return root / str(number)
