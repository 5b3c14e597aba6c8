"""Traps in the repository's own `.git`, set inside, and sprung if anything on the host runs git over it.

Each would leave a file in the bait's folder. Then the work is taken out, as a job's would be, and looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.attack.bait import Bait
from runner.attack.findings import Finding, Status
from runner.repo import Quarantine, Taken
from runner.repo.git import GitFailed
from runner.sandbox.base import Sandbox

SECONDS = 60.0

# {run} is a command that leaves the trap's name on the host.
COMMANDS: Mapping[str, str] = {
    "hooks": (
        "mkdir -p .git/hooks; for h in pre-commit post-commit post-checkout post-index-change reference-transaction "
        "pre-receive post-receive update pre-push fsmonitor-watchman pre-auto-gc; do "
        "printf '#!/bin/sh\\n%s\\n' '{run}' > .git/hooks/$h; chmod +x .git/hooks/$h; done"
    ),
    "hooks elsewhere": (
        "mkdir -p .git/h; printf '#!/bin/sh\\n%s\\n' '{run}' > .git/h/reference-transaction; chmod +x .git/h/*;"
        "git config core.hooksPath .git/h"
    ),
    "fsmonitor": "git config core.fsmonitor '{run}; false'",
    "textconv": "git config diff.t.textconv '{run}; cat'; echo '* diff=t' >> .git/info/attributes",
    "external diff": "git config diff.external '{run}; true'",
    "filters": (
        "git config filter.f.clean '{run}; cat'; git config filter.f.smudge '{run}; cat';"
        "echo '* filter=f' >> .git/info/attributes"
    ),
    "aliases": "for a in st co ci br; do git config alias.$a '!{run}'; done",
    "pager and editor": "git config core.pager '{run}'; git config core.editor '{run}'",
    "ssh and credentials": "git config core.sshCommand '{run}'; git config credential.helper '!{run}'",
    "include": "printf '[diff]\\n\\texternal = \"%s\"\\n' '{run}; true' > .git/i; git config include.path i",
    "remote": "git config remote.origin.url 'ext::{run}'; git config protocol.ext.allow always",
    "alternate refs": (
        "git config core.alternateRefsCommand '{run}'; printf '/etc\\n/root\\n/workspace/repo/.git/objects\\n' "
        "> .git/objects/info/alternates"
    ),
    "submodule": (
        "printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = ext::{run}\\n' > .gitmodules;"
        "git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),s"
    ),
}
OTHERS = (
    "git replace -f HEAD $(git commit-tree -m replaced 'HEAD^{tree}')",
    "printf '* filter=f diff=t merge=t\\n' > .gitattributes",
    "ln -s /etc/passwd out; ln -s ../../../../../etc out-of-here; ln -s .git/config in",
    "touch -- '-x' \"$(printf 'a\\033[31mb')\" \"$(printf 'a\\nb')\"",
)
WORK = "echo '# changed by the attack' >> README.md"


def script(bait: Bait) -> str:
    """Sets every trap; one that does not go in does not keep the others out."""
    traps = [commands.replace("{run}", f"touch {bait.sprung / _mark(name)}") for name, commands in COMMANDS.items()]
    return "\n".join(f"( {commands} ) 2>&1" for commands in (WORK, *OTHERS, *traps))


def _mark(name: str) -> str:
    return name.replace(" ", "-")


def set_traps(sandbox: Sandbox, bait: Bait) -> None:
    """As a command of the agent's does."""
    sandbox.exec(script(bait), seconds=SECONDS, confined=True)


def future(sandbox: Sandbox, secret: str) -> Finding:
    """Whether anything of the branch that is ahead of base can be found in the repository inside."""
    look = "git cat-file --batch-all-objects --batch; git log --all --reflog -p; git fsck --lost-found; cat .git/*refs"
    done = sandbox.exec(look, seconds=SECONDS, head_bytes=4_000_000, confined=True)
    found = ("their content is in the object store",) if secret.encode() in done.output else ()
    return _finding("find commits that are ahead of base", found, "no object of them is there")


def sprung(bait: Bait) -> Iterator[Finding]:
    """What ran on the host."""
    left = {path.name for path in bait.sprung.iterdir()}
    for name in COMMANDS:
        ran = ("it ran",) if _mark(name) in left else ()
        yield _finding(f"run code on the host by {name}", ran, "it was not run")


@dataclass(frozen=True, kw_only=True, slots=True)
class CameOut:
    """What the host got of the work."""

    taken: Taken | None = None
    why: str = ""
    """Nothing was taken, because of this."""
    refused: frozenset[str] = frozenset()
    """Paths that the gate refuses."""


def clean(quarantine: Quarantine, came: CameOut) -> Iterator[Finding]:
    """Whether what came out is a sound branch on base, and the gate refuses what must not be in one."""
    if came.taken is None or came.taken.commit is None:
        yield _finding("bring out more than a branch", (), f"nothing came out: {came.why}")
        return
    sound = f"{len(came.taken.commits)} commits on base, which fsck finds sound"
    yield _finding("bring out more than a branch", tuple(_wrong(quarantine, came.taken.commit)), sound)
    for path, what in MUST_NOT_COME.items():
        passed = (f"the gate lets {path} pass",) if path in {*came.taken.changed} - came.refused else ()
        yield _finding(f"bring out {what}", passed, "the gate refuses it, or it did not come out")


MUST_NOT_COME = {
    ".gitattributes": "attributes that choose programs",
    ".gitmodules": "where submodules come from",
    "s": "a submodule",
    "out": "a link to a file of the host",
    "out-of-here": "a link out of the tree",
}


def _finding(name: str, wrong: Sequence[str], otherwise: str) -> Finding:
    status: Status = "hole" if wrong else "held"
    return Finding(category="git", name=name, status=status, evidence="; ".join(wrong) or otherwise)


def _wrong(quarantine: Quarantine, commit: str) -> Iterator[str]:
    try:
        quarantine.git("fsck", "--strict", "--no-dangling", commit, seconds=SECONDS)
    except GitFailed as error:
        yield f"fsck: {error}"
    parents = quarantine.git("rev-list", "--parents", f"{quarantine.base}..{commit}").decode().split("\n")
    if not any(line.endswith(quarantine.base) for line in parents):
        yield "it does not start from base"
    entries = quarantine.git("ls-tree", "-r", "-t", "-z", "--full-tree", commit).split(b"\0")
    for entry in filter(None, entries):
        mode, path = entry.split(b" ", 1)[0], entry.partition(b"\t")[2].decode("utf-8", "replace")
        if any(part.lower() in (".git", "git~1") for part in path.split("/")):
            yield f"it has {path!r}"
        if mode == b"160000":
            yield f"it has the submodule {path!r}"
