"""JUnit XML, as CI systems read it: a batch is a test suite, a job is a test case.

Legal XML 1.0 whatever a title, a command or an agent printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from xml.sax.saxutils import escape, quoteattr

from runner.errors import EXIT_CODES
from runner.report.jobs import Row, title_of, word_of
from runner.report.visible import visible
from runner.result import JobResult

# Everything that XML 1.0 has no place for; lone surrogates would not even be UTF-8. The rest is made visible before.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MESSAGE_CHARS = 2_000
TEXT_CHARS = 20_000

FAILURES = frozenset(code for code in EXIT_CODES.values() if 10 <= code <= 14)
"""Exit codes of jobs that did not do what they were to do. What is neither done nor one of these is an error."""


def junit(suite: str, rows: Sequence[Row]) -> bytes:
    """The file, UTF-8."""
    kinds = [_kind(row) for row in rows]
    counts = {"tests": len(rows), "failures": kinds.count("failure"), "errors": kinds.count("error"), "skipped": 0}
    seconds = sum(row.seconds for row in rows if isinstance(row, JobResult))
    facts = {"name": suite, **counts, "time": f"{seconds:.3f}"}
    started = min((row.started_at for row in rows if row.started_at), default="")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites{_attributes(facts)}>",
        f"  <testsuite{_attributes(facts | ({'timestamp': _timestamp(started)} if started else {}))}>",
        *(line for row in rows for line in _case(suite, row)),
        "  </testsuite>",
        "</testsuites>",
        "",
    ]
    return "\n".join(lines).encode()


def _kind(row: Row) -> str:
    """`failure`, `error`, or "" for a job that did what it was to do."""
    if not isinstance(row, JobResult):
        return "error"
    code = EXIT_CODES[row.outcome]
    return "" if code == 0 else "failure" if code in FAILURES else "error"


def _case(suite: str, row: Row) -> Iterator[str]:
    """One test case. Jobs may share a title, and never an id: readers tell cases apart by class name and name."""
    title = title_of(row)
    name = title if title == row.job else f"{title} [{row.job}]"
    seconds = row.seconds if isinstance(row, JobResult) else 0.0
    yield f"    <testcase{_attributes({'name': name, 'classname': suite, 'time': f'{seconds:.3f}'})}>"
    yield "      <properties>"
    for key, value in _properties(row).items():
        yield f"        <property{_attributes({'name': key, 'value': value})}/>"
    yield "      </properties>"
    if kind := _kind(row):
        told = {"message": row.reason[:MESSAGE_CHARS], "type": word_of(row)}
        yield f"      <{kind}{_attributes(told)}>{_text(_details(row))}</{kind}>"
    if isinstance(row, JobResult) and row.final_message:
        yield f"      <system-out>{_text(row.final_message)}</system-out>"
    yield "    </testcase>"


def _properties(row: Row) -> dict[str, object]:
    cost = {} if row.cost_usd is None else {"cost_usd": format(row.cost_usd, "f")}
    facts: dict[str, object] = {
        "outcome": word_of(row),
        **cost,
        "cost_complete": str(row.cost_complete).lower(),
        "input_tokens": row.usage.input_tokens,
        "cache_read_tokens": row.usage.cache_read_tokens,
        "cache_write_tokens": row.usage.cache_write_tokens,
        "output_tokens": row.usage.output_tokens,
        "turns": row.turns,
    }
    if not isinstance(row, JobResult):
        return facts
    named = {"branch": row.branch, "commit": row.commit, "model": row.model, "cause": row.cause, "source": row.source}
    return facts | {"attempt": row.attempt} | {name: value for name, value in named.items() if value}


def _details(row: Row) -> str:
    """The reason, the checks that failed, and the claims that do not hold."""
    lines = [row.reason]
    if isinstance(row, JobResult):
        lines += [
            f"check failed: {check.command} (exit {check.exit_code})"
            for check in row.checks
            if check.on != "base" and not check.passed
        ]
        lines += [f"claimed: {claim.text} - observed: {claim.observed}" for claim in row.claims if claim.holds is False]
    return "\n".join(lines)


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(f" {name}={quoteattr(_legal(' '.join(str(value).split())))}" for name, value in values.items())


def _text(text: str) -> str:
    shown = text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]}\n… {len(text) - TEXT_CHARS:,} characters more"
    return escape(_legal(shown))


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", visible(text))


def _timestamp(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%dT%H:%M:%S}"
