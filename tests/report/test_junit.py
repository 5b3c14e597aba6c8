"""JUnit XML: what CI systems make of a batch, and that any of them can read it whatever was printed."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import OUTCOMES, Outcome
from runner.report.jobs import Row
from runner.report.junit import junit
from runner.result import Claim, Incomplete, JobResult, compute_result
from tests.report.batches import job_events
from tests.report.sample import HOSTILE, sample_events, sample_result


@pytest.fixture(scope="module")
def result() -> JobResult:
    return sample_result(sample_events(turns=3))


def _ended(result: JobResult, outcome: Outcome, **more: Any) -> JobResult:
    return result.model_copy(update={"outcome": outcome, **more})


UNFINISHED = Incomplete(job="a", problem="unfinished", reason="still running")
DAMAGED = Incomplete(job="b", problem="damaged", reason="transcript.jsonl:3: not an event")


def _suite(*rows: Row) -> ElementTree.Element:
    tree = ElementTree.fromstring(junit("nightly", rows))
    (suite,) = tree
    assert (tree.tag, suite.tag) == ("testsuites", "testsuite")
    return suite


def test_a_batch_is_a_suite_and_a_job_is_a_case(result: JobResult) -> None:
    rows = [_ended(result, outcome) for outcome in OUTCOMES] + [UNFINISHED, DAMAGED]
    suite = _suite(*rows)
    assert suite.get("name") == "nightly"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("15", "5", "8")
    assert len(suite.findall("testcase")) == 15
    assert suite.get("timestamp") == "2026-05-04T09:30:00"


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        ("solved", None),
        ("changed", None),
        ("unsolved", "failure"),
        ("no_change", "failure"),
        ("denied", "failure"),
        ("limit", "failure"),
        ("tampered", "failure"),
        ("provider_error", "error"),
        ("sandbox_error", "error"),
        ("checks_error", "error"),
        ("repo_error", "error"),
        ("config_error", "error"),
        ("cancelled", "error"),
    ],
)
def test_what_did_not_succeed_is_a_failure_and_what_is_ours_an_error(
    result: JobResult, outcome: Outcome, tag: str | None
) -> None:
    case = _suite(_ended(result, outcome, reason="why"))[0]
    found = [child for child in case if child.tag in ("failure", "error")]
    assert [(child.tag, child.get("type"), child.get("message")) for child in found] == (
        [(tag, outcome, "why")] if tag else []
    )


@pytest.mark.parametrize("row", [UNFINISHED, DAMAGED])
def test_a_job_without_a_result_is_an_error(row: Incomplete) -> None:
    error = _suite(row)[0].find("error")
    assert error is not None
    assert (error.get("type"), error.get("message")) == (row.problem, row.reason)


def test_cost_tokens_branch_and_commit_are_properties(result: JobResult) -> None:
    facts = {found.get("name"): found.get("value") for found in _suite(result).iter("property")}
    assert Decimal(facts["cost_usd"] or "") == result.cost_usd
    assert facts["output_tokens"] == str(result.usage.output_tokens)
    assert (facts["branch"], facts["commit"], facts["outcome"]) == (result.branch, result.commit, "solved")
    assert "cost_usd" not in {found.get("name") for found in _suite(_ended(result, "solved", cost_usd=None)).iter()}


def test_jobs_of_one_title_are_told_apart(result: JobResult) -> None:
    rows = [result.model_copy(update={"title": "same", "job": id}) for id in ("a", "b")]
    assert [case.get("name") for case in _suite(*rows)] == ["same [a]", "same [b]"]


def test_failed_checks_and_contradicted_claims_stand_in_the_failure(result: JobResult) -> None:
    checks = tuple(check.model_copy(update={"passed": False, "exit_code": 1}) for check in result.checks)
    claim = Claim(text="All tests pass.", about="tests", observed="exit 1", holds=False)
    failure = _suite(_ended(result, "unsolved", checks=checks, claims=(claim,)))[0].find("failure")
    assert failure is not None
    assert "check failed: pytest -q (exit 1)" in (failure.text or "")
    assert "claimed: All tests pass. - observed: exit 1" in (failure.text or "")


def _everywhere(result: JobResult, text: str) -> list[Row]:
    claim = Claim(text=text, about="tests", observed=text, holds=False)
    words = {"job": text, "title": text, "task": text, "reason": text, "final_message": text, "branch": text}
    whole = result.model_copy(
        update={**words, "outcome": "unsolved", "source": text, "model": text, "claims": (claim,)}
    )
    return [whole, Incomplete(job=text, title=text, problem="damaged", reason=text)]


@pytest.mark.parametrize(
    "hostile", [*HOSTILE, "]]>", "<![CDATA[", "<!--", "--", "&amp;&#0;&x;", "\ud800", "\ufffe\uffff", ""]
)
def test_it_is_read_whatever_was_printed(result: JobResult, hostile: str) -> None:
    data = junit(hostile, _everywhere(result, hostile))
    expat.ParserCreate().Parse(data, True)
    assert len(ElementTree.fromstring(data)[0].findall("testcase")) == 2


@given(text=st.text(st.characters(), max_size=60))
def test_any_text_gives_legal_xml_with_nothing_added(text: str) -> None:
    result = compute_result(job_events(1, random.Random(1), turns=1), transcript_hash="")
    tree = ElementTree.fromstring(junit(text, _everywhere(result, text)))
    assert {element.tag for element in tree.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property", "failure", "error", "system-out"),
    }


def test_very_long_texts_are_cut(result: JobResult) -> None:
    data = junit("x", [_ended(result, "unsolved", reason="<" * 1_000_000, final_message="&" * 1_000_000)])
    assert len(data) < 500_000
    assert b"980,000 characters more" in data
