"""`claw-runner show JOB`, through the front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli import main
from runner.report import RESULT, TRANSCRIPT, write_artifacts
from runner.result import JobResult, compute_result
from runner.transcript import read
from tests.report.sample import PATCH_BYTES, sample_events, write_transcript

JOB = "fix-slugify-20260504-093000-a1b2"


def make_job(folder: Path, *, turns: int = 3) -> JobResult:
    """A finished job's folder."""
    folder.mkdir(parents=True)
    end = write_transcript(folder / TRANSCRIPT, sample_events(turns))
    events = read(folder / TRANSCRIPT)
    return write_artifacts(folder, compute_result(events, transcript_hash=end), events, PATCH_BYTES)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished job under ./runs."""
    monkeypatch.chdir(tmp_path)
    make_job(tmp_path / "runs" / JOB)
    return tmp_path / "runs" / JOB


@pytest.mark.parametrize("name", [JOB, "fix-slug", f"runs/{JOB}", f"runs/{JOB}/"])
def test_a_job_is_found_by_id_by_its_beginning_and_by_path(
    job: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 0
    assert capsys.readouterr().out.startswith("SOLVED  fix-slugify: all 2 checks passed\n")


def test_a_job_of_a_batch_is_found(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(job.parent / "batch-7" / "other-job")
    assert main(["show", "other-job"]) == 0
    assert "runs/batch-7/other-job/report.html" in capsys.readouterr().out


def test_of_several_that_begin_so_the_newest_is_taken(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(job.parent / "fix-slugify-20990101-000000-ffff")
    make_job(job.parent / "fix-slugify-20200101-000000-0000")
    for name in (TRANSCRIPT, RESULT):
        os.utime(job.parent / "fix-slugify-20200101-000000-0000" / name, (1, 1))
        os.utime(job / name, (2, 2))
    assert main(["show", "fix-slugify"]) == 0
    assert "fix-slugify-20990101-000000-ffff/report.html" in capsys.readouterr().out


def test_an_exact_id_wins_over_a_newer_job_that_begins_so(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(job.parent / f"{JOB}-again")
    assert main(["show", JOB]) == 0
    assert f"{JOB}/report.html" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nothing", "", "runs", "/etc"])
def test_an_unknown_job_is_a_usage_error_that_names_the_newest(
    job: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"the newest is {JOB}" in err


def test_json_is_the_result_and_nothing_else(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", JOB, "--json"]) == 0
    assert capsys.readouterr() == ((job / RESULT).read_text(), "")


def test_json_survives_a_terminal_without_unicode(job: Path) -> None:
    variables = os.environ | {"PYTHONIOENCODING": "ascii"}
    code = "import sys; from runner.cli import main; sys.exit(main(['show', sys.argv[1], '--json']))"
    command = [sys.executable, "-c", code, str(job)]
    shown = subprocess.run(command, env=variables, check=True, capture_output=True, timeout=60)
    assert (shown.stdout, shown.stderr) == ((job / RESULT).read_bytes(), b"")


@pytest.mark.parametrize("torn", [b"", b'{"seq":7,"ti'])
def test_an_unfinished_job_shows_how_far_it_came(job: Path, torn: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (job / RESULT).unlink()
    lines = (job / TRANSCRIPT).read_bytes().splitlines(keepends=True)[:7]
    (job / TRANSCRIPT).write_bytes(b"".join(lines) + torn)
    assert main(["show", JOB]) == 0
    out = capsys.readouterr().out
    assert "UNFINISHED" in out
    assert "1 turn, 7 events" in out
    assert ("cut short" in out) == bool(torn)
    assert main(["show", JOB, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["outcome"], facts["turns"], facts["torn_bytes"]) == (None, 1, len(torn))
    assert facts["cost_usd"] == "0.005313"


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b'{"version": 2}', b"\xff"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_file_that_is_no_result_is_a_usage_error(
    job: Path, data: bytes, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (job / RESULT).write_bytes(data)
    assert main(["show", JOB, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{JOB}/result.json: " in err


def test_a_damaged_transcript_of_an_unfinished_job_is_named_with_its_line(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job / RESULT).unlink()
    (job / TRANSCRIPT).write_bytes(b"garbage\n")
    assert main(["show", JOB]) == 2
    assert "transcript.jsonl:1: not an event" in capsys.readouterr().err
