"""One run: settings → data, net, head, loss → fit → test → record."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import yaml

from lightning_sep import run_id as identities
from lightning_sep.devices import device_of, refuse_device
from lightning_sep.errors import Busy, ConfigError, Interrupted, LeaseLost
from lightning_sep.faults import is_machines
from lightning_sep.fingerprint import digest, fingerprint, host, software
from lightning_sep.fsio import (
    PATIENCE,
    append_line,
    make_folder,
    set_apart,
    storage_errors,
    write_aside,
)
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.leases.presence import Peers, Presence, patience_s
from lightning_sep.leases.process import Owner
from lightning_sep.parts import (
    Built,
    build_parts,
    build_task,
    identify,
    loader_of,
    open_data,
    refuse_tracking,
)
from lightning_sep.ranks import Order, dismiss, refuse_missing, together
from lightning_sep.record import (
    RECORD,
    misfits,
    now,
    read_record,
    supersede,
    write_record,
)
from lightning_sep.run_folder import ATTEMPTS, FAILED, LEASE, LOG, RunFolder
from lightning_sep.settings import Settings, build
from lightning_sep.settings.fitting import refuse_unfit
from lightning_sep.train_on import carry_over, shorter_run
from lightning_sep.warm_start import pinned
from lightning_sep.watching import announce, is_watched, show_epoch

if TYPE_CHECKING:
    from lightning_sep.training import Attempt, Training

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Args:
        run_id: names the folder.
        folder: what the run left behind.
        state: ``"finished"`` or ``"pruned"``.
        record: the content of ``record.json``.
        monitored: best value of the validation metric that chooses.
    """

    run_id: str
    folder: Path
    state: str
    record: dict[str, Any]
    monitored: float


def run(
    settings: Settings,
    *,
    home: Path,
    data: Any | None = None,
    sweep: str | None = None,
    trial: int | None = None,
    purpose: str = "single",
    report: Callable[[int, float], bool] | None = None,
    should_stop: Callable[[], bool] | None = None,
    guard: Callable[[], None] | None = None,
    alive: Callable[[], None] | None = None,
    presence: Presence | None = None,
    busy: Callable[[Owner | None], None] | None = None,
    judged: bool = False,
    train_on: str | Path | None = None,
) -> Result:
    """Train and test one run, or go on with it, or return it at once when it is finished.

    With ``trainer.fast_dev_run`` it does one batch of each in a folder that is gone afterwards.

    Args:
        settings: what the run is.
        home: folder of all runs.
        data: the prepared corpus of the settings, where the caller has opened it already.
        sweep: the sweep that proposed it.
        trial: its number there.
        purpose: ``"single"``, ``"search"`` (a sweep looks for good settings) or ``"final"`` (a
            finalist on a fresh seed).
        report: gets epoch and monitored value after each validation; ``True`` prunes.
        should_stop: asked after each batch; ``True`` saves and raises ``Interrupted``.
        guard: raises ``LeaseLost`` when another process does this work; called before each write.
        alive: called after each batch.
        presence: the sign of life of the worker that runs it; one of its own without it.
        busy: called again and again while another process has the run; returning waits for it.
            Without it, ``Busy`` is raised at once.
        judged: whether this trial's values have been reported before, so that a run which its sweep
            has pruned is this trial's result; else it goes on from its checkpoint.
        train_on: a finished run of fewer epochs, and else the same settings, whose last checkpoint
            this one begins with.

    Raises:
        ConfigError: parts do not go together, or ``train_on`` is no beginning of this run.
        Busy: another process works on the same run.
        Interrupted: stopped on request; the same call goes on.
        NonFiniteLoss: training diverged; the record says so.
        StorageError: the disk is full; what was there is whole.
    """
    refuse_unfit(settings.tree, settings.choices)
    settings = pinned(settings, home)
    prepared = open_data(settings) if data is None else data
    trainer = build(settings.tree["trainer"])
    if trainer.fast_dev_run:
        if train_on is not None:
            raise ConfigError(
                "trainer.fast_dev_run keeps nothing to go on with: leave --train-on out"
            )
        with TemporaryDirectory() as place:
            return run(_tried(settings), home=Path(place), data=prepared, should_stop=should_stop)
    identity = identify(settings, prepared)
    folder = RunFolder(home / identity)
    judge = sweep if judged else None
    record = _finished(folder.path, judge)
    if record is not None:
        return _result(folder.path, record)
    refuse_device(settings.tree)
    refuse_tracking(settings.tree)
    shorter = None
    if train_on is not None:
        shorter = shorter_run(train_on, settings.tree, prepared.hash, home)
    with ExitStack() as cleanup:
        cleanup.enter_context(_threads(trainer.threads))
        cuda = device_of(settings.tree) == "cuda"
        refuse_missing(devices=trainer.devices, nodes=trainer.nodes, cuda=cuda)
        watched = is_watched(settings.tree, purpose)
        if watched:
            announce(settings.tree, prepared, folder.path)
        parts = build_parts(settings, prepared)  # what is refused leaves no folder behind
        identities.refuse_edited(settings.tree)
        with storage_errors(folder.path / RECORD):
            PATIENCE.until_back(lambda: make_folder(folder.path))
        workers = home / "leases" / "workers"
        if presence is None:
            presence = cleanup.enter_context(Presence(workers, patience_s=patience_s()))
        leases = Leases(presence, Peers(workers), path=lambda key: folder.path / LEASE)
        lease = _claim(leases, folder, identity, busy or _refuse(identity))
        try:
            record = _finished(folder.path, judge)  # while this one waited
            if record is None:
                if shorter is not None:
                    carry_over(shorter, folder, identity, lease.generation)
                one = _Run(
                    settings,
                    parts,
                    folder,
                    lease,
                    outer_guard=guard,
                    should_stop=should_stop or _no,
                    alive=alive or _nothing,
                    report=report,
                    judged=judged,
                    shorter=shorter,
                    watched=watched,
                )
                record = one.to_record(sweep=sweep, trial=trial, purpose=purpose)
        finally:
            with storage_errors(lease.path):
                lease.finish(keep=True)
            if purpose == "single":  # a worker may need them for its next run
                dismiss()
    return _result(folder.path, record)


def _tried(settings: Settings) -> Settings:
    """The settings of a run of one batch each, which nobody is told of."""
    once = {"epochs": 1, "limit_batches": 1, "fast_dev_run": False, "profiler": None}
    untold = {"_target_": "lightning_sep.tracking.Tracking", "mode": "disabled"}
    trainer = {**settings.tree["trainer"], **once}
    return replace(settings, tree={**settings.tree, "trainer": trainer, "tracking": untold})


@dataclass
class _Run:
    """One attempt, from the claim to the record."""

    settings: Settings
    parts: Built
    folder: RunFolder
    lease: Lease
    outer_guard: Callable[[], None] | None
    should_stop: Callable[[], bool]
    alive: Callable[[], None]
    report: Callable[[int, float], bool] | None
    judged: bool
    shorter: RunFolder | None
    watched: bool
    fingerprint: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = _Log(self.folder.path / LOG)
        self._tidy: Callable[[Mapping[str, str]], None] = _nothing

    def guard(self) -> None:
        """Called before every write.

        Raises:
            LeaseLost: another process has taken over the run or the work that it is part of.
        """
        if self.outer_guard is not None:
            self.outer_guard()
        self.lease.guard()

    def to_record(self, *, sweep: str | None, trial: int | None, purpose: str) -> dict[str, Any]:
        """Train, test and write the record."""
        tree, path = self.settings.tree, self.folder.path
        self.guard()
        supersede(path)
        about = {
            "run_id": self.parts.run_id,
            "config_hash": identities.config_hash(tree),
            "state": "failed",
            "purpose": purpose,
            "task": self.settings.choices.get("task") or tree["task"]["_target_"].split(".")[-2],
            "settings": tree,
            "choices": dict(self.settings.choices),
            "overrides": list(self.settings.overrides),
            "seed": tree["seed"],
            "sweep": sweep,
            "trial": trial,
        }
        write_aside(path / "settings.yaml", yaml.safe_dump(tree, sort_keys=False))
        self._note_attempt(purpose)
        try:
            with _quiet(self.log.write):
                outcome = self._train(about)
        except (Interrupted, LeaseLost, KeyboardInterrupt):
            raise
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.log.write(f"{FAILED}{text}")
            # Nothing is known about settings when the machine is at fault or the input is refused.
            if not is_machines(error) and getattr(error, "exit_code", 1) != 2:
                self._write_record(about | {"metrics": {}, "error": text, "hashes": {}})
            raise
        record = self._write_record(about | outcome | {"error": None})
        self.log.write(f"{record['state']}: {record['monitor']}")
        return record

    def _train(self, about: Mapping[str, Any]) -> dict[str, Any]:
        from lightning_sep.callbacks.bar import Bar
        from lightning_sep.training import Attempt, Training

        bar = Bar() if self.watched else None
        tree = self.settings.tree
        said = [*filter(None, (self.parts.prepared.remark(), _crowded(tree, self.parts)))]
        for remark in said:
            print(remark, file=sys.stderr, flush=True)
        for remark in (*said, *self.parts.task.facts.remarks):
            self.log.write(remark)
        name, mode = self.parts.task.monitor
        mirrored = {
            **about,
            "monitor": {"name": name, "mode": mode},
            "data": {self.parts.prepared.name: self.parts.prepared.hash},
            "environment": {**software(), **self.fingerprint},
        }
        attempt = Attempt(
            run_id=self.parts.run_id,
            folder=self.folder,
            generation=self.lease.generation,
            guard=self.guard,
            should_stop=self.should_stop,
            alive=self.alive,
            report=self.report,
            sweep=about["sweep"],
            judged=self.judged,
            purpose=about["purpose"],
            log=self.log.write,
            show=partial(show_epoch, tree, self.parts.task.monitor[0], about["purpose"]),
            callbacks=() if bar is None else (bar,),
        )

        trainer = build(tree["trainer"])

        def conclude(training: Training, metrics: dict[str, float]) -> dict[str, Any]:
            outcome = training.outcome(metrics)
            outcome["coverage"] = self.parts.examples.coverage(
                self.parts.prepared,
                seed=tree["seed"],
                epochs=len(training.history.rows),
                times=trainer.accumulate,
                limit=trainer.limit_batches,
            )
            if outcome["state"] == "finished":
                self._tidy = training.tidy
            return outcome

        cuda = device_of(tree) == "cuda"
        order = {
            **mirrored,
            "home": str(self.folder.path.parent.resolve()),
            "generation": self.lease.generation,
            "reports": self.report is not None,
            "judged": self.judged,
        }
        with ExitStack() as shown:
            if bar is not None:
                bar.open(shown)
            shown.enter_context(
                together(devices=trainer.devices, nodes=trainer.nodes, cuda=cuda, order=order)
            )
            return _trained(tree, self.parts, attempt, mirrored, conclude)

    def _note_attempt(self, purpose: str) -> None:
        trainer, device = build(self.settings.tree["trainer"]), device_of(self.settings.tree)
        self.fingerprint = fingerprint(device, trainer.deterministic, ranks=trainer.ranks)
        attempt = {
            "started": now(),
            "generation": self.lease.generation,
            **host(),
            "purpose": purpose,
            "overrides": list(self.settings.overrides),
            "epochs": trainer.epochs,
            "monitor": self.parts.task.monitor[0],
            "fingerprint_hash": digest(self.fingerprint),
            "fingerprint": self.fingerprint,
        }
        if self.shorter is not None:
            attempt["trained_on_from"] = self.shorter.path.name
        append_line(self.folder.path / ATTEMPTS, json.dumps(attempt))

    def _write_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        identities.refuse_edited(self.settings.tree)  # all that was run is imported by now
        self.guard()
        prepared = self.parts.prepared
        attempts = self.folder.attempts()
        said = ("started", "generation", "host", "job", "fingerprint_hash", "trained_on_from")
        written = write_record(
            self.folder.path,
            {
                **record,
                "parameters": sum(value.numel() for value in self.parts.task.parameters()),
                "data": {prepared.name: prepared.hash},
                "environment": {**software(), **self.fingerprint},
                "fingerprint": self.fingerprint,
                "fingerprint_hash": digest(self.fingerprint),
                "attempts": len(attempts),
                "attempted": [{k: one[k] for k in said if k in one} for one in attempts],
                "hashes": {
                    **record["hashes"],
                    "lock": software()["lock_hash"],
                    "code": software()["code_hash"],
                    "data": digest({prepared.name: prepared.hash}),
                },
                "started": attempts[0]["started"] if attempts else now(),
                "finished": now(),
            },
        )
        if written["state"] == "finished":  # be it another's: what that one names is kept
            self._tidy(written["checkpoints"])
        return written


def follow(order: Order) -> None:
    """Train a run together with the process that has claimed it, as one that writes nothing.

    Args:
        order: what the record will say of the run, and what the first process knows besides.

    Raises:
        ConfigError: on this machine it is another run.
    """
    from lightning_sep.training import Attempt

    tree = order["settings"]
    with _threads(tree["trainer"]["threads"]), _quiet(lambda line: None):
        parts = build_parts(Settings(tree), follows=True)
        if parts.run_id != order["run_id"]:
            raise ConfigError(
                f"run {order['run_id']} is {parts.run_id} on {host()['host']}: the processes of a "
                "run need one code and one set of data (LIGHTNING_SEP_DATA on a shared disk)"
            )
        attempt = Attempt(
            run_id=parts.run_id,
            folder=RunFolder(Path(order["home"]) / parts.run_id),
            generation=order["generation"],
            guard=_nothing,
            should_stop=_no,
            alive=_nothing,
            report=(lambda epoch, value: False) if order["reports"] else None,
            sweep=order["sweep"],
            judged=order["judged"],
            purpose=order["purpose"],
            log=_nothing,
            show=_nothing,
        )
        _trained(tree, parts, attempt, order, _nothing)


def _crowded(tree: Mapping[str, Any], parts: Built) -> str | None:
    """A line where a batch has no room to be one of several."""
    draw, size = parts.examples.draw(parts.prepared, "train"), tree["trainer"]["accumulate"]
    size *= parts.examples.batch_size
    if draw.alone or size <= draw.count:
        return None
    return (
        f"a batch is {size} examples, an epoch has {draw.count}: each epoch is one step, of all of "
        "them"
    )


def _nothing(*_: Any) -> None:
    """In the place of what nobody has asked for."""


def _no() -> bool:
    return False


def _trained(
    tree: Mapping[str, Any],
    parts: Built,
    attempt: "Attempt",
    mirrored: Mapping[str, Any],
    conclude: Callable[["Training", dict[str, float]], T],
) -> T:
    """Go on with a run to its end, and what is concluded from the training and its metrics."""
    from lightning_sep.callbacks.checkpoint import BestLost
    from lightning_sep.training import Training

    loader = loader_of(tree, parts)
    for again in (False, True):
        task = parts.task
        if again:  # as it was initialised
            task = build_task(tree, task.facts)
        if parts.start is not None:
            task.load_state_dict(parts.start, strict=False)
        with ExitStack() as cleanup:
            PATIENCE.pulse()  # what leads to the first step may take long, and does not hang
            training = Training(tree, task, loader, attempt, mirrored, cleanup)
            PATIENCE.pulse()
            training.resume(from_start=again)
            PATIENCE.pulse()
            try:
                training.fit()
                metrics = training.test()
            except BestLost:
                if again:
                    raise
                attempt.log("the best epoch's weights are damaged or gone: train again")
                continue
            return conclude(training, metrics)
    raise AssertionError("either attempt returns or raises")


def _claim(
    leases: Leases, folder: RunFolder, identity: str, busy: Callable[[Owner | None], None]
) -> Lease:
    """The run's lease; while another process has it, ``busy`` says whether to wait."""
    while True:
        lease = leases.claim(identity, above=folder.generation())
        if lease is not None:
            return lease
        busy(leases.holder(identity))


def _refuse(identity: str) -> Callable[[Owner | None], None]:
    def refuse(owner: Owner | None) -> None:
        who = "another process" if owner is None else str(owner)
        raise Busy(
            f"run {identity} is being trained by {who}: wait for it, or stop that one first; the "
            "same command then goes on or shows the result"
        )

    return refuse


def _finished(folder: Path, judge: str | None) -> dict[str, Any] | None:
    """The record of a run that is done, or that ``judge``, a sweep, has pruned; None when there is
    work left.

    What its hashes do not fit is set apart and named: it is no result.
    """
    record = PATIENCE.until_back(lambda: read_record(folder))
    if record is None or record.get("state") not in ("finished", "pruned"):
        return None
    wrong = PATIENCE.until_back(lambda: misfits(folder, record))
    if wrong:
        kept = set_apart(folder / RECORD)
        _Log(folder / LOG).write(f"{wrong[0]}: kept as {kept.name}")
        print(f"{wrong[0]}: it is kept as {kept.name} and not used", file=sys.stderr, flush=True)
        return None
    if record["state"] == "finished":
        return record
    # One sweep's judgement is not another's: what it pruned goes on from its checkpoint.
    return record if judge is not None and record.get("sweep") == judge else None


def _result(folder: Path, record: dict[str, Any]) -> Result:
    value = record["monitor"]["value"]
    return Result(record["run_id"], folder, record["state"], record, value)


class _Log:
    """A run's ``log.txt``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        append_line(self.path, f"{now()} {text}")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute with that many threads; as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet(write: Callable[[str], None]) -> Iterator[None]:
    """Lightning's advice and third-party warnings go to the run's log, not over the progress."""
    import logging

    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    lightning.setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            lightning.setLevel(level)
            for warning in caught:
                write(f"warning: {str(warning.message).splitlines()[0]}")
