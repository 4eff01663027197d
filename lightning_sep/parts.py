"""What a run consists of: data, net, head and loss, built from its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from lightning_sep import run_id as identities
from lightning_sep.data.facts import Facts, facts_from
from lightning_sep.data.progress import ProgressLine
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.functional.processes import own_rank, world_size
from lightning_sep.homes import data_home
from lightning_sep.record import read_record
from lightning_sep.run_folder import ATTEMPTS
from lightning_sep.settings import FILLED_IN, Settings, build, locate
from lightning_sep.settings.fitting import refuse_unfit
from lightning_sep.settings.signature import arguments
from lightning_sep.tasks.base import Parts, Task
from lightning_sep.warm_start import pinned, weights_for


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


def refuse_tracking(tree: Mapping[str, Any]) -> None:
    """See that what mirrors a run is installed.

    Raises:
        ConfigError: it is not; a tracker with a method ``check`` says so.
    """
    check = getattr(build(tree["tracking"]), "check", None)
    if check is not None:
        check()
