"""A batch as a picture of a terminal's size: how far it is, what it cost, and what each job under way last did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from runner.batch.base import State
from runner.batch.board import Board, Phase, Working
from runner.batch.standing import Pace, Standing
from runner.errors import OUTCOMES, Outcome
from runner.ledger import in_usd
from runner.report.text import STYLES
from runner.report.units import duration, usd
from runner.report.visible import one_line

BETWEEN = " · "
_SMALL = 60
"""Columns; below, a job's row says less."""
_LOW = 20
"""Lines of a terminal; below, nothing of it is left to what has ended."""
_KEPT_FREE = 4
"""Lines that are, elsewhere."""

GOOD, WARNING, BAD = "green", "yellow", "red"


class Picture(NamedTuple):
    """All that is drawn. `height` is that of the terminal."""

    name: str
    board: Board
    standing: Standing
    pace: Pace
    seconds: float
    """Since this runner began."""
    width: int
    height: int


def draw(picture: Picture, now: float) -> Text:
    """At most as wide and as high as the terminal; what came from jobs is shown, and does nothing."""
    lines = [*_head(picture), *_state(picture)]
    room = picture.height - (_KEPT_FREE if picture.height >= _LOW else 1) - len(lines)
    lines += _jobs(picture, room, now)
    return Text("\n").join(_cut(line, picture.width) for line in lines[: max(1, picture.height - 1)])


# -- the batch


def _head(picture: Picture) -> list[Text]:
    """Name and progress, on one line where they fit."""
    name = Text(one_line(picture.name), style="bold")
    progress = Text(BETWEEN.join((clock(picture.seconds), progress_text(picture.standing, picture.pace))))
    gap = picture.width - name.cell_len - progress.cell_len
    return [Text.assemble(name, " " * gap, progress)] if gap >= 2 else [name, progress]


def progress_text(standing: Standing, pace: Pace) -> str:
    """`184 of 500 jobs · 15.2/min · ETA 21 min`."""
    parts = [f"{standing.ended:,} of {standing.jobs:,} jobs"]
    if rate := pace.per_minute():
        parts.append(f"{rate:,.1f}/min")
    left = standing.jobs - standing.ended
    if left and (seconds := pace.seconds_for(left)) is not None:
        parts.append(f"ETA {rough(seconds)}")
    return BETWEEN.join(parts)


def _state(picture: Picture) -> Iterable[Text]:
    standing, board = picture.standing, picture.board
    yield progress_bar(standing, picture.width)
    yield from folded(counts_text(standing), picture.width)
    yield _money(picture)
    if pace := board.pace():
        yield Text(pace, style=WARNING)
    if board.notice:
        yield Text(board.notice, style=f"bold {WARNING}")


def progress_bar(standing: Standing, width: int) -> Text:
    """What ended well, with a warning, badly; what is worked on; what waits."""
    ended = {style: 0 for style in (GOOD, WARNING, BAD)}
    for outcome, count in standing.counts.outcomes.items():
        ended[tone(outcome)] += count
    parts = [(count, "━", style) for style, count in ended.items()]
    parts += [(standing.working, "╍", "cyan"), (standing.queued, "─", "dim")]
    return _bar(parts, width)


def _bar(parts: Sequence[tuple[int, str, str]], width: int) -> Text:
    """Each part as long as its share, rounded so that all together are `width`; empty when all are 0."""
    total, done, bar = sum(count for count, _, _ in parts) or 1, 0, Text()
    for count, glyph, style in parts:
        until = round((done + count) * width / total)
        bar.append(glyph * (until - round(done * width / total)), style)
        done += count
    return bar


def tone(outcome: Outcome) -> str:
    """The colour of an outcome, as in a job's own summary."""
    return STYLES.get(outcome, BAD).removeprefix("bold ")


def counts_text(standing: Standing, *, left: bool = False) -> list[Text]:
    """`solved 120`, …, `4 running`, `312 queued`: what is not 0. `left`: nobody works on what is under way."""
    ended = [(outcome, count) for outcome in OUTCOMES if (count := standing.counts.outcomes.get(outcome))]
    parts = [Text.assemble((outcome, tone(outcome)), f" {count:,}") for outcome, count in ended]
    if left and standing.working:
        parts.append(Text.assemble((f"{standing.working:,} half-way", WARNING)))
    for state, (word, style) in _STATES.items():
        count = standing.counts.states.get(state)
        if count and (state == "queued" or not left):
            parts.append(Text.assemble((f"{count:,} {word}", style)))
    return parts


_STATES: dict[State, tuple[str, str]] = {
    "leased": ("starting", "cyan"),
    "running": ("running", "cyan"),
    "checking": ("checking", "cyan"),
    "queued": ("queued", "dim"),
}


def folded(parts: Sequence[Text], width: int) -> list[Text]:
    """The parts side by side, on as many lines as it takes."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(BETWEEN) + part.cell_len <= width:
            lines[-1].append(BETWEEN, "dim").append_text(part)
        else:
            lines.append(part.copy())
    return lines


def _money(picture: Picture) -> Text:
    """What is spent; against a cap, as a bar."""
    totals, cap = picture.standing.totals, picture.standing.cap
    words = Text(money_text(picture.standing))
    room = min(30, picture.width - words.cell_len - 2)
    if not cap or room < 5:
        return words
    sure = totals.spent + totals.doubtful
    parts = [(sure, "━", WARNING if sure > cap * 0.9 else GOOD), (totals.reserved, "╍", "cyan")]
    rest = max(0, cap - sure - totals.reserved)
    return words.append("  ").append_text(_bar([*parts, (rest, "─", "dim")], room))


def money_text(standing: Standing) -> str:
    """`$12.34 of $50.00 · $1.20 set aside · $0.10 in doubt`."""
    totals, cap = standing.totals, standing.cap
    parts = [f"{usd(in_usd(totals.spent))}{f' of {usd(in_usd(cap))}' if cap is not None else ''}"]
    if totals.reserved:
        parts.append(f"{usd(in_usd(totals.reserved))} set aside")
    if totals.doubtful:
        parts.append(f"{usd(in_usd(totals.doubtful))} in doubt")
    return BETWEEN.join(parts)


# -- its jobs


class Column(NamedTuple):
    head: str
    width: int
    right: bool
    text: Callable[[Working, float], str]
    small: bool
    """Shown on a narrow terminal as well."""


def _columns(jobs: Sequence[Working], width: int, now: float) -> list[Column]:
    widest_job = max((cell_len(_name(job)) for job in jobs), default=8)
    longest = max((len(clock(now - job.since)) for job in jobs), default=0)
    columns = [
        Column("job", min(widest_job, max(8, width // 3)), False, lambda job, now: _name(job), True),
        Column("state", 8, False, lambda job, now: job.phase, False),
        Column("turn", 4, True, lambda job, now: str(job.turns or ""), False),
        Column("cost", 7, True, lambda job, now: usd(job.cost_usd) if job.turns else "", False),
        Column("time", max(5, longest), True, lambda job, now: clock(now - job.since), True),
    ]
    return [column for column in columns if column.small or width >= _SMALL]


def _name(job: Working) -> str:
    again = f" #{job.attempt}" if job.attempt > 1 else ""
    return f"{one_line(job.job)}{again}"


_LEAST_ROOM = 4
"""Lines: an empty one, the heads, one job, and how many more there are."""


def _jobs(picture: Picture, room: int, now: float) -> Iterable[Text]:
    """A row for each job under way, as many as there is room for; two lines each, with its title, where all fit so."""
    working = picture.board.working()
    if not working or room < _LEAST_ROOM:
        return
    tall = working * 2 + 2 <= room
    fit = working if working + 2 <= room else room - 3
    jobs = picture.board.rows(fit)
    columns = _columns(jobs, picture.width, now)
    yield Text()
    yield Text(_row([column.head for column in columns], columns) + ("title" if tall else "last"), "dim")
    for job in jobs:
        cells = _row([column.text(job, now) for column in columns], columns)
        row = Text.assemble((cells, _PHASE_STYLES.get(job.phase, "")))
        if tall:
            yield row.append(job.title)
            yield Text(f"  {job.line}", "dim")
        else:
            yield row.append(job.line, "dim")
    if working > len(jobs):
        yield Text(f"and {working - len(jobs):,} more", "dim")


_PHASE_STYLES: dict[Phase, str] = {
    "asks": f"bold {WARNING}",
    "checking": "cyan",
    "starting": "dim",
    "playing": "magenta",
}


def _row(cells: Sequence[str], columns: Sequence[Column]) -> str:
    shown = [_fit(cell, column.width, right=column.right) for cell, column in zip(cells, columns, strict=True)]
    return "".join(f"{cell}  " for cell in shown)


def _fit(text: str, width: int, *, right: bool) -> str:
    """Exactly so many columns of the terminal."""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def clock(seconds: float) -> str:
    """`2:04`, `1:02:04`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rough(seconds: float) -> str:
    """An estimate, no more exact than it is: `40 s`, `21 min`, `2 h 07 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds / 5)) * 5} s"
    return duration(round(seconds / 60) * 60)
