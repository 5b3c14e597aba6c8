"""Which layers hold a call to what was decided: the decision, the container, the gate."""

from __future__ import annotations

from collections.abc import Iterator

from runner.policy import Call, Decision, Policy
from runner.policy.contain import containment, may_read, may_write
from runner.policy.domains import DomainPattern
from runner.policy.egress import judge_name, rules_for
from runner.policy.paths import REPO
from runner.policy.verdicts import Verdict
from runner.policy.web import parse_url
from runner.repo.guarded import built_in, covered, patterns

_DECIDED: dict[Verdict, str] = {
    "allow": "lets the call pass",
    "ask": "asks a person before the call, and denies it when nobody answers",
    "deny": "denies the call before it runs, and tells the model why",
}


def layers(policy: Policy, call: Call, decision: Decision) -> Iterator[tuple[str, str]]:
    """For each layer what it does about the call, in a sentence."""
    yield "decide", _DECIDED[decision.verdict]
    match call.tool:
        case "Read" | "Glob" | "Grep":
            yield "contain", _reading(policy, call, decision)
        case "Edit" | "Write":
            yield "contain", _writing(policy, call, decision)
            yield "gate", _gate(policy, call.subject)
        case "Bash":
            yield "contain", _command(policy, decision)
            yield "gate", "judges every path that the commands changed, by the same rules"
        case "WebFetch":
            yield "contain", _web(policy, call)


def _inside(path: str) -> bool:
    return path == REPO or path.startswith(f"{REPO}/")


def _gap(policy: Policy, decision: Decision) -> str | None:
    """Why commands are not held to the rule that decided."""
    gaps = containment(policy).uncontained
    return next((gap.why for gap in gaps if (gap.rule, gap.where) == (decision.rule, decision.where)), None)


def _reading(policy: Policy, call: Call, decision: Decision) -> str:
    if why := _gap(policy, decision):
        return f"does not hold commands to it: {why}"
    if may_read(policy, call.subject).verdict != "deny":
        return "commands may read it too"
    if _inside(call.subject):
        return "a file of base that is there is never brought in; commands do not find it"
    return "Landlock keeps commands from reading it"


def _writing(policy: Policy, call: Call, decision: Decision) -> str:
    if why := _gap(policy, decision):
        return f"does not hold commands to it: {why}"
    if may_write(policy, call.subject).verdict != "deny":
        return "commands may write to it too, as far as the container lets them"
    if _inside(call.subject) and not _in_writable(policy, call.subject):
        return "Landlock keeps commands from writing there"
    if _inside(call.subject):
        return "if it is there when the agent begins it belongs to another user, and commands cannot change it"
    return "Landlock keeps commands from writing there"


def _in_writable(policy: Policy, path: str) -> bool:
    names = path[len(REPO) + 1 :]
    return any(place in (".", names) or names.startswith(f"{place}/") for place in containment(policy).writable)


def _gate(policy: Policy, path: str) -> str:
    if not _inside(path):
        return "sees nothing of it: only the repository comes out"
    refused = may_write(policy, path)
    if refused.verdict == "deny":
        return f"no branch when it was changed: {refused.reason}"
    name = path.removeprefix(f"{REPO}/")
    if covered(patterns(policy.gate.protect), name):
        return "no branch when it was changed: gate.protect names it"
    if why := built_in(policy.gate, name):
        return f"no branch when it was changed: it {why}"
    return "lets the change pass, within its limits"


def _command(policy: Policy, decision: Decision) -> str:
    held = containment(policy)
    where = "all of the repository" if held.writable == (".",) else ", ".join(held.writable)
    if decision.verdict == "deny" and (why := _gap(policy, decision)):
        return f"does not hold commands to it: {why}"
    return f"commands may write to {where or 'nothing in the repository'}; see below for what does not hold them"


def _web(policy: Policy, call: Call) -> str:
    rules: tuple[DomainPattern, ...] = rules_for(policy.egress, "agent")
    try:
        target = parse_url(call.subject)
    except ValueError as error:
        return f"{call.subject} {error}"
    if judge_name(rules, target.host, target.port).allowed:
        return "commands reach this host, it is in egress.agent"
    return "commands do not reach this host, it is not in egress.agent"
