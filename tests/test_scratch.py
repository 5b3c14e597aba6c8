from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.scratch import scratch

HOLD = """
import sys, time
from pathlib import Path
from runner.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_it_is_gone_after_the_block(tmp_path: Path) -> None:
    with scratch(tmp_path / "s") as folder:
        (folder / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch(tmp_path / "s"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_no_two_are_one(tmp_path: Path) -> None:
    with scratch(tmp_path / "s") as first, scratch(tmp_path / "s") as second:
        (first / "file").write_text("x")
        assert list(second.iterdir()) == []


def test_it_is_gone_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "a name -with 'quotes'"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        [folder] = tmp_path.iterdir()
        assert (folder / "deep" / "file").exists()
        process.kill()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
