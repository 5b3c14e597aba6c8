"""Real engines that leave a control out and say nothing, as rootless podman does on cgroup version 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.sandbox import profile
from runner.sandbox.base import SandboxConfig
from runner.sandbox.container import ContainerEngine, Create
from runner.sandbox.files import SharedFiles

Change = Callable[[dict[str, Any]], object]


def weaker_engine(engine: ContainerEngine, *, without: str) -> ContainerEngine:
    """The engine, as if it ignored one control that it was asked for."""
    return changed(engine, IGNORED[engine.name][without])


def filtered_engine(engine: ContainerEngine, filter: Path) -> ContainerEngine:
    """The engine, as if the product's seccomp filter were the one in this file."""

    def change(body: dict[str, Any]) -> None:
        if engine.name == "docker":
            body["SecurityOpt"] = ["no-new-privileges:true", f"seccomp={filter.read_text()}"]
        else:
            body["seccomp_profile_path"] = str(filter)

    return changed(engine, change)


def changed(engine: ContainerEngine, change: Change) -> ContainerEngine:
    """The engine, with something else in its create requests: docker's HostConfig, podman's whole body."""
    return ContainerEngine(engine.api, create=creating(engine, change))


def creating(engine: ContainerEngine, change: Change) -> Create:
    """What creates a container by a changed request."""
    files = SharedFiles(engine.api)

    def create(config: SandboxConfig, image: profile.ImageConfig, name: str) -> None:
        folder = files.folder(config.image)
        if engine.name == "docker":
            body = profile.docker_request(config, image=image, files=folder)
            change(body["HostConfig"])
            if body["HostConfig"]["NetworkMode"] != "none":
                body["NetworkDisabled"] = False
            engine.api.post("/containers/create", body=body, name=name)
        else:
            body = profile.podman_request(config, image=image, name=name, files=folder, own_user_namespace=True)
            change(body)
            engine.api.post("/libpod/containers/create", body=body)

    return create


IGNORED: dict[str, dict[str, Callable[[dict[str, Any]], object]]] = {
    "docker": {
        "pids": lambda body: body.pop("PidsLimit"),
        "memory": lambda body: (body.pop("Memory"), body.pop("MemorySwap")),
        "cpus": lambda body: body.pop("CpuQuota"),
        "seccomp": lambda body: body.update(SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]),
        "read_only": lambda body: body.pop("ReadonlyRootfs"),
        "inodes": lambda body: body["Tmpfs"].update({"/workspace": "size=128m,mode=1777"}),
        "masked_paths": lambda body: body.pop("MaskedPaths"),
        "devices": lambda body: body.update(
            Devices=[{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "r"}]
        ),
        "host_mounts": lambda body: body.update(Binds=["/var/tmp:/host"]),
        "file_size": lambda body: body["Ulimits"].pop(1),
    },
    "podman": {
        "pids": lambda body: body["resource_limits"].pop("pids"),
        "memory": lambda body: body["resource_limits"].pop("memory"),
        "cpus": lambda body: body["resource_limits"].pop("cpu"),
        "seccomp": lambda body: body.update(seccomp_profile_path="unconfined"),
        "read_only": lambda body: body.pop("read_only_filesystem"),
        "inodes": lambda body: body["mounts"][0].update(options=["size=128m", "mode=1777"]),
        "masked_paths": lambda body: body.pop("mask"),
        "devices": lambda body: body.update(devices=[{"path": "/dev/fuse"}]),
        "host_mounts": lambda body: body["mounts"].append(
            {"destination": "/host", "type": "bind", "source": "/var/tmp", "options": ["rw"]}
        ),
        "file_size": lambda body: body["r_limits"].pop(1),
    },
}
