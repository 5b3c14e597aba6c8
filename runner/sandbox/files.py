"""Two small files that containers need from their engine's own machine: the hosts file, and podman's seccomp filter.

They lie in a volume that is filled through the API, so that an engine on another machine, or one that we reach from
inside a container, can read them. Containers mount them from the volume's folder; nothing of the host is mounted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import uuid

from runner.errors import SandboxError
from runner.sandbox import owner
from runner.sandbox.api import Api, NotThere
from runner.sandbox.profile import HOSTS, seccomp

FOLDER_LABEL = "claw-runner.files"
NAME_PREFIX = "claw-files-"


class SharedFiles:
    """The files on one engine; puts them there when they are first needed."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._folder: str | None = None

    def folder(self, image: str) -> str:
        """The folder on the engine's machine that holds `seccomp.json` and `hosts`. `image` is any image of the engine.

        The volume with the files has a random name. A second, empty volume, named after their content, is the sign
        that the first is complete; it carries the folder as a label.
        """
        if self._folder is None:
            files = {"seccomp.json": seccomp(), "hosts": HOSTS}
            sign = f"{NAME_PREFIX}{hashlib.sha256(b''.join(files.values())).hexdigest()[:12]}"
            self._folder = self._read(sign) or self._publish(sign, self._fill(image, files))
        return self._folder

    def _read(self, sign: str) -> str | None:
        try:
            labels: dict[str, str] = self._api.get(f"/volumes/{sign}")["Labels"] or {}
        except NotThere:
            return None
        return labels.get(FOLDER_LABEL)

    def _fill(self, image: str, files: dict[str, bytes]) -> str:
        """A new volume with these files, put there through a container that is never started. Returns its folder."""
        # Not a name that begins with the sign: podman looks volumes up by the beginning of their names.
        name = f"{NAME_PREFIX}data-{uuid.uuid4().hex[:12]}"
        volume = self._api.post("/volumes/create", body={"Name": name, "Labels": {owner.LABEL: "1"}})
        container = {
            "Image": image,
            "Cmd": ["true"],
            "Labels": {owner.LABEL: "1", owner.OWNER: owner.mine()},
            "NetworkDisabled": True,
            "HostConfig": {"NetworkMode": "none", "Binds": [f"{name}:/files"]},
        }
        self._api.post("/containers/create", body=container, name=name)
        try:
            self._api.put(f"/containers/{name}/archive", _tar(files), path="/files")
        finally:
            self._api.delete(f"/containers/{name}", force="true", v="true")
        return str(volume["Mountpoint"])

    def _publish(self, sign: str, folder: str) -> str:
        """Returns the folder that stands in the sign: ours, or that of somebody who was quicker."""
        # podman refuses a name that exists, docker gives the volume that has it.
        with contextlib.suppress(SandboxError):
            self._api.post("/volumes/create", body={"Name": sign, "Labels": {owner.LABEL: "1", FOLDER_LABEL: folder}})
        return self._read(sign) or folder


def _tar(files: dict[str, bytes]) -> bytes:
    """A plain archive: never compressed, which newer engines would unpack with a program."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
