"""How far sweeps and single runs are, as text or JSON."""

import json as json_text
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.find import begun_run
from lightning_sep.homes import runs_home
from lightning_sep.launchers.slurm_jobs import Jobs
from lightning_sep.sweep import report as reports
from lightning_sep.sweep.folder import look
from lightning_sep.sweep.names import JOURNAL, sweep_folder, sweep_names
from lightning_sep.sweep.singles import far, run_state, singles

SLURM_S = 20.0  # between two questions of one command


def status(
    sweep: str | None = None, json: bool = False, home: Path | None = None, *, watch: bool = False
) -> int:
    """Print what runs, waits and has failed, and why; of one sweep or run, or of all, newest first,
    and of the single runs that are not done.

    Args:
        sweep: its name, or the beginning of a run's id; all of the home without one.
        json: print one JSON document.
        home: folder of all runs.
        watch: show it anew every few seconds, on a terminal, until ``q`` is typed.

    Raises:
        ConfigError: there is no sweep of this name, or nothing to watch it on.
    """
    home = runs_home() if home is None else home
    if watch:
        if json or not sys.stdout.isatty():
            what = "--json prints one document" if json else "this is no terminal"
            raise ConfigError(f"--watch needs a terminal of its own, and {what}: leave it out")
        from lightning_sep.sweep import watch as watching

        queues = _Queues()
        watching.watch(lambda: _found(sweep, home, queues))
        return 0
    found, alone = _found(sweep, home, _Queues())
    if json:
        by_hand = [{"sweep": None, "runs": alone}] if alone else []
        named = [*found, *alone]
        print(json_text.dumps(named[0] if sweep is not None else [*found, *by_hand], indent=1))
        return 0
    if not found and not alone:
        print(f"no sweeps in {home / 'sweeps'}; `lightning-sep sweep FILE` begins one")
    for one in found:
        print("\n".join(_status_lines(one)))
    if alone and sweep is None:
        print("single runs")
    for one in alone:
        what = " ".join(one["overrides"]) or "the defaults"
        why = one.get("by") or one["reason"]
        parts = [f"{one['state']}: {one['run']} ({what})", far(one), why, one.get("folder")]
        print(("    " if sweep is None else "") + ": ".join(filter(None, parts)))
    return 0


def _found(
    sweep: str | None, home: Path, queues: "_Queues"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The states of sweeps, and of the single runs that are not done, or that one run."""
    if sweep is not None and sweep not in sweep_names(home):
        run = begun_run(sweep, home)
        if run is not None:
            return [], [run_state(run)]
    names = [sweep] if sweep is not None else sweep_names(home)
    if sweep is None:
        names.sort(key=lambda one: -_changed_s(home, one))
    found = [
        queues.beside(reports.status(look(home, one)), sweep_folder(home, one)) for one in names
    ]
    return found, singles(home) if sweep is None else []


class _Queues:
    """What Slurm has of sweeps' jobs; a scheduler that serves everybody is asked now and then."""

    def __init__(self) -> None:
        self._asked: dict[Path, tuple[float, dict[str, Any]]] = {}

    def beside(self, found: dict[str, Any], folder: Path) -> dict[str, Any]:
        """A sweep's state, and what Slurm has of its jobs where some were submitted."""
        jobs, done = Jobs([folder]), found["state"] == "done"
        if not jobs.arrays() or (done and (folder / "trials.json").exists()):
            return found
        at_s, said = self._asked.get(folder, (-math.inf, {}))
        if time.monotonic() - at_s > SLURM_S:
            try:
                queue = jobs.reports() if done else jobs.queue()
                refused = dict(jobs.refusals())
                said = {**queue.as_json(), "line": queue.line(), "refused": refused}
                if not queue.tasks and jobs.others():
                    said = {"unknown": "none is shown: they are another user's"}
            except ConfigError as error:
                said = {"unknown": str(error)}
            self._asked[folder] = time.monotonic(), said
        if found["state"] in ("stopped", "queued") and "tasks" in said:
            waits = "queued" if said["tasks"] else "stopped"
            found["state"] = "running" if said["running"] else waits
        return {**found, "jobs": said}


def _status_lines(one: dict[str, Any]) -> Iterator[str]:
    yield f"{one['sweep']}: {one['state']}" + (f" — {one['question']}" if one["question"] else "")
    for kind in ("trials", "finals"):
        counts = dict(one[kind])
        total = counts.pop("total")
        listed = ", ".join(f"{count} {state}" for state, count in counts.items())
        yield f"    {kind}: {total} in all" + (f", {listed}" if listed else "")
    if jobs := one.get("jobs"):
        yield "    jobs: " + (jobs.get("unknown") or jobs["line"] or "none waits or runs")
        for why, count in jobs.get("refused", {}).items():
            yield f"    {count} task{'s' if count > 1 else ''} could not work: {why}"
        if one["state"] == "done":
            yield f"    no report yet: `lightning-sep report {one['sweep']}` writes it at once"
    if one["best"]:
        best = one["best"]
        overrides = " ".join(best["overrides"])
        yield f"    best so far: {one['metric']} {best['value']:.4g} ({overrides})"
    for kind in ("running", "waiting", "failed"):
        for entry in one[kind]:
            parts = [about(entry["trial"], entry), far(entry)]
            parts.append(entry.get("by") or entry.get("reason"))
            yield f"    {kind}: " + ": ".join(filter(None, parts))


def about(number: int, entry: dict[str, Any]) -> str:
    """A trial, or a final run of it, in words."""
    seed = f" seed {entry['seed']}" if "seed" in entry else ""
    return f"trial {number}{seed} ({' '.join(entry['overrides'])})"


def _changed_s(home: Path, name: str) -> float:
    try:
        return (sweep_folder(home, name) / JOURNAL).stat().st_mtime
    except OSError:
        return 0.0
