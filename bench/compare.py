"""The same 30-call job through claw-runner and its peers: `python bench/compare.py --peers VENV [--engine docker]`.

VENV is a virtual environment of its own that holds those to compare with: `pip install mini-swe-agent mcp swe-rex
inspect-ai openai`; who is not installed is left out. One scripted model without latency, in a process of its own,
serves them all. Every row is one process that does so many jobs at once: start, N throwaway containers of the same
image, 30 shell commands each, all containers gone, exit. Harness CPU counts that process and the commands that it
started, not the engine. Compare the ratios of one run, not figures of two.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from runner.sandbox.engines import open_engine  # noqa: E402  (the package is found beside this folder)
from runner.sandbox.image import ensure_image  # noqa: E402
from runner.transcript import ToolRan, of_kind, read  # noqa: E402

CALLS, COMMAND = 30, "ls | wc -l"
PEERS = Path(__file__).parent / "peers"
REX_IMAGE = "claw-bench/swe-rex:1"
SECONDS = 180
"""For one row; a peer that takes longer is said to."""
TASK = """\
version: 1
name: bench
prompt: Look around.
repo: {url: repo, base: main}
model: anthropic:claude-sonnet-4-6
expect_change: false
limits: {seconds: 600}
"""
POLICY = "version: 1\nmode: blacklist\ncontainer: {memory: 256m, disk: 64m, tmp: 16m, best_effort: [user_namespace]}\n"


class Row(NamedTuple):
    """One process; times in seconds, each call's in milliseconds."""

    wall: float
    cpu: float
    peak_mb: float
    calls: list[float]


Measure = Callable[[int], Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("docker", "podman"), default="docker")
    parser.add_argument("--peers", type=Path, required=True, help="virtual environment with those to compare with")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4, 16, 64], help="jobs at the same time")
    parser.add_argument("--times", type=int, default=3, help="of one job alone; the median counts")
    options = parser.parse_args()
    python = options.peers.absolute() / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder, model_server() as server, open_engine(options.engine) as engine:
        prepare(Path(folder))
        harnesses: dict[str, Measure] = {
            "claw-runner": lambda jobs: ours(Path(folder), options.engine, server, jobs),
            **peers(python, options.engine, server, image=ensure_image(engine, "python").reference),
        }
        print(f"{options.engine}, {CALLS} calls a job; ratio: to claw-runner's wall time")
        columns = ("wall s", "CPU s", "peak MB", "p50 ms", "p95 ms", "jobs/min", "ratio")
        print(f"{'jobs':>4}  {'harness':<16}" + "".join(f"{column:>9}" for column in columns))
        for jobs in options.jobs:
            compare(harnesses, jobs, options.times if jobs == 1 else 1)


def compare(harnesses: dict[str, Measure], jobs: int, times: int) -> None:
    first = 0.0
    for name, measure in harnesses.items():
        try:
            rows = sorted((measure(jobs) for _ in range(times)), key=lambda row: row.wall)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{jobs:>4}  {name:<16} not measured: {last_line(error)}")
            continue
        row = rows[len(rows) // 2]
        first = first or row.wall
        p50, p95 = statistics.median(row.calls), statistics.quantiles(row.calls, n=20)[-1]
        print(
            f"{jobs:>4}  {name:<16}{row.wall:9.2f}{row.cpu:9.2f}{row.peak_mb:9.0f}{p50:9.1f}{p95:9.1f}"
            f"{60 * jobs / row.wall:9.0f}{row.wall / first:9.1f}",
            flush=True,
        )


@contextmanager
def model_server() -> Iterator[str]:
    """The address of the scripted model."""
    command = [sys.executable, str(PEERS / "server.py"), str(CALLS), COMMAND]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


# --- ours


def prepare(folder: Path) -> None:
    """A repository of one file, a template, a policy."""
    (folder / "repo").mkdir()
    (folder / "repo" / "readme.txt").write_text("hello\n")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *command], cwd=folder / "repo", check=True)
    (folder / "task.yaml").write_text(TASK)
    (folder / "policy.yaml").write_text(POLICY)


def ours(folder: Path, engine: str, server: str, jobs: int) -> Row:
    """A batch of so many rows, whose jobs all run at once."""
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(jobs)))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    arguments = ["batch", "rows.jsonl", "--task", "task.yaml", "--policy", "policy.yaml", "--engine", engine]
    variables = {"ANTHROPIC_BASE_URL": server.removesuffix("/v1"), "ANTHROPIC_API_KEY": "none"}
    command = [sys.executable, "-m", "runner", *arguments, "--jobs", str(jobs), "--ahead", "0", "--quiet"]
    wall, cpu, peak_mb, _ = timed(command, folder, variables)
    ran = [of_kind(read(path), ToolRan) for path in folder.glob("runs/*/*/transcript.jsonl")]
    assert [len(calls) for calls in ran] == [CALLS] * jobs, [len(calls) for calls in ran]
    return Row(wall, cpu, peak_mb, [call.seconds * 1000 for calls in ran for call in calls])


# --- theirs


def peers(python: Path, engine: str, server: str, *, image: str) -> dict[str, Measure]:
    """Those that are installed."""
    scripts = {
        "mini-swe-agent": ("minisweagent", "mini.py", image),
        "swe-rex": ("swerex", "swerex_loop.py", REX_IMAGE),
        "inspect": ("inspect_ai", "inspect_job.py", image),
    }
    found = {}
    for name, (module, script, runs_in) in scripts.items():
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            continue
        if module == "swerex":
            bake_swerex(python, engine, image)
        found[name] = measure_by(python, script, engine, runs_in, server)
    return found


def measure_by(python: Path, script: str, engine: str, image: str, server: str) -> Measure:
    def measure(jobs: int) -> Row:
        command = [str(python), str(PEERS / script), str(jobs), engine, image, server, str(CALLS), COMMAND]
        wall, cpu, peak_mb, out = timed(command, Path("/"), {})
        return Row(wall, cpu, peak_mb, json.loads(out.splitlines()[-1]))

    return measure


def bake_swerex(python: Path, engine: str, image: str) -> None:
    """An image with swe-rex's server in it, so that a start needs no network."""
    if subprocess.run([engine, "image", "inspect", REX_IMAGE], capture_output=True, check=False).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        site, launcher = Path(folder, "rex"), Path(folder, "swerex-remote")
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--target", site, "swe-rex"], check=True, capture_output=True
        )
        code = "import sys; sys.path.insert(0, '/opt/rex'); from swerex.server import main; sys.exit(main())"
        launcher.write_text(f'#!/bin/sh\nexec python3 -c "{code}" "$@"\n')
        launcher.chmod(0o755)
        made = subprocess.run([engine, "create", image, "true"], check=True, capture_output=True, text=True)
        container = made.stdout.strip()
        for source, to in ((site, "/opt/rex"), (launcher, "/usr/local/bin/swerex-remote")):
            subprocess.run([engine, "cp", str(source), f"{container}:{to}"], check=True, capture_output=True)
        subprocess.run([engine, "commit", container, REX_IMAGE], check=True, capture_output=True)
        subprocess.run([engine, "rm", container], check=True, capture_output=True)


def timed(command: list[str], folder: Path, variables: dict[str, str]) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds, peak MB of a process (with what it waited for), and what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=errors, env=os.environ | variables)
        try:
            _, status, used = wait(process, began + SECONDS)
        except TimeoutError:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(command, SECONDS) from None
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (out, errors):
            stream.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors.read())
        return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read()


def wait(process: subprocess.Popen[bytes], until: float) -> tuple[int, int, resource.struct_rusage]:
    while True:
        done = os.wait4(process.pid, os.WNOHANG)
        if done[0]:
            return done
        if time.perf_counter() > until:
            raise TimeoutError
        time.sleep(0.005)


def last_line(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took longer than {SECONDS} s"
    lines = [line for line in str(error.stderr or "").splitlines() if line.strip()]
    return lines[-1][:100] if lines else f"exit code {error.returncode}"


if __name__ == "__main__":
    main()
