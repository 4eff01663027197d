"""Everything that can be found out about a sweep before its workers are sent."""

import json as json_text
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError, Interrupted, LightningSepError, NoRoom, one_line
from lightning_sep.homes import runs_home
from lightning_sep.launchers.base import worker_command
from lightning_sep.sweep import asked, space
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.runner import ExperimentRunner

STEPS = 4  # of which the first one warms up


@dataclass(frozen=True)
class Tried:
    """A setting that made some real steps of training.

    Args:
        sweep: that reaches it.
        overrides: that the sweep proposes.
        shows: entries of ``conf/`` that no setting before it had.
        step_s: seconds of a step.
        steps: of a whole run.
        size_mb: of the files that a run keeps.
    """

    sweep: str
    overrides: list[str]
    shows: list[str]
    step_s: float
    steps: int
    size_mb: float


@dataclass
class Found:
    """What was found out."""

    problems: list[str] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    runs: int = 0
    device_hours: float | None = None
    free_gb: float | None = None
    needed_gb: float | None = None

    @classmethod
    def read(cls, text: str) -> "Found":
        """What another process has found out and printed as JSON.

        Raises:
            ConfigError: it has printed none.
        """
        try:
            content = json_text.loads(text)
        except ValueError as error:
            raise ConfigError(
                "nothing could be tried on the node: its own words are above"
            ) from error
        tried = [Tried(**one) for one in content.pop("tried")]
        del content["home"]
        return cls(**content, tried=tried)


def preflight(
    files: Sequence[Path | str] = (),
    overrides: Sequence[str] = (),
    *,
    grid: bool = False,
    name: str | None = None,
    home: Path | None = None,
    config_dir: Path | str | None = None,
    json: bool = False,
    here: bool = False,
    wait_s: float = 300,
) -> int:
    """Try what a sweep needs, and start nothing: disk, nodes, and each entry that it reaches.

    Args:
        files: sweep files.
        overrides: settings for all trials, and of the launcher.
        grid: a sweep over all combinations of ``overrides`` instead of files.
        name: another name than the file's.
        home: folder of all runs.
        config_dir: a folder with the user's own entries of settings.
        json: print one JSON document.
        here: train on this machine, wherever the workers would run.
        wait_s: how long room on a node is waited for.

    Returns:
        The exit code: 0 when nothing was found that speaks against it, else 2, or 75 when no node
        was free to find it out.

    Raises:
        ConfigError: a definition or a setting cannot be used.
    """
    home = runs_home() if home is None else home
    folder = str(Path(config_dir).expanduser().resolve()) if config_dir is not None else None
    mine, shared = asked.apart(overrides)
    definitions = asked.definitions_of(files, shared, grid, name=name, config_dir=folder)
    launcher = asked.launcher_of(mine, None, folder)
    runner = ExperimentRunner(home, folder)
    examined = [runner.examine(definition) for definition in definitions]
    found = Found(runs=sum(_runs(definition) for definition in definitions))
    busy = False
    try:
        with _place(home) as place:
            names = [definition.name for definition in definitions]
            work = asked.assignment(names, worker_command, home, found.runs, examined)
            found.problems += launcher.check(work)
            said = None
            if not here and not found.problems:
                command = _the_same(files, shared, grid, name, folder)
                said = launcher.step(work, command, wait_s, partial(_tell, json))
            if said is not None:
                found = Found.read(said)
            elif here or not found.problems:
                for definition in definitions:
                    for tried in _covering(definition, folder, place, found.problems):
                        found.tried.append(tried)
                        _tell(json, _line(tried))
                found.free_gb = round(shutil.disk_usage(place).free / 1e9, 2)
                _estimate(found, definitions)
    except NoRoom as error:
        busy = True
        found.problems.append(f"{error}. --wait N waits longer, --here trains on this machine")
    except LightningSepError as error:
        found.problems.append(str(error))
    except OSError as error:
        found.problems.append(f"{home} cannot be written: {error.strerror or error}")
    _say(found, home, json)
    if busy:
        return NoRoom.exit_code
    return 2 if found.problems else 0


def _the_same(
    files: Sequence[Path | str],
    overrides: Sequence[str],
    grid: bool,
    name: str | None,
    config_dir: str | None,
) -> list[str]:
    """The command that trains the few steps on the machine where it runs."""
    options = ["--here", "--json", *(["--grid"] if grid else [])]
    options += [] if name is None else ["--name", name]
    options += [] if config_dir is None else ["--config-dir", config_dir]
    paths = [str(Path(one).resolve()) for one in files]
    return [sys.executable, "-m", "lightning_sep", "preflight", *options, *paths, *overrides]


def _tell(json: bool, line: str) -> None:
    """A line while it goes on, which is no part of a document."""
    print(line, file=sys.stderr if json else sys.stdout, flush=True)


def _runs(definition: Definition) -> int:
    """Trials and final runs, at most."""
    sweep, points = definition.sweep, definition.grid()
    trials = sweep.trials if points is None else min(sweep.trials, len(points))
    return sweep.most_runs(trials)


@contextmanager
def _place(home: Path) -> Iterator[Path]:
    """A temporary folder on the disk of all runs; the home is gone again where there was none."""
    made = [one for one in (home, *home.parents) if not one.exists()]
    home.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".preflight-") as place:
            yield Path(place)
    finally:
        for one in made:
            with suppress(OSError):  # somebody else has put something there
                one.rmdir()


def _covering(
    definition: Definition, config_dir: str | None, place: Path, problems: list[str]
) -> Iterator[Tried]:
    """Train a few steps with settings that together have every entry that the space reaches."""
    from lightning_sep.settings import compose
    from lightning_sep.warm_start import pinned

    known: set[str] = set()
    for proposed in space.samples(definition.proposed, seed=definition.seed):
        given = definition.settings(proposed, 0)
        settings = pinned(compose([*given, "tracking=none"], config_dir), place.parent)
        entries = {f"{group}={entry}" for group, entry in settings.choices.items()}
        shows = sorted(entries - known)
        if not shows:
            continue
        known |= entries
        try:
            step_s, steps, size = _train(settings, place)
        except Exception as error:
            which = " ".join(proposed) or "its settings"
            problems.append(f"{definition.name}: {which}: {one_line(error)}")
            continue
        yield Tried(definition.name, proposed, shows, step_s, steps, round(size / 1e6, 3))


def _train(settings: Any, place: Path) -> tuple[float, int, int]:
    """Seconds of a step, steps of a whole run, and bytes of what is kept of it."""
    from lightning_sep import experiment
    from lightning_sep.parts import build_parts, loader_of, open_data

    times: list[float] = []

    def enough() -> bool:
        times.append(time.perf_counter())
        return len(times) >= STEPS

    data = open_data(settings)
    steps = len(loader_of(settings.tree, build_parts(settings, data))("train"))
    # What several devices would share, one does here: the same numbers, in as many device hours.
    trainer = {**settings.tree["trainer"], "devices": 1, "nodes": 1}
    alone = replace(settings, tree={**settings.tree, "trainer": trainer})
    with suppress(Interrupted):
        experiment.run(alone, data=data, home=place, purpose="search", should_stop=enough)
    pauses = [after - before for before, after in pairwise(times)]
    size = sum(one.stat().st_size for one in place.rglob("*") if one.is_file())
    for one in place.iterdir():
        shutil.rmtree(one)
    step_s = statistics.median(pauses) if pauses else 0.0
    return step_s, steps * settings.tree["trainer"]["epochs"], size


def _estimate(found: Found, definitions: Sequence[Definition]) -> None:
    """Device hours and disk of all runs, by those that were tried."""
    if not found.tried:
        return
    hours, size_mb = 0.0, 0.0
    for definition in definitions:
        own = [one for one in found.tried if one.sweep == definition.name]
        if own:
            runs = _runs(definition)
            hours += runs * statistics.mean(one.step_s * one.steps for one in own) / 3600
            size_mb += runs * statistics.mean(one.size_mb for one in own)
    found.device_hours = round(hours, 4)
    found.needed_gb = round(size_mb / 1000, 4)
    if found.free_gb is not None and found.needed_gb > found.free_gb:
        found.problems.append(
            f"{found.runs} runs take about {found.needed_gb:.3g} GB, and {found.free_gb:.3g} GB of "
            "the disk are free"
        )


def _line(tried: Tried) -> str:
    return (
        f"{tried.sweep}: {' '.join(tried.overrides) or 'its settings'}: "
        f"{1000 * tried.step_s:.3g} ms a step, {tried.steps} steps"
    )


def _say(found: Found, home: Path, json: bool) -> None:
    if json:
        content = {**asdict(found), "home": str(home)}
        print(json_text.dumps(content, indent=1))
        return
    if found.device_hours is not None:
        print(
            f"{found.runs} runs at most: about {found.device_hours:.3g} device hours of training "
            f"steps, as fast as here, and {found.needed_gb:.3g} GB of {found.free_gb} GB free"
        )
    for problem in found.problems:
        print(f"lightning-sep: error: {problem}", file=sys.stderr)
    if not found.problems:
        print("nothing speaks against it")
