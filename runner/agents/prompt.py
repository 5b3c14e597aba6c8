"""The system prompt: who the model is, where, what it may do and spend, and what the repository says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from runner.messages import ToolSpec
from runner.policy import Policy
from runner.sandbox.base import HOME, REPO, Sandbox
from runner.task import Limits
from runner.tools.base import Session
from runner.tools.paths import path_calls

NOTE_FILES = ("CLAUDE.md", "AGENTS.md")
"""Files in which repositories tell agents about themselves."""
MAX_NOTE_CHARS = 20_000
"""Of each file."""


@dataclass(frozen=True, slots=True)
class Note:
    name: str
    text: str


def system_prompt(*, session: Session, policy: Policy, limits: Limits, tools: tuple[ToolSpec, ...]) -> str:
    """The prompt, rendered. Reads the sandbox; raises SandboxError."""
    return _template().render(
        repo=REPO,
        home=HOME,
        shell=_shell(session.sandbox),
        tools=[tool.name for tool in tools],
        mode=policy.mode,
        allow=[str(rule) for rule in policy.allow],
        ask=[str(rule) for rule in policy.ask],
        deny=[str(rule) for rule in policy.deny],
        asks=policy.mode == "interactive" or bool(policy.ask),
        network=policy.egress.agent,
        secrets=policy.secrets,
        limits=_words(limits),
        notes=notes(session),
    )


def notes(session: Session) -> tuple[Note, ...]:
    """The note files that the policy lets the model read, bounded; one that is a link to another is left out."""
    found: dict[str, Note] = {}
    for name in NOTE_FILES:
        try:
            calls = path_calls("Read", str(REPO / name), session)
            path = calls[-1].subject
            inside = path.startswith(f"{REPO}/")
            if inside and all(map(session.permits, calls)) and session.sandbox.stat(path).kind == "file":
                found.setdefault(path, Note(name, _read(session.sandbox, path)))
        except OSError:
            continue  # a note that cannot be read is none; the job does not depend on it
    return tuple(note for note in found.values() if note.text)


@cache
def _template() -> jinja2.Template:
    source = Path(__file__).with_name("prompts") / "system.md.j2"
    return jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(source.read_text())


def _read(sandbox: Sandbox, path: str) -> str:
    data = sandbox.read_file(path, max_bytes=4 * MAX_NOTE_CHARS)
    # The file must not be able to end its own quotation.
    text = data.decode("utf-8", "replace").replace("</repository-file", "<\\/repository-file").strip()
    return text if len(text) <= MAX_NOTE_CHARS else f"{text[:MAX_NOTE_CHARS]}\n(… cut; read the file for the rest)"


def _shell(sandbox: Sandbox) -> str:
    found = (sandbox.stat(sandbox.resolve(path)).kind == "file" for path in ("/bin/bash", "/usr/bin/bash"))
    return "bash" if any(found) else "sh"


def _words(limits: Limits) -> list[str]:
    words = [f"{limits.turns} replies", f"{limits.seconds:.0f} seconds"]
    if limits.cost_usd is not None:
        words.append(f"${limits.cost_usd:.2f} for tokens")
    if limits.output_tokens is not None:
        words.append(f"{limits.output_tokens} output tokens")
    return words
