"""What an attack came to: findings, and the score card that counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

Category = Literal[
    "host files",
    "sockets",
    "/proc and /sys",
    "mounts",
    "devices",
    "capabilities",
    "privileges",
    "namespaces",
    "system calls",
    "egress",
    "proxy",
    "secrets",
    "path rules",
    "git",
    "processes",
    "memory",
    "disk",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)

Status = Literal["held", "hole", "not_applicable", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)


class Finding(BaseModel):
    """One attempt, and what it came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Category
    name: str
    """What was tried."""
    status: Status
    """held: stopped. hole: got through. not_applicable: there was nothing to try here. error: could not be tried."""
    evidence: str
    """What stopped it, or what it got. Comes from the container: not fit for a terminal as it is."""

    @property
    def next_step(self) -> str:
        return NEXT_STEPS[self.category]


NEXT_STEPS: Mapping[Category, str] = {
    "host files": "find out what the engine mounts into every container by itself (its configuration, hooks, defaults)",
    "sockets": "take the socket out of the engine's default mounts: whoever reaches it controls the host",
    "/proc and /sys": "use an engine that applies masked_paths; take it out of container.best_effort",
    "mounts": "take read_only and host_mounts out of container.best_effort; look at the engine's default mounts",
    "devices": "look at the engine's default devices; take devices out of container.best_effort",
    "capabilities": "look at the engine's wrappers and hooks: something gives commands what was dropped",
    "privileges": "take user and no_new_privileges out of container.best_effort",
    "namespaces": "take seccomp out of container.best_effort, or forbid it: sysctl -w user.max_user_namespaces=0",
    "system calls": "use a kernel and an OCI runtime with seccomp; take it out of container.best_effort",
    "egress": "take network and resolv_conf out of container.best_effort; look at the engine's default network",
    "proxy": "narrow `egress` in the policy to names that you trust with everything in the container",
    "secrets": "take the variable out of `secrets` and out of the engine's configuration",
    "path rules": "see: claw-runner policy explain POLICY CALL; it says which layer holds the rule",
    "git": "a bug of claw-runner: please report it",
    "processes": "take pids and cpus out of container.best_effort; see claw-runner doctor",
    "memory": "take memory and swap out of container.best_effort; see claw-runner doctor",
    "disk": "take disk, inodes, tmp and file_size out of container.best_effort; see claw-runner doctor",
}


class Scorecard(BaseModel):
    """All findings of one attack on one engine under one policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    engine_version: str
    policy: str
    """Where it was read from."""
    image: str
    findings: tuple[Finding, ...]
    seconds: float

    def of(self, status: Status) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == status)

    @property
    def leaking(self) -> tuple[Category, ...]:
        """Categories with a hole."""
        leaking = {finding.category for finding in self.of("hole")}
        return tuple(category for category in CATEGORIES if category in leaking)

    @property
    def held(self) -> bool:
        """Whether everything was tried, and nothing got through."""
        return not self.of("hole") and not self.of("error")

    def document(self) -> dict[str, Any]:
        """For JSON: what it is made of, and what is counted from it."""
        counted = {
            category: {status: sum(found.category == category for found in self.of(status)) for status in STATUSES}
            for category in CATEGORIES
        }
        holes = [{**hole.model_dump(), "next_step": hole.next_step} for hole in self.of("hole")]
        return {"held": self.held, "counted": counted, "holes": holes, **self.model_dump(mode="json")}
