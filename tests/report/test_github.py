"""What GitHub Actions is given: a summary of bounded size, outputs, annotations; none of it moved by hostile text."""

from __future__ import annotations

import io
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from runner.errors import OUTCOMES
from runner.report import to_github
from runner.report.github import (
    MOST_ANNOTATIONS,
    SUMMARY_BYTES,
    batch_outputs,
    error_lines,
    exit_class,
    job_outputs,
    step_summary,
    write_outputs,
)
from runner.report.jobs import Row
from runner.result import Claim, Incomplete, JobResult, compute_result
from tests.report.batches import job_events
from tests.report.sample import HOSTILE, sample_events, sample_result

TAGS = {"h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code"}
DAMAGED = Incomplete(job="broken", problem="damaged", reason="transcript.jsonl:3: not an event")
MARKDOWN = (
    *HOSTILE,
    "a | b |\n|---|\n| c",
    "\\| x \\\\| y",
    "`code` ``` ~~~ `",
    "![i](http://evil.invalid/x.png) [l](javascript:x) <img src=x>",
    "@octocat please, see #1 and acme/pager#2, GH-3 and https://evil.invalid www.evil.invalid a@b.example",
    "::error::owned ##[error]owned",
    "</code></td></table> <!-- $\\sqrt{1}$ :rocket: **bold** _it_ ~~s~~",
    "&#124; &lt;b&gt; &copy;",
    "# heading\n- list\n> quote",
)


@pytest.fixture(scope="module")
def result() -> JobResult:
    return sample_result(sample_events(turns=3))


def _with(result: JobResult, **more: Any) -> JobResult:
    return result.model_copy(update=more)


class Page(HTMLParser):
    """The elements that a Markdown reader makes, and the text of each cell of its table."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and data != "\n":
            self.cells[-1] += data


def test_the_summary_has_a_row_for_each_job_and_what_needs_a_look_first(result: JobResult) -> None:
    rows = [_with(result, job="fine"), _with(result, job="wrong", title="wrong", outcome="unsolved"), DAMAGED]
    page = Page(step_summary("nightly", rows))
    assert page.tags.count("tr") == 4
    assert page.cells[1::10][:3] == ["wrong", "broken", "fix-slugify"]
    assert "2/2" in page.cells


def test_the_summary_counts_outcomes_and_says_what_it_cost(result: JobResult) -> None:
    text = step_summary("nightly", [result, _with(result, outcome="limit")])
    assert "2 jobs: **1** solved, **1** limit. Cost $0.0" in text


def test_claims_that_do_not_hold_are_told(result: JobResult) -> None:
    claims = (Claim(text="All tests pass.", about="tests", observed="exit 1", holds=False),)
    assert "Claims that what was observed contradicts" in step_summary("x", [_with(result, claims=claims)])
    assert "Claims" not in step_summary("x", [result])


@pytest.mark.parametrize("text", MARKDOWN)
def test_hostile_text_changes_nothing_but_the_text(result: JobResult, text: str) -> None:
    _assert_harmless(result, text)


@given(
    text=st.text(st.sampled_from("|`*_[]()<>!@#&:;\\/$~-\n\r \t.aw0\x1b\u202e\ud800") | st.characters(), max_size=50)
)
def test_any_text_changes_nothing_but_the_text(text: str) -> None:
    _assert_harmless(compute_result(job_events(1, random.Random(1), turns=1), transcript_hash=""), text)


def _assert_harmless(result: JobResult, text: str) -> None:
    claim = Claim(text=text, about="tests", observed=text, holds=False)
    row = _with(result, title=text, reason=text, branch=text, claims=(claim,))
    markdown = step_summary(text, [row, _with(result, title="after", branch="b", reason="r", claims=())])
    page = Page(markdown)
    assert set(page.tags) <= TAGS
    assert page.attributes <= {"style"}
    assert (page.tags.count("tr"), page.tags.count("td"), page.tags.count("h2")) == (3, 20, 1)
    assert "after" in page.cells[1::10]
    assert not re.search(r"^\s*::|##\[|@\w|https?://|www\.|[\x00-\x08\x0b-\x1f]", markdown, re.MULTILINE)


def test_text_is_shown_as_it_was(result: JobResult) -> None:
    page = Page(step_summary("x", [_with(result, title="a | `b` <c> *d* \\ &amp;")]))
    assert page.cells[1] == "a | `b` <c> *d* \\ &amp;"


def test_a_summary_of_very_many_jobs_says_how_many_it_leaves_out(result: JobResult) -> None:
    rows: list[Row] = [_with(result, job=f"{n}", title="|" * 200, reason="<" * 900) for n in range(1_200)]
    text = step_summary("x", rows)
    assert SUMMARY_BYTES - 20_000 < len(text.encode()) <= SUMMARY_BYTES
    left = re.search(r"… and ([\d,]+) more jobs; results.csv", text)
    assert left is not None
    assert int(left[1].replace(",", "")) + Page(text).tags.count("tr") - 1 == 1_200


@pytest.mark.parametrize("limit", [0, 100, 2_000, 3_000])
def test_a_summary_keeps_to_any_limit(result: JobResult, limit: int) -> None:
    assert len(step_summary("x", [result] * 9, limit=limit).encode()) <= limit


# --- outputs


def test_the_outputs_of_a_job_are_its_evidence(result: JobResult) -> None:
    outputs = job_outputs(result, Path("/runs/x"))
    assert (outputs["outcome"], outputs["exit-class"], outputs["exit-code"]) == ("solved", "done", "0")
    assert (outputs["verified"], outputs["changed-files"], outputs["cost-complete"]) == ("pass", "4", "true")
    assert (outputs["branch"], outputs["commit"]) == (result.branch, result.commit)
    assert outputs["report-path"] == "/runs/x/report.html"
    assert set(outputs) >= {"cost-usd", "input-tokens", "output-tokens", "cached-tokens", "turns", "denied-count"}
    assert job_outputs(_with(result, checks=()), Path("x"))["verified"] == "skipped"
    failed = tuple(check.model_copy(update={"passed": False}) for check in result.checks)
    assert job_outputs(_with(result, checks=failed), Path("x"))["verified"] == "fail"


def test_the_outputs_of_a_batch_are_counts_and_sums(result: JobResult) -> None:
    outputs = batch_outputs([result, _with(result, outcome="limit"), DAMAGED], Path("/runs/b"))
    assert (outputs["jobs"], outputs["done"]) == ("3", "1")
    assert outputs["outcomes"] == '{"solved": 1, "limit": 1, "damaged": 1}'
    assert (outputs["cost-complete"], outputs["csv-path"]) == ("false", "/runs/b/results.csv")


def test_each_outcome_has_one_of_five_classes(result: JobResult) -> None:
    classes = {outcome: exit_class(_with(result, outcome=outcome)) for outcome in OUTCOMES}
    assert [outcome for outcome, one in classes.items() if one == "done"] == ["solved", "changed"]
    assert set(classes.values()) == {"done", "failed", "error", "usage", "cancelled"}


def _parsed(text: str) -> dict[str, str]:
    """As GitHub's own runner reads the file."""
    values, lines = {}, iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, found, delimiter = line.partition("<<")
        assert found
        value = []
        for more in lines:
            if more == delimiter:
                break
            value.append(more)
        values[name] = "\n".join(value)
    return values


@given(text=st.text(st.characters(), max_size=60) | st.sampled_from(["a\nEOF\nbranch=evil", "x<<y\nz", "\r\n=1"]))
def test_no_value_can_begin_another_output(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("github") / "output"
    path.write_text("before<<E\n1\nE\n")
    write_outputs(path, {"reason": text, "branch": "b"})
    values = _parsed(path.read_text())
    assert list(values) == ["before", "reason", "branch"]
    assert values["branch"] == "b"


def test_delimiters_differ(tmp_path: Path) -> None:
    write_outputs(tmp_path / "o", dict.fromkeys("abc", "x"))
    assert len(set(re.findall(r"<<(\w+)", (tmp_path / "o").read_text()))) == 3


# --- annotations


def test_what_did_not_succeed_is_an_error_line_that_nothing_can_end(result: JobResult) -> None:
    evil = "50%, a:b\n::add-mask::x\r::error::y"
    (line,) = error_lines([result, _with(result, outcome="unsolved", title=evil, reason=evil)])
    head, _, message = line.partition("::")[2].partition("::")
    assert head == "error title=unsolved%3A 50%25%2C a%3Ab ⟨%3A%3A⟩add-mask%3A%3Ax ⟨%3A%3A⟩error%3A%3Ay"
    assert message.startswith(f"{result.job}: 50%25, a:b ⟨::⟩")
    assert "\n" not in line


def test_there_are_not_more_error_lines_than_are_shown(result: JobResult) -> None:
    lines = error_lines([_with(result, outcome="limit", job=str(n)) for n in range(200)])
    assert len(lines) == MOST_ANNOTATIONS
    assert lines[-1].endswith("191 more jobs did not succeed")
    assert len(error_lines([_with(result, outcome="limit")] * 10)) == 10


# --- all of it


def test_nothing_is_written_outside_github(tmp_path: Path, result: JobResult) -> None:
    out = io.StringIO()
    to_github({}, [result], title="x", folder=tmp_path, stream=out)
    assert (out.getvalue(), list(tmp_path.iterdir())) == ("", [])


def test_summary_outputs_and_annotations_are_written_where_github_wants_them(tmp_path: Path, result: JobResult) -> None:
    summary, output, out = tmp_path / "summary", tmp_path / "output", io.StringIO()
    summary.write_text("before\n")
    variables = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output), "GITHUB_ACTIONS": "true"}
    failed = _with(result, outcome="denied", reason="no")
    to_github(variables, [failed], title="x", folder=Path("runs") / result.job, stream=out)
    assert summary.read_text().startswith("before\n## <code>x</code>")
    assert _parsed(output.read_text())["outcome"] == "denied"
    assert out.getvalue().startswith("::error title=denied%3A fix-slugify::")


def test_many_results_give_the_outputs_of_a_batch(tmp_path: Path, result: JobResult) -> None:
    output = tmp_path / "output"
    to_github({"GITHUB_OUTPUT": str(output)}, [result, result], title="x", folder=Path("runs/b"))
    assert _parsed(output.read_text())["jobs"] == "2"


def test_a_summary_that_is_nearly_full_is_not_made_too_long(tmp_path: Path, result: JobResult) -> None:
    summary = tmp_path / "summary"
    summary.write_bytes(b"x" * (SUMMARY_BYTES - 100))
    to_github({"GITHUB_STEP_SUMMARY": str(summary)}, [result], title="x", folder=Path("runs/b"))
    assert summary.stat().st_size <= SUMMARY_BYTES


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, result: JobResult) -> None:
    out = io.StringIO()
    variables = {"GITHUB_OUTPUT": str(tmp_path / "no" / "output"), "GITHUB_ACTIONS": "true"}
    to_github(variables, [result], title="x", folder=tmp_path, stream=out)
    assert out.getvalue().startswith("::warning::claw-runner could not write")
