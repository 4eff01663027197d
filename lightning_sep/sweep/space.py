"""What a define-by-run search space can propose: all of its points, or a fair sample of them."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import BaseTrial

from lightning_sep.errors import ConfigError
from lightning_sep.sweep.inside_optuna import RecordingTrial

Overrides = Callable[[BaseTrial], Iterable[str]]


@dataclass(frozen=True)
class Point:
    """One point of a finite space.

    Args:
        values: the parameters.
        asked: where each of them was taken from.
        overrides: what the point proposes.
    """

    values: dict[str, Any]
    asked: dict[str, BaseDistribution]
    overrides: list[str]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        asked = {name: distribution_to_json(one) for name, one in self.asked.items()}
        return {"values": self.values, "asked": asked, "overrides": self.overrides}

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Point":
        """A point as `as_json` wrote it."""
        asked = {name: json_to_distribution(text) for name, text in content["asked"].items()}
        return cls(content["values"], asked, content["overrides"])


_LARGEST = 10_000  # values of one parameter beyond which it counts as continuous


class _Unbounded(Exception):
    """A parameter has more values than anybody would enumerate."""


class _Explorer(RecordingTrial):
    """Walks one path through the tree of choices; ``path`` holds the branch taken at each fork."""

    def __init__(self, path: list[int]) -> None:
        super().__init__()
        self.path = path
        self.widths: list[int] = []

    def decide(self, name: str, distribution: BaseDistribution) -> Any:
        values = _values(distribution)
        depth = len(self.widths)
        self.widths.append(len(values))
        if depth == len(self.path):
            self.path.append(0)
        return values[self.path[depth]]


class _Sampler(RecordingTrial):
    """Draws each value evenly, but for those that are forced."""

    def __init__(self, generator: random.Random, forced: dict[str, Any]) -> None:
        super().__init__()
        self.generator = generator
        self.forced = forced

    def decide(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self.forced:
            return self.forced[name]
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            return self.generator.uniform(distribution.low, distribution.high)
        try:
            return self.generator.choice(_values(distribution))
        except _Unbounded:
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            return distribution.low


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        count = (distribution.high - distribution.low) // distribution.step + 1
        if count <= _LARGEST:
            return [distribution.low + i * distribution.step for i in range(count)]
    if isinstance(distribution, FloatDistribution):
        if distribution.single():
            return [distribution.low]
        if distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            if count <= _LARGEST:
                return [distribution.low + i * distribution.step for i in range(count)]
    raise _Unbounded


def points(overrides: Overrides, *, limit: int) -> list[Point] | None:
    """Every point of a finite space, in the order of the file.

    Conditional spaces are followed branch by branch, so a parameter that only exists under one
    choice multiplies that choice alone.

    Returns:
        The points; None when a parameter is continuous or when there are
        more than ``limit`` points.
    """
    found: list[Point] = []
    path: list[int] = []
    while True:
        trial = _Explorer(path)
        try:
            proposed = list(overrides(trial))
        except _Unbounded:
            return None
        found.append(Point(trial.values, trial.asked, proposed))
        if len(found) > limit:
            return None
        path = path[: len(trial.widths)]
        while path and path[-1] + 1 == trial.widths[len(path) - 1]:
            path.pop()
        if not path:
            return found
        path[-1] += 1


def samples(overrides: Overrides, *, seed: int = 0, draws: int = 12) -> list[list[str]]:
    """Override lists that together show every categorical choice of a space; no list twice.

    A finite space of up to 64 points gives all of them.
    """
    finite = points(overrides, limit=64)
    if finite is not None:
        return _distinct(point.overrides for point in finite)
    generator = random.Random(seed)
    lists: list[list[str]] = []
    # A choice is forced together with the values that led to it: it may exist under them alone.
    open_choices: list[dict[str, Any]] = []
    known: set[tuple[str, Any]] = set()

    def draw(forced: dict[str, Any]) -> None:
        trial = _Sampler(generator, forced)
        lists.append(list(overrides(trial)))
        led: dict[str, Any] = {}
        for name, distribution in trial.asked.items():
            if isinstance(distribution, CategoricalDistribution):
                for choice in distribution.choices:
                    if (name, choice) not in known:
                        known.add((name, choice))
                        open_choices.append({**led, name: choice})
            led[name] = trial.values[name]

    for _ in range(draws):
        draw({})
    while open_choices:
        draw(open_choices.pop())
    return _distinct(lists)


def fixed(overrides: Overrides, settings: Sequence[str]) -> dict[str, Any]:
    """The values of parameters that settings such as ``head=tanh`` fix.

    Raises:
        ConfigError: the space has no parameter of that name beside the others, or not the value.
    """
    forced = {name: text for name, _, text in (one.partition("=") for one in settings)}
    values: dict[str, Any] = {}
    for _ in forced:  # a choice may bring others about
        trial = _Sampler(random.Random(0), values)
        list(overrides(trial))
        for name in forced.keys() & trial.asked.keys() - values.keys():
            values[name] = _value(trial.asked[name], forced[name], name)
    unknown = sorted(forced.keys() - values.keys())
    if unknown:
        known = ", ".join(trial.asked) or "none"
        item = f"{unknown[0]}={forced[unknown[0]]}"
        raise ConfigError(f"--enqueue {item}: no parameter of the sweep. Known: {known}")
    return values


def _value(distribution: BaseDistribution, text: str, name: str) -> Any:
    """The value of a parameter that is spelt like this."""
    if isinstance(distribution, CategoricalDistribution):
        found = [one for one in distribution.choices if _spelt(one) == _spelt(text)]
        wanted = ", ".join(str(one) for one in distribution.choices)
    else:
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        try:
            number = (int if isinstance(distribution, IntDistribution) else float)(text)
            found = [number] if distribution._contains(number) else []
        except ValueError:
            found = []
        wanted = f"{distribution.low} to {distribution.high}"
    if not found:
        raise ConfigError(f"--enqueue {name}={text}: not in the sweep's space, which has {wanted}")
    return found[0]


def _spelt(value: object) -> str:
    """A value as it is typed; numbers alike, however they are written."""
    try:
        return repr(float(str(value)))
    except ValueError:
        return str(value).lower()


def _distinct(lists: Any) -> list[list[str]]:
    return [list(item) for item in dict.fromkeys(tuple(one) for one in lists)]
