"""`claw-runner policy import`, through the front door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import main
from runner.policy import load_policy

SETTINGS = {
    "permissions": {
        "defaultMode": "dontAsk",
        "allow": ["Bash(npm run *)", "Edit(/src/**)", "Skill(pdf)", "Bash(npm run test*)"],
        "deny": ["Read(./.env)"],
    }
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with settings of a repository in it."""
    monkeypatch.chdir(tmp_path)
    Path(".claude").mkdir()
    Path(".claude/settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_the_policy_goes_to_stdout_and_the_losses_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "import", ".claude/settings.json"]) == 0
    out, err = capsys.readouterr()
    Path("policy.yaml").write_text(out)
    policy = load_policy(Path("policy.yaml")).value
    assert [str(rule) for rule in policy.allow] == [
        "Bash(npm run:*)",
        "Edit(/src/**)",
        "Bash(npm run test*)",
        "Read(**)",
    ]
    assert err.splitlines()[0] == (
        "from settings.json, settings of Claude Code: 4 taken over exactly, 1 stricter, 1 left out"
    )
    assert "left out: .claude/settings.json:1:" in err
    assert "jobs have no tool Skill" in err


def test_the_losses_stand_above_the_policy_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "import", ".claude/settings.json", "--out", "policy.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    written = Path("policy.yaml").read_text()
    assert err.splitlines() == [line[2:] for line in written.splitlines() if line.startswith("#")]


def test_each_of_the_three_is_known_by_what_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rules").write_text('prefix_rule(pattern=["git", "status"])\n')
    Path("opencode.json").write_text('{"permission": {"bash": {"*": "deny", "git status": "allow"}}}')
    for name in ("rules", "opencode.json"):
        assert main(["policy", "import", name]) == 0
        assert '- "Bash(git status' in capsys.readouterr().out


def test_whose_settings_they_are_can_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.json").write_text("{}")
    assert main(["policy", "import", "x.json"]) == 2
    assert "x.json:1:1: it does not show whose settings these are; say --from claude, codex" in capsys.readouterr().err
    assert main(["policy", "import", "x.json", "--from", "claude"]) == 0
    assert main(["policy", "import", "x.json", "--from", "gemini"]) == 2


def test_settings_of_a_user_say_nothing_of_paths_in_the_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert main(["policy", "import", ".claude/settings.json"]) == 0
    out, err = capsys.readouterr()
    assert "Edit(/src/**)" not in out.partition("mode:")[2]
    assert "is relative to the settings file, which is not one of the repository" in err


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'{"permissions": {"allow": "Bash"}}', "bad.json:1:27: permissions.allow: must be a list (got 'Bash')"),
        (b'{"permissions": \xff}', "bad.json: byte 16 is not UTF-8"),
        (b"prefix_rule(pattern=x)", "bad.json:1:1: prefix_rule[0]: pattern must be written out"),
        (b" " * 2_000_000, "bad.json: is larger than 1,048,576 bytes"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_two(data: bytes, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_bytes(data)
    assert main(["policy", "import", "bad.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert what in err


@pytest.mark.parametrize("name", ["none.json", ".claude"])
def test_what_is_no_file_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "import", name]) == 2
    assert f"{name}: " in capsys.readouterr().err


def test_hostile_settings_cannot_write_lines_of_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    rule = 'prefix_rule(pattern=["a"], justification="x\\nmode: blacklist\\u202e\\x1b[2J")\n'
    Path("rules").write_text(rule)
    assert main(["policy", "import", "rules"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
    Path("policy.yaml").write_text(out)
    assert load_policy(Path("policy.yaml")).value.mode == "interactive"
