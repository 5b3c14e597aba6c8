"""What is said when a batch's runner goes away: what came of it, what it cost, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from runner.batch.base import BatchSpec, JobRow
from runner.batch.picture import clock, money_text, progress_bar, tone
from runner.batch.scheduler import WORST_FIRST, Summary
from runner.batch.standing import Standing
from runner.errors import EXIT_CODES, OUTCOMES, Outcome
from runner.report.units import plural
from runner.report.visible import one_line

WIDTH = 80
MOST_FAILURES = 10

AGAIN: tuple[Outcome, ...] = ("provider_error", "sandbox_error", "checks_error", "repo_error")
"""Outcomes that say nothing of the work: ours, or the outside's."""


def summary_lines(
    spec: BatchSpec,
    summary: Summary,
    failed: Sequence[JobRow],
    *,
    typed: str,
    report: Path | None,
    width: int = WIDTH,
) -> Iterator[Text]:
    """`failed`: the jobs that ended badly; `typed`: how a command line names the batch.

    At most so wide, but for a path or a command, which must be whole.
    """
    standing = Standing.of(spec, summary.counts, summary.totals)
    yield Text.assemble(_word(summary, standing), "  ", (one_line(spec.id), "bold"))
    yield progress_bar(standing, width)
    yield from _outcomes(standing)
    if failed:
        yield Text()
        yield from _failures(failed, width)
    yield Text()
    yield _row("cost", money_text(standing))
    yield _row("time", _time(summary))
    if report:
        yield _row("report", one_line(str(report)))
    if command := next_command(typed, standing, short=summary.why == "batch.cost_usd"):
        yield _row("next", command)


def next_command(typed: str, standing: Standing, *, short: bool = False, stopping: bool = False) -> str:
    """What a person would most likely type next; "" for nothing. `short`: of money."""
    if stopping:
        return f"claw-runner status {typed}"
    if standing.ended < standing.jobs:
        return f"claw-runner resume {typed}{' --cost-usd MORE' if short else ''}"
    again = [outcome for outcome in AGAIN if standing.counts.outcomes.get(outcome)]
    return f"claw-runner retry {typed} --outcome {','.join(again)}" if again else ""


def _word(summary: Summary, standing: Standing) -> Text:
    words = {"done": "DONE", "stopped": "STOPPED", "batch.cost_usd": "OUT OF MONEY"}
    style = "bold green" if summary.exit_code == 0 else "bold yellow"
    ended = f"{standing.ended:,} of {plural(standing.jobs, 'job')} ended"
    return Text.assemble((words[summary.why], style), f"  {ended}")


def _outcomes(standing: Standing) -> Iterator[Text]:
    counts = {outcome: standing.counts.outcomes.get(outcome, 0) for outcome in OUTCOMES}
    for outcome, count in counts.items():
        if count:
            yield Text.assemble((f"{outcome:<14}", tone(outcome)), f"  {count:>7,}")
    if left := standing.jobs - standing.ended:
        yield Text.assemble((f"{'not ended':<14}", "dim"), f"  {left:>7,}")


def _failures(failed: Sequence[JobRow], width: int) -> Iterator[Text]:
    """The worst first: what is ours or the outside's hides what the agents did."""
    worst = sorted(failed, key=_rank)
    names = min(24, max(len(one_line(row.planned.id)) for row in worst[:MOST_FAILURES]))
    for row in worst[:MOST_FAILURES]:
        if row.ended:
            lead = Text(f"{row.ended.outcome:<14}", tone(row.ended.outcome))
            line = Text.assemble(lead, f"  {one_line(row.planned.id):<{names}}  ", one_line(row.ended.reason))
            line.truncate(width, overflow="ellipsis")
            yield line
    if len(failed) > MOST_FAILURES:
        yield Text(f"and {len(failed) - MOST_FAILURES:,} more, all of them in the report", "dim")


def _rank(row: JobRow) -> int:
    code = EXIT_CODES[row.ended.outcome] if row.ended else 0
    return WORST_FIRST.index(code) if code in WORST_FIRST else 0


def _time(summary: Summary) -> str:
    return clock(summary.seconds)


def _row(label: str, text: str) -> Text:
    """Not shortened: what is to be copied must be whole."""
    return Text.assemble((f"{label:<8}", "dim"), text)
