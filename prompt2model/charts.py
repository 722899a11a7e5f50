"""Where the marks of a chart stand: scores as dots with whiskers, counts as bars, and curves over steps.

Only arithmetic: the templates draw what is returned here, as inline SVG.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH = 640
ROW_HEIGHT = 34
NAMES_WIDTH = 130
"""Left of the dots."""
VALUES_WIDTH = 60
"""Right of the dots."""
BAR_NAMES_WIDTH = 230
"""Left of bars."""
BAR_HEIGHT = 24
MOST_CHARACTERS = 36
"""Of a bar's name."""
CURVE_HEIGHT = 220
MARGIN = 46
"""Around a curve, for its ticks."""
MOST_POINTS = 300
"""On one line; a longer one is drawn by means over equal stretches."""
MOST_MARKS = 30


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """One score and its interval."""

    name: str
    text: str
    y: float
    x: float
    low: float
    high: float
    is_main: bool


@dataclass(frozen=True)
class Dots:
    """A row for each contender, on one axis."""

    width: int
    height: int
    left: float
    right: float
    ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    points: tuple[tuple[float, float], ...]
    is_sparse: bool
    """Few enough points to mark each."""


@dataclass(frozen=True)
class Curves:
    """Lines over the same steps."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Bar:
    """One count."""

    name: str
    text: str
    y: float
    width: float
    end: float
    """Where its number stands."""


@dataclass(frozen=True)
class Bars:
    """A bar for each name, one below the other."""

    width: int
    height: int
    left: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Interval:
    """A named score to be drawn."""

    name: str
    value: float
    low: float
    high: float
    is_main: bool = False


def dots(intervals: Sequence[Interval]) -> Dots | None:
    """The scores on an axis that is just wide enough for their whiskers; none when there is no score."""
    if not intervals:
        return None
    ends = [end for one in intervals for end in (one.low, one.high, one.value)]
    ticks = _ticks(min(ends), max(ends))
    left, right = float(NAMES_WIDTH), float(WIDTH - VALUES_WIDTH)

    def place(value: float) -> float:
        return _between(value, ticks[0], ticks[-1], left, right)

    return Dots(
        width=WIDTH,
        height=ROW_HEIGHT * len(intervals) + 30,
        left=left,
        right=right,
        ticks=tuple(Tick(place(tick), _number(tick)) for tick in ticks),
        dots=tuple(
            Dot(
                name=one.name,
                text=f"{one.value:.1f}",
                y=ROW_HEIGHT * (row + 0.5),
                x=place(one.value),
                low=place(one.low),
                high=place(one.high),
                is_main=one.is_main,
            )
            for row, one in enumerate(intervals)
        ),
    )


def bars(counts: Sequence[tuple[str, int]]) -> Bars | None:
    """Counts as bars from zero on, in their order; none when there is none."""
    if not counts:
        return None
    left, most = float(BAR_NAMES_WIDTH), max(1, *(count for _, count in counts))
    room = WIDTH - VALUES_WIDTH - left
    return Bars(
        width=WIDTH,
        height=BAR_HEIGHT * len(counts) + 8,
        left=left,
        bars=tuple(
            Bar(
                name=_shortened(name),
                text=f"{count:,}",
                y=BAR_HEIGHT * row + 4.0,
                width=round(room * count / most, 1),
                end=round(left + room * count / most, 1) + 8,
            )
            for row, (name, count) in enumerate(counts)
        ),
    )


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"


def curves(lines: Iterable[tuple[str, Sequence[tuple[float, float]]]]) -> Curves | None:
    """Named lines of (step, value); values that are no number are left out, and with them lines without any."""
    numbers = {name: [point for point in points if math.isfinite(point[1])] for name, points in lines}
    drawn = {name: _thinned(points) for name, points in numbers.items() if points}
    if not drawn:
        return None
    steps = [step for points in drawn.values() for step, _ in points]
    values = [value for points in drawn.values() for _, value in points]
    x_ticks, y_ticks = _ticks(min(steps), max(steps)), _ticks(min(values), max(values))
    left, right, top, bottom = float(MARGIN), float(WIDTH - 12), 12.0, float(CURVE_HEIGHT - 30)

    def across(step: float) -> float:
        return _between(step, x_ticks[0], x_ticks[-1], left, right)

    def up(value: float) -> float:
        return _between(value, y_ticks[0], y_ticks[-1], bottom, top)

    return Curves(
        width=WIDTH,
        height=CURVE_HEIGHT,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=tuple(Tick(across(tick), _number(tick)) for tick in x_ticks),
        y_ticks=tuple(Tick(up(tick), _number(tick)) for tick in y_ticks),
        lines=tuple(
            Line(name, tuple((across(step), up(value)) for step, value in points), len(points) <= MOST_MARKS)
            for name, points in drawn.items()
        ),
    )


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    return round(start + (value - low) / (high - low) * (end - start), 1)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers that take in both ends."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    power = 10 ** math.floor(math.log10(high - low))
    sizes = (power * part for part in (0.1, 0.2, 0.5, 1, 2))
    size = next(size for size in sizes if (high - low) / size <= 6)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [round(index * size, 10) for index in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:g}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, or the means of equal stretches of them when they are too many to see."""
    if len(points) <= MOST_POINTS:
        return points
    cuts = [round(index * len(points) / MOST_POINTS) for index in range(MOST_POINTS + 1)]
    stretches = [points[start:end] for start, end in pairwise(cuts)]
    return [(_mean(step for step, _ in part), _mean(value for _, value in part)) for part in stretches]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
