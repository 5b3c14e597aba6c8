"""A process on the host that lives as long as we do: podman's API service, or a tunnel to an engine behind ssh.

It is started through a shell that waits for the end of its standard input, which we hold open: however we end, even
by SIGKILL, the pipe closes, and the shell ends the process and removes its folder. (PR_SET_PDEATHSIG would do the
same only for as long as the *thread* lives that started the process.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from runner.errors import EngineUnavailable
from runner.sandbox import owner

FOLDER_PREFIX = "claw-runner-service-"
START_SECONDS = 20.0
ELSEWHERE = frozenset(("CONTAINER_HOST", "CONTAINER_CONNECTION"))
"""Variables that make podman the client of another service; told to serve, it then refuses its own options."""

# A service that does not follow SIGTERM within two seconds gets SIGKILL.
_GUARD = """
"$@" </dev/null >"$FOLDER/log" 2>&1 & child=$!
echo "$child" >"$FOLDER/pid"
read -r _
kill "$child"
tries=0
while kill -0 "$child" && [ "$tries" -lt 40 ]; do sleep 0.05; tries=$((tries + 1)); done
kill -9 "$child"
rm -rf "$FOLDER"
"""


def parent() -> Path:
    """Where the folders of services lie: the temporary folder, or /tmp when its name is too long for a socket."""
    folder = Path(tempfile.gettempdir())
    # unix(7): 108 bytes with the closing zero; the rest is for our names below it.
    return folder if len(os.fsencode(folder)) < 60 else Path("/tmp")


class Service:
    """A running process with a folder of its own in the system's temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent()))
        self.socket = self.folder / "socket"
        (self.folder / "owner").write_text(owner.mine())
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, argv: Sequence[str]) -> None:
        """Start the process and wait for its socket. Raises EngineUnavailable with its own words when it ends first."""
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "claw-runner-service", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in ELSEWHERE}
            | {"FOLDER": str(self.folder)},
            start_new_session=True,  # ^C is for us; we end the service when our containers are gone
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._ended() or time.monotonic() > deadline:
                raise EngineUnavailable(f"{' '.join(argv)} did not start: {self._words()}")
            time.sleep(0.01)

    def end(self) -> None:
        """End the process and remove the folder; safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is not None:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            pid = (self.folder / "pid").read_text().strip()
            return pid != "" and not owner.started(int(pid))
        return False

    def _words(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "log").read_text(errors="replace").strip()[-500:] or "it said nothing"
        return "it said nothing"


@contextlib.contextmanager
def local_url(url: str, *, default_socket: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A URL that docker-py's unix and tcp transports can reach, and what ends the tunnel behind it, if there is one.

    The tunnel is ended here only when the body raises. ssh itself, not docker-py's transport over paramiko, because
    it knows the user's configuration and keys and carries a hijacked stream.
    """
    if not url.startswith("ssh://"):
        yield url, lambda: None
        return
    tunnel = Service()
    try:
        tunnel.start(_ssh(url, tunnel.socket, default_socket))
        yield f"unix://{tunnel.socket}", tunnel.end
    except BaseException:
        tunnel.end()
        raise


def _ssh(url: str, socket: Path, default_socket: str) -> list[str]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise EngineUnavailable(f"{url!r} names no host; write ssh://USER@HOST[:PORT][/SOCKET]")
    return [
        *("ssh", "-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"),
        *("-L", f"{socket}:{parts.path if len(parts.path) > 1 else default_socket}"),
        *(("-p", str(parts.port)) if parts.port else ()),
        *(("-l", parts.username) if parts.username else ()),
        *("--", parts.hostname),
    ]
