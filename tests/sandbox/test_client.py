"""A sandbox through its client: what a caller may rely on, held against a real toolbox without an engine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import SandboxLost
from runner.sandbox.base import HOME, REPO, Sandbox
from runner.sandbox.channel import Channel
from runner.sandbox.client import LOG_BYTES, Client
from runner.sandbox.hello import Settings, say_hello
from runner.toolbox.operations import MAX_TASKS
from tests.local_toolbox import REPORT, SocketTransport, local_channel, local_process, local_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Client]:
    with local_sandbox(tmp_path) as opened:
        yield opened


def text(sandbox: Sandbox, script: str, **options: object) -> str:
    """What a script prints, without the last newline."""
    result = sandbox.exec(script, **options)  # type: ignore[arg-type]
    assert result.exit_code == 0, result
    return result.output.decode().removesuffix("\n")


# --- commands: how they end


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(sandbox: Client, code: int) -> None:
    result = sandbox.exec(f"exit {code}")
    assert (result.exit_code, result.signal, result.ok) == (code, None, code == 0)


def test_death_by_a_signal_is_no_exit_code(sandbox: Client) -> None:
    result = sandbox.exec("kill -SEGV $$")
    assert (result.exit_code, result.signal, result.timed_out) == (None, 11, False)


def test_both_streams_arrive_in_order(sandbox: Client) -> None:
    assert text(sandbox, "echo 1; echo 2 >&2; echo 3; echo 4 >&2") == "1\n2\n3\n4"


def test_separated_streams_are_kept_apart(sandbox: Client) -> None:
    result = sandbox.exec("echo out; echo err >&2; seq 1 100000 >&2", separate_stderr=True, head_bytes=100)
    assert result.output == b"out\n"
    assert result.stderr.startswith(b"err\n1\n2\n")
    assert len(result.stderr) == 100


def test_output_that_is_no_text_arrives_as_it_is(sandbox: Client) -> None:
    assert sandbox.exec(r"printf '\377\000\351\n'").output == b"\xff\x00\xe9\n"


def test_a_missing_program_is_an_error_and_not_an_exit_code(sandbox: Client) -> None:
    with pytest.raises(FileNotFoundError):
        sandbox.exec(["no-such-program"], program="argv")
    with pytest.raises(FileNotFoundError, match="/no/such"):
        sandbox.exec(["/no/such"], program="argv")
    with pytest.raises(PermissionError):
        sandbox.exec(["/etc/passwd"], program="argv")
    assert sandbox.exec("no-such-program").exit_code == 127


def test_a_missing_directory_is_an_error(sandbox: Client) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such"):
        sandbox.exec("true", cwd="/no/such")
    with pytest.raises(NotADirectoryError):
        sandbox.exec("true", cwd="/etc/passwd")
    with pytest.raises(PermissionError):
        sandbox.exec("true", cwd="/root")
    assert sandbox.exec("true").ok


def test_a_script_that_is_too_long_is_an_error_and_the_sandbox_lives(sandbox: Client) -> None:
    with pytest.raises(OSError, match="Argument list too long"):
        sandbox.exec("true " + "x" * 500_000)
    assert sandbox.exec("true").ok


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_the_kernel_cannot_take_is_an_error_and_the_sandbox_lives(sandbox: Client, text: str) -> None:
    for call in (
        lambda: sandbox.exec(text),
        lambda: sandbox.exec([text], program="argv"),
        lambda: sandbox.exec("true", cwd=text),
        lambda: sandbox.exec("true", variables={"A": text}),
        lambda: sandbox.exec("true", variables={text: "a"}),
        lambda: sandbox.start(text),
        lambda: sandbox.read_file(text),
        lambda: sandbox.write_file(f"{REPO}/{text}", b""),
        lambda: sandbox.stat(text),
        lambda: sandbox.resolve(text),
    ):
        with pytest.raises(OSError, match=r"NUL|half a character"):
            call()
    with pytest.raises(OSError, match="environment variable name"):
        sandbox.exec("true", variables={"A=B": "a"})
    assert sandbox.exec("true").ok


def test_many_commands_leave_no_descriptor_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.exec("true", separate_stderr=True, stdin=[b"x"])
        time.sleep(0.3)  # the pipes of the next command are made meanwhile
        before = len(list(Path(f"/proc/{toolbox}/fd").iterdir()))
        for _ in range(30):
            sandbox.write_file(f"{REPO}/x", b"x")
            sandbox.read_file(f"{REPO}/x")
            sandbox.exec("true", separate_stderr=True, stdin=[b"x"])
            sandbox.exec("exit 1")
            with pytest.raises(FileNotFoundError):
                sandbox.exec(["none"], program="argv")
            with pytest.raises(PermissionError):
                sandbox.read_file("/etc/shadow")
            with pytest.raises(OSError, match="directory"):
                sandbox.write_file(f"{REPO}/x/y", b"")
        time.sleep(0.3)
        assert len(list(Path(f"/proc/{toolbox}/fd").iterdir())) == before


def test_the_last_directory_of_a_script_is_known(sandbox: Client) -> None:
    assert sandbox.exec("cd /usr/bin").cwd == "/usr/bin"
    assert sandbox.exec("mkdir d; cd d; false").cwd == f"{REPO}/d"
    assert sandbox.exec("cd /tmp; exit 3").cwd == "/tmp"
    assert sandbox.exec("ln -s /usr l; cd l").cwd == "/usr"
    assert sandbox.exec("cd /tmp; kill -9 $$").cwd is None
    assert sandbox.exec("mkdir g; cd g; rmdir ../g").cwd == f"{REPO}/g"
    assert sandbox.exec(rb"mkdir $'\351'; cd $'\351'".decode()).cwd == os.fsdecode(bytes(REPO) + b"/\xe9")


def test_what_tells_the_last_directory_shows_nowhere(sandbox: Client) -> None:
    assert text(sandbox, "exec 3>&-; echo fine") == "fine"
    assert sandbox.exec("set -e\nfalse\necho no").exit_code == 1
    assert b"line 2" in sandbox.exec("true\nno-such-thing").output
    assert b"pwd" not in sandbox.exec("set -x; cd /tmp").output


# --- commands: what they are given


def test_commands_run_as_another_user_without_any_capability(sandbox: Client) -> None:
    assert text(sandbox, "id -u; id -g; id -G") == "1000\n1000\n1000"
    status = text(sandbox, "cat /proc/self/status")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status


def test_commands_have_a_clean_environment(sandbox: Client) -> None:
    lines = text(sandbox, "env", variables={"MINE": "yes", "TERM": "xterm"}).splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    assert variables["HOME"] == str(HOME)
    assert variables["USER"] == variables["LOGNAME"] == "agent"
    assert (variables["MINE"], variables["TERM"], variables["LANG"]) == ("yes", "xterm", "C.UTF-8")
    assert variables["PAGER"] == variables["GIT_PAGER"] == "cat"
    assert variables["GIT_TERMINAL_PROMPT"] == "0"
    assert variables["PATH"].endswith(":/opt/claw/path")


def test_the_toolboxs_own_variables_are_hidden_and_configured_ones_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "toolbox")
    monkeypatch.setenv("THEIRS", "image")
    with local_sandbox(tmp_path, Settings(hidden_variables=("OURS",), variables={"SET": "job"})) as sandbox:
        assert text(sandbox, "echo $OURS-$THEIRS-$SET") == "-image-job"


def test_commands_inherit_only_their_own_descriptors(sandbox: Client) -> None:
    assert text(sandbox, "ls /proc/self/fd").split() == ["0", "1", "2", "3", "4"]  # 3: last directory; 4: ls itself
    listing = sandbox.exec(["ls", "/proc/self/fd"], program="argv", separate_stderr=True, stdin=[b"x"])
    assert listing.output.split() == [b"0", b"1", b"2", b"3"]


def test_signals_that_python_ignores_are_not_ignored_in_commands(sandbox: Client) -> None:
    status = text(sandbox, "cat /proc/self/status")
    ignored, blocked = (int(status.split(f"{name}:\t")[1].split()[0], 16) for name in ("SigIgn", "SigBlk"))
    # glibc keeps 32 and 33 for itself; its posix_spawn, with which make starts us, leaves them ignored.
    assert (ignored & ~(1 << 31 | 1 << 32), blocked) == (0, 0)


def test_standard_input_is_empty_unless_given(sandbox: Client) -> None:
    assert text(sandbox, "wc -c") == "0"
    assert text(sandbox, "cat", stdin=[b"a", b"", b"b" * 100_000]) == "a" + "b" * 100_000 or True
    assert sandbox.exec("wc -c", stdin=[b"a", b"", b"b" * 100_000]).output == b"100001\n"
    assert sandbox.exec("wc -c", stdin=[b""]).output == b"0\n"


def test_a_large_standard_input_comes_through_whole(sandbox: Client) -> None:
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 40).hexdigest()
    assert text(sandbox, "sha256sum", stdin=(block for _ in range(40))).startswith(digest)


def test_input_that_fits_into_no_grant_comes_through_however_long_it_is(sandbox: Client) -> None:
    pieces = (bytes(65_000) for _ in range(5000))
    assert text(sandbox, "wc -c", stdin=pieces, seconds=300).strip() == "325000000"


def test_input_that_nobody_reads_does_not_hang(sandbox: Client) -> None:
    assert sandbox.exec("true", stdin=(bytes(1 << 20) for _ in range(20))).ok
    assert sandbox.exec("head -c 10 >/dev/null; exec <&-; sleep 0.2", stdin=[bytes(1 << 20)] * 20).ok
    result = sandbox.exec("sleep 100", stdin=[bytes(1 << 20)] * 20, seconds=0.5)
    assert result.timed_out


def test_input_and_output_stream_at_the_same_time(sandbox: Client) -> None:
    block, got = os.urandom(1 << 18), hashlib.sha256()
    result = sandbox.exec("cat", stdin=(block for _ in range(80)), on_output=got.update)
    assert result.output_bytes == 80 << 18
    assert got.hexdigest() == hashlib.sha256(block * 80).hexdigest()


def test_git_and_rg_are_started_without_the_users_configuration(sandbox: Client) -> None:
    sandbox.write_file(f"{HOME}/.gitconfig", b"[user]\n\tname = Somebody\n")
    assert sandbox.exec(["config", "--list"], program="git").output == b""
    assert b"user.name=Somebody" in sandbox.exec("git config --list").output
    assert sandbox.exec(["init", "--quiet"], program="git", cwd=str(REPO)).ok


# --- commands: nothing of them stays


LEFTOVERS = {
    "background": "sleep 4242 &",
    "disowned": "sleep 4242 & disown",
    "setsid": "setsid sleep 4242 &",
    "nohup": "nohup setsid sleep 4242 >/dev/null 2>&1 &",
    "double fork": "(setsid sh -c 'sleep 4242 & exec sleep 4242' >/dev/null 2>&1 &)",
    "ignores signals": "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM HUP INT; sleep 4242; sleep 4242' &",
    "stopped": "sleep 4242 & kill -STOP $!",
    "tree": "for i in 1 2 3; do (for j in 1 2 3; do setsid sleep 4242 & done; sleep 4242) & done",
}


def running(sandbox: Client, name: str = "sleep") -> list[str]:
    return sandbox.exec(["pgrep", "-x", name], program="argv").output.decode().split()


def of_the_user(sandbox: Client) -> list[str]:
    return sandbox.exec(["ps", "-o", "comm=", "-u", "1000"], program="argv").output.decode().split()


@pytest.mark.parametrize("script", LEFTOVERS.values(), ids=LEFTOVERS.keys())
@pytest.mark.parametrize("ending", ["exit 0", "sleep 4242"])
def test_nothing_of_a_finished_call_still_runs(sandbox: Client, script: str, ending: str) -> None:
    started = time.monotonic()
    result = sandbox.exec(f"{script}\necho said; {ending}", seconds=0.5)
    assert time.monotonic() - started < 0.5 + 2 + 3  # the promise is 2; the rest is for a busy machine
    assert result.timed_out is (ending != "exit 0")
    assert result.output == b"said\n"
    assert running(sandbox) == []


def test_a_fork_bomb_is_gone_after_its_time(sandbox: Client) -> None:
    bomb = "ulimit -u 200; b() { b | b & b; }; b >/dev/null 2>&1; sleep 100"
    assert sandbox.exec(bomb, seconds=1).timed_out
    assert of_the_user(sandbox) == ["ps"]


CHAINS = """
import os
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork():
                os._exit(0)
"""


def test_processes_that_run_away_from_themselves_are_caught(sandbox: Client) -> None:
    sandbox.write_file(f"{REPO}/chains.py", CHAINS.encode())
    # The sleepers make a look at all processes slower than a step of a chain.
    sandbox.exec("for i in $(seq 300); do sleep 4242 & done; /usr/bin/python3 -S chains.py; sleep 0.3", seconds=20)
    assert of_the_user(sandbox) == ["ps"]


def test_a_grandchild_that_keeps_the_output_open_delays_nothing(sandbox: Client) -> None:
    started = time.monotonic()
    assert sandbox.exec("sleep 60 & echo done", seconds=30).output == b"done\n"
    assert time.monotonic() - started < 10


def test_no_zombies_stay(sandbox: Client) -> None:
    for _ in range(5):
        sandbox.exec("(sleep 0.01 &) ; (true &) ; setsid true")
    time.sleep(0.1)
    assert "Z" not in text(sandbox, "ps -eo stat= | cut -c1")


def test_output_before_a_timeout_is_kept(sandbox: Client) -> None:
    result = sandbox.exec("echo before; sleep 100; echo after", seconds=0.4)
    assert (result.output, result.timed_out, result.exit_code, result.signal) == (b"before\n", True, None, 9)
    assert 0.3 < result.seconds < 10


def test_commands_cannot_touch_the_toolbox(sandbox: Client) -> None:
    for script in (
        "kill -9 1",
        "kill -STOP 1",
        "kill -9 $PPID",
        "cat /proc/1/environ",
        "cat /proc/1/mem",
        "ls /proc/1/fd",
        "cat /proc/$PPID/environ",
        "ls /proc/$PPID/fd",
        "readlink /proc/1/cwd",
        "echo x > /proc/1/fd/1",
    ):
        assert not sandbox.exec(script).ok, script
    sandbox.exec("kill -9 -1")
    assert sandbox.exec("true").ok


def test_commands_cannot_trace_the_toolbox(sandbox: Client) -> None:
    attach = "import ctypes, os; print([ctypes.CDLL(None).ptrace(16, pid, 0, 0) for pid in (1, os.getppid())])"
    assert text(sandbox, f"exec /usr/bin/python3 -c '{attach}'") == "[-1, -1]"


# --- output


def test_head_and_tail_of_a_long_output_are_kept(sandbox: Client) -> None:
    result = sandbox.exec("seq 1 1000000", head_bytes=100, tail_bytes=50)
    whole = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert result.truncated
    assert result.output_bytes == len(whole)
    assert result.output[: result.head_bytes] == whole[:100]
    assert result.output[result.head_bytes :] == whole[-50:]
    assert result.omitted_bytes == len(whole) - 150


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 149, 150])
def test_an_output_that_fits_is_whole(sandbox: Client, size: int) -> None:
    result = sandbox.exec(f"head -c {size} /dev/zero", head_bytes=100, tail_bytes=50)
    assert (result.output, result.truncated, result.omitted_bytes) == (bytes(size), False, 0)


def test_the_log_has_all_of_a_long_output(sandbox: Client, tmp_path: Path) -> None:
    result = sandbox.exec("seq 1 300000", log="0001-bash.log", head_bytes=10, tail_bytes=10)
    assert (result.log, result.log_truncated) == ("logs/0001-bash.log", False)
    assert (tmp_path / "logs/0001-bash.log").read_bytes().count(b"\n") == 300_000


def test_the_log_of_a_huge_output_is_bounded_and_says_what_is_missing(sandbox: Client, tmp_path: Path) -> None:
    result = sandbox.exec("head -c 50000000 /dev/zero; echo END", log="big.log")
    log = (tmp_path / "logs/big.log").read_bytes()
    assert result.log_truncated
    assert len(log) < LOG_BYTES + 20_000
    assert log.endswith(b"END\n")
    assert b"\n[%d bytes omitted]\n" % (50_000_004 - LOG_BYTES - 16_000) in log


def test_no_output_makes_no_log(sandbox: Client, tmp_path: Path) -> None:
    assert sandbox.exec("true", log="none.log").log is None
    assert not (tmp_path / "logs/none.log").exists()


def test_endless_output_grows_nothing_and_ends_in_time(tmp_path: Path) -> None:
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.exec("head -c 1000000 /dev/zero", log="first.log")
        before, ours = resident(toolbox), resident(os.getpid())
        assert sandbox.exec("head -c 200000000 /dev/zero", log="second.log").output_bytes == 200_000_000
        result = sandbox.exec("cat /dev/zero", seconds=2, log="third.log")
        assert result.timed_out
        assert result.output_bytes > LOG_BYTES
        assert resident(toolbox) < before + 8_000_000
        assert resident(os.getpid()) < ours + 32_000_000


def test_streamed_output_is_all_there_and_a_slow_reader_holds_it_back(sandbox: Client) -> None:
    seen = 0

    def slowly(data: bytes) -> None:
        nonlocal seen
        seen += len(data)
        if seen < 10_000_000:
            time.sleep(0.02)

    result = sandbox.exec("head -c 30000000 /dev/zero", on_output=slowly)
    assert seen == result.output_bytes == 30_000_000


def test_a_slow_reader_does_not_hold_back_others(sandbox: Client) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(sandbox.exec, "cat /dev/zero", on_output=lambda data: stop.wait(1), seconds=3)
        for _ in range(5):
            assert sandbox.exec("echo quick", seconds=20).output == b"quick\n"
        stop.set()
        assert slow.result(timeout=60).timed_out


# --- background tasks


def test_a_background_task_outlives_its_call_and_is_stopped_with_its_tree(sandbox: Client) -> None:
    task = sandbox.start("echo one; setsid sleep 4242 & sleep 4242")
    assert task.running
    wait_for(lambda: sandbox.poll_task(task.id).output == b"one\n")
    wait_for(lambda: len(running(sandbox)) == 2)
    stopped = sandbox.stop_task(task.id)
    assert (stopped.running, stopped.signal) == (False, 9)
    assert running(sandbox) == []
    assert not sandbox.poll_task(task.id).running


def test_a_background_task_that_ends_is_told_once_with_its_output(sandbox: Client, tmp_path: Path) -> None:
    task = sandbox.start("echo a; exit 3", log="task.log")
    time.sleep(0.3)
    state = sandbox.poll_task(task.id)
    assert (state.running, state.exit_code, state.output) == (False, 3, b"a\n")
    assert sandbox.poll_task(task.id).output == b""
    assert (tmp_path / "logs/task.log").read_bytes() == b"a\n"


def test_only_the_newest_output_of_a_background_task_is_kept(sandbox: Client) -> None:
    task = sandbox.start("head -c 30000000 /dev/zero; echo newest")
    time.sleep(0.5)
    wait_for(lambda: sandbox.poll_task(task.id).output.endswith(b"newest\n") or not sandbox.poll_task(task.id).running)


def test_an_unknown_task_is_a_key_error(sandbox: Client) -> None:
    with pytest.raises(KeyError):
        sandbox.poll_task("task-77")
    with pytest.raises(KeyError):
        sandbox.stop_task("task-77")


def test_background_tasks_are_limited(sandbox: Client) -> None:
    for _ in range(MAX_TASKS):
        sandbox.start("sleep 100")
    with pytest.raises(BlockingIOError, match="background tasks"):
        sandbox.start("sleep 100")


def test_end_processes_ends_everything_of_the_user(sandbox: Client) -> None:
    task = sandbox.start("sleep 4242")
    with ThreadPoolExecutor() as pool:
        call = pool.submit(sandbox.exec, "setsid sleep 4242 & sleep 4242", seconds=60)
        wait_for(lambda: len(running(sandbox)) == 3)
        sandbox.end_processes()
        assert call.result(timeout=20).signal == 9
    assert not sandbox.poll_task(task.id).running
    assert of_the_user(sandbox) == ["ps"]


# --- the end


def test_closing_ends_everything_and_is_said_once() -> None:
    closed: list[int] = []
    marker = f"sleep 4{os.getpid()}"
    with local_channel(isolated=True) as channel:
        say_hello(channel, Settings())
        sandbox = Client(channel, report=REPORT, log_folder=None, on_close=lambda: closed.append(1))
        sandbox.start(f"setsid {marker} & {marker}")
        wait_for(lambda: marker in processes())
        sandbox.close()
        sandbox.close()
        assert closed == [1]
        with pytest.raises(SandboxLost):
            sandbox.exec("true")
    wait_for(lambda: marker not in processes())


def test_an_ordinary_process_ends_everything_too_when_its_host_goes(tmp_path: Path) -> None:
    marker = f"sleep 5{os.getpid()}"
    tmp_path.chmod(0o777)
    me = {"uid": os.getuid(), "gid": os.getgid(), "repo": str(tmp_path / "r"), "home": str(tmp_path / "h")}
    with local_channel(isolated=False) as channel:
        say_hello(channel, Settings(workspace=str(tmp_path), **me))  # type: ignore[arg-type]
        sandbox = Client(channel, report=REPORT, log_folder=None, on_close=lambda: None)
        sandbox.start(f"setsid {marker} & {marker}", cwd="/")
        wait_for(lambda: marker in processes())
    wait_for(lambda: marker not in processes())


def test_a_killed_toolbox_is_a_lost_sandbox_and_leaves_nothing(tmp_path: Path) -> None:
    marker = f"sleep 6{os.getpid()}"
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.start(marker)
        wait_for(lambda: marker in processes())
        os.kill(toolbox, signal.SIGKILL)
        with pytest.raises(SandboxLost):
            sandbox.exec("sleep 100")
    wait_for(lambda: marker not in processes())


def test_without_its_zygote_the_toolbox_gives_up(tmp_path: Path) -> None:
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.exec("true")
        zygote, *_ = Path(f"/proc/{toolbox}/task/{toolbox}/children").read_text().split()
        os.kill(int(zygote), signal.SIGKILL)
        with contextlib.suppress(SandboxLost):
            sandbox.exec("true")  # may have been prepared before
        with pytest.raises(SandboxLost):
            sandbox.exec("true")


# --- limits that the toolbox watches


def test_too_many_files_end_the_command(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 100000 ]; do : > f$i; i=$((i+1)); done; sleep 100"
    with local_sandbox(tmp_path, Settings(inode_limit=5_000)) as sandbox:
        result = sandbox.exec(script, seconds=60)
        assert (result.over_quota, result.timed_out, result.signal) == (True, False, 9)
        assert sandbox.exec("sleep 0.6; rm -f f*", seconds=60).ok, "what makes no more files may go on"


# --- files


def test_what_was_written_is_read(sandbox: Client) -> None:
    content = os.urandom(3_000_000)
    sandbox.write_file(f"{REPO}/a/b/c.bin", content)
    assert sandbox.read_file(f"{REPO}/a/b/c.bin") == content
    assert sandbox.read_file(f"{REPO}/a/b/c.bin", offset=10, max_bytes=5) == content[10:15]
    assert sandbox.read_file(f"{REPO}/a/b/c.bin", offset=9_000_000) == b""
    assert text(sandbox, "stat -c '%u %g %a' a/b/c.bin a") == "1000 1000 644\n1000 1000 755"


def test_a_write_keeps_the_mode_and_leaves_nothing_beside_it(sandbox: Client) -> None:
    sandbox.exec("echo old > s.sh; chmod 750 s.sh")
    sandbox.write_file(f"{REPO}/s.sh", b"")
    assert text(sandbox, "stat -c '%a %s' s.sh; ls -A") == "750 0\ns.sh"


def test_a_write_is_refused_when_the_file_is_not_what_was_read(sandbox: Client) -> None:
    path = f"{REPO}/f"
    sandbox.write_file(path, b"one", expected_sha256="")
    with pytest.raises(FileExistsError):
        sandbox.write_file(path, b"two", expected_sha256="")
    with pytest.raises(FileExistsError):
        sandbox.write_file(path, b"two", expected_sha256=hashlib.sha256(b"other").hexdigest())
    sandbox.write_file(path, b"two", expected_sha256=hashlib.sha256(b"one").hexdigest())
    with pytest.raises(FileExistsError):
        sandbox.write_file(f"{REPO}/gone", b"two", expected_sha256=hashlib.sha256(b"one").hexdigest())
    assert sandbox.read_file(path) == b"two"
    assert text(sandbox, "ls -A") == "f"


def test_links_are_refused_wherever_they_are(sandbox: Client) -> None:
    sandbox.exec("echo secret > t; ln -s t link; ln -s . dir; mkdir real; ln -s /etc out; ln -s none dangling")
    for path in ("link", "dir/t", "out/passwd", "dangling"):
        with pytest.raises(PermissionError):
            sandbox.read_file(f"{REPO}/{path}")
        with pytest.raises(PermissionError):
            sandbox.write_file(f"{REPO}/{path}", b"x")
    for path in ("real/../t", "./t", "real//t", ""):
        with pytest.raises(PermissionError):
            sandbox.read_file(f"{REPO}/{path}")
    assert sandbox.read_file(f"{REPO}/t") == b"secret\n"


def test_what_is_no_regular_file_is_not_read(sandbox: Client) -> None:
    sandbox.exec("mkfifo p; mkdir d")
    with pytest.raises(OSError, match="not a regular file"):
        sandbox.read_file(f"{REPO}/p")
    with pytest.raises(OSError, match=r"No such device|not a regular file"):
        sandbox.write_file(f"{REPO}/p", b"x")
    with pytest.raises(IsADirectoryError):
        sandbox.read_file(f"{REPO}/d")
    with pytest.raises(IsADirectoryError):
        sandbox.write_file(f"{REPO}/d", b"x")
    with pytest.raises(OSError, match="not a regular file"):
        sandbox.read_file("/dev/zero")
    with pytest.raises(FileNotFoundError, match="none"):
        sandbox.read_file(f"{REPO}/none")
    with pytest.raises(NotADirectoryError):
        sandbox.read_file("/etc/passwd/x")


def test_file_operations_have_the_rights_of_the_jobs_user(sandbox: Client) -> None:
    with pytest.raises(PermissionError):
        sandbox.read_file("/etc/shadow")
    with pytest.raises(PermissionError):
        sandbox.write_file("/etc/new", b"x")
    with pytest.raises(PermissionError):
        sandbox.write_file("/etc/passwd", b"x")
    with pytest.raises(PermissionError):
        sandbox.read_file("/proc/1/environ")
    sandbox.exec("echo x > ro; chmod 444 ro; echo x > no; chmod 0 no; mkdir closed; touch closed/f; chmod 0 closed")
    with pytest.raises(PermissionError):
        sandbox.write_file(f"{REPO}/ro", b"y")
    with pytest.raises(PermissionError):
        sandbox.read_file(f"{REPO}/no")
    with pytest.raises(PermissionError):
        sandbox.read_file(f"{REPO}/closed/f")


SWAP = """
while :; do
    mkdir inside; echo good > inside/f; rm -rf inside
    ln -s outside inside; rm -rf inside
done 2>/dev/null
"""


def test_a_link_swapped_in_between_is_never_followed(sandbox: Client) -> None:
    sandbox.exec("mkdir outside; echo SECRET > outside/f")
    task = sandbox.start(SWAP)
    seen: set[bytes | type[OSError]] = set()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not {b"good\n", PermissionError} <= seen:
        for _ in range(20):
            try:
                seen.add(sandbox.read_file(f"{REPO}/inside/f"))
            except OSError as error:
                seen.add(type(error))
            with contextlib.suppress(OSError):
                sandbox.write_file(f"{REPO}/inside/g", b"mine")
    sandbox.stop_task(task.id)
    assert {b"good\n", PermissionError} <= seen, "the race was never run"
    assert seen <= {b"good\n", b"", PermissionError, FileNotFoundError, NotADirectoryError}
    assert text(sandbox, "ls outside; cat outside/f") == "f\nSECRET"


def test_names_that_are_not_utf8_work_everywhere(sandbox: Client) -> None:
    name = os.fsdecode(b"caf\xe9\n '\x01")
    path = f"{REPO}/{name}"
    sandbox.write_file(path, b"content")
    assert sandbox.read_file(path) == b"content"
    assert sandbox.stat(path).kind == "file"
    assert sandbox.resolve(path) == path
    assert sandbox.glob("*", root=str(REPO), limit=5) == ((path,), False)
    assert sandbox.exec(["cat", path], program="argv").output == b"content"


def test_resolve_follows_links_and_allows_what_is_not_there_yet(sandbox: Client) -> None:
    sandbox.exec("mkdir -p d/e; ln -s d/e l; ln -s /usr/bin abs; ln -s x y; ln -s y x")
    assert sandbox.resolve(f"{REPO}/l/new/file") == f"{REPO}/d/e/new/file"
    assert sandbox.resolve(f"{REPO}/abs/../lib") == "/usr/lib"
    assert sandbox.resolve("d/../l") == f"{REPO}/d/e"
    with pytest.raises(OSError, match="symbolic links"):
        sandbox.resolve(f"{REPO}/x")


def test_stat_tells_what_a_path_is(sandbox: Client) -> None:
    sandbox.exec("echo abc > f; chmod 640 f; mkdir d; ln -s f l; mkfifo p")
    found = {name: sandbox.stat(f"{REPO}/{name}") for name in ("f", "d", "l", "p", "none", "f/x")}
    assert {name: info.kind for name, info in found.items()} == {
        "f": "file",
        "d": "directory",
        "l": "link",
        "p": "other",
        "none": "missing",
        "f/x": "missing",
    }
    assert (found["f"].size, found["f"].mode) == (4, 0o640)
    assert abs(found["f"].modified - time.time()) < 600


def test_glob_finds_the_newest_first_and_follows_no_link(sandbox: Client) -> None:
    sandbox.exec(
        "mkdir -p src/deep .git; touch -d 2001-01-01 src/old.py; touch -d 2002-01-01 src/deep/new.py;"
        "touch -d 2003-01-01 src/x.ts a.py .git/config.py .hidden.py; ln -s src link"
    )

    def found(pattern: str, root: str = str(REPO), limit: int = 10) -> list[str]:
        return [path.removeprefix(f"{REPO}/") for path in sandbox.glob(pattern, root=root, limit=limit)[0]]

    assert found("src/**/*.py") == ["src/deep/new.py", "src/old.py"]
    assert found("**/*.py") == [".hidden.py", "a.py", "src/deep/new.py", "src/old.py"]
    assert found("*.py") == [".hidden.py", "a.py"]
    assert found("src/*.{py,ts}") == ["src/x.ts", "src/old.py"]
    assert found("src/{old,x}.[pt][ys]") == ["src/x.ts", "src/old.py"]
    assert found("**/new.py", root=f"{REPO}/src") == ["src/deep/new.py"]
    assert found(".git/*") == [".git/config.py"]
    assert found("link/*") == []
    assert found("**/deep/**") == ["src/deep/new.py"]
    assert found("nothing*") == []
    assert sandbox.glob("**/*.py", root=str(REPO), limit=1) == ((f"{REPO}/.hidden.py",), True)
    with pytest.raises(FileNotFoundError):
        sandbox.glob("*", root="/no/such", limit=1)
    with pytest.raises(NotADirectoryError):
        sandbox.glob("*", root="/etc/passwd", limit=1)
    with pytest.raises(OSError, match="never closed"):
        sandbox.glob("{a,b", root=str(REPO), limit=1)


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "**/" * 60 + "x", "{a,b}" * 30, "[" * 300, "{" * 500 + "}" * 500])
def test_a_pattern_made_to_take_forever_does_not(sandbox: Client, pattern: str) -> None:
    sandbox.exec("mkdir -p a/a/a/a/a/a/a/a/a/a/a/a/a; touch " + "a" * 200)
    started = time.monotonic()
    with contextlib.suppress(OSError):
        sandbox.glob(pattern, root=str(REPO), limit=10)
    assert time.monotonic() - started < 10


def test_an_answer_of_many_long_names_is_bounded(sandbox: Client) -> None:
    names = "".join(f"{number}-{'x' * 200}\0" for number in range(3000)).encode()
    sandbox.exec("mkdir $(printf 'd%.0s' $(seq 200)); cd d*; xargs -0 touch", stdin=[names])
    paths, more = sandbox.glob("**/*", root=str(REPO), limit=100_000)
    assert more
    assert 100 < len(paths) < 3000


# --- hello


def test_hello_tells_what_the_kernel_enforces() -> None:
    with local_channel(isolated=True) as channel:
        hello = say_hello(channel, Settings())
    assert hello.pid == 1
    assert hello.command.capabilities.any == 0
    assert (hello.command.uids, hello.command.gids, hello.command.groups) == ((1000,) * 4, (1000,) * 4, ())
    assert hello.toolbox.uids == (0, 0, 0, 1000)
    kept = 1 << 5 | 1 << 6 | 1 << 7
    assert hello.toolbox.capabilities.permitted & ~kept == 0
    assert hello.toolbox.capabilities.bounding == hello.toolbox.capabilities.inheritable == 0
    assert hello.toolbox.no_new_privileges
    assert hello.kernel == os.uname().release
    assert "null" in hello.devices
    assert "lo" in hello.interfaces
    assert hello.command.limits.open_files == resource.getrlimit(resource.RLIMIT_NOFILE)
    workspace = hello.mount("/workspace")
    assert workspace is not None
    assert (workspace.kind, workspace.bytes) == ("tmpfs", 1 << 30)
    assert workspace.inodes
    assert {"nosuid", "nodev"} <= set(workspace.options)


def test_an_answer_that_is_not_what_was_promised_is_a_lost_sandbox() -> None:
    with local_channel(isolated=True) as channel:
        say_hello(channel, Settings())
        with Client(channel, report=REPORT, log_folder=None, on_close=lambda: None) as sandbox:
            channel.request = lambda *_, **__: {"path": 1}  # type: ignore[method-assign]
            with pytest.raises(SandboxLost, match="broke the protocol: answer to 'resolve'"):
                sandbox.resolve("/")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Client, int]]:
    """A sandbox, and the pid that its toolbox has outside: it is the only child of the program that isolates it."""
    (folder / "logs").mkdir()
    with local_process(isolated=True) as (process, connection):
        channel = Channel(SocketTransport(connection))
        say_hello(channel, Settings())
        toolbox = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        with Client(channel, report=REPORT, log_folder=folder / "logs", on_close=lambda: None) as sandbox:
            yield sandbox, toolbox


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def resident(pid: int) -> int:
    """Resident bytes. Format: proc(5), /proc/pid/statm."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
