"""The summary of a job for the terminal."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.report.units import duration, plural, short, usd
from runner.report.visible import one_line
from runner.result import CheckResult, JobResult

WIDTH = 80
WIDEST = 100
MOST_PATHS = 8
MOST_CHECKS = 20
MOST_DENIED = 3
MOST_NOTES = 5

STYLES = {"solved": "bold green", "changed": "bold green", "no_change": "bold yellow", "denied": "bold yellow"}
STYLES |= {"limit": "bold yellow", "cancelled": "bold yellow"}
_BAD = "bold red"


def print_summary(result: JobResult, folder: Path, stream: TextIO | None = None) -> None:
    """Print the summary: coloured and as wide as the terminal on one, plain and 80 columns wide elsewhere."""
    out = stream or sys.stdout
    terminal = out.isatty()
    width = min(WIDEST, os.get_terminal_size(out.fileno()).columns or WIDTH) if terminal else WIDTH
    out.write(summary(result, folder, width=width, colours=terminal and not os.environ.get("NO_COLOR")))


def summary(result: JobResult, folder: Path, *, width: int = WIDTH, colours: bool = False) -> str:
    """The summary as text, lines no wider than `width`. What came out of the job is shown, and does nothing."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in _rows(result, folder):
        table.add_row(label, value)
    # Everything is a Text: rich's own markup, emoji codes and highlighting would read the agent's words.
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colours,
        no_color=not colours,
        highlight=False,
        legacy_windows=False,
    )
    console.print(_head(result), "", table, sep="\n")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _head(result: JobResult) -> Text:
    style = STYLES.get(result.outcome, _BAD)
    outcome = result.outcome.replace("_", " ").upper()
    return Text.assemble((outcome, style), "  ", one_line(result.task), ": ", one_line(result.reason))


def _rows(result: JobResult, folder: Path) -> Iterator[tuple[str, Text]]:
    yield "job", Text(one_line(result.job))
    yield "branch", _branch(result)
    yield "diff", _diff(result)
    for note in result.notes[:MOST_NOTES]:
        yield "note", Text(one_line(note[:200]), style="yellow")
    for check in result.checks[:MOST_CHECKS]:
        yield "check", _check(check)
    if len(result.checks) > MOST_CHECKS:
        yield "", Text(f"and {len(result.checks) - MOST_CHECKS} more checks")
    yield "turns", Text(_turns(result))
    yield from _denied(result)
    yield "tokens", Text(_tokens(result))
    yield "cost", Text(_cost(result))
    yield "time", Text(_time(result))
    yield from _missing_controls(result)
    yield "report", Text(one_line(str(folder / "report.html")))


def _branch(result: JobResult) -> Text:
    if result.branch is None:
        return Text("none; the work is kept in patch.diff" if result.commit else "none")
    commit = f" ({one_line(result.commit[:12])})" if result.commit else ""
    bundle = f" in {one_line(result.bundle)}" if result.bundle else ""
    return Text.assemble((one_line(result.branch), "bold"), commit, bundle)


def _diff(result: JobResult) -> Text:
    diff = result.diff
    if not diff.files:
        return Text("nothing changed")
    more = [f"and {len(diff.paths) - MOST_PATHS} more"] if len(diff.paths) > MOST_PATHS else []
    text = Text.assemble(plural(diff.files, "file"), ", ", (f"+{diff.insertions:,}", "green"), " ")
    text.append(f"-{diff.deletions:,}", "red")
    for line in [*map(one_line, diff.paths[:MOST_PATHS]), *more]:
        text.append(f"\n{line}", "dim")
    return text


def _check(check: CheckResult) -> Text:
    mark = ("pass", "green") if check.passed else ("FAIL", _BAD)
    exit_code = "killed" if check.exit_code is None else f"exit {check.exit_code}"
    how = "" if check.passed else "timed out, " if check.timed_out else f"{exit_code}, "
    return Text.assemble(mark, "  ", one_line(check.command), f"  ({how}{duration(check.seconds)})")


def _turns(result: JobResult) -> str:
    calls = sum(result.tool_calls.values())
    names = ", ".join(f"{one_line(name)[:40]} {count}" for name, count in list(result.tool_calls.items())[:8])
    denied = f", {len(result.denials):,} denied" if result.denials else ""
    of = f" of {result.limits.turns:,}" if result.limits else ""
    return f"{result.turns:,}{of}, {plural(calls, 'tool call')}{f' ({names})' if names else ''}{denied}"


def _denied(result: JobResult) -> Iterator[tuple[str, Text]]:
    calls = Counter(one_line(f"{denial.tool} {denial.subject}"[:120]) for denial in result.denials)
    for what, count in calls.most_common(MOST_DENIED):
        yield "denied", Text(what + (f" ({count:,} times)" if count > 1 else ""), style="yellow")
    if len(calls) > MOST_DENIED:
        yield "", Text(f"and {len(calls) - MOST_DENIED:,} others", style="yellow")


def _tokens(result: JobResult) -> str:
    usage = result.usage
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    cached = f" ({short(usage.cache_read_tokens)} from the cache)" if usage.cache_read_tokens else ""
    return f"{short(read)} read{cached}, {short(usage.output_tokens)} written"


def _cost(result: JobResult) -> str:
    of = f" of {usd(result.limits.cost_usd)}" if result.limits and result.limits.cost_usd is not None else ""
    more = "" if result.cost_complete or result.cost_usd is None else ", and what failed requests cost"
    models = ", ".join(one_line(model.model) for model in result.models) or one_line(result.model)
    return f"{usd(result.cost_usd)}{of}{more}  {models}"


def _time(result: JobResult) -> str:
    parts = [f"{name} {duration(result.timings[name])}" for name in ("model", "tools") if result.timings.get(name)]
    return duration(result.seconds) + (f" ({', '.join(parts)})" if parts else "")


def _missing_controls(result: JobResult) -> Iterator[tuple[str, Text]]:
    controls = result.sandbox.controls if result.sandbox else ()
    names = [control.name for control in controls if control.status == "missing"]
    if names:
        yield "controls", Text(f"not enforced here: {', '.join(names)}", style="yellow")
