"""Images and the toolbox volume: what a job needs on an engine is there when these functions return.

`images/` has a folder with a Containerfile for each image of ours. It is built on demand as
`claw-runner/<folder>:<fingerprint>`, from the base that its `ARG BASE=` names: another folder (`claw-runner/base`) or a
registry's image; where no registry answers, a Debian base is made from this machine's packages (bootstrap.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from runner import toolbox
from runner.errors import ConfigError, ImageNotFound, SandboxError
from runner.sandbox import bootstrap, owner
from runner.sandbox.api import Api, NotThere
from runner.sandbox.base import TOOLBOX
from runner.sandbox.build import BuildInputs, Files, build, fingerprint, folder_files, pull
from runner.shipped import shipped

OURS = "claw-runner/"
VOLUME = "claw-toolbox-"
FILLED_LABEL = "claw-runner.filled"
"""On the volume `claw-toolbox-<version>`: the name of the volume that has the tree."""
DEBIAN_BASE = re.compile(r"(docker\.io/(library/)?)?debian:\w+-slim")
"""Bases that a base made from packages can stand in for."""
BASE_SECONDS = 20.0
"""A registry that is silent for so long counts as unreachable, when there is another way."""
PULL_SECONDS = 120.0
# distribution/reference: what may stand in an API path. No "..", which would lead to another path.
REFERENCE = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.:/@-]{0,511}", re.ASCII)

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class HasApi(Protocol):
    """An engine, as far as images go."""

    @property
    def api(self) -> Api: ...


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image that is on the engine."""

    reference: str
    digest: str
    """`repository@sha256:…` when its registry (or podman) gave it one, else the engine's image id."""


@dataclass(frozen=True, kw_only=True)
class ImageState:
    """One of our images, for the list. Size in bytes."""

    name: str
    reference: str
    built: bool
    digest: str | None
    size: int | None


@dataclass(frozen=True)
class Recipe:
    """How an image of ours is built."""

    name: str
    files: Files

    @cached_property
    def base(self) -> str | None:
        """What `ARG BASE=` says in the Containerfile."""
        found = re.search(r"^ARG BASE=(\S+)$", self.files["Containerfile"].read_text(), re.MULTILINE)
        return found[1] if found else None

    @cached_property
    def base_recipe(self) -> Recipe | None:
        """The recipe of the base, when that is ours."""
        name = (self.base or "").removeprefix(OURS)
        return recipe(name) if self.base == OURS + name else None

    @cached_property
    def version(self) -> str:
        """Changes with the folder and with those of its bases."""
        return fingerprint(self.files, *([self.base_recipe.version] if self.base_recipe else []))

    @property
    def reference(self) -> str:
        return f"{OURS}{self.name}:{self.version}"


def names() -> tuple[str, ...]:
    """The images that can be built: the folders of `images/`."""
    return tuple(sorted(path.parent.name for path in shipped("images").glob("*/Containerfile")))


def recipe(name: str) -> Recipe:
    """How a folder of `images/` is built. Raises ConfigError for another name."""
    if name not in names():
        raise ConfigError(f"image {name!r} is not one of {', '.join(names())}")
    files = folder_files(shipped("images") / name)
    if name == "toolbox":
        code = Path(toolbox.__file__).parent
        files = {**files, **folder_files(code, below="toolbox/", pattern="*.py")}
    return Recipe(name, files)


def ensure_image(
    engine: HasApi,
    name: str,
    *,
    inputs: BuildInputs | None = None,
    fresh: bool = False,
    progress: Progress = to_stderr,
) -> ImageRef:
    """Have an image on the engine: a folder of `images/`, built when missing, or any reference, pulled when missing.

    `inputs` are by default those that the CLAW_BUILD_* variables name. `fresh` builds again, with newer packages.
    Raises ImageNotFound, SandboxError when a build fails, ConfigError for what cannot be a reference.
    """
    api = engine.api
    if not REFERENCE.fullmatch(name):
        raise ConfigError(
            f"image {name!r} is neither a folder of images/ ({', '.join(names())}) nor an image reference"
        )
    if name in names():
        reference = recipe(name).reference
        if fresh or not _find(api, reference):
            with _alone():
                _build(api, recipe(name), inputs=inputs, fresh=fresh, progress=progress)
    else:
        reference = name
        if not _find(api, reference):
            progress(f"pulling image {reference} …")
            _pull(api, reference)
    if not (found := _find(api, reference)):
        raise ImageNotFound(f"image {reference!r} was removed from {api.product} while we were getting it; try again")
    return ImageRef(reference=reference, digest=_digest(found, reference))


def ensure_toolbox(
    engine: HasApi, *, inputs: BuildInputs | None = None, fresh: bool = False, progress: Progress = to_stderr
) -> str:
    """The name of the volume that has the toolbox of this version; made when missing. Raises as `ensure_image` does.

    It is filled under a random name and checked; then an empty volume named after the version says where it is. So
    nobody ever sees half a toolbox, whoever else does the same at the same time, on whatever machine.
    """
    api, wanted = engine.api, recipe("toolbox")
    sign = VOLUME + wanted.version
    if not fresh and (volume := _filled(api, sign)):
        return volume
    with _alone():
        if not fresh and (volume := _filled(api, sign)):
            return volume
        _build(api, wanted, inputs=inputs, fresh=fresh, progress=progress)
        progress("filling the toolbox volume …")
        filled = _fill(api, sign, wanted.reference)
        # What somebody on another machine has published meanwhile is as good, and may be in use.
        return (not fresh and _filled(api, sign)) or _publish(api, sign, filled)


def states(engine: HasApi) -> tuple[ImageState, ...]:
    """All that can be built, and what of it is on the engine."""
    wanted = [recipe(name) for name in names()]
    return tuple(_state(item, _find(engine.api, item.reference)) for item in wanted)


def prune(engine: HasApi) -> tuple[str, ...]:
    """Remove images and toolbox volumes of other versions that no container uses. Returns what was removed."""
    with _alone():
        removed = [*_prune_images(engine.api), *_prune_volumes(engine.api)]
    return tuple(removed)


def _build(api: Api, wanted: Recipe, *, inputs: BuildInputs | None, fresh: bool, progress: Progress) -> None:
    """Build an image and, first, those of its bases that are missing."""
    if inputs is None:
        inputs = BuildInputs.from_variables(os.environ)
    inputs.files()  # a mistake in them shows before minutes of work
    todo = [item for item in _bases_first(wanted) if fresh or not _find(api, item.reference)]
    for number, item in enumerate(todo, 1):
        arguments = {"VERSION": item.version} if item.name == "toolbox" else {}
        if item.base_recipe:
            arguments["BASE"] = item.base_recipe.reference
        elif item.base:
            arguments["BASE"] = _outside_base(api, item.base, fresh=fresh, progress=progress)
        progress(f"building image {item.name} ({number} of {len(todo)}) …")
        build(api, item.reference, item.files, arguments=arguments, inputs=inputs, fresh=fresh)


def _bases_first(wanted: Recipe) -> list[Recipe]:
    return [*(_bases_first(wanted.base_recipe) if wanted.base_recipe else []), wanted]


def _outside_base(api: Api, reference: str, *, fresh: bool, progress: Progress) -> str:
    """The base on the engine: as it is there, from its registry, or one made from packages in its place."""
    release = bootstrap.distribution() if DEBIAN_BASE.fullmatch(reference) else None
    there = [name for name in (reference, release.image if release else "") if name and _find(api, name)]
    if there and not fresh:
        return there[0]
    try:
        progress(f"pulling base {reference} …")
        pull(api, reference, seconds=BASE_SECONDS)
    except ImageNotFound as error:
        if there and there[0] == reference:
            return reference
        if not release:
            raise ImageNotFound(
                f"base {error}; only a Debian base can be made from packages, on a Debian or Ubuntu machine: "
                f"load it onto {api.product} by hand"
            ) from error
        progress(f"no registry answers; making base {release.image} from packages …")
        bootstrap.make_base(api, release)
        return release.image
    return reference


def _pull(api: Api, reference: str) -> None:
    try:
        pull(api, reference, seconds=PULL_SECONDS)
    except ImageNotFound as error:
        raise ImageNotFound(
            f"image {reference!r} is not on {api.product}, and {error}; "
            f"check its name, or take one of: {', '.join(names())}"
        ) from error


def _find(api: Api, reference: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.get(f"/images/{reference}/json")
    except NotThere:
        return None
    return found


def _digest(image: Mapping[str, Any], reference: str) -> str:
    """The repository digest that belongs to the reference; an imported or built image may have none."""
    repository = re.sub(r"(@sha256)?:[^:/]*$", "", reference)
    digests: list[str] = image.get("RepoDigests") or []
    matching = [digest for digest in digests if f"/{digest}".split("@")[0].endswith(f"/{repository}")]
    return next(iter([*matching, *digests]), str(image["Id"]))


def _state(wanted: Recipe, found: Mapping[str, Any] | None) -> ImageState:
    return ImageState(
        name=wanted.name,
        reference=wanted.reference,
        built=found is not None,
        digest=_digest(found, wanted.reference) if found else None,
        size=found["Size"] if found else None,
    )


def _volumes(api: Api, prefix: str) -> dict[str, dict[str, str]]:
    """Our volumes whose names begin so, with their labels."""
    listed = api.get("/volumes", filters=json.dumps({"name": [prefix]}))["Volumes"] or []
    return {volume["Name"]: volume["Labels"] or {} for volume in listed if volume["Name"].startswith(prefix)}


def _filled(api: Api, sign: str) -> str | None:
    """The volume that a sign points at, when both are there. (One without our label is empty: made for a mount.)"""
    volumes = _volumes(api, sign)
    filled = volumes.get(sign, {}).get(FILLED_LABEL)
    return filled if filled and owner.LABEL in volumes.get(filled, {}) else None


def _fill(api: Api, sign: str, image: str) -> str:
    """A new volume that the engine has filled from the toolbox image, and that the toolbox found to be whole."""
    name = f"{sign}-{uuid.uuid4().hex[:8]}"
    api.post("/volumes/create", body={"Name": name, "Labels": {owner.LABEL: "1"}})
    try:
        code = _run(api, name, image)
        if code:
            raise SandboxError(f"{api.product} did not copy the toolbox whole into a volume (check: exit {code})")
    except BaseException:
        api.delete(f"/volumes/{name}", force="true")
        raise
    return name


def _run(api: Api, volume: str, image: str) -> int:
    """Run the toolbox image's own command over the volume and return its exit code."""
    limits = [dict(zip(("Name", "Soft", "Hard"), (name, 4096, 4096), strict=True)) for name in ("nofile", "nproc")]
    container = {
        "Image": image,
        "Labels": {owner.LABEL: "1", owner.OWNER: owner.mine()},
        "NetworkDisabled": True,
        "HostConfig": {
            "Binds": [f"{volume}:{TOOLBOX}"],
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "LogConfig": {"Type": "none"},
            "Ulimits": limits,
        },
    }
    api.post("/containers/create", body=container, name=volume)
    try:
        api.post(f"/containers/{volume}/start")
        return int(api.post(f"/containers/{volume}/wait")["StatusCode"])
    finally:
        api.delete(f"/containers/{volume}", force="true")


def _publish(api: Api, sign: str, filled: str) -> str:
    """Put up a sign to the filled volume, in place of an old one. Returns the volume that the sign names then."""
    if sign in _volumes(api, sign):  # podman would take the name for the beginning of another, and delete that
        api.delete(f"/volumes/{sign}")
    with suppress(SandboxError):
        # When somebody else was quicker, podman refuses the name, docker leaves what is there.
        api.post("/volumes/create", body={"Name": sign, "Labels": {owner.LABEL: "1", FILLED_LABEL: filled}})
    return _filled(api, sign) or filled


def _prune_images(api: Api) -> Iterator[str]:
    keep = {recipe(name).reference for name in names()}
    listed = api.get("/images/json", filters=json.dumps({"label": [f"{owner.LABEL}=1"]}))
    for tag in [tag for image in listed for tag in image["RepoTags"] or ()]:
        # podman puts a registry's name in front.
        reference = tag[tag.find(OURS) :] if OURS in tag else ""
        if reference.removeprefix(OURS).split(":")[0] in names() and reference not in keep:
            # What is in use, or the base of another image, stays.
            with suppress(SandboxError):
                api.delete(f"/images/{tag}")
                yield tag


def _prune_volumes(api: Api) -> Iterator[str]:
    current = VOLUME + recipe("toolbox").version
    keep = {current, _filled(api, current)}
    # Signs first (they are shorter): a sign whose volume has gone would only be read in vain.
    for name in sorted(_volumes(api, VOLUME), key=len):
        if name not in keep:
            with suppress(SandboxError):
                api.delete(f"/volumes/{name}")
                yield name


@contextmanager
def _alone() -> Iterator[None]:
    """Let only one process of this user build at a time; others wait and then find the work done."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    # The user's number in the name and O_NOFOLLOW: in a shared folder nobody can make us write elsewhere.
    path = folder / f"claw-runner-{os.getuid()}-images.lock"
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
