"""Files that the policy lets nothing read stay outside: neither the work tree inside has them, nor any object there.

Trees and commits go in as they are, so that every id is the user's own; names and ids of hidden files can be seen. In
the place of a hidden content, under its id, stands a text that says so. Git takes the index of a pack at its word about
what an object is called (only `git fsck` and a transfer look at the bytes), so `git log -p`, `git diff`, `git commit`,
`git stash`, `git rebase` and `git gc` work where such a file is part of a commit. The files themselves are outside of a
sparse checkout, which `git status` mentions.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from runner.policy import Policy
from runner.policy.contain import can_hide, hidden
from runner.repo.quarantine import Quarantine
from runner.repo.tree import entries, pieces

STAND_IN = b"This file is hidden from the job by its policy.\n"
"""Under 50 bytes, so that no git ever stores an object as a difference to it."""
MOST_PATTERNS = 2000
"""Of a sparse checkout. Git holds each file against each of them: 2000 for 20,000 files cost a fifth of a second."""
BLOB = 3
"""The type's number in a pack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """What of base and its history stays outside. Paths are from the repository's root."""

    paths: tuple[str, ...] = ()
    """Of base; bytes as `os.fsdecode` gives them."""
    entries: bytes = b""
    """The same for `git update-index -z --index-info`: mode, type, id, path."""
    outside: tuple[bytes, ...] = ()
    """Those, and hidden paths of the history; of many, a folder (with a slash at its end) stands for all in it."""
    blobs: frozenset[str] = frozenset()
    """Ids of contents that stay outside: those of `paths`, and those that the history had at hidden paths only."""


NOTHING_HIDDEN = Hidden()


def hide(quarantine: Quarantine, policy: Policy) -> Hidden:
    """What of base and its history the policy lets neither tools nor commands read (`may_read`).

    A content that base has at a readable path as well is not hidden.
    """
    if not can_hide(policy):
        return NOTHING_HIDDEN
    if quarantine.notes is None:
        return _hide(quarantine, policy)
    rules = policy.model_dump_json(include={"mode", "allow", "ask", "deny"})
    note = quarantine.notes / f"hidden-{hashlib.sha256(rules.encode()).hexdigest()[:32]}.json"
    if note.exists():
        return _read(note)
    found = _hide(quarantine, policy)
    written = note.with_name(f"{note.name}.{uuid.uuid4().hex}")
    written.write_bytes(_written(found))
    written.replace(note)
    return found


def _hide(quarantine: Quarantine, policy: Policy) -> Hidden:
    base = tuple(entries(quarantine, quarantine.base))
    past = _past(quarantine)
    names = {*past, *(entry.path for entry in base)}
    found = set(hidden(policy, names))
    inside = [entry for entry in base if entry.path in found]
    once = {id for path, ids in past.items() if path in found for id in ids}
    readable_once = {id for path, ids in past.items() if path not in found for id in ids}
    readable = {entry.id for entry in base if entry.path not in found} | {_empty(quarantine.object_format)}
    return Hidden(
        paths=tuple(entry.path for entry in inside),
        entries=b"".join(entry.line + b"\0" for entry in inside),
        outside=_outside(names, found),
        blobs=frozenset(({entry.id for entry in inside} | (once - readable_once)) - readable),
    )


def _written(hidden: Hidden) -> bytes:
    facts = {
        "paths": hidden.paths,
        "entries": hidden.entries.hex(),
        "outside": [path.hex() for path in hidden.outside],
        "blobs": sorted(hidden.blobs),
    }
    return json.dumps(facts).encode("ascii")


def _read(note: Path) -> Hidden:
    facts = json.loads(note.read_bytes())
    return Hidden(
        paths=tuple(facts["paths"]),
        entries=bytes.fromhex(facts["entries"]),
        outside=tuple(bytes.fromhex(path) for path in facts["outside"]),
        blobs=frozenset(facts["blobs"]),
    )


def brought_in(quarantine: Quarantine, hidden: Hidden) -> tuple[str, ...]:
    """The files of base that are not hidden."""
    outside = frozenset(hidden.paths)
    return tuple(entry.path for entry in entries(quarantine, quarantine.base) if entry.path not in outside)


def _past(quarantine: Quarantine) -> dict[str, set[str]]:
    """Every path that the history of base ever had, and the ids of what stood there."""
    # A merge shows what it has from none of its parents; a commit without parents shows all it has.
    command = ("log", "--raw", "-z", "--no-abbrev", "--no-renames", "--format=", "-c", quarantine.base)
    past: dict[str, set[str]] = {}
    fields = (field for field in pieces(quarantine, b"\0", *command) if field)
    for entry, path in zip(fields, fields, strict=True):
        facts = entry.decode("ascii").split(" ")
        parents = len(facts[0]) - len(facts[0].lstrip(":"))
        id = facts[2 * parents + 1]
        if id.strip("0"):  # else it was removed
            past.setdefault(os.fsdecode(path), set()).add(id)
    return past


def _outside(paths: Iterable[str], found: Collection[str]) -> tuple[bytes, ...]:
    """The paths found among `paths`, or folders in their place."""
    if len(found) <= MOST_PATTERNS:
        return tuple(sorted(map(os.fsencode, found)))
    mixed = {folder for path in paths if path not in found for folder in _folders(path)}
    tops = (next((folder for folder in _folders(path) if folder not in mixed), path) for path in found)
    return tuple(sorted({os.fsencode(top) for top in tops}))


def _folders(path: str) -> Iterator[str]:
    """The folders that a path lies in, from the top, each with a slash at its end."""
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1]
        at = path.find("/", at + 1)


def _empty(object_format: str) -> str:
    """The id of an empty file: there is nothing in it to hide, and agents make such files."""
    return hashlib.new(object_format, b"blob 0\0").hexdigest()


# --- the pack of stand-ins


def stand_ins(blobs: Iterable[str], object_format: str) -> dict[str, bytes]:
    """A pack in which each of these ids means STAND_IN, and its index: what the folder `objects/pack` needs, by name.

    Format: gitformat-pack, version 2 of both.
    """
    ids = sorted(bytes.fromhex(id) for id in blobs)
    # The length takes four bits of the first byte and seven of each one that follows.
    entry = bytes([0x80 | BLOB << 4 | len(STAND_IN) & 0x0F, len(STAND_IN) >> 4]) + zlib.compress(STAND_IN)
    header = b"PACK" + struct.pack(">II", 2, len(ids))
    data = _closed(header + entry * len(ids), object_format)
    trailer = data[-hashlib.new(object_format).digest_size :]
    index = b"".join(
        (
            b"\xfftOc" + struct.pack(">I", 2),
            _fan_out(ids),
            *ids,
            struct.pack(">I", zlib.crc32(entry)) * len(ids),
            *(struct.pack(">I", len(header) + number * len(entry)) for number in range(len(ids))),
            trailer,
        )
    )
    name = f"pack-{trailer.hex()}"
    # In this order: git looks for packs by their indexes.
    return {f"{name}.pack": data, f"{name}.idx": _closed(index, object_format)}


def _fan_out(ids: Iterable[bytes]) -> bytes:
    """For each first byte, how many ids start with it or a smaller one."""
    starts = [0] * 256
    for id in ids:
        starts[id[0]] += 1
    return struct.pack(">256I", *accumulate(starts))


def _closed(data: bytes, object_format: str) -> bytes:
    return data + hashlib.new(object_format, data).digest()
