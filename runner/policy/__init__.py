"""A policy: what is allowed. Pure: reads no files, no clock, no variables.

`decide(policy, call)` judges one tool call before it runs. deny beats allow beats the mode.
"""

from __future__ import annotations

from runner.policy.decide import Call, Decision, can_ever_allow, decide
from runner.policy.rules import COVERS, TOOL_ALIASES, TOOLS, Rule, ToolName, canonical_tool, parse_rule
from runner.policy.schema import Container, Policy, show_size

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
    "can_ever_allow",
    "canonical_tool",
    "decide",
    "parse_rule",
    "show_size",
]
