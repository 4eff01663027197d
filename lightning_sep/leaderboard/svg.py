"""Scales, ticks and text of the forest plot: static SVG, drawn here, styled by the page's sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` of a quantity to ``start..end`` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = 0.5 if self.high == self.low else (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0), 1) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside the scale."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
        lowest = math.ceil(self.low / step - 1e-9)
        highest = math.floor(self.high / step + 1e-9)
        return [round(count * step, 12) for count in range(lowest, highest + 1)]


def around(values: Sequence[float], *, margin: float = 0.06) -> tuple[float, float]:
    """A range that holds ``values`` with some air; one value alone gets air too."""
    low, high = min(values), max(values)
    air = (high - low) * margin or abs(high) * 0.05 or 1.0
    return low - air, high + air


def tick_text(value: float) -> str:
    """A tick's number, with a true minus sign."""
    text = f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"
    for long, short in ((".0e", "e"), ("e-0", "e-"), ("e+0", "e"), ("-", "−")):
        text = text.replace(long, short)
    return text


def px(value: float) -> str:
    """A coordinate; a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def path(kind: str, steps: str) -> str:
    """A path of a CSS class."""
    return f'<path class="{kind}" d="{steps}"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "t") -> str:
    """Text with its baseline at ``y``."""
    return (
        f'<text class="{kind}" x="{px(x)}" y="{px(y)}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
