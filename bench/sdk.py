"""What the anthropic SDK costs: its import, hidden or not, and a request through each of its ways.

    python bench/sdk.py [--requests 100] [--imports 5] [--json]

Every figure is a median of this run on this machine; the ratios are what to compare. The server runs in a process of
its own, so that CPU is the client's alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx2

from runner.messages import Message, Reply, Request, Text, ToolResult, ToolSpec
from runner.models import RetryBudget
from runner.models.anthropic import AnthropicModel, import_client, request_body
from runner.models.script import ScriptedCall, Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret

MODEL = "claude-sonnet-4-6"
TURNS = 30
TURN = Turn(
    text="I look at it. " * 40, tools=(ScriptedCall(name="Bash", input={"command": "pytest -q"}),), repeat=100_000
)
CONTAINER_SECONDS = 0.35
"""What the engine takes to start a container, while our process only waits."""

IMPORTS = {
    "import anthropic": "import anthropic",
    "import_client()": "from runner.models.anthropic import import_client; import_client()",
    "import genai_prices": "from runner.models.prices import known_models; known_models()",
}
_READY = (
    "from runner.models.anthropic import import_client; import_client();"
    "from runner.models.prices import known_models; known_models()"
)
HIDDEN = {
    "container, then SDK and prices": f"time.sleep({CONTAINER_SECONDS}); {_READY}",
    "container while SDK and prices warm": (
        f"from runner.models import warm; warm('anthropic:x'); time.sleep({CONTAINER_SECONDS}); {_READY}"
    ),
}
_CLOCK = """
import json, resource, sys, time
def start():
    global wall, cpu
    wall, cpu = time.perf_counter(), time.process_time()
import runner.models
start()
{code}
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    wall_ms: float
    cpu_ms: float
    rss_mb: float | None = None


def import_cost(code: str, runs: int) -> Cost:
    """Of a fresh process that runs the code, runner.models being imported already."""
    samples = []
    for _ in range(runs):
        argv = [sys.executable, "-c", _CLOCK.format(code=code)]
        samples.append(json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout))
    wall, cpu, rss = (statistics.median(column) for column in zip(*samples, strict=True))
    return Cost(wall_ms=wall * 1000, cpu_ms=cpu * 1000, rss_mb=rss)


def request_cost(call: Callable[[], Any], requests: int) -> Cost:
    call()
    walls = []
    cpu = time.process_time()
    for _ in range(requests):
        began = time.perf_counter()
        call()
        walls.append(time.perf_counter() - began)
    cpu = (time.process_time() - cpu) / requests
    return Cost(wall_ms=statistics.median(walls) * 1000, cpu_ms=cpu * 1000)


def conversation() -> Request:
    """The last request of a job of 30 turns."""
    messages = [Message(role="user", content=(Text(text="Fix it."),))]
    for number in range(TURNS):
        call = ScriptedCall(name="Bash", input={"command": "pytest -q"})
        reply = Reply.model_validate(
            {
                "content": [
                    {"type": "text", "text": "I look at it."},
                    {"type": "tool_use", "id": f"old_{number}", "name": call.name, "input": call.input},
                ],
                "stop_reason": "tool_use",
                "usage": {},
                "model": MODEL,
            }
        )
        result = ToolResult(tool_use_id=f"old_{number}", content="x" * 2000)
        messages += [Message(role="assistant", content=reply.content), Message(role="user", content=(result,))]
    tools = tuple(
        ToolSpec(name=f"Tool{i}", description="d" * 500, input_schema={"type": "object", "properties": {}})
        for i in range(6)
    )
    return Request(system="s" * 5000, messages=tuple(messages), tools=tools, max_tokens=4096, seconds=60)


def ways(url: str, key: str) -> dict[str, Callable[[], Any]]:
    """The ways to make a request, the dearest first."""
    import anthropic  # noqa: PLC0415  timed by the other half of this script

    request = conversation()
    body = request_body(request, MODEL)
    sdk = anthropic.Anthropic(api_key=key, base_url=url, max_retries=0, open_telemetry=False)
    bare = httpx2.Client(headers={"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"})
    model = AnthropicModel("bench", MODEL, base_url=url, key=Secret(key), budget=RetryBudget(tries=0, seconds=0))

    def helper() -> None:
        with sdk.messages.stream(**{k: v for k, v in body.items() if k != "stream"}) as stream:
            stream.get_final_message()

    def events() -> None:
        for _ in sdk.messages.create(**body):
            pass

    def streaming_response() -> None:
        with sdk.messages.with_streaming_response.create(**body) as response:
            for _ in response.http_response.iter_raw():
                pass

    def httpx_alone() -> None:
        with bare.stream("POST", f"{url}/v1/messages", json=body) as response:
            for _ in response.iter_raw():
                pass

    return {
        "SDK: messages.stream(), message put together": helper,
        "SDK: messages.create(stream=True), events read": events,
        "SDK: with_streaming_response, bytes unread": streaming_response,
        "ours: AnthropicModel.reply, judged and put together": lambda: model.reply(request),
        "httpx2 alone, bytes unread": httpx_alone,
    }


def client_cost(url: str, key: str) -> Cost:
    """A client for one more job."""
    client = import_client()

    def make() -> None:
        with closing(client(url, Secret(key))):
            pass

    return request_cost(make, 50)


def serve() -> None:
    with ScriptedServer([TURN], model=MODEL, keep_requests=False) as server:
        print(server.url, server.key, flush=True)
        sys.stdin.read()


def measure(requests: int, imports: int) -> dict[str, Cost]:
    costs = {name: import_cost(code, imports) for name, code in (IMPORTS | HIDDEN).items()}
    argv = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        url, key = server.stdout.readline().split()
        try:
            costs |= {name: request_cost(call, requests) for name, call in ways(url, key).items()}
            costs["a client for one more job"] = client_cost(url, key)
        finally:
            server.stdin.close()
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--imports", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    costs = measure(args.requests, args.imports)
    if args.json:
        print(
            json.dumps({name: {k: getattr(cost, k) for k in Cost.__slots__} for name, cost in costs.items()}, indent=2)
        )
        return
    for name, cost in costs.items():
        rss = f"{cost.rss_mb:7.0f} MB" if cost.rss_mb is not None else ""
        print(f"{name:54} {cost.wall_ms:9.2f} ms wall {cost.cpu_ms:9.2f} ms CPU {rss}")


if __name__ == "__main__":
    main()
