"""`claw-runner check`: are these files right, and what would run?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from runner.cli.inputs import policy_file
from runner.config import Loaded, validate
from runner.document.source import read
from runner.document.tree import Document
from runner.errors import ConfigError
from runner.policy import Policy, can_ever_allow, show_size
from runner.policy.contain import containment
from runner.policy.findings import findings
from runner.policy.loading import policy_of
from runner.report.visible import visible_json
from runner.task import Task, Texts, only_in_batches, preview
from runner.tools import TOOLS

JOB_ID = "JOB"
"""Stands in rendered templates for the id that a job gets when it starts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What is to be said about one file."""

    file: str
    kind: str
    errors: tuple[str, ...] = ()
    task: Loaded[Task] | None = None
    texts: Texts | None = None
    policy: Loaded[Policy] | None = None


def check(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Task and policy files; which is which is found out.")
    ],
    policy: Annotated[str | None, typer.Option(metavar="POLICY", help="Show tasks under this policy.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> int:
    """Validate task and policy files and show the resolved job; runs nothing.

    Every mistake in every file is reported. Keys of the task can be replaced as in run: --limits.turns 5
    """
    given = _policy(policy) if policy else None
    checked = [_check(path, given, ctx.obj or {}) for path in files]
    if given and not given.policy:
        checked.insert(0, given)
    if json_output:
        typer.echo(visible_json([_as_json(item) for item in checked]))
        return 2 if any(item.errors for item in checked) else 0
    for item in checked:
        if not item.errors:
            typer.echo(_as_text(item))
    if errors := [error for item in checked for error in item.errors]:
        raise ConfigError("\n".join(errors))
    return 0


def _policy(name: str) -> Checked:
    try:
        path = policy_file(name)
    except ConfigError as error:
        return Checked(file=name, kind="policy", errors=(str(error),))
    return _check(path, None, {}, kind="policy")


def _check(path: Path, policy: Checked | None, overrides: Mapping[str, str], *, kind: str = "") -> Checked:
    kind = kind or "file"
    try:
        document = read(path)
        kind = kind if kind != "file" else _kind(document)
        if kind == "policy":
            return Checked(file=str(path), kind=kind, policy=policy_of(document, path))
        task = validate(document, Task, path=path, overrides=overrides)
        return Checked(
            file=str(path), kind=kind, task=task, texts=preview(task, JOB_ID), policy=policy.policy if policy else None
        )
    except ConfigError as error:
        return Checked(file=str(path), kind=kind, errors=tuple(str(error).splitlines()))


def _kind(document: Document) -> str:
    """Task or policy, by the keys that only one of them has. Raises ConfigError when that does not tell."""
    keys = set(document.tree) if isinstance(document.tree, dict) else set()
    as_task = len(keys & (set(Task.model_fields) - set(Policy.model_fields)))
    as_policy = len(keys & (set(Policy.model_fields) - set(Task.model_fields)))
    if as_task == as_policy:
        raise ConfigError(
            f"{document.source}:1:1: is neither a task (name, prompt, …) nor a policy (mode, allow, …); "
            "claw-runner init writes one of each"
        )
    return "task" if as_task > as_policy else "policy"


# --- JSON ---


def _as_json(item: Checked) -> dict[str, Any]:
    shown: dict[str, Any] = {"file": item.file, "kind": item.kind, "valid": not item.errors, "errors": item.errors}
    if item.task and item.texts:
        shown["task"] = item.task.value.model_dump(mode="json")
        shown["texts"] = item.texts._asdict()
        shown["sha256"] = item.task.sha256
    if item.policy:
        shown["policy"] = item.policy.value.model_dump(mode="json")
        shown["tools"] = _tools(item.policy.value)
    if not item.errors:
        shown["warnings"] = _warnings(item)
    return shown


# --- Text ---


def _as_text(item: Checked) -> str:
    rows = [*_task_rows(item), *(_policy_rows(item.policy) if item.policy else [])]
    rows += [("warning", warning) for warning in _warnings(item)]
    lines = [f"{item.file}: a valid {item.kind}", *(f"  {name:<9} {text}" for name, text in rows)]
    if item.texts:
        lines += ["  prompt", *(f"    | {line}" for line in item.texts.prompt.rstrip("\n").split("\n"))]
    return "\n".join(lines)


def _task_rows(item: Checked) -> list[tuple[str, str]]:
    if item.task is None or item.texts is None:
        return []
    task = item.task.value
    checks = task.checks
    rows = [
        ("name", task.name),
        ("repo", f"{task.repo.url} at {task.repo.base}"),
        ("image", task.image),
        *(("setup", command) for command in task.setup),
        ("model", task.model),
        *(("check", command) for command in checks.run),
        ("protect", ", ".join(checks.protect)),
        ("repair", f"{checks.repair_rounds} time{'s'[: checks.repair_rounds - 1]}" if checks.repair_rounds else ""),
        ("limits", _limits(task)),
        ("branch", item.texts.branch),
        ("message", item.texts.commit_message.split("\n", 1)[0]),
    ]
    return [(name, text) for name, text in rows if text]


def _limits(task: Task) -> str:
    limits = task.limits
    parts = [f"{limits.turns} turns", f"{limits.seconds:g} s"]
    parts += [f"${limits.cost_usd:g}"] if limits.cost_usd is not None else ["no cost limit"]
    parts += [f"{limits.output_tokens} output tokens"] if limits.output_tokens is not None else []
    return ", ".join(parts)


def _policy_rows(policy: Loaded[Policy]) -> list[tuple[str, str]]:
    value = policy.value
    box = value.container
    sizes = f"memory {show_size(box.memory)}, disk {show_size(box.disk)}, tmp {show_size(box.tmp)}"
    rows = [
        ("policy", f"{policy.path}: {value.mode}, {_counts(value)}"),
        ("tools", ", ".join(_tools(value)) or "none"),
        ("container", f"{sizes}, {box.cpus:g} CPUs, {box.pids} processes"),
        ("may lack", ", ".join(box.best_effort)),
    ]
    return [(name, text) for name, text in rows if text]


def _counts(policy: Policy) -> str:
    asked = f", {len(policy.ask)} ask" if policy.ask else ""
    return f"{len(policy.allow)} rules allow{asked}, {len(policy.deny)} deny"


def _tools(policy: Policy) -> list[str]:
    return [tool for tool in TOOLS if can_ever_allow(policy, tool)]


def _warnings(item: Checked) -> list[str]:
    """What is allowed, but probably not meant."""
    found = list(findings(item.policy.value)) if item.policy else []
    if item.task and (names := only_in_batches(item.task)):
        found.append(f"only claw-runner batch can run it: it speaks of {', '.join(names)}, shown by an example here")
    if item.policy and item.task and item.task.value.expect_change and not _may_change(item.policy.value):
        found.append("the task expects a change, but the policy allows none; say expect_change: false for a review")
    return found


def _may_change(policy: Policy) -> bool:
    by_commands = can_ever_allow(policy, "Bash") and containment(policy).writable
    return bool(by_commands) or any(can_ever_allow(policy, tool) for tool in ("Edit", "Write"))
