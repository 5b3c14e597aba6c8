"""claw-runner's own image: built from the checkout, and used against the socket of the engine that it runs on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import __version__
from runner.sandbox.build import BuildInputs, build, folder_files
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image
from tests.sandbox.plain import run

ROOT = Path(__file__).parent.parent
TAG = "claw-test/runner:1"


@pytest.fixture(scope="session")
def runner_image(engine: ContainerEngine, once: Callable[[str], Any]) -> str:
    """The image, on the base that this machine can make. Stays, for the engine's build cache."""
    names = ("Containerfile", "pyproject.toml", "README.md", "LICENSE")
    files = {name: ROOT / name for name in names}
    for folder in ("runner", "images", "policies", "tasks"):
        files |= folder_files(ROOT / folder, below=f"{folder}/")
    with once(f"runner-image-{engine.name}"):
        base = ensure_image(engine, "python").reference
        build(engine.api, TAG, files, arguments={"BASE": base}, inputs=_pip_of_this_machine())
    return TAG


def _pip_of_this_machine() -> BuildInputs:
    """The CLAW_BUILD_* variables, else what pip's own say."""
    authorities = os.environ.get("CLAW_BUILD_CA_BUNDLE") or os.environ.get("PIP_CERT")
    return BuildInputs(
        ca_bundle=Path(authorities) if authorities else None,
        pip_index=os.environ.get("CLAW_BUILD_PIP_INDEX") or os.environ.get("PIP_INDEX_URL"),
    )


@pytest.mark.engine
def test_the_image_says_its_version(engine: ContainerEngine, runner_image: str) -> None:
    assert run(engine, runner_image, "claw-runner", "--version") == (0, f"claw-runner {__version__}\n", "")
    image = engine.api.get(f"/images/{runner_image}/json")
    assert image["Config"]["Entrypoint"] == ["claw-runner"]


@pytest.mark.engine
def test_the_image_is_its_base_and_the_package(engine: ContainerEngine, runner_image: str) -> None:
    """So nothing of the stage that saw the authorities of the machine that built it is there."""
    base = engine.api.get(f"/images/{ensure_image(engine, 'python').reference}/json")["RootFS"]["Layers"]
    image = engine.api.get(f"/images/{runner_image}/json")["RootFS"]["Layers"]
    assert image[: len(base)] == base
    assert run(engine, runner_image, "ls", "-d", "/inputs").exit_code == 2


@pytest.mark.engine
def test_the_image_works_with_a_mounted_socket(engine: ContainerEngine, runner_image: str, toolbox_volume: str) -> None:
    socket = engine.api.url.removeprefix("unix://")
    if socket == engine.api.url:
        pytest.skip(f"the engine at {engine.api.url} has no socket to mount")
    usual = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}[engine.name]
    binds = (f"{socket}:{usual}",)
    listed = run(engine, runner_image, "claw-runner", "image", "list", "--json", binds=binds)
    assert listed.exit_code == 0, listed
    images = {image["name"]: image for image in json.loads(listed.stdout)["images"]}
    # The same toolbox as that of the checkout: an installed package has the same files.
    assert images["toolbox"]["built"]
    found = run(engine, runner_image, "claw-runner", "doctor", "--json", binds=binds)
    engines = {facts["name"]: facts["reachable"] for facts in json.loads(found.stdout)["engines"]}
    assert engines[engine.name] is True
