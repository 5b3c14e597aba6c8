"""A policy file: what is allowed, and what the container may have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from runner.config import FileModel, Form
from runner.document.words import KeyPath, shown
from runner.policy.calls import parse_call
from runner.policy.domains import DomainPattern, parse_domain
from runner.policy.paths import parse_path
from runner.policy.rules import Rule, parse_rule

Mode = Literal["whitelist", "blacklist", "interactive"]

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
    "landlock",
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


def _egress_rule(value: object) -> DomainPattern:
    if isinstance(value, DomainPattern):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a domain in text, such as example.org (got {shown(value)})")
    return parse_domain(value, addresses=True)


EgressRule = Annotated[
    DomainPattern,
    PlainValidator(_egress_rule),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["example.org", "*.example.org", "example.org:8443", "10.0.0.0/8"]}),
]


def _path_pattern(text: str) -> str:
    parse_path(text)
    return text


PathText = Annotated[str, AfterValidator(_path_pattern)]


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
    workspace: Literal["auto", "memory", "layer"] = "auto"
    """Where /workspace lies. `memory`: on a mount of its own, whose bounds the kernel holds, filled for each job.
    `layer`: in the container's layer, which starts filled from a snapshot; disk and inodes are then watched.
    `auto`: `layer` where that saves time (docs/snapshots.md)."""
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
        if self.workspace == "layer" and not self.read_only:
            raise ValueError("workspace: layer needs read_only: true, for a snapshot has nothing but /workspace")
        return self


class Egress(FileModel):
    """Which domains commands may reach, and how much. Without it there is no way out of the container at all.

    `example.org`, `*.example.org`, `example.org:8443`, an address or a network (`10.0.0.0/8`). A plain list is for
    setup and agent.
    """

    setup: tuple[EgressRule, ...] = Field(default=(), strict=False)
    """While the task's setup commands run, before the agent starts and before the checks."""
    agent: tuple[EgressRule, ...] = Field(default=(), strict=False)
    """While the agent works."""
    checks: tuple[EgressRule, ...] = Field(default=(), strict=False)
    """While the checks run."""
    bytes: Annotated[int, *_size(MIB, 4 * TIB)] = 2 * GIB
    """Of the whole job, both directions."""
    seconds: float = Field(default=600, gt=0, le=86_400)
    """For each connection."""
    ca: Literal["image", "host"] = "image"
    """Which certificate authorities commands trust: those of the image, or those of the runner's machine, for networks
    where a proxy opens TLS."""


class _ListOrMapping:
    """For Annotated: Egress, which may also be written as one list for setup and agent."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        both = handler.generate_schema(Annotated[tuple[EgressRule, ...], Field(strict=False)])
        return core_schema.tagged_union_schema(
            {
                "mapping": handler(source),
                "list": core_schema.no_info_after_validator_function(_for_both, both),
            },
            discriminator=lambda value: "mapping" if isinstance(value, dict | Egress) else "list",
        )


def _for_both(rules: tuple[DomainPattern, ...]) -> Egress:
    return Egress(setup=rules, agent=rules)


class Gate(FileModel):
    """What a diff must keep to before it becomes a branch. The path rules hold for it as well."""

    protect: tuple[PathText, ...] = Field(default=(), strict=False)
    """Path patterns that must not change, besides those that are always protected (docs/policies.md)."""
    allow: tuple[PathText, ...] = Field(default=(), strict=False)
    """Path patterns that may change although they are always protected, such as `.gitignore`."""
    lockfiles: bool = True
    """Lock files of package managers may change."""
    files: int = Field(default=1000, ge=1)
    """Files that may change."""
    bytes: Annotated[int, *_size(1, 4 * TIB)] = 16 * MIB
    """New content, over all files."""
    binaries: bool = True
    """Binary files may be added or changed."""
    secret_scan: bool = True
    """Refuse added lines that look like a key or a password."""


def _call_text(text: str) -> str:
    parse_call(text)
    return text


class PolicyCase(FileModel):
    """One example that the policy must decide in this way: `claw-runner policy test`."""

    call: Annotated[str, AfterValidator(_call_text)]
    """A call, as `Bash(git push origin main)` or `Edit(src/a.py)`."""
    expect: Literal["allow", "ask", "deny"]
    """What must be decided."""


def _in_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_TEXT: dict[str, Any] = {"type": "string"}
_ONE_OR_MORE: Any = (BeforeValidator(_in_a_list), WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}))


VariableName = Annotated[str, Form(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")]


def _mode_may_be_inherited(schema: dict[str, Any]) -> None:
    schema["required"] = ["version"]
    schema["anyOf"] = [{"required": ["mode"]}, {"required": ["extends"]}]


class Policy(FileModel):
    """What is allowed. deny beats ask beats allow beats the mode."""

    model_config = ConfigDict(json_schema_extra=_mode_may_be_inherited)

    version: Literal[1]
    """Version of this format."""
    extends: Annotated[tuple[str, ...], *_ONE_OR_MORE] = Field(default=(), strict=False)
    """Policies that this one adds to: names of those that come with claw-runner (`edit`), or paths as seen from this
    file. Lists are added, sections merged key by key; of everything else, what this file says counts."""
    mode: Mode
    """Required, unless a policy of `extends` has it. `whitelist`: only what `allow` names. `blacklist`: all but what
    `deny` names; that is a convenience against accidents, not a boundary, for there are many ways to write a command.
    `interactive`: a person is asked about what neither `allow` nor `deny` names."""
    allow: tuple[RuleText, ...] = Field(default=(), strict=False)
    """Rules for what is allowed: `Tool`, or `Tool(pattern)`."""
    ask: tuple[RuleText, ...] = Field(default=(), strict=False)
    """Rules for what a person is asked about, although a rule or the mode allows it."""
    deny: tuple[RuleText, ...] = Field(default=(), strict=False)
    """Rules for what is denied, whatever else allows it."""
    approval_timeout: float = Field(default=600, gt=0, le=604_800)
    """Seconds that a person has to answer; then it is denied."""
    approval_pauses_clock: bool = True
    """Waiting for a person does not count against limits.seconds."""
    egress: Annotated[Egress, _ListOrMapping()] = Egress()
    """Domains that commands may reach; a plain list is for setup and agent."""
    secrets: tuple[VariableName, ...] = Field(default=(), strict=False)
    """Variables of the host that commands see. Their values are masked in everything that comes out."""
    gate: Gate = Gate()
    """What a diff must keep to before it becomes a branch."""
    container: Container = Container()
    """What the container may have."""
    tests: tuple[PolicyCase, ...] = Field(default=(), strict=False)
    """Examples that `claw-runner policy test` tries."""

    def located(self, where: Callable[[KeyPath], str]) -> Self:
        rules = {key: _located(getattr(self, key), key, where) for key in ("allow", "ask", "deny")}
        return self.model_copy(update=rules)


def _located(rules: tuple[Rule, ...], key: str, where: Callable[[KeyPath], str]) -> tuple[Rule, ...]:
    # Rules know their line, not their column.
    places = (where((key, index)).rpartition(":")[0] for index in range(len(rules)))
    return tuple(replace(rule, where=place) for rule, place in zip(rules, places, strict=True))
