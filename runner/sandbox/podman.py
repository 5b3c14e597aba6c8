"""Podman: where its API may be found, the service we start when there is none, and what makes a container there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from runner.errors import ControlNotEnforced, EngineUnavailable, SandboxError
from runner.sandbox import service
from runner.sandbox.api import Api, reach
from runner.sandbox.base import SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.files import SharedFiles
from runner.sandbox.profile import ImageConfig, podman_request

REMOTE_SOCKET = "/run/podman/podman.sock"
CAP_SYS_RESOURCE = 24
NO_IDS = re.compile(
    r"subuid|subgid|mappings for user|UID/GID for user|unused IDs|available IDs|enough (UIDs|GIDs|IDs)", re.IGNORECASE
)
"""How containers/storage says that user `containers` has no ids, or none left, for another user namespace."""


def connect(url: str | None = None, *, start: bool = True) -> ContainerEngine:
    """The engine at `url`, else at CONTAINER_HOST, a usual socket or the default of `podman system connection`.

    Where none of these is, and with `start`, the engine behind a service of our own.

    `url` is unix://, tcp:// or ssh://. Raises EngineUnavailable.
    """
    failures = []
    for address in [url] if url else addresses():
        try:
            return _engine(address)
        except EngineUnavailable as error:
            failures.append(str(error))
    if start and not url and "CONTAINER_HOST" not in os.environ:
        return start_service()
    raise EngineUnavailable("; ".join(failures) or "podman: no API socket found; start: podman system service")


def addresses() -> Iterator[str]:
    """The places to look in, best first. Somebody who names a place gets that place or an error."""
    if host := os.environ.get("CONTAINER_HOST"):
        yield host
    else:
        yield from (f"unix://{path}" for path in sockets() if path.exists())
        if default := default_connection():
            yield default


def default_connection() -> str | None:
    """The URL that `podman system connection default` has set for this user; None without one."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "containers")
    if not any((folder / name).exists() for name in ("podman-connections.json", "containers.conf")):
        return None
    from podman.domain.config import PodmanConfig  # noqa: PLC0415  imported when used: 0.1 s

    try:
        config = PodmanConfig()
        # Asked for the active one, the package fails where [engine] says nothing of connections, as it mostly does.
        if not config.attrs.get("Connection") and not config.attrs.get("engine", {}).get("active_service"):
            return None
        active = config.active_service.attrs
        return str(active.get("URI") or active["uri"])
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise EngineUnavailable(f"podman: the connections in {folder} cannot be read: {error!r}") from error


def sockets() -> tuple[Path, ...]:
    """The socket of our own user's engine first: root's may be there but closed to us."""
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    users = Path(runtime_folder, "podman/podman.sock")
    return (Path(REMOTE_SOCKET),) if os.getuid() == 0 else (users, Path(REMOTE_SOCKET))


def _engine(address: str) -> ContainerEngine:
    with service.local_url(address, default_socket=REMOTE_SOCKET) as (url, end):
        api = reach(url, name=address)
        if api.product != "podman":
            api.close()
            raise EngineUnavailable(f"what answers at {address} is {api.product}; use: --engine {api.product}")
        return ContainerEngine(api, create=_Creation(api), on_close=end)


def start_service() -> ContainerEngine:
    """An engine behind `podman system service`, which ends when the engine is closed or this process ends."""
    if not (podman := shutil.which("podman")):
        raise EngineUnavailable("podman is not installed; install it, or docker; see: claw-runner doctor")
    own = service.Service()
    try:
        own.start([podman, *options(), "system", "service", "--time", "0", f"unix://{own.socket}"])
        api = reach(f"unix://{own.socket}", name=f"unix://{own.socket}")
    except BaseException:
        own.end()
        raise
    return ContainerEngine(api, create=_Creation(api), on_close=own.end, started_by_us=True)


def options() -> list[str]:
    """Options without which podman's defaults would not start a container here.

    Options, not a containers.conf in the service's folder: the process that removes a container when we are gone, and
    the folder with us, would look for that in vain. (Limits, the other thing to configure, stand in every request.)
    """
    # crun: "cgroups in hybrid mode not supported".
    return ["--runtime", "runc"] if hybrid_cgroups() and shutil.which("runc") else []


def hybrid_cgroups() -> bool:
    """Whether controllers of cgroup version 1 are in use here: they have lines with a name in cgroups(7)' file."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return any(line.split(":", 2)[1] for line in lines)


def may_raise_limits() -> bool:
    """Whether processes that we start may set resource limits above ours; rootless podman never tries."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return os.getuid() != 0 or bool(effective >> CAP_SYS_RESOURCE & 1)


class _Creation:
    """Makes containers; keeps what it found out about the engine."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._files = SharedFiles(api)

    @cached_property
    def _rootless(self) -> bool:
        if self._api.url.startswith("unix://"):
            return Path(self._api.url.removeprefix("unix://")).stat().st_uid != 0
        # Takes podman 0.15 s.
        return bool(self._api.get("/libpod/info")["host"]["security"]["rootless"])

    def __call__(self, config: SandboxConfig, image: ImageConfig, name: str) -> None:
        files, own_user_namespace = self._files.folder(config.image), not self._rootless
        body = podman_request(config, image=image, name=name, files=files, own_user_namespace=own_user_namespace)
        try:
            self._api.post("/libpod/containers/create", body=body)
        except SandboxError as error:
            if not own_user_namespace or not NO_IDS.search(str(error)):
                raise
            if "user_namespace" not in config.profile.may_be_missing:
                raise ControlNotEnforced(
                    f"control 'user_namespace' cannot be applied: {error}; give podman more ids: "
                    "echo containers:300000:6553600 | tee -a /etc/subuid /etc/subgid; or let it be missing, in the "
                    "policy: container.best_effort: [user_namespace]"
                ) from error
            body = podman_request(config, image=image, name=name, files=files, own_user_namespace=False)
            self._api.post("/libpod/containers/create", body=body)
