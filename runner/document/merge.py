"""Two documents as one: what a file says, on top of what another one says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runner.document.tree import Document, Mark
from runner.document.words import KeyPath


def merge(base: Document, own: Document) -> Document:
    """Lists are added, base first; mappings are merged key by key; of everything else, what `own` says counts.

    Places and keys in messages stay those of the file that each value comes from.
    """
    moved = {path: _moved(path, base.tree) for path in own.values}
    written = {new: own.written.get(path, path) for path, new in moved.items() if new != path or path in own.written}
    return replace(
        own,
        tree=_merged(base.tree, own.tree),
        keys=base.keys | _at_new_places(own.keys, base.tree),
        values=base.values | {moved[path]: mark for path, mark in own.values.items()},
        problems=[*base.problems, *own.problems],
        refused=base.refused | {_moved(path, base.tree) for path in own.refused},
        written=base.written | written,
    )


def _merged(base: Any, own: Any) -> Any:
    if isinstance(base, list) and isinstance(own, list):
        return [*base, *own]
    if isinstance(base, dict) and isinstance(own, dict):
        return base | {key: _merged(base[key], value) if key in base else value for key, value in own.items()}
    return own


def _moved(path: KeyPath, base: Any) -> KeyPath:
    """Where a place of the second document is after merging: entries of a list come after those that were there."""
    new: KeyPath = ()
    for part in path:
        if isinstance(base, list) and isinstance(part, int):
            return (*new, part + len(base), *path[len(new) + 1 :])
        new = (*new, part)
        base = base.get(part) if isinstance(base, dict) else None
    return new


def _at_new_places(marks: dict[KeyPath, Mark], base: Any) -> dict[KeyPath, Mark]:
    return {_moved(path, base): mark for path, mark in marks.items()}
