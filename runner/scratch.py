"""Folders that do not outlive this process, however it ends."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The keeper's standard input is a pipe that only we hold: it ends when we do. What we had started may still be writing
# for a moment, so it looks twice.
_KEEPER = 'cat >/dev/null; rm -rf -- "$1"; sleep 1; rm -rf -- "$1"'


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A new folder whose name begins as `path` does; it is gone when the block ends, or this process is killed.

    No two have one name: that of a process which was killed just now may still be going.
    """
    path = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    command = ["sh", "-c", _KEEPER, "keeper", str(path.absolute())]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # ^C at a terminal must not end it before us
    ) as keeper:
        try:
            path.mkdir()
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            keeper.kill()
