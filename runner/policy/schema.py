"""A policy file: what is allowed, and what the container may have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from runner.config import FileModel
from runner.document.words import KeyPath, shown
from runner.policy.rules import Rule, parse_rule

Mode = Literal["whitelist", "blacklist"]

ControlName = Literal[
    "capabilities",
    "first_process",
    "no_new_privileges",
    "seccomp",
    "user",
    "user_namespace",
    "read_only",
    "host_mounts",
    "masked_paths",
    "devices",
    "network",
    "resolv_conf",
    "memory",
    "swap",
    "cpus",
    "pids",
    "disk",
    "inodes",
    "tmp",
    "shared_memory",
    "file_size",
    "open_files",
    "core_dumps",
]
"""The hardening controls of a container (docs/sandbox.md), in the order of the report."""

KIB, MIB, GIB, TIB = (1024**power for power in (1, 2, 3, 4))
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}


def parse_size(value: object) -> int:
    """`2g`, `512m`, `64k` or a number of bytes -> bytes. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"must be a size such as 512m or 2g (got {shown(value)})")
    if isinstance(value, int):
        return value
    found = re.fullmatch(r"(\d{1,15})([kmgt]?)(?:i?b)?", value.strip().lower(), re.ASCII)
    if not found:
        raise ValueError(f"must be a size such as 512m or 2g (got {shown(value)})")
    return int(found[1]) * _UNITS[found[2]]


def show_size(size: int) -> str:
    """Bytes as one would write them: `2g`, `1536m`."""
    unit = next((unit for unit in "tgmk" if size and size % _UNITS[unit] == 0), "")
    return f"{size // _UNITS[unit]}{unit}"


def _between(least: int, most: int) -> Callable[[int], int]:
    def check(size: int) -> int:
        if not least <= size <= most:
            raise ValueError(f"must be between {show_size(least)} and {show_size(most)} (got {show_size(size)})")
        return size

    return check


def _size(least: int, most: int) -> Any:
    """What makes an int a size in bytes within bounds, written with a unit."""
    check = _between(least, most)
    written = [{"type": "integer"}, {"type": "string", "pattern": r"^\d{1,15}[kKmMgGtT]?(i?[bB])?$"}]
    return (BeforeValidator(parse_size), AfterValidator(check), WithJsonSchema({"anyOf": written, "format": "size"}))


def _rule(value: object) -> Rule:
    if isinstance(value, Rule):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a rule in text, such as Bash(git status:*) (got {shown(value)})")
    return parse_rule(value)


RuleText = Annotated[
    Rule,
    PlainValidator(_rule),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["Read(**)", "Edit(src/**)", "Bash(git diff:*)"]}),
]


class Container(FileModel):
    """What the container may have. Sizes: `512m`, `2g`, or a number of bytes."""

    memory: Annotated[int, *_size(64 * MIB, 4 * TIB)] = 2 * GIB
    """Memory of all processes; files on the writable mounts come on top."""
    cpus: float = Field(default=2.0, ge=0.1, le=1024, allow_inf_nan=False)
    """CPUs, as a share of time: 0.5 is half of one. More than the machine has means all of them."""
    pids: int = Field(default=512, ge=16, le=100_000)
    """Processes and threads."""
    disk: Annotated[int, *_size(16 * MIB, 4 * TIB)] = GIB
    """Size of /workspace, where the repository and the home of the job's user lie."""
    inodes: int = Field(default=200_000, ge=1_000, le=100_000_000)
    """Files and folders in /workspace."""
    tmp: Annotated[int, *_size(MIB, TIB)] = 256 * MIB
    """Size of /tmp."""
    file_size: Annotated[int, *_size(MIB, 4 * TIB)] = GIB
    """Size of the largest single file."""
    open_files: int = Field(default=4096, ge=64, le=1_048_576)
    """Open files of each process."""
    read_only: bool = True
    """The image's own files cannot be changed; only /workspace and /tmp can be written."""
    best_effort: tuple[ControlName, ...] = Field(default=(), strict=False)
    """Names of controls that may be missing where the engine or machine cannot apply them; the result then says so.
    Without it such a job does not start. `claw-runner doctor` names the controls that this concerns."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if "file_size" in self.model_fields_set and self.file_size > max(self.disk, self.tmp):
            raise ValueError(
                f"file_size ({show_size(self.file_size)}) is more than disk ({show_size(self.disk)}) "
                f"and tmp ({show_size(self.tmp)}) hold; lower it, or raise disk"
            )
        return self


class Policy(FileModel):
    """What is allowed. deny beats allow beats the mode."""

    version: Literal[1]
    """Version of this format."""
    mode: Mode
    """`whitelist`: only what `allow` names. `blacklist`: all but what `deny` names; that is a convenience against
    accidents, not a boundary, for there are many ways to write a command."""
    allow: tuple[RuleText, ...] = Field(default=(), strict=False)
    """Rules for what is allowed: `Tool`, or `Tool(pattern)`."""
    deny: tuple[RuleText, ...] = Field(default=(), strict=False)
    """Rules for what is denied, whatever else allows it."""
    container: Container = Container()
    """What the container may have."""

    def located(self, where: Callable[[KeyPath], str]) -> Self:
        return self.model_copy(update={key: _located(getattr(self, key), key, where) for key in ("allow", "deny")})


def _located(rules: tuple[Rule, ...], key: str, where: Callable[[KeyPath], str]) -> tuple[Rule, ...]:
    # Rules know their line, not their column.
    places = (where((key, index)).rpartition(":")[0] for index in range(len(rules)))
    return tuple(replace(rule, where=place) for rule, place in zip(rules, places, strict=True))
