"""A job as its transcript has it, and back: to be done again, or to go on where it was left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from runner.agents.base import Approve
from runner.config import FileModel, Loaded
from runner.egress import host_ca_bundle
from runner.errors import ConfigError
from runner.models import Model
from runner.policy import Policy
from runner.policy.schema import Container
from runner.repo import Source, locate
from runner.resolve import Job, secret_values
from runner.result import JobFacts
from runner.task import Repo, Task
from runner.transcript import AnyEvent, JobStarted, of_kind

M = TypeVar("M", bound=FileModel)


def known_facts(
    id: str, task: Loaded[Task], policy: Loaded[Policy], *, repo: str, base: str, model: str
) -> dict[str, object]:
    """What a transcript must say of its job: `runner.result.JobFacts`."""
    return {
        "id": id,
        "task": task.value.name,
        "repo": repo,
        "base": base,
        "model": model,
        "limits": task.value.limits.model_dump(mode="json"),
        "hashes": {"task": task.sha256, "policy": policy.sha256},
    }


def facts(job: Job, model: Model, approve: Approve) -> dict[str, object]:
    """The resolved job for its transcript: `known_facts`, and what `recorded_job` reads."""
    known = known_facts(job.id, job.task, job.policy, repo=job.source.url, base=job.source.base, model=model.name)
    return known | {
        "resolved": {
            "task": job.task.value.model_dump(mode="json"),
            "policy": job.policy.value.model_dump(mode="json"),
            "prompt": job.prompt,
            "branch": job.branch,
            "message": job.message,
            "uncommitted": job.source.uncommitted,
            "task_file": str(job.task.path.absolute()),
            "policy_files": [str(path.absolute()) for path in (job.policy.path, *job.policy.bases)],
            "approve": approve,
            "title": job.title,
            "source": job.origin,
        },
    }


def recorded_job(transcript: Path, events: Sequence[AnyEvent], *, to: Path, variables: Mapping[str, str]) -> Job:
    """The job of the transcript with these events, which is to write to the folder `to`.

    Raises ConfigError when the transcript does not say enough, when its base is gone, or when a secret of its policy is
    not among the host's `variables`.
    """
    started = of_kind(events, JobStarted)
    facts = started[0].job if started else {}
    if not (resolved := facts.get("resolved")):
        raise ConfigError(f"{transcript}: does not say what was asked, so the job cannot be done again")
    known = JobFacts.model_validate(facts)
    policy_file, *bases = map(Path, resolved["policy_files"])
    task = _loaded(Path(resolved["task_file"]), Task.model_validate_json(json.dumps(resolved["task"])), known, "task")
    rules = Policy.model_validate_json(json.dumps(_written(resolved["policy"])))
    policy = replace(_loaded(policy_file, rules, known, "policy"), bases=tuple(bases))
    return Job(
        id=known.id,
        folder=to.absolute(),
        task=task,
        policy=policy,
        source=_source(known, resolved),
        prompt=resolved["prompt"],
        branch=resolved["branch"],
        message=resolved["message"],
        title=resolved["title"],
        origin=resolved["source"],
        secrets=secret_values(policy, variables),
        authorities=host_ca_bundle(variables) if policy.value.egress.ca == "host" else None,
    )


def _loaded(path: Path, value: M, known: JobFacts, kind: str) -> Loaded[M]:
    return Loaded(value=value, path=path, sha256=known.hashes.get(kind, ""), where=lambda key: str(path))


def _written(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy with what its file can have said of the container: some sizes may only be said if they fit others."""
    defaults = Container().model_dump(mode="json")
    container = {key: value for key, value in policy["container"].items() if value != defaults[key]}
    return policy | {"container": container}


def _source(known: JobFacts, resolved: Mapping[str, object]) -> Source:
    if resolved.get("uncommitted"):
        raise ConfigError(f"{known.id}: it began with uncommitted changes, which are recorded nowhere")
    return locate(Repo(url=known.repo, base=known.base), folder=Path("/"))
