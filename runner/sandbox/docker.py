"""Docker: where its API may be found, and what makes a container there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runner.errors import EngineUnavailable
from runner.sandbox import service
from runner.sandbox.api import reach
from runner.sandbox.base import SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.files import SharedFiles
from runner.sandbox.profile import ImageConfig, docker_request

if TYPE_CHECKING:
    from docker.tls import TLSConfig

REMOTE_SOCKET = "/var/run/docker.sock"


class Address(NamedTuple):
    """Where an API may answer."""

    url: str
    tls: TLSConfig | None = None


def connect(url: str | None = None) -> ContainerEngine:
    """The engine at `url`, else at DOCKER_HOST, the current docker context, or a usual socket.

    `url` is unix://, tcp:// (with DOCKER_CERT_PATH and DOCKER_TLS_VERIFY as the docker command has them) or ssh://.
    Raises EngineUnavailable.
    """
    failures = []
    for address in [_with_tls(url)] if url else addresses():
        try:
            return _engine(address)
        except EngineUnavailable as error:
            failures.append(str(error))
    raise EngineUnavailable("; ".join(failures) or "docker: no socket found; start dockerd or set DOCKER_HOST")


def addresses() -> Iterator[Address]:
    """The places to look in, best first. Somebody who names a place gets that place or an error."""
    if host := os.environ.get("DOCKER_HOST"):
        yield _with_tls(host)
    elif context := _current_context():
        yield context
    else:
        yield from (Address(f"unix://{path}") for path in sockets() if path.exists())


def sockets() -> tuple[Path, ...]:
    """The usual sockets: the system's, a rootless engine's, Docker Desktop's."""
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    return Path(REMOTE_SOCKET), Path(runtime_folder, "docker.sock"), Path.home() / ".docker/run/docker.sock"


def _engine(address: Address) -> ContainerEngine:
    with service.local_url(address.url, default_socket=REMOTE_SOCKET) as (url, end):
        api = reach(url, tls=address.tls, name=address.url)
        if api.product != "docker":
            api.close()
            raise EngineUnavailable(f"what answers at {address.url} is {api.product}; use: --engine {api.product}")
        files = SharedFiles(api)

        def create(config: SandboxConfig, image: ImageConfig, name: str) -> None:
            body = docker_request(config, image=image, files=files.folder(config.image))
            api.post("/containers/create", body=body, name=name)

        return ContainerEngine(api, create=create, on_close=end)


def _with_tls(url: str) -> Address:
    from docker.utils import kwargs_from_env  # noqa: PLC0415  imported when used: 0.15 s

    return Address(url, kwargs_from_env().get("tls") if url.startswith("tcp://") else None)


def _current_context() -> Address | None:
    """The docker command's current context, None when that is its default."""
    # Imported when used: 0.15 s.
    from docker.context import ContextAPI  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError) as error:
        raise EngineUnavailable(f"docker's current context cannot be read ({error}); see: docker context ls") from error
    if context is None or context.Name == "default" or not context.Host:
        return None
    return Address(context.Host, context.TLSConfig)
