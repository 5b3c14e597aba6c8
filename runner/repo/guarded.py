"""Paths that people or machines act on when a branch arrives: built in, in lower case, as path patterns of a policy."""

from __future__ import annotations

from functools import cache

from runner.policy.paths import PathPattern, parse_path

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
