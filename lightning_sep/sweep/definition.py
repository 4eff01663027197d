"""A sweep's definition: the question, its search space and its budget, read from a Python file."""

import ast
import hashlib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from optuna.pruners import BasePruner
from optuna.trial import BaseTrial

from lightning_sep.errors import ConfigError
from lightning_sep.sweep import space

FINAL_SEED = 1000  # finals use seeds from here on, the search those from 0 on: never the same

RACED, CHOSEN = 10, 2  # finalists where a sweep does not say: of a race, and without one

# Changing these asks no other question: the sweep just goes on with more or fewer trials.
_BUDGET_FIELDS = ("trials", "question", "attempts")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A question, how to judge its answers, and how much work they may cost.

    Args:
        settings: overrides that all trials share.
        metric: what a trial is judged by, a validation metric that its task monitors.
        direction: "maximize" or "minimize".
        trials: how many settings are tried, at most.
        repeats: seeds per setting in the search (0, 1, ...); a setting is judged by their mean.
        finalists: how many of the best settings are run again on fresh seeds, at most; None: ten in
            a race, else two.
        final_seeds: how many fresh seeds each finalist gets (1000, 1001, ...).
        race: drop a finalist as soon as it is behind the best one by the paired differences of
            their validation scores; its seeds that are left are not run. None: in a space that is
            small enough to be walked point by point.
        pruner: stops trials that look poor early; None lets all of them finish. Only the first
            repeat of a setting reports to it.
        question: one sentence for the report.
        attempts: how often a trial whose worker dies without getting any further is tried.
    """

    settings: Sequence[str] = ()
    metric: str
    direction: Literal["maximize", "minimize"]
    trials: int
    repeats: int = 1
    finalists: int | None = None
    final_seeds: int = 5
    race: bool | None = None
    pruner: BasePruner | None = None
    question: str = ""
    attempts: int = 3

    def __post_init__(self) -> None:
        problems = []
        if isinstance(self.settings, str) or not all(isinstance(s, str) for s in self.settings):
            problems.append(
                f"settings = {self.settings!r}: a list of overrides is needed, such as "
                "['task=separation', 'head=tanh']"
            )
        if not isinstance(self.metric, str) or not self.metric.startswith("val/"):
            problems.append(
                f"metric = {self.metric!r}: a validation metric is needed, such as "
                "'val/si_sdr_improvement_db' (test metrics are for the board alone)"
            )
        if self.direction not in ("maximize", "minimize"):
            problems.append(f"direction = {self.direction!r}: 'maximize' or 'minimize' is needed")
        least = {"trials": 1, "repeats": 1, "finalists": 0, "final_seeds": 0, "attempts": 1}
        for field, low in least.items():
            value = getattr(self, field)
            if field == "finalists" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                problems.append(f"{field} = {value!r}: a whole number of at least {low} is needed")
        if self.race not in (None, True, False):
            problems.append(f"race = {self.race!r}: True, False or None is needed")
        if isinstance(self.repeats, int) and self.repeats > FINAL_SEED:
            problems.append(f"repeats = {self.repeats}: at most {FINAL_SEED} seeds are searched")
        if self.pruner is not None and not isinstance(self.pruner, BasePruner):
            problems.append(f"pruner = {self.pruner!r}: an optuna.pruners object or None is needed")
        if problems:
            raise ConfigError("; ".join(problems))
        object.__setattr__(self, "settings", tuple(self.settings))

    def settled(self, *, finite: bool) -> "Sweep":
        """The same with what was left open decided, for a space that is walked or not."""
        race = finite if self.race is None else self.race
        usual = RACED if race else CHOSEN
        return replace(
            self, race=race, finalists=usual if self.finalists is None else self.finalists
        )

    @property
    def most_finalists(self) -> int:
        """How many settings are run again on fresh seeds, at most."""
        if self.finalists is not None:
            return self.finalists
        return CHOSEN if self.race is False else RACED

    def most_runs(self, trials: int) -> int:
        """How many runs so many settings take: on the seeds of the search, and as finalists."""
        return trials * self.repeats + min(self.most_finalists, trials) * self.final_seeds

    @property
    def search_seeds(self) -> range:
        """Seeds of the repeats in the search."""
        return range(self.repeats)

    @property
    def fresh_seeds(self) -> range:
        """Seeds of the finals; the search never uses them."""
        return range(FINAL_SEED, FINAL_SEED + self.final_seeds)

    @property
    def sign(self) -> float:
        """1 where lower is better, -1 where higher is: times a value, the least is the best."""
        return -1.0 if self.direction == "maximize" else 1.0


@dataclass(frozen=True)
class Definition:
    """A sweep as it was read: its name, its source and what was added on the command line."""

    name: str
    path: str
    source: str
    extra: tuple[str, ...]
    sweep: Sweep
    propose: Callable[[BaseTrial], Iterator[str]]
    config_dir: str | None = None
    finalists: int | None = None  # given in place of the source's
    axes: tuple[str, ...] = ()  # of a grid, as they were typed

    @property
    def command(self) -> str:
        """What to type to begin this sweep, or to go on with it."""
        words = ["--grid", *self.axes] if self.axes else [self.path]
        words += [*self.extra, "--name", self.name]
        if self.finalists is not None:
            words += ["--finalists", str(self.finalists)]
        if self.config_dir is not None:
            words += ["--config-dir", self.config_dir]
        return shlex.join(["lightning-sep", "sweep", *words, "--trials", str(self.sweep.trials)])

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides which runs the sweep may propose and how it judges them.

        Comments, formatting, docstrings, the question's text and the budget of trials are left out.
        The points of a small finite space count: a file may list the entries of ``conf/``.
        """
        points = space.points(self.propose, limit=64)
        values = None if points is None else [point.values for point in points]
        asks = [] if self.finalists is None else [self.finalists]
        text = json.dumps([ast.dump(meaning_of(self.source)), list(self.extra), values, *asks])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def seed(self) -> int:
        """Seed of the sampler and of a grid's order, from the sweep's name."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")

    def proposed(self, trial: BaseTrial) -> list[str]:
        """The overrides that ``trial`` proposes.

        Raises:
            ConfigError: ``overrides`` yields something else than overrides.
        """
        found = list(self.propose(trial))
        for item in found:
            if not isinstance(item, str) or "=" not in item:
                raise ConfigError(
                    f"{self.path}: overrides(trial) yielded {item!r}; text such as 'head=tanh' "
                    "is needed"
                )
        return found

    def settings(self, proposed: Sequence[str], seed: int) -> list[str]:
        """All overrides of one run; what is proposed wins over what the sweep shares."""
        merged: dict[str, str] = {}
        for item in [*self.sweep.settings, *self.extra, *proposed, f"seed={seed}"]:
            merged.pop(override_key(item), None)
            merged[override_key(item)] = item
        return list(merged.values())

    def limited(self, trials: int) -> "Definition":
        """The same question with another budget."""
        return replace(self, sweep=replace(self.sweep, trials=trials))

    def grid(self) -> list[space.Point] | None:
        """The points of a small finite space, in a seeded random order; None for any other space.

        Such a space is walked point by point: a sampler that learns would propose some points
        again and leave others out.
        """
        found = space.points(self.proposed, limit=max(64, self.sweep.trials))
        if found is not None:
            Random(self.seed).shuffle(found)
        return found

    def check(self, compose: Callable[[list[str]], object]) -> int:
        """Compose settings from all over the space, so that a wrong one is refused before any work.

        Args:
            compose: called with the overrides of a run; raises for settings that cannot be used.

        Returns:
            The number of settings that were composed.

        Raises:
            ConfigError: a proposed setting cannot be used, the space overrides what the command
                line fixes, or a seed is given.
        """
        fixed = {override_key(item): item for item in (*self.sweep.settings, *self.extra)}
        if "seed" in fixed:
            raise ConfigError(
                f"{self.path}: {fixed['seed']} cannot be set, the sweep chooses the seeds itself; "
                "repeats= and final_seeds= say how many"
            )
        given = {override_key(item): item for item in self.extra}
        lists = self._samples()
        for proposed in lists:
            for item in proposed:
                key = override_key(item)
                if key == "seed":
                    raise ConfigError(
                        f"{self.path}: overrides(trial) yields {item}; the sweep chooses the seeds "
                        "itself, repeats= says how many"
                    )
                if key in given:
                    raise ConfigError(
                        f"{given[key]}: {key} is searched by {self.path}; leave it out, or copy "
                        "the sweep file and take it out of overrides(trial)"
                    )
            try:
                compose(self.settings(proposed, seed=0))
            except ConfigError as error:
                shown = " ".join(proposed) or "the shared settings"
                raise ConfigError(f"{self.path}, trial with {shown}: {error}") from error
        return len(lists)

    def _samples(self) -> list[list[str]]:
        try:
            return space.samples(self.proposed, seed=self.seed)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(_where(self.path, error)) from error


def load_sweep(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    trials: int | None = None,
    finalists: int | None = None,
    config_dir: str | None = None,
) -> Definition:
    """Read a sweep file.

    Args:
        overrides: settings from the command line, shared by all trials.
        name: the sweep's name; the file's without one.
        trials: another budget than the file's.
        finalists: another number of them than the file's.
        config_dir: a folder with the user's own entries of settings.

    Raises:
        ConfigError: the file cannot be read or run, lacks ``SWEEP`` or ``overrides``, or holds a
            value that cannot be used.
    """
    path = Path(path)
    inside = Path(__file__).parents[1] / "sweeps" / path.name  # in an installed wheel
    ours = path.parent == Path("sweeps") and not path.exists() and inside.is_file()
    try:
        source = (inside if ours else path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        known = sorted(str(p) for p in Path("sweeps").glob("*.py"))
        hint = f" Known: {', '.join(known)}." if known else " A Python file is needed."
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"no sweep file '{path}' ({reason}).{hint}") from error
    return read_sweep(
        source,
        str(path),
        overrides,
        name=name or path.stem,
        trials=trials,
        finalists=finalists,
        config_dir=config_dir,
    )


def read_sweep(
    source: str,
    path: str,
    overrides: Sequence[str] = (),
    *,
    name: str,
    trials: int | None = None,
    finalists: int | None = None,
    axes: Sequence[str] = (),
    config_dir: str | None = None,
) -> Definition:
    """A definition from the text of a sweep file; ``path`` is only for messages.

    Raises:
        ConfigError: as for `load_sweep`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(
            f"'{name}' cannot name a sweep: letters, digits, '_', '-' and '.' are allowed"
        )
    for item in overrides:
        if "=" not in item:
            raise ConfigError(f"'{item}' is not a setting; 'key=value' is needed")
    namespace: dict[str, Any] = {"__name__": f"sweep_{name}", "__file__": path}
    try:
        exec(compile(source, path, "exec"), namespace)
    except SyntaxError as error:
        text = (error.text or "").strip()
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}: {text}") from error
    except Exception as error:
        raise ConfigError(_where(path, error)) from error
    sweep, propose = namespace.get("SWEEP"), namespace.get("overrides")
    if not isinstance(sweep, Sweep):
        raise ConfigError(
            f"{path}: SWEEP = Sweep(...) is missing (from lightning_sep.sweep.definition import "
            f"Sweep); found {sweep!r}"
        )
    if not callable(propose) or len(inspect.signature(propose).parameters) != 1:
        raise ConfigError(
            f"{path}: def overrides(trial) is missing; it yields settings such as 'head=tanh'"
        )
    if finalists is not None:
        sweep = replace(sweep, finalists=finalists)
    told = (name, path, source, tuple(overrides), sweep, propose, config_dir)
    definition = Definition(*told, finalists=finalists, axes=tuple(axes))
    if trials is not None:
        try:
            definition = definition.limited(trials)
        except ConfigError as error:
            raise ConfigError(f"--trials: {error}") from error
    return definition


def override_key(item: str) -> str:
    """The key that an override sets: ``head`` of ``head=tanh`` and of ``+head=tanh``."""
    return item.partition("=")[0].lstrip("+~").strip()


def meaning_of(source: str) -> ast.Module:
    """The meaning of a sweep file: its syntax tree less docstrings, positions and the budget."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and (
            node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            node.body = node.body[1:]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Sweep"):
            node.keywords = [k for k in node.keywords if k.arg not in _BUDGET_FIELDS]
    return tree


def _where(path: str, error: BaseException) -> str:
    """One line for an error raised by the code of a sweep file."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = path if line is None else f"{path}, line {line}"
    if isinstance(error, ConfigError):
        return f"{place}: {error}"
    return f"{place}: {type(error).__name__}: {error}"
