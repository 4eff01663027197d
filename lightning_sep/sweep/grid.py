"""A sweep over all combinations of a few settings, without a file."""

import hashlib
import json
from collections.abc import Sequence
from math import prod

from lightning_sep.errors import ConfigError
from lightning_sep.sweep.definition import Definition, read_sweep


def grid_sweep(
    grid: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    metric: str,
    direction: str,
    name: str | None = None,
    trials: int | None = None,
    finalists: int | None = None,
    config_dir: str | None = None,
) -> Definition:
    """The sweep over all combinations of ``key=a,b`` entries, without a file.

    Args:
        grid: entries such as ``head=tanh,sine``; commas within brackets or quotes do not separate.
            ``seed=0,1,2`` stands for three repeats of each combination, and these runs are all:
            no finalist is run again on fresh seeds.
        finalists: how many of the best are run again on fresh seeds, in place of the usual number.

    Raises:
        ConfigError: an entry cannot be read or names a key twice.
    """
    axes: dict[str, list[str]] = {}
    for item in grid:
        key, equals, text = item.partition("=")
        values = _split(text)
        if not equals or not key or not all(values):
            raise ConfigError(f"--grid {item}: 'key=value,value' is needed, such as head=tanh,sine")
        if key in axes:
            raise ConfigError(f"--grid {item}: {key} is there twice; write {key}=a,b,c once")
        if len(set(values)) < len(values):
            raise ConfigError(f"--grid {item}: a value is there twice")
        axes[key] = values
    repeats, seeded = len(axes.get("seed", ["0"])), "seed" in axes
    if "seed" in axes and axes.pop("seed") != [str(seed) for seed in range(repeats)]:
        raise ConfigError(
            f"--grid seed: repeats use the seeds from 0 on; write seed={_seeds(repeats)}"
        )
    if not axes and not seeded:
        raise ConfigError("--grid needs at least one 'key=value,value', such as head=tanh,sine")
    count = prod(len(values) for values in axes.values())
    arguments = {"metric": metric, "direction": direction, "trials": count, "repeats": repeats}
    if seeded:
        arguments["finalists"] = 0
    lines = [
        "from lightning_sep.sweep.definition import Sweep",
        "",
        f"SWEEP = Sweep({', '.join(f'{key}={value!r}' for key, value in arguments.items())})",
        "",
        "",
        "def overrides(trial):",
    ]
    for key, values in axes.items():
        lines += [f"    value = trial.suggest_categorical({key!r}, {values!r})"]
        lines += [f'    yield f"{key}={{value}}"']
    if not axes:
        lines += ["    yield from ()"]
    source = "\n".join(lines) + "\n"
    if name is None:
        digest = hashlib.sha256(json.dumps([axes, repeats, list(overrides)]).encode()).hexdigest()
        name = f"grid-{digest[:8]}"
    return read_sweep(
        source,
        "--grid",
        overrides,
        name=name,
        trials=trials,
        finalists=finalists,
        axes=grid,
        config_dir=config_dir,
    )


def is_axis(item: str) -> bool:
    """Whether ``key=a,b`` lists several values."""
    return len(_split(item.partition("=")[2])) > 1


def _seeds(count: int) -> str:
    return ",".join(str(seed) for seed in range(count))


def _split(text: str) -> list[str]:
    """``text`` at its commas, but not within brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]
