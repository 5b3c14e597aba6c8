"""Commands held to the policy's folders by the kernel: what is granted works, and nothing else does."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from runner.errors import ControlNotEnforced
from runner.policy.contain import Grant
from runner.sandbox import profile
from runner.sandbox.base import HOME, REPO, Sandbox
from runner.sandbox.client import Client
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.toolbox import landlock
from tests.conftest import sandbox_config
from tests.local_toolbox import local_sandbox
from tests.sandbox import confine_probes
from tests.sandbox.test_client import opened
from tests.sandbox.weaker import filtered_engine

pytestmark = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
Opener = Callable[..., Sandbox]
DENIED = b"Permission denied"
NEEDED = (Grant(path="/", access="read"), Grant(path="/dev", access="write"))


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Client]:
    with local_sandbox(tmp_path) as opened:
        opened.exec("mkdir src docs; echo own >src/own; echo file >docs/file")
        yield opened


def writing(*paths: str, without: Sequence[str] = ()) -> list[Grant]:
    """Reading everywhere, and writing to these paths."""
    return [*NEEDED, *(Grant(path=path, access="write", without=tuple(without)) for path in paths)]


def works(sandbox: Sandbox, script: str) -> bool:
    """Whether a confined command succeeds. One that does not must have been refused, not have failed otherwise."""
    result = sandbox.exec(script, confined=True)
    assert result.ok or DENIED in result.output, result
    return result.ok


def test_commands_write_where_it_is_granted_and_read_elsewhere(sandbox: Client) -> None:
    sandbox.confine(writing(f"{REPO}/src"))
    assert works(sandbox, "echo new >src/own; mkdir src/deep; mv src/own src/deep/; rm -r src/deep")
    assert works(sandbox, "cat docs/file && ls / && git --version")
    assert not works(sandbox, "echo new >docs/file")
    assert not works(sandbox, "touch new")
    assert sandbox.read_file(f"{REPO}/docs/file") == b"file\n"


def test_listing_is_less_than_reading(sandbox: Client) -> None:
    usr = [Grant(path=path, access="read") for path in ("/usr", "/etc", "/proc", "/lib", "/root/.pyenv")]
    sandbox.confine([*usr, NEEDED[1], Grant(path=str(REPO), access="list")])
    assert works(sandbox, "ls docs")
    assert not works(sandbox, "cat docs/file")
    assert not works(sandbox, "ls /workspace/home")


def test_only_confined_commands_are_held(sandbox: Client) -> None:
    assert works(sandbox, "touch before")
    sandbox.confine(writing(f"{REPO}/src"))
    assert not works(sandbox, "touch after")
    assert sandbox.exec("touch after").ok
    sandbox.write_file(f"{REPO}/by-tool", b"x")


def test_what_is_left_out_is_closed_and_the_rest_is_not(sandbox: Client) -> None:
    sandbox.exec("mkdir -p deep/er/secret deep/er/open deep/side; touch deep/er/secret/x deep/er/open/x deep/file top")
    sandbox.confine(
        [
            Grant(path="/", access="read", without=(f"{REPO}/deep/er/secret",)),
            *writing(str(REPO), without=[f"{REPO}/deep/er/secret"])[1:],
        ]
    )
    assert not works(sandbox, "cat deep/er/secret/x")
    assert not works(sandbox, "touch deep/er/secret/y")
    assert works(sandbox, "cat /etc/group deep/er/open/x && echo x >deep/file && touch deep/side/new top && ls deep/er")
    for folder in (".", "deep", "deep/er"):
        assert not works(sandbox, f"touch {folder}/new")
    assert not works(sandbox, "mv deep/er src/")


def test_a_link_to_what_is_left_out_does_not_lead_there(sandbox: Client) -> None:
    sandbox.exec("ln -s docs way; ln -s file docs/to-file")
    for left_out in (f"{REPO}/way/file", f"{REPO}/docs/to-file"):
        sandbox.confine([Grant(path="/", access="read", without=(left_out,)), NEEDED[1]])
        for path in ("docs/file", "way/file", "docs/to-file"):
            assert not works(sandbox, f"cat {path}")


def test_a_grant_may_be_a_file(sandbox: Client) -> None:
    sandbox.confine(writing(f"{REPO}/docs/file"))
    assert works(sandbox, "echo more >>docs/file")
    assert not works(sandbox, "rm docs/file")


def test_a_granted_folder_that_was_replaced_is_found_again(sandbox: Client) -> None:
    sandbox.confine(writing(f"{REPO}/src", f"{REPO}/later"))
    for _ in range(3):
        assert works(sandbox, "echo x >src/own")
        sandbox.exec("mv src old; mkdir src")
        assert works(sandbox, "echo x >src/own")
        assert not works(sandbox, "echo x >old/own")
        sandbox.exec("rm -r old")
    assert not works(sandbox, "mkdir later")
    sandbox.exec("mkdir later")
    assert works(sandbox, "touch later/x")


def test_a_folder_that_is_new_beside_what_is_left_out_is_found(sandbox: Client) -> None:
    sandbox.exec("touch ~/secret")
    sandbox.confine(writing(str(HOME), without=[f"{HOME}/secret"]))
    for name in range(5):
        sandbox.exec(f"mkdir ~/{name}")
        assert works(sandbox, f"touch ~/{name}/x")
        assert not works(sandbox, "echo x >~/secret")


def test_a_granted_folder_that_became_a_link_grants_nothing(sandbox: Client) -> None:
    sandbox.exec("mkdir -p parent/granted")
    sandbox.confine(writing(f"{REPO}/src", f"{REPO}/parent/granted"))
    sandbox.exec("rm -r src; ln -s docs src; rm -r parent; mkdir docs/granted; ln -s docs parent")
    for path in ("src/file", "docs/file", "parent/granted/x", "docs/granted/x"):
        assert not works(sandbox, f"echo x >{path}")


def test_a_later_confinement_replaces_the_earlier_and_spares_what_runs(sandbox: Client) -> None:
    sandbox.confine(writing(f"{REPO}/src"))
    wait = "until [ -e src/go ]; do sleep 0.05; done"
    task = sandbox.start(f"{wait}; echo x >docs/file; echo x >src/own; echo ended")
    sandbox.confine(writing(f"{REPO}/docs"))
    assert works(sandbox, "echo later >docs/file")
    assert not works(sandbox, "touch src/go")
    sandbox.write_file(f"{REPO}/src/go", b"")
    deadline = time.monotonic() + 60
    output = b""
    while b"ended" not in output and time.monotonic() < deadline:
        output += sandbox.poll_task(task.id).output
    assert output.count(DENIED) == 1
    assert sandbox.read_file(f"{REPO}/docs/file") == b"later\n"
    assert sandbox.read_file(f"{REPO}/src/own") == b"x\n"


def test_background_tasks_are_always_confined(sandbox: Client) -> None:
    sandbox.confine(writing(f"{REPO}/src"))
    task = sandbox.start("touch docs/new; touch src/new")
    deadline = time.monotonic() + 60
    while sandbox.poll_task(task.id).running and time.monotonic() < deadline:
        pass
    assert sandbox.stat(f"{REPO}/src/new").kind == "file"
    assert sandbox.stat(f"{REPO}/docs/new").kind == "missing"


def test_grants_under_which_nothing_can_run_are_refused(sandbox: Client) -> None:
    with pytest.raises(ControlNotEnforced, match="what the policy grants"):
        sandbox.confine([Grant(path=str(REPO), access="read")])


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a//b", "/a/", ""])
def test_a_path_that_is_not_plain_is_refused(sandbox: Client, path: str) -> None:
    for grant in (Grant(path=path, access="read"), Grant(path="/", access="read", without=(path,))):
        with pytest.raises(ControlNotEnforced, match="not a resolved absolute path"):
            sandbox.confine([grant])


def test_confined_commands_leave_no_descriptor_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.confine(writing(f"{REPO}/src"))
        sandbox.exec("mkdir src", confined=False)
        before = descriptors(sandbox, toolbox)
        for number in range(20):
            sandbox.exec("rm -r src; mkdir src")
            assert works(sandbox, f"touch src/{number}")
            sandbox.confine(writing(f"{REPO}/src"))
        sandbox.exec("true", confined=True)
        assert len(descriptors(sandbox, toolbox)) <= len(before) + 1  # the ruleset


def test_a_command_that_cannot_be_confined_is_not_started(tmp_path: Path) -> None:
    with opened(tmp_path) as (sandbox, toolbox):
        sandbox.exec("mkdir src")
        sandbox.confine(writing(f"{REPO}/src"))
        sandbox.exec("rm -r src; mkdir src")  # so that the rules must be made anew
        used = descriptors(sandbox, toolbox)
        full = next(number for number in range(1000) if number not in used)
        resource.prlimit(toolbox, resource.RLIMIT_NOFILE, (full, 1000))
        with pytest.raises(OSError, match="Landlock could not be applied"):
            sandbox.exec("touch /workspace/repo/src/ran", confined=True)
        resource.prlimit(toolbox, resource.RLIMIT_NOFILE, (1000, 1000))
        assert sandbox.stat(f"{REPO}/src/ran").kind == "missing"
        assert works(sandbox, "touch src/ran")


def descriptors(sandbox: Client, toolbox: int) -> set[int]:
    """What the toolbox has open once it has prepared for the next command, which it does before it answers."""
    sandbox.ping()
    return {int(fd.name) for fd in Path(f"/proc/{toolbox}/fd").iterdir()}


# --- in a container


OUTSIDER = "exec 9</etc/passwd; cd ~/keys; echo $$ >/tmp/pid; mv /tmp/pid /tmp/outsider; exec sleep 600"
"""An unconfined process of the same user, with a file, a directory and a root of its own."""


@pytest.mark.engine
def test_nothing_that_is_not_granted_is_got_at(open_sandbox: Opener) -> None:
    sandbox = open_sandbox()
    sandbox.exec(
        "mkdir -p src docs/sub .git ~/keys ~/there; ln -s docs way; cp /bin/true ~/keys/run; "
        "echo file >docs/file; echo own >src/own; echo key >~/keys/id"
    )
    outsider = threading.Thread(target=lambda: sandbox.exec(OUTSIDER, seconds=600))
    outsider.start()
    sandbox.confine(
        [
            Grant(path="/", access="read", without=("/etc/passwd", f"{HOME}/keys")),
            *(Grant(path=f"{REPO}/{path}", access="write") for path in ("src", ".git", "way", "missing")),
            *(Grant(path=path, access="write") for path in ("/tmp", "/dev")),
            Grant(path=str(HOME), access="write", without=(f"{HOME}/keys",)),
        ]
    )
    assert sandbox.exec("until [ -e /tmp/outsider ]; do sleep 0.05; done", seconds=60).ok
    script = Path(confine_probes.__file__).read_text()
    python = ["/opt/claw/bin/python3", "-S", "-c", script]
    result = sandbox.exec(
        python, program="argv", variables={"PYTHONHOME": "/opt/claw"}, head_bytes=100_000, confined=True
    )
    sandbox.end_processes()
    outsider.join(timeout=60)
    assert result.ok, result.output.decode()
    outcome = json.loads(result.output)
    assert {name: why for name, why in outcome["used"].items() if why} == {}
    assert [name for name, why in outcome["stopped"].items() if why is None] == []
    assert sandbox.read_file(f"{REPO}/docs/file") == b"file\n"


@pytest.mark.engine
def test_a_kernel_without_landlock_refuses_to_confine_and_commands_go_on(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, tmp_path: Path
) -> None:
    rules = json.loads(profile.seccomp())
    for rule in rules["syscalls"]:
        rule["names"] = [name for name in rule["names"] if not name.startswith("landlock_")]
    filter = tmp_path / "seccomp.json"
    filter.write_text(json.dumps(rules))
    config = sandbox_config(base_image, toolbox_volume)
    with filtered_engine(engine, filter).open_sandbox(config) as sandbox:
        control = next(control for control in sandbox.report.controls if control.name == "landlock")
        assert (control.effective, control.status) == ("none", "missing")
        with pytest.raises(ControlNotEnforced, match=r"landlock \(asked .*found none\); use Linux .*best_effort: \["):
            sandbox.confine(NEEDED)
        assert sandbox.exec("touch new", confined=True).ok
