"""Gone means gone: whatever ends a runner, nothing of its sandbox is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ControlNotEnforced, ImageNotFound, SandboxError
from runner.sandbox import owner
from runner.sandbox.base import SandboxConfig
from runner.sandbox.clean import clean_engine
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from tests.conftest import sandbox_config
from tests.sandbox.weaker import weaker_engine

pytestmark = pytest.mark.engine
SECONDS = 15.0
"""How long we look; an engine that is not busy needs half a second."""


class Runner:
    """Starts runner processes and knows what is theirs."""

    def __init__(self, engine: ContainerEngine, image: str, volume: str, folder: Path) -> None:
        self.engine = engine
        self.job = f"gone-{uuid.uuid4().hex}"
        self._arguments = (image, volume, self.job)
        self._folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self, ending: str, *, engine: str | None = None) -> subprocess.Popen[str]:
        with (self._folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.sandbox.opener", engine or self.engine.name, *self._arguments, ending],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )
        return self.process

    def _line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def is_opening(self) -> None:
        """Wait until the sandbox is about to be opened."""
        assert self._line() == "opening\n", (self._folder / "stderr").read_text()

    def opened(self) -> dict[str, str]:
        """Wait until the sandbox is open."""
        self.is_opening()
        told: dict[str, str] = json.loads(self._line())
        return told

    def end(self) -> None:
        """Kill the process, if it still runs."""
        process, self.process = self.process, None
        if process is not None and process.stdout is not None and not process.stdout.closed:
            process.kill()
            process.communicate()

    def containers(self) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{owner.JOB}={self.job}"]})
        found: list[dict[str, Any]] = self.engine.api.get("/containers/json", all="true", filters=filters)
        return found

    def left(self) -> list[str]:
        """What is left: containers, temporary files and processes that name the job's folder."""
        files = [path.name for path in self._folder.iterdir() if path.name != "stderr"]
        return [container["Id"] for container in self.containers()] + files

    def is_gone(self) -> bool:
        deadline = time.monotonic() + SECONDS
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.left()


@pytest.fixture
def runner(engine: ContainerEngine, base_image: ImageRef, toolbox_volume: str) -> Iterator[Runner]:
    # Not tmp_path, whose names are too long for a socket.
    with tempfile.TemporaryDirectory(prefix="claw-test-") as folder:
        made = Runner(engine, base_image.reference, toolbox_volume, Path(folder))
        yield made
        made.end()


@pytest.fixture
def unchanged(engine: ContainerEngine) -> Callable[[], bool]:
    """Whether the engine has as many networks, and no further anonymous volume, as when the test began."""

    def things() -> tuple[set[str], set[str]]:
        volumes = {volume["Name"] for volume in engine.api.get("/volumes")["Volumes"] or []}
        return {net["Name"] for net in engine.api.get("/networks")}, {name for name in volumes if len(name) == 64}

    before = things()
    return lambda: things() == before


@pytest.mark.parametrize("ending", ["success", "failed command", "timeout", "exception", "exit at once"])
def test_nothing_is_left_when_a_runner_ends(runner: Runner, unchanged: Callable[[], bool], ending: str) -> None:
    process = runner.start(ending)
    process.communicate(timeout=60)
    assert process.returncode == (1 if ending == "exception" else 0)
    # The process has ended, so its promise is due: nobody waits here.
    assert runner.left() == []
    assert unchanged()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_nothing_is_left_when_a_runner_is_ended_by(runner: Runner, number: signal.Signals) -> None:
    process = runner.start("signal")
    runner.opened()
    assert runner.containers()
    process.send_signal(number)
    process.wait(timeout=60)
    assert runner.is_gone()


def test_nothing_is_left_when_a_runner_exits_without_closing(runner: Runner) -> None:
    assert runner.start("abandon").wait(timeout=60) == 1
    assert runner.is_gone()


def test_a_kill_at_any_moment_of_opening_leaves_at_most_what_clean_removes(runner: Runner) -> None:
    for _ in range(4):
        runner.start("signal")
        runner.is_opening()
        time.sleep(random.uniform(0, 0.2))
        runner.end()
    time.sleep(2)
    clean_engine(runner.engine.api)
    assert runner.is_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_any_moment_of_opening_leaves_nothing(runner: Runner, number: signal.Signals) -> None:
    for _ in range(4):
        process = runner.start("signal")
        runner.is_opening()
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(number)
        process.communicate(timeout=60)
        assert runner.left() == []


def test_an_opening_that_fails_leaves_nothing(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, runner: Runner
) -> None:
    missing = ImageRef(reference="claw-test/no-such-image:1", digest="")
    with pytest.raises(ImageNotFound):
        engine.open_sandbox(_config(runner, missing, toolbox_volume))
    with pytest.raises(SandboxError):
        engine.open_sandbox(_config(runner, base_image, f"{runner.job}-empty"))
    engine.api.delete(f"/volumes/{runner.job}-empty")
    with pytest.raises(ControlNotEnforced):
        weaker_engine(engine, without="pids").open_sandbox(_config(runner, base_image, toolbox_volume))
    assert runner.left() == []


def test_a_service_of_our_own_ends_with_the_runner(engine: ContainerEngine, runner: Runner) -> None:
    if engine.name != "podman":
        pytest.skip("docker has a daemon; nothing is started for it")
    process = runner.start("signal", engine="own podman")
    socket = runner.opened()["engine"].removeprefix("unix://")
    assert Path(socket).is_socket()
    process.kill()
    process.wait()
    assert runner.is_gone()
    assert _processes_naming(socket) == []


def _config(runner: Runner, image: ImageRef, volume: str) -> SandboxConfig:
    config = sandbox_config(image, volume)
    return dataclasses.replace(config, labels={**config.labels, owner.JOB: runner.job})


def _processes_naming(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(word) in path.read_bytes():
                found.append(path.parent.name)
    return found
