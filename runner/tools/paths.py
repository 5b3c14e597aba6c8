"""Paths as the model writes them: made absolute, resolved, judged; and what is said when one is not there."""

from __future__ import annotations

import difflib
import posixpath
import re

from runner.policy import Call
from runner.sandbox.base import REPO
from runner.tools.base import Session

_GLOB_CHARACTERS = re.compile(r"[*?\[\]{}\\]")


def absolute(path: str) -> str:
    """The path from the root, without `.`, `..` or doubled slashes; a relative one starts at the repository."""
    return posixpath.normpath("/" + posixpath.join(REPO, path).lstrip("/"))


def path_calls(tool: str, path: str, session: Session) -> tuple[Call, ...]:
    """The path as given and, when links lead elsewhere, where they lead. Raises OSError."""
    given = absolute(path)
    return tuple(Call(tool=tool, subject=name) for name in dict.fromkeys((given, session.sandbox.resolve(given))))


def missing(tool: str, path: str, session: Session) -> str:
    """That there is no such file, and which ones with a like name the policy lets the model see."""
    names = [name for name in _similar(path, session) if session.permits(Call(tool=tool, subject=name))]
    hint = f" Did you mean: {', '.join(names)}?" if names else ""
    return f"{path} does not exist.{hint}"


def _similar(path: str, session: Session) -> list[str]:
    folder, name = posixpath.split(path)
    siblings = {posixpath.basename(found): found for found in _glob("*", folder, session)}
    near = [siblings[match] for match in difflib.get_close_matches(name, siblings, n=3, cutoff=0.6)]
    elsewhere = () if _GLOB_CHARACTERS.search(name) else _glob(f"**/{name}", str(REPO), session)
    return list(dict.fromkeys((*near, *elsewhere)))[:3]


def _glob(pattern: str, root: str, session: Session) -> tuple[str, ...]:
    try:
        return session.sandbox.glob(pattern, root=root, limit=500)[0]
    except OSError:
        return ()  # a folder that is not there has no names to offer
