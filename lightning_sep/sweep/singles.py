"""How far runs are that are not done: those of a sweep, and those that somebody began by hand."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_sep.leases.lease import Content
from lightning_sep.leases.presence import Peers
from lightning_sep.record import RECORD, read_record
from lightning_sep.run_folder import ATTEMPTS, FAILED, LEASE, LOG, RunFolder
from lightning_sep.sweep.names import workers_folder


def standing(folder: Path) -> dict[str, Any]:
    """The last epoch of a run that is done, of how many, and the value that it reached.

    Returns:
        ``epoch``, ``epochs``, ``metric`` and ``value``; empty where nobody has begun.
    """
    attempts = RunFolder(folder).attempts()
    if not attempts or "epochs" not in attempts[-1]:
        return {}
    rows = RunFolder(folder).rows()
    metric = attempts[-1]["monitor"]
    last = rows[-1] if rows else {}
    done = last["epoch"] + 1 if last else 0
    about = {"epoch": done, "epochs": attempts[-1]["epochs"]}
    return {**about, "metric": metric, "value": last.get(metric)}


def far(about: dict[str, Any], *, named: bool = True) -> str:
    """What :func:`standing` found, in words; empty for nothing.

    Args:
        about: how far a run is.
        named: name the metric, for which a narrow table has no room.

    Example:
        >>> far({"epoch": 3, "epochs": 20, "metric": "val/r2", "value": 0.25})
        'epoch 3/20, val/r2 0.25'
    """
    if "epochs" not in about:
        return ""
    text = f"epoch {about['epoch']}/{about['epochs']}"
    value = about["value"]
    name = f"{about['metric']} " if named else ""
    return text if value is None else f"{text}, {name}{value:.4g}"


def singles(home: Path) -> list[dict[str, Any]]:
    """The runs begun by hand that are not done, as JSON types: what runs first, then what stopped
    or failed.

    A run that has a record is none of them.
    """
    peers = Peers(workers_folder(home))
    found = [_single(folder, peers) for folder in _open_runs(home)]
    runs = [one for one in found if one is not None]
    return sorted(runs, key=lambda one: (one["state"] != "running", one["state"], one["run"]))


def run_state(folder: Path) -> dict[str, Any]:
    """How far a run is, whoever began it, as JSON types."""
    record, attempts = read_record(folder), RunFolder(folder).attempts()
    if record is not None:
        about = {"state": record["state"], "overrides": record.get("overrides") or []}
        found = {"run": folder.name, **about, **standing(folder), "reason": record.get("error")}
    elif attempts:
        found = _state(folder, attempts, Peers(workers_folder(folder.parent)))
    else:
        found = {"run": folder.name, "state": "unknown", "overrides": [], "reason": "unreadable"}
    return {**found, "folder": str(folder)}


def _open_runs(home: Path) -> Iterator[Path]:
    try:
        with os.scandir(home) as listed:
            names = [one.name for one in listed if one.is_dir()]
    except FileNotFoundError:
        return
    for name in names:
        folder = home / name
        if (folder / ATTEMPTS).exists() and not (folder / RECORD).exists():
            yield folder


def _single(folder: Path, peers: Peers) -> dict[str, Any] | None:
    attempts = RunFolder(folder).attempts()
    if not attempts or attempts[-1].get("purpose") != "single":
        return None
    return _state(folder, attempts, peers)


def _state(folder: Path, attempts: list[dict[str, Any]], peers: Peers) -> dict[str, Any]:
    """Of a run without a record."""
    lease = Content.read(folder / LEASE)
    state, why = "stopped", "the same command goes on"
    if error := _failed(folder, attempts[-1]["started"]):
        state, why = "failed", f"{error}; the same command tries again"
    if lease is not None and lease.token and lease.owner is not None:
        if peers.shows_life(lease.worker, lease.owner):
            state, why = "running", str(lease.owner)
        else:
            why = f"{lease.owner} has died; {why}"
    about = {"run": folder.name, "state": state, "overrides": attempts[-1]["overrides"]}
    return {**about, **standing(folder), "by" if state == "running" else "reason": why}


def _failed(folder: Path, since: str) -> str:
    """What ended the last attempt of a run that keeps no record of it, such as too little memory;
    empty where nothing did."""
    try:
        *_, last = (folder / LOG).read_text(errors="replace").splitlines()
    except (FileNotFoundError, ValueError):
        return ""
    time, _, said = last.partition(" ")
    return said.removeprefix(FAILED) if said.startswith(FAILED) and time >= since else ""
