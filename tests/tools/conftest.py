"""A session over a real toolbox, and the way a tool call takes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox.base import REPO
from runner.tools import TOOLS
from runner.tools.arguments import parse
from runner.tools.base import Answer, Session, os_failure
from tests.tools.sandboxes import toolbox

Run = Callable[..., Answer]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with toolbox(tmp_path) as sandbox:
        yield Session(sandbox=sandbox)


@pytest.fixture
def run(session: Session) -> Run:
    """Calls a tool as the loop does: parse, name what it would do, run."""

    def run(name: str, **input: Any) -> Answer:
        session.calls += 1
        tool = parse(TOOLS[name], input)
        try:
            return tool.run(session, tool.calls(session))
        except OSError as error:
            return os_failure(name, error)

    return run


@pytest.fixture
def put(session: Session) -> Callable[[str, str | bytes], str]:
    """Makes a file in the repository; returns its absolute path."""

    def put(name: str, content: str | bytes) -> str:
        path = str(REPO / name)
        session.sandbox.write_file(path, content.encode() if isinstance(content, str) else content)
        return path

    return put


@pytest.fixture
def get(session: Session) -> Callable[[str], bytes]:
    return lambda name: session.sandbox.read_file(str(REPO / name))
