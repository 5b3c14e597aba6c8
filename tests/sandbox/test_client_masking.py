"""What commands print of a secret comes neither to the caller nor into a log, wherever the output is cut."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.sandbox.base import REPO
from runner.sandbox.client import LOG_BYTES, Client
from runner.sandbox.container import ContainerEngine
from runner.sandbox.hello import Settings, say_hello
from runner.sandbox.image import ImageRef
from tests.conftest import sandbox_config
from tests.local_toolbox import REPORT, local_channel

TOKEN = "ghp_Zx81kQpW0aTrLs93VbNmC64uYe2D"
ENCODED = base64.b64encode(TOKEN.encode()).decode()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Client]:
    """Its commands have the secret as TOKEN."""
    (tmp_path / "logs").mkdir()
    with local_channel(isolated=True) as channel:
        say_hello(channel, Settings(variables={"TOKEN": TOKEN}))
        with Client(
            channel, report=REPORT, log_folder=tmp_path / "logs", on_close=lambda: None, mask=(TOKEN,)
        ) as opened:
            yield opened


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_secret_is_masked_in_output_and_log_and_counted_as_it_was(sandbox: Client, tmp_path: Path) -> None:
    result = sandbox.exec('echo "a $TOKEN b"; printf %s "$TOKEN" | base64 -w 20', log="1.log")
    assert result.output == (tmp_path / "logs/1.log").read_bytes()
    assert result.output.startswith(b"a *** b\n***")
    assert not result.truncated
    assert result.output_bytes == len(f"a {TOKEN} b\n{ENCODED}") + len(ENCODED) // 20 + (len(ENCODED) % 20 > 0)


def test_a_secret_that_comes_byte_by_byte_is_masked(sandbox: Client, tmp_path: Path) -> None:
    script = (
        'i=0; while [ $i -lt 32 ]; do printf "%s" "$TOKEN" | cut -c$((i+1)) | tr -d "\\n"; sleep 0.01; i=$((i+1)); done'
    )
    assert sandbox.exec(f"{script}; echo; echo end", log="1.log").output == b"***\nend\n"
    assert (tmp_path / "logs/1.log").read_bytes() == b"***\nend\n"


def test_standard_error_is_masked_also_where_its_head_ends(sandbox: Client) -> None:
    result = sandbox.exec('echo "x$TOKEN" >&2; echo "$TOKEN" >&2', separate_stderr=True, head_bytes=45)
    assert result.stderr == b"x***\n***"


@pytest.mark.parametrize("log", [None, "1.log"])
def test_beside_what_was_left_out_no_piece_of_a_secret_stays(sandbox: Client, tmp_path: Path, log: str | None) -> None:
    """The output is nothing but the secret, so that every cut goes through one."""
    result = sandbox.exec('yes "$TOKEN" | tr -d "\\n" | head -c 1000000', head_bytes=1003, tail_bytes=1007, log=log)
    assert result.truncated
    assert set(result.output) == set(b"*")
    if log:
        assert set((tmp_path / "logs" / log).read_bytes()) == set(b"*")


def test_beside_the_gap_of_a_huge_log_no_piece_of_a_secret_stays(sandbox: Client, tmp_path: Path) -> None:
    size = LOG_BYTES + 5_000_000
    result = sandbox.exec(f'yes "$TOKEN" | tr -d "\\n" | head -c {size}', log="big.log", seconds=300)
    log = (tmp_path / "logs/big.log").read_bytes()
    head, marker, tail = log.partition(b"\n[%d bytes omitted]\n" % (size - LOG_BYTES - 16_000))
    assert (result.log_truncated, result.output_bytes, bool(marker)) == (True, size, True)
    assert set(head + tail) == set(b"*")


def test_output_that_shrinks_when_masked_is_not_called_truncated(sandbox: Client) -> None:
    result = sandbox.exec('for i in 1 2 3; do echo "$TOKEN"; done', head_bytes=60, tail_bytes=60)
    assert (result.output, result.truncated, result.output_bytes) == (b"***\n" * 3, False, 99)


def test_what_was_left_out_lies_between_head_and_tail_however_much_the_head_shrank(sandbox: Client) -> None:
    result = sandbox.exec('echo "$TOKEN"; seq 1 1000', head_bytes=50, tail_bytes=20)
    head, tail = result.output[: result.head_bytes], result.output[result.head_bytes :]
    assert head.startswith(b"***\n1\n2\n")
    assert len(head) < 50
    assert tail.endswith(b"\n998\n999\n1000\n")
    assert result.truncated


def test_a_background_task_is_masked_across_looks(sandbox: Client, tmp_path: Path) -> None:
    task = sandbox.start(
        'echo ready; printf "%s" "$TOKEN" | head -c 20; while [ ! -e go ]; do sleep 0.02; done;'
        'printf "%s" "$TOKEN" | tail -c +21; echo; echo end',
        log="task.log",
    )
    seen = bytearray()

    def look() -> bool:
        state = sandbox.poll_task(task.id)
        seen.extend(state.output)
        return b"ready\n" in seen

    wait_for(look)
    assert sandbox.poll_task(task.id).output == b"", "what may be the beginning of a secret is held back"
    sandbox.write_file(f"{REPO}/go", b"")
    running = True
    while running:
        state = sandbox.poll_task(task.id)
        seen.extend(state.output)
        running = state.running
    assert bytes(seen) == b"ready\n***\nend\n"
    assert (tmp_path / "logs/task.log").read_bytes() == b"ready\n***\nend\n"


def test_a_line_that_is_no_beginning_of_a_secret_is_shown_at_once(sandbox: Client) -> None:
    task = sandbox.start("echo 'Listening on port 8087'; sleep 600")
    seen = bytearray()

    def look() -> bool:
        seen.extend(sandbox.poll_task(task.id).output)
        return bytes(seen) == b"Listening on port 8087\n"

    wait_for(look)
    sandbox.stop_task(task.id)


def test_what_a_background_task_dropped_leaves_no_piece_of_a_secret(sandbox: Client, tmp_path: Path) -> None:
    task = sandbox.start('yes "$TOKEN" | tr -d "\\n" | head -c 5000000; touch done; sleep 600', log="task.log")
    wait_for(lambda: sandbox.stat(f"{REPO}/done").kind == "file")
    output = sandbox.stop_task(task.id).output
    assert set(output) == set(b"*")
    log = (tmp_path / "logs/task.log").read_bytes()
    assert b" bytes omitted]\n" in log
    assert TOKEN[:4].encode() not in log
    assert TOKEN[-4:].encode() not in log


def test_streams_and_the_toolboxs_own_programs_are_left_as_they_are(sandbox: Client) -> None:
    sandbox.exec('echo "$TOKEN" > file', cwd=str(REPO))
    streamed = bytearray()
    sandbox.exec("cat file", on_output=streamed.extend)
    assert bytes(streamed) == f"{TOKEN}\n".encode()
    found = sandbox.exec(["--no-filename", "ghp", f"{REPO}/file"], program="rg")
    assert TOKEN.encode() in found.output
    assert sandbox.read_file(f"{REPO}/file") == f"{TOKEN}\n".encode()


@pytest.mark.engine
def test_an_engine_hands_its_sandboxes_what_to_mask(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, tmp_path: Path
) -> None:
    config = replace(sandbox_config(base_image, toolbox_volume, log_folder=str(tmp_path)), mask=(TOKEN,))
    with engine.open_sandbox(config) as opened:
        assert opened.exec(f"echo {TOKEN}").output == b"***\n"
