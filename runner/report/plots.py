"""Pictures of many jobs as numbers for SVG: what jobs cost, how long they took, and how the money went.

Each picture is laid out in a box of 1000 x 300 that is stretched to the page's width; labels are text beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import NamedTuple

from runner.report.jobs import WORDS, Row, Word, title_of, word_of
from runner.report.units import duration, plural, usd
from runner.result import JobResult

WIDTH, HEIGHT = 1000, 300
BARS = 24
LAST_LABEL = 88
"""Percent of the axis: a label that begins further right would not fit."""
MOST_DOTS = 4_000
MOST_POINTS = 1_000


class Bar(NamedTuple):
    """A part of a bar: the jobs of one outcome in one class."""

    x: float
    y: float
    width: float
    height: float
    word: Word
    title: str


class Tick(NamedTuple):
    percent: float
    """Of the axis, from the left or the bottom."""
    label: str


class Dot(NamedTuple):
    x: float
    y: float
    word: Word
    title: str
    link: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    bars: list[Bar]
    across: list[Tick]
    up: list[Tick]


@dataclass(frozen=True, kw_only=True)
class Scatter:
    dots: list[Dot]
    across: list[Tick]
    up: list[Tick]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    line: str
    """Points of an SVG polyline."""
    across: list[Tick]
    up: list[Tick]


class Placed(NamedTuple):
    """A job and the folder that its report is in, relative to the batch's."""

    folder: str
    row: Row


def cost_histogram(rows: Sequence[Row]) -> Histogram | None:
    known = [(float(row.cost_usd), word_of(row)) for row in rows if row.cost_usd is not None]
    return _histogram(known, _money_step, _money)


def time_histogram(rows: Sequence[Row]) -> Histogram | None:
    known = [(row.seconds, word_of(row)) for row in rows if isinstance(row, JobResult)]
    return _histogram(known, _time_step, _time)


def _histogram(
    values: Sequence[tuple[float, Word]], nice: Callable[[float], float], label: Callable[[float], str]
) -> Histogram | None:
    """Bars stacked by outcome; the last takes all that is far out, or one such job would flatten the rest."""
    top = max((value for value, _ in values), default=0.0)
    if top <= 0:
        return None
    usual = quantiles([value for value, _ in values], n=10)[-1] if len(values) > 1 else top
    step = nice(min(top, 1.4 * max(usual, top / 1e6)) / BARS)
    count = min(BARS + 1, int(top / step) + 1)
    classes: list[dict[Word, int]] = [{} for _ in range(count)]
    for value, word in values:
        of_class = classes[min(int(value / step), count - 1)]
        of_class[word] = of_class.get(word, 0) + 1
    most = _nice(max(sum(of_class.values()) for of_class in classes))
    open_end = top >= count * step
    bars = [
        bar
        for number, of_class in enumerate(classes)
        for bar in _stack(number, of_class, count, most, _range(number, count, step, label, open_end=open_end))
    ]
    every = max(1, math.ceil(count / 6))
    across = [Tick(100 * n / count, label(n * step) if n else "0") for n in range(0, count, every)]
    across = [tick for tick in across if tick.percent <= LAST_LABEL]
    return Histogram(bars=bars, across=across, up=_counts(most))


def _range(number: int, count: int, step: float, label: Callable[[float], str], *, open_end: bool) -> str:
    low = label(number * step) if number else "0"
    return f"from {low}" if open_end and number == count - 1 else f"{low} to {label((number + 1) * step)}"


def _stack(number: int, of_class: dict[Word, int], count: int, most: float, span: str) -> Iterable[Bar]:
    width, y = WIDTH / count, float(HEIGHT)
    for word in WORDS:
        if jobs := of_class.get(word, 0):
            height = HEIGHT * jobs / most
            y -= height
            title = f"{span}: {plural(jobs, 'job')} {word.replace('_', ' ')}"
            yield Bar(number * width, y, width * 0.94, height, word, title)


def _counts(most: float) -> list[Tick]:
    return [Tick(50, f"{most / 2:,.0f}"), Tick(100, f"{most:,.0f}")] if most >= 2 else [Tick(100, f"{most:,.0f}")]


def _nice(count: float) -> float:
    """A round number not below, whose half is whole unless it is 1."""
    power = 10.0 ** math.floor(math.log10(count))
    factors = (1, 2, 4, 6, 8, 10) if power < 10 else (1, 1.2, 1.4, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
    return next(power * factor for factor in factors if power * factor >= count)


def _money(amount: float) -> str:
    """Of a mark on an axis: `$0.005`, `$0.50`, `$10`."""
    text = f"{amount:,.6g}"
    return f"${text}0" if re.fullmatch(r"[\d,]+\.\d", text) else f"${text}"


def _time(seconds: float) -> str:
    """Of a mark on an axis: `5 s`, `1 h`."""
    return duration(seconds).replace(".0 s", " s").replace(" h 00 min", " h")


def _money_step(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor >= value)


_TIME_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def _time_step(value: float) -> float:
    return next((step for step in _TIME_STEPS if step >= value), value) if value > 1 else _money_step(value)


_COSTS = (1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1, 10, 100, 1_000, 10_000)
_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3_600, 36_000, 360_000)


def scatter(placed: Sequence[Placed]) -> Scatter | None:
    """Time across, cost up, both in powers; what cost nothing lies on the ground."""
    known = [(folder, row) for folder, row in placed if isinstance(row, JobResult) and row.cost_usd is not None]
    costs, times = [float(row.cost_usd or 0) for _, row in known], [row.seconds for _, row in known]
    across, up = _Powers.over(times, _TIMES), _Powers.over(costs, _COSTS)
    if across is None or up is None:
        return None
    dots = [
        Dot(
            WIDTH * across.share(seconds),
            HEIGHT * (1 - up.share(cost)),
            row.outcome,
            f"{title_of(row)}: {row.outcome.replace('_', ' ')}, {usd(cost)}, {duration(seconds)}",
            folder,
        )
        for (folder, row), cost, seconds in zip(known, costs, times, strict=True)
    ]
    return Scatter(
        dots=dots[:MOST_DOTS],
        across=[tick for tick in across.ticks(_TIMES, _time) if tick.percent <= LAST_LABEL],
        up=up.ticks(_COSTS, _money),
        left_out=max(0, len(dots) - MOST_DOTS),
    )


class _Powers(NamedTuple):
    """A logarithmic axis."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float], marks: Sequence[float]) -> _Powers | None:
        """From a bit below the smallest to a bit above the largest, and with one of the marks within at least."""
        positive = [value for value in values if value > 0]
        if not positive:
            return None
        low, high = max(min(positive), max(positive) / 1e4) / 1.3, max(positive) * 1.3
        if not any(low <= mark <= high for mark in marks):
            low = max((mark for mark in marks if mark <= low), default=low)
        return cls(math.log(low), math.log(high))

    def share(self, value: float) -> float:
        """Of the way along the axis."""
        at = math.log(value) if value > 0 else self.low
        return min(1.0, max(0.0, (at - self.low) / (self.high - self.low)))

    def ticks(self, marks: Sequence[float], label: Callable[[float], str]) -> list[Tick]:
        within = [mark for mark in marks if self.low - 1e-9 <= math.log(mark) <= self.high]
        return [Tick(100 * self.share(mark), label(mark)) for mark in within]


def cost_curve(rows: Sequence[Row]) -> Curve | None:
    """What all jobs together had cost by the time each of them ended."""
    ends = sorted((row.ended_at, float(row.cost_usd or 0)) for row in rows if isinstance(row, JobResult))
    total = sum(cost for _, cost in ends)
    if len(ends) < 2 or not total:
        return None
    start = min(datetime.fromisoformat(row.started_at) for row in rows if row.started_at)
    elapsed = [(datetime.fromisoformat(end) - start).total_seconds() for end, _ in ends]
    whole = max(elapsed[-1], 1e-3)
    every, paid, points = 1 + len(ends) // MOST_POINTS, 0.0, [f"0,{HEIGHT}"]
    for number, (_, cost) in enumerate(ends):
        paid += cost
        if number % every == 0 or number == len(ends) - 1:
            points.append(f"{WIDTH * max(0.0, elapsed[number]) / whole:.1f},{HEIGHT * (1 - paid / total):.1f}")
    step = _time_step(whole / 5)
    marks = [n * step for n in range(int(whole / step) + 1) if 100 * n * step / whole <= LAST_LABEL]
    across = [Tick(100 * mark / whole, _time(mark) if mark else "0") for mark in marks]
    return Curve(line=" ".join(points), across=across, up=[Tick(50, usd(total / 2)), Tick(100, usd(total))])
