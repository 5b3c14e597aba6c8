"""Path patterns of rules, with the meaning they have in a .gitignore (https://git-scm.com/docs/gitignore#_pattern_format).

`src/**` and `/src/**` start at the repository, `*.py` matches at any depth, `//etc/**` starts at the root, `~/x` at the
home of the job's user. A pattern that matches a folder covers all that is in it. Upper and lower case differ.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

REPO = "/workspace/repo"
HOME = "/workspace/home"

_ANY_NAME = "\0" * 64
"""A name that only a pattern for all names matches; no file can have it."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    names: tuple[str, ...]
    """The pattern as written, name by name from the root; `**` stands for any number of folders."""
    only_folders: bool
    """Written with a slash at the end: what is in such a folder, not a file of that name."""
    covered: re.Pattern[str]
    """Fits, from the start, every normal path that the pattern covers."""

    def covers(self, path: str) -> bool:
        """Whether the path, or a folder it lies in, matches. `.` and `..` are taken out first."""
        return self.covered.match(normal(path)) is not None

    def covers_all_in(self, folder: str) -> bool:
        """Whether everything in a folder matches, whatever its name."""
        return self.covered.match(f"{normal(folder)}/{_ANY_NAME}") is not None


@lru_cache(maxsize=1024)  # a path is held against many rules in a row
def normal(path: str) -> str:
    """The absolute path without `.`, `..` and needless slashes; "" for the root. A relative one starts at REPO."""
    found = posixpath.normpath("/" + posixpath.join(REPO, path).lstrip("/"))
    return "" if found == "/" else found


def split(path: str) -> tuple[str, ...]:
    """The names of a path, from the root."""
    return tuple(normal(path).split("/")[1:])


def parse_path(text: str) -> PathPattern:
    """Raises ValueError for what could never match, or would not mean what it seems to."""
    _check(text)
    root, rest = _anchor(text)
    names = rest.removesuffix("/").split("/")
    if not names[0] or any(name in ("", ".", "..") for name in names):
        raise ValueError("a path pattern has no empty parts, '.' or '..'")
    if names[-1] == "**":
        names.append("*")  # `a/**` is what is in a, not a itself
    # The root is plain text, whatever characters it has.
    body = "".join(map(re.escape, ("/" + name for name in split(root)))) + _expression(names)
    end = "/." if rest.endswith("/") else ""
    return PathPattern((*split(root), *names), rest.endswith("/"), re.compile(body + end, re.DOTALL))


def plain_path(path: str) -> str | None:
    """The pattern for this path and all that is in it, as one would write it; None when it cannot be written."""
    whole = normal(path)
    if not whole.isprintable():
        return None
    root, anchor = next((root, anchor) for root, anchor in _ROOTS if f"{whole}/".startswith(f"{root}/"))
    rest = re.sub(r"([\\*?\[{}])", r"\\\1", whole[len(root) + 1 :])
    if root == REPO and (not rest or ("/" in rest and rest[0] not in "!~$")):
        anchor = ""
    return anchor + (rest or "**")


_ROOTS = ((REPO, "/"), (HOME, "~/"), ("", "//"))


def _check(text: str) -> None:
    if unfit := next((char for char in text if not char.isprintable()), None):
        raise ValueError(f"character U+{ord(unfit):04X} is not allowed in a pattern")
    if text.startswith("!"):
        raise ValueError("'!' is not allowed in a pattern; write the opposite under deny or allow")
    if found := re.match(r"(~[a-z_][\w-]*|\$[A-Z_]+|\$\{\w+\})(/|\Z)", text, re.ASCII):
        raise ValueError(f"{found[1]} is not replaced by anything; write ~/ for the home, // for the root")
    if re.search(r"(?<!\\)[{}]", text):
        raise ValueError(
            "braces have no meaning in a path pattern; write one rule for each, or a backslash before them"
        )


def _anchor(text: str) -> tuple[str, str]:
    """The folder that a pattern starts at, and the rest of it."""
    for prefix, root in (("//", "/"), ("~/", HOME), ("./", REPO), ("/", REPO)):
        if text.startswith(prefix):
            return root, text[len(prefix) :]
    return REPO, text if "/" in text.rstrip("/") else f"**/{text}"


# --- As one regular expression over a normal path ---
#
# What a `*` or `**` takes is settled, from left to right, as soon as what stands behind it fits: (?>…) never goes back.
# Taking less leaves more for the rest, so nothing is missed, and no path takes long.


def _expression(names: list[str]) -> str:
    """Fits the beginning of a path up to the end of a name, where the names match."""
    out, folders = "", False
    for is_folders, group in groupby(names, key=lambda name: name == "**"):
        if is_folders:
            folders = True
            continue
        rest = "".join(map(_name, group))
        out += f"(?>(?:/[^/]++)*?{rest})" if folders else rest
    return out


def _name(text: str) -> str:
    """One name's pattern, with the slash before it and up to the name's end. Raises ValueError."""
    first, *others = _pieces(text)
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece)
    last = f"[^/]*{others[-1]}" if others else ""
    return f"(?>/{first}{middle}{last}(?=/|\\Z))"


def _pieces(text: str) -> list[str]:
    """What stands between the stars. Raises ValueError."""
    pieces, rest = [""], text
    while rest:
        match rest[0]:
            case "*":
                pieces.append("")
                length = 1
            case "?":
                pieces[-1] += "[^/]"
                length = 1
            case "\\":
                if len(rest) == 1:
                    raise ValueError("a backslash stands before the character that it makes plain")
                pieces[-1] += re.escape(rest[1])
                length = 2
            case "[":
                characters, length = _characters(rest)
                pieces[-1] += characters
            case char:
                pieces[-1] += re.escape(char)
                length = 1
        rest = rest[length:]
    return pieces


def _characters(text: str) -> tuple[str, int]:
    """The expression for the `[…]` that a text begins with, and its length. Raises ValueError."""
    found = re.match(r"\[([!^]?)(\]?[^\]\\]*)\]", text)
    if not found:
        raise ValueError("'[' has no ']', or a backslash in between")
    inner, out = found[2], ""
    if "[:" in inner:
        raise ValueError("classes such as [:alpha:] are not known here; write [A-Za-z]")
    while inner:
        end = 3 if len(inner) > 2 and inner[1] == "-" else 1
        if inner[0] > inner[end - 1]:
            raise ValueError(f"the range in {found[0]} runs backwards")
        out += "-".join(re.escape(char) for char in dict.fromkeys((inner[0], inner[end - 1])))
        inner = inner[end:]
    return f"(?!/)[{'^' if found[1] else ''}{out}]", found.end()
