"""Works a batch off while its runner dies, by SIGKILL, at one kind of write after the other.

Run by the tests as a process of its own, `python -m tests.batch.dying FOLDER ENGINE URL`: each life is a fork of it, so
that what it needs is imported once. In each life the runner is killed at the first point of a kind at which none of its
lives has ended yet: right before and right after each kind of transaction of the store, of event of a transcript, of
write of a spool. What happens between two writes (a request is sent, a branch appears) lies between two such points.
When all kinds are through, a last life ends the batch. Prints the number of lives.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.batch.database import Database
from runner.batch.execute import Equipment, local_executor
from runner.batch.scheduler import Stop, run_batch
from runner.batch.store import Store
from runner.models.anthropic import import_client
from runner.models.spool import Spool
from runner.policy import load_policy
from runner.sandbox.engines import open_engine
from runner.transcript import Transcript

MOST_LIVES = 400


class Death:
    """Kills this process at the first point of a kind that is not in the log of deaths."""

    def __init__(self, log: Path) -> None:
        self._known = set(log.read_text().splitlines()) if log.exists() else set()
        self._log = log
        self._lock = threading.Lock()

    def passed(self, what: str) -> None:
        with self._lock:
            if what not in self._known:
                with self._log.open("a") as log:
                    log.write(f"{what}\n")
                os.kill(os.getpid(), signal.SIGKILL)


def haunt(death: Death) -> None:
    """Put a point of death before and after everything that is written for a later life."""
    record, written, writing = Transcript.record, Spool._write, Database.writing

    def recording(self: Transcript, event: Any) -> None:
        death.passed(f"before {event.type}")
        record(self, event)
        death.passed(f"after {event.type}")

    def spooling(self: Spool, data: bytes) -> None:
        what = "spooled request" if data.startswith(b"{") else "spooled chunk"
        death.passed(f"before {what}")
        written(self, data)
        death.passed(f"after {what}")

    @contextmanager
    def transaction(self: Database) -> Iterator[Any]:
        what = _asking()
        death.passed(f"before {what}")
        with writing(self) as db:
            yield db
        death.passed(f"after {what}")

    Transcript.record, Spool._write, Database.writing = recording, spooling, transaction  # type: ignore[method-assign]


def _asking() -> str:
    """The method of the store or its ledger that wants a transaction."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename.endswith(("store.py", "ledger.py")) and frame.f_code.co_name != "_written":
            return frame.f_code.co_name
    return "a transaction"


def live(folder: Path, engine: str, url: str) -> int:
    haunt(Death(folder / "deaths"))
    with Store.open(folder) as store, open_engine(engine, url=url) as connected:  # type: ignore[arg-type]
        equipment = Equipment(
            policy=load_policy(Path(store.spec.policy_file)), engine=connected, variables=dict(os.environ)
        )
        done = run_batch(store, execute=local_executor(store, equipment), watch=lambda event: None, stop=Stop())
    print(done.counts, file=sys.stderr, flush=True)
    return done.exit_code


def main() -> None:
    folder, engine, url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    import_client()
    for life in range(1, MOST_LIVES):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(live(folder, engine, url))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            print(life)
            sys.exit(os.WEXITSTATUS(status))
    sys.exit("the batch does not come to its end")


if __name__ == "__main__":
    main()
