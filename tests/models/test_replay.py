"""Recorded replies: to the same requests only, and from whole transcripts only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.messages import Message, Reply, Request, Text, Usage
from runner.models import Model, NoReply, RetryBudget, open_model, request_hash
from runner.transcript import AgentPrompted, ModelReplied, Transcript


def record(path: Path, *requests: Request) -> None:
    """A transcript of replies `reply 1`, `reply 2` … to the requests, with other events between them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Transcript.open(path) as transcript:
        for turn, request in enumerate(requests, start=1):
            reply = Reply(
                content=(Text(text=f"reply {turn}"),), stop_reason="end_turn", usage=Usage(), model="claude-opus-4-1"
            )
            transcript.record(AgentPrompted(text="go on"))
            transcript.record(
                ModelReplied(turn=turn, request_hash=request_hash(request), reply=reply, cost_usd=None, seconds=1)
            )


def replay(job: str, folder: Path) -> Model:
    return open_model(f"replay:{job}", folder=folder, variables={}, budget=RetryBudget(tries=0, seconds=0))


def test_a_job_is_found_by_folder_by_transcript_and_under_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Request]
) -> None:
    record(tmp_path / "jobs" / "a" / "transcript.jsonl", ask())
    record(tmp_path / "here" / "runs" / "b" / "transcript.jsonl", ask())
    monkeypatch.chdir(tmp_path / "here")
    for job in ("jobs/a", "jobs/a/transcript.jsonl", str(tmp_path / "jobs" / "a"), "b"):
        assert replay(job, tmp_path).reply(ask()).text == "reply 1"


def test_a_job_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"replay:ghost: no transcript\.jsonl in .*ghost or runs/ghost"):
        replay("ghost", tmp_path)


def test_a_damaged_transcript_is_refused(tmp_path: Path, ask: Callable[..., Request]) -> None:
    path = tmp_path / "transcript.jsonl"
    record(path, ask())
    path.write_bytes(path.read_bytes().replace(b"reply 1", b"reply X"))
    record(tmp_path / "more" / "transcript.jsonl", ask(), ask())
    lines = (tmp_path / "more" / "transcript.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes() + lines[2])
    with pytest.raises(ConfigError, match=r"transcript\.jsonl:3: prev is not the hash"):
        replay("transcript.jsonl", tmp_path)


def test_a_transcript_without_replies_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "transcript.jsonl")
    with pytest.raises(ConfigError, match="holds no reply"):
        replay("transcript.jsonl", tmp_path)


def test_another_request_ends_the_replay_and_says_at_which_turn(tmp_path: Path, ask: Callable[..., Request]) -> None:
    record(tmp_path / "transcript.jsonl", ask("one"), ask("two"))
    model = replay("transcript.jsonl", tmp_path)
    model.reply(ask("one"))
    with pytest.raises(NoReply, match=r"the request of turn 2 is not the recorded one .*or run the task"):
        model.reply(ask("2"))


def test_the_end_of_the_recording_is_said(tmp_path: Path, ask: Callable[..., Request]) -> None:
    record(tmp_path / "transcript.jsonl", ask())
    model = replay("transcript.jsonl", tmp_path)
    model.reply(ask())
    with pytest.raises(NoReply, match="ends with reply 1; the job wants one more"):
        model.reply(ask())


def test_the_price_is_that_of_the_recorded_model(tmp_path: Path, ask: Callable[..., Request]) -> None:
    record(tmp_path / "transcript.jsonl", ask())
    price = replay("transcript.jsonl", tmp_path).price
    assert price is not None
    assert price.output == 75


def test_the_hash_is_of_what_is_asked_and_not_of_the_room_for_the_reply(ask: Callable[..., Request]) -> None:
    base = ask()
    told = base.model_copy(update={"input_tokens": 5000})
    assert request_hash(base) == request_hash(ask(seconds=1, max_tokens=999)) == request_hash(told)
    said = Message(role="user", content=(Text(text="Fix it. \ud800"),))
    others = [
        ask("Fix it!"),
        ask(system="Be long."),
        base.model_copy(update={"tools": ()}),
        base.model_copy(update={"messages": (*base.messages, said)}),
    ]
    assert len({request_hash(one) for one in (base, *others)}) == 5
