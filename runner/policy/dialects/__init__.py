"""Settings of other agents, made into policies that allow nothing that the settings would not. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from runner.errors import ConfigError
from runner.policy.dialects import claude, codex, opencode
from runner.policy.dialects.draft import TAKEN, Imported, Note, Taken
from runner.policy.dialects.jsonc import parse

Dialect = Literal["claude", "codex", "opencode"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

__all__ = ["DIALECTS", "TAKEN", "Dialect", "Imported", "Note", "Taken", "convert", "detect"]


def detect(text: str, source: str) -> Dialect:
    """Whose settings these are. Raises ConfigError when that does not show."""
    if re.search(r"^\s*prefix_rule\s*\(", text, re.MULTILINE):
        return "codex"
    tree: Any = parse(text, source).tree if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "/") else None
    keys = set(tree) if isinstance(tree, dict) else set()
    if "permission" in keys or "opencode" in str(tree.get("$schema") if keys else ""):
        return "opencode"
    if keys & set(claude.SECTIONS):
        return "claude"
    raise ConfigError(f"{source}:1:1: it does not show whose settings these are; say --from {', '.join(DIALECTS)}")


def convert(text: str, source: str, dialect: Dialect, *, in_repository: bool = True) -> Imported:
    """The policy, and what became of each setting. `source` names the file in messages.

    `in_repository`: the settings are those of the repository, not of a user. Raises ConfigError.
    """
    match dialect:
        case "claude":
            return claude.convert(text, source, in_repository=in_repository)
        case "codex":
            return codex.convert(text, source)
        case "opencode":
            return opencode.convert(text, source)
