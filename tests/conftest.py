"""Fixtures for tests that need a container engine. Every such test runs on each engine that is found.

`CLAW_REQUIRE_ENGINES="docker podman"` makes a missing engine a failure instead of leaving it out.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from runner.errors import EngineUnavailable
from runner.policy.schema import Container
from runner.sandbox import owner, profile
from runner.sandbox.base import Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES
from runner.sandbox.image import ImageRef, ensure_image, ensure_toolbox
from tests import images

_OPEN = ExitStack()
# How long an example takes says more of the machine and what else runs on it than of the code. Where a change is judged
# by the tests, the same examples are tried each time; new ones are looked for everywhere else.
settings.register_profile(
    "patient",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")


@cache
def _engines() -> dict[str, ContainerEngine]:
    """The engines that answer; podman's service is started, for this process, where it does not run."""
    found: dict[str, ContainerEngine] = {}
    for name, connect in ENGINES.items():
        try:
            found[name] = _OPEN.enter_context(connect(None))
        except EngineUnavailable as error:
            if name in os.environ.get("CLAW_REQUIRE_ENGINES", "").split():
                raise pytest.UsageError(f"CLAW_REQUIRE_ENGINES names {name}, but {error}") from error
    return found


def pytest_configure() -> None:
    # Who starts the tests in the background of a script has them ignore SIGINT, and their children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests leave nothing behind: those of what is kept from one job to the next say where, and remove it.
    os.environ.setdefault("CLAW_SNAPSHOT_SPACE", "0")
    if os.environ.get("CLAW_REQUIRE_ENGINES"):
        _engines()


def pytest_sessionfinish() -> None:
    _OPEN.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The rates that tests have measured; what workers print is lost."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, value in report.user_properties:
            if name == "rate":
                terminalreporter.write_line(str(value))


def pytest_report_header() -> str:
    return f"engines: {', '.join(f'{name} {engine.version}' for name, engine in _engines().items()) or 'none'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", list(_engines()), indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> ContainerEngine:
    """A connected engine; tests that use it run once on each."""
    return _engines()[request.param]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`with once(name):` keeps the workers of one run (`-n`) from doing the same work at the same time."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    @contextmanager
    def locked(name: str) -> Iterator[None]:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    return locked


@pytest.fixture(scope="session")
def toolbox_volume(engine: ContainerEngine, once: Callable[[str], Any]) -> str:
    """Name of the volume with the toolbox, built when it is not there."""
    with once(f"toolbox-{engine.name}"):
        return ensure_toolbox(engine)


@pytest.fixture(scope="session")
def base_image(engine: ContainerEngine, once: Callable[[str], Any]) -> ImageRef:
    """The product's own Debian image."""
    with once(f"base-{engine.name}"):
        return ensure_image(engine, "base")


@pytest.fixture(scope="session")
def busybox_image(engine: ContainerEngine, once: Callable[[str], Any]) -> ImageRef:
    """An image with nothing but a static busybox, and a link to it at /bin/sh."""
    with once(f"busybox-{engine.name}"):
        return images.busybox(engine)


@pytest.fixture(scope="session")
def alpine_image(engine: ContainerEngine, once: Callable[[str], Any]) -> ImageRef:
    """An image laid out as Alpine is: busybox for everything, musl's loader, no bash, no Python, no git."""
    with once(f"alpine-{engine.name}"):
        return images.alpine(engine)


@pytest.fixture
def open_sandbox(engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, tmp_path: Path) -> Iterator[Any]:
    """`open_sandbox(image=, **container)` opens one, by keys of the policy's `container` section; closed at the end."""
    with ExitStack() as opened:

        def opener(image: ImageRef = base_image, **container: Any) -> Sandbox:
            config = sandbox_config(image, toolbox_volume, log_folder=str(tmp_path), **container)
            return opened.enter_context(engine.open_sandbox(config))

        yield opener


@pytest.fixture
def sandbox(open_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """An open sandbox of the base image."""
    return open_sandbox()


def sandbox_config(
    image: ImageRef, toolbox_volume: str, *, log_folder: str | None = None, **container: Any
) -> SandboxConfig:
    """What a job would be opened with; small, unless the keys say otherwise."""
    small = {"memory": "256m", "disk": "128m", "tmp": "32m", "inodes": 20_000}
    return SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(Container.model_validate(small | container)),
        toolbox_volume=toolbox_volume,
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "test"},
        log_folder=log_folder,
    )
