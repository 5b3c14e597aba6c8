"""What every engine does, in every kind of image; a new engine passes this before it gets tests of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.errors import ImageNotFound, OutOfMemory, SandboxLost
from runner.sandbox.base import REPO, Sandbox
from runner.sandbox.clean import remove_container
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from tests import images
from tests.conftest import sandbox_config

pytestmark = pytest.mark.engine
Opener = Callable[..., Sandbox]


@pytest.fixture(params=["busybox_image", "alpine_image", "base_image", "base_image in the layer"])
def any_sandbox(request: pytest.FixtureRequest, open_sandbox: Opener) -> Sandbox:
    """A sandbox of each kind of image, and of each kind of workspace."""
    image, _, layer = request.param.partition(" ")
    return open_sandbox(request.getfixturevalue(image), workspace="layer" if layer else "memory")


def test_a_shell_command_runs_in_any_image(any_sandbox: Sandbox) -> None:
    result = any_sandbox.exec("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.output) == (3, b"out\nerr\n")


def test_git_and_ripgrep_are_there_in_any_image(any_sandbox: Sandbox) -> None:
    made = any_sandbox.exec("git init -q . && echo needle > hay && git add hay && git status --short && rg -c needle")
    assert made.output == b"A  hay\nhay:1\n"


def test_files_go_in_and_come_out_of_any_image(any_sandbox: Sandbox) -> None:
    path, data = f"{REPO}/a folder/file.bin", bytes(range(256)) * 1000
    any_sandbox.write_file(path, data)
    assert any_sandbox.read_file(path) == data
    assert any_sandbox.exec("wc -c < 'a folder/file.bin'").output.strip() == b"256000"


def test_commands_start_in_the_repository_as_a_user_without_rights(any_sandbox: Sandbox) -> None:
    result = any_sandbox.exec("pwd; grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr '\\t' ' '")
    assert result.output.decode().splitlines() == [
        str(REPO),
        "Uid: 1000 1000 1000 1000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
    ]


def test_localhost_is_known_and_reachable(any_sandbox: Sandbox) -> None:
    assert b"localhost" in any_sandbox.exec("cat /etc/hosts").output
    script = (
        "import socket; s = socket.create_server(('localhost', 0));"
        "socket.create_connection(('localhost', s.getsockname()[1])); print('met')"
    )
    python = ["/opt/claw/bin/python3", "-S", "-c", script]
    assert any_sandbox.exec(python, program="argv", variables={"PYTHONHOME": "/opt/claw"}).output == b"met\n"


def test_a_daemon_does_not_outlive_its_timed_out_command(sandbox: Sandbox) -> None:
    result = sandbox.exec("echo before; (setsid sleep 987 &); trap '' TERM; sleep 987; sleep 987", seconds=0.5)
    assert result.timed_out
    assert result.output == b"before\n"
    assert sandbox.exec("ps -e -o args= 2>/dev/null || cat /proc/[0-9]*/cmdline").output.count(b"987") == 0


def test_answers_of_parallel_commands_are_not_confused(sandbox: Sandbox) -> None:
    def ask(number: int) -> bytes:
        return sandbox.exec(f"sleep 0.0{number % 7}; echo {number}").output

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [b"%d\n" % number for number in range(40)]


def test_much_output_streams_out_whole_and_in_order(sandbox: Sandbox) -> None:
    got: list[bytes] = []
    result = sandbox.exec("seq 1000000", on_output=got.append, head_bytes=100, tail_bytes=100)
    assert b"".join(got) == b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert result.truncated


def test_much_input_streams_in_whole(sandbox: Sandbox) -> None:
    counted = sandbox.exec(["wc", "-c"], program="argv", stdin=[b"x" * 100_000] * 100)
    assert counted.output.strip() == b"10000000"


def test_a_background_task_runs_on_until_it_is_stopped(sandbox: Sandbox) -> None:
    task = sandbox.start("echo begun; trap '' TERM; (setsid sleep 986 &); sleep 986")
    assert sandbox.exec("echo meanwhile").output == b"meanwhile\n"
    assert sandbox.poll_task(task.id).running
    ended = sandbox.stop_task(task.id)
    assert not ended.running
    assert sandbox.exec("cat /proc/[0-9]*/cmdline").output.count(b"sleep\x00986") == 0
    with pytest.raises(KeyError):
        sandbox.poll_task("no-such-task")


def test_a_command_that_kills_all_it_can_ends_nothing_of_ours(sandbox: Sandbox) -> None:
    sandbox.exec("kill -9 -1; kill -9 1; kill -STOP 1", seconds=10)
    assert sandbox.exec("echo still here").output == b"still here\n"


def test_ending_all_processes_ends_what_runs_and_keeps_the_files(sandbox: Sandbox) -> None:
    sandbox.exec("echo kept > file")
    sandbox.start("(setsid sleep 985 &); sleep 985")
    sandbox.end_processes()
    assert sandbox.exec("cat /proc/[0-9]*/cmdline").output.count(b"sleep\x00985") == 0
    assert sandbox.read_file(f"{REPO}/file") == b"kept\n"


def test_links_are_resolved_when_asked_for_and_refused_when_used(sandbox: Sandbox) -> None:
    sandbox.exec("ln -s /etc/passwd link && ln -s /etc folder")
    assert sandbox.resolve(f"{REPO}/link") == "/etc/passwd"
    assert sandbox.stat(f"{REPO}/link").kind == "link"
    for path in (f"{REPO}/link", f"{REPO}/folder/passwd"):
        with pytest.raises(PermissionError):
            sandbox.read_file(path)
        with pytest.raises(PermissionError):
            sandbox.write_file(path, b"x")


def test_files_that_the_jobs_user_cannot_read_or_write_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(PermissionError):
        sandbox.read_file("/etc/shadow")
    with pytest.raises(OSError, match="Permission denied|Read-only"):
        sandbox.write_file("/etc/new", b"x")
    with pytest.raises(FileNotFoundError):
        sandbox.read_file(f"{REPO}/missing")


def test_sandboxes_opened_at_the_same_time_do_not_meet(engine: ContainerEngine, open_sandbox: Opener) -> None:
    with ThreadPoolExecutor(3) as pool:
        opened = list(pool.map(lambda number: open_sandbox(pids=100 + number), range(3)))
    assert len({sandbox.report.container_id for sandbox in opened}) == 3
    for number, sandbox in enumerate(opened):
        sandbox.write_file(f"{REPO}/mine", b"%d" % number)
    assert [sandbox.read_file(f"{REPO}/mine") for sandbox in opened] == [b"0", b"1", b"2"]


def test_an_unknown_image_is_named(engine: ContainerEngine, toolbox_volume: str) -> None:
    missing = ImageRef(reference="claw-test/no-such-image:1", digest="")
    with pytest.raises(ImageNotFound, match="'claw-test/no-such-image:1' is not on"):
        engine.open_sandbox(sandbox_config(missing, toolbox_volume))


def test_the_report_says_what_was_opened(sandbox: Sandbox, engine: ContainerEngine, base_image: ImageRef) -> None:
    report = sandbox.report
    assert (report.engine, report.engine_version) == (engine.name, engine.version)
    assert (report.image, report.image_digest) == (base_image.reference, base_image.digest)
    assert list(report.timings) == ["create", "start", "hello"]
    assert len(report.toolbox_version) == 12
    assert engine.api.exists(f"/containers/{report.container_id}/json")


@pytest.mark.parametrize("how", ["kill", "remove"])
def test_a_container_ended_from_outside_is_a_lost_sandbox(sandbox: Sandbox, engine: ContainerEngine, how: str) -> None:
    name = sandbox.report.container_id
    ended: list[float] = []

    def end() -> None:
        if how == "kill":
            engine.api.post(f"/containers/{name}/kill", signal="KILL")
        else:
            remove_container(engine.api, name)

    def watch() -> None:
        with pytest.raises(SandboxLost):
            sandbox.exec("sleep 60", seconds=60)
        ended.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.3)
    started = time.monotonic()
    end()
    watcher.join(timeout=20)
    assert ended
    assert ended[0] - started < 10
    with pytest.raises(SandboxLost):
        sandbox.exec("true")


def test_commands_that_use_too_much_memory_are_killed_and_the_sandbox_stays(open_sandbox: Opener) -> None:
    sandbox = open_sandbox(memory="64m", disk="16m", tmp="1m", file_size="16m")
    hog = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo survived"
    result = sandbox.exec(hog, seconds=60)
    assert result.oom_killed
    assert b"survived" not in result.output
    assert sandbox.exec("echo still here").output == b"still here\n"


def test_volumes_that_an_image_declares_stay_bounded(engine: ContainerEngine, open_sandbox: Opener) -> None:
    """An engine would mount a writable one of any size at each, and docker would keep it."""
    image = images.derived(engine, "claw-test/volumes:1", ["VOLUME /data", "VOLUME /workspace"])
    before = {volume["Name"] for volume in engine.api.get("/volumes")["Volumes"]}
    sandbox = open_sandbox(image)
    kinds = sandbox.exec("grep -E ' (/data|/workspace) ' /proc/mounts | cut -d ' ' -f 2,3").output.decode()
    assert set(kinds.splitlines()) <= {"/data tmpfs", "/workspace tmpfs"}
    after = {volume["Name"] for volume in engine.api.get("/volumes")["Volumes"]}
    assert not {name for name in after - before if len(name) == 64}


def test_a_sandbox_lost_for_want_of_memory_says_so(engine: ContainerEngine, open_sandbox: Opener) -> None:
    """The toolbox is the last to be killed, so it takes a limit that is lowered under it."""
    if engine.name == "podman":
        pytest.skip("podman 4.3 can neither lower a limit nor tell of the kill")
    sandbox = open_sandbox(memory="64m", disk="64m", tmp="1m")
    limit = 16 << 20
    body = {"Memory": limit, "MemorySwap": limit}
    engine.api.post(f"/containers/{sandbox.report.container_id}/update", body=body)
    with pytest.raises(OutOfMemory, match="ran out of memory"):
        sandbox.write_file(f"{REPO}/big", bytes(60 << 20))


def test_image_variables_reach_commands_and_spare_the_toolbox(engine: ContainerEngine, open_sandbox: Opener) -> None:
    """An image may set variables that would break the toolbox's own Python and loader."""
    image = images.derived(
        engine,
        "claw-test/variables:2",
        ["ENV PYTHONHOME=/nowhere", "ENV LD_LIBRARY_PATH=/usr/lib", "ENV GREETING=hello"],
    )
    sandbox = open_sandbox(image)
    assert sandbox.exec("echo $GREETING $PYTHONHOME $LD_LIBRARY_PATH").output == b"hello /nowhere /usr/lib\n"
