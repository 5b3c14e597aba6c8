"""`claw-runner image build` and `image list`: the images that come with claw-runner, and the toolbox."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.errors import ConfigError
from runner.sandbox.build import BuildInputs
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import EngineChoice, open_engine
from runner.sandbox.image import ImageState, ensure_image, ensure_toolbox, names, prune, states

Engine = Annotated[EngineChoice, typer.Option(help="container engine; auto takes the first that answers")]
Json = Annotated[bool, typer.Option("--json", help="print machine-readable output only")]


def build(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="folders of images/; all when none is named")
    ] = None,
    engine: Engine = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="build again what is there, with today's packages")] = False,
    remove_others: Annotated[
        bool, typer.Option("--prune", help="then remove images and toolboxes of other versions that nothing uses")
    ] = False,
    apt_sources: Annotated[
        Path | None,
        typer.Option(envvar="CLAW_BUILD_APT_SOURCES", help="sources.list or .sources file of a package mirror"),
    ] = None,
    ca_bundle: Annotated[
        Path | None, typer.Option(envvar="CLAW_BUILD_CA_BUNDLE", help="PEM file with all authorities to trust")
    ] = None,
    pip_index: Annotated[
        str | None, typer.Option(envvar="CLAW_BUILD_PIP_INDEX", metavar="URL", help="Python package index")
    ] = None,
    npm_registry: Annotated[
        str | None, typer.Option(envvar="CLAW_BUILD_NPM_REGISTRY", metavar="URL", help="npm registry")
    ] = None,
    as_json: Json = False,
) -> int:
    """Build the images that are missing, and put the toolbox into its volume.

    Mirrors and authorities are used during the build only: nothing of them stays in an image. Their variables also
    hold for images that a job builds on demand.
    """
    inputs = BuildInputs(
        apt_sources=apt_sources, ca_bundle=ca_bundle, pip_index=pip_index or None, npm_registry=npm_registry or None
    )
    chosen = dict.fromkeys(wanted or names())
    if unknown := [name for name in chosen if name not in names()]:
        raise ConfigError(f"image {unknown[0]!r} is not one of {', '.join(names())}")
    with open_engine(engine) as opened:
        for name in chosen:
            _build(opened, name, inputs=inputs, fresh=fresh)
        removed = prune(opened) if remove_others else ()
        built = [state for state in states(opened) if state.name in chosen]
        _print(opened, built, removed, as_json=as_json)
    return 0


def list_images(engine: Engine = "auto", as_json: Json = False) -> int:
    """List the images that come with claw-runner, and which of them are on the engine."""
    with open_engine(engine) as opened:
        _print(opened, list(states(opened)), (), as_json=as_json)
    return 0


def _build(engine: ContainerEngine, name: str, *, inputs: BuildInputs, fresh: bool) -> None:
    if name == "toolbox":
        ensure_toolbox(engine, inputs=inputs, fresh=fresh)
    else:
        ensure_image(engine, name, inputs=inputs, fresh=fresh)


def _print(engine: ContainerEngine, images: list[ImageState], removed: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        found = [dataclasses.asdict(image) for image in images]
        print(json.dumps({"engine": engine.name, "images": found, "removed": removed}, indent=2))
        return
    table = Table("image", "reference", "MB", "digest", box=None, header_style="dim", pad_edge=False)
    for image in images:
        size = f"{image.size / 1e6:.0f}" if image.size is not None else ""
        digest = (image.digest or f"not on {engine.name}").rpartition("@")[2][: len("sha256:") + 12]
        table.add_row(image.name, image.reference, size, digest)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for name in removed:
        console.print(f"removed {escape(name)}")
