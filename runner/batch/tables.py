"""The tables of `batch.sqlite`."""

APPLICATION_ID = 0x436C6177
"""In the file's header: what kind of SQLite file this is ("Claw")."""
FORMAT = 1
"""In the file's header as `user_version`. Another layout of the tables, or of the JSON in them, gets another number."""

TABLES = """
CREATE TABLE batch (
    spec TEXT NOT NULL,  -- JSON: BatchSpec
    stop TEXT            -- 'drain' or 'now', once somebody asked for it
);

-- What changes while the batch runs, and what lists of jobs show. Kept narrow: each write copies whole pages.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,  -- from 1, in the order of the source
    id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    title TEXT NOT NULL,
    source TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    attempt INTEGER NOT NULL DEFAULT 0,
    fresh INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',        -- of the lease; '' while nobody has one
    lease_until REAL NOT NULL DEFAULT 0,   -- seconds since the epoch, like all times here
    not_before REAL NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,                          -- these four: of the last attempt that came to an end
    tokens INTEGER NOT NULL DEFAULT 0,
    turns INTEGER NOT NULL DEFAULT 0,
    ended TEXT                             -- JSON: Ended
);
-- What a lease is found by, without looking at any other job.
CREATE INDEX queue ON jobs (not_before, number) WHERE state = 'queued';
CREATE INDEX held ON jobs (owner, lease_until) WHERE owner <> '';

-- Read for the job that is leased, never changed.
CREATE TABLE plans (
    number INTEGER PRIMARY KEY,
    planned TEXT NOT NULL  -- JSON: Planned
);

-- Idempotency keys: what a side effect was, or will be, decided before it is done.
CREATE TABLE effects (
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;

-- All amounts are whole micro-USD. One row for each request to a model, and for each correction.
CREATE TABLE money (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    state TEXT NOT NULL,                  -- reserved, settled; given_up, recovered: see runner/batch/ledger.py
    reserved INTEGER NOT NULL DEFAULT 0,  -- what was set aside, also after it was settled
    spent INTEGER NOT NULL DEFAULT 0,
    doubtful INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX money_of_job ON money (job);

-- The sums of `money`, changed together with it: what is left is known without adding up.
CREATE TABLE purse (
    cap INTEGER,  -- NULL: none
    reserved INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0,
    doubtful INTEGER NOT NULL DEFAULT 0
);
"""
