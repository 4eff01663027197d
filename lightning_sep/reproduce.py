"""A finished run trained or tested anew, and what its record says against it."""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lightning_sep import experiment
from lightning_sep.data.progress import ProgressLine
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.fingerprint import digest, fingerprint, host, software
from lightning_sep.fsio import append_line, finite, json_text
from lightning_sep.leaderboard.archive import ARCHIVES
from lightning_sep.leaderboard.metric import Metric, metric_of
from lightning_sep.leaderboard.runs import VERIFICATIONS, read_run
from lightning_sep.leaderboard.statistics import prediction_interval
from lightning_sep.parts import identify, open_data
from lightning_sep.record import RECORD, misfits, now, read_record, read_records
from lightning_sep.settings import Settings, build, from_tree
from lightning_sep.use import load_run
from lightning_sep.warm_start import pinned

FOLDER = "reproductions"  # in the home: no board looks into it

# By how much the test score of a task differed between machines, at most: kernels for SSE4.1, AVX2
# and AVX-512 on one CPU, PyTorch 2.13, the small nets of the sweeps; trained anew, and only tested.
TRAINED_DRIFT = {"separation": 0.43, "autoregression": 2e-6, "verification": 0.047}
TESTED_DRIFT = {"separation": 4e-8, "autoregression": 3e-10, "verification": 0.0}
NUMERIC = 1e-3  # a larger difference is not one of arithmetic; seeds move scores by ten times that

_HASH = re.compile("[0-9a-f]{64}")

Grade = Literal["bitwise", "numeric", "statistical", "different"]


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Args:
        run_id: of the run that was trained or tested anew.
        grade: ``bitwise``: weights (if it was trained) and values per example are equal;
            ``numeric``: elsewhere, the score differs by no more than ``NUMERIC``, of a task whose
            measured drift is smaller; ``statistical``: trained elsewhere, the score lies where the
            setting's other seeds predict one; ``different``: none of these.
        reason: of the grade, in words.
        metric: the score that is compared.
        recorded: that of the record.
        again: that of the new run.
        interval: where a score of this setting is expected; ``None`` without other seeds.
        drift: by how much scores of this task were measured to differ between machines; ``None``
            for a task that nobody has measured.
        differs: what was not as it was, by name: before and now.
        folder: of the new run, or of the tested one.
        eval_only: its kept weights were tested again; nothing was trained.
    """

    run_id: str
    grade: Grade
    reason: str
    metric: str
    recorded: float
    again: float
    interval: tuple[float, float] | None
    drift: float | None
    differs: dict[str, tuple[Any, Any]]
    folder: Path
    eval_only: bool

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return asdict(self) | {"folder": str(self.folder)}


def reproduce(
    folder: Path,
    *,
    home: Path,
    eval_only: bool = False,
    should_stop: Callable[[], bool] | None = None,
    tell: Callable[[str], None] = print,
) -> Reproduction:
    """Train a finished run anew, in a folder of its own, and compare it with its record.

    An interrupted reproduction goes on from its checkpoint when it is asked for again. The result
    is appended to the run's ``verifications.jsonl``; the record stays as it is.

    Args:
        folder: of the run.
        home: folder of all runs.
        eval_only: test the kept weights again instead of training.
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
    archived = home.parent.name == ARCHIVES
    # An archive may leave the weights out, which training anew does not need.
    weights = eval_only or not archived or any(folder.glob("checkpoints/*"))
    changed = misfits(folder, record, checkpoint=weights)
    if changed:
        raise ConfigError(f"{'; '.join(changed)}: what is not as it was cannot be reproduced")
    # What it begins with may be in the archive, or with whoever unpacked it.
    others = [home.parent.parent] if archived else []
    settings = pinned(from_tree(record["settings"]), home, *others)
    prepared = open_data(settings)
    here = {prepared.name: prepared.hash}
    if here != record["data"]:
        raise DataError(
            f"{prepared.name} is not what run {record['run_id']} was trained on: its hash is "
            f"{prepared.hash[:12]}, the record says {', '.join(record['data'].values())[:12]}"
        )
    prepared.verify(ProgressLine())
    differs: dict[str, tuple[Any, Any]] = {}
    identity = identify(settings, prepared)
    if identity != record["run_id"]:
        differs["run id, by the code that its settings reach"] = record["run_id"], identity
    now_here = software()
    for name, key in [("lock", "lock"), ("code of the package", "code")]:
        before, after = record["hashes"].get(key), now_here[f"{key}_hash"]
        if before != after:
            differs[name] = before, after
    for name, (before, after) in differs.items():
        tell(change_text(name, before, after))
    if eval_only:
        found, where = _tested(folder, record, settings, prepared, differs)
    else:
        place = _place(home / FOLDER / record["run_id"], identity)
        result = experiment.run(settings, home=place, data=prepared, should_stop=should_stop)
        differs |= _fingerprints(record, result.record)
        found, where = graded(folder, record, result, home, differs), result.record
    entry = {key: value for key, value in found.as_json().items() if key != "folder"}
    noted = {
        "time": now(),
        "host": host()["host"],
        "fingerprint_hash": where["fingerprint_hash"],
        "record": record["hashes"]["record"],
    }
    append_line(folder / VERIFICATIONS, json.dumps(finite({**noted, **entry})))
    return found


def change_text(name: str, before: Any, after: Any) -> str:
    """What was not as it was, in a line; of a hash its beginning.

    Example:
        >>> change_text("lock", "ab" * 32, None)
        'lock: was abababababab, is None'
    """
    old, new = (one[:12] if _HASH.fullmatch(str(one)) else one for one in (before, after))
    return f"{name}: was {old}, is {new}"


@torch.no_grad()
def _tested(
    folder: Path,
    record: Mapping[str, Any],
    settings: Settings,
    prepared: Any,
    differs: dict[str, tuple[Any, Any]],
) -> tuple[Reproduction, dict[str, Any]]:
    """The kept weights, tested again on the run's own test set, and the fingerprint of this."""
    tree = settings.tree
    metric = metric_of(read_run(folder))
    task = load_run(folder)
    held = torch.get_num_threads()
    torch.set_num_threads(tree["trainer"]["threads"])
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
        tree["trainer"]["precision"]
    )
    try:
        loader = (
            build(tree["examples"])
            .as_trained(task.facts)
            .loader(prepared, "test", seed=record["seed"])
        )
        with torch.autocast("cpu", mixed) if mixed else nullcontext():
            task.on_test_epoch_start()
            for number, batch in enumerate(loader):
                task.test_step(batch, number)
            task.on_test_epoch_end()
        made = fingerprint("cpu", tree["trainer"]["deterministic"])
    finally:
        torch.set_num_threads(held)
    here = {"fingerprint": made, "fingerprint_hash": digest(made)}
    differs = differs | _fingerprints(record, here)
    values = json_text(loader.told(task.example_values, "test"))
    recorded, again = float(record["metrics"][metric.key]), float(task.epoch_metrics[metric.key])
    drift = TESTED_DRIFT.get(record["task"])
    grade: Grade
    if values == (folder / record["examples_file"]).read_text(encoding="utf-8"):
        grade, reason = "bitwise", "the values of all test examples are equal"
    elif differs and _is_numeric(recorded, again, drift):
        grade, reason = "numeric", f"values differ, the score by no more than {NUMERIC:g}"
    else:
        grade, reason = "different", "the kept weights give other values"
    found = Reproduction(
        run_id=record["run_id"],
        grade=grade,
        reason=reason,
        metric=metric.key,
        recorded=recorded,
        again=again,
        interval=None,
        drift=drift,
        differs=differs,
        folder=folder,
        eval_only=True,
    )
    return found, here


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
    drift = TRAINED_DRIFT.get(record["task"])
    grade: Grade
    if same:
        grade, reason = "bitwise", "weights and values per example are equal"
    elif record["fingerprint_hash"] == result.record["fingerprint_hash"] and not differs:
        grade = "different"
        reason = "the same machine, libraries and code gave other weights or values"
    elif _is_numeric(recorded, again, drift):
        grade, reason = "numeric", f"weights differ, the score by no more than {NUMERIC:g}"
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
        drift=drift,
        differs=differs,
        folder=result.folder,
        eval_only=False,
    )


def _is_numeric(recorded: float, again: float, drift: float | None) -> bool:
    return drift is not None and drift <= NUMERIC and abs(again - recorded) <= NUMERIC


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
