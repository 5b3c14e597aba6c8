"""A batch whose jobs need no container: `python -m tests.cli.attended FOLDER [--json|--quiet]`, a process of its own.

The jobs go on until the file `go` is in the folder; what looks on, what stops them and what it leaves is real.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from runner.batch.base import Attempt, Ended
from runner.batch.live import way_to_follow
from runner.batch.store import Store
from runner.cli.attend import attend
from runner.errors import Cancelled
from runner.messages import Reply, Text, ToolUse, Usage
from runner.transcript import AgentPrompted, AnyEvent, ModelReplied, ToolDecided

GO = "go"
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u200b::error::x\n\x9b31m漢字 [bold]:smile: ##[error]"
"""Clears the screen, names the terminal, turns text around, and is an annotation in a log of GitHub's."""


def events() -> Iterator[AnyEvent]:
    yield AgentPrompted(text="Fix it.")
    call = ToolUse(id="t1", name="Bash", input={"command": f"python3 -m pytest -q tests/test_pager.py {HOSTILE}"})
    for turn in (1, 2):
        text = Text(text=f"Let me look at the pager. {HOSTILE}")
        reply = Reply(content=(text, call), model="m", stop_reason="tool_use", usage=Usage())
        yield ModelReplied(turn=turn, request_hash="", reply=reply, cost_usd=Decimal("0.0123"), seconds=1.0)
        yield ToolDecided(turn=turn, call=call, allowed=True, rule=None, where=None, reason="")


def execute(attempt: Attempt) -> Ended:
    job = attempt.lease.job
    with attempt.slot():
        attempt.enter("running")
        for event in events():
            attempt.watch(event)
        while not (attempt.folder.parent / GO).exists():
            if attempt.stopped():
                raise Cancelled
            time.sleep(0.02)
    if job.number % 5 == 0:
        return Ended(outcome="unsolved", reason=f"check failed (exit 1): pytest -q {HOSTILE}", seconds=61, turns=2)
    branch = f"claw/{job.planned.id}"
    return Ended(outcome="solved", reason="all checks pass", branch=branch, cost_micro_usd=24_600, seconds=9, turns=2)


def main(folder: str, *options: str) -> int:
    way = way_to_follow(as_json="--json" in options, quiet="--quiet" in options, stream=sys.stderr)
    with Store.open(Path(folder)) as store:
        return attend(store, lambda watch: execute, way, report=lambda folder: folder / "report.html")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
