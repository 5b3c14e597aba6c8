"""`claw-runner verify JOB`, through the front door: every difference is found and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main
from runner.report import PATCH, RESULT, TRANSCRIPT
from runner.transcript import AnyEvent, JobEnded, JobStarted, SandboxOpened
from tests.cli.test_show import make_job
from tests.report.sample import job_facts, write_transcript


@pytest.fixture
def job(tmp_path: Path) -> Path:
    make_job(tmp_path / "job")
    return tmp_path / "job"


def _verify(job: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The exit code and the report; the text must agree with them."""
    code = main(["verify", str(job), "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert main(["verify", str(job)]) == code
    text = capsys.readouterr().out
    for finding in report["findings"]:
        assert finding["file"] in text
    assert ("all as it was written" in text) == report["intact"]
    assert report["intact"] == (code == 0)
    return code, report


def _edit_result(job: Path, **changes: Any) -> None:
    (job / RESULT).write_text(json.dumps(json.loads((job / RESULT).read_text()) | changes))


def test_an_untouched_job_is_intact(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = _verify(job, capsys)
    assert (code, report["findings"], report["not_listed"]) == (0, [], [])


def test_a_changed_file_is_named_with_both_hashes(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (job / PATCH).read_bytes()
    (job / PATCH).write_bytes(data[:-1] + b"X")
    code, report = _verify(job, capsys)
    assert code == 1
    assert [(finding["file"], finding["problem"]) for finding in report["findings"]] == [(PATCH, "changed")]
    assert report["findings"][0]["what"].startswith("SHA-256 is ")


def test_a_longer_file_is_named_with_both_sizes(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / PATCH).write_bytes(b"x" * 5)
    _, report = _verify(job, capsys)
    assert report["findings"][0]["what"].startswith("5 bytes, were ")


def test_a_missing_file_is_named(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "report.html").unlink()
    code, report = _verify(job, capsys)
    assert code == 1
    assert [(finding["file"], finding["problem"]) for finding in report["findings"]] == [("report.html", "missing")]


def test_a_changed_event_is_named_by_its_line(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (job / TRANSCRIPT).read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"look at", b"LOOK AT")
    (job / TRANSCRIPT).write_bytes(b"".join(lines))
    code, report = _verify(job, capsys)
    assert code == 1
    assert {(finding["file"], finding["problem"]) for finding in report["findings"]} == {
        (TRANSCRIPT, "damaged"),
        (TRANSCRIPT, "changed"),
    }
    assert "transcript.jsonl:6: prev is not the hash of the line before" in report["findings"][0]["what"]


def test_a_changed_last_event_is_noticed_by_its_hash(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (job / TRANSCRIPT).read_bytes()
    (job / TRANSCRIPT).write_bytes(data.replace(b'"outcome":"solved"', b'"outcome":"denied"'))
    _, report = _verify(job, capsys)
    said = " ".join(finding["what"] for finding in report["findings"])
    assert "hashes.transcript: says " in said
    assert "outcome: says solved, the transcript says denied" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("outcome", "unsolved"),
        ("cost_usd", "0.01"),
        ("turns", 1),
        ("reason", "because"),
        ("branch", "main"),
        ("checks", []),
    ],
)
def test_a_result_that_says_what_the_transcript_does_not_is_named(
    job: Path, field: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit_result(job, **{field: value})
    code, report = _verify(job, capsys)
    assert code == 1
    assert [(finding["file"], finding["problem"]) for finding in report["findings"]] == [(RESULT, "contradicts")]
    assert report["findings"][0]["what"].startswith(f"{field}: says ")


def test_a_field_that_an_older_writer_did_not_know_is_no_contradiction(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((job / RESULT).read_text())
    del result["timings"]
    (job / RESULT).write_text(json.dumps(result))
    assert _verify(job, capsys)[0] == 0


@pytest.mark.parametrize("cut", [1, 100])
def test_a_cut_transcript_is_unfinished(job: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    data = (job / TRANSCRIPT).read_bytes()
    (job / TRANSCRIPT).write_bytes(data[:-cut])
    code, report = _verify(job, capsys)
    assert code == 1
    assert report["findings"][0]["problem"] == "unfinished"
    assert "was cut short after" in report["findings"][0]["what"]


def test_a_transcript_without_its_end_is_unfinished(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (job / TRANSCRIPT).read_bytes().splitlines(keepends=True)
    (job / TRANSCRIPT).write_bytes(b"".join(lines[:-1]))
    _, report = _verify(job, capsys)
    assert report["findings"][0]["what"] == f"it ends after line {len(lines) - 1}, before the job did"


@pytest.mark.parametrize(
    "event", [JobStarted(job={}), SandboxOpened(purpose="agent", report={"engine": "podman", "controls": [1]})]
)
def test_a_transcript_that_no_result_can_be_computed_of_is_damaged(
    job: Path, event: AnyEvent, capsys: pytest.CaptureFixture[str]
) -> None:
    (job / TRANSCRIPT).unlink()
    first = event if event.type == "job_started" else JobStarted(job=job_facts())
    write_transcript(job / TRANSCRIPT, (first, event, JobEnded(outcome="changed", reason="x")))
    code, report = _verify(job, capsys)
    assert code == 1
    assert report["findings"][0]["what"].startswith("no result can be computed of it: ")


@pytest.mark.parametrize("name", [TRANSCRIPT, RESULT])
def test_a_job_without_transcript_or_result_differs(job: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (job / name).unlink()
    code, report = _verify(job, capsys)
    assert code == 1
    assert (name, "missing") in {(finding["file"], finding["problem"]) for finding in report["findings"]}


def test_a_result_that_cannot_be_read_is_damaged(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / RESULT).write_bytes(b"{")
    _, report = _verify(job, capsys)
    assert [(finding["file"], finding["problem"]) for finding in report["findings"]] == [(RESULT, "damaged")]


def test_a_file_that_came_later_is_mentioned_and_no_difference(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "notes.txt").write_text("mine")
    code, report = _verify(job, capsys)
    assert (code, report["not_listed"]) == (0, ["notes.txt"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "logs/../../secret", "link/secret", "link"])
def test_a_hostile_result_cannot_have_files_outside_read(
    job: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (job.parent / "secret").write_text("s")
    (job / "link").symlink_to(job.parent)
    result = json.loads((job / RESULT).read_text())
    _edit_result(job, artifacts=[*result["artifacts"], {"path": path, "bytes": 1, "sha256": "0" * 64}])
    _, report = _verify(job, capsys)
    assert {(finding["file"], finding["what"]) for finding in report["findings"]} == {
        (path, "the path leads out of the folder")
    }


def test_a_hostile_result_does_nothing_to_the_terminal(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _edit_result(job, artifacts=[{"path": "\x1b[2J\u202e", "bytes": 1, "sha256": "0" * 64}], reason="\x1b]0;x\x07")
    main(["verify", str(job)])
    assert not set(capsys.readouterr().out) & set("\x1b\x07\u202e")


def test_an_unknown_job_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "nothing"]) == 2
