"""What a killed engine or runner left behind, found by its labels and removed.

In the ordinary course nothing is left: containers remove themselves when their pipe closes. Left can be a container
whose runner was killed between its creation and its start, one whose engine was killed, volumes that were filled for
nothing, and the folder of a service whose guard was killed too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from runner.errors import EngineUnavailable, SandboxError
from runner.sandbox import files, owner, service
from runner.sandbox.api import Api, NotThere

OLD_SECONDS = 600
"""Something unfinished that nobody of this machine owns counts as left behind after this time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """One thing that was found. `error` says why it could not be removed, "" when it was (or was only looked for)."""

    kind: Literal["container", "volume", "service", "snapshot", "history"]
    name: str
    why: str
    error: str = ""


def clean_engine(api: Api, *, every_owner: bool = False, dry_run: bool = False) -> tuple[Leftover, ...]:
    """Remove what was left on an engine, and return it.

    `every_owner` takes running containers too whose runner is of another machine, boot or container, and so cannot
    be asked whether it lives.
    """
    found = [*_containers(api, every_owner=every_owner), *_volumes(api)]
    return tuple(leftover if dry_run else _removed(api, leftover) for leftover in found)


def clean_services(*, dry_run: bool = False) -> tuple[Leftover, ...]:
    """End services of dead runners on this machine, and remove their folders."""
    found = []
    for folder in service.parent().glob(f"{service.FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            if owner.state((folder / "owner").read_text()) == "dead":
                found.append(Leftover(kind="service", name=str(folder), why="its runner is dead"))
                if not dry_run:
                    _end_service(folder)
    return tuple(found)


def _containers(api: Api, *, every_owner: bool) -> Iterator[Leftover]:
    listed = api.get("/containers/json", all="true", filters=_labelled())
    for container in listed:
        if why := _left_behind(container, every_owner=every_owner):
            yield Leftover(kind="container", name=container["Names"][0].lstrip("/"), why=why)


def _left_behind(container: dict[str, Any], *, every_owner: bool) -> str:
    """Why a container counts as left behind; "" when it does not. Never by name or age alone."""
    match owner.state(container["Labels"].get(owner.OWNER, "")):
        case "dead":
            return "its runner is dead"
        case "unknown" if every_owner:
            return "every owner's containers were asked for"
        case "unknown" if container["State"] != "running" and time.time() - container["Created"] > OLD_SECONDS:
            return "it does not run, and its runner is not of this machine or boot"
    return ""


def _volumes(api: Api) -> Iterator[Leftover]:
    """Volumes of shared files that were filled but never published, because somebody else was quicker or was killed."""
    volumes = api.get("/volumes", filters=_labelled())["Volumes"] or []
    published = {volume["Labels"].get(files.FOLDER_LABEL) for volume in volumes}
    for volume in volumes:
        ours = volume["Name"].startswith(files.NAME_PREFIX) and files.FOLDER_LABEL not in volume["Labels"]
        if ours and volume["Mountpoint"] not in published and _age(volume["CreatedAt"]) > OLD_SECONDS:
            yield Leftover(kind="volume", name=volume["Name"], why="it was never published")


def _removed(api: Api, leftover: Leftover) -> Leftover:
    try:
        if leftover.kind == "container":
            remove_container(api, leftover.name)
        else:
            api.delete(f"/volumes/{leftover.name}")
    except SandboxError as error:
        return Leftover(kind=leftover.kind, name=leftover.name, why=leftover.why, error=str(error))
    return leftover


def remove_container(api: Api, name: str, *, seconds: float = 20.0) -> None:
    """Remove a container, whatever its state, with its anonymous volumes. Raises SandboxError when that fails.

    Tries again, because an engine that is removing it already, or whose own auto-remove got in between, answers with
    an error (podman 4.3: "container state improper", docker 20.10: "already in progress").
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            api.delete(f"/containers/{name}", force="true", v="true")
        except NotThere:
            return
        except EngineUnavailable:
            raise
        except SandboxError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _end_service(folder: Path) -> None:
    """Kill what still serves from the folder (its command line names the folder's socket), then remove it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _age(created: str) -> float:
    """Seconds since a time in RFC 3339."""
    return time.time() - datetime.fromisoformat(created).timestamp()


def _labelled() -> str:
    return json.dumps({"label": [f"{owner.LABEL}=1"]})
