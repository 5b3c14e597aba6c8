"""The policy's path rules, tried on a small repository that is made to match them.

For each rule a path is made up that it speaks of. What the policy then denies to the Read and Edit tools, commands must
not do either: they are kept from it inside, or the gate refuses what comes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from runner.attack.entry import VARIABLES
from runner.attack.findings import Finding, Status
from runner.errors import SandboxError
from runner.policy import Decision, Policy
from runner.policy.contain import Uncontained, containment, may_read, may_write
from runner.policy.paths import PathPattern
from runner.sandbox.base import REPO, TOOLBOX, Sandbox

SECONDS = 240.0
OUTPUT_BYTES = 1_000_000
TEXT_BYTES, SHORTEST_TEXT = 100, 20
"""Of a file of the image: what is read to know it again, and how long that must be to be its own."""
FILES_TRIED = 20
UNLISTED = (f"{REPO}/unlisted.txt", f"{REPO}/src/unlisted.py")
"""Paths that a rule speaks of only if it speaks of much."""
FOUND, FRESH = ("deep", "any"), ("newly", "made")
"""Words that stand for `**` and `*` in the paths of files that are there, and of files that are to be made."""
ORDINARY = {"README.md": "A small project\n", "src/app.py": "print('hello')\n"}

Access = Literal["read", "write"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A path that the policy keeps a tool from."""

    path: str
    text: str
    """What is in it: one line, known to nobody else."""
    access: Access
    rule: str | None
    """That denies it; None: no rule allows it."""
    there: bool = True
    """False: a new file is to be made."""

    @property
    def in_repository(self) -> str | None:
        """Its path there; None for what lies elsewhere, and for what git does not track."""
        relative = self.path.removeprefix(f"{REPO}/")
        return None if relative == self.path or self.is_gits else relative

    @property
    def is_gits(self) -> bool:
        """Whether it is, or lies in, a folder that git keeps to itself."""
        return self.path.startswith(f"{REPO}/") and ".git" in self.path.lower().split("/")


class Outcome(BaseModel):
    """Of one target: ways tried, and ways that got through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tried: int
    through: tuple[str, ...]


def targets(policy: Policy, token: str) -> tuple[Target, ...]:
    """What the policy denies, of all paths that its rules speak of."""
    rules = [rule for key in ("deny", "ask", "allow") for rule in getattr(policy, key)]
    patterns = [rule.pattern for rule in rules if isinstance(rule.pattern, PathPattern)]
    found = dict.fromkeys([*filter(None, map(example, patterns)), *UNLISTED], True)
    fresh = dict.fromkeys(filter(None, (example(pattern, words=FRESH) for pattern in patterns)), False)
    both = {**fresh, **found}
    return tuple(target for path, there in both.items() for target in _denied(policy, path, token, there=there))


def _denied(policy: Policy, path: str, token: str, *, there: bool) -> Iterator[Target]:
    judges: tuple[tuple[Access, Callable[[Policy, str], Decision]], ...] = (("read", may_read), ("write", may_write))
    for access, judge in judges if there else judges[1:]:
        decision = judge(policy, path)
        if decision.verdict == "deny":
            text = f"# {token} {path}\n"
            yield Target(path=path, text=text, access=access, rule=decision.rule, there=there)


def example(pattern: PathPattern, words: tuple[str, str] = FOUND) -> str | None:
    """A path that the pattern covers; None when none comes to mind. `words` stand for folders, and for other names."""
    names = [_name(name, words) for name in pattern.names]
    path = "/" + "/".join([*names, words[1]] if pattern.only_folders else names)
    return path if pattern.covers(path) else None


def _name(pattern: str, words: tuple[str, str]) -> str:
    """A name that a glob matches."""
    if pattern == "**":
        return words[0]
    one = re.sub(r"\[[!^][^\]]*\]", "~", pattern)
    one = re.sub(r"\[(\]?[^\]]).*?\]", r"\1", one)
    one = re.sub(r"(?<!\\)\*+", words[1], one)
    return re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)\?", "q", one))


def files(targets: Iterable[Target]) -> dict[str, str]:
    """The made repository: path -> content. Of two paths that cannot both be, the first stays."""
    made = dict(ORDINARY)
    for target in targets:
        path = target.in_repository
        if path and target.there and not any(_lies_in(path, other) or _lies_in(other, path) for other in made):
            made[path] = target.text
    return made


def _lies_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def as_found(sandbox: Sandbox, policy: Policy, targets: Iterable[Target]) -> tuple[Target, ...]:
    """Targets among the image's own files: one that is there and that the policy denies, and the text in it."""
    return tuple(_as_found(sandbox, policy, target) if _is_the_images(target) else target for target in targets)


def _is_the_images(target: Target) -> bool:
    return target.access == "read" and not target.path.startswith(("/workspace/", "/tmp/"))


def _as_found(sandbox: Sandbox, policy: Policy, target: Target) -> Target:
    denied = (path for path in _near(sandbox, target.path) if may_read(policy, path).verdict == "deny")
    texts = ((path, _text(sandbox, path)) for path in denied)
    return next((replace(target, path=path, text=text) for path, text in texts if text), target)


def _text(sandbox: Sandbox, path: str) -> str:
    """How a file begins; empty where that is too little to know it again, or nobody may read it."""
    try:
        text = sandbox.read_file(path, max_bytes=TEXT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return text if len(text) >= SHORTEST_TEXT else ""


def _near(sandbox: Sandbox, path: str) -> tuple[str, ...]:
    """The file; in its place, files of the folder that it is, or of the nearest that is there."""
    where = PurePosixPath(sandbox.resolve(path))
    if sandbox.stat(str(where)).kind == "file":
        return (str(where),)
    folder = next(each for each in (where, *where.parents) if sandbox.stat(str(each)).kind == "directory")
    return sandbox.glob("**", root=str(folder), limit=FILES_TRIED)[0]


def try_paths(sandbox: Sandbox, targets: tuple[Target, ...]) -> tuple[Outcome, ...]:
    """Every way to every target, as a command of the agent's. Raises SandboxError when it cannot be tried."""
    orders = [{"path": target.path, "text": target.text, "access": target.access} for target in targets]
    script = (Path(__file__).with_name("inside") / "ways.py").read_text()
    done = sandbox.exec(
        [f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", "-c", script],
        program="argv",
        variables=VARIABLES,
        stdin=[json.dumps(orders).encode()],
        seconds=SECONDS,
        head_bytes=OUTPUT_BYTES,
        separate_stderr=True,
        confined=True,
    )
    try:
        return TypeAdapter(tuple[Outcome, ...]).validate_json(done.output)
    except ValidationError as error:
        raise SandboxError(f"the path rules could not be tried: {done.stderr[-300:]!r}") from error


def untried(targets: Iterable[Target]) -> Iterator[Finding]:
    """What no command could be kept from."""
    for target in targets:
        if target.is_gits:
            why = "git itself writes there; of what it writes only commits and their files come out"
            yield Finding(category="path rules", name=_name_of(target), status="not_applicable", evidence=why)


def change_all(sandbox: Sandbox, targets: Iterable[Target]) -> None:
    """Change every file that must not be changed and can be, for the gate to see."""
    paths = [target.path for target in targets if target.access == "write" and target.in_repository]
    change = 'for path; do mkdir -p "${path%/*}"; echo changed >> "$path"; done'
    sandbox.exec(["/bin/sh", "-c", change, "sh", *paths], program="argv", seconds=60, confined=True)


def judged(
    policy: Policy, targets: Iterable[Target], outcomes: Iterable[Outcome], refused: Container[str]
) -> Iterator[Finding]:
    """What came of it; `refused` are the paths, from the repository's root, whose change the gate refuses."""
    gaps = {gap.rule: gap for gap in containment(policy).uncontained}
    for target, outcome in zip(targets, outcomes, strict=True):
        gap = gaps.get(target.rule or "")
        yield _finding(target, outcome, gap, gated=target.in_repository in refused)


def _name_of(target: Target) -> str:
    verb, path = target.access if target.there else "make", target.path.removeprefix(f"{REPO}/")
    return f"{verb} {path} ({target.rule or 'no rule allows it'})"


def _finding(target: Target, outcome: Outcome, gap: Uncontained | None, *, gated: bool) -> Finding:
    status: Status
    if not outcome.through:
        status, evidence = "held", f"{outcome.tried} ways were tried"
    elif target.access == "write" and gated:
        status, evidence = "held", f"changed inside by {', '.join(outcome.through)}; the gate refuses the branch"
    else:
        status, evidence = "hole", f"by {', '.join(outcome.through)}"
    if gap and outcome.through and status == "hole":
        evidence += f"; decided but not contained: {gap.why}"
    return Finding(category="path rules", name=_name_of(target), status=status, evidence=evidence)
