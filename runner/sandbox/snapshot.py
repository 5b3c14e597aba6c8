"""Snapshots: images in which /workspace is filled already, so that the next job starts in a container's start time.

A snapshot is an image of the engine, named by its key: a hash over all that it depends on, so that one is never out of
date, only unused. What has no such name is no snapshot yet, and no job starts from it. When all together take up too
much, those that were not used for longest go.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tarfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from runner import cache
from runner.errors import SandboxError
from runner.sandbox import owner, profile
from runner.sandbox.api import Api, NotThere
from runner.sandbox.base import TOOLBOX, WORKSPACE, Filled, Sandbox, Usage
from runner.sandbox.clean import OLD_SECONDS, Leftover, remove_container
from runner.toolbox.keep import KEEPER, SHARED

REPOSITORY = "claw-runner/snapshot"
KEY = "claw-runner.snapshot"
"""Label: the whole key."""
FACTS = "claw-runner.snapshot.facts"
"""Label: what a job must know of the content, as JSON."""
UNFINISHED = "making-"
"""Tags that begin so are of images that are not snapshots yet."""
KIND = "snapshots"
COMMIT_SECONDS = 1800.0
REMOVE_SECONDS = 20.0
CHUNK = 1 << 20
MOST_LEFT = 256 * 1024
"""Bytes of paths that setup left, in a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """One that is there."""

    filled: Filled
    left: tuple[bytes, ...]
    """Untracked paths that setup left."""


class Snapshots:
    """The snapshots of one engine."""

    def __init__(self, api: Api, *, space: int) -> None:
        """`space`: bytes that they may take up together."""
        self._api = api
        self._space = space
        self._folder = cache.folder(KIND)

    @contextmanager
    def used(self, key: str) -> Iterator[Snapshot | None]:
        """The snapshot of that key, if there is one; it stays at least until the block ends."""
        with cache.locked(self._file(key), shared=True):
            yield self._find(key)

    @contextmanager
    def made(self, key: str) -> Iterator[Snapshot | None]:
        """The same, with nobody else in such a block: who gets None may make it."""
        with cache.locked(self._file(key)):
            yield self._find(key)

    def make(self, key: str, sandbox: Sandbox, *, left: tuple[bytes, ...]) -> Snapshot:
        """Keep the workspace of a sandbox in which nothing of the job's user runs. Then make room for it.

        Raises SandboxError when the engine cannot; the sandbox can be used all the same.
        """
        usage = sandbox.measure()
        paths = _packed(left)
        if len(paths) > MOST_LEFT:
            raise SandboxError("no snapshot can be made: setup left too many files beside each other")
        facts = {"bytes": usage.bytes, "files": usage.files, "left": paths}
        labels = {owner.LABEL: "1", owner.OWNER: owner.mine(), KEY: key, FACTS: json.dumps(facts)}
        tag = f"{UNFINISHED}{uuid.uuid4().hex[:16]}"
        _commit(self._api, sandbox, tag=tag, labels=labels)
        # Whoever is killed before this leaves an image that no job starts from.
        try:
            self._api.post(f"/images/{REPOSITORY}:{tag}/tag", repo=REPOSITORY, tag=_tag(key))
        finally:
            self._api.delete(f"/images/{REPOSITORY}:{tag}")
        cache.used(self._file(key))
        self.make_room(but=key)
        return Snapshot(filled=Filled(reference=f"{REPOSITORY}:{_tag(key)}", usage=usage), left=left)

    def make_room(self, *, but: str = "") -> None:
        """Remove what is unfinished or has lost its name, and, while there is too much, the least recently used."""
        found = []
        for image in listed(self._api):
            if why := _lost(image):
                _removed(self._api, image, why)
            else:
                found.append(image)
        sizes = {image["Id"]: self._size(image) for image in found}
        found.sort(key=self._last_use)
        for image in found:
            if sum(sizes.values()) <= self._space:
                return
            key = image["Labels"][KEY]
            if key != but and self._remove(key, image):
                del sizes[image["Id"]]

    def remove_all(self) -> tuple[Leftover, ...]:
        """Remove those that were made or used from this cache, but for what a container runs on."""
        mine = [image for image in listed(self._api) if self._file(image["Labels"][KEY]).exists()]
        return tuple(_removed(self._api, image, "all were to go") for image in mine)

    def _find(self, key: str) -> Snapshot | None:
        reference = f"{REPOSITORY}:{_tag(key)}"
        try:
            labels = self._api.get(f"/images/{reference}/json")["Config"]["Labels"] or {}
        except NotThere:
            return None
        if labels.get(KEY) != key:
            return None
        cache.used(self._file(key))
        facts = json.loads(labels[FACTS])
        usage = Usage(bytes=facts["bytes"], files=facts["files"])
        return Snapshot(filled=Filled(reference=reference, usage=usage), left=_unpacked(facts["left"]))

    def _remove(self, key: str, image: dict[str, Any]) -> bool:
        """Whether it is gone: not one that a job is about to start from, nor one that a container runs on."""
        with cache.locked_if_free(self._file(key)) as free:
            if not free or _removed(self._api, image, "").error:
                return False
            self._file(key).unlink(missing_ok=True)
        return True

    def _last_use(self, image: dict[str, Any]) -> float:
        return cache.last_used(self._file(image["Labels"][KEY])) or float(image["Created"])

    def _size(self, image: dict[str, Any]) -> int:
        """Bytes of its own layer, which comes first in its history."""
        with suppress(NotThere):
            return int(self._api.get(f"/images/{image['Id']}/history")[0]["Size"])
        return 0

    def _file(self, key: str) -> Path:
        place = hashlib.sha256(self._api.url.encode()).hexdigest()[:8]
        return self._folder / f"{self._api.product}-{place}-{_tag(key)}"


def key_of(facts: Mapping[str, object]) -> str:
    """SHA-256 over facts that are fit for JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def listed(api: Api) -> list[dict[str, Any]]:
    """All images of snapshots, finished or not, as the engine describes them."""
    images: list[dict[str, Any]] = api.get("/images/json", filters=json.dumps({"label": [KEY]}))
    return images


def remove_snapshots(api: Api, *, dry_run: bool = False) -> tuple[Leftover, ...]:
    """Remove all that no container runs on, and return them."""
    why = "snapshots were asked for"
    return tuple(_leftover(image, why) if dry_run else _removed(api, image, why) for image in listed(api))


def _lost(image: dict[str, Any]) -> str:
    """Why an image is no snapshot and never becomes one; "" when it is one, or may: it gets its names one by one."""
    if any(not tag.startswith(UNFINISHED) for tag in _tags(image)):
        return ""
    if owner.state(image["Labels"].get(owner.OWNER, "")) == "dead":
        return "its runner is dead"
    return "it was never finished" if time.time() - image["Created"] > OLD_SECONDS else ""


def _tags(image: dict[str, Any]) -> list[str]:
    names = (name.rpartition(":") for name in image["RepoTags"] or ())  # "<none>:<none>" where it has none
    return [tag for repository, _, tag in names if repository.endswith(REPOSITORY)]


def _leftover(image: dict[str, Any], why: str, error: str = "") -> Leftover:
    name = next(iter(image["RepoTags"] or ()), image["Id"])
    return Leftover(kind="snapshot", name=name, why=why, error=error)


def _removed(api: Api, image: dict[str, Any], why: str) -> Leftover:
    """Not one that a container runs on: then there is an error, and it stays."""
    names = [name for name in image["RepoTags"] or () if "<none>" not in name] or [image["Id"]]
    try:
        for name in names:
            _remove_name(api, name)
    except SandboxError as error:
        return _leftover(image, why, str(error))
    return _leftover(image, why)


def _remove_name(api: Api, name: str) -> None:
    """podman says that there is no such container where one was being removed; then it is tried again."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            api.delete(f"/images/{name}")
            return
        except NotThere:
            if not api.exists(f"/images/{name}/json"):
                return
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _tag(key: str) -> str:
    return key[:16]


def _packed(left: Iterable[bytes]) -> str:
    return base64.b64encode(b"\0".join(left)).decode("ascii")


def _unpacked(text: str) -> tuple[bytes, ...]:
    return tuple(path for path in base64.b64decode(text).split(b"\0") if path)


# --- what the engines do


def _commit(api: Api, sandbox: Sandbox, *, tag: str, labels: Mapping[str, str]) -> None:
    """Make the workspace of a sandbox, on top of the sandbox's image, an image with these labels."""
    container = sandbox.report.container_id
    if api.product == "docker":
        _commit_container(api, container, tag=tag, body={"Labels": dict(labels)})
        return
    # Of a container with a user namespace of its own, podman 4 commits files with the ids that they have outside, which
    # mean nothing to the next one, and archives them with those of nobody. So they go, with the ids that they have
    # inside, into a container without such a namespace, which never runs; its layer has nothing but the workspace.
    name = f"claw-{uuid.uuid4().hex[:16]}"
    body = {"name": name, "image": sandbox.report.image, "command": ["true"], "labels": dict(labels)}
    api.post("/libpod/containers/create", body=body)
    try:
        api.copy(
            f"/containers/{container}/archive?path={WORKSPACE}",
            f"/containers/{name}/archive?path=/",
            through=partial(_owned, owners=_owners(sandbox)),
            seconds=COMMIT_SECONDS,
        )
        _commit_container(api, name, tag=tag, body={})
    finally:
        remove_container(api, name)


def _commit_container(api: Api, container: str, *, tag: str, body: Mapping[str, Any]) -> None:
    # Not paused: nothing runs in it but the toolbox, which waits for us.
    where = {"container": container, "repo": REPOSITORY, "tag": tag, "pause": "false"}
    api.post("/commit", body=body, seconds=COMMIT_SECONDS, **where)


class _Owners:
    """Who owns what in a workspace: root its folder, the keeper (toolbox/keep.py) its own, the job's user the rest."""

    def __init__(self, listed: bytes) -> None:
        """`listed`: for each path of the keeper, whether only the folder is, and the path; NUL-ended."""
        fields = (field.partition(b" ") for field in listed.split(b"\0") if field)
        self._keepers = {os.fsdecode(path): shared == b"1" for shared, _, path in fields}

    def of(self, path: str) -> int:
        if path == WORKSPACE.name:
            return 0
        if path in self._keepers:
            return KEEPER
        parents = (str(parent) for parent in PurePosixPath(path).parents)
        return KEEPER if any(self._keepers.get(parent) is False for parent in parents) else profile.UID


# Also makes times whole seconds: podman would round them to the nearest, and git, which looks at seconds, would not
# know the files again.
LIST_KEEPERS = f"""
import os, sys
os.chdir("/")
for folder, names, others in os.walk({WORKSPACE.name.encode()!r}):
    for path in (os.path.join(folder, name) for name in names + others):
        found = os.lstat(path)
        if found.st_uid == {KEEPER}:
            sys.stdout.buffer.write(b"%d %s\\0" % (found.st_mode & 0o7777 == {SHARED}, path))
        elif found.st_uid == {profile.UID}:
            seconds = found.st_mtime_ns // 10**9 * 10**9
            os.utime(path, ns=(seconds, seconds), follow_symlinks=False)
"""


def _owners(sandbox: Sandbox) -> _Owners:
    """Raises SandboxError when they cannot be listed."""
    found = bytearray()
    python = [f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", "-c", LIST_KEEPERS]
    variables = {"PYTHONHOME": str(TOOLBOX)}
    listed = sandbox.exec(python, program="argv", cwd="/", variables=variables, on_output=found.extend, seconds=600)
    if not listed.ok:
        raise SandboxError(f"the owners in {WORKSPACE} cannot be listed: {listed.output[-200:]!r}")
    return _Owners(bytes(found))


def _owned(chunks: Iterable[bytes], owners: _Owners) -> Iterator[bytes]:
    """A tar archive whose entries have these owners. Raises SandboxError for what is none."""
    try:
        yield from _with_owners(chunks, owners)
    except (tarfile.TarError, ValueError) as error:
        raise SandboxError(f"the archive of {WORKSPACE} is damaged: {error!r}") from error


def _with_owners(chunks: Iterable[bytes], owners: _Owners) -> Iterator[bytes]:
    source = _Readable(chunks)
    with tarfile.open(mode="r|", fileobj=source, encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for entry in archive:
            entry.uid = entry.gid = owners.of(entry.name)
            entry.uname = entry.gname = ""
            yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if content := archive.extractfile(entry) if entry.isreg() else None:
                while data := content.read(CHUNK):
                    yield data
                yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Readable:
    """Chunks as a file that can be read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
