"""Scales, ticks and text of the plots: static SVG, drawn here, styled by the page's sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

MARKERS = 6  # shapes that `marker` knows, so that no series is told by its colour alone


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` of a quantity to ``start..end`` in pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside the scale."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            decades = [10.0**power for power in range(first, last + 1)]
            every = math.ceil(len(decades) / wanted) or 1
            return decades[::every] if len(decades) > 1 else [self.low, self.high]
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


def robust_range(values: Sequence[float]) -> tuple[float, float]:
    """A range that a few wild values do not stretch; those are drawn at its edge."""
    ordered = sorted(values)
    first, third = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    reach = 3 * (third - first) or math.inf
    return around([value for value in ordered if first - reach <= value <= third + reach])


def tick_text(value: float) -> str:
    """A tick's number, with a true minus sign."""
    text = f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"
    for long, short in ((".0e", "e"), ("e-0", "e-"), ("e+0", "e"), ("-", "−")):
        text = text.replace(long, short)
    return text


def px(value: float) -> str:
    """A coordinate; a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def points(pairs: Sequence[tuple[float, float]]) -> str:
    """Coordinates of a polyline."""
    return " ".join(f"{px(x)},{px(y)}" for x, y in pairs)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a CSS class."""
    return f'<line class="{kind}" x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "t") -> str:
    """Text with its baseline at ``y``."""
    return (
        f'<text class="{kind}" x="{px(x)}" y="{px(y)}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def marker(shape: int, x: float, y: float, size: float = 4.0, kind: str = "") -> str:
    """One of six shapes around a point: circle, square, triangle, diamond, hexagon, cross."""
    corners: list[tuple[float, float]]
    number = shape % MARKERS
    if number == 0:
        return f'<circle class="{kind}" cx="{px(x)}" cy="{px(y)}" r="{px(size)}"/>'
    if number == 1:
        corners = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    elif number == 2:
        corners = [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)]
    elif number == 3:
        corners = [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)]
    elif number == 4:
        corners = [(-1.1, 0), (-0.55, -1), (0.55, -1), (1.1, 0), (0.55, 1), (-0.55, 1)]
    else:
        corners = [(-1.2, -0.4), (-0.4, -0.4), (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4)]
        corners += [(-dx, -dy) for dx, dy in corners]
    outline = points([(x + size * dx, y + size * dy) for dx, dy in corners])
    return f'<polygon class="{kind}" points="{outline}"/>'


def cross(x: float, y: float, size: float, kind: str) -> str:
    """A cross of two strokes, for what came to nothing."""
    return (
        f'<path class="{kind}" d="M{px(x - size)} {px(y - size)}L{px(x + size)} {px(y + size)}'
        f'M{px(x - size)} {px(y + size)}L{px(x + size)} {px(y - size)}"/>'
    )


def svg(width: float, height: float, title: str, body: Sequence[str], *, kind: str) -> str:
    """A whole image with the words that stand for it."""
    return (
        f'<svg class="{kind}" role="img" viewBox="0 0 {px(width)} {px(height)}" '
        f'width="{px(width)}" height="{px(height)}"><title>{escape(title)}</title>'
        f"{''.join(body)}</svg>"
    )


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Labels' heights moved as little as needed to be ``gap`` apart, in the order given."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    if order and moved[order[-1]] > high:
        moved[order[-1]] = high
        for after, before in pairwise(order[::-1]):
            moved[before] = max(low, min(moved[before], moved[after] - gap))
    return moved
