"""What a sweep has found: its state while it runs, its report when it is done."""

import math
import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightning_sep.fsio import write_json
from lightning_sep.leases.lease import Content, failed_by
from lightning_sep.leases.presence import Peers
from lightning_sep.sweep.finals import Dropped, Finals, finalists
from lightning_sep.sweep.names import lease_file, trial_key, workers_folder
from lightning_sep.sweep.singles import standing
from lightning_sep.sweep.study import SweepStudy

FORMAT = 1
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Progress:
    """How far a sweep is, in trials and final runs."""

    name: str
    trials: dict[str, int]
    trials_total: int
    finals: dict[str, int]
    finals_total: int
    best: float | None
    best_overrides: tuple[str, ...]
    done: bool

    @property
    def trials_done(self) -> int:
        """Trials with a result, whichever."""
        return sum(self.trials.get(state, 0) for state in ("finished", "pruned", "failed"))

    @property
    def finals_done(self) -> int:
        """Final runs with a result, whichever."""
        return sum(self.finals.values())

    @property
    def work_done(self) -> int:
        """Trials and final runs with a result."""
        return self.trials_done + self.finals_done

    @property
    def work_good(self) -> int:
        """Trials and final runs that did not fail."""
        return self.work_done - self.trials.get("failed", 0) - self.finals.get("failed", 0)

    @property
    def work_total(self) -> int:
        """Trials and final runs in all."""
        return self.trials_total + self.finals_total

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"trials {self.trials_done}/{self.trials_total}"]
        lost = [f"{self.trials[s]} {s}" for s in ("pruned", "failed") if self.trials.get(s)]
        if lost:
            parts[0] += f" ({', '.join(lost)})"
        parts.append(f"finals {self.finals_done}/{self.finals_total}")
        if self.finals.get("failed"):
            parts[-1] += f" ({self.finals['failed']} failed)"
        if self.best is not None:
            parts.append(f"best {self.best:.4g} ({' '.join(self.best_overrides)})")
        return f"{self.name}: {', '.join(parts)}"


def progress(study: SweepStudy, finals: Finals | None = None) -> Progress:
    """How far a sweep is; ``finals`` remembers what it has read before."""
    sweep = study.definition.sweep
    trials = study.trials()
    states = Counter(STATES[trial.state] for trial in trials)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    best = min(complete, key=lambda t: (sweep.sign * _value(t), t.number), default=None)
    searching = study.searching()
    found = Finals(study) if finals is None else finals
    accepted = {} if searching else found.results()
    asked = found.all()
    results = [accepted[final.key] for final in asked if final.key in accepted]
    expected = min(sweep.most_finalists, study.budget) * sweep.final_seeds
    return Progress(
        name=study.definition.name,
        trials=dict(states),
        trials_total=study.budget,
        finals=dict(Counter(record["state"] for record in results)),
        finals_total=expected if searching else found.plan().most,
        best=None if best is None else _value(best),
        best_overrides=() if best is None else tuple(best.user_attrs.get("overrides", ())),
        done=not searching and len(results) == len(asked),
    )


def report(study: SweepStudy) -> dict[str, Any]:
    """Everything that a sweep has found; the same results give the same report, byte for byte.

    The best setting is the finalist with the best mean over its fresh seeds: the runs that it was
    chosen by would flatter it. One that has not finished all of them is never best, or failures
    would help. Test metrics are not looked at here.
    """
    definition = study.definition
    sweep = definition.sweep
    trials = study.trials()
    held = Finals(study)
    accepted = held.results()
    finals = [
        {"key": final.key, **accepted[final.key]} for final in held.all() if final.key in accepted
    ]
    chosen = finalists(definition, trials)
    dropped = held.plan().dropped
    found = [_finalist(trial, finals, dropped.get(trial.number)) for trial in chosen]
    found = found if finals else []
    ranked = sorted(
        (one for one in found if one["n"] and one["n"] >= sweep.final_seeds),
        key=lambda one: (sweep.sign * one["mean"], one["trial"]),
    )
    if ranked:
        best: dict[str, Any] | None = ranked[0]
    elif not sweep.finalists or not sweep.final_seeds:
        best = _unconfirmed(study)
    else:
        best = None
    return {
        "format": FORMAT,
        "sweep": definition.name,
        "question": sweep.question,
        "path": definition.path,
        "fingerprint": definition.fingerprint,
        "settings": [*sweep.settings, *definition.extra],
        "metric": sweep.metric,
        "direction": sweep.direction,
        "repeats": sweep.repeats,
        "counts": dict(sorted(Counter(STATES[trial.state] for trial in trials).items())),
        "best": best,
        "finalists": found,
        "finals": finals,
        "trials": [_trial(trial) for trial in trials],
    }


def write_report(study: SweepStudy) -> dict[str, Any]:
    """Write ``trials.json`` into the sweep's folder and return its content."""
    content = report(study)
    write_json(study.folder / "trials.json", content)
    return content


def verdict(content: dict[str, Any]) -> str:
    """A report's result in one line."""
    counts = content["counts"]
    done = ", ".join(f"{counts[state]} {state}" for state in STATES.values() if counts.get(state))
    best = content["best"]
    if best is None and content["finalists"]:
        return f"{content['sweep']}: no finalist finished all its fresh seeds (trials: {done})"
    if best is None:
        return f"{content['sweep']}: no setting finished ({done or 'no trials'})"
    settings = " ".join(best["overrides"]) or "the shared settings"
    value = f"{content['metric']} {best['mean']:.4g}"
    if best["confirmed"]:
        spread = f" ± {best['std']:.2g}" if best["std"] is not None else ""
        value += f"{spread} over {best['n']} fresh seed{'s' if best['n'] > 1 else ''}"
    else:
        value += " in the search, not confirmed on fresh seeds"
    return f"{content['sweep']}: best {settings}: {value} (trials: {done})"


def status(study: SweepStudy) -> dict[str, Any]:
    """What runs, waits, has failed and why, as JSON types; nothing is written.

    A worker of this machine is looked up. One of another machine runs as long as it shows a sign
    of life: a sign that nobody has touched for twice its patience, by the disk's own clock, is of
    a worker that is gone.
    """
    finals = Finals(study)
    now = progress(study, finals)
    peers = Peers(workers_folder(study.home))
    running, waiting, failed = [], [], []

    def sort(entry: dict[str, Any], key: str) -> None:
        lease = Content.read(lease_file(study.folder, key))
        if lease is None or not lease.token or lease.owner is None:
            why = None  # what it waits for depends on whether anything runs
            if lease is not None and (said := lease.about.get("reason")):
                why = f"another process tries it once more ({said})" if failed_by(lease) else said
            waiting.append({**entry, "reason": why})
            return
        run = lease.about.get("run")
        note = peers.read(lease.worker) or {}
        if peers.shows_life(lease.worker, lease.owner):
            about = {"by": str(lease.owner), "run": run, "waits_for": note.get("waits_for")}
            running.append({**entry, **about, **(standing(study.home / run) if run else {})})
        else:
            why = f"{lease.owner} has died; another worker takes it over"
            waiting.append({**entry, "run": run, "reason": why})

    for trial in study.trials():
        entry: dict[str, Any] = {
            "trial": trial.number,
            "overrides": list(trial.user_attrs.get("overrides", [])),
        }
        if not trial.state.is_finished():
            sort(entry, trial_key(trial.number))
        elif trial.state == TrialState.FAIL:
            failed.append({**entry, "reason": trial.user_attrs.get("reason", "unknown")})
    results = finals.results()
    for final in finals.all():
        entry = {"trial": final.trial, "seed": final.seed, "overrides": final.proposed}
        result = results.get(final.key)
        if result is not None and result["state"] == "failed":
            failed.append({**entry, "reason": result.get("reason")})
        elif result is None and lease_file(study.folder, final.key).exists():
            sort(entry, final.key)
    begun = "stopped" if now.trials else "queued"
    state = "done" if now.done else "running" if running else begun
    if study.stopping and running:
        state = "stopping"
    idle = "stopped; goes on when the sweep is launched again"
    for one in waiting:
        if one["reason"] is None:
            one["reason"] = "the next worker that is free takes it" if state == "running" else idle
    return {
        "sweep": study.definition.name,
        "question": study.definition.sweep.question,
        "state": state,
        "metric": study.definition.sweep.metric,
        "trials": {"total": now.trials_total, **now.trials},
        "finals": {"total": now.finals_total, **now.finals},
        "best": None
        if now.best is None
        else {"value": now.best, "overrides": list(now.best_overrides)},
        "running": running,
        "waiting": waiting,
        "failed": failed,
        "folder": str(study.folder),
    }


def _value(trial: FrozenTrial) -> float:
    return trial.values[0] if trial.values else math.nan


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        "value": _value(trial) if trial.state == TrialState.COMPLETE else None,
        "overrides": list(trial.user_attrs.get("overrides", [])),
        "runs": list(trial.user_attrs.get("runs", [])),
        "reason": trial.user_attrs.get("reason"),
    }


def _finalist(
    trial: FrozenTrial, finals: list[dict[str, Any]], dropped: Dropped | None
) -> dict[str, Any]:
    own = [final for final in finals if final["trial"] == trial.number]
    values = [final["value"] for final in own if final["state"] == "finished"]
    return {
        "trial": trial.number,
        "overrides": list(trial.user_attrs.get("overrides", [])),
        "search_value": _value(trial),
        "mean": math.fsum(values) / len(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "failed": len(own) - len(values),
        "dropped": None if dropped is None else asdict(dropped),
        "confirmed": True,
    }


def _unconfirmed(study: SweepStudy) -> dict[str, Any] | None:
    """The best of the search, for a sweep that asks for no finals."""
    now = progress(study)
    if now.best is None:
        return None
    return {"overrides": list(now.best_overrides), "mean": now.best, "std": None, "n": 0} | {
        "confirmed": False
    }
