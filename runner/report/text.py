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

from runner.report.units import duration, plural, short, size, usd
from runner.report.visible import exact, one_line
from runner.result import Approval, CheckResult, JobResult

WIDTH = 80
WIDEST = 100
MOST_PATHS = 8
MOST_CHECKS = 20
MOST_DENIED = 3
MOST_VIOLATIONS = 8
MOST_ASKED = 3
MOST_REFUSED = 3
MOST_NOTES = 5
MOST_CLAIMS = 3

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
    if result.attempt > 1:
        played = f"{plural(result.played_replies, 'turn')} played from earlier ones, not paid again"
        yield "attempt", Text(f"{result.attempt}, {played}{_diverged(result)}")
    yield "branch", _branch(result)
    yield "diff", _diff(result)
    yield from _gate(result)
    for note in result.notes[:MOST_NOTES]:
        yield "note", Text(one_line(note[:200]), style="yellow")
    for check in result.checks[:MOST_CHECKS]:
        yield "check", _check(check)
    if len(result.checks) > MOST_CHECKS:
        yield "", Text(f"and {len(result.checks) - MOST_CHECKS} more checks")
    yield from _claims(result)
    yield "turns", Text(_turns(result))
    yield from _denied(result)
    yield from _asked(result)
    yield from _network(result)
    yield from _unjudged(result)
    yield "tokens", Text(_tokens(result))
    yield "cost", Text(_cost(result))
    yield "time", Text(_time(result))
    yield from _missing_controls(result)
    yield from _uncontained(result)
    yield "report", Text(one_line(str(folder / "report.html")))


def _diverged(result: JobResult) -> str:
    return f"; it differed from them in turn {', '.join(map(str, result.diverged[:5]))}" if result.diverged else ""


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
    for line in [*(one_line(exact(path)) for path in diff.paths[:MOST_PATHS]), *more]:
        text.append(f"\n{line}", "dim")
    return text


def _gate(result: JobResult) -> Iterator[tuple[str, Text]]:
    violations = result.gate.violations if result.gate else ()
    for violation in violations[:MOST_VIOLATIONS]:
        by = f" [{violation.rule}]" if violation.rule else ""
        where = f" ({violation.where})" if violation.where else ""
        path = f"{violation.path[:200]}: " if violation.path else ""
        yield "gate", Text(one_line(f"{exact(path)}{violation.reason[:200]}{by}{where}"), style=_BAD)
    if len(violations) > MOST_VIOLATIONS:
        yield "", Text(f"and {plural(len(violations) - MOST_VIOLATIONS, 'more violation')}", style=_BAD)


def _check(check: CheckResult) -> Text:
    wanted = check.on != "base" or check.kind != "fail_to_pass"
    mark = ("pass" if check.passed else "FAIL", "green" if check.passed == wanted else _BAD)
    exit_code = "killed" if check.exit_code is None else f"exit {check.exit_code}"
    how = "" if check.passed else "timed out, " if check.timed_out else f"{exit_code}, "
    kind = "" if check.kind == "run" else f"{check.kind}, "
    where = {"base": "on base, ", "work": "", "as_left": "as it was left, "}[check.on]
    text = Text.assemble(mark, "  ", one_line(check.command), f"  ({kind}{where}{how}{duration(check.seconds)})")
    if check.tampered:
        text.append(f"\ntampered: {one_line(check.tampered[:200])}", _BAD)
    return text


def _claims(result: JobResult) -> Iterator[tuple[str, Text]]:
    """What the agent said and what was observed, where the two do not go together."""
    contradicted = [claim for claim in result.claims if claim.holds is False]
    for claim in contradicted[:MOST_CLAIMS]:
        text = Text(f"{one_line(claim.text[:160])!r}", style="yellow")
        yield "claimed", text.append(f"\nobserved: {one_line(claim.observed[:160])}", "yellow")
    if len(contradicted) > MOST_CLAIMS:
        yield "", Text(f"and {plural(len(contradicted) - MOST_CLAIMS, 'more claim')} that did not hold", style="yellow")


def _turns(result: JobResult) -> str:
    calls = sum(result.tool_calls.values())
    names = ", ".join(f"{one_line(name)[:40]} {count}" for name, count in list(result.tool_calls.items())[:8])
    denied = f", {len(result.denials):,} denied" if result.denials else ""
    of = f" of {result.limits.turns:,}" if result.limits else ""
    return f"{result.turns:,}{of}, {plural(calls, 'tool call')}{f' ({names})' if names else ''}{denied}"


def _denied(result: JobResult) -> Iterator[tuple[str, Text]]:
    calls = Counter(one_line(exact(f"{denial.tool} {denial.subject}"[:120])) for denial in result.denials)
    for what, count in calls.most_common(MOST_DENIED):
        yield "denied", Text(what + (f" ({count:,} times)" if count > 1 else ""), style="yellow")
    if len(calls) > MOST_DENIED:
        yield "", Text(f"and {len(calls) - MOST_DENIED:,} others", style="yellow")


def _asked(result: JobResult) -> Iterator[tuple[str, Text]]:
    approvals = result.approvals
    for question in approvals.questions[:MOST_ASKED]:
        yield "asked", Text(f"{one_line(exact(question.call[:120]))}: {_answered(question)}")
    if approvals.asked > MOST_ASKED:
        rest = f"{approvals.asked} questions in all, {approvals.allowed} allowed, {approvals.denied} denied"
        yield "", Text(rest)


def _answered(question: Approval) -> str:
    if question.allowed is None:
        return "the job ended before the answer"
    how = "denied" if not question.allowed else "allowed once" if question.scope == "once" else "allowed for the job"
    return f"{how}, {one_line(question.by)}{f': {one_line(question.reason[:120])}' if question.reason else ''}"


def _network(result: JobResult) -> Iterator[tuple[str, Text]]:
    """Totals of what was let through, and what was refused by name."""
    uses = result.egress
    if through := sum(use.connections for use in uses):
        moved = f"{size(sum(use.bytes_sent for use in uses))} out, {size(sum(use.bytes_received for use in uses))} in"
        hosts = len({use.host for use in uses if use.connections})
        yield "network", Text(f"{plural(through, 'connection')} to {plural(hosts, 'host')}, {moved}")
    refused = [use for use in uses if use.refused]
    for use in refused[:MOST_REFUSED]:
        times = f" ({use.refused:,} times)" if use.refused > 1 else ""
        yield "refused", Text(one_line(f"{use.host[:80]}:{use.port}{times}, {use.reason[:120]}"), style="yellow")
    if len(refused) > MOST_REFUSED:
        yield "", Text(f"and {len(refused) - MOST_REFUSED:,} others", style="yellow")


def _unjudged(result: JobResult) -> Iterator[tuple[str, Text]]:
    if result.unjudged:
        count = plural(len(result.unjudged), "command")
        yield "unjudged", Text(f"{count} ran that the policy could not read; see report.html", style="yellow")


def _tokens(result: JobResult) -> str:
    usage = result.usage
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    cached = f" ({short(usage.cache_read_tokens)} from the cache)" if usage.cache_read_tokens else ""
    return f"{short(read)} read{cached}, {short(usage.output_tokens)} written"


def _cost(result: JobResult) -> str:
    of = f" of {usd(result.limits.cost_usd)}" if result.limits and result.limits.cost_usd is not None else ""
    more = "" if result.cost_complete or result.cost_usd is None else ", and what failed requests cost"
    if result.cost_doubtful_usd:
        more = f", and at most {usd(result.cost_doubtful_usd)} that is doubtful"
    answered = [one_line(model.model) for model in result.models if model.replies]
    models = ", ".join(answered) or one_line(result.model)
    return f"{usd(result.cost_usd)}{of}{more}  {models}"


def _time(result: JobResult) -> str:
    names = {"model": "model", "tools": "tools", "approvals": "waiting for a person"}
    parts = [f"{word} {duration(result.timings[name])}" for name, word in names.items() if result.timings.get(name)]
    return duration(result.seconds) + (f" ({', '.join(parts)})" if parts else "")


def _missing_controls(result: JobResult) -> Iterator[tuple[str, Text]]:
    controls = result.sandbox.controls if result.sandbox else ()
    names = [control.name for control in controls if control.status == "missing"]
    if names:
        yield "controls", Text(f"not enforced here: {', '.join(names)}", style="yellow")


def _uncontained(result: JobResult) -> Iterator[tuple[str, Text]]:
    if result.contained is None:
        return
    if not result.contained.landlock:
        yield "contain", Text("no Landlock here: commands are not held to the path rules", style="yellow")
    if count := len(result.contained.uncontained):
        yield "contain", Text(f"{plural(count, 'rule')} decided but not contained; see report.html", style="yellow")
