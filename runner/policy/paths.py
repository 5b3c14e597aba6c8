"""Path patterns of rules, with the meaning they have in a .gitignore (https://git-scm.com/docs/gitignore#_pattern_format).

`src/**` and `/src/**` start at the repository, `*.py` matches at any depth, `//etc/**` starts at the root, `~/x` at the
home of the job's user. A pattern that matches a folder covers all that is in it. Upper and lower case differ.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass

from runner.policy.sequence import Test, matches

REPO = "/workspace/repo"
HOME = "/workspace/home"

_ANY_NAME = "\0" * 64
"""A name that only a pattern for all names matches; no file can have it."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    segments: tuple[Test[str], ...]
    """For each name from the root; None stands for `**`."""
    only_folders: bool
    """Written with a slash at the end: what is in such a folder, not a file of that name."""

    def covers(self, path: str) -> bool:
        """Whether the path, or a folder it lies in, matches. The path is absolute; `.` and `..` are taken out first."""
        names = split(path)
        last = len(names) - 1 if self.only_folders else len(names)
        return any(matches(self.segments, names[:length]) for length in range(1, last + 1))

    def covers_all_in(self, folder: str) -> bool:
        """Whether everything in a folder matches, whatever its name."""
        return self.covers(posixpath.join(folder, _ANY_NAME))


def split(path: str) -> tuple[str, ...]:
    """The names of an absolute path (a relative one starts at the repository)."""
    normal = posixpath.normpath("/" + posixpath.join(REPO, path).lstrip("/"))
    return tuple(name for name in normal.split("/") if name)


def parse_path(text: str) -> PathPattern:
    """Raises ValueError for what could never match, or would not mean what it seems to."""
    if unfit := next((char for char in text if not char.isprintable()), None):
        raise ValueError(f"character U+{ord(unfit):04X} is not allowed in a pattern")
    if text.startswith("!"):
        raise ValueError("'!' is not allowed in a pattern; write the opposite under deny or allow")
    if re.search(r"(?<!\\)[{}]", text):
        raise ValueError(
            "braces have no meaning in a path pattern; write one rule for each, or a backslash before them"
        )
    root, rest = _anchor(text)
    names = rest.removesuffix("/").split("/")
    if not names[0] or any(name in ("", ".", "..") for name in names):
        raise ValueError("a path pattern has no empty parts, '.' or '..'")
    if names[-1] == "**":
        names.append("*")  # `a/**` is what is in a, not a itself
    return PathPattern((*map(_segment, split(root)), *map(_segment, names)), rest.endswith("/"))


def _anchor(text: str) -> tuple[str, str]:
    """The folder that a pattern starts at, and the rest of it."""
    for prefix, root in (("//", "/"), ("~/", HOME), ("./", REPO), ("/", REPO)):
        if text.startswith(prefix):
            return root, text[len(prefix) :]
    return REPO, text if "/" in text.rstrip("/") else f"**/{text}"


def _segment(text: str) -> Test[str]:
    return None if text == "**" else re.compile(fnmatch.translate(_plain_glob(text))).match


def _plain_glob(text: str) -> str:
    """One name's pattern in fnmatch's words, which knows neither `\\*` nor `[^a]`. Raises ValueError."""
    out, rest = "", text
    while rest:
        if rest[0] == "\\":
            if len(rest) == 1:
                raise ValueError("a backslash stands before the character that it makes plain")
            out, rest = out + (f"[{rest[1]}]" if rest[1] in "*?[" else rest[1]), rest[2:]
        elif rest[0] == "[":
            found = re.match(r"\[([!^]?)(\]?[^\]\\]*)\]", rest)
            if not found:
                raise ValueError("'[' has no ']', or a backslash in between")
            if any(low > high for low, high in re.findall("(.)-(.)", found[2], re.DOTALL)):
                raise ValueError(f"the range in {found[0]} runs backwards")
            out, rest = out + f"[{found[1] and '!'}{found[2]}]", rest[found.end() :]
        else:
            out, rest = out + rest[0], rest[1:]
    return out
