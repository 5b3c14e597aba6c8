"""The transcript: what was recorded is what is read, whatever is in it and whatever happened to the writer."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runner.transcript
from runner.errors import Cancelled
from runner.messages import Opaque, Reply, Text, ToolUse, Usage
from runner.transcript import (
    NO_HASH,
    AgentPrompted,
    AnyEvent,
    ApprovalAnswered,
    ApprovalAsked,
    Contained,
    EgressTried,
    Event,
    GateRan,
    JobEnded,
    JobStarted,
    ModelReplied,
    Reader,
    SandboxOpened,
    ToolDecided,
    ToolRan,
    Transcript,
    TranscriptError,
    Violation,
    masker,
    read,
)


def _said(text: str) -> AgentPrompted:
    return AgentPrompted(text=text)


def _ran(content: str, **details: Any) -> ToolRan:
    return ToolRan(
        turn=1, tool_use_id="t", name="Bash", ran=True, content=content, is_error=False, seconds=0.1, details=details
    )


def _replied(*blocks: Any) -> ModelReplied:
    reply = Reply(content=blocks, stop_reason="end_turn", usage=Usage(output_tokens=3), model="m")
    return ModelReplied(turn=1, request_hash="0" * 64, reply=reply, cost_usd=Decimal("0.0000001"), seconds=1.0)


def _write(path: Path, *events: Event, mask: tuple[str, ...] = ()) -> str:
    with Transcript.open(path, mask=mask) as transcript:
        for event in events:
            transcript.record(event)  # type: ignore[arg-type]
        return transcript.hash


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "transcript.jsonl"


def test_what_was_recorded_is_what_is_read(path: Path) -> None:
    recorded = (
        JobStarted(job={"id": "a", "limits": {"cost_usd": 2.0, "turns": None}}),
        _replied(
            Text(text="é\u2028\t\x00"), ToolUse(id="1", name="Bash", input={"command": "ls", "n": [1, 2.5, True]})
        ),
        _ran("out", exit_code=0, log=None),
        JobEnded(outcome="solved", reason="fine"),
    )
    _write(path, *recorded)
    bare = [event.model_copy(update={"seq": 0, "time": "", "prev": ""}) for event in read(path)]
    assert bare == list(recorded)


def test_each_line_holds_the_hash_of_the_line_before(path: Path) -> None:
    end = _write(path, _said("one"), _said("two"), _said("three"))
    lines = path.read_bytes().splitlines()
    hashes = [NO_HASH, *(hashlib.sha256(line).hexdigest() for line in lines)]
    assert [json.loads(line)["prev"] for line in lines] == hashes[:-1]
    assert end == hashes[-1]


def test_lines_are_numbered_from_one_and_dated_in_utc(path: Path) -> None:
    _write(path, _said("one"), _said("two"))
    events = read(path)
    assert [event.seq for event in events] == [1, 2]
    assert all(event.time.endswith("Z") and "T" in event.time for event in events)


def test_an_event_is_in_the_file_before_the_transcript_is_closed(path: Path) -> None:
    with Transcript.open(path) as transcript:
        transcript.record(_said("now"))
        assert len(read(path)) == 1


def test_a_transcript_is_not_begun_twice(path: Path) -> None:
    _write(path, _said("mine"))
    with pytest.raises(FileExistsError):
        Transcript.open(path)


def test_the_hash_of_an_empty_transcript_is_all_zeros(path: Path) -> None:
    assert _write(path) == NO_HASH
    assert read(path) == ()


def test_a_closed_transcript_takes_no_more(path: Path) -> None:
    transcript = Transcript.open(path)
    transcript.close()
    transcript.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        transcript.record(_said("late"))


def test_threads_that_record_at_once_keep_the_chain(path: Path) -> None:
    with Transcript.open(path) as transcript:
        threads = [
            threading.Thread(target=lambda: [transcript.record(_said("x" * 500)) for _ in range(50)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read(path)) == 400


# --- damage


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def written(path: Path) -> Path:
    _write(path, *(_said(f"event {n}") for n in range(1, 6)))
    return path


def test_a_changed_line_is_named_by_the_line_that_hashes_it(written: Path) -> None:
    lines = _lines(written)
    lines[2] = lines[2].replace(b"event 3", b"event 9")
    written.write_bytes(b"".join(lines))
    with pytest.raises(TranscriptError, match=r"transcript\.jsonl:4: prev is not the hash of the line before"):
        read(written)


@pytest.mark.parametrize(("keep", "line"), [([0, 1, 3, 4], 3), ([0, 1, 1, 2], 3), ([1, 0, 2], 1)])
def test_a_line_that_is_missing_doubled_or_moved_is_named(written: Path, keep: list[int], line: int) -> None:
    lines = _lines(written)
    written.write_bytes(b"".join(lines[n] for n in keep))
    with pytest.raises(TranscriptError, match=rf":{line}: seq is .* lines are missing, doubled or out of order"):
        read(written)


@pytest.mark.parametrize("line", [b"", b"{}", b"not json", b'{"type":"party"}', b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_event_is_named(written: Path, line: bytes) -> None:
    lines = _lines(written)
    written.write_bytes(b"".join([lines[0], line + b"\n", *lines[1:]]))
    with pytest.raises(TranscriptError, match=r":2: not an event: "):
        read(written)


def test_a_last_line_that_was_cut_short_anywhere_is_reported_not_raised(written: Path) -> None:
    whole = written.read_bytes()
    last = len(_lines(written)[-1])
    for kept in range(1, last):
        written.write_bytes(whole[: len(whole) - last + kept])
        reader = Reader(written)
        assert len(tuple(reader)) == 4
        assert reader.torn_bytes == kept


def test_the_reader_knows_the_hash_that_the_writer_gave(path: Path) -> None:
    end = _write(path, _said("one"), _said("two"))
    reader = Reader(path)
    assert len(list(reader)) == 2
    assert (reader.hash, reader.torn_bytes) == (end, 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("t") / "transcript.jsonl"
    end = _write(path, _said("one"), _ran("two", exit_code=1), JobEnded(outcome="changed", reason="x"))
    data = bytearray(path.read_bytes())
    position %= len(data)
    same = data[position] == value
    data[position] = value
    path.write_bytes(data)
    reader = Reader(path)
    try:
        events = tuple(reader)
    except TranscriptError:
        assert not same
    else:
        assert (len(events), reader.hash, reader.torn_bytes) == (3, end, 0) or not same
        assert same == ((len(events), reader.hash, reader.torn_bytes) == (3, end, 0))


# --- a writer that is interrupted


def test_a_writer_killed_at_any_moment_leaves_a_readable_transcript(path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from runner.transcript import AgentPrompted, Transcript
        transcript = Transcript.open(Path(sys.argv[1]))
        transcript.record(AgentPrompted(text="begun"))
        print("begun", flush=True)
        while True:
            transcript.record(AgentPrompted(text="x" * 200_000))
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE)
    assert writer.stdout
    with writer.stdout:
        assert writer.stdout.readline() == b"begun\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert read(path)[0].type == "agent_prompted"


def test_a_signal_between_two_steps_of_recording_does_not_break_the_chain(path: Path) -> None:
    """Cancelled is raised by a signal handler: it may come out of any line of `record`."""
    for steps in range(120):
        path.unlink(missing_ok=True)
        with Transcript.open(path) as transcript:
            transcript.record(_said("before"))
            with _raising_after(steps):
                transcript.record(_said("during"))
            transcript.record(JobEnded(outcome="cancelled", reason="SIGINT"))
            end = transcript.hash
        reader = Reader(path)
        types = [event.type for event in reader]
        assert types[0] == "agent_prompted"
        assert types[-1] == "job_ended"
        assert (len(types), reader.torn_bytes) in ((2, 0), (3, 0))
        assert reader.hash == end


@contextmanager
def _raising_after(steps: int) -> Iterator[None]:
    """Raise Cancelled before the n-th line that runs in the module, once, as a signal handler would.

    Not at `with` and `try`, where Python runs no signal handlers.
    """
    left = steps
    source = Path(runner.transcript.__file__).read_text().splitlines()

    def trace(frame: Any, kind: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith("runner/transcript.py"):
            return None
        if kind == "line" and not source[frame.f_lineno - 1].strip().startswith(("with ", "try:")):
            left -= 1
            if left == -1:
                raise Cancelled(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    except Cancelled:
        pass
    finally:
        sys.settrace(before)


def test_a_full_disk_loses_the_event_and_nothing_else(path: Path) -> None:
    """The file-size limit stands in for a full disk: the kernel writes a part and then refuses."""
    code = f"""
        import errno, resource, signal
        from pathlib import Path
        from runner.transcript import AgentPrompted, Transcript
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Transcript.open(Path({str(path)!r})) as transcript:
            transcript.record(AgentPrompted(text="one"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
            try:
                transcript.record(AgentPrompted(text="x" * 10_000))
            except OSError as error:
                assert error.errno == errno.EFBIG, error
            else:
                raise AssertionError("the limit did not hold")
            transcript.record(AgentPrompted(text="three"))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    assert [_text(event) for event in read(path)] == ["one", "three"]


def _text(event: AnyEvent) -> str:
    assert isinstance(event, AgentPrompted)
    return event.text


def test_money_is_on_the_disk_when_record_returns(path: Path) -> None:
    """Whether the disk has it cannot be seen from here; whether the kernel was asked to put it there can."""
    synced: list[int] = []
    real = os.fsync

    def counted(file: int) -> None:
        synced.append(file)
        real(file)

    with pytest.MonkeyPatch.context() as patch, Transcript.open(path) as transcript:
        patch.setattr(os, "fsync", counted)
        transcript.record(_said("cheap"))
        assert synced == []
        transcript.record(_replied(Text(text="paid")))
        assert len(synced) == 1
        transcript.record(JobEnded(outcome="changed", reason="x"))
        assert len(synced) == 2


# --- what may be in an event

SECRET = 'sk-ant-"x\\y/é+=\n-tail'


@pytest.mark.parametrize(
    "event",
    [
        _said(f"the key is {SECRET}!"),
        _ran(json.dumps({"ANTHROPIC_API_KEY": SECRET})),
        _ran(json.dumps({"ANTHROPIC_API_KEY": SECRET}, ensure_ascii=False)),
        _ran(json.dumps(json.dumps([SECRET]))),
        _ran("x", **{"deep": [{"er": (SECRET,)}], SECRET: 1}),
        _replied(Text(text=SECRET), ToolUse(id="1", name=SECRET, input={SECRET: [SECRET]}, invalid=SECRET)),
        _replied(Opaque(block={"type": "thinking", "thinking": SECRET})),
        SandboxOpened(purpose="agent", report={"image": SECRET}),
        JobEnded(outcome="changed", reason=SECRET),
    ],
)  # fmt: skip
def test_a_secret_is_nowhere_in_the_file(path: Path, event: AnyEvent) -> None:
    _write(path, event, mask=(SECRET,))
    text = path.read_text()
    assert "sk-ant" not in text
    assert "-tail" not in text
    assert "***" in text
    assert len(read(path)) == 1


def test_a_secret_in_a_url_is_masked() -> None:
    assert masker((SECRET,))("https://x/?k=sk-ant-%22x%5Cy%2F%C3%A9%2B%3D%0A-tail&z") == "https://x/?k=***&z"


def test_each_line_of_a_secret_is_masked() -> None:
    key = "-----BEGIN KEY-----\nAAAAB3Nza\nC1yc2EAAA\n-----END KEY-----"
    assert masker((key,))("     2\tAAAAB3Nza\n     3\tC1yc2EAAA\n") == "     2\t***\n     3\t***\n"


@pytest.mark.parametrize("secrets", [(), ("",), ("a", "xyz", "   ")])
def test_what_is_too_short_to_hide_is_left_alone(secrets: tuple[str, ...]) -> None:
    assert masker(secrets)("a xyz    b") == "a xyz    b"


@pytest.mark.parametrize("word", ["tool_ran", "model_replied", "end_turn", "tool_use", "agent", "assistant", "changed"])
def test_a_secret_that_is_a_word_of_the_format_leaves_the_file_readable(path: Path, word: str) -> None:
    events = (
        _replied(ToolUse(id="1", name="n", input={"text": word})),
        _ran(word),
        SandboxOpened(purpose="agent", report={}),
        JobEnded(outcome="changed", reason=word),
    )
    _write(path, *events, mask=(word,))
    assert [event.type for event in read(path)] == [event.type for event in events]
    assert read(path)[-1] == JobEnded(outcome="changed", reason="***").model_copy(
        update=read(path)[-1].model_dump(include={"seq", "time", "prev"})
    )


@pytest.mark.parametrize("word", ["once", "deny", "allow", "setup", "secret", "protected", "approval_asked"])
def test_a_secret_that_is_a_word_of_the_events_about_the_policy_leaves_them_readable(path: Path, word: str) -> None:
    events = (
        ToolDecided(
            turn=1,
            call=ToolUse(id="1", name="n", input={}),
            allowed=False,
            verdict="deny",
            subjects=(word,),
            rule=word,
            where=None,
            reason=word,
        ),
        ApprovalAsked(id="1", turn=1, call=word, rule=word, where=None, reason=word, expires_seconds=1),
        ApprovalAnswered(id="1", allowed=True, scope="once", by=word, reason=word, seconds=1),
        EgressTried(phase="setup", host=word, port=443, address=None, allowed=False, rule=None, reason=word),
        Contained(landlock=True, writable=(word,), uncontained=(word,)),
        GateRan(violations=(Violation(kind="secret", path=word, reason=word),)),
    )
    _write(path, *events, mask=(word,))
    assert [event.type for event in read(path)] == [event.type for event in events]
    assert f'"reason":"{word}"' not in path.read_text()
    assert f'"host":"{word}"' not in path.read_text()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("lone \ud800 and \udcff", "lone \ufffd and \ufffd"),
        (os.fsdecode(b"caf\xe9.txt"), "caf\ufffd.txt"),
        ("pair \ud83d\ude00", "pair \U0001f600"),
        ("nul \x00 line \u2028 \u2029 \x85 \r\n", "nul \x00 line \u2028 \u2029 \x85 \r\n"),
    ],
)
def test_any_text_makes_one_valid_line(path: Path, text: str, kept: str) -> None:
    _write(path, _said(text), _said("next"))
    assert [_text(event) for event in read(path)] == [kept, "next"]
    assert [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == [kept, "next"]


def test_numbers_that_json_lacks_are_written_as_text(path: Path) -> None:
    _write(path, _replied(ToolUse(id="1", name="n", input={"a": float("nan"), "b": [float("inf")]})))
    event = read(path)[0]
    assert isinstance(event, ModelReplied)
    assert event.reply.tool_uses[0].input == {"a": "nan", "b": ["inf"]}


def test_arguments_nested_deeper_than_readers_go_are_cut_not_fatal(path: Path) -> None:
    deep: Any = "bottom"
    for _ in range(5_000):
        deep = [deep]
    _write(path, _replied(ToolUse(id="1", name="n", input={"deep": deep})))
    assert "…" in path.read_text()
    assert len(read(path)) == 1


def test_money_is_written_as_digits(path: Path) -> None:
    _write(path, _replied())
    assert '"cost_usd":"0.0000001"' in path.read_text()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=st.text(st.characters(), max_size=200),
    details=st.dictionaries(st.text(st.characters(), max_size=5), st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
    ), max_size=4),
)  # fmt: skip
def test_any_event_is_read_back(tmp_path_factory: pytest.TempPathFactory, text: str, details: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("t") / "transcript.jsonl"
    end = _write(path, _ran(text, **{f"_{key}": value for key, value in details.items()}))
    reader = Reader(path)
    assert len(list(reader)) == 1
    assert reader.hash == end
