"""Into the container: the attempts of `inside/` as one command, and what they report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from runner.attack.findings import Category, Finding
from runner.egress.proxy import SIGNATURE
from runner.errors import SandboxError
from runner.sandbox.base import TOOLBOX, Sandbox
from runner.sandbox.hello import PROXY_PORT

SECONDS = 240.0
"""For all attempts together; each has its own limit inside."""
OUTPUT_BYTES = 4_000_000
MODULES = ("trying", "surroundings", "rights", "network")
"""Of `inside/`, each after those that it imports."""
BOOT = """
import json, sys, types
for name, source in json.load(sys.stdin).items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
from runner.attack.inside.trying import carry_out, variables
print(json.dumps({"findings": carry_out(json.loads(sys.argv[1])), "variables": variables()}))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What the attempts are told of the host and of what should hold."""

    categories: tuple[Category, ...]
    canary: str
    """A file on the host that everybody there may read."""
    token: str
    """What is in it, and what the services below say."""
    port: int
    """Of a service on the host's loopback."""
    abstract: str
    """Name of a socket on the host that has no path."""
    namespaces: Mapping[str, str]
    """The host's own, as /proc/self/ns shows them."""
    uid: int
    read_only: bool
    user_namespace: bool
    """Whether this engine gives each container one."""
    listed: str | None
    """A name that the policy lists for egress; None: it lists none."""
    proxy: int = PROXY_PORT
    """On the container's loopback."""
    signature: str = SIGNATURE
    """In every refusal of the proxy's own."""


class Report(BaseModel):
    """What came back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    variables: tuple[tuple[str, str], ...]
    """Name and value of every variable that a command could see, its own or of another process."""


def argv(orders: Orders) -> list[str]:
    return [f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", "-c", BOOT, json.dumps(asdict(orders))]


VARIABLES = {"PYTHONHOME": str(TOOLBOX)}


def modules() -> bytes:
    """The standard input of that command."""
    folder = Path(__file__).with_name("inside")
    sources = {f"runner.attack.inside.{name}": (folder / f"{name}.py").read_text() for name in MODULES}
    return json.dumps(sources).encode()


def read_report(output: bytes) -> Report:
    """Raises SandboxError for what is no report."""
    try:
        return Report.model_validate_json(output)
    except ValidationError as error:
        last = output.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SandboxError(f"the attempts inside did not report: {last[-200:]!r}") from error


def attack_from_inside(sandbox: Sandbox, orders: Orders) -> Report:
    """Everything that a command could try by itself, tried by one. Raises SandboxError when it cannot be run."""
    done = sandbox.exec(
        argv(orders),
        program="argv",
        cwd="/",
        variables=VARIABLES,
        stdin=[modules()],
        seconds=SECONDS,
        head_bytes=OUTPUT_BYTES,
        separate_stderr=True,
        confined=True,
    )
    return read_report(done.output if done.ok else done.output + done.stderr)


def reach_listed(sandbox: Sandbox, name: str) -> Finding:
    """Whether the proxy lets through what the policy lists; that the host does not answer from here is no fault."""
    ask = (
        "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 60);"
        "c.sendall(f'CONNECT {sys.argv[2]}:443 HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n'.encode());"
        "print(c.recv(1000).split(b'\\r\\n')[0].decode('utf-8', 'replace'))"
    )
    python = [f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", "-c", ask, str(PROXY_PORT), name]
    done = sandbox.exec(python, program="argv", cwd="/", variables=VARIABLES, seconds=90, confined=True)
    said = done.output.decode("utf-8", "replace").strip()
    return Finding(
        category="proxy",
        name=f"reach {name}, which is listed",
        status="held" if said.startswith("HTTP/1.1 200") else "not_applicable",
        evidence=said or "no answer",
    )
