"""What a person should look at twice before letting a rule stand: more than it names may come of it."""

from __future__ import annotations

import re

from runner.policy.command_pattern import CommandPattern
from runner.policy.domains import DomainPattern
from runner.policy.paths import PathPattern
from runner.policy.rules import Rule

_INTERPRETERS = re.compile(
    r"python[\d.]*|pypy3?|node(?:js)?|deno|bun|ruby[\d.]*|perl[\d.]*|php[\d.]*|lua[\d.]*|[gmn]?awk|Rscript|julia|tclsh"
    r"|ash|bash|dash|eval|fish|ksh|sh|zsh|source|\."
)
_WRAPPERS = frozenset(
    ("busybox", "command", "doas", "env", "exec", "find", "flock", "nice", "nohup", "parallel", "setsid", "stdbuf")
    + ("su", "sudo", "time", "timeout", "watch", "xargs")
)
_BUILDERS = frozenset(
    ("bazel", "cmake", "go", "gradle", "gradlew", "just", "make", "meson", "mix", "mvn", "ninja", "nox", "rails")
    + ("rake", "sbt", "scons", "task", "tox")
)
_PACKAGES = frozenset(
    ("apk", "apt", "apt-get", "brew", "bundle", "cargo", "composer", "conda", "dnf", "gem", "npm", "npx", "pdm")
    + ("pip", "pip3", "pipenv", "pipx", "pnpm", "poetry", "uv", "uvx", "yarn", "yum")
)
_NETWORK = frozenset(
    ("aws", "curl", "docker", "ftp", "gcloud", "gh", "kubectl", "nc", "ncat", "podman", "rsync", "scp", "sftp")
    + ("socat", "ssh", "telnet", "wget")
)
_GIT_NETWORK = frozenset(("clone", "fetch", "ls-remote", "pull", "push", "remote", "submodule"))
_REMOVERS = frozenset(("dd", "rm", "shred", "truncate", "unlink"))


def risk(rule: Rule) -> str | None:
    """Why a rule that allows is a risk; None when it is not one, as far as that shows."""
    match rule.pattern:
        case CommandPattern(words=words):
            return _of_command(words)
        case DomainPattern():
            return "network"
        case PathPattern(names=names):
            return _of_path(rule.tool, names)
        case _:
            return _OF_TOOLS.get(rule.tool)


_OF_TOOLS = {
    "Bash": "any command",
    "Edit": "any file, outside the repository too",
    "Write": "any file, outside the repository too",
    "WebFetch": "network: any host",
}


def _of_command(words: tuple[str, ...]) -> str | None:
    name = words[0].rsplit("/", 1)[-1]
    if name in _NETWORK or (name == "git" and words[1:2] and words[1] in _GIT_NETWORK):
        return "network"
    if not any("*" in word for word in words):
        return None
    if "*" in name:
        return "any program of such a name"
    if _INTERPRETERS.fullmatch(name):
        if words[1] == "-m" and words[2:]:
            return _of_command(words[2:])
        named = next((word for word in words[1:] if not word.startswith("-")), "*")
        return "an interpreter runs whatever code it is given" if "*" in named else None
    if name in _WRAPPERS:
        return f"{name} starts other programs"
    if name in _PACKAGES:
        return "a package manager runs code of packages"
    if name in _BUILDERS:
        return f"{name} runs what files of the repository say"
    if name in _REMOVERS:
        return f"{name} destroys whatever it is given"
    return "any command of git" if words == ("git", "*") else None


def _of_path(tool: str, names: tuple[str, ...]) -> str | None:
    if tool not in ("Edit", "Write") or names[:1] != ("workspace",):
        return "any file of the container" if names[0] == "**" else None
    return "any file of the repository" if names[2:3] == ("**",) and set(names[2:]) <= {"**", "*"} else None
