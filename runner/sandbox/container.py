"""A container from create to gone; what docker and podman have in common.

`docker.py` and `podman.py` only say how to reach the engine and what a create request looks like there.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from runner.errors import ControlNotEnforced, ImageNotFound, SandboxError
from runner.masking import Masker
from runner.sandbox import clean, profile
from runner.sandbox.api import Api, NotThere, Pipe
from runner.sandbox.base import WORKSPACE, SandboxConfig, SandboxReport, Usage
from runner.sandbox.channel import Channel
from runner.sandbox.client import Client
from runner.sandbox.hello import PROXY_PORT, Hello, Settings, Watched, say_hello
from runner.sandbox.profile import ImageConfig

GONE_SECONDS = 3.0
"""Auto-remove needs 0.03-0.4 s after the pipe has closed; after this we remove by force."""
REASON_SECONDS = 0.5
"""How long a lost sandbox may wait to learn why; a command that waits in it learns of the loss that much later."""
LATE_SECONDS = 1.0
"""An engine whose client hung up in the middle of "create" may still make the container for this time."""
STDERR_NAME = "toolbox.log"
STDERR_BYTES = 1 << 20
"""What is kept of the first process's standard error."""

Create = Callable[[SandboxConfig, ImageConfig, str], None]
"""`create(config, image, name)` makes an unstarted container of that name."""


class ContainerEngine:
    """A connected engine; matches `base.Engine`, and is a context manager."""

    def __init__(
        self,
        api: Api,
        *,
        create: Create,
        on_close: Callable[[], None] = lambda: None,
        started_by_us: bool = False,
    ) -> None:
        """`on_close` ends what was started to reach the engine."""
        self.started_by_us = started_by_us
        """Whether the engine's service runs only as long as this connection."""
        self.api = api
        self.name: Literal["docker", "podman"] = api.product
        self.version = api.version
        self._create = create
        self._on_close = on_close
        self._farewells: list[threading.Thread] = []
        self._left_behind: dict[str, SandboxError] = {}
        self._swept = False

    def open_sandbox(self, config: SandboxConfig) -> Client:
        """See `base.Engine.open_sandbox`."""
        # The name is ours and unique, so that a container can be removed even when the answer to "create" never came.
        name = f"claw-{uuid.uuid4().hex[:16]}"
        clock = _Clock()
        image = self._image(config.image)
        _refuse_volume(config, image)
        with contextlib.ExitStack() as undo:
            undo.callback(lambda: self._abandon(name, answered="create" in clock.timings))
            self._create(config, image, name)
            clock.lap("create")
            pipe = self._start(name, config)
            undo.callback(pipe.close)
            clock.lap("start")
            channel = Channel(pipe, on_tunnel=config.on_tunnel)
            found = say_hello(channel, _settings(config, image))
            clock.lap("hello")
            client = Client(
                channel,
                report=self._report(config, name, found, clock.timings),
                log_folder=Path(config.log_folder) if config.log_folder else None,
                on_close=lambda: self._see_off(name),
                mask=config.mask,
            )
            undo.pop_all()
        return client

    def _image(self, reference: str) -> ImageConfig:
        try:
            image = self.api.get(f"/images/{reference}/json")["Config"] or {}
        except NotThere as error:
            raise ImageNotFound(
                f"image {reference!r} is not on {self.name}; for one of ours: claw-runner image build"
            ) from error
        variables = (variable.partition("=") for variable in image.get("Env") or ())
        return ImageConfig(
            variables={name: value for name, _, value in variables}, volumes=tuple(image.get("Volumes") or ())
        )

    def _start(self, name: str, config: SandboxConfig) -> Pipe:
        """Attach first, so that nothing which the first process says is lost, and so that it ends when we do."""
        log = _Stderr(Path(config.log_folder, STDERR_NAME) if config.log_folder else None, config.mask)
        pipe = self.api.attach(name, on_stderr=log.write, on_end=lambda: self._why_ended(name))
        try:
            self.api.post(f"/containers/{name}/start")
        except BaseException:
            pipe.close()
            raise
        return pipe

    def _report(self, config: SandboxConfig, name: str, found: Hello, timings: dict[str, float]) -> SandboxReport:
        return SandboxReport(
            engine=self.name,
            engine_version=self.version,
            container_id=name,
            image=config.image,
            image_digest=config.image_digest,
            controls=profile.read_back(config.profile, found),
            toolbox_version=found.version,
            timings=timings,
        )

    def _why_ended(self, name: str) -> OSError | None:
        """What the engine knows of a container's end that we did not bring about; None when it knows nothing."""
        if self.name == "podman":
            return None  # its events do not tell, and it has removed what else would
        deadline = time.monotonic() + REASON_SECONDS
        events: list[str] = []
        with contextlib.suppress(SandboxError):
            # The stream may end before the engine has written down why.
            while "die" not in events and time.monotonic() < deadline:
                events = self.api.events(name)
                time.sleep(0.02)
        if "oom" not in events:
            return None
        return OSError(errno.ENOMEM, "the container ran out of memory (container.memory in the policy)")

    def close(self) -> None:
        """Wait until every container is gone, then disconnect. Raises SandboxError when one could not be removed."""
        for thread in self._farewells:
            thread.join()
        left = [f"{name} ({error})" for name in self._left_behind if (error := self._not_removed(name))]
        self.api.close()
        self._on_close()
        if left:
            raise SandboxError(f"could not remove {'; '.join(left)}; try: claw-runner clean")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _see_off(self, name: str) -> None:
        """Make sure, off the critical path, that a container whose pipe has closed is removed.

        The engine removes it by itself, even when we are killed now; this looks whether it did. Not a daemon thread:
        the interpreter waits for it, so that a process which ends right after `close` leaves nothing.
        """
        self._farewells = [thread for thread in self._farewells if thread.is_alive()]
        self._in_background(self._confirm_gone, name)
        if not self._swept:
            self._swept = True
            self._in_background(self._sweep, name)

    def _confirm_gone(self, name: str) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while self.api.exists(f"/containers/{name}/json") and time.monotonic() < deadline:
            time.sleep(0.02)
        if time.monotonic() >= deadline:
            self._remove(name)

    def _sweep(self, _: str) -> None:
        """Remove, once in our life, what killed runners left: between create and start nothing removes itself."""
        with contextlib.suppress(SandboxError):
            clean.clean_engine(self.api)

    def _abandon(self, name: str, *, answered: bool) -> None:
        """Remove a container that was not opened; `answered` says whether the engine told us that it made it.

        In a thread, so that a second ^C does not stop it.
        """
        self._in_background(self._remove if answered else self._remove_twice, name).join()

    def _remove(self, name: str) -> None:
        clean.remove_container(self.api, name)

    def _remove_twice(self, name: str) -> None:
        """An engine whose client hung up may finish creating the container after our first try."""
        self._remove(name)
        time.sleep(LATE_SECONDS)
        self._remove(name)

    def _not_removed(self, name: str) -> SandboxError | None:
        """Try once more: an engine that was killed in between may be back."""
        try:
            self._remove(name)
        except SandboxError as error:
            return error
        return None

    def _in_background(self, remove: Callable[[str], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                remove(name)
            except SandboxError as error:
                self._left_behind[name] = error

        thread = threading.Thread(target=run, name=f"remove-{name}")
        self._farewells.append(thread)
        thread.start()
        return thread


def _refuse_volume(config: SandboxConfig, image: ImageConfig) -> None:
    """What an image declares as a volume does not lie in the layer, and so would not be in a snapshot."""
    inside = [path for path in image.volumes if WORKSPACE in (PurePosixPath(path), *PurePosixPath(path).parents)]
    if inside and config.profile.workspace == "layer":
        raise ControlNotEnforced(f"container.workspace: layer: {config.image} declares a volume at {inside[0]}")


def _watched(config: SandboxConfig) -> Watched | None:
    """The bounds of a workspace that no mount bounds: what it holds may grow by so much."""
    if config.profile.workspace == "memory":
        return None
    used = config.filled.usage if config.filled else Usage(bytes=0, files=0)
    return Watched(
        used_bytes=used.bytes,
        used_files=used.files,
        most_bytes=used.bytes + config.profile.disk,
        most_files=used.files + config.profile.inodes,
    )


def _settings(config: SandboxConfig, image: ImageConfig) -> Settings:
    """The image's variables that were kept from the toolbox are for the commands."""
    return Settings(
        uid=config.profile.uid,
        gid=config.profile.gid,
        watch=_watched(config),
        variables=image.loader_variables | dict(config.variables),
        hidden_variables=(*profile.VARIABLES, "container"),  # podman sets "container"
        proxy_port=PROXY_PORT if config.on_tunnel else None,
    )


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.timings[phase], self._last = now - self._last, now


class _Stderr:
    """The beginning of the first process's standard error, masked, in a file that is made when there is any."""

    def __init__(self, path: Path | None, mask: tuple[str, ...]) -> None:
        self._path = path
        self._room = STDERR_BYTES
        self._mask = Masker(mask).stream()

    def write(self, data: bytes) -> None:
        data = self._mask.feed(data)
        kept, self._room = data[: self._room], max(0, self._room - len(data))
        if self._path is not None and kept:
            with self._path.open("ab") as file:
                file.write(kept)
