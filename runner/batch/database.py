"""One SQLite file, shared by the threads of this process and by other processes: transactions, and errors of one line.

The file is in WAL mode with `synchronous=NORMAL`: what is committed is in the operating system's hands, so it survives
the death of this process, SIGKILL included. A power cut, or a machine that crashes, may lose the last transactions
(those since the last checkpoint that the disk has), never a part of one and never the file. What that can cost is
little: transcripts are synced where money was spent, and `Store.recover` brings the ledger to what they prove; a job
whose end was lost is played once more from its transcript.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runner.batch.base import StoreError
from runner.batch.tables import APPLICATION_ID, FORMAT, TABLES
from runner.errors import ConfigError

BUSY_SECONDS = 60.0
"""How long another process may keep us waiting. A transaction here takes some 50 microseconds."""
CHECKPOINT_PAGES = 4_000
"""How much is committed (16 MB) before it is copied into the file itself, which syncs the disk."""
MEND = "restore it from a copy, or start the batch anew"


class Database:
    """An open file. One connection serves all threads in turn.

    Measured with 70 threads, a connection for each costs as much processor time, and 2 MB and three file handles more.
    And SQLite makes a writer that finds another one at work sleep and look again, where a lock wakes it in its turn.
    """

    def __init__(self, path: Path) -> None:
        """Opens a file that is there. Raises sqlite3.Error."""
        self._path = path
        self._lock = threading.Lock()
        # Transactions are begun by us, not by the module; and each use of the connection is behind the lock.
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer interleaves with: all of it is done, or, after any error, nothing.

        Raises StoreError.
        """
        with self._lock, self._translated():
            # IMMEDIATE: what is read in it cannot be overtaken, so no transaction has to be tried again.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # After some errors, a full disk for one, SQLite has rolled back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For single statements: each sees one state of the file. Raises StoreError."""
        with self._lock, self._translated():
            yield self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: {error}; free the disk or end what blocks it, then go on with: "
                f"claw-runner resume {self._path.parent}"
            ) from error


@contextmanager
def created(path: Path) -> Iterator[sqlite3.Connection]:
    """A new file with empty tables, to be filled; after the block it is alone and on the disk. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nobody sees the file before it is whole: a journal to undo half of it would only cost time.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.executescript(TABLES)
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def open_checked(path: Path) -> Database:
    """Open a batch's file. Raises ConfigError when it cannot be used: `file: what; what to do`."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such batch, or it was killed while it was made; start it anew")
    try:
        database = Database(path)
    except sqlite3.Error as error:
        raise ConfigError(_unusable(path, error)) from error
    try:
        _check(path, database)
    except StoreError as error:
        database.close()
        raise ConfigError(_unusable(path, error.__cause__)) from error
    except BaseException:
        database.close()
        raise
    return database


def _check(path: Path, database: Database) -> None:
    with database.reading() as connection:
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise ConfigError(f"{path}: not the state of a batch; name another batch")
        if (version := _pragma(connection, "user_version")) != FORMAT:
            raise ConfigError(
                f"{path}: has format {version}, this claw-runner knows {FORMAT}; use the version that made it"
            )
        if (damage := _pragma(connection, "quick_check(1)")) != "ok":
            raise ConfigError(f"{path}: damaged: {' '.join(str(damage).split())}; {MEND}")
    with database.writing():
        pass  # a file or folder that we may only read is found out here


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    row: tuple[object] = connection.execute(f"PRAGMA {name}").fetchone()
    return row[0]


def _unusable(path: Path, error: BaseException | None) -> str:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # without the finer part
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"{path}: damaged: {error}; {MEND}"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return f"{path}: cannot be written: {error}; make the file and its folder yours to write"
        case _:
            return f"{path}: {error}; free the disk or end what blocks it, then try again"
