"""A policy: what is allowed, how a file of one is read, and how a call is decided.

`load_policy(path)` reads a file. `decide(policy, call)` judges one tool call before it runs, and is pure: it reads no
files, no clock, no variables. deny beats ask beats allow beats the mode.
"""

from __future__ import annotations

from runner.policy.calls import parse_call
from runner.policy.decide import can_ever_allow, decide
from runner.policy.loading import load_policy
from runner.policy.rules import COVERS, TOOL_ALIASES, TOOLS, Rule, ToolName, canonical_tool, parse_rule
from runner.policy.schema import Container, Policy, show_size
from runner.policy.verdicts import Call, Decision, Verdict

__all__ = [
    "COVERS",
    "TOOLS",
    "TOOL_ALIASES",
    "Call",
    "Container",
    "Decision",
    "Policy",
    "Rule",
    "ToolName",
    "Verdict",
    "can_ever_allow",
    "canonical_tool",
    "decide",
    "load_policy",
    "parse_call",
    "parse_rule",
    "show_size",
]
