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


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "old").write_text("x")
    with scratch(tmp_path / "s") as folder:
        assert list(folder.iterdir()) == []


def test_it_is_gone_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "a name -with 'quotes'"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert (folder / "deep" / "file").exists()
        process.kill()
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
