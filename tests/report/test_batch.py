"""The report of a batch: all of it from transcripts alone, and one page that nothing hostile moves."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import random
import re
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from runner.report import REPORT, RESULT, read_batch, rewrite_artifacts, write_batch_report
from runner.report.batch import MOST_ROWS, render_batch
from runner.report.jobs import TRANSCRIPT, totals, word_of
from runner.report.plots import Placed, cost_curve, cost_histogram, scatter, time_histogram
from runner.result import Incomplete, JobResult
from runner.transcript import AnyEvent, JobEnded, JobStarted, Resumed
from tests.report.batches import damage, job_events, write_batch, write_chained
from tests.report.sample import HOSTILE, job_facts, sample_events, sample_result
from tests.report.test_html import Page


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 jobs with hostile titles and reasons; one is unfinished, one damaged."""
    folder = tmp_path_factory.mktemp("runs") / "nightly"
    write_batch(folder, 60, turns=3, hostile=True)
    damage(folder / "fix-0007" / TRANSCRIPT)
    write_batch_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(batch: Path) -> Page:
    return Page((batch / REPORT).read_text())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three jobs."""
    write_batch(tmp_path / "small", 3, turns=2)
    return tmp_path / "small"


def _totals(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "batch.json").read_text())
    return found


# --- from transcripts alone


def test_the_same_transcripts_give_the_same_bytes(small: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_batch_report(small).files}
    for path in write_batch_report(small).files:
        path.unlink()
    assert {path.name: path.read_bytes() for path in write_batch_report(small).files} == first
    assert set(first) == {"report.html", "results.csv", "junit.xml", "summary.md", "batch.json"}


def test_nothing_but_transcripts_is_read(small: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_batch_report(small).files}
    for job in small.glob("fix-*"):
        (job / RESULT).write_text('{"outcome": "solved", "lies": true}')
    (small / "batch.sqlite").write_bytes(b"no database")
    assert {path.name: path.read_bytes() for path in write_batch_report(small).files} == first


def test_all_files_count_the_same_jobs(batch: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((batch / "results.csv").read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 60
    assert _totals(batch)["outcomes"] == dict(Counter(row["outcome"] for row in rows))
    suite = ElementTree.parse(batch / "junit.xml").getroot()[0]
    assert len(suite.findall("testcase")) == 60
    done = sum(row["outcome"] in ("solved", "changed") for row in rows)
    assert int(suite.get("failures") or 0) + int(suite.get("errors") or 0) == 60 - done
    assert f"**{_totals(batch)['outcomes']['solved']}** solved" in (batch / "summary.md").read_text()


def test_the_totals_are_sums_over_the_transcripts(batch: Path) -> None:
    rows = [read.row for _, read in read_batch(batch)]
    found = _totals(batch)
    assert Decimal(found["cost_usd"]) == sum(row.cost_usd or 0 for row in rows)
    assert Decimal(found["cost_doubtful_usd"]) == sum(row.cost_doubtful_usd for row in rows)
    assert found["turns"] == sum(row.turns for row in rows)
    assert found["usage"]["output_tokens"] == sum(row.usage.output_tokens for row in rows)
    assert (found["version"], found["batch"], found["jobs"]) == (1, "nightly", 60)


def test_a_job_without_an_end_is_unfinished_and_what_it_cost_counts(small: Path) -> None:
    path = small / "fix-0002" / TRANSCRIPT
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]) + b'{"type": "job_en')
    (_, first), (_, second), _ = read_batch(small)
    assert isinstance(first.row, JobResult)
    assert isinstance(second.row, Incomplete)
    assert second.row.problem == "unfinished"
    assert second.row.reason.endswith("8 events, last: tool_decided")
    assert (second.row.turns, second.row.job) == (2, "fix-0002")
    assert second.row.cost_usd
    assert not write_batch_report(small).totals.cost_complete


def test_a_damaged_transcript_is_listed_with_its_line_and_the_others_go_on(small: Path) -> None:
    damage(small / "fix-0002" / TRANSCRIPT, line=4)
    report = write_batch_report(small)
    assert [word_of(row) == "damaged" for row in report.rows] == [False, True, False]
    (problem,) = _totals(small)["without_result"]
    assert (problem["job"], problem["problem"]) == ("fix-0002", "damaged")
    assert problem["reason"].startswith("transcript.jsonl:4: not an event")


@pytest.mark.parametrize(
    ("content", "problem", "reason"),
    [
        (b"", "unfinished", "nothing happened yet"),
        (b"half a li", "unfinished", "nothing happened yet"),
        (b"\xff\xfe\n", "damaged", "transcript.jsonl:1: not an event"),
    ],
)
def test_any_file_may_lie_where_a_transcript_should(small: Path, content: bytes, problem: str, reason: str) -> None:
    (small / "fix-0002" / TRANSCRIPT).write_bytes(content)
    row = write_batch_report(small).rows[1]
    assert isinstance(row, Incomplete)
    assert (row.problem, row.job) == (problem, "fix-0002")
    assert row.reason.startswith(reason)


@pytest.mark.parametrize("facts", [{}, {"id": "x"}, job_facts(resolved="no mapping")])
def test_a_job_that_says_too_little_of_itself_is_damaged(small: Path, facts: dict[str, Any]) -> None:
    started = JobStarted(job=facts, time="2026-05-04T09:30:00Z")
    ended = JobEnded(outcome="solved", reason="x", time="2026-05-04T09:30:01Z")
    for events in ([started], [started, ended]):
        write_chained(small / "fix-0002" / TRANSCRIPT, events)
        assert word_of(write_batch_report(small).rows[1]) == "damaged"


def test_a_job_whose_last_attempt_was_put_away_is_unfinished_by_that_one(small: Path) -> None:
    job = small / "fix-0003"
    for number in (1, 2, 10):
        place = job / "attempts" / str(number)
        place.mkdir(parents=True)
        write_chained(place / TRANSCRIPT, job_events(3, random.Random(number), turns=1)[:-1])
    (job / TRANSCRIPT).unlink()
    expected = [event.model_dump() for event in job_events(3, random.Random(10), turns=1)[:-1]]
    (path, read) = list(read_batch(small))[-1]
    assert (path, len(read.events)) == (job, len(expected))
    assert isinstance(read.row, Incomplete)


def test_folders_without_a_transcript_and_links_are_no_jobs(small: Path) -> None:
    (small / "logs").mkdir()
    (small / "link").symlink_to(small / "fix-0001")
    assert len(write_batch_report(small).rows) == 3


def test_an_empty_batch_has_a_report(tmp_path: Path) -> None:
    report = write_batch_report(tmp_path)
    assert report.totals.jobs == 0
    assert "There are no jobs here yet." in Page((tmp_path / REPORT).read_text()).whole_text
    assert _totals(tmp_path)["cost_usd"] == "0"


# --- the files of the jobs


def test_a_job_that_lacks_its_files_gets_them_and_the_others_are_left_alone(small: Path) -> None:
    write_batch_report(small, rebuild="missing")
    untouched, missing = small / "fix-0001" / REPORT, small / "fix-0002" / REPORT
    missing.unlink()
    untouched.write_text("mine")
    write_batch_report(small, rebuild="missing")
    assert missing.is_file()
    assert untouched.read_text() == "mine"
    write_batch_report(small, rebuild="all")
    assert untouched.read_text() != "mine"


def test_without_being_asked_no_file_of_a_job_is_written(small: Path) -> None:
    write_batch_report(small)
    assert [path.name for path in (small / "fix-0001").iterdir()] == [TRANSCRIPT]


def test_a_jobs_files_are_the_same_when_written_again(small: Path) -> None:
    job = small / "fix-0001"
    (job / "patch.diff").write_bytes(b"diff --git a/x b/x\n")
    rewrite_artifacts(job)
    first = {path.name: path.read_bytes() for path in job.iterdir()}
    (job / RESULT).unlink()
    rewrite_artifacts(job)
    assert {path.name: path.read_bytes() for path in job.iterdir()} == first


def test_a_patch_that_is_not_there_is_not_made_up(small: Path) -> None:
    result = rewrite_artifacts(small / "fix-0001")
    assert not (small / "fix-0001" / "patch.diff").exists()
    assert "patch.diff" not in {artifact.path for artifact in result.artifacts}
    if result.diff.files:
        assert "patch.diff is not here" in Page((small / "fix-0001" / REPORT).read_text()).whole_text


# --- the page


def test_it_shows_every_job_with_a_link_to_its_report(batch: Path, page: Page) -> None:
    links = {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    rows = {path.name: read.row for path, read in read_batch(batch)}
    assert {f"./{name}/report.html" for name, row in rows.items() if isinstance(row, JobResult)} <= links
    assert {f"./{name}/" for name, row in rows.items() if isinstance(row, Incomplete)} <= links
    assert all(link and (link.startswith("./fix-") or "/" not in link) for link in links)
    body = [attrs for tag, attrs in page.elements if tag == "tr" and "data-word" in attrs]
    assert len(body) == 60


def test_numbers_can_be_sorted_by_their_values(page: Page) -> None:
    heads = [attrs for tag, attrs in page.elements if tag == "th"]
    cells = [attrs for tag, attrs in page.elements if tag == "td" and "data-v" in attrs]
    assert sum(attrs.get("data-kind") == "number" for attrs in heads) == 9
    assert len(cells) == 60 * 8
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", attrs["data-v"] or "") for attrs in cells)


def test_claims_that_do_not_hold_are_marked(page: Page) -> None:
    assert "Claims that do not hold" in page.whole_text
    assert "I committed the changes." in page.whole_text
    assert "the work was left uncommitted; the runner committed it" in page.whole_text
    assert any("claim" in (attrs.get("data-word") or "").split() for tag, attrs in page.elements if tag == "tr")


def test_models_are_compared_when_there_are_several(page: Page) -> None:
    assert "By model" in page.whole_text


def test_it_works_without_its_script_as_a_plain_table(page: Page) -> None:
    hidden = [tag for tag, attrs in page.elements if "hidden" in attrs]
    assert hidden == ["div", "button"]
    assert [attrs.get("class") for tag, attrs in page.elements if "hidden" in attrs] == ["filter", None]


def test_it_loads_nothing_and_says_so_to_the_browser(batch: Path, page: Page) -> None:
    html = (batch / REPORT).read_text()
    policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in (policy or "")
    assert (policy or "").startswith("default-src 'none'")
    assert not {tag for tag, _ in page.elements} & {"img", "link", "iframe", "object", "embed", "base", "form", "use"}
    assert "url(" not in html
    assert "@import" not in html


def test_nothing_hostile_becomes_an_element_or_an_attribute(batch: Path, page: Page) -> None:
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["h1"], tags["script"], tags["body"], tags["img"]) == (1, 1, 1, 0)
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    html = (batch / REPORT).read_text()
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\U000e0041]", html)
    assert "<script>alert(1)</script>" in page.whole_text
    assert "⟨U+202E⟩" in page.whole_text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_batches_folders_and_branches_may_be_hostile(hostile: str) -> None:
    result = sample_result(sample_events(turns=3))
    words = {"branch": hostile, "model": hostile, "source": hostile, "job": hostile}
    placed = [Placed(hostile, result.model_copy(update=words)), Placed("b", result)]
    placed.append(Placed(hostile, Incomplete(job=hostile, problem="damaged", reason=hostile)))
    page = Page(render_batch(hostile, placed, totals([row for _, row in placed])))
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("h1"), tags.count("script"), tags.count("img"), tags.count("body")) == (1, 1, 0, 1)
    links = [attrs["href"] or "" for tag, attrs in page.elements if tag == "a"]
    assert all(
        link.startswith("./") or link in ("results.csv", "junit.xml", "summary.md", "batch.json") for link in links
    )


def test_a_page_of_very_many_jobs_is_bounded_and_says_so() -> None:
    result = sample_result(sample_events(turns=1))
    placed = [Placed("a", result)] * (MOST_ROWS + 7)
    html = render_batch("x", placed, totals([row for _, row in placed]))
    assert "7 jobs more in results.csv" in Page(html).whole_text
    assert len(html) < 20_000_000


# --- the pictures


def test_every_job_is_in_a_bar_and_has_a_dot(batch: Path) -> None:
    placed = [Placed(path.name, read.row) for path, read in read_batch(batch)]
    rows = [row for _, row in placed]
    ended = [row for row in rows if isinstance(row, JobResult)]
    costs, times, dots = cost_histogram(rows), time_histogram(rows), scatter(placed)
    assert costs is not None
    assert times is not None
    assert dots is not None
    assert sum(int(re.findall(r": ([\d,]+) job", bar.title)[-1]) for bar in times.bars) == len(ended)
    assert len(dots.dots) == len(ended)
    assert all(0 <= dot.x <= 1000 and 0 <= dot.y <= 300 for dot in dots.dots)
    for bar in [*costs.bars, *times.bars]:
        assert bar.y >= -0.01
        assert bar.y + bar.height <= 300.01
        assert bar.x + bar.width <= 1000.01


def test_a_job_far_out_does_not_flatten_the_rest() -> None:
    result = sample_result(sample_events(turns=1))
    rows = [result.model_copy(update={"seconds": 10.0 + n}) for n in range(40)]
    plot = time_histogram([*rows, result.model_copy(update={"seconds": 1e6})])
    assert plot is not None
    assert len({bar.x for bar in plot.bars}) > 5
    assert plot.bars[-1].title.startswith("from ")


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.001, 1.0, 60.0, 1e5, 1e9])
@pytest.mark.parametrize("jobs", [1, 2, 30])
def test_any_amounts_can_be_drawn(value: float, jobs: int) -> None:
    result = sample_result(sample_events(turns=1))
    rows = [
        result.model_copy(update={"seconds": value * n, "cost_usd": Decimal(str(value))}) for n in range(1, jobs + 1)
    ]
    placed = [Placed("a", row) for row in rows]
    html = render_batch("x", placed, totals(rows))
    assert "nan" not in html.lower().replace("nano", "")
    assert (scatter(placed) is None) == (value == 0)
    assert (cost_curve(rows) is None) == (value == 0 or jobs == 1)


def test_a_batch_of_nothing_but_errors_is_drawn(tmp_path: Path) -> None:
    events: list[AnyEvent] = [
        JobStarted(job=job_facts(), time="2026-05-04T09:30:00Z"),
        Resumed(attempt=2, transcript="", replies=0, time="2026-05-04T09:30:00Z"),
        JobEnded(outcome="sandbox_error", reason="no engine", cause="sandbox", time="2026-05-04T09:30:00Z"),
    ]
    (tmp_path / "a").mkdir()
    write_chained(tmp_path / "a" / TRANSCRIPT, events)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert write_batch_report(tmp_path).totals.outcomes == {"sandbox_error": 2}
    assert "0 of 2 jobs done" in Page((tmp_path / REPORT).read_text()).whole_text
