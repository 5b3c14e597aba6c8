"""pip, npm and git, as they are, in containers without a network: through the proxy, or refused in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runner.egress import Gateway, ca_variables, host_ca_bundle, install_ca
from runner.policy.schema import Egress
from runner.sandbox.base import ExecResult, Sandbox
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef, ensure_image
from runner.transcript import EgressTried
from tests.conftest import sandbox_config
from tests.egress import packages
from tests.egress.packages import HOST, NAME
from tests.egress.servers import Answers, make_certificate, web_server
from tests.egress.ways import Names

pytestmark = pytest.mark.engine

SECONDS = 120.0
REFUSED = "host is not in the policy's egress list (claw-runner)"
NPM = 'npm() { /workspace/node/bin/node /workspace/node/npm/bin/npm-cli.js "$@"; }; '


@dataclass(frozen=True, kw_only=True)
class Index:
    """A web server with packages for pip and npm and a git repository, over TLS."""

    port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """An open sandbox of which the index is in the setup's list, and not in the agent's."""

    sandbox: Sandbox
    gateway: Gateway
    events: list[EgressTried]

    def run(self, script: str) -> ExecResult:
        return self.sandbox.exec(script, cwd="/tmp", seconds=SECONDS)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("index")
    tls, certificate = make_certificate(folder, HOST)
    answers: Answers = {}
    with web_server(answers, tls=tls) as (port, _):
        packages.fill(answers, port, folder)
        yield Index(port=port, certificate=certificate)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packages.node(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def python_image(engine: ContainerEngine, once: Callable[[str], Any]) -> ImageRef:
    with once(f"python-{engine.name}"):
        return ensure_image(engine, "python")


@pytest.fixture
def job(engine: ContainerEngine, toolbox_volume: str, python_image: ImageRef, index: Index) -> Iterator[Job]:
    events: list[EgressTried] = []
    lists = {"setup": [f"{HOST}:{index.port}", f"127.0.0.1:{index.port}"], "agent": ["pypi.org"]}
    gateway = Gateway(Egress.model_validate(lists), events.append, resolver=Names({HOST: ["127.0.0.1"]}))  # type: ignore[arg-type]
    config = sandbox_config(python_image, toolbox_volume, disk="512m", memory="1g")
    with ExitStack() as opened:
        opened.callback(gateway.close)
        config = replace(config, on_tunnel=gateway, variables=ca_variables())
        sandbox = opened.enter_context(engine.open_sandbox(config))
        install_ca(sandbox, host_ca_bundle({"SSL_CERT_FILE": str(index.certificate)}))
        yield Job(sandbox=sandbox, gateway=gateway, events=events)


def test_pip_installs_from_a_listed_index_and_is_refused_at_once_by_the_list_of_the_next_phase(
    job: Job, index: Index
) -> None:
    pip = f"pip install --target /tmp/here --index-url {index.url}/simple/ {NAME}"
    done = job.run(f"{pip} && PYTHONPATH=/tmp/here python3 -c 'import claw_demo; print(claw_demo.said)'")
    assert done.output.endswith(b"hello from a wheel\n"), done.output.decode()
    job.gateway.phase = "agent"
    done = job.run(pip.replace("here", "there"))
    assert done.exit_code == 1
    assert REFUSED in done.output.decode()
    assert done.seconds < SECONDS / 4
    assert job.gateway.refusals_since() == (
        f"{HOST}:{index.port}: {REFUSED[:39]}; the policy would need, in egress.agent: {HOST}:{index.port}",
    )
    job.gateway.close()
    assert [(event.phase, event.allowed) for event in job.events if event.phase == "setup"] == [("setup", True)]
    assert {(event.phase, event.allowed) for event in job.events} == {("setup", True), ("agent", False)}


def test_npm_installs_from_a_listed_registry_and_is_refused_at_once_by_the_list_of_the_next_phase(
    job: Job, index: Index, node: bytes
) -> None:
    job.sandbox.write_file("/workspace/node.tar", node)
    job.sandbox.exec("tar -xf node.tar && rm node.tar", cwd="/workspace")
    npm = f"{NPM} npm install --registry {index.url}/npm/ {NAME}"
    run = f"/workspace/node/bin/node -e 'console.log(require(\"{NAME}\").said)'"
    done = job.run(f"{npm} && {run}")
    assert done.output.endswith(b"hello from npm\n"), done.output.decode()
    job.gateway.phase = "agent"
    done = job.run(f"rm -rf node_modules package*.json ~/.npm; {npm}")
    assert done.exit_code != 0
    assert REFUSED in done.output.decode()
    assert done.seconds < SECONDS / 4


def test_git_clones_from_a_listed_host_and_is_refused_by_the_list_of_the_next_phase(job: Job, index: Index) -> None:
    clone = f"git clone -q {index.url}/repo.git"
    done = job.run(f"{clone} here && cat here/README")
    assert done.output == b"hello from git\n", done.output.decode()
    job.gateway.phase = "agent"
    done = job.run(f"{clone} there")
    assert done.exit_code == 128
    assert b"403" in done.output
    assert job.gateway.refusals_since()


def test_nothing_leaves_the_container_by_any_other_way(job: Job, index: Index) -> None:
    tries = f"""
        for host in 127.0.0.1 {HOST} 169.254.169.254 8.8.8.8 ::1; do
            timeout 10 bash -c "exec 9<>/dev/tcp/$host/{index.port}" 2>/dev/null && echo "reached $host"
        done
        timeout 10 getent hosts {HOST} pypi.org
        timeout 10 bash -c 'echo x >/dev/udp/8.8.8.8/53' 2>/dev/null && echo "sent to a name server"
        echo done
    """
    assert job.run(tries).output == b"done\n"
