"""Containers without a toolbox server: run a command in an image and see what it says."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from runner.sandbox import owner
from runner.sandbox.base import TOOLBOX
from runner.sandbox.container import ContainerEngine


class Said(NamedTuple):
    """How a container's command ended."""

    exit_code: int
    stdout: str
    stderr: str


def run(
    engine: ContainerEngine,
    image: str,
    *command: str,
    toolbox: str | None = None,
    binds: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
) -> Said:
    """Run a command without a network and with a read-only root; `toolbox` names the volume to mount."""
    name = f"claw-test-{uuid.uuid4().hex[:12]}"
    mounts = [*binds, *([f"{toolbox}:{TOOLBOX}:ro"] if toolbox else [])]
    body = {
        "Image": image,
        "Entrypoint": list(command),
        "Cmd": [],
        "Env": list(variables),
        "Labels": {owner.LABEL: "1", owner.OWNER: owner.mine()},
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "exec"},
            "Binds": mounts,
            # podman's own are higher than what a process without CAP_SYS_RESOURCE may ask for.
            "Ulimits": [{"Name": name, "Soft": 4096, "Hard": 4096} for name in ("nofile", "nproc")],
        },
    }
    engine.api.post("/containers/create", body=body, name=name)
    try:
        engine.api.post(f"/containers/{name}/start")
        exit_code = engine.api.post(f"/containers/{name}/wait")["StatusCode"]
        logs = [engine.api.client.logs(name, stdout=out, stderr=not out).decode() for out in (True, False)]
        return Said(exit_code, *logs)
    finally:
        engine.api.delete(f"/containers/{name}", force="true", v="true")
