"""A runner process for the tests of what is left behind: opens a sandbox, says its name, then ends in some way."""

from __future__ import annotations

import json
import os
import signal
import sys

from runner.errors import Cancelled
from runner.policy.schema import Container
from runner.sandbox import owner, profile
from runner.sandbox.base import Sandbox, SandboxConfig
from runner.sandbox.engines import open_engine
from runner.sandbox.podman import start_service


def main(engine_name: str, image: str, toolbox_volume: str, job: str, ending: str) -> None:
    signal.signal(signal.SIGTERM, _cancel)
    config = SandboxConfig(
        image=image,
        image_digest="",
        profile=profile.from_policy(Container.model_validate({"memory": "128m", "disk": "64m", "tmp": "16m"})),
        toolbox_volume=toolbox_volume,
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: job},
    )
    engine = start_service() if engine_name == "own podman" else open_engine(engine_name)  # type: ignore[arg-type]
    if ending == "exit at once":
        # The engine is not closed, and nobody waits for the removal but the interpreter.
        engine.open_sandbox(config).close()
        return
    if ending == "abandon":
        engine.open_sandbox(config)
        os._exit(1)
    print("opening", flush=True)
    with engine, engine.open_sandbox(config) as sandbox:
        print(json.dumps({"container": sandbox.report.container_id, "engine": engine.api.url}), flush=True)
        _end(sandbox, ending)


def _end(sandbox: Sandbox, ending: str) -> None:
    match ending:
        case "success":
            sandbox.exec("echo done > file")
        case "failed command":
            sandbox.exec("(setsid sleep 1000 &); exit 3")
        case "timeout":
            sandbox.exec("setsid sleep 1000", seconds=0.2)
        case "exception":
            raise RuntimeError("a bug of ours")
        case "signal":
            sandbox.start("sleep 1000")
            sandbox.exec("trap '' TERM INT; sleep 1000", seconds=1000)


def _cancel(number: int, _: object) -> None:
    raise Cancelled(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
