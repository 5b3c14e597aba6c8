"""The end of tests that make snapshots."""

from __future__ import annotations

import time

from runner.sandbox.container import ContainerEngine
from runner.sandbox.snapshot import Snapshots

SECONDS = 60.0


def remove_snapshots_of(engine: ContainerEngine) -> None:
    """Remove those of the test's own cache (`XDG_CACHE_HOME`); their containers may still be going."""
    deadline = time.monotonic() + SECONDS
    while left := [left for left in Snapshots(engine.api, space=0).remove_all() if left.error]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
