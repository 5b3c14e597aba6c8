"""The report of one job as a single HTML file: nothing loaded, nothing needed, nothing hostile let through."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runner.report.conversation import CAPS, clip, conversation
from runner.report.diff import parse_patch
from runner.report.jobs import tone_of
from runner.report.timeline import timeline
from runner.report.units import duration, plural, short, size, usd
from runner.report.visible import exact, one_line, visible
from runner.result import Artifact, JobResult
from runner.transcript import AnyEvent, JobStarted, ModelReplied, ToolRan, of_kind

_TEMPLATES = Path(__file__).parent / "templates"

MOST_FILES = 300
MOST_DENIALS = 500
MOST_ROWS = 500
"""Of each of the tables of violations, approvals and connections."""
MOST_PATHS = 200
"""Of each list of contained paths and rules."""
MOST_ARTIFACTS = 1_000
LAST_WORDS_CHARS = 8_000
RESOLVED_CHARS = 40_000
RANKED = 5


def render_html(result: JobResult, events: Sequence[AnyEvent], patch: bytes, artifacts: Sequence[Artifact]) -> str:
    """The whole page. Bounded: it says where something was left out, and where that is found."""
    items, cap = conversation(events)
    violations = result.gate.violations if result.gate else ()
    script = template_text("report.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            tone="bad" if violations else tone_of(result),
            violations=violations,
            contradicted=[claim for claim in result.claims if claim.holds is False],
            calls=sum(result.tool_calls.values()),
            cached=_cached(result),
            statuses=Counter(control.status for control in result.sandbox.controls).most_common()
            if result.sandbox
            else [],
            resolved=clip(_resolved(events), RESOLVED_CHARS),
            final_message=clip(result.final_message, LAST_WORDS_CHARS),
            time=timeline(events),
            dearest=_dearest(events),
            longest=_longest(events),
            files=parse_patch(patch),
            items=items,
            cap=cap,
            shortened=cap < CAPS[0],
            artifacts=artifacts,
            logs={artifact.path for artifact in artifacts},
            most_files=MOST_FILES,
            most_denials=MOST_DENIALS,
            most_rows=MOST_ROWS,
            most_paths=MOST_PATHS,
            most_artifacts=MOST_ARTIFACTS,
            script=Markup(script),
            script_hash=script_hash(script),
        )
    )


def template_text(name: str) -> str:
    return (_TEMPLATES / name).read_text()


def script_hash(script: str) -> str:
    """What a content security policy lets run."""
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def environment() -> Environment:
    """Templates whose every value is escaped and visible."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "usd": usd,
        "duration": duration,
        "size": size,
        "short": short,
        "plural": plural,
        "one_line": one_line,
        "exact": exact,
        "words": lambda word: word.replace("_", " "),
        "clock": lambda time: f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S} UTC",
        "since": _since,
        "between": lambda end, start: _since(end, start).removeprefix("+"),
        "link": lambda path: quote(f"./{path}"),
    }
    return made


def _shown(value: Any) -> Any:
    """Runs on every value a template prints, so that none can be forgotten."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _since(time: str, start: str) -> str:
    elapsed = datetime.fromisoformat(time) - datetime.fromisoformat(start)
    return f"+{duration(max(0.0, elapsed.total_seconds()))}"


def _resolved(events: Sequence[AnyEvent]) -> str:
    jobs = [event.job for event in of_kind(events, JobStarted)]
    return json.dumps(jobs[0], indent=2, ensure_ascii=False) if jobs else ""


def _cached(result: JobResult) -> int:
    """Percent of what the model read that came from the prompt cache."""
    usage = result.usage
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return round(100 * usage.cache_read_tokens / read) if read else 0


def _dearest(events: Sequence[AnyEvent]) -> list[tuple[int, Any, float]]:
    costs = [(event.turn, event.cost_usd) for event in of_kind(events, ModelReplied) if event.cost_usd]
    ranked = sorted(costs, key=lambda entry: entry[1], reverse=True)[:RANKED]
    return [(turn, cost, float(100 * cost / ranked[0][1])) for turn, cost in ranked]


def _longest(events: Sequence[AnyEvent]) -> list[tuple[int, str, float, float]]:
    calls = [event for event in of_kind(events, ToolRan) if event.ran and event.seconds > 0]
    ranked = sorted(calls, key=lambda event: event.seconds, reverse=True)[:RANKED]
    return [(event.turn, event.name, event.seconds, 100 * event.seconds / ranked[0].seconds) for event in ranked]
