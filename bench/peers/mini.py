"""JOBS jobs of mini-swe-agent at once: its own agent, model class and container environment, in threads as it has them.

`python mini.py JOBS ENGINE IMAGE SERVER CALLS COMMAND`; prints the milliseconds of each call as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ |= {
    "MSWEA_SILENT_STARTUP": "1",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

from minisweagent.agents.default import DefaultAgent  # noqa: E402
from minisweagent.environments.docker import DockerEnvironment  # noqa: E402
from minisweagent.models.litellm_model import LitellmModel  # noqa: E402

jobs, engine, image, server, calls, command = sys.argv[1:]
latencies: list[float] = []


class Timed(DockerEnvironment):
    def execute(self, action: dict[str, Any], *args: Any, **options: Any) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            return super().execute(action, *args, **options)
        finally:
            latencies.append((time.perf_counter() - began) * 1000)


def job(_: int) -> None:
    model = LitellmModel(model_name="openai/scripted", model_kwargs={"api_base": server, "api_key": "none"})
    environment = Timed(image=image, executable=engine, run_args=["--rm", "--network", "none"])
    try:
        agent = DefaultAgent(model, environment, system_template="Help.", instance_template="{{task}}", cost_limit=0)
        ended = agent.run("Look around.")
        assert ended["exit_status"] == "Submitted", ended
    finally:
        environment.cleanup()


with ThreadPoolExecutor(int(jobs)) as pool:
    list(pool.map(job, range(int(jobs))))
print(json.dumps(latencies))
