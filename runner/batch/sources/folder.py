"""Task files: each is a row that is a task of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from runner.batch.sources.base import BadRow, Found, Row, Skipped
from runner.document.source import read
from runner.errors import ConfigError

SUFFIXES = (".yaml", ".yml")


def rows(path: Path) -> Iterator[Found]:
    """The tasks of a folder, by name; or the one that a file is. Raises ConfigError when a folder has none."""
    files = [path] if not path.is_dir() else sorted(file for file in path.iterdir() if _is_yaml(file))
    if not files:
        raise ConfigError(f"{path}: there is no task file (*.yaml) in this folder")
    for number, file in enumerate(files, start=1):
        yield from _found(file, number)


def mistakes(file: Path, error: ConfigError) -> list[BadRow]:
    """What is wrong with a task file, each at its place."""
    found = (re.fullmatch(rf"({re.escape(str(file))}(?::\d+)*): (.*)", line) for line in str(error).splitlines())
    return [BadRow(match[1], match[2]) for match in found if match] or [BadRow(str(file), str(error))]


def _is_yaml(file: Path) -> bool:
    return file.suffix in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _found(file: Path, number: int) -> Iterator[Found]:
    try:
        tree = read(file).tree
    except ConfigError as error:
        yield from mistakes(file, error)
        return
    if isinstance(tree, dict) and not {"name", "prompt"} & tree.keys():
        yield Skipped(str(file), "no task, which has a name and a prompt")
    else:
        yield Row(place=str(file), number=number, key="", task_file=file)
