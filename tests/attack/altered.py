"""Real engines whose containers lack one thing, and say nothing about it: the attack must find out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.policy.contain import Grant
from runner.sandbox.base import SandboxConfig, Tunnel
from runner.sandbox.client import Client
from runner.sandbox.container import ContainerEngine
from tests.sandbox.weaker import Change, creating


def nothing(body: dict[str, Any]) -> None:
    """No change."""


def mounted(source: Path, target: str, *, how: str = "rw") -> Change:
    def change(body: dict[str, Any]) -> None:
        if "mounts" in body:
            body["mounts"].append({"destination": target, "type": "bind", "source": str(source), "options": [how]})
        else:
            body["Binds"] = [f"{source}:{target}:{how}"]

    return change


class Unconfined(ContainerEngine):
    """Its sandboxes take grants, and do not apply them."""

    def __init__(self, engine: ContainerEngine) -> None:
        super().__init__(engine.api, create=creating(engine, nothing))

    def open_sandbox(self, config: SandboxConfig) -> Client:
        sandbox = super().open_sandbox(config)
        sandbox.confine = _take_grants  # type: ignore[method-assign]
        return sandbox


def _take_grants(grants: Sequence[Grant]) -> None:
    pass


class Unkept(Unconfined):
    """Its sandboxes give no file away."""

    def open_sandbox(self, config: SandboxConfig) -> Client:
        sandbox = super().open_sandbox(config)
        del sandbox.confine
        sandbox.keep = _take_paths  # type: ignore[method-assign]
        return sandbox


def _take_paths(*, unreadable: Sequence[str], unwritable: Sequence[str]) -> None:
    pass


class Gullible(Unconfined):
    """Its proxy says yes to everything."""

    def open_sandbox(self, config: SandboxConfig) -> Client:
        return ContainerEngine.open_sandbox(self, replace(config, on_tunnel=_yes))


def _yes(tunnel: Tunnel) -> None:
    with contextlib.suppress(BrokenPipeError):
        tunnel.recv()
        tunnel.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")


class Talkative(Unconfined):
    """It gives commands a variable of the host."""

    variables = {"BUILD_TOKEN": "the-token-of-the-build"}

    def open_sandbox(self, config: SandboxConfig) -> Client:
        return ContainerEngine.open_sandbox(self, replace(config, variables=self.variables))
