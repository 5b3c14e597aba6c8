"""Images and the toolbox volume, on real engines."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import runner
from runner.errors import ConfigError, ImageNotFound
from runner.sandbox import owner
from runner.sandbox.build import BuildInputs, build
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef, ensure_image, ensure_toolbox, names, recipe, states
from runner.shipped import shipped
from tests.sandbox.plain import run

PACKAGE = Path(runner.__file__).parent
PYTHON = ("/opt/claw/bin/python3", "-I", "-S", "-B")

# What a job asks of the tree, run by its own Python: commit, bundle, fetch from the bundle with all checks, search.
PROBE = """
import ctypes, json, lzma, os, subprocess, sys
os.environ.update(HOME="/tmp", PATH="/nowhere")
os.chdir("/tmp")
def git(*arguments):
    settings = ("user.name=a", "user.email=a@b", "init.defaultBranch=main")
    options = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["/opt/claw/bin/git", *options, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
    return done.stdout
git("init", "-q", "one")
open("one/file", "w").write("needle\\n")
git("-C", "one", "add", "file")
git("-C", "one", "commit", "-q", "-m", "first")
git("-C", "one", "bundle", "create", "-q", "/tmp/b", "main")
git("init", "-q", "--bare", "two")
git("-C", "two", "-c", "transfer.fsckObjects=true", "fetch", "-q", "/tmp/b", "main:main")
git("clone", "-q", "--no-local", "/tmp/two", "three")
git("-C", "three", "fsck", "--strict", "--no-progress")
git("-C", "three", "push", "-q", "origin", "HEAD:refs/heads/other")
found = subprocess.run(["/opt/claw/bin/rg", "-n", "needle", "/tmp/three"], capture_output=True, text=True)
assert found.returncode == 0, found
print(json.dumps([sys.prefix, found.stdout, git("-C", "two", "log", "--format=%s %an", "other")]))
"""


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["busybox_image", "alpine_image", "base_image"])
def test_the_toolbox_runs_in_any_image(
    engine: ContainerEngine, toolbox_volume: str, request: pytest.FixtureRequest, kind: str
) -> None:
    image: ImageRef = request.getfixturevalue(kind)
    said = run(engine, image.reference, *PYTHON, "-c", PROBE, toolbox=toolbox_volume)
    assert said == (0, '["/opt/claw", "/tmp/three/file:1:needle\\n", "first a\\n"]\n', "")


@pytest.mark.engine
def test_git_needs_no_variables_to_find_its_programs(
    engine: ContainerEngine, toolbox_volume: str, busybox_image: ImageRef
) -> None:
    said = run(engine, busybox_image.reference, "/opt/claw/path/git", "--exec-path", toolbox=toolbox_volume)
    assert said == (0, "/opt/claw/lib/git\n", "")


@pytest.mark.engine
def test_nothing_of_an_image_gets_into_the_toolbox(
    engine: ContainerEngine, toolbox_volume: str, busybox_image: ImageRef, tmp_path: Path
) -> None:
    files = {}
    for name in ("etc/ld.so.preload", "etc/ld.so.cache", "lib/libc.so.6", "lib/libz.so.1", "lib/python3.11/os.py"):
        files[name] = tmp_path / Path(name).name
        files[name].write_text("/lib/libc.so.6\n")
    files["Containerfile"] = tmp_path / "Containerfile"
    files["Containerfile"].write_text(
        f"FROM {busybox_image.reference}\n"
        "COPY etc/ /etc/\nCOPY lib/ /lib/\nENV LD_LIBRARY_PATH=/lib PYTHONHOME=/ PYTHONPATH=/lib/python3.11\n"
    )
    build(engine.api, "claw-test/hostile:1", files, arguments={}, inputs=BuildInputs())
    try:
        for command in ([*PYTHON, "-c", "import zlib; print('fine')"], ["/opt/claw/bin/git", "--version"]):
            said = run(engine, "claw-test/hostile:1", *command, toolbox=toolbox_volume)
            assert (said.exit_code, said.stderr) == (0, ""), said
    finally:
        engine.api.delete("/images/claw-test/hostile:1", force="true")


@pytest.mark.engine
def test_the_toolbox_is_small(engine: ContainerEngine, toolbox_volume: str) -> None:
    size = next(state.size for state in states(engine) if state.name == "toolbox")
    assert size is not None
    assert 10_000_000 < size < 60_000_000


@pytest.mark.engine
def test_what_is_there_is_neither_built_nor_filled_again(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef
) -> None:
    said: list[str] = []
    assert ensure_toolbox(engine, progress=said.append) == toolbox_volume
    assert ensure_image(engine, "base", progress=said.append) == base_image
    assert said == []


@pytest.mark.engine
def test_an_image_is_known_by_its_content(engine: ContainerEngine, base_image: ImageRef) -> None:
    found = engine.api.get(f"/images/{base_image.reference}/json")
    assert base_image.digest in [*found["RepoDigests"], found["Id"]]
    assert ensure_image(engine, found["Id"]).digest == base_image.digest
    assert found["Config"]["Labels"][owner.LABEL] == "1"


@pytest.mark.engine
def test_a_missing_image_says_what_to_do(engine: ContainerEngine) -> None:
    with pytest.raises(
        ImageNotFound, match=r"'localhost:1/claw-test/none:1' is not on \w+, and .* take one of: base, python"
    ):
        ensure_image(engine, "localhost:1/claw-test/none:1", progress=lambda line: None)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["", "../containers/json", "a/../../containers", "a b", "a?b", "-a", "a\n"])
def test_a_name_that_could_mean_something_else_to_the_engine_is_refused(engine: ContainerEngine, name: str) -> None:
    with pytest.raises(ConfigError, match="neither a folder of images/"):
        ensure_image(engine, name)


def test_every_folder_of_images_can_be_built_on_a_base_of_the_user() -> None:
    assert names() == ("base", "python", "toolbox")
    assert {name: recipe(name).base for name in names()} == {
        "base": "debian:bookworm-slim",
        "python": "claw-runner/base",
        "toolbox": "debian:bookworm-slim",
    }
    with pytest.raises(ConfigError, match="image 'pyton' is not one of base, python, toolbox"):
        recipe("pyton")


@dataclass(frozen=True)
class Copy:
    """A copy of the package and its images, to change."""

    folder: Path

    def start(self, code: str, **variables: str) -> subprocess.Popen[str]:
        prepared = f"from runner.sandbox import engines, image\n{code}"
        return subprocess.Popen(
            [sys.executable, "-c", prepared],
            cwd=self.folder,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(self.folder), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, **variables: str) -> list[str]:
        process = self.start(code, **variables)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return out.split()

    def change(self, name: str) -> None:
        path = self.folder / name
        path.write_text(f"{path.read_text()}# {uuid.uuid4()}\n")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "copy"
    shutil.copytree(PACKAGE, folder / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shipped("images"), folder / "images")
    return Copy(folder)


def test_a_change_of_a_base_is_a_change_of_what_stands_on_it(copy: Copy) -> None:
    versions = "print(*(image.recipe(name).version for name in ('base', 'python', 'toolbox')))"
    before = copy.run(versions)
    copy.change("images/base/Containerfile")
    after = copy.run(versions)
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False]
    copy.change("runner/toolbox/__init__.py")
    assert [old != new for old, new in zip(after, copy.run(versions), strict=True)] == [False, False, True]


ENSURE = "print(image.ensure_toolbox(engines.open_engine({name!r}, url={url!r})))"
PRUNE = "print(*image.prune(engines.open_engine({name!r}, url={url!r})), sep='\\n')"


@dataclass(frozen=True)
class CopyOnEngine:
    """A copy whose images and volumes have names of their own on an engine."""

    copy: Copy
    engine: ContainerEngine
    prefix: str

    def ensure(self) -> str:
        return self.copy.run(self.completed(ENSURE))[0]

    def completed(self, code: str) -> str:
        return code.format(name=self.engine.name, url=self.engine.api.url)

    def change(self) -> None:
        self.copy.change("runner/toolbox/__init__.py")

    def volumes(self) -> set[str]:
        listed = self.engine.api.get("/volumes")["Volumes"] or []
        return {volume["Name"] for volume in listed if volume["Name"].startswith(self.prefix)}


@pytest.fixture
def other(engine: ContainerEngine, copy: Copy) -> Iterator[CopyOnEngine]:
    """Another version of claw-runner; what it has left on the engine is removed at the end."""
    prefix = f"claw-test-{uuid.uuid4().hex[:8]}"
    module = copy.folder / "runner/sandbox/image.py"
    text = module.read_text()
    assert 'VOLUME = "claw-toolbox-"' in text
    assert 'OURS = "claw-runner/"' in text
    text = text.replace('VOLUME = "claw-toolbox-"', f'VOLUME = "{prefix}-"')
    module.write_text(text.replace('OURS = "claw-runner/"', f'OURS = "{prefix}/"'))
    other = CopyOnEngine(copy, engine, prefix)
    yield other
    # The longest first: podman takes the beginning of a name for the name.
    for name in sorted(other.volumes(), key=len, reverse=True):
        engine.api.delete(f"/volumes/{name}", force="true")
    for image in engine.api.get("/images/json"):
        for tag in image["RepoTags"] or ():
            if prefix in tag:
                engine.api.delete(f"/images/{tag}", force="true")


@pytest.mark.engine
def test_processes_that_know_nothing_of_each_other_all_get_a_whole_toolbox(
    base_image: ImageRef, other: CopyOnEngine, tmp_path: Path
) -> None:
    # A lock each, as on machines that share an engine.
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    processes = [other.copy.start(other.completed(ENSURE), TMPDIR=str(folder)) for folder in folders]
    volumes = [process.communicate(timeout=300)[0].strip() for process in processes]
    for volume in volumes:
        check = ("/opt/claw/manifest.py", "check", "/opt/claw")
        assert run(other.engine, base_image.reference, *PYTHON, *check, toolbox=volume).exit_code == 0
    assert other.ensure() == other.ensure()


@pytest.mark.engine
def test_a_toolbox_that_somebody_removed_or_replaced_is_made_again(base_image: ImageRef, other: CopyOnEngine) -> None:
    # What an engine makes of itself when a container asks for a volume that is not there.
    (version,) = other.copy.run("print(image.recipe('toolbox').version)")
    other.engine.api.post("/volumes/create", body={"Name": f"{other.prefix}-{version}"})
    first = other.ensure()
    other.engine.api.delete(f"/volumes/{first}")
    second = other.ensure()
    assert first != second
    assert run(other.engine, base_image.reference, *PYTHON, "-c", "pass", toolbox=second).exit_code == 0


@pytest.mark.engine
def test_prune_removes_toolboxes_of_other_versions_that_nothing_uses(base_image: ImageRef, other: CopyOnEngine) -> None:
    versions = []
    for _ in range(3):
        other.change()
        versions.append(other.ensure())
    oldest, old, current = versions
    binds = [f"{oldest}:/opt/claw:ro"]
    body = {"Image": base_image.reference, "Cmd": ["true"], "HostConfig": {"Binds": binds}}
    user = other.engine.api.post("/containers/create", body=body)["Id"]
    try:
        removed = other.copy.run(other.completed(PRUNE))
        assert {old, old.rpartition("-")[0]} < set(removed)
        assert sum(f"{other.prefix}/toolbox:" in name for name in removed) == 2
        assert other.volumes() == {oldest, current, current.rpartition("-")[0]}
        assert other.ensure() == current
    finally:
        other.engine.api.delete(f"/containers/{user}", force="true")
    assert other.copy.run(other.completed(PRUNE)) == [oldest]
