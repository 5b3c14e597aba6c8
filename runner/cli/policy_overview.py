"""What a policy amounts to, on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from runner.cli.rows import Row, rows_text
from runner.config import Loaded
from runner.policy import TOOLS as NAMED
from runner.policy import Policy, Rule, can_ever_allow, show_size
from runner.policy.contain import containment
from runner.policy.findings import findings
from runner.policy.schema import Egress, Mode
from runner.policy.verdicts import about
from runner.report.units import plural
from runner.report.visible import one_line
from runner.tools import TOOLS

MOST_PATTERNS = 12
"""Of each kind are listed; the file has them all."""

_MODES: dict[Mode, str] = {
    "whitelist": "whitelist: only what a rule allows",
    "blacklist": "blacklist: all but what a rule denies",
    "interactive": "interactive: a person is asked about what no rule names",
}


def overview(policy: Loaded[Policy]) -> str:
    """For people; lines of at most 80 columns as far as names allow it."""
    value = policy.value
    parts = [
        rows_text(_head_rows(value)),
        rows_text(_tool_rows(value)),
        rows_text([*_net_rows(value), *_gate_rows(value), *_container_rows(value)]),
        rows_text([*(("warning", text) for text in findings(value)), *(("note", text) for text in notes(value))]),
    ]
    return "\n\n".join([f"{one_line(str(policy.path))}: a valid policy", *(part for part in parts if part)])


def overview_json(policy: Loaded[Policy]) -> dict[str, Any]:
    """The same for programs, with the whole policy."""
    value = policy.value
    return {
        "valid": True,
        "errors": [],
        "warnings": list(findings(value)),
        "notes": list(notes(value)),
        "sha256": policy.sha256,
        "bases": [str(path) for path in policy.bases],
        "offered": [tool for tool in TOOLS if can_ever_allow(value, tool)],
        "uncontained": [asdict(gap) for gap in containment(value).uncontained],
        "policy": value.model_dump(mode="json"),
    }


def notes(policy: Policy) -> Iterator[str]:
    """What is right, and has no effect in this version."""
    for rule in (*policy.allow, *policy.ask, *policy.deny):
        if not any(tool in TOOLS for tool in rule.tools):
            yield f"{rule} ({rule.where}): this version of claw-runner offers no such tool"


def _head_rows(policy: Policy) -> Iterator[Row]:
    yield "mode", _MODES[policy.mode]
    if policy.extends:
        yield "extends", ", ".join(policy.extends)
    counts = f"{len(policy.allow)} allow, {len(policy.ask)} ask, {len(policy.deny)} deny"
    yield "rules", f"{counts}; {plural(len(policy.tests), 'example')}"
    if policy.ask or policy.mode == "interactive":
        clock = "the clock of the job stops meanwhile" if policy.approval_pauses_clock else "the clock goes on"
        yield "asking", f"{policy.approval_timeout:g} s to answer, then it is denied; {clock}"


# --- Tools ---


def _tool_rows(policy: Policy) -> Iterator[Row]:
    """What each tool may do, those of which the same is said together."""
    named = {rule.tool for rule in (*policy.allow, *policy.ask, *policy.deny) if rule.tool.startswith("mcp__")}
    tools = [tool for tool in NAMED if tool in TOOLS or any(_rules(policy, tool))]
    said: dict[tuple[str, ...], list[str]] = {}
    for tool in (*tools, *sorted(named)):
        said.setdefault(tuple(_said(policy, tool)), []).append(tool)
    for lines, together in said.items():
        yield from zip_longest(_labels(together), lines, fillvalue="")


def _labels(tools: list[str]) -> list[str]:
    """Names of tools, as many on a line as stand well in a column."""
    if tools[:3] == ["Bash", "BashOutput", "KillBash"]:
        tools = ["Bash", *tools[3:]]  # they are about what Bash started, and nobody asks
    lines: list[str] = []
    for tool in tools:
        if lines and len(lines[-1]) + len(tool) < 14:
            lines[-1] += f", {tool}"
        else:
            lines.append(tool)
    return lines


def _rules(policy: Policy, tool: str) -> Iterator[list[Rule]]:
    for rules in (policy.allow, policy.ask, policy.deny):
        if found := about(rules, tool):
            yield found


def _said(policy: Policy, tool: str) -> Iterator[str]:
    allow, ask, deny = (about(rules, tool) for rules in (policy.allow, policy.ask, policy.deny))
    if whole := next((rule for rule in deny if rule.pattern is None), None):
        yield f"never: {whole} denies it"
        return
    anything = policy.mode == "blacklist" or any(rule.pattern is None for rule in allow)
    if policy.mode == "whitelist" and not allow and not ask:
        yield "never: no rule allows it"
        return
    if anything:
        yield "anything"
    elif allow:
        yield f"allowed: {_patterns(allow)}"
    if ask or policy.mode == "interactive":
        rest = ["all else"] if policy.mode == "interactive" and not anything else []
        yield f"asked: {', '.join([*([_patterns(ask)] if ask else []), *rest])}"
    if deny:
        yield f"denied: {_patterns(deny)}"


def _patterns(rules: Iterable[Rule]) -> str:
    """What stands in the parentheses, as written."""
    texts = list(dict.fromkeys(rule.text.partition("(")[2].removesuffix(")") or "any use" for rule in rules))
    more = [f"and {len(texts) - MOST_PATTERNS} more"] if len(texts) > MOST_PATTERNS else []
    return ", ".join([*texts[:MOST_PATTERNS], *more])


# --- The rest ---


def _net_rows(policy: Policy) -> Iterator[Row]:
    egress = policy.egress
    if egress.setup or egress.agent or egress.checks:
        yield "egress", f"while setting up: {_domains(egress.setup)}"
        yield "", f"for the agent's commands: {_domains(egress.agent)}"
        yield "", f"for the checks: {_domains(egress.checks)}"
        yield "", _bounds(egress)
    else:
        yield "egress", "none: commands reach nothing outside the container"
    yield "secrets", ", ".join(policy.secrets) or "none: commands see no variable of the host"


def _domains(rules: Iterable[object]) -> str:
    return ", ".join(map(str, rules)) or "nothing"


def _bounds(egress: Egress) -> str:
    trusted = "; they trust the certificate authorities of this machine" if egress.ca == "host" else ""
    return f"at most {show_size(egress.bytes)} in all, {egress.seconds:g} s a connection{trusted}"


def _gate_rows(policy: Policy) -> Iterator[Row]:
    gate = policy.gate
    refused = [
        *([] if gate.binaries else ["binary files"]),
        *([] if gate.lockfiles else ["lock files"]),
        *(["what looks like a secret"] if gate.secret_scan else []),
    ]
    yield "gate", f"at most {plural(gate.files, 'file')} and {show_size(gate.bytes)} of changes; protected paths"
    if refused:
        yield "", f"refused: {', '.join(refused)}"
    if gate.protect:
        yield "", f"also protected: {', '.join(gate.protect)}"
    if gate.allow:
        yield "", f"not protected: {', '.join(gate.allow)}"


def _container_rows(policy: Policy) -> Iterator[Row]:
    box = policy.container
    sizes = f"memory {show_size(box.memory)}, disk {show_size(box.disk)}, tmp {show_size(box.tmp)}"
    yield "container", f"{sizes}, {box.cpus:g} CPUs, {box.pids} processes"
    if box.best_effort:
        yield "", f"may lack: {', '.join(box.best_effort)}"
    if can_ever_allow(policy, "Bash"):
        yield "commands", f"may write to {_places(containment(policy).writable)}"
        if gaps := containment(policy).uncontained:
            rules = f"{plural(len(gaps), 'rule')} {'is' if len(gaps) == 1 else 'are'}"
            yield "", f"{rules} decided but not contained (policy explain lists them)"


def _places(writable: tuple[str, ...]) -> str:
    if writable == (".",):
        return "all of the repository"
    return ", ".join(writable) or "nothing in the repository"
