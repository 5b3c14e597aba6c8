"""Asking a person: at the terminal, or through a queue of files in the job's folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from runner.approvals.base import Answer, Approver, Ask, Nobody
from runner.approvals.queue import FOLDER, QueueApprover
from runner.approvals.terminal import Screen, TerminalApprover

__all__ = [
    "Answer",
    "Approver",
    "Ask",
    "Nobody",
    "QueueApprover",
    "Screen",
    "TerminalApprover",
    "open_approver",
]


def open_approver(
    folder: Path, *, terminal: bool, screen: Screen | None = None, stopped: Callable[[], bool] = lambda: False
) -> Approver:
    """Whom the job in `folder` asks: the person at this process's terminal, or whoever answers the queue in the folder.

    `screen` is what else writes to the terminal, so that nothing comes between a question and its answer. Who waits for
    the queue raises Cancelled once `stopped` says so.
    """
    if terminal:
        return TerminalApprover(sys.stdin, screen or Screen(sys.stderr))
    return QueueApprover(folder / FOLDER, stopped=stopped)
