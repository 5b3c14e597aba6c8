"""A job: one attempt at one task under one policy, resolved. Below here nothing reads YAML or the host's variables."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runner.config import Loaded
from runner.egress import host_ca_bundle
from runner.errors import ConfigError
from runner.masking import check_maskable
from runner.policy import Policy
from runner.repo import Source, check_branch, locate
from runner.task import Task, filled
from runner.task import texts as task_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One attempt at one task under one policy: resolved. Nothing below reads YAML or the host's variables."""

    id: str
    folder: Path
    task: Loaded[Task]
    policy: Loaded[Policy]
    source: Source
    prompt: str
    branch: str
    message: str
    title: str = ""
    """One line for people: an issue's title; "" for one that a person asked for by itself."""
    origin: str = ""
    """Where in a batch's source it comes from: `issues.json:12`."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the host that commands see, by name."""
    authorities: bytes | None = field(default=None, repr=False)
    """What commands trust in place of the image's certificate authorities."""


def resolve(
    task: Loaded[Task],
    policy: Loaded[Policy],
    *,
    runs: Path,
    include_uncommitted: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
    values: Mapping[str, Any] = MappingProxyType({}),
    id: str | None = None,
    title: str = "",
    origin: str = "",
) -> Job:
    """A job of that task: named, its base pinned, its templates rendered. Makes no folder.

    Of `variables`, the host's, the policy names those that come in (`secrets`). A batch names its jobs itself and gives
    their templates `values`: `issue`, `row`, `comment`. Raises ConfigError for what is wrong in the files or with a
    secret, RepoError for a remote that does not answer.
    """
    id = id or f"{task.value.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    task = filled(task, id, values)
    source = locate(task.value.repo, folder=task.path.parent, include_uncommitted=include_uncommitted)
    texts = task_texts(task, id, values)
    job = Job(
        id=id,
        folder=runs.absolute() / id,
        task=task,
        policy=policy,
        source=source,
        prompt=texts.prompt,
        branch=texts.branch,
        message=texts.commit_message,
        title=title,
        origin=origin,
        secrets=secret_values(policy, variables),
        authorities=host_ca_bundle(variables) if policy.value.egress.ca == "host" else None,
    )
    check_branch(source, job.branch)
    return job


def secret_values(policy: Loaded[Policy], variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that the policy lets in, with their values. Raises ConfigError for one that is not there."""
    found: dict[str, str] = {}
    for number, name in enumerate(policy.value.secrets):
        where = policy.where(("secrets", number))
        if not (value := variables.get(name)):
            raise ConfigError(f"{where}: secrets: {name} is not set here; export it, or take it out of the list")
        check_maskable(name, value)
        found[name] = value
    return found
