"""The container engines by name, and the choice among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Literal, get_args

from runner.errors import ConfigError, EngineUnavailable
from runner.sandbox import docker, podman
from runner.sandbox.container import ContainerEngine

EngineName = Literal["docker", "podman"]
EngineChoice = Literal["auto", "docker", "podman"]

ENGINES: Mapping[EngineName, Callable[[str | None], ContainerEngine]] = {
    "docker": docker.connect,
    "podman": podman.connect,
}


def open_engine(name: EngineChoice = "auto", *, url: str | None = None) -> ContainerEngine:
    """The engine of that name, at `url` or where it usually is; "auto" takes the first that answers.

    Raises EngineUnavailable, or ConfigError for another name.
    """
    if name not in get_args(EngineChoice):
        raise ConfigError(f"engine {name!r} is not one of {', '.join(get_args(EngineChoice))}")
    if name != "auto":
        return ENGINES[name](url)
    failures = []
    for connect in _attempts(url):
        try:
            return connect()
        except EngineUnavailable as error:
            failures.append(str(error))
    raise EngineUnavailable(f"no container engine answers: {'; '.join(failures)}; see: claw-runner doctor")


def _attempts(url: str | None) -> Iterator[Callable[[], ContainerEngine]]:
    """What runs before what we would have to start; podman first, because it gives each job a user namespace."""
    running = partial(podman.connect, url, start=False)
    if "DOCKER_HOST" in os.environ and "CONTAINER_HOST" not in os.environ:
        yield from (partial(docker.connect, url), running)
    else:
        yield from (running, partial(docker.connect, url))
    if not url:
        yield podman.connect
