"""The tools the built-in agent offers to its model; each a function of a sandbox."""

from __future__ import annotations

from runner.tools.base import Tool
from runner.tools.bash import Bash, BashOutput, KillBash
from runner.tools.edit import Edit
from runner.tools.glob import Glob
from runner.tools.grep import Grep
from runner.tools.read import Read
from runner.tools.web_fetch import WebFetch
from runner.tools.write import Write

TOOLS: dict[str, type[Tool]] = {
    tool.__name__: tool for tool in (Bash, BashOutput, KillBash, Read, Write, Edit, Glob, Grep, WebFetch)
}
"""The closed set of tools, in the order in which the model sees them."""

__all__ = ["TOOLS", "Tool"]
