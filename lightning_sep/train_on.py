"""More epochs for a finished run, as another run that goes on from its last checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_sep import checkpoint_files
from lightning_sep.errors import ConfigError
from lightning_sep.find import find_run
from lightning_sep.fsio import make_folder
from lightning_sep.record import read_record
from lightning_sep.run_folder import RunFolder
from lightning_sep.run_id import counted, run_id
from lightning_sep.settings import build

_NAMED = 5  # settings, at most, of those that would be another


def shorter_run(run: str | Path, tree: Mapping[str, Any], data_hash: str, home: Path) -> RunFolder:
    """A finished run that is the beginning of a longer one, bit for bit.

    Args:
        run: its id or folder.
        tree: resolved settings of the longer one.
        data_hash: of its data.
        home: folder of all runs.

    Raises:
        ConfigError: it is not finished, is another run in more than its epochs, keeps no last
            checkpoint, or would have gone otherwise with more epochs ahead.
    """
    folder = find_run(run, home).resolve()
    record = read_record(folder)
    if record is None or record["state"] != "finished":
        raise ConfigError(f"--train-on {run}: run {folder.name} is not finished; it goes on itself")
    said, epochs = f"--train-on {folder.name}", tree["trainer"]["epochs"]
    before = record["settings"]["trainer"]["epochs"]
    if epochs <= before:
        raise ConfigError(
            f"{said}: it has {before} epochs; trainer.epochs={epochs} asks for no more than that"
        )
    short = {**tree, "trainer": {**tree["trainer"], "epochs": before}}
    if run_id(short, data_hash) != record["run_id"]:
        theirs, ours = (dict(_flat(counted(one))) for one in (record["settings"], short))
        changed = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        names = list(dict.fromkeys(key.removesuffix("._target_") for key in changed))
        what = ", ".join(names[:_NAMED]) or "the data or the code"
        what += f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise ConfigError(
            f"{said}: {what} would be another; only trainer.epochs may be. `--config {folder}` "
            "takes all of its settings"
        )
    if tree["trainer"].get("callbacks"):
        raise ConfigError(
            f"{said}: trainer.callbacks may go by the length of the whole run; train it from the "
            "start"
        )
    for group in ("plan", "reweighting"):
        part = build(tree[group])
        if part.needs_length:
            raise ConfigError(
                f"{said}: {group}={type(part).__name__} goes by the length of the whole run, so "
                f"its first {before} epochs are not those of {epochs}; train it from the start"
            )
    found = RunFolder(folder)
    if checkpoint_files.newest(found, record["run_id"]) is None:
        raise ConfigError(
            f"{said}: it keeps no checkpoint to go on from; what is trained with "
            "trainer.keep_last=true does"
        )
    return found


def carry_over(source: RunFolder, target: RunFolder, identity: str, generation: int) -> None:
    """Let a run that has nothing yet begin where a shorter one has ended.

    Args:
        source: the shorter run, of which nothing changes.
        target: the longer one.
        identity: its id.
        generation: of the claim.

    Raises:
        ConfigError: the checkpoints of the shorter one are damaged or gone.
    """
    from lightning_sep.callbacks.watch import Watch  # loads Lightning

    if checkpoint_files.newest(target, identity) is not None:
        return
    last = checkpoint_files.newest(source, source.path.name)
    best = checkpoint_files.best_weights(source, source.path.name)
    if last is None or best is None:
        raise ConfigError(f"--train-on {source.path.name}: its checkpoints are gone")
    content = checkpoint_files.load(last.path, source.path.name)
    watch = content["callbacks"][Watch.__qualname__]
    watch["ended"] = watch["stopped"]  # by itself, as it would with more epochs ahead
    make_folder(target.checkpoints)
    checkpoint_files.save({**best[1], "run_id": identity}, target.best(generation))
    checkpoint_files.save({**content, "run_id": identity}, target.step(last.step, generation))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
