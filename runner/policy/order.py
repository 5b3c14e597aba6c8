"""The order in which a policy is asked: deny, ask, allow, and then the mode."""

from __future__ import annotations

from collections.abc import Callable

from runner.policy.rules import Rule
from runner.policy.schema import Policy
from runner.policy.verdicts import Decision, about, allowed_by, ask, asked_by, denied_by, no, some, yes


def by_rules(
    policy: Policy, tool: str, catches: Callable[[Rule], bool], allows: Callable[[Rule], bool] | None = None
) -> Decision | None:
    """What the first rule that speaks of a call says: `catches` tells of a deny or ask rule whether it may speak of it,
    `allows` of an allow rule whether it certainly does (the same unless given). None when no rule does."""
    for rule in about(policy.deny, tool):
        if catches(rule):
            return denied_by(rule)
    for rule in about(policy.ask, tool):
        if catches(rule):
            return asked_by(rule)
    for rule in about(policy.allow, tool):
        if (allows or catches)(rule):
            return allowed_by([rule])
    return None


def by_mode(policy: Policy, tool: str, what: str, suggestion: str | None) -> Decision:
    """What the mode says of a call that no rule speaks of; `what` is the call in words."""
    match policy.mode:
        case "blacklist":
            return yes("no rule denies it")
        case "interactive":
            return ask(f"no rule allows {what}", suggestion)
        case "whitelist":
            rules = [str(rule) for rule in about(policy.allow, tool)]
            known = f"allowed are: {some(rules)}" if rules else "the policy allows none of that"
            return no(f"no rule allows {what}; {known}", suggestion)
