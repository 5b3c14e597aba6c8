"""A real toolbox with a folder for its logs, as a job has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.sandbox.base import Sandbox
from tests.local_toolbox import local_sandbox


@contextmanager
def toolbox(folder: Path) -> Iterator[Sandbox]:
    (folder / "logs" / "logs").mkdir(parents=True)
    with local_sandbox(folder) as sandbox:
        yield sandbox
