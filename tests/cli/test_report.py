"""`claw-runner report`: a batch's or a job's reports again, from the transcripts alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import main
from tests.report.batches import damage, write_batch


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/nightly, with four jobs; seen from the folder that runs/ is in."""
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "runs" / "nightly", 4, turns=2)
    return Path("runs/nightly")


def test_the_reports_of_a_batch_are_written_and_counted(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(batch)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nightly: 4 jobs\n")
    assert "  cost" in out
    for name in ("report.html", "results.csv", "junit.xml", "summary.md", "batch.json"):
        assert f"runs/nightly/{name}" in out
        assert (batch / name).is_file()
    assert all((job / "report.html").is_file() for job in batch.glob("fix-*"))


def test_all_writes_the_files_of_every_job_again(batch: Path) -> None:
    main(["report", str(batch)])
    page = batch / "fix-0001" / "report.html"
    page.write_text("old")
    main(["report", str(batch)])
    assert page.read_text() == "old"
    main(["report", str(batch), "--all"])
    assert page.read_text() != "old"


def test_json_is_the_totals_and_nothing_else(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(batch), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((batch / "batch.json").read_text())


def test_a_damaged_job_is_named_with_its_line_and_the_exit_code_is_0(
    batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(batch / "fix-0002" / "transcript.jsonl", line=4)
    assert main(["report", str(batch)]) == 0
    out = capsys.readouterr().out
    assert "fix-0002: transcript.jsonl:4: not an event" in " ".join(out.split())


def test_the_files_of_a_job_are_written_again(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(batch / "fix-0001")]) == 0
    assert "job       fix-0001" in capsys.readouterr().out
    assert {path.name for path in (batch / "fix-0001").iterdir()} >= {"result.json", "report.html", "junit.xml"}
    assert main(["verify", str(batch / "fix-0001")]) == 0


def test_a_job_is_found_by_its_id_and_its_result_printed_as_json(
    batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "fix-0002", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((batch / "fix-0002" / "result.json").read_text())


def test_a_job_without_an_end_has_no_result_to_write(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript = batch / "fix-0001" / "transcript.jsonl"
    transcript.write_bytes(b"".join(transcript.read_bytes().splitlines(keepends=True)[:3]))
    assert main(["report", str(transcript.parent)]) == 2
    assert "unfinished: still running, or ended by force" in capsys.readouterr().err
    assert not (transcript.parent / "result.json").exists()


def test_what_is_not_there_is_said(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "nothing-like-it"]) == 2
    assert "nothing-like-it" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (batch / "report.html").mkdir()
    assert main(["report", str(batch)]) == 2
    assert "cannot be written" in capsys.readouterr().err
