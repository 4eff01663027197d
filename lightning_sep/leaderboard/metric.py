"""The metric that a board ranks by: its key in a record, direction, unit and trivial predictor."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.runs import Run


@dataclass(frozen=True)
class Baseline:
    """A predictor that needs no training; ``key`` names its measured score, if runs measure it."""

    label: str
    value: float | None
    key: str | None = None


@dataclass(frozen=True)
class Metric:
    """How one test metric is named, read and shown.

    Args:
        key: name in a record's metrics, ``test/...``.
        label: words for readers.
        unit: unit for readers, may be empty.
        higher_is_better: direction.
        scale: what a value is multiplied by before it is shown (100 for per cent).
        digits: decimals of a shown value.
        low: least possible value; intervals end there.
        high: greatest possible value.
        baselines: what a trivial predictor scores.
        extras: (key, column heading) of further test metrics in the table.
        per_unit: how the values per example make the score: their mean, a ratio of their sums, or
            a rate over trials in which each of them takes part many times.
        unit_name: what a new test set would bring more of.
    """

    key: str
    label: str
    unit: str
    higher_is_better: bool
    scale: float = 1.0
    digits: int = 3
    low: float | None = None
    high: float | None = None
    baselines: tuple[Baseline, ...] = ()
    extras: tuple[tuple[str, str], ...] = ()
    per_unit: Literal["mean", "ratio", "jackknife"] = "mean"
    unit_name: str = "example"

    @property
    def name(self) -> str:
        """The key without its stage, the name that monitor and test metric share."""
        return self.key.split("/", 1)[-1]

    def scale_of(self, key: str) -> float:
        """What values of ``key`` are multiplied by: this metric's scale on any stage, else 1."""
        return self.scale if key.split("/", 1)[-1] == self.name else 1.0

    def title_of(self, key: str) -> str:
        """``key`` with the unit in brackets, where it is this metric on any stage."""
        same = key.split("/", 1)[-1] == self.name
        return f"{key} ({self.unit})" if same and self.unit else key

    def renamed(self, key: str, higher_is_better: bool | None = None) -> "Metric":
        """This metric for its own key, another one's plain name for any other.

        Args:
            key: name in a record's metrics.
            higher_is_better: its direction, where somebody says it.

        Raises:
            ConfigError: nobody says it, and it is not known.
        """
        if key == self.key:
            if higher_is_better not in (None, self.higher_is_better):
                raise ConfigError(f"higher_is_better: {self.direction} for {key}; leave it out")
            return self
        higher = self._direction_of(key) if higher_is_better is None else higher_is_better
        if higher is None:
            raise ConfigError(
                f"metric {key}: whether more of it is better is not known; say higher_is_better: "
                "true or false beside it"
            )
        return Metric(key, key.split("/", 1)[-1].replace("_", " "), "", higher)

    def _direction_of(self, key: str) -> bool | None:
        """Whether more of a metric is better; None for one that is neither known nor like this."""
        name = key.split("/", 1)[-1]
        if re.fullmatch(rf"{re.escape(self.name)}(_q\d+)?", name):
            return self.higher_is_better
        if name == "loss" or name.startswith("loss_"):
            return False
        for known in _KNOWN.values():
            if key in (known.key, *(extra for extra, _ in known.extras)):
                return known.higher_is_better
        return None

    @property
    def floor(self) -> float | None:
        """What the worst of the trivial predictors scores, as far as it is known beforehand."""
        known = [one.value for one in self.baselines if one.value is not None]
        choose = min if self.higher_is_better else max
        return choose(known) if known else None

    @property
    def heading(self) -> str:
        """The label with its unit, as the head of a column."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label[:1].upper()}{self.label[1:]}{unit}"

    @property
    def direction(self) -> str:
        """Words for the direction."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def number(self, value: float | None, *, signed: bool = False) -> str:
        """A value as shown, without its unit; a signed one that is not 0 does not look like it."""
        if value is None:
            return "–"
        shown, sign = value * self.scale, "+" if signed else ""
        text = fixed(shown, self.digits, sign)
        if shown and float(text) == 0:
            text = f"{shown:+.1g}" if signed else text.removeprefix("-")
        return text.replace("-", "−")

    def with_unit(self, value: float | None) -> str:
        """A value as shown, with its unit."""
        return f"{self.number(value)} {self.unit}".strip()

    def clipped(self, low: float | None, high: float | None) -> tuple[float | None, float | None]:
        """An interval's ends inside the metric's possible values."""
        if low is not None and self.low is not None:
            low = max(low, self.low)
        if high is not None and self.high is not None:
            high = min(high, self.high)
        return low, high


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A number with its decimals; one that diverged, in powers of ten."""
    return f"{value:{sign}.{digits}f}" if abs(value) < 1e7 else f"{value:{sign}.3g}"


_KNOWN = {
    "separation": Metric(
        key="test/si_sdr_improvement_db",
        label="SI-SDR improvement",
        unit="dB",
        higher_is_better=True,
        digits=2,
        baselines=(Baseline("Mixture as estimate", 0.0),),
        unit_name="mixture",
    ),
    "autoregression": Metric(
        key="test/r2",
        label="R²",
        unit="",
        higher_is_better=True,
        high=1.0,
        baselines=(
            Baseline("Zero predictor", 0.0, "test/r2_zero"),
            Baseline("Repeat the last frame", None, "test/r2_repeat_last"),
        ),
        extras=(("test/r2_free_running", "R² free running"),),
        per_unit="ratio",
        unit_name="sequence",
    ),
    "verification": Metric(
        key="test/equal_error_rate",
        label="equal error rate",
        unit="%",
        higher_is_better=False,
        scale=100.0,
        digits=2,
        low=0.0,
        high=1.0,
        baselines=(Baseline("Chance", 0.5),),
        extras=(("test/min_dcf", "Min DCF"),),
        per_unit="jackknife",
        unit_name="speaker",
    ),
}

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def told_by_most(runs: Sequence[Run]) -> Run:
    """A run that monitors what most of them do; the first one where none says what.

    Args:
        runs: at least one.
    """
    counts = Counter(run.monitor for run in runs if run.monitor_name)
    usual = max(counts, key=counts.__getitem__, default=None)
    return next((run for run in runs if run.monitor == usual), runs[0])


def metric_of(run: Run) -> Metric:
    """The metric that runs of this one's task are ranked by.

    A task that this package does not know is ranked by the test side of what it monitors.
    """
    known = _KNOWN.get(run.task)
    if known is not None:
        return known
    name = run.monitor_name.split("/", 1)[-1] or "loss"
    return Metric(
        key=f"test/{name}",
        label=name.replace("_", " "),
        unit="",
        higher_is_better=run.monitor_mode != "min",
    )


def floor_of(key: str) -> float | None:
    """:attr:`Metric.floor` of a metric on any stage; None for one that this package does not know.

    Args:
        key: name in a record's metrics, ``val/...`` as well.
    """
    name = key.split("/", 1)[-1]
    return next((one.floor for one in _KNOWN.values() if one.name == name), None)
