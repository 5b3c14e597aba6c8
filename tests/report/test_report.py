"""The files of a finished job: all of them, whole, listed with their hashes, result.json last."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from runner.report import COST, PATCH, REPORT, RESULT, TRANSCRIPT, write_artifacts
from runner.result import JobResult, compute_result
from runner.transcript import ModelFailed, ModelReplied, read
from tests.report.sample import PATCH_BYTES, sample_events, write_transcript


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder when the job has ended and nothing is computed yet."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "0013-bash.log").write_bytes(b"full output\n")
    (tmp_path / "toolbox.log").write_bytes(b"")
    write_transcript(tmp_path / TRANSCRIPT, sample_events())
    return tmp_path


def _write(folder: Path, patch: bytes = PATCH_BYTES) -> JobResult:
    events = read(folder / TRANSCRIPT)
    return write_artifacts(folder, compute_result(events, transcript_hash="4" * 64), events, patch)


def test_every_file_but_the_result_is_listed_with_size_and_hash(folder: Path) -> None:
    result = _write(folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert [artifact.path for artifact in result.artifacts] == sorted(files - {RESULT})
    for artifact in result.artifacts:
        data = (folder / artifact.path).read_bytes()
        assert (artifact.bytes, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_result_on_the_disk_is_the_one_returned(folder: Path) -> None:
    result = _write(folder)
    assert JobResult.model_validate_json((folder / RESULT).read_bytes()) == result


def test_the_patch_is_kept_byte_for_byte(folder: Path) -> None:
    patch = b"diff --git a/x b/x\n\xff\xfe\x00\r\n"
    _write(folder, patch)
    assert (folder / PATCH).read_bytes() == patch


def test_a_job_that_changed_nothing_has_an_empty_patch(folder: Path) -> None:
    _write(folder, b"")
    assert (folder / PATCH).read_bytes() == b""


def test_writing_again_replaces_all_and_lists_nothing_twice(folder: Path) -> None:
    first, second = _write(folder), _write(folder)
    assert [artifact.path for artifact in first.artifacts] == [artifact.path for artifact in second.artifacts]


def test_no_result_appears_when_another_file_cannot_be_written(folder: Path) -> None:
    (folder / REPORT).mkdir()
    with pytest.raises(IsADirectoryError):
        _write(folder)
    assert not (folder / RESULT).exists()
    assert not list(folder.glob(".claw-*"))


def test_the_cost_adds_up_per_turn_and_per_model(folder: Path) -> None:
    result = _write(folder)
    cost = json.loads((folder / COST).read_bytes())
    assert (cost["version"], cost["currency"], cost["complete"]) == (1, "USD", True)
    assert Decimal(cost["total_usd"]) == result.cost_usd
    assert sum(Decimal(turn["cost_usd"]) for turn in cost["turns"]) == result.cost_usd
    assert sum(Decimal(model["cost_usd"]) for model in cost["models"]) == result.cost_usd
    assert [turn["turn"] for turn in cost["turns"]] == list(range(1, 32))
    assert sum(turn["usage"]["output_tokens"] for turn in cost["turns"]) == cost["usage"]["output_tokens"]


def test_an_unknown_price_is_null_and_the_cost_incomplete(tmp_path: Path) -> None:
    events = [
        event.model_copy(update={"cost_usd": None}) if isinstance(event, ModelReplied) else event
        for event in sample_events(turns=3)
    ]
    write_transcript(tmp_path / TRANSCRIPT, events)
    result = _write(tmp_path)
    cost = json.loads((tmp_path / COST).read_bytes())
    assert (cost["total_usd"], cost["complete"], cost["models"][0]["cost_usd"]) == (None, False, None)
    assert (result.cost_usd, result.cost_complete) == (None, False)


def test_a_failed_request_has_a_row_of_its_own(tmp_path: Path) -> None:
    events = list(sample_events(turns=3))
    events.insert(-1, ModelFailed(turn=9, error="HTTP 529", model="m"))
    write_transcript(tmp_path / TRANSCRIPT, events)
    _write(tmp_path)
    row = json.loads((tmp_path / COST).read_bytes())["turns"][-1]
    assert (row["turn"], row["answered"], row["model"], row["cost_usd"]) == (9, False, "m", None)
