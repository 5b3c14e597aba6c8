"""`claw-runner policy replay` and `learn`, through the front door, over transcripts as jobs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main
from runner.messages import ToolUse
from runner.policy import load_policy
from runner.transcript import EgressTried, JobStarted, ToolDecided, ToolRan, Transcript

REPO = "/workspace/repo"


def make_job(folder: Path, *calls: tuple[str, str, bool], host: str | None = None) -> None:
    """A job that made these calls: tool, subject, whether it was allowed."""
    folder.mkdir(parents=True)
    with Transcript.open(folder / "transcript.jsonl") as transcript:
        transcript.record(JobStarted(job={"id": folder.name}))
        for turn, (tool, subject, allowed) in enumerate(calls, 1):
            use = ToolUse(id=f"t{turn}", name=tool, input={})
            transcript.record(
                ToolDecided(
                    turn=turn,
                    call=use,
                    allowed=allowed,
                    subjects=(f"{tool}({subject})",),
                    rule=None,
                    where=None,
                    reason="",
                )
            )
            if allowed:
                transcript.record(
                    ToolRan(turn=turn, tool_use_id=use.id, name=tool, ran=True, content="", is_error=False, seconds=0.1)
                )
        if host:
            facts = {"phase": "agent", "host": host, "port": 443, "address": None, "rule": host, "reason": "listed"}
            transcript.record(EgressTried.model_validate(facts | {"allowed": True}))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/one and runs/batch/two, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_job(
        tmp_path / "runs/one",
        ("Bash", "git status", True),
        ("Bash", "npm publish", True),
        ("Bash", "curl https://example.org", False),
        ("Edit", f"{REPO}/src/a.py", True),
    )
    make_job(tmp_path / "runs/batch/two", ("Bash", "git status", True), ("Read", f"{REPO}/a", True))
    return tmp_path / "runs"


@pytest.fixture
def policy(runs: Path) -> Path:
    """Allows all that was allowed, but `npm publish`; and what was denied."""
    path = runs.parent / "policy.yaml"
    path.write_text(
        "version: 1\nmode: whitelist\n"
        'allow: ["Read", "Edit(src/**)", "Bash(git:*)", "Bash(npm:*)", "Bash(curl:*)"]\n'
        'deny: ["Bash(npm publish:*)"]\n'
    )
    return path


def out_of(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["policy", *args]) == code
    return capsys.readouterr().out


def test_replay_counts_and_names_what_would_be_decided_otherwise(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = out_of(capsys, "replay", "policy.yaml", "runs", code=12)
    lines = out.splitlines()
    assert lines[0] == "2 jobs, 6 calls: allow 5, ask 0, deny 1"
    assert lines[1] == "2 calls would be decided otherwise; 1 of what was allowed would be denied"
    assert "allow -> deny  one turn 2: Bash(npm publish): Bash(npm publish:*) (policy.yaml:4)" in lines
    assert any(line.startswith("deny -> allow  one turn 3: Bash(curl https://example.org): ") for line in lines)


def test_replay_ends_well_when_nothing_that_was_allowed_would_be_denied(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.write_text("version: 1\nmode: blacklist\n")
    assert "0 of what was allowed would be denied" in out_of(capsys, "replay", "policy.yaml", "runs")
    assert "every one would be decided as it was" in out_of(capsys, "replay", "policy.yaml", "runs/batch/two")


def test_what_would_be_asked_about_is_named_and_is_no_denial(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text('version: 1\nmode: blacklist\nask: ["Bash(git status)"]\n')
    out = out_of(capsys, "replay", "policy.yaml", "runs")
    assert "allow -> ask  one turn 1: Bash(git status): Bash(git status) (policy.yaml:3)" in out


def test_replay_as_json(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(out_of(capsys, "replay", "policy.yaml", "runs", "--json", code=12))
    assert (found["jobs"], found["calls"], found["counts"]) == (2, 6, {"allow": 5, "ask": 0, "deny": 1})
    first = found["different"][0]
    assert first.pop("reason")
    assert first == {
        "job": "one",
        "turn": 2,
        "call": "Bash(npm publish)",
        "was": "allow",
        "allowed": True,
        "now": "deny",
        "rule": "Bash(npm publish:*)",
        "where": "policy.yaml:4",
    }
    assert found["damaged"] == []


@pytest.mark.parametrize("name", ["runs/one", "runs/one/transcript.jsonl"])
def test_a_job_or_a_transcript_alone_can_be_replayed(
    policy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert out_of(capsys, "replay", "policy.yaml", name, code=12).startswith("1 job, 4 calls")


def test_policies_that_come_along_can_be_replayed_by_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "allow -> deny  one turn 4: Edit(/workspace/repo/src/a.py)" in out_of(
        capsys, "replay", "readonly", "runs", code=12
    )


def test_connections_are_judged_again(policy: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(runs / "three", host="example.org")
    out = out_of(capsys, "replay", "policy.yaml", "runs/three", code=12)
    assert "allow -> deny  three: connection to example.org:443 (agent)" in out
    policy.write_text("version: 1\nmode: blacklist\negress: [example.org]\n")
    assert "every one would be decided as it was" in out_of(capsys, "replay", "policy.yaml", "runs/three")


@pytest.mark.parametrize("command", [["replay", "policy.yaml"], ["learn"]])
def test_a_damaged_transcript_is_named_and_the_others_are_read(
    policy: Path, runs: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "bad").mkdir()
    (runs / "bad/transcript.jsonl").write_text("garbage\x1b[31m\n")
    assert main(["policy", *command, "runs"]) == 2
    out, err = capsys.readouterr()
    assert "2 jobs" in out
    assert err.startswith("claw-runner: left out: runs/bad/transcript.jsonl:1: not an event")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["replay", "policy.yaml"], ["learn"]])
@pytest.mark.parametrize("where", ["runs/none", "empty"])
def test_where_there_is_no_transcript_it_is_said(
    policy: Path, command: list[str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert main(["policy", *command, where]) == 2
    assert f"{where}: there is no transcript.jsonl in it" in capsys.readouterr().err


def test_hostile_calls_do_nothing_to_the_terminal(policy: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(runs / "four", ("Bash", "npm publish \x1b[2J\u202e\nallow -> allow", True))
    out = out_of(capsys, "replay", "policy.yaml", "runs/four", code=12)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert out.count("\n") == 3


def test_a_policy_is_learned_and_replays_without_a_denial(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned = out_of(capsys, "learn", "runs")
    Path("learned.yaml").write_text(learned)
    assert [str(rule) for rule in load_policy(Path("learned.yaml")).value.allow] == [
        "Read(/a)",
        "Edit(src/a.py)",
        "Bash(git status)",
        "Bash(npm publish)",
    ]
    assert "# 2 calls in 2 jobs" in learned
    assert learned.startswith("# learned from 5 calls of 2 jobs\n")
    assert "0 of what" not in out_of(capsys, "replay", "learned.yaml", "runs")


def test_what_was_denied_is_learned_when_asked_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "learn", "runs", "--include-denied", "--out", "learned.yaml"]) == 0
    assert capsys.readouterr().out == ""
    assert (
        '"Bash(curl https://example.org)"  # 1 call, 1 denied then; risky: network' in Path("learned.yaml").read_text()
    )


def test_what_cannot_be_learned_is_told_at_the_top(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(runs / "five", ("Bash", "$X\nmode: blacklist", True))
    learned = out_of(capsys, "learn", "runs/five")
    assert "\n# Bash($X mode: blacklist)\n" in learned
    Path("learned.yaml").write_text(learned)
    assert load_policy(Path("learned.yaml")).value.mode == "whitelist"


def test_a_place_that_cannot_be_written_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "learn", "runs", "--out", "no/such/folder.yaml"]) == 2
    assert "--out: no/such/folder.yaml cannot be written: No such file" in capsys.readouterr().err
