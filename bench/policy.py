"""What the policy costs: a decision about an everyday command, and Landlock for a command that runs.

    python -m bench.policy [--rounds 300]

Decisions are those of every shipped policy. Landlock is measured as the same `true` with and without it, in turn, so
that a busy machine hits both: in a toolbox on this machine (needs root), and in a container of each engine that
answers. The grants are those of a policy that lets two folders be edited, and that with paths left out in large folders
of the image, which costs the most. All figures are the lower quartile of many: what it takes when nobody disturbs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from runner.errors import EngineUnavailable
from runner.policy import Call, Container, Policy, decide, load_policy, parse_rule
from runner.policy.contain import containment
from runner.sandbox import owner, profile
from runner.sandbox.base import Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES
from runner.sandbox.image import ensure_image, ensure_toolbox
from runner.shipped import shipped
from tests.local_toolbox import local_sandbox

COMMANDS = (
    "git status",
    "ls -la src",
    "pytest -q tests/test_slugify.py 2>&1 | tail -20",
    "cd src && grep -rn 'def slugify' --include='*.py' . | head -20",
    "sed -n '10,40p' slugify/core.py && cat setup.cfg > /dev/null",
    "git add -A && git commit -q -m \"$(cat <<'END'\nFix slugs\n\nOf letters that have no case.\nEND\n)\"",
    "for file in src/*.py; do python -m py_compile \"$file\" || exit 1; done; echo 'all fine'",
    "timeout 60 env PYTHONPATH=src python -c 'import slugify; print(slugify.slugify(\"a b\"))'",
    "find . -name '*.py' -not -path './.git/*' | xargs wc -l | sort -n | tail -5",
)
ALLOW = ("Read", "Edit(src/**)", "Edit(tests/**)", "Bash(pytest:*)")
DENY = ("Read(//etc/shadow)", "Read(//usr/bin/passwd)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    for path in sorted(shipped("policies").glob("*.yaml")):
        decisions(path.stem, load_policy(path).value, rounds)
    with tempfile.TemporaryDirectory() as folder, local_sandbox(Path(folder)) as sandbox:
        landlock("toolbox on this machine", sandbox, rounds)
    for connect in ENGINES.values():
        try:
            with connect(None) as engine:
                measure_engine(engine, rounds)
        except EngineUnavailable as error:
            print(error)


def decisions(name: str, policy: Policy, rounds: int) -> None:
    """Print the cost of a decision: the median over all commands, and of the dearest one."""
    costs = [cost([partial(decide, policy, Call(tool="Bash", subject=command))], rounds)[0] for command in COMMANDS]
    print(f"{f'decision by {name}':<40}{statistics.median(costs):9.3f} ms, dearest {max(costs):.3f} ms")


def measure_engine(engine: ContainerEngine, rounds: int) -> None:
    image = ensure_image(engine, "base")
    config = SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(Container()),
        toolbox_volume=ensure_toolbox(engine),
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "bench"},
    )
    with engine.open_sandbox(config) as sandbox:
        landlock(f"toolbox in {engine.name}", sandbox, rounds)


def landlock(name: str, sandbox: Sandbox, rounds: int) -> None:
    """Print what `true` costs with and without rules, and what it costs to confine."""
    sandbox.exec("mkdir -p src tests .git")
    for what, deny in (("", ()), (", paths left out", DENY)):
        grants = containment(policy(deny)).grants
        [confining] = cost([partial(sandbox.confine, grants)], 10)
        # With a pause, as a model's thinking would be: the next command's processes are made meanwhile.
        free, held = cost([partial(run, sandbox, confined=confined) for confined in (False, True)], rounds, pause=0.004)
        print(
            f"{name + what:<40}{held - free:9.3f} ms per command: {held:.2f} ms with, {free:.2f} ms without"
            f" ({held / free:.2f} x); {confining:.1f} ms once"
        )


def policy(deny: tuple[str, ...]) -> Policy:
    rules = {"allow": tuple(map(parse_rule, ALLOW)), "deny": tuple(map(parse_rule, deny))}
    return Policy.model_validate({"version": 1, "mode": "whitelist", **rules})


def run(sandbox: Sandbox, *, confined: bool) -> None:
    sandbox.exec(["true"], program="argv", confined=confined)


def cost(calls: Sequence[Callable[[], object]], times: int, *, pause: float = 0.0) -> list[float]:
    """Milliseconds of each call; all are made in turn, with `pause` seconds between them."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, seconds in zip(calls, spent, strict=True):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
            time.sleep(pause)
    return [statistics.quantiles(seconds, n=4)[0] * 1000 for seconds in spent]


if __name__ == "__main__":
    main()
