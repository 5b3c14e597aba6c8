"""The agents a task can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from runner.agents.base import Agent, AgentEnd, Context
from runner.agents.loop import Loop

AgentName = Literal["loop"]

AGENTS: dict[AgentName, Callable[[], Agent]] = {"loop": Loop}
"""Makes a new agent, for one job."""

__all__ = ["AGENTS", "Agent", "AgentEnd", "AgentName", "Context"]
