"""Results as GitHub Actions reads them: the step summary, the step's outputs, annotations.

Text that is not ours is shown as code and can neither break a table nor become a link, an image, a mention or a command
to the CI system's own runner.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TextIO

from runner.report.jobs import WORDS, Row, Word, false_claims, title_of, tone_of, totals, word_of
from runner.report.units import duration, plural, short, usd
from runner.report.visible import exact, one_line, visible
from runner.result import JobResult

SUMMARY_BYTES = 1_048_576
"""Of all that one step writes; more is dropped, all of it."""
MARGIN_BYTES = 1_024
MOST_ANNOTATIONS = 10
"""Errors of one step that are shown."""
MOST_CLAIMS = 50
TITLE_CHARS, REASON_CHARS = 120, 240
MARKS = {"good": "🟢", "warn": "🟡", "bad": "🔴"}


def to_github(
    variables: Mapping[str, str], rows: Sequence[Row], *, title: str, folder: Path, stream: TextIO | None = None
) -> None:
    """Write what GitHub Actions asks for by its variables; nothing where they are not set.

    `title` names the job or batch, `folder` is its folder. Of a single result the outputs are the job's, else the
    batch's. Annotations go to `stream`. A file that cannot be written is complained of there, and no error: the
    outcome is what counts.
    """
    problems: list[str] = []
    if path := variables.get("GITHUB_STEP_SUMMARY"):
        problems += _tried(path, partial(_append_summary, Path(path), title, rows))
    if path := variables.get("GITHUB_OUTPUT"):
        problems += _tried(path, partial(write_outputs, Path(path), _outputs(rows, folder)))
    if stream is not None and variables.get("GITHUB_ACTIONS") == "true":
        lines = [*error_lines(rows), *(f"::warning::{_data(problem)}" for problem in problems)]
        stream.write("".join(f"{line}\n" for line in lines))


def _outputs(rows: Sequence[Row], folder: Path) -> dict[str, str]:
    match rows:
        case [JobResult() as result] if result.job == folder.name:
            return job_outputs(result, folder)
    return batch_outputs(rows, folder)


def _tried(path: str, write: Callable[[], None]) -> list[str]:
    try:
        write()
    except OSError as error:
        return [f"claw-runner could not write {path}: {error.strerror}"]
    return []


def _append_summary(path: Path, title: str, rows: Sequence[Row]) -> None:
    there = path.stat().st_size if path.exists() else 0
    with path.open("ab") as file:
        file.write(step_summary(title, rows, limit=SUMMARY_BYTES - there).encode())


# -- the step summary


def step_summary(title: str, rows: Sequence[Row], *, limit: int = SUMMARY_BYTES) -> str:
    """GitHub-flavoured Markdown, at most `limit` bytes: what needs a look first, and a line that says what is cut."""
    ordered = sorted(rows, key=_urgency)
    parts = [f"## {_code(title)}\n\n{_headline(rows)}\n\n", _TABLE_HEAD]
    room = limit - MARGIN_BYTES - sum(len(part.encode()) for part in parts)
    shown = 0
    for row in ordered:
        line = _table_row(row)
        room -= len(line.encode())
        if room < 0:
            break
        parts.append(line)
        shown += 1
    claims = "".join(islice(_claim_lines(ordered[:shown]), MOST_CLAIMS))
    if claims and len(claims.encode()) <= room:
        parts.append(f"\n**Claims that what was observed contradicts**\n\n{claims}")
    if shown < len(rows):
        parts.append(
            f"\n… and {plural(len(rows) - shown, 'more job')}; results.csv and report.html have all of them.\n"
        )
    text = "".join(parts)
    return text if len(text.encode()) <= limit else ""


def _urgency(row: Row) -> tuple[int, int]:
    """Bad before middling before good; within these by outcome."""
    return ("bad", "warn", "good").index(tone_of(row)), WORDS.index(word_of(row))


def _headline(rows: Sequence[Row]) -> str:
    all_of_them = totals(rows)
    counts = ", ".join(f"**{count:,}** {_plain(word)}" for word, count in all_of_them.outcomes.items())
    doubtful = f", {usd(all_of_them.cost_doubtful_usd)} doubtful" if all_of_them.cost_doubtful_usd else ""
    more = "" if all_of_them.cost_complete else " (not all of it is known)"
    cost = f"{usd(all_of_them.cost_usd)}{doubtful}{more}"
    tokens = f"{short(all_of_them.usage.total_tokens)} tokens"
    return f"{plural(len(rows), 'job')}: {counts or 'none'}. Cost {cost}; {tokens}; {duration(all_of_them.seconds)}."


_TABLE_HEAD = (
    "| | Job | Outcome | Reason | Branch | Checks | Diff | Cost | Turns | Time |\n"
    "|---|---|---|---|---|---:|---:|---:|---:|---:|\n"
)


def _table_row(row: Row) -> str:
    cells = [MARKS[tone_of(row)], _code(title_of(row), TITLE_CHARS), _plain(word_of(row))]
    cells.append(_code(row.reason, REASON_CHARS))
    if isinstance(row, JobResult):
        cells += [
            _code(row.branch or ""),
            f"{sum(row.judged)}/{len(row.judged)}" if row.judged else "",
            f"+{row.diff.insertions:,} −{row.diff.deletions:,}" if row.diff.files else "",
            _cost(row),
            f"{row.turns:,}",
            duration(row.seconds),
        ]
    else:
        cells += ["", "", "", _cost(row), f"{row.turns:,}", ""]
    return f"| {' | '.join(cells)} |\n"


def _cost(row: Row) -> str:
    return usd(row.cost_usd) + ("" if row.cost_complete else "+")


def _claim_lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for claim in row.claims if isinstance(row, JobResult) else ():
            if claim.holds is False:
                said, seen = _code(claim.text, REASON_CHARS), _code(claim.observed, REASON_CHARS)
                yield f"- {_code(title_of(row), TITLE_CHARS)}: said {said}, observed {seen}\n"


def _plain(word: Word) -> str:
    return word.replace("_", " ")


_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def _code(text: str, most: int = TITLE_CHARS) -> str:
    """Foreign text as code, on one line, with every sign that Markdown or HTML could read written as a number.

    In code GitHub looks for no mentions, issues or commits; written as a number, nothing ends the code before its end.
    """
    line = one_line(exact(text[: 4 * most]))
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return f"<code>{_PUNCTUATION.sub(lambda sign: f'&#{ord(sign.group())};', line)}</code>" if line else ""


# -- the step's outputs


def job_outputs(result: JobResult, folder: Path) -> dict[str, str]:
    """Name → value for one job."""
    return {
        "outcome": result.outcome,
        "exit-class": exit_class(result),
        "exit-code": str(result.exit_code),
        "reason": result.reason,
        "branch": result.branch or "",
        "commit": result.commit or "",
        "changed-files": str(result.diff.files),
        "verified": "skipped" if not result.judged else "pass" if all(result.judged) else "fail",
        **_spent([result]),
        "denied-count": str(len(result.denials)),
        "duration-seconds": f"{result.seconds:.3f}",
        "session-id": result.job,
        "run-dir": str(folder),
        **_paths(folder, {"transcript-path": "transcript.jsonl", "patch-path": "patch.diff"}),
    }


def batch_outputs(rows: Sequence[Row], folder: Path) -> dict[str, str]:
    """Name → value for a batch; `outcomes` is a JSON object of counts."""
    all_of_them = totals(rows)
    done = sum(all_of_them.outcomes.get(word, 0) for word in ("solved", "changed"))
    return {
        "jobs": str(len(rows)),
        "done": str(done),
        "outcomes": json.dumps(all_of_them.outcomes),
        **_spent(rows),
        "denied-count": str(all_of_them.denials),
        "duration-seconds": f"{all_of_them.seconds:.3f}",
        "session-id": folder.name,
        "run-dir": str(folder),
        **_paths(folder, {"csv-path": "results.csv"}),
    }


def exit_class(row: Row) -> str:
    """`done`, `failed` (trying again changes nothing), `error` (trying again may help), `usage` or `cancelled`."""
    match word_of(row):
        case "solved" | "changed":
            return "done"
        case "unsolved" | "no_change" | "denied" | "limit" | "tampered":
            return "failed"
        case "config_error":
            return "usage"
        case "cancelled" | "unfinished":
            return "cancelled"
        case _:
            return "error"


def _spent(rows: Sequence[Row]) -> dict[str, str]:
    all_of_them = totals(rows)
    usage = all_of_them.usage
    return {
        "cost-usd": format(all_of_them.cost_usd, "f"),
        "cost-doubtful-usd": format(all_of_them.cost_doubtful_usd, "f"),
        "cost-complete": str(all_of_them.cost_complete).lower(),
        "input-tokens": str(usage.input_tokens + usage.cache_write_tokens),
        "output-tokens": str(usage.output_tokens),
        "cached-tokens": str(usage.cache_read_tokens),
        "turns": str(all_of_them.turns),
    }


def _paths(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    files = {"report-path": "report.html", "junit-path": "junit.xml", **more}
    return {name: str(folder / file) for name, file in files.items()}


def write_outputs(path: Path, outputs: Mapping[str, str]) -> None:
    """Append outputs to the file that `GITHUB_OUTPUT` names. No value can end early or begin another output."""
    with path.open("ab") as file:
        file.write("".join(_assignment(name, visible(value)) for name, value in outputs.items()).encode())


def _assignment(name: str, value: str) -> str:
    delimiter = f"claw_{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


# -- annotations


def error_lines(rows: Sequence[Row]) -> list[str]:
    """`::error` commands for the jobs that need a look, at most as many as are shown; the last counts the rest."""
    told = [row for row in sorted(rows, key=_urgency) if exit_class(row) != "done"]
    shown = told if len(told) <= MOST_ANNOTATIONS else told[: MOST_ANNOTATIONS - 1]
    lines = [_annotation(row) for row in shown]
    if len(told) > len(shown):
        lines.append(f"::error title=claw-runner::{plural(len(told) - len(shown), 'more job')} did not succeed")
    return lines


def _annotation(row: Row) -> str:
    claims = f"; {plural(false_claims(row), 'claim')} of the agent's did not hold" if false_claims(row) else ""
    title = _property(f"{_plain(word_of(row))}: {title_of(row)}"[:TITLE_CHARS])
    return f"::error title={title}::{_data(f'{row.job}: {row.reason[: 4 * REASON_CHARS]}{claims}')}"


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
