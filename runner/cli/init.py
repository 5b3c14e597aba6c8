"""`claw-runner init`: a task and a policy to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from runner.errors import ConfigError

STARTER = Path(__file__).with_name("starter")
FILES = ("task.yaml", "policy.yaml")


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write them.")] = Path(),
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> int:
    """Write a commented starter task.yaml and policy.yaml. Files that are there already are left as they are."""
    written = {folder / name: _write(STARTER / name, folder / name) for name in FILES}
    if json_output:
        typer.echo(json.dumps({str(path): "written" if new else "kept" for path, new in written.items()}))
        return 0
    for path, new in written.items():
        typer.echo(f"wrote {path}" if new else f"{path} is there already; left as it is")
    task, policy = (folder / name for name in FILES)
    typer.echo(f"Next: say in {task} what to do, then\n  claw-runner check {task} --policy {policy}")
    typer.echo(f"  claw-runner run {task} --policy {policy}")
    return 0


def _write(source: Path, target: Path) -> bool:
    """Copy a file; False when there is one of that name. Raises ConfigError when it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except FileExistsError:
        if target.exists() or target.is_symlink():
            return False
        raise ConfigError(f"{target.parent}: is not a folder") from None
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
    return True
