"""Whether variables of the host were found inside. Says names, never values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from runner.attack.findings import Finding

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
SHORTEST = 6
"""Characters of a value that is worth looking for."""
KEYS = (
    "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_CLIENT_SECRET", "NPM_TOKEN", "PYPI_TOKEN", "HF_TOKEN", "DOCKER_AUTH_CONFIG", "SSH_AUTH_SOCK", "DOCKER_HOST",
    "CONTAINER_HOST", "KUBECONFIG",
)  # fmt: skip


def look(inside: Iterable[tuple[str, str]], host: Mapping[str, str], meant: Collection[str]) -> Iterator[Finding]:
    """What is wrong with the variables seen inside; `meant` are the names that the policy gives to jobs."""
    seen = list(inside)
    names = {name for name, _ in seen}
    known = sorted(names & set(KEYS) - set(meant))
    yield _finding("find a key by its usual name", known)
    values = {value: name for name, value in host.items() if SECRET_NAME.search(name) and name not in meant}
    copies = {name for name, value in seen for secret in values if len(secret) >= SHORTEST and secret in value}
    yield _finding("find the value of a secret of the host", sorted(copies))
    same = {name for name, value in seen if host.get(name) == value and len(value) >= SHORTEST}
    yield _finding("find variables of the host", sorted(same - ORDINARY - set(meant)))


ORDINARY = frozenset((
    "HOME", "HOSTNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "PAGER", "GIT_PAGER", "PATH", "PWD",
    "SHELL", "TERM", "TMPDIR", "TZ", "USER", "DEBIAN_FRONTEND", "PYTHON_VERSION", "NODE_VERSION", "NO_PROXY",
    "no_proxy", "PIP_DISABLE_PIP_VERSION_CHECK",
))  # fmt: skip
"""Likely to be the same by chance, or because host and image are of one kind."""


def _finding(name: str, found: list[str]) -> Finding:
    return Finding(
        category="secrets",
        name=name,
        status="hole" if found else "held",
        evidence=f"there is {', '.join(found[:5])}" if found else "there is none",
    )
