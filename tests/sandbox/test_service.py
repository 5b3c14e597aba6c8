"""Processes on the host that live as long as we do."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from runner.errors import EngineUnavailable
from runner.sandbox import owner, podman
from runner.sandbox.service import Service, local_url

SERVER = """
import signal, socket, sys, time
{before}
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(); time.sleep(600)
"""


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_service_ends_with_its_folder(before: str) -> None:
    service = Service()
    service.start([sys.executable, "-c", SERVER.format(before=before), str(service.socket)])
    pid = int((service.folder / "pid").read_text())
    assert owner.started(pid)
    service.end()
    service.end()
    deadline = time.monotonic() + 60
    while owner.started(pid) and time.monotonic() < deadline:
        time.sleep(0.01)  # it is killed; a busy machine takes its time over that
    assert not owner.started(pid)
    assert not service.folder.exists()


def test_a_service_that_does_not_start_is_told_in_its_own_words() -> None:
    service = Service()
    with pytest.raises(EngineUnavailable, match="did not start: no such luck"):
        service.start([sys.executable, "-c", "import sys; sys.exit('no such luck')"])
    service.end()
    assert not service.folder.exists()


def test_a_service_does_not_see_our_standard_input_or_output(capfd: pytest.CaptureFixture[str]) -> None:
    service = Service()
    before = "print('to nobody', flush=True); assert sys.stdin.read() == ''"
    service.start([sys.executable, "-c", SERVER.format(before=before), str(service.socket)])
    service.end()
    assert capfd.readouterr() == ("", "")


def test_a_url_of_ssh_must_name_a_host() -> None:
    with (
        pytest.raises(EngineUnavailable, match="names no host; write ssh://USER@HOST"),
        local_url("ssh:///run/docker.sock", default_socket="/x"),
    ):
        raise AssertionError("unreachable")


def test_an_ssh_that_fails_is_told_in_its_own_words() -> None:
    if not shutil.which("ssh"):
        pytest.skip("there is no ssh here")
    with (
        pytest.raises(EngineUnavailable, match="did not start: .*(refused|resolve|closed)"),
        local_url("ssh://nobody@127.0.0.1:1", default_socket="/x"),
    ):
        raise AssertionError("unreachable")


@pytest.mark.engine
def test_podman_is_started_when_it_does_not_run_and_ended_again() -> None:
    if not shutil.which("podman"):
        pytest.skip("there is no podman here")
    with podman.start_service() as engine:
        assert engine.started_by_us
        assert engine.api.get("/info")["ServerVersion"] == engine.version
        folder = Path(engine.api.url.removeprefix("unix://")).parent
        pid = int((folder / "pid").read_text())
        assert Path(f"/proc/{pid}/exe").readlink().name == "podman"
    assert not folder.exists()
    assert not owner.started(pid)
