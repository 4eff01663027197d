"""One run: settings → data, net, head, loss → fit → test → record."""

import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from lightning_sep import run_id as identities
from lightning_sep.data.facts import Facts, facts_from
from lightning_sep.data.progress import ProgressLine
from lightning_sep.errors import Busy, ConfigError, DataError, Interrupted, LeaseLost
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
from lightning_sep.functional.processes import own_rank, world_size
from lightning_sep.homes import data_home
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.leases.presence import Peers, Presence, patience_s
from lightning_sep.leases.process import Owner
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
from lightning_sep.settings import FILLED_IN, Settings, build, locate
from lightning_sep.settings.fitting import refuse_unfit
from lightning_sep.settings.signature import arguments
from lightning_sep.tasks.base import Parts, Task
from lightning_sep.terminal import duration
from lightning_sep.train_on import carry_over, shorter_run
from lightning_sep.warm_start import pinned, weights_for

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


@dataclass(frozen=True)
class Built:
    """A run's objects, built from its settings."""

    run_id: str
    prepared: Any
    examples: Any
    task: Task
    start: dict[str, Tensor] | None = None  # what `init_from` brings, in the place of drawn weights


def open_data(settings: Settings) -> Any:
    """The prepared corpus of a run; stderr tells how far it is where it has to be prepared first.

    Raises:
        DataError: it is not prepared, not usable, or for testing only.
    """
    prepared = build(settings.tree["data"]).open(data_home(), ProgressLine())
    if prepared.test_only:
        raise DataError(
            f"{prepared.name} was prepared for testing only, so nothing can be trained on it: "
            "lightning-sep evaluate RUN data=... tests a run on it; data.test_only=false splits it"
        )
    return prepared


def identify(settings: Settings, prepared: Any | None = None) -> str:
    """The run id: what the settings, the data and the package's version make of it."""
    prepared = prepared if prepared is not None else open_data(settings)
    return identities.run_id(settings.tree, prepared.hash)


def build_parts(settings: Settings, prepared: Any | None = None, *, follows: bool = False) -> Built:
    """Everything a run consists of, on the CPU, initialised under the run's seed.

    Args:
        settings: what the run is, pinned.
        prepared: the corpus, where it is open already.
        follows: another process begins the run, and gives its weights to this one.

    Raises:
        ConfigError: parts do not go together.
        DataError: the data are not prepared, or not usable.
    """
    refuse_unfit(settings.tree, settings.choices)
    prepared = prepared if prepared is not None else open_data(settings)
    build(settings.tree["plan"]).check(patience=settings.tree["trainer"]["patience"])
    examples = build(settings.tree["examples"])
    task = build_task(settings.tree, examples.facts(prepared))
    trainer = build(settings.tree["trainer"])
    ranks = trainer.ranks
    task.refuse_sharing(ranks, trainer.accumulate)
    if ranks > examples.batch_size:
        raise ConfigError(
            f"examples.batch_size = {examples.batch_size}: {ranks} devices share a batch, and each "
            "needs an example of it"
        )
    warm = settings.tree.get("init_from") is not None and not follows
    start = weights_for(task, settings) if warm else None
    return Built(identify(settings, prepared), prepared, examples, task, start)


def build_task(tree: Mapping[str, Any], facts: Facts, *, to_train: bool = True) -> Task:
    """A task with its net, head and loss, initialised under the run's seed.

    Args:
        tree: resolved settings.
        facts: what the examples said of the data when the run was trained.
        to_train: give it an optimizer, which makes it a ``LightningModule``.

    Raises:
        ConfigError: parts do not go together.
    """

    def make_net(*, inputs: int, outputs: int) -> nn.Module:
        net: nn.Module = build(tree["net"], inputs=inputs, outputs=outputs)
        return net

    def make_loss(**known: int) -> nn.Module:
        takes = arguments(locate(tree["loss"])) or {}
        asked = {name: known[name] for name in FILLED_IN["loss"] if name in takes}
        loss: nn.Module = build(tree["loss"], **asked)
        return loss

    make_optimizer = None
    if to_train:
        trainer = tree["trainer"]
        # Lightning cannot clip the gradients of a fused optimizer under mixed precision.
        fused = trainer["precision"] == "32" or trainer["gradient_clip"] is None
        make_optimizer = partial(build(tree["optimizer"]).build, fused=fused)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tree["seed"])
        task: Task = build(
            tree["task"],
            parts=Parts(
                make_net=make_net,
                head=build(tree["head"]),
                loss_class=locate(tree["loss"]),
                make_loss=make_loss,
                make_optimizer=make_optimizer,
                facts=facts,
                seed=tree["seed"],
            ),
        )
    return task


def recorded_facts(tree: Mapping[str, Any], plain: Mapping[str, Any]) -> Facts:
    """The facts in a record, of the kind that its task needs.

    Args:
        tree: resolved settings.
        plain: what the record says.

    Raises:
        DataError: they are of another kind or version.
    """
    task: Any = locate(tree["task"])
    kind: type[Facts] = task.facts_type
    return facts_from(kind, plain)


def print_model(settings: Settings) -> str:
    """The net's layers, the shape of what each gives, and the parameter count."""
    parts = build_parts(settings, follows=True)
    task = parts.task
    batch = next(iter(parts.examples.loader(parts.prepared, "val", seed=0)))
    shapes: dict[str, str] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, gives: Any) -> None:
            first = gives[0] if isinstance(gives, tuple) else gives
            shapes[name] = str(list(first.shape)) if isinstance(first, Tensor) else ""

        return hook

    named = [(name, module) for name, module in task.get_submodule("net").named_modules() if name]
    hooks = [module.register_forward_hook(note(name)) for name, module in named]
    with torch.no_grad():
        raw = task.raw(batch, None)
    for hook in hooks:
        hook.remove()
    lines = [f"{'layer':40} {'type':20} {'gives':24} parameters"]
    for name, module in named:
        count = sum(value.numel() for value in module.parameters())
        lines.append(f"{name:40} {type(module).__name__:20} {shapes.get(name, ''):24} {count:,}")
    lines.append(f"raw values for a batch of {len(batch)}: {list(raw.shape)}")
    lines.append(f"parameters: {sum(value.numel() for value in task.parameters()):,}")
    return "\n".join(lines)


def print_config(settings: Settings, *, home: Path) -> str:
    """The settings of a run as YAML, with its id and what is there of it as a comment on top.

    Raises:
        ConfigError: parts do not go together.
        DataError: the data are not prepared, or not usable.
    """
    refuse_unfit(settings.tree, settings.choices)
    settings = pinned(settings, home)
    identity = identify(settings)
    record = read_record(home / identity)
    begun = "begun" if (home / identity / ATTEMPTS).exists() else "not begun"
    state = begun if record is None else record["state"]
    return f"# run {identity}: {state}\n" + yaml.safe_dump(settings.tree, sort_keys=False)


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
        cuda = _device(settings.tree) == "cuda"
        refuse_missing(devices=trainer.devices, nodes=trainer.nodes, cuda=cuda)
        watched = _watched(settings.tree, purpose)
        if watched:
            _announce(settings.tree, prepared, folder.path)
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
                    settings, parts, folder, lease, guard, should_stop, alive, report, watched
                )
                one.shorter, one.judged = shorter, judged
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


class _Run:
    """One attempt, from the claim to the record."""

    def __init__(
        self,
        settings: Settings,
        parts: Built,
        folder: RunFolder,
        lease: Lease,
        guard: Callable[[], None] | None,
        should_stop: Callable[[], bool] | None,
        alive: Callable[[], None] | None,
        report: Callable[[int, float], bool] | None,
        watched: bool = False,
    ) -> None:
        self.settings = settings
        self.parts = parts
        self.folder = folder
        self.lease = lease
        self.outer_guard = guard
        self.should_stop = should_stop or (lambda: False)
        self.alive = alive or (lambda: None)
        self.report = report
        self.watched = watched
        self.log = _Log(folder.path / LOG)
        self.fingerprint: dict[str, Any] = {}
        self.shorter: RunFolder | None = None
        self.judged = False
        self._tidy: Callable[[Mapping[str, str]], None] = lambda kept: None

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
            show=partial(_show, tree, self.parts.task.monitor[0], about["purpose"]),
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

        cuda = _device(tree) == "cuda"
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
        trainer, device = build(self.settings.tree["trainer"]), _device(self.settings.tree)
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
            should_stop=lambda: False,
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
    """What the processes that write nothing do."""


def loader_of(tree: Mapping[str, Any], parts: Built) -> Callable[..., Any]:
    """Gives the batches of a split, of which each process that trains together has its share."""

    settings = build(tree["trainer"])

    def loader(split: str, **where: Any) -> Any:
        given = {"rank": own_rank(), "world": world_size(), **where}
        workers = tree["trainer"]["workers"]
        return parts.examples.loader(
            parts.prepared,
            split,
            seed=tree["seed"],
            workers=workers,
            times=settings.accumulate,
            limit=settings.limit_batches,
            **given,
        )

    return loader


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


def _device(tree: Mapping[str, Any]) -> str:
    """Where a run computes: ``cpu`` or ``cuda``."""
    asked: str = tree["trainer"]["device"]
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def refuse_device(tree: Mapping[str, Any]) -> None:
    """See that this machine computes on what the settings say, as they say it: what is recorded
    is what ran.

    Raises:
        ConfigError: there is no GPU, though one was asked for, of Slurm or by the settings; or the
            processor takes another precision instead.
    """
    device = _device(tree)
    promised = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("SLURM_STEP_GPUS")
    if device == "cpu" and tree["trainer"]["device"] == "auto" and promised:
        raise ConfigError(
            f"this job has GPUs ({promised}), and torch finds none on {socket.gethostname()}: "
            "`nvidia-smi` and `python -c 'import torch; print(torch.version.cuda)'` tell which of "
            "the two lacks it; trainer.device=cpu computes without"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.device = 'cuda': torch finds no GPU here; trainer.device=auto takes one when "
            "there is one"
        )
    if device == "cpu" and tree["trainer"]["precision"] == "16-mixed":
        raise ConfigError(
            "trainer.precision = '16-mixed' needs a GPU, and torch finds none here; on a CPU take "
            "32 or bf16-mixed"
        )


def refuse_tracking(tree: Mapping[str, Any]) -> None:
    """See that what mirrors a run is installed.

    Raises:
        ConfigError: it is not; a tracker with a method ``check`` says so.
    """
    check = getattr(build(tree["tracking"]), "check", None)
    if check is not None:
        check()


def _watched(tree: Mapping[str, Any], purpose: str) -> bool:
    """Whether somebody looks at this run on a terminal."""
    return purpose == "single" and tree["trainer"]["progress"] and sys.stderr.isatty()


def _announce(tree: Mapping[str, Any], prepared: Any, folder: Path) -> None:
    """What is about to be trained, where and on what."""
    device, threads = _device(tree), tree["trainer"]["threads"]
    if device == "cuda":
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    ranks = build(tree["trainer"]).ranks
    if ranks > 1:
        device = f"{ranks} x {device}"
    print(
        f"run {folder.name} on {device}, data {prepared.name}: {folder}",
        file=sys.stderr,
        flush=True,
    )


def _show(tree: Mapping[str, Any], name: str, purpose: str, row: dict[str, Any]) -> None:
    """One line per epoch on stderr: where it stands and how long it will take."""
    if purpose != "single" or not tree["trainer"]["progress"]:
        return
    done, epochs = row["epoch"] + 1, tree["trainer"]["epochs"]
    loss, value = (
        "not finite" if one is None else f"{one:.4g}"  # a history has null in place of it
        for one in (row["train/loss"], row[name])
    )
    time = f"{row['time_s']:.0f} s"
    left = f"{duration(row['time_s'] / done * (epochs - done))} left" if done < epochs else ""
    if sys.stderr.isatty():  # where 80 columns must do
        line = f"epoch {done}/{epochs} · loss {loss} · {name} {value} · {left or time}"
    else:
        line = f"epoch {done}/{epochs} · train/loss {loss} · {name} {value} · {time}"
        line += f", about {left}" if left else ""
    print(line, file=sys.stderr, flush=True)
