"""What the documentation names is there: tests, files, commands, rooms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from runner.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROMISES = (ROOT / "docs/security.md").read_text()


@cache
def _functions(path: Path) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def test_every_test_that_a_page_names_exists() -> None:
    named = {found for page in PAGES for found in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())}
    assert len(named) > 100
    assert sorted(f"{file}::{name}" for file, name in named if name not in _functions(ROOT / file)) == []


def test_every_promise_names_a_test() -> None:
    section = PROMISES.partition("## What is promised")[2].partition("## What is not promised")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row.rsplit("|", 2)[1]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    written = re.findall(r"(?:^(?:\$ | {2,})|`)claw-runner ([a-z]+)(?: ([a-z]+))?", page.read_text(), re.MULTILINE)
    named = {f"{first} {second}".strip() if first in groups else first for first, second in written}
    assert sorted(named - {*COMMANDS, *groups}) == []


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[2:] if f"docs/{page.name}" not in readme] == []


def test_the_architecture_names_every_room_and_no_other() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`(?:\w+/)*(\w+(?:/|\.py))[`:]", text.partition("## Layers")[2].partition("\n## ")[0]))
    rooms = _names(ROOT.glob("runner/*")) | _names(ROOT.glob("runner/policy/*"))
    assert sorted(rooms - named) == []
    assert sorted(named - _names(ROOT.glob("runner/**/*")) - {"test_architecture.py"}) == []


def _names(paths: Iterable[Path]) -> set[str]:
    """Modules by file name, folders with a slash behind them."""
    modules = (path.name if path.is_file() else f"{path.name}/" for path in paths if not path.name.startswith("__"))
    return {name for name in modules if name.endswith((".py", "/"))}
