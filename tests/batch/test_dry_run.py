"""What `batch --dry-run` prints: all that is planned, in 80 columns, and nothing that acts on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runner.batch.dry_run import MOST_BAD, plan_table
from runner.batch.plan import Plan, plan
from runner.batch.sources import BadRow, Found, Row, read_source
from runner.config import Loaded, load
from runner.task import Task

TEMPLATE = "version: 1\nname: fix\nprompt: x\n"


def _template(folder: Path, text: str = TEMPLATE) -> Loaded[Task]:
    (folder / "fix.yaml").write_text(text)
    return load(folder / "fix.yaml", Task)


def _plan(folder: Path, issues: Sequence[Any], text: str = TEMPLATE, **options: Any) -> Plan:
    (folder / "s.json").write_text("[" + ",\n".join(json.dumps(issue) for issue in issues) + "]")
    return plan(read_source(str(folder / "s.json")), _template(folder, text), **options)


def test_jobs_and_their_worst_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issues = [
        {"number": 1, "title": "First", "body": "a<!-- x -->"},
        {"number": 2, "title": "Second", "milestone": "v2", "body": ""},
        {"number": 3, "title": ""},
        {"number": 4, "title": "PR", "pull_request": {"url": "u"}},
    ]
    text = TEMPLATE + "repo: {base: \"{{ issue.milestone or 'main' }}\"}\nlimits: {cost_usd: 2}\n"
    monkeypatch.chdir(tmp_path)
    assert plan_table(_plan(Path(), issues, text)) == [
        "all: model anthropic:claude-sonnet-4-6, at most $2.00",
        f"job    {'title':<67}  base",
        f"fix-1  {'First':<67}  main",
        "    1 HTML comment (10 characters) taken out of body; SHA-256 of the original: …",
        f"fix-2  {'Second':<67}  v2",
        "",
        "2 jobs; worst case $4.00",
        "note: 1 left out: a pull request",
        "",
        "1 row cannot be used:",
        "  s.json:3: title: must be the issue's title (got ''); ask gh for it: --json",
        "    number,title,body",
    ]


def test_variations_have_columns_of_their_own(tmp_path: Path) -> None:
    vary = ["model=anthropic:claude-sonnet-4-6,anthropic:claude-haiku-4-5", "limits.cost_usd=1,2"]
    lines = plan_table(_plan(tmp_path, [{"number": 1, "title": "First"}], vary=vary))
    assert lines[0] == "all: base HEAD"
    assert lines[1].split() == ["job", "title", "model", "at", "most"]
    assert lines[2].endswith("claude-sonnet-4-6  $1.00")
    assert lines[5].endswith("claude-haiku-4-5   $2.00")
    assert lines[-1] == "4 jobs of 1 row; worst case $6.00"


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        (None, "worst case: no cap, because nothing bounds what 1 job may cost; give each one"),
        (50, "2 jobs; worst case $50.00, the cap of the batch"),
    ],
)
def test_a_job_without_a_bound_is_said_so(tmp_path: Path, cap: float | None, said: str) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nname: a\nprompt: x\nlimits: {cost_usd: 2}\n")
    (tmp_path / "b.yaml").write_text("version: 1\nname: b\nprompt: x\n")
    lines = plan_table(plan(read_source(str(tmp_path)), None), cost_usd=cap)
    assert said in " ".join(line.strip() for line in lines)
    assert [line.rpartition("  ")[2] for line in lines[2:4]] == ["$2.00", "no cap"]


def test_the_cap_of_the_batch_counts_when_it_is_lower(tmp_path: Path) -> None:
    made = _plan(tmp_path, [{"number": 1, "title": "a"}], TEMPLATE + "limits: {cost_usd: 2}\n")
    assert plan_table(made, cost_usd=1)[-1] == "1 job; worst case $1.00, the cap of the batch"
    assert plan_table(made, cost_usd=3)[-1] == "1 job; worst case $2.00"


def test_no_jobs_are_said_so(tmp_path: Path) -> None:
    assert plan_table(_plan(tmp_path, [])) == ["no jobs"]


def test_many_bad_rows_are_counted() -> None:
    bad = tuple(BadRow(f"s:{number}", "is bad") for number in range(200))
    lines = plan_table(Plan(jobs=(), bad=bad, notes=()))
    assert lines[2] == "200 rows cannot be used:"
    assert lines[-1] == f"  … and {200 - MOST_BAD} more"


HOSTILE = st.text(st.sampled_from("\x1b[31m\x07\x9b\u202e\u200b\n\r\t你é😀::error::x ") | st.characters(), max_size=60)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_text_of_strangers_does_nothing_and_stays_in_its_columns(
    tmp_path_factory: pytest.TempPathFactory, title: str, note: str, what: str
) -> None:
    folder = tmp_path_factory.mktemp("dry")
    rows: list[Found] = [
        Row(place=f"s:{number}", number=number, key=str(number), title=title, notes=(note,)) for number in (1, 2)
    ]
    lines = plan_table(plan([*rows, BadRow("s:3", what)], _template(folder), vary=["model=anthropic:a,anthropic:b"]))
    for line in lines:
        assert line.isprintable() or not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in line)
        assert "\u202e" not in line
        assert cell_len(line) <= 80
        assert not line.startswith("::")
