"""What a command asks for: the sweeps, the launcher, and what workers are started for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_sep.errors import ConfigError
from lightning_sep.launchers.base import Assignment, Launcher
from lightning_sep.sweep.definition import Definition, load_sweep, override_key
from lightning_sep.sweep.grid import grid_sweep, is_axis
from lightning_sep.sweep.names import sweep_folder
from lightning_sep.sweep.runner import Examined, task_monitor


def apart(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings of the launcher, and those of all trials."""
    mine = [item for item in overrides if override_key(item).split(".")[0] == "launcher"]
    return mine, [item for item in overrides if item not in mine]


def definitions_of(
    files: Sequence[Path | str],
    overrides: Sequence[str],
    grid: bool | Sequence[str],
    *,
    trials: int | None = None,
    finalists: int | None = None,
    name: str | None = None,
    config_dir: str | None = None,
) -> list[Definition]:
    """The sweeps that a command asks for; see :func:`lightning_sep.sweep.commands.launch` for the
    arguments.

    Raises:
        ConfigError: a file or a grid cannot be used.
    """
    if files and grid:
        raise ConfigError(f"--grid and {files[0]}: a sweep is a file or a grid, not both")
    if grid:
        if grid is True:
            axes = [item for item in overrides if is_axis(item)]
            overrides = [item for item in overrides if item not in axes]
        else:
            assert not isinstance(grid, bool)
            axes = list(grid)
        metric, direction = task_monitor([*overrides, *(_first(axis) for axis in axes)], config_dir)
        definition = grid_sweep(
            axes,
            overrides,
            metric=metric,
            direction=direction,
            name=name,
            trials=trials,
            finalists=finalists,
            config_dir=config_dir,
        )
        return [definition]
    if not files:
        raise ConfigError("no sweep: a sweep file (sweeps/*.py) or --grid is needed")
    if name is not None and len(files) > 1:
        raise ConfigError(f"--name {name}: only one sweep file can be renamed, got {len(files)}")
    found = [
        load_sweep(
            path, overrides, name=name, trials=trials, finalists=finalists, config_dir=config_dir
        )
        for path in files
    ]
    names = [definition.name for definition in found]
    for one in names:
        if names.count(one) > 1:
            raise ConfigError(f"two sweep files are called '{one}'; rename one")
    return found


def _first(axis: str) -> str:
    key, _, values = axis.partition("=")
    return f"{key}={values.split(',')[0]}" if "[" not in values else axis


def launcher_of(overrides: Sequence[str], workers: int | None, config_dir: str | None) -> Launcher:
    """What starts the workers.

    Raises:
        ConfigError: its settings cannot be used.
    """
    from lightning_sep.settings import build, compose

    chosen = [*overrides, *([f"launcher.workers={workers}"] if workers is not None else [])]
    launcher = build(compose(chosen, config_dir).tree["launcher"])
    if not isinstance(launcher, Launcher):
        raise ConfigError(f"launcher: {type(launcher).__name__} is no Launcher")
    return launcher


def assignment(
    names: Sequence[str],
    command: Callable[[Sequence[str]], list[str]],
    home: Path,
    most: int,
    examined: Sequence[Examined],
) -> Assignment:
    """What workers of some sweeps are started for."""
    folders = [sweep_folder(home, name) for name in names]
    return Assignment(
        names,
        command(names),
        folders,
        home,
        most,
        threads=max(one.threads for one in examined),
        devices=max(one.devices for one in examined),
        nodes=max(one.nodes for one in examined),
    )
