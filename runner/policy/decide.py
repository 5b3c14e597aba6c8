"""Judge one tool call: deny beats ask beats allow beats the mode."""

from __future__ import annotations

from runner.document.words import shown
from runner.policy.commands import decide_command
from runner.policy.files import decide_path
from runner.policy.order import by_mode, by_rules
from runner.policy.rules import ParameterPattern, Rule, canonical_tool
from runner.policy.schema import Policy
from runner.policy.verdicts import Call, Decision, about, allowed_by, asked_by, denied_by, no, yes
from runner.policy.web import decide_fetch


def decide(policy: Policy, call: Call) -> Decision:
    """What the policy says of the call. For a denied one the reason tells the model what would be needed."""
    match call.tool:
        case "Bash":
            return decide_command(policy, call)
        case "BashOutput" | "KillBash":
            return _decide_started(policy, call)
        case "Read" | "Write" | "Edit" | "Glob" | "Grep":
            return decide_path(policy, call)
        case "WebFetch":
            return decide_fetch(policy, call)
        case tool if canonical_tool(tool) == tool:
            return _decide_use(policy, call)
    return no(f"{shown(call.tool)} is not a tool that this policy speaks of")


def can_ever_allow(policy: Policy, tool: str) -> bool:
    """False for a tool whose every call would be denied: it need not be offered to the model."""
    if canonical_tool(tool) != tool or any(rule.pattern is None for rule in about(policy.deny, tool)):
        return False
    by_mode = policy.mode == "interactive" or (policy.mode == "blacklist" and tool != "WebFetch")
    return by_mode or bool(about(policy.allow, tool) or about(policy.ask, tool))


def _decide_started(policy: Policy, call: Call) -> Decision:
    """Whoever may start a command, after asking or not, may read what it prints and stop it."""
    for rule in about(policy.deny, call.tool):
        if rule.pattern is None:
            return denied_by(rule)
    for rule in about(policy.ask, call.tool):
        if rule.tool == call.tool:
            return asked_by(rule)
    if rules := about((*policy.allow, *policy.ask), call.tool):
        return allowed_by(rules[:1])
    if policy.mode == "whitelist":
        return no("the policy allows no commands", call.tool)
    return yes("whoever may start commands may read and stop them")


def _decide_use(policy: Policy, call: Call) -> Decision:
    """Tools without a subject, as Agent and those of MCP servers."""
    decision = by_rules(policy, call.tool, lambda rule: _fits(rule, call))
    return decision or by_mode(policy, call.tool, call.tool, call.tool)


def _fits(rule: Rule, call: Call) -> bool:
    return not isinstance(rule.pattern, ParameterPattern) or rule.pattern.fits(call.parameters)
