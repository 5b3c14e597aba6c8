"""`claw-runner policy check | test | explain`: what people and programs are told about a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main

POLICY = """\
version: 1
mode: whitelist
allow:
  - Read
  - Edit(src/**)
  - Bash(ls:*)
  - Bash(git status:*)
  - WebFetch(domain:docs.example.org)
ask:
  - Bash(git commit:*)
deny:
  - Read(**/.env)
  - Edit(src/gen/**)
  - Bash(git push:*)
egress: {setup: [pypi.org], agent: [docs.example.org]}
secrets: []
tests:
  - {call: "Edit(src/a.py)", expect: allow}
  - {call: "Bash(git commit -m x)", expect: ask}
  - {call: "Bash(git push)", expect: deny}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "p.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["policy", *args]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def told(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    return json.loads(said(capsys, *args, "--json", code=code))


# --- check ---


def test_check_prints_what_a_policy_amounts_to(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "check", "p.yaml")
    for line in (
        "p.yaml: a valid policy",
        "  mode    whitelist: only what a rule allows",
        "  rules   5 allow, 1 ask, 3 deny; 3 examples",
        "  asking  600 s to answer, then it is denied; the clock of the job stops",
        "  Bash         allowed: ls:*, git status:*",
        "               asked: git commit:*",
        "               denied: git push:*",
        "  Read, Glob   anything",
        "  Grep         denied: **/.env",
        "  Write, Edit  allowed: src/**",
        "               denied: src/gen/**",
        "  WebFetch     allowed: domain:docs.example.org",
        "  egress     while setting up: pypi.org",
        "             for the agent's commands: docs.example.org",
        "             for the checks: nothing",
        "  secrets    none: commands see no variable of the host",
        "  commands   may write to src",
    ):
        assert line in out.splitlines()


@pytest.mark.parametrize("name", ["p.yaml", "readonly", "edit", "ci", "full-offline"])
def test_everything_fits_a_terminal_of_eighty_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["check", name], ["explain", name, "Bash(git push)"], ["explain", name, "Edit(.github/x)"]):
        out = said(capsys, *args)
        assert all(len(line) <= 80 or "/policies/" in line for line in out.splitlines())  # paths are not cut
        assert len(out.splitlines()) <= 60


@pytest.mark.parametrize("name", ["readonly", "edit", "ci", "full-offline"])
def test_a_shipped_policy_has_no_warning_and_no_note(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    described = told(capsys, "check", name)
    assert (described["valid"], described["warnings"], described["notes"]) == (True, [], [])


def test_check_warns_of_what_is_hardly_meant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.yaml").write_text("version: 1\nmode: whitelist\nallow: ['Edit(a)', 'Edit(a)']\ndeny: [Edit]\n")
    out = " ".join(said(capsys, "check", "p.yaml").split())
    assert "warning Edit(a) (p.yaml:3) has no effect: Edit (p.yaml:4) denies all of it" in out
    assert "Edit(a) (p.yaml:3) is there already: Edit(a) (p.yaml:3)" in out


@pytest.mark.parametrize("rule", ["Agent(model:haiku)", "mcp__github__get_issue"])
def test_check_notes_rules_for_tools_that_this_version_does_not_offer(
    folder: Path, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "p.yaml").write_text(f"version: 1\nmode: whitelist\nallow: [Read, '{rule}']\n")
    assert told(capsys, "check", "p.yaml")["notes"] == [
        f"{rule} (p.yaml:3): this version of claw-runner offers no such tool"
    ]
    assert f"note  {rule}" in said(capsys, "check", "p.yaml")


def test_a_wrong_policy_is_said_to_be_wrong_in_either_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.yaml").write_text("version: 1\nmode: whitelist\nallow: [Raed]\n")
    wrong = "p.yaml:3:9: allow[0]: there is no tool 'Raed'; did you mean Read?"
    assert told(capsys, "check", "p.yaml", code=2) == {"file": "p.yaml", "valid": False, "errors": [wrong]}
    assert main(["policy", "check", "p.yaml"]) == 2
    assert capsys.readouterr().err == f"claw-runner: {wrong}\n"


def test_json_holds_the_whole_policy(capsys: pytest.CaptureFixture[str]) -> None:
    described = told(capsys, "check", "p.yaml")
    assert described["policy"]["allow"][1] == "Edit(src/**)"
    assert described["policy"]["egress"]["agent"] == ["docs.example.org"]
    assert {"Bash", "Read", "Edit"} <= set(described["offered"])
    assert described["uncontained"][-1]["rule"] == "Bash(git commit:*)"


def test_a_name_with_escapes_does_nothing_to_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "\x1b[31mp.yaml").write_text(POLICY)
    assert "\x1b" not in said(capsys, "check", "\x1b[31mp.yaml")


# --- test ---


def test_examples_that_are_decided_as_expected_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "test", "p.yaml") == "p.yaml: all 3 examples passed\n"


def test_one_that_is_not_is_named_with_its_place_and_the_rule_that_decided(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "p.yaml").write_text(
        POLICY + '  - {call: "Read(.env)", expect: allow}\n  - {call: "Edit(a)", expect: ask}\n'
    )
    assert said(capsys, "test", "p.yaml", code=10).splitlines() == [
        "p.yaml:21: Read(.env): expected allow, got deny by Read(**/.env) (p.yaml:12)",
        "p.yaml:22: Edit(a): expected ask, got deny: no rule allows Edit of '/workspace/repo/a'; allowed are: "
        "Edit(src/**)",
        "p.yaml: 2 of 5 examples failed",
    ]
    tried = told(capsys, "test", "p.yaml", code=10)
    assert [item["passed"] for item in tried] == [True, True, True, False, False]
    assert tried[3]["decision"]["rule"] == "Read(**/.env)"


def test_the_last_example_of_a_call_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "q.yaml").write_text(
        "version: 1\nextends: p.yaml\nallow: ['Edit(b)']\n"
        "tests: [{call: 'Edit(b)', expect: allow}, {call: Bash(git push), expect: allow}]\n"
    )
    out = said(capsys, "test", "q.yaml", code=10)
    assert out.splitlines() == [
        "q.yaml:4: Bash(git push): expected allow, got deny by Bash(git push:*) (p.yaml:14)",
        "q.yaml: 1 of 4 examples failed",
    ]


def test_a_policy_without_examples_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.yaml").write_text("version: 1\nmode: whitelist\nallow: [Read]\n")
    assert said(capsys, "test", "p.yaml") == "p.yaml: no examples; write some under tests\n"


@pytest.mark.parametrize("name", ["readonly", "edit", "ci", "full-offline"])
def test_the_examples_of_a_shipped_policy_pass(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "examples passed" in said(capsys, "test", name)


# --- explain ---


def test_explain_names_decision_rule_place_and_what_would_be_needed(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "explain", "p.yaml", "Bash(git push origin main)")
    assert out.splitlines()[:5] == [
        "Bash(git push origin main)",
        "  decision  deny",
        "  rule      Bash(git push:*) (p.yaml:14)",
        "  reason    the policy denies it by the rule Bash(git push:*)",
        "  needed    the rule Bash(git push:*) would have to go: deny beats allow",
    ]


@pytest.mark.parametrize(
    ("call", "decision", "needed"),
    [
        ("Edit(lib/a.py)", "deny", "Edit(lib/a.py) under allow"),
        ("Edit(src/a.py)", "allow", None),
        ("Bash(git commit)", "ask", "the rule Bash(git commit:*) would have to go: ask beats allow"),
        ("WebFetch(https://example.org/)", "deny", "WebFetch(domain:example.org) under allow"),
        ("mcp__a__b", "deny", "mcp__a__b under allow"),
    ],
)
def test_the_rule_that_would_allow_it_is_written_out(
    call: str, decision: str, needed: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(capsys, "explain", "p.yaml", call)
    assert f"  decision  {decision}" in out.splitlines()
    assert (f"  needed    {needed}" in out.splitlines()) if needed else "needed" not in out


@pytest.mark.parametrize(
    ("call", "layers"),
    [
        ("Read(.env)", {"contain": "a file of base that is there is never brought in; commands do not find it"}),
        ("Read(src/a.py)", {"contain": "commands may read it too"}),
        ("Edit(src/a.py)", {"gate": "lets the change pass, within its limits"}),
        ("Edit(lib/a.py)", {"contain": "Landlock keeps commands from writing there"}),
        ("Edit(/etc/x)", {"gate": "sees nothing of it: only the repository comes out"}),
        ("Bash(ls)", {"gate": "judges every path that the commands changed, by the same rules"}),
        ("WebFetch(https://docs.example.org/)", {"contain": "commands reach this host, it is in egress.agent"}),
        ("WebFetch(https://example.net/)", {"contain": "commands do not reach this host, it is not in egress.agent"}),
    ],
)
def test_each_layer_says_what_it_does_about_the_call(
    call: str, layers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    explained = told(capsys, "explain", "p.yaml", call)["layers"]
    assert layers.items() <= explained.items()
    assert set(explained) <= {"decide", "contain", "gate"}


def test_what_commands_are_not_held_to_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "explain", "p.yaml", "Read(a)")
    assert "decided but not contained" in out
    assert "     Bash(git push:*) (p.yaml:14)" in out.splitlines()
    listed = told(capsys, "explain", "p.yaml", "Read(a)")["uncontained"]
    assert {"rule", "where", "why"} == set(listed[0])


def test_what_is_no_call_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", "p.yaml", "git push"]) == 2
    assert "'git push' is not a call; write Tool(subject)" in capsys.readouterr().err


# --- Which policy is meant ---


def test_the_name_of_a_preset_is_never_a_file_of_the_current_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "edit").write_text("version: 1\nmode: blacklist\n")
    (folder / "ci").mkdir()
    assert told(capsys, "check", "edit")["policy"]["mode"] == "whitelist"
    assert told(capsys, "check", "ci")["policy"]["mode"] == "whitelist"
    assert told(capsys, "check", "./edit")["policy"]["mode"] == "blacklist"


def test_an_unknown_name_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "edti"]) == 2
    assert "there is no file 'edti' and no policy of that name; did you mean 'edit'?" in capsys.readouterr().err
