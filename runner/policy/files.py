"""Judge what the file tools, and redirections of commands, would read or write."""

from __future__ import annotations

from runner.document.words import shown
from runner.policy.order import by_mode, by_rules
from runner.policy.paths import PathPattern, plain_path
from runner.policy.rules import Rule
from runner.policy.schema import Policy
from runner.policy.verdicts import Call, Decision


def decide_path(policy: Policy, call: Call) -> Decision:
    """Whether a file tool may work on the path that is the call's subject."""
    if decision := by_rules(policy, call.tool, lambda rule: catches(rule, call)):
        return decision
    return by_mode(policy, call.tool, f"{call.tool} of {shown(call.subject)}", _suggestion(call))


def catches(rule: Rule, call: Call) -> bool:
    """Whether a rule speaks of the path of the call, or of all that a search in it could find."""
    if not isinstance(rule.pattern, PathPattern):
        return True
    return rule.pattern.covers(call.subject) or (
        call.tool in ("Glob", "Grep") and rule.pattern.covers_all_in(call.subject)
    )


def _suggestion(call: Call) -> str | None:
    pattern = plain_path(call.subject)
    return pattern and f"{'Edit' if call.tool in ('Edit', 'Write') else 'Read'}({pattern})"
