"""Policy files: reading one, with all that it extends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from runner.config import Loaded, validate
from runner.document.merge import merge
from runner.document.source import read
from runner.document.tree import Document
from runner.document.words import KeyPath, key_text, near, shown
from runner.errors import ConfigError
from runner.policy.schema import Policy
from runner.shipped import shipped

DEEPEST = 8
"""Files that extend one another in a row."""


def load_policy(path: Path) -> Loaded[Policy]:
    """The policy in a file, merged with those that it extends. Raises ConfigError.

    Each rule knows the file and line that it stands on; the hash is of the file, or of all files when it extends some.
    """
    return policy_of(read(path), path)


def policy_of(document: Document, path: Path) -> Loaded[Policy]:
    """As `load_policy`, for a document that was read already."""
    files: dict[Path, Document] = {}
    _gather(document, path, files, above=())
    *bases, (_, own) = files.items()
    if not bases:
        return validate(own, Policy, path=path)
    below = _merged_bases([_to_extend(file, place) for place, file in bases], path)
    together = hashlib.sha256("".join(file.sha256 for file in files.values()).encode()).hexdigest()
    loaded = validate(replace(_merge(below, own), sha256=together), Policy, path=path)
    return replace(loaded, bases=tuple(files)[:-1])


def preset(name: str) -> Path | None:
    """The policy of this name that comes with claw-runner."""
    return _presets().get(name)


def no_such_preset(name: str) -> str:
    """What to say of a name that is none, with those that there are."""
    names = sorted(_presets())
    meant = near(name, names)
    hint = f"did you mean {meant!r}?" if meant else f"those that come with claw-runner are {', '.join(names)}"
    return f"no policy of that name; {hint}"


def _presets() -> dict[str, Path]:
    return {file.stem: file for file in shipped("policies").glob("*.yaml")}


# --- Extending ---


def _gather(document: Document, path: Path, files: dict[Path, Document], above: tuple[Path, ...]) -> None:
    """Put the document behind all that it extends; each file counts once, at its first place."""
    here = path.resolve()
    for name, key in _extended(document):
        place = f"{document.where(key)}: {key_text(key)}"
        base = _base(name, path, place)
        if base.resolve() in (*above, here):
            chain = " extends ".join(shown(file.name) for file in (*above, here, base))
            raise ConfigError(f"{place}: policies cannot extend one another: {chain}")
        if len(above) + 2 > DEEPEST:
            raise ConfigError(f"{place}: more than {DEEPEST} policies extend one another in a row")
        if base.resolve() in files:
            continue
        try:
            found = read(base)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        _gather(found, base, files, (*above, here))
    files[here] = document


def _extended(document: Document) -> Iterator[tuple[str, KeyPath]]:
    """What the document says it extends; what is not text is left to validation."""
    given = document.tree.get("extends") if isinstance(document.tree, dict) else None
    if isinstance(given, str):
        yield given, ("extends",)
    elif isinstance(given, list):
        yield from ((name, ("extends", index)) for index, name in enumerate(given) if isinstance(name, str))


def _base(name: str, path: Path, place: str) -> Path:
    if "/" in name or Path(name).suffix:
        return path.parent / name
    if found := preset(name):
        return found
    raise ConfigError(f"{place}: {shown(name)}: there is {no_such_preset(name)}; a file is written as ./{name}")


def _to_extend(document: Document, path: Path) -> Document:
    """Without the examples of a policy that comes with claw-runner: they say what it does by itself. Those of other
    files are promises that whatever extends them keeps."""
    if not isinstance(document.tree, dict) or path.parent != shipped("policies").resolve():
        return document
    return replace(document, tree={key: value for key, value in document.tree.items() if key != "tests"})


def _merged_bases(bases: list[Document], path: Path) -> Document:
    """All of them as one. Each must be right by itself, but for the mode, which any file may give."""

    def on_top(below: Document, base: Document) -> Document:
        merged = _merge(below, base)
        tree = {"mode": "whitelist", **merged.tree} if isinstance(merged.tree, dict) else merged.tree
        validate(replace(merged, tree=tree), Policy, path=path)
        return merged

    return reduce(on_top, bases, Document(source=str(path), tree={}))


def _merge(below: Document, own: Document) -> Document:
    """`extends` itself is not inherited; `egress` may be one list here and a mapping there."""
    without = {key: value for key, value in below.tree.items() if key != "extends"}
    below = replace(below, tree=without)
    kinds = {type(_egress(document)) for document in (below, own)}
    if kinds == {list, dict}:
        below, own = _with_mapping(below), _with_mapping(own)
    return merge(below, own)


def _egress(document: Document) -> Any:
    return document.tree.get("egress") if isinstance(document.tree, dict) else None


def _with_mapping(document: Document) -> Document:
    """With `egress: […]` written out as the two lists that it stands for."""
    given = _egress(document)
    if not isinstance(given, list):
        return document
    values, written = dict(document.values), dict(document.written)
    for phase in ("setup", "agent"):
        values["egress", phase] = document.mark(("egress",))
        for index in range(len(given)):
            place = ("egress", phase, index)
            values[place], written[place] = document.mark(("egress", index)), ("egress", index)
    tree = document.tree | {"egress": {"setup": given, "agent": given}}
    return replace(document, tree=tree, values=values, written=written)
