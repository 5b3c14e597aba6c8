"""Paths that people or machines act on when a branch arrives: built in, in lower case, as path patterns of a policy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from runner.policy.paths import REPO, PathPattern, parse_path
from runner.policy.schema import Gate

CONTINUOUS_INTEGRATION = (
    "**/.github/**",
    "**/.gitlab/**",
    "**/.gitlab-ci.yml",
    "**/.gitea/**",
    "**/.forgejo/**",
    ".appveyor.yml",
    "appveyor.yml",
    "azure-pipelines*.yml",
    "**/.azure-pipelines/**",
    "bitbucket-pipelines.yml",
    "**/.buildkite/**",
    "**/.circleci/**",
    ".cirrus.yml",
    "cloudbuild.yaml",
    ".drone.yml",
    "jenkinsfile*",
    "**/.semaphore/**",
    "**/.tekton/**",
    ".travis.yml",
    ".woodpecker*",
)
GIT = (".git*", "codeowners")
HOOKS = (
    "**/.husky/**",
    ".pre-commit-config.yaml",
    ".pre-commit-hooks.yaml",
    "lefthook.*",
    ".lefthook*",
    ".overcommit.yml",
)
AGENTS_AND_EDITORS = (
    ".aider.conf.yml",
    "**/.claude/**",
    "**/.codex/**",
    "**/.continue/**",
    "**/.cursor/**",
    "**/.devcontainer/**",
    ".devcontainer.json",
    "**/.gemini/**",
    ".mcp.json",
    "**/.opencode/**",
    "opencode.json*",
    "**/.vscode/launch.json",
    "**/.vscode/mcp.json",
    "**/.vscode/settings.json",
    "**/.vscode/tasks.json",
    "**/.windsurf/**",
)
HARMLESS = (".gitkeep",)
"""Among those above, what nothing reads."""

LOCK_FILES = (
    "bun.lock",
    "bun.lockb",
    "cargo.lock",
    "composer.lock",
    "conda-lock.yml",
    "deno.lock",
    "flake.lock",
    "gemfile.lock",
    "go.sum",
    "gradle.lockfile",
    "mix.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "package.resolved",
    "packages.lock.json",
    "pdm.lock",
    "pipfile.lock",
    "pnpm-lock.yaml",
    "podfile.lock",
    "poetry.lock",
    "pubspec.lock",
    "pylock*.toml",
    "uv.lock",
    "yarn.lock",
)


@cache
def always_guarded() -> tuple[PathPattern, ...]:
    return patterns((*CONTINUOUS_INTEGRATION, *GIT, *HOOKS, *AGENTS_AND_EDITORS))


@cache
def harmless() -> tuple[PathPattern, ...]:
    return patterns(HARMLESS)


@cache
def lock_files() -> tuple[PathPattern, ...]:
    return patterns(LOCK_FILES)


@cache
def patterns(texts: tuple[str, ...]) -> tuple[PathPattern, ...]:
    """Raises ValueError for what is no pattern."""
    return tuple(parse_path(text) for text in texts)


def built_in(gate: Gate, path: str) -> str | None:
    """Why a path (from the repository's root) may not change though no rule denies it, to follow its name."""
    if covered(patterns(gate.allow), path):
        return None
    # There are systems that tell no upper from lower case.
    name = folded(path)
    if covered(harmless(), name):
        return None
    if covered(always_guarded(), name):
        return "is always protected (gate.allow in the policy lifts that)"
    if not gate.lockfiles and covered(lock_files(), name):
        return "is a lock file, and gate.lockfiles in the policy says that these must not change"
    return None


def covered(guards: Iterable[PathPattern], path: str) -> bool:
    """Whether one of them is about a path from the repository's root."""
    return any(guard.covers(f"{REPO}/{path}") for guard in guards)


def folded(path: str) -> str:
    """The same for all names that some file system takes for one."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()
