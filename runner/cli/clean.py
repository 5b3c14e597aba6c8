"""`claw-runner clean`: remove what a killed engine or runner left behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from runner.errors import EngineUnavailable
from runner.repo import remove_bases
from runner.sandbox.clean import Leftover, clean_engine, clean_services
from runner.sandbox.engines import ENGINES, EngineChoice, EngineName
from runner.sandbox.snapshot import remove_snapshots


def clean(
    engine: Annotated[EngineChoice, typer.Option(help="which engine; auto: every one that answers")] = "auto",
    every_owner: Annotated[
        bool,
        typer.Option("--every-owner", help="also running containers of runners elsewhere"),
    ] = False,
    snapshots: Annotated[
        bool,
        typer.Option("--snapshots", help="also all snapshots, and the copies of histories that jobs start from"),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what would be removed")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print machine-readable output only")] = False,
) -> int:
    """Remove containers, volumes and services of ours whose runner is dead. Exit code 0: nothing is left."""
    names: list[EngineName] = list(ENGINES) if engine == "auto" else [engine]
    found = [*clean_services(dry_run=dry_run), *(_histories(dry_run=dry_run) if snapshots else ())]
    for name in names:
        try:
            with ENGINES[name](None) as opened:
                found += clean_engine(opened.api, every_owner=every_owner, dry_run=dry_run)
                found += remove_snapshots(opened.api, dry_run=dry_run) if snapshots else ()
        except EngineUnavailable:
            if engine != "auto":
                raise
    _print(found, dry_run=dry_run, as_json=as_json)
    return 21 if any(leftover.error for leftover in found) else 0


def _histories(*, dry_run: bool) -> Iterator[Leftover]:
    for folder in remove_bases(dry_run=dry_run):
        yield Leftover(kind="history", name=str(folder), why="snapshots were asked for")


def _print(found: list[Leftover], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps([dataclasses.asdict(leftover) for leftover in found], indent=2))
        return
    console = Console(highlight=False)
    for leftover in found:
        verb = "could not remove" if leftover.error else "would remove" if dry_run else "removed"
        reason = leftover.error or leftover.why
        console.print(f"{verb} {leftover.kind} [bold]{escape(leftover.name)}[/]: {escape(reason)}")
    if not found:
        console.print("nothing was left behind")
