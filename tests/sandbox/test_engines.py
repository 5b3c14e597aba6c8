"""Finding an engine: by name, by URL, by variable, by docker context."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from runner.errors import ConfigError, EngineUnavailable
from runner.sandbox import podman
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES, open_engine
from runner.sandbox.image import ImageRef
from tests.conftest import sandbox_config

HOST_VARIABLE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


def test_a_name_that_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="engine 'docer' is not one of auto, docker, podman"):
        open_engine("docer")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_place_that_was_named_is_the_only_one_tried(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_VARIABLE[name], "unix:///nowhere/engine.sock")
    with pytest.raises(EngineUnavailable, match="nothing answers at unix:///nowhere/engine.sock .*No such file"):
        open_engine(name)  # type: ignore[arg-type]


def test_a_url_without_an_engine_is_named_in_the_error() -> None:
    with pytest.raises(EngineUnavailable, match="tcp://127.0.0.1:1 .*refused.*claw-runner doctor"):
        open_engine(url="tcp://127.0.0.1:1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_socket_that_is_no_engine_is_not_taken_for_one(tmp_path: Path) -> None:
    with _listener(tmp_path / "dumb.sock", b"SSH-2.0-OpenSSH_9.2\r\n"), pytest.raises(EngineUnavailable):
        open_engine("docker", url=f"unix://{tmp_path}/dumb.sock")
    gc.collect()  # http.client leaves the file of a bad answer to the collector, which warns


@pytest.mark.engine
def test_auto_takes_one_that_answers(engine: ContainerEngine) -> None:
    with open_engine() as found:
        assert found.name in ENGINES
        assert found.version


@pytest.mark.engine
def test_auto_finds_out_what_answers_at_a_url(engine: ContainerEngine) -> None:
    with open_engine(url=engine.api.url) as found:
        assert (found.name, found.version) == (engine.name, engine.version)


@pytest.mark.engine
def test_the_variable_names_the_place(engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_VARIABLE[engine.name], engine.api.url)
    with open_engine(engine.name) as found:
        assert found.api.url == engine.api.url


@pytest.mark.engine
def test_the_other_engine_behind_a_socket_is_called_by_its_name(engine: ContainerEngine) -> None:
    other = "podman" if engine.name == "docker" else "docker"
    with pytest.raises(EngineUnavailable, match=f"is {engine.name}; use: --engine {engine.name}"):
        open_engine(other, url=engine.api.url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "url"),
    [
        (
            "podman-connections.json",
            '{"Connection": {"Default": "far", "Connections": {"far": {"URI": "ssh://root@far/run/podman.sock"}}}}',
            "ssh://root@far/run/podman.sock",
        ),
        (
            "containers.conf",
            '[engine]\nactive_service = "far"\n[engine.service_destinations.far]\nuri = "tcp://far:1"\n',
            "tcp://far:1",
        ),
        ("containers.conf", '[engine]\nruntime = "runc"\n', None),
        ("containers.conf", "[containers]\n", None),
    ],
)
def test_the_default_podman_connection_is_followed(
    name: str, content: str, url: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / name).write_text(content)
    assert podman.default_connection() == url


def test_broken_podman_connections_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "podman-connections.json").write_text("[]")
    with pytest.raises(EngineUnavailable, match="connections in .*containers cannot be read"):
        podman.default_connection()


@pytest.mark.engine
def test_the_current_docker_context_is_followed(
    engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A context is a folder of docker's configuration; its name hashed is the folder's name."""
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
    folder = tmp_path / "contexts/meta" / sha256(b"elsewhere").hexdigest()
    folder.mkdir(parents=True)
    endpoint = {"Host": engine.api.url, "SkipTLSVerify": False}
    (folder / "meta.json").write_text(
        json.dumps({"Name": "elsewhere", "Metadata": {}, "Endpoints": {"docker": endpoint}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if engine.name == "docker":
        with open_engine("docker") as found:
            assert found.api.url == engine.api.url
    else:
        with pytest.raises(EngineUnavailable, match="is podman"):
            open_engine("docker")


@pytest.mark.engine
def test_a_sandbox_opens_on_an_engine_behind_tcp(
    engine: ContainerEngine, base_image: ImageRef, toolbox_volume: str
) -> None:
    with _relay(engine.api.url.removeprefix("unix://")) as port, open_engine(url=f"tcp://127.0.0.1:{port}") as remote:
        assert remote.name == engine.name
        with remote.open_sandbox(sandbox_config(base_image, toolbox_volume)) as sandbox:
            assert sandbox.exec("echo over tcp").output == b"over tcp\n"


@pytest.mark.engine
def test_an_engine_that_stops_answering_is_unavailable(
    engine: ContainerEngine, base_image: ImageRef, toolbox_volume: str
) -> None:
    with _relay(engine.api.url.removeprefix("unix://")) as port:
        remote = open_engine(url=f"tcp://127.0.0.1:{port}")
        sandbox = remote.open_sandbox(sandbox_config(base_image, toolbox_volume))
        sandbox.close()
        remote.close()
    with pytest.raises(EngineUnavailable, match="stopped answering .*refused.*claw-runner doctor"):
        remote.open_sandbox(sandbox_config(base_image, toolbox_volume))


@pytest.mark.parametrize("module", ["runner.sandbox.engines", "runner.sandbox.doctor", "runner.sandbox.clean"])
def test_importing_imports_no_engine_library(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('docker', 'podman', 'requests') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.strip() == "[]"


@contextlib.contextmanager
def _listener(path: Path, greeting: bytes) -> Iterator[None]:
    """Something that talks first and does not speak HTTP."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(greeting)
                    connection.close()

        threading.Thread(target=greet, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _relay(path: str) -> Iterator[int]:
    """A TCP port of this machine that leads to a Unix socket."""

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        with connection, socket.socket(socket.AF_UNIX) as inner:
            inner.connect(path)
            back = threading.Thread(target=pass_on, args=(inner, connection), daemon=True)
            back.start()
            pass_on(connection, inner)
            back.join()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
