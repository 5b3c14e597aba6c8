"""`claw-runner init`: files that are valid, commented and never written over others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import main


def test_the_starter_is_commented_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new" / "folder")]) == 0
    task, policy = (tmp_path / "new" / "folder" / name for name in ("task.yaml", "policy.yaml"))
    assert task.read_text().count("#") > 10
    assert policy.read_text().count("#") > 5
    capsys.readouterr()
    assert main(["check", str(task), str(policy), "--policy", str(policy)]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["policy", "test", str(policy)]) == 0


def test_it_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert f"claw-runner check {tmp_path}/task.yaml --policy {tmp_path}/policy.yaml" in capsys.readouterr().out


def test_the_folder_is_the_current_one_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.yaml", "task.yaml"]


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "task.yaml").write_text("mine")
    (tmp_path / "policy.yaml").symlink_to(tmp_path / "nowhere")
    assert main(["init", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "task.yaml").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert "task.yaml is there already; left as it is" in out
    assert "policy.yaml is there already; left as it is" in out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "task.yaml").touch()
    assert main(["init", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written == {f"{tmp_path}/task.yaml": "kept", f"{tmp_path}/policy.yaml": "written"}


def test_a_folder_that_cannot_be_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/sub"):
        assert main(["init", str(tmp_path / folder)]) == 2
        assert f"{tmp_path}/file" in capsys.readouterr().err
