"""`claw-runner check`: every mistake of every file, and the resolved job, without running anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import main

TASK = """\
version: 1
name: fix-it
prompt: |
  Fix {{ vars.what }}.
vars: {what: the bug}
checks: {run: ["make test"], protect: ["tests/**"], repair_rounds: 1}
limits: {turns: 7, seconds: 90, cost_usd: 1.5}
"""
POLICY = "version: 1\nmode: whitelist\nallow: [Read, 'Edit(src/**)', 'Bash(ls:*)']\ndeny: ['Edit(.git/**)']\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "bad-task.yaml").write_text("version: 1\nname: x\nprompt: '{{ nope'\nlimits: {turns: 0}\n")
    (tmp_path / "bad-policy.yaml").write_text("version: 1\nmode: whitelist\nallow: [Raed, Bsh]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_task_under_a_policy_is_shown_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "task.yaml", "--policy", "policy.yaml"]) == 0
    out = capsys.readouterr().out
    for line in (
        "task.yaml: a valid task",
        "  repo      . at HEAD",
        "  image     base",
        "  check     make test",
        "  protect   tests/**",
        "  limits    7 turns, 90 s, $1.5",
        "  branch    claw/JOB",
        "  policy    policy.yaml: whitelist, 3 rules allow, 1 deny",
        "  tools     Bash, BashOutput, KillBash, Read, Write, Edit, Glob, Grep",
        "    | Fix the bug.",
    ):
        assert line in out.splitlines()


@pytest.mark.usefixtures("folder")
def test_which_file_is_which_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "policy.yaml", "task.yaml"]) == 0
    out = capsys.readouterr().out
    assert "policy.yaml: a valid policy" in out
    assert "task.yaml: a valid task" in out


@pytest.mark.usefixtures("folder")
def test_all_mistakes_in_all_files_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "bad-task.yaml", "bad-policy.yaml", "none.yaml", "task.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "claw-runner: bad-task.yaml:3:9: prompt: line 1 of the template: unexpected end of template, expected 'end of "
        "print statement'.",
        "claw-runner: bad-task.yaml:4:17: limits.turns: must be at least 1 (got 0)",
        "claw-runner: bad-policy.yaml:3:9: allow[0]: there is no tool 'Raed'; did you mean Read?",
        "claw-runner: bad-policy.yaml:3:15: allow[1]: there is no tool 'Bsh'; did you mean Bash?",
        "claw-runner: none.yaml: there is no such file",
    ]
    assert "task.yaml: a valid task" in captured.out


@pytest.mark.usefixtures("folder")
def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "task.yaml", "bad-policy.yaml", "--policy", "policy.yaml", "--json"]) == 2
    captured = capsys.readouterr()
    good, bad = json.loads(captured.out)
    assert captured.err == ""
    assert (good["kind"], good["valid"], good["errors"], good["warnings"]) == ("task", True, [], [])
    assert good["texts"]["prompt"] == "Fix the bug.\n"
    assert good["task"]["limits"]["turns"] == 7
    assert good["policy"]["allow"] == ["Read", "Edit(src/**)", "Bash(ls:*)"]
    assert (bad["kind"], bad["valid"], len(bad["errors"])) == ("policy", False, 2)


@pytest.mark.usefixtures("folder")
def test_keys_can_be_overridden(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "task.yaml", "--limits.turns", "9", "--vars.what=the docs"]) == 0
    out = capsys.readouterr().out
    assert "9 turns" in out
    assert "Fix the docs." in out
    assert main(["check", "task.yaml", "--limits.turns", "0"]) == 2
    assert capsys.readouterr().err == "claw-runner: --limits.turns: must be at least 1 (got 0)\n"


@pytest.mark.usefixtures("folder")
def test_a_shipped_policy_is_known_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "task.yaml", "--policy", "edit"]) == 0
    assert "edit.yaml: whitelist" in capsys.readouterr().out
    assert main(["check", "task.yaml", "--policy", "edti"]) == 2
    assert "no policy of that name; did you mean 'edit'?" in capsys.readouterr().err


def test_what_is_allowed_but_hardly_meant_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "black.yaml").write_text("version: 1\nmode: blacklist\n")
    (folder / "nothing.yaml").write_text("version: 1\nmode: whitelist\n")
    assert main(["check", "black.yaml", "nothing.yaml", "--policy", "readonly"]) == 0
    out = capsys.readouterr().out
    assert "warning   mode blacklist guards against accidents only" in out
    assert "warning   the policy allows nothing at all" in out
    assert main(["check", "task.yaml", "--policy", "readonly"]) == 0
    assert "warning   the task expects a change, but the policy allows none" in capsys.readouterr().out


def test_a_file_that_is_neither_is_said_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.yaml").write_text("a: 1\n")
    assert main(["check", "other.yaml"]) == 2
    assert "other.yaml:1:1: is neither a task (name, prompt, …) nor a policy" in capsys.readouterr().err


def test_a_template_that_fails_is_named_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "task.yaml").write_text("version: 1\nname: x\nprompt: '{{ vars.x }}'\n")
    assert main(["check", "task.yaml"]) == 2
    assert "task.yaml:3:9: prompt: vars has no attribute 'x'" in capsys.readouterr().err


def test_a_control_that_does_not_exist_is_named_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "policy.yaml").write_text(POLICY + "container: {best_effort: [memroy]}\n")
    assert main(["check", "policy.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "claw-runner: policy.yaml:5:27: container.best_effort[0]: there is no 'memroy'; did you mean 'memory'?"
    )
