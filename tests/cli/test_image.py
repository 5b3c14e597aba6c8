"""`claw-runner image`: what it prints, on each engine."""

from __future__ import annotations

import json

import pytest

from runner.cli import main
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef, names, recipe


@pytest.fixture
def at(engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that lead to the engine of the test, even when it is a service of our own."""
    monkeypatch.setenv({"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}[engine.name], engine.api.url)
    return ("--engine", engine.name)


@pytest.mark.engine
def test_what_is_built_is_listed(
    at: tuple[str, ...], base_image: ImageRef, toolbox_volume: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "list", "--json", *at]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["engine"] == at[1]
    images = {image["name"]: image for image in listed["images"]}
    assert tuple(images) == names()
    assert images["base"]["reference"] == base_image.reference
    assert images["base"]["digest"] == base_image.digest
    assert images["base"]["size"] > images["toolbox"]["size"] > 0


@pytest.mark.engine
def test_build_says_what_there_is_and_does_nothing_twice(
    at: tuple[str, ...], base_image: ImageRef, toolbox_volume: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "build", "base", "toolbox", *at]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
        ["base", base_image.reference],
        ["toolbox", recipe("toolbox").reference],
    ]


def test_an_unknown_image_is_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "build", "pyton"]) == 2
    assert capsys.readouterr().err == "claw-runner: image 'pyton' is not one of base, python, toolbox\n"


@pytest.mark.engine
def test_unreadable_authorities_are_a_mistake_of_the_user(
    at: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "build", "base", "--fresh", "--ca-bundle", "/nowhere/ca.pem", *at]) == 2
    assert "/nowhere/ca.pem: CA bundle for image builds cannot be read" in capsys.readouterr().err
