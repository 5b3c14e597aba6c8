"""Replies on the disk before they are read: what was paid for is found again, however the runner died."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.ledger import JobLedger
from runner.messages import Reply, Request, Usage
from runner.models import Metered, NoReply, Spool, request_hash
from runner.models.script import ScriptedCall, ScriptedUsage, Trouble, Turn
from runner.models.scripted import ScriptedServer
from runner.models.spool import Spooled, SpoolHeader, read_spool
from tests.models.conftest import MODEL, ask

CALL = ScriptedCall(name="Bash", input={"command": "make"}, id="toolu_1")
TURN = Turn(text="Let me see. " * 40, tools=(CALL,), usage=ScriptedUsage(input_tokens=1000, output_tokens=100))
WORST = Usage(cache_write_tokens=2000, output_tokens=1000)
HEADER = SpoolHeader(
    request_hash="a" * 64, attempt=1, model=MODEL, max_tokens=1000, worst_usage=WORST, micro_usd=22_500
)


def broken(**trouble: Any) -> Turn:
    return TURN.model_copy(update={"fault": Trouble(**trouble)})


def asked() -> Request:
    return ask(input_tokens=2000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reply.part"


def spooled(path: Path) -> Spooled:
    found = read_spool(path)
    assert found is not None
    return found


def written(path: Path, *turns: Turn, bench: Callable[..., Any]) -> Reply | None:
    """The file after one request; the reply if there was one."""
    made = bench(*turns, spool=Spool(path))
    try:
        return Metered(made.model, JobLedger(None)).reply(asked())
    except NoReply:
        return None


# -- what is there after a request


def test_a_whole_reply_is_read_back_as_it_came(path: Path, bench: Callable[..., Any]) -> None:
    reply = written(path, TURN, bench=bench)
    found = spooled(path)
    assert reply is not None
    assert found.reply == reply
    assert (found.usage, found.worst_usage) == (reply.usage, reply.usage)
    assert found.header == HEADER.model_copy(update={"request_hash": request_hash(asked())})


def test_of_a_cut_reply_what_is_billed_is_known_and_what_may_be(path: Path, bench: Callable[..., Any]) -> None:
    written(path, broken(after=4), bench=bench)
    found = spooled(path)
    assert found.reply is None
    assert found.usage == Usage(input_tokens=1000, output_tokens=1)
    assert found.worst_usage == Usage(input_tokens=1000, output_tokens=1000)


def test_of_a_request_without_an_answer_only_the_most_is_known(path: Path, bench: Callable[..., Any]) -> None:
    written(path, broken(after=0), bench=bench)
    assert spooled(path) == Spooled(header=spooled(path).header, usage=Usage(), worst_usage=WORST, reply=None)


def test_an_error_event_before_the_reply_costs_nothing(path: Path, bench: Callable[..., Any]) -> None:
    written(path, broken(after=0, then="error"), bench=bench)
    assert spooled(path).worst_usage == Usage()


def test_a_retry_takes_the_place_of_the_try_before_it(path: Path, bench: Callable[..., Any]) -> None:
    made = bench(broken(after=9), Turn(text="Short."), retries=1, spool=Spool(path))
    made.model.reply(asked())
    found = spooled(path)
    assert found.header.attempt == 2
    assert found.reply is not None
    assert found.reply.text == "Short."


# -- whose file it is


def test_before_the_first_request_there_is_no_file(path: Path, bench: Callable[..., Any]) -> None:
    path.write_text("of an earlier attempt")
    spool = Spool(path)
    bench(spool=spool)
    assert path.read_text() == "of an earlier attempt"
    path.unlink()
    spool.close()
    assert not path.exists()


def test_nobody_else_can_read_it(path: Path, bench: Callable[..., Any]) -> None:
    written(path, TURN, bench=bench)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_stays_until_all_is_recorded(path: Path, bench: Callable[..., Any]) -> None:
    spool = Spool(path)
    made = bench(TURN, spool=spool)
    made.model.reply(asked())
    made.model.close()
    assert path.exists()
    spool.discard()
    assert not path.exists()


def test_each_chunk_is_in_it_before_anybody_reads_it(path: Path) -> None:
    spool = Spool(path)
    spool.begin(HEADER)
    for chunk in spool.keep([b"data: {}\n\n", b"data: {", b"}\n\n"]):
        assert path.read_bytes().endswith(chunk)


# -- secrets


def test_keys_and_secrets_are_not_in_it(path: Path, bench: Callable[..., Any]) -> None:
    key, secret = "sk-ant-0123456789", "hunter2-and-more"
    # In one event, which holds 200 characters of text.
    turn = Turn(text=f"It is {key}, or rather {secret}.")
    made = bench(turn, key=key, spool=Spool(path, (secret,)))
    made.model.reply(ask(f"Use {secret}", input_tokens=2000))
    data = path.read_bytes()
    assert key.encode() not in data
    assert secret.encode() not in data
    found = spooled(path)
    assert found.reply is not None
    assert "or rather ***." in found.reply.text


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_secret_in_pieces_of_the_network_is_masked(path: Path, size: int) -> None:
    spool = Spool(path, ("hunter2-and-more",))
    spool.begin(HEADER)
    stream = b"data: this is hunter2-and-more, isn't it\n\n"
    assert b"".join(spool.keep(stream[at : at + size] for at in range(0, len(stream), size))) == stream
    spool.end()
    assert path.read_bytes().endswith(b"\ndata: this is ***, isn't it\n\n")


# -- whatever is in the file


def test_without_a_file_nothing_was_sent(path: Path) -> None:
    assert read_spool(path) is None
    assert read_spool(path.parent) is None


def test_a_reply_that_is_cut_anywhere_is_never_taken_for_a_whole_one(path: Path, bench: Callable[..., Any]) -> None:
    written(path, TURN, bench=bench)
    data = path.read_bytes()
    whole = spooled(path)
    end = data.index(b"\n") + 1
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        found = read_spool(path)
        if size < end:
            assert found is None
            continue
        assert found is not None
        if found.reply is not None:
            assert found.reply == whole.reply
        assert found.usage.output_tokens <= whole.usage.output_tokens <= found.worst_usage.output_tokens


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda data: HEADER.model_dump_json().encode() + b"\n" + data)
    | st.binary(max_size=200).map(lambda data: HEADER.model_dump_json().encode() + b"\ndata: {" + data + b"\n\n")
)
def test_garbage_is_no_error(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    found = read_spool(path)
    assert found is None or found.reply is None


# -- a runner that is killed

RUNNER = f"""
import sys, time
from pathlib import Path
from runner.ledger import JobLedger
from runner.models import Metered, RetryBudget, Spool, open_model
from tests.models.test_spool import asked

url, key, path = sys.argv[1:]
variables = {{"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}}
budget = RetryBudget(tries=0, seconds=0)
model = open_model("anthropic:{MODEL}", folder=Path(), variables=variables, budget=budget, spool=Spool(Path(path)))
model = Metered(model, JobLedger(None))
request = asked().model_copy(update={{"seconds": 600}})
model.reply(request, on_text=lambda text: print("text", flush=True))
print("replied", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("turn", "line"), [(broken(after=4, then="hang"), "text"), (TURN, "replied")])
def test_a_runner_that_is_killed_leaves_what_it_was_sent(path: Path, turn: Turn, line: str) -> None:
    with ScriptedServer([turn], model=MODEL) as server:
        runner = subprocess.Popen(
            [sys.executable, "-c", RUNNER, server.url, server.key, path], stdout=subprocess.PIPE, text=True
        )
        assert runner.stdout is not None
        with runner.stdout:
            while (said := runner.stdout.readline().strip()) != line:
                assert said
            os.kill(runner.pid, signal.SIGKILL)
        assert runner.wait(30) == -signal.SIGKILL
    found = spooled(path)
    assert found.usage.input_tokens == 1000
    assert (found.reply is not None) is (line == "replied")
