"""JOBS sandboxes of SWE-ReX at once, each asked by a bare loop for what the model says: it has no agent of its own.

`python swerex_loop.py JOBS ENGINE IMAGE SERVER CALLS COMMAND`; the image holds swerex-remote. Prints the milliseconds
of each call as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import urllib.request

from swerex.deployment.docker import DockerDeployment
from swerex.runtime.abstract import Command
from swerex.utils.log import get_logger

logging.disable(logging.CRITICAL)
jobs, engine, image, server, calls, command = sys.argv[1:]
latencies: list[float] = []


def ask(done: int) -> str:
    messages = [{"role": "tool", "content": ""}] * done
    body = json.dumps({"model": "scripted", "messages": messages}).encode()
    request = urllib.request.Request(f"{server}/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        call = json.load(reply)["choices"][0]["message"]["tool_calls"][0]["function"]
    return str(json.loads(call["arguments"])["command"])


async def job() -> None:
    deployment = DockerDeployment(image=image, container_runtime=engine, pull="never", logger=get_logger("bench"))
    await deployment.start()
    try:
        for done in range(int(calls)):
            asked = await asyncio.to_thread(ask, done)
            began = time.perf_counter()
            ran = await deployment.runtime.execute(Command(command=asked, shell=True))
            latencies.append((time.perf_counter() - began) * 1000)
            assert ran.exit_code == 0, ran
    finally:
        await deployment.stop()


async def main() -> None:
    await asyncio.gather(*(job() for _ in range(int(jobs))))


asyncio.run(main())
print(json.dumps(latencies))
