"""JOBS samples of Inspect AI at once: its react agent, its bash tool, its docker sandbox (which needs docker compose).

`python inspect_job.py JOBS ENGINE IMAGE SERVER CALLS COMMAND`; prints the milliseconds of each call as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

jobs, engine, image, server, calls, command = sys.argv[1:]
os.environ |= {"OPENAI_BASE_URL": server, "OPENAI_API_KEY": "none"}

from inspect_ai import Task, eval  # noqa: E402
from inspect_ai.agent import AgentSubmit, react  # noqa: E402
from inspect_ai.dataset import Sample  # noqa: E402
from inspect_ai.event import ToolEvent  # noqa: E402
from inspect_ai.tool import bash  # noqa: E402

COMPOSE = (
    f"services: {{default: {{image: '{image}', command: sleep 600, network_mode: none, x-local: true, init: true}}}}\n"
)

with tempfile.TemporaryDirectory() as folder:
    compose = Path(folder, "compose.yaml")
    compose.write_text(COMPOSE)
    task = Task(
        dataset=[Sample(input="Look around.", id=number) for number in range(int(jobs))],
        solver=react(tools=[bash()], submit=AgentSubmit(name="submit")),
        sandbox=("docker", str(compose)),
    )
    [log] = eval(
        task,
        model="openai/scripted",
        model_args={"responses_api": False},
        max_samples=int(jobs),
        max_sandboxes=int(jobs),
        log_dir=folder,
        display="none",
    )
    assert log.status == "success", log.error
    events = [event for sample in log.samples or () for event in sample.events if isinstance(event, ToolEvent)]
print(json.dumps([event.working_time * 1000 for event in events if event.function == "bash" and event.working_time]))
