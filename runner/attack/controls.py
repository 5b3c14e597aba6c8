"""The controls that were read back when the container was opened, as findings: those that did not take are holes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from runner.attack.findings import Category, Finding, Status
from runner.policy.contain import containment
from runner.policy.schema import ControlName, Policy
from runner.sandbox.base import Control

CATEGORY: Mapping[ControlName, Category] = {
    "capabilities": "capabilities",
    "first_process": "capabilities",
    "no_new_privileges": "privileges",
    "seccomp": "system calls",
    "user": "privileges",
    "user_namespace": "namespaces",
    "read_only": "mounts",
    "host_mounts": "mounts",
    "masked_paths": "/proc and /sys",
    "devices": "devices",
    "network": "egress",
    "resolv_conf": "egress",
    "memory": "memory",
    "swap": "memory",
    "cpus": "processes",
    "pids": "processes",
    "disk": "disk",
    "inodes": "disk",
    "tmp": "disk",
    "shared_memory": "disk",
    "file_size": "disk",
    "open_files": "processes",
    "core_dumps": "privileges",
    "landlock": "path rules",
}


def read_back(controls: Iterable[Control], policy: Policy) -> Iterator[Finding]:
    for control in controls:
        status, evidence = _judged(control, policy)
        yield Finding.model_validate(
            {
                "category": CATEGORY[control.name],  # type: ignore[index]
                "name": f"control {control.name}: {control.requested}",
                "status": status,
                "evidence": evidence,
            }
        )


def _judged(control: Control, policy: Policy) -> tuple[Status, str]:
    if control.status != "missing":
        return "held", control.effective
    match control.name:
        case "read_only" if not policy.container.read_only:
            return "not_applicable", "the policy asks for a writable root (container.read_only: false)"
        case "user_namespace" if "user_namespace" not in policy.container.best_effort:
            return "not_applicable", "this engine has user namespaces for its whole daemon, or not at all"
        case "landlock" if not containment(policy).restricts:
            return "not_applicable", "the policy has nothing that Landlock would have to hold"
        case _:
            return "hole", control.effective
