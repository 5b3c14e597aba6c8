"""What the pipe costs: an echo, a command, bytes in and out; beside the host's bash and the engines' own exec.

    python -m bench.pipe

Runs against a toolbox on this machine (needs root) and in a container of each engine that answers. Medians of this run
on this machine; the ratios are what to compare.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from runner.errors import EngineUnavailable
from runner.policy.schema import Container
from runner.sandbox import owner, profile
from runner.sandbox.base import SandboxConfig
from runner.sandbox.client import Client
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES
from runner.sandbox.image import ensure_image, ensure_toolbox
from tests.local_toolbox import local_sandbox

BLOCK = bytes(1 << 20)
MEBIBYTES = 64


def main() -> None:
    host = median(lambda: run("bash", "-c", "true"), 100, pause=0.005)
    print(f"{'bash -c true on the host':<36}{host:9.2f} ms")
    with tempfile.TemporaryDirectory() as folder, local_sandbox(Path(folder)) as sandbox:
        measure("toolbox on this machine", sandbox, host)
    for connect in ENGINES.values():
        try:
            with connect(None) as engine:
                measure_engine(engine, host)
        except EngineUnavailable as error:
            print(error)


def measure_engine(engine: ContainerEngine, host: float) -> None:
    """A sandbox of this engine, beside what its own client takes for the same command in the same container."""
    image = ensure_image(engine, "base")
    config = SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(Container()),
        toolbox_volume=ensure_toolbox(engine),
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "bench"},
    )
    with engine.open_sandbox(config) as sandbox:
        echo, true = measure(f"toolbox in {engine.name}", sandbox, host)
        own = median(lambda: run(engine.name, "exec", sandbox.report.container_id, "true"), 15)
        print(
            f"{f'  {engine.name} exec of true':<36}{own:9.1f} ms{own / true:9.0f} x ours, {own / echo:.0f} x the echo"
        )


def measure(name: str, sandbox: Client, host: float) -> tuple[float, float]:
    """Print a sandbox's figures; returns the milliseconds of the echo and of `true`."""
    print(name)
    echo = median(sandbox.ping, 500)
    print(f"{'  echo':<36}{echo:9.3f} ms")
    true = median(lambda: sandbox.exec("true"), 200, pause=0.005)
    print(f"{'  exec of true':<36}{true:9.2f} ms{true / host:9.1f} x bash on the host")
    print(f"{'  out of it':<36}{throughput(lambda: download(sandbox)):9.0f} MiB/s")
    print(f"{'  into it':<36}{throughput(lambda: upload(sandbox)):9.0f} MiB/s")
    return echo, true


def median(call: Callable[[], object], times: int, *, pause: float = 0.0) -> float:
    """Milliseconds of one call. `pause`: seconds between them, as a model's thinking would be."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
        time.sleep(pause)
    return statistics.median(spent) * 1000


def throughput(call: Callable[[], object]) -> float:
    return MEBIBYTES / (median(call, 3) / 1000)


def download(sandbox: Client) -> None:
    sandbox.exec(f"head -c {MEBIBYTES << 20} /dev/zero", on_output=lambda data: None)


def upload(sandbox: Client) -> None:
    sandbox.exec("cat >/dev/null", stdin=(BLOCK for _ in range(MEBIBYTES)))


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
