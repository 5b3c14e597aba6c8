"""`claw-runner`, which is also `python -m runner`."""

from __future__ import annotations

import gc
import sys

from runner.cli import main


def entry() -> int:
    """The command line as a process of its own; returns the exit code."""
    # Importing the SDK makes objects by the hundred thousand, none of them garbage. Looking through them again and
    # again costs a fifth of a second, and as much again at the end, when everything goes anyway.
    gc.set_threshold(50_000, 20, 100)
    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(entry())
