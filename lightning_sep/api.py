"""What the commands do, from Python: train, sweep, rank."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sep.errors import SweepError
from lightning_sep.experiment import Result, run
from lightning_sep.homes import runs_home
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.document import as_json
from lightning_sep.settings import compose
from lightning_sep.use import frame_library

if TYPE_CHECKING:
    import pandas


def train(
    overrides: Sequence[str] = (),
    *,
    home: Path | str | None = None,
    config_dir: Path | str | None = None,
    train_on: Path | str | None = None,
) -> Result:
    """Train and test one run, go on with it, or show it from its record, as the command does.

    Args:
        overrides: ``["head=sine", "trainer.epochs=3"]``, as on the command line.
        home: folder of all runs; ``None`` is ``LIGHTNING_SEP_HOME`` or ``runs/``.
        config_dir: a folder with entries of your own, beside ``conf/`` of the working folder.
        train_on: a finished run of fewer epochs, and else the same settings, to go on from.

    Returns:
        The run's id, folder, state and record.

    Raises:
        ConfigError: a setting cannot be used.
        DataError: the data are not prepared, or not usable.
        Busy: another process trains this run.
    """
    settings = compose(overrides, config_dir)
    return run(settings, home=Path(home or runs_home()), train_on=train_on)


def sweep(
    file: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    grid: Sequence[str] = (),
    home: Path | str | None = None,
    name: str | None = None,
    **options: Any,
) -> "pandas.DataFrame":
    """Launch a sweep or go on with it, wait until it is done and give its trials.

    Args:
        file: a sweep's file.
        overrides: settings for all trials.
        grid: in place of a file: ``["head=tanh,sine", "seed=0,1"]``.
        home: folder of all runs; ``None`` is ``LIGHTNING_SEP_HOME`` or ``runs/``.
        name: of the sweep; that of its file without one.
        options: ``trials``, ``finalists``, ``workers``, ``enqueue``, ``time_budget_s``,
            ``config_dir``, as :func:`lightning_sep.sweep.commands.launch` takes them.

    Returns:
        A row per trial: its state, value, settings, runs, and why it failed.
        :func:`leaderboard` ranks what was confirmed on fresh seeds.

    Raises:
        ConfigError: a definition or a setting cannot be used, or the sweep asks something else now.
        SweepError: it ended before the work was done, or no setting finished.
    """
    from lightning_sep.sweep import asked, commands
    from lightning_sep.sweep.names import sweep_folder

    where = Path(home or runs_home())
    files = [] if file is None else [file]
    chosen = {key: options.get(key) for key in ("trials", "finalists")}
    config = options.get("config_dir")
    _, shared = asked.apart(overrides)
    [definition] = asked.definitions_of(
        files, shared, grid or False, name=name, config_dir=config and str(config), **chosen
    )
    code = commands.launch(files, overrides, grid=grid or False, name=name, home=where, **options)
    if code:
        raise SweepError(f"{definition.name}: ended with {code}; the same call goes on")
    found = json.loads((sweep_folder(where, definition.name) / "trials.json").read_text())
    rows = []
    for trial in found["trials"]:
        settings = dict(one.partition("=")[::2] for one in trial.pop("overrides"))
        rows.append({"number": trial.pop("number"), **settings, **trial})
    frame: pandas.DataFrame = frame_library("sweep()").DataFrame(rows)
    return frame


def leaderboard(name: str | None = None, home: Path | str | None = None) -> "pandas.DataFrame":
    """A sweep's board as a data frame: a row per setting, the best first.

    Args:
        name: of the sweep; ``"single"`` for the runs outside of sweeps, ``None`` for all sweeps.
        home: folder of all runs; ``None`` is ``LIGHTNING_SEP_HOME`` or ``runs/``.

    Returns:
        ``board``, ``task``, ``metric``, the settings that tell rows apart, ``mean``, ``low`` and
        ``high`` (the 95 % interval), ``seeds``, ``may_be_best``, ``parameters``, ``wall_s``,
        ``run_id`` and ``reasons``: what is not ranked says why.

    Raises:
        ConfigError: there is no such board, or pandas is not installed.
    """
    found = as_json(load_boards(Path(home or runs_home()), None if name is None else [name]))
    rows = []
    for board in found["boards"]:
        about = {"board": board["name"], "task": board["task"], "metric": board["metric"]["key"]}
        for row in (*board["rows"], *board["apart"]):
            low, high = row["interval"] or (None, None)
            rows.append(
                {
                    **about,
                    **row["settings"],
                    **{"mean": row["mean"], "low": low, "high": high, "seeds": len(row["seeds"])},
                    **{key: row[key] for key in ("may_be_best", "parameters", "wall_s", "run_id")},
                    "reasons": "; ".join(row.get("reasons", ())),
                }
            )
    frame: pandas.DataFrame = frame_library("leaderboard()").DataFrame(rows)
    return frame
