"""An engine's HTTP API, the docker-compatible one that docker and podman both have: the one border to docker-py.

`Api` speaks HTTP and turns every failure into an error of ours; `Pipe` carries the bytes of a first process.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any, Literal

from runner.errors import EngineUnavailable, SandboxError

if TYPE_CHECKING:
    import docker
    from docker.tls import TLSConfig

PING_SECONDS = 10.0
ANSWER_SECONDS = 60
"""An engine that leaves a request unanswered for so long is not answering."""

SEND_SECONDS = 60
"""See channel.Transport."""

Product = Literal["docker", "podman"]


def reach(url: str, *, name: str, tls: TLSConfig | None = None) -> Api:
    """Connect and ask who answers, in one request. `name` is what to call the place. Raises EngineUnavailable."""
    # Imported when used: 0.15 s.
    import docker  # noqa: PLC0415
    from docker.constants import DEFAULT_DOCKER_API_VERSION  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415
    from docker.utils import version_lt  # noqa: PLC0415

    try:
        _knock(url)
        # A version must be named, else docker-py asks for one, which costs podman a third of a second.
        client = docker.APIClient(url, version=DEFAULT_DOCKER_API_VERSION, tls=tls or False, timeout=ANSWER_SECONDS)
        with contextlib.ExitStack() as undo:
            undo.callback(client.close)
            answer = client.get(f"{client.base_url}/_ping", timeout=PING_SECONDS)
            answer.raise_for_status()
            undo.pop_all()
    except (DockerException, OSError, ValueError) as error:  # requests' errors are OSErrors
        raise EngineUnavailable(f"nothing answers at {name} ({_innermost(error)})") from error
    spoken = answer.headers.get("Api-Version", DEFAULT_DOCKER_API_VERSION)
    if version_lt(spoken, DEFAULT_DOCKER_API_VERSION):
        client.close()
        client = docker.APIClient(url, version=spoken, tls=tls or False, timeout=ANSWER_SECONDS)
    # "Docker/20.10.24 (linux)" or "Libpod/4.3.1 (linux)".
    product, _, version = answer.headers.get("Server", "").partition(" ")[0].partition("/")
    return Api(client, url=name, product="podman" if product == "Libpod" else "docker", version=version)


def _knock(url: str) -> None:
    """Raises OSError when nobody listens at a Unix socket. docker-py would leave its own socket open then."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(url.removeprefix("unix://"))


def _innermost(error: BaseException) -> BaseException:
    """The error of the system call, below the layers of the HTTP libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return error


class Api:
    """One engine's HTTP API. Raises EngineUnavailable, ImageNotFound or SandboxError, never what docker-py raises."""

    def __init__(self, client: docker.APIClient, *, url: str, product: Product, version: str) -> None:
        self.client = client
        """docker-py's low-level client at the engine's docker-compatible API."""
        self.url = url
        self.product = product
        self.version = version

    def get(self, path: str, /, **params: Any) -> Any:
        return self._request("GET", path, params=params).json()

    def post(
        self, path: str, /, *, body: Mapping[str, Any] | None = None, seconds: float = ANSWER_SECONDS, **params: Any
    ) -> Any:
        answer = self._request("POST", path, params=params, json=body, timeout=seconds)
        return answer.json() if answer.content.strip() else None

    def put(self, path: str, data: bytes, /, **params: Any) -> None:
        self._request("PUT", path, params=params, data=data)

    def copy(
        self, path: str, to: str, *, through: Callable[[Iterable[bytes]], Iterator[bytes]], seconds: float
    ) -> None:
        """Send what a GET of `path` gives, as it comes, through a function, in a PUT to `to`."""
        with contextlib.closing(self._request("GET", path, stream=True, timeout=seconds)) as archive:
            self._request("PUT", to, data=through(archive.iter_content(1 << 20)), timeout=seconds)

    def delete(self, path: str, /, **params: Any) -> None:
        self._request("DELETE", path, params=params)

    def exists(self, path: str) -> bool:
        """Whether a GET of the path finds something."""
        try:
            self._request("GET", path)
        except NotThere:
            return False
        return True

    def events(self, container: str) -> list[str]:
        """What happened to a container, removed or not, as far as the engine remembers: "start", "oom", "die", …"""
        filters = json.dumps({"container": [container], "type": ["container"]})
        # Without `until` the answer would go on for ever.
        parameters = {"since": "0", "until": f"{time.time():.9f}", "filters": filters}
        answer = self._request("GET", "/events", params=parameters)
        return [json.loads(line).get("Action", "") for line in answer.iter_lines() if line]

    def attach(self, container: str, *, on_stderr: Callable[[bytes], None], on_end: OnEnd) -> Pipe:
        """Hijack an attach request: standard input goes in, frames of output come out."""
        with self._translated():
            stream = self.client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        return Pipe(stream, on_stderr=on_stderr, on_end=on_end)

    def address(self, path: str) -> str:
        """The whole URL of a path of docker's API or, where it begins with /libpod/, of podman's own."""
        version = "4.0.0" if path.startswith("/libpod/") else self.client.api_version
        return f"{self.client.base_url}/v{version}{path}"

    def close(self) -> None:
        self.client.close()

    def _request(self, method: str, path: str, **kwargs: Any) -> Any:
        with self._translated():
            answer = self.client.request(method, self.address(path), **{"timeout": ANSWER_SECONDS, **kwargs})
            if answer.status_code < 400:
                return answer
            message = _message(answer)
            # podman, asked about a container that it is just removing, says so with status 500.
            gone = answer.status_code == 404 or "no such container" in message
            raise (NotThere if gone else SandboxError)(f"{self.product} at {self.url}: {method} {path}: {message}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        # Imported when used: 0.15 s.
        import docker.errors  # noqa: PLC0415
        import requests  # noqa: PLC0415

        try:
            yield
        except (requests.ConnectionError, requests.Timeout) as error:
            raise EngineUnavailable(
                f"{self.product} at {self.url} stopped answering ({error}); see: claw-runner doctor"
            ) from error
        except docker.errors.APIError as error:
            raise SandboxError(f"{self.product} at {self.url}: {error.explanation or error}") from error


OnEnd = Callable[[], OSError | None]
"""Says why a first process ended without our doing; None: nobody knows."""


class Pipe:
    """The transport of the channel: the first process's standard streams, as an attach stream carries them.

    Output comes in frames of an 8-byte header (1 for stdout or 2 for stderr, three zeros, length as 32 bits big
    endian) and payload; input goes in bare. Format: docker's API reference, "Attach to a container".
    """

    HEADER = Struct(">BxxxL")
    STDOUT = 1

    def __init__(self, stream: Any, *, on_stderr: Callable[[bytes], None], on_end: OnEnd) -> None:
        # docker-py gives the file object around the connection, over TLS the socket itself. Nothing has been read
        # ahead, because an unstarted container says nothing. The file object is kept: when it goes, the socket closes.
        self._stream = stream
        self._connection: socket.socket = getattr(stream, "_sock", stream)
        self._connection.settimeout(None)
        # A timeout of sending alone; settimeout would end a recv, too, that waits for a long command.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, Struct("ll").pack(SEND_SECONDS, 0))
        self._closed = False
        self._on_end = on_end
        self._on_stderr = on_stderr
        self._unread = b""
        self._kind = 0
        self._left = 0

    def send(self, data: bytes) -> None:
        """Raises OSError when the other end is gone, or has taken nothing for SEND_SECONDS."""
        self._connection.sendall(data)

    def recv(self) -> bytes:
        """The next bytes of standard output; b"" at their end. Raises OSError with the reason of the end, if known."""
        while True:
            if not self._left and len(self._unread) >= self.HEADER.size:
                self._kind, self._left = self.HEADER.unpack_from(self._unread)
                self._unread = self._unread[self.HEADER.size :]
            elif self._left and self._unread:
                data, self._unread = self._unread[: self._left], self._unread[self._left :]
                self._left -= len(data)
                if self._kind == self.STDOUT:
                    return data
                self._on_stderr(data)
            elif not self._fill():
                if not self._closed and (reason := self._on_end()):
                    raise reason
                return b""

    def close(self) -> None:
        """End the first process: it sees its standard input end. Wakes whoever waits in `recv`."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._connection.close()

    def _fill(self) -> bool:
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            return False
        self._unread += data
        return bool(data)


class NotThere(SandboxError):
    """The engine knows no such container, image or volume."""


def _message(answer: Any) -> str:
    """The engine's own words, from the JSON both engines answer errors with."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500] or f"HTTP {answer.status_code}"
