"""``record.json``: the one truth about a run, for status, leaderboards and reports."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning_sep.fingerprint import digest
from lightning_sep.fsio import PATIENCE, finite, json_text, link_first, set_apart, sha256_file

FORMAT = 2  # version of the record's format; 1 is read too, a newer one is refused
RECORD = "record.json"
STATES = ("failed", "pruned", "finished")  # the later says more


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write ``record`` into a run's folder, once: where there is one already, that one stands.

    Only one that says less gives way: a failure to a result, a pruned run to a finished one. Its
    own hash is added as ``hashes.record``.

    Returns:
        The record that a reader will get.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    written: dict[str, Any] = finite({"format": FORMAT, **record})
    written["hashes"] = {**written.get("hashes", {}), "record": ""}
    # What a reader will get is what is hashed: through JSON and back.
    written = json.loads(json.dumps(written))
    written["hashes"]["record"] = _own_hash(written)
    while not link_first(folder / RECORD, json_text(written)):
        there = PATIENCE.until_back(lambda: read_record(folder))
        if there is not None and _says(there) >= _says(written):
            return there
        supersede(folder)
    return written


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run's folder; ``None`` where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") not in (1, FORMAT):
        return None
    return record


def misfits(
    folder: Path, record: Mapping[str, Any], *, examples: bool = True, checkpoint: bool = False
) -> list[str]:
    """What in a record does not fit its hashes, each in words; a record of format 1 has none.

    Args:
        folder: the run's folder.
        record: its record.
        examples: look at the file of values per example.
        checkpoint: also look at the best checkpoint's file, which may be large.

    Raises:
        OSError: the disk does not answer.
    """
    hashes = record.get("hashes")
    if record.get("format") != FORMAT:
        if isinstance(hashes, Mapping) and "record" in hashes:
            return [f"{folder / RECORD} says format {record.get('format')}, which has no hashes"]
        return []
    kept = record.get("checkpoints") or {}
    if (
        not isinstance(hashes, Mapping)
        or not isinstance(kept, Mapping)
        or not isinstance(record.get("run_id"), str)
    ):
        return [f"{folder / RECORD} has lost fields"]
    if hashes.get("record") != _own_hash(record):
        return [f"{folder / RECORD} was changed after it was written"]
    if record["run_id"] != folder.name:
        return [f"{folder / RECORD} is the record of run {record['run_id']}"]
    files: list[tuple[str, Any, Any]] = []
    if examples and record.get("examples_file"):
        files.append(("", record["examples_file"], hashes.get("examples")))
    if checkpoint:
        best = [name for name in kept if name.startswith("best.")]
        files += [("checkpoints/", name, kept[name]) for name in best]
    found = []
    for place, name, known in files:
        if not isinstance(name, str) or os.path.basename(name) != name:
            found.append(f"{folder / RECORD} names {name!r}, which is no file of its folder")
            continue
        path = folder / f"{place}{name}"
        try:
            if sha256_file(path) != known:
                found.append(f"{path} was changed after it was written")
        except FileNotFoundError:
            found.append(f"{path} is not there")
    return found


def supersede(folder: Path) -> None:
    """Put aside the record of a run that failed or was pruned, since it goes on now.

    A finished one is never put aside, not even by a copy that was frozen until it was written.
    """
    record = read_record(folder)
    if record is None:
        if (folder / RECORD).exists():
            set_apart(folder / RECORD)
    elif record.get("state") != "finished":
        aside = folder / f"record.{record.get('state')}.json"
        os.replace(folder / RECORD, aside)
        if json.loads(aside.read_text()).get("state") == "finished":
            os.replace(aside, folder / RECORD)


def read_records(home: Path) -> list[dict[str, Any]]:
    """All readable records under ``home``, ordered by run id."""
    found = (read_record(path.parent) for path in sorted(home.glob(f"*/{RECORD}")))
    return [record for record in found if record is not None]


def _says(record: Mapping[str, Any]) -> int:
    state = record.get("state")
    return STATES.index(state) if state in STATES else -1


def _own_hash(record: Mapping[str, Any]) -> str:
    return digest({**record, "hashes": {**record["hashes"], "record": ""}})
