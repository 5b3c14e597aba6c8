"""What a whole job costs: `python bench/job.py [--engine podman]`. Medians; compare the ratios, not the figures.

One job: container, repository in, 30 Bash calls asked for by a scripted model through the real SDK, branch out,
artifacts written, container gone. Beside it, in the same run, what anyone has: the same 30 commands by the engine's own
`exec` in a container of its own, with no model, no policy, no limits and nothing to show for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from runner.sandbox.engines import open_engine  # noqa: E402  (the package is found beside this folder)

CALLS = 30
COMMAND = "ls | wc -l"
TASK = """\
version: 1
name: bench
prompt: Look around.
repo: {url: repo, base: main}
model: scripted:replies.yaml
expect_change: false
limits: {seconds: 120}
"""
REPLIES = f"""\
version: 1
model: claude-sonnet-4-6
turns:
  - repeat: {CALLS}
    tools: [{{name: Bash, input: {{command: {COMMAND}}}}}]
  - text: Seen.
"""
POLICY = "version: 1\nmode: blacklist\ncontainer: {memory: 512m, disk: 128m, tmp: 32m, best_effort: [user_namespace]}\n"


class Cost(NamedTuple):
    wall: float
    cpu: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("docker", "podman"), default="podman")
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        job = measured(lambda: run_job(Path(folder), options.engine), options.times)
        show(f"job of {CALLS} calls on {options.engine}", job)
        show_phases(Path(folder))
        print(f"{'one more job in the same process':<36}{next_job(Path(folder), options.engine):8.2f} s wall")
        image = used_image(Path(folder))
        if not shutil.which(options.engine):
            sys.exit(f"no {options.engine} command here to compare with")
        with open_engine(options.engine) as engine:
            client = f"{engine.name} {'--url' if engine.name == 'podman' else '--host'} {engine.api.url}"
            bare = measured(lambda: exec_loop(client, image), max(3, options.times // 2))
    show(f"bare loop over {options.engine} exec", bare)
    print(f"{'ratio, bare loop to job':<36}{bare.wall / job.wall:8.2f} x wall")


def prepare(folder: Path) -> None:
    """A repository of one file, a task, its model's replies, a policy."""
    (folder / "repo").mkdir()
    (folder / "repo" / "readme.txt").write_text("hello\n")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *command], cwd=folder / "repo", check=True)
    for name, text in (("task.yaml", TASK), ("replies.yaml", REPLIES), ("policy.yaml", POLICY)):
        (folder / name).write_text(text)


def run_job(folder: Path, engine: str) -> Cost:
    """Cost of `claw-runner run`, from start to exit; the engine's own CPU is not in it."""
    command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml", "--engine", engine, "-q"]
    return timed(command, folder)


def next_job(folder: Path, engine: str) -> float:
    """Seconds of a job in a process that has run one: what batches pay, where the SDK's import is paid once."""
    arguments = ["run", "task.yaml", "--policy", "policy.yaml", "--engine", engine, "-q"]
    code = f"""
import sys, time
from runner.cli import main
for _ in range(5):
    started = time.perf_counter()
    assert main({arguments}) == 0
    print("seconds", time.perf_counter() - started)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    seconds = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds")]
    return statistics.median(seconds[1:])


def exec_loop(client: str, image: str) -> Cost:
    """`client` is the engine's command, with what it needs to find the engine that the job ran on."""
    name = f"bench-{os.getpid()}"
    begin = f"{client} run -d --name {name} --network none {image} sleep 600 >/dev/null"
    calls = f"for i in $(seq {CALLS}); do {client} exec {name} sh -c '{COMMAND}' >/dev/null; done"
    return timed(["sh", "-ec", f"{begin}; {calls}; {client} rm -f {name} >/dev/null"], Path("/"))


def timed(command: list[str], folder: Path) -> Cost:
    """What a process cost, with the processes that it waited for."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            sys.exit(output.read().decode(errors="replace"))
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measured(call: Callable[[], Cost], times: int) -> Cost:
    """The median after one warm-up, which may build images."""
    call()
    costs = [call() for _ in range(times)]
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def show(name: str, cost: Cost) -> None:
    print(f"{name:<36}{cost.wall:8.2f} s wall{cost.cpu:8.2f} s CPU{cost.peak_mb:8.0f} MB")


def show_phases(folder: Path) -> None:
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/result.json"))]
    for phase in ("sandbox", "setup", "agent", "model", "tools", "branch", "end"):
        seconds = statistics.median(result["timings"].get(phase, 0.0) for result in results)
        print(f"  {phase:<34}{seconds:8.3f} s")


def used_image(folder: Path) -> str:
    result = json.loads(next(folder.glob("runs/*/result.json")).read_text())
    return str(result["sandbox"]["image"])


if __name__ == "__main__":
    main()
