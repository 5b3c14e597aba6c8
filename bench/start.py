"""How long until a container answers, against the engine's own create and start of `true` on the same image.

    python bench/start.py [--rounds 10] [--engine docker --engine podman]

The two are measured in turn, so that a busy machine hits both. What is compared is the time from "create" to the first
answer of the toolbox, limits read back and compared, with the time that the engine itself needs to create a plain
container of the same image, with its own defaults, and to start `true` in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from typing import Any

from runner.policy.schema import Container
from runner.sandbox import owner, profile
from runner.sandbox.base import SandboxConfig
from runner.sandbox.clean import remove_container
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES, open_engine
from runner.sandbox.image import ensure_image, ensure_toolbox


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    options = parser.parse_args()
    for name in options.engine or ENGINES:
        with open_engine(name) as engine:
            report(engine, options.rounds)


def report(engine: ContainerEngine, rounds: int) -> None:
    """Print medians and ratios for one engine."""
    config = _config(engine)
    engine.open_sandbox(config).close()  # the first one puts the shared files onto the engine
    ours, plain, phases, closing = [], [], [], []
    for _ in range(rounds):
        started = time.monotonic()
        sandbox = engine.open_sandbox(config)
        ours.append(time.monotonic() - started)
        phases.append(sandbox.report.timings)
        started = time.monotonic()
        sandbox.close()
        closing.append(time.monotonic() - started)
        time.sleep(0.5)  # removal is in the background; the next must not wait for it
        plain.append(_plain(engine, config.image))
        time.sleep(0.5)
    print(f"{engine.name} {engine.version}, median of {rounds}")
    print(f"  ready          {_ms(ours)}   " + ", ".join(f"{k} {_ms([p[k] for p in phases])}" for k in phases[0]))
    print(f"  create + start {_ms(plain)}   of true, engine's defaults")
    print(f"  ratio          {statistics.median(ours) / statistics.median(plain):6.2f}      target 1.5")
    print(f"  close          {_ms(closing)}   the removal goes on in the background")


def _plain(engine: ContainerEngine, image: str) -> float:
    """Seconds for create and start of `true`, through the same connection."""
    name = f"claw-bench-{uuid.uuid4().hex[:12]}"
    limits = [{"Name": limit, "Soft": 4096, "Hard": 4096} for limit in ("nofile", "nproc")]
    labels = {owner.LABEL: "1", owner.OWNER: owner.mine()}
    # podman as root needs limits to start at all on a machine without CAP_SYS_RESOURCE.
    host: dict[str, Any] = {"Ulimits": limits} if engine.name == "podman" else {}
    started = time.monotonic()
    body = {"Image": image, "Cmd": ["true"], "Labels": labels, "HostConfig": host}
    engine.api.post("/containers/create", body=body, name=name)
    engine.api.post(f"/containers/{name}/start")
    seconds = time.monotonic() - started
    remove_container(engine.api, name)
    return seconds


def _config(engine: ContainerEngine) -> SandboxConfig:
    image = ensure_image(engine, "base")
    return SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(Container()),
        toolbox_volume=ensure_toolbox(engine),
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "bench"},
    )


def _ms(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):6.1f} ms"


if __name__ == "__main__":
    main()
