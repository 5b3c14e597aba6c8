"""The gate: what the work changed is judged once more, by the path rules and more, before it becomes a branch.

The path rules say what tools and commands could be allowed to change (`contain.may_write`). On top come paths that
people and machines act on when a branch arrives (`guarded.py`), limits, and contents that are nobody's to publish.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal, assert_never

from runner.masking import Masker
from runner.policy import Policy, show_size
from runner.policy.contain import may_write
from runner.policy.paths import REPO
from runner.policy.schema import Gate
from runner.repo.additions import READ_BYTES, Addition, TooMuch, additions
from runner.repo.diff import NO_FILE, SUBMODULE, Change, changes
from runner.repo.git import printable
from runner.repo.guarded import built_in, covered, folded, patterns
from runner.repo.quarantine import Quarantine
from runner.repo.scan import OUR_SECRET, Finding, TooSlow, find_credentials, find_our_secrets
from runner.repo.take import Taken
from runner.repo.tree import LINK, contents, entries, names, sizes
from runner.transcript import Violation

Kind = Literal["path", "protected", "binary", "symlink", "submodule", "secret"]
"""Of a violation by one file."""
SCAN_SECONDS = 30.0
"""For looking for secrets. Most work takes a few milliseconds; 16 MiB of source take about two seconds."""
MOST = 200
"""Violations that are told; how many more there are is told, too."""
MOST_SECRETS = 20
"""For each file."""
LONGEST_LINK = 4096
"""Bytes, as for Linux."""
LINK_BYTES = 64 * 1024 * 1024
"""Of all links of a tree together."""
MOST_HOPS = 40
"""Links that lead to links, as Linux follows them."""


def judge_changes(
    quarantine: Quarantine,
    taken: Taken,
    policy: Policy,
    *,
    approved: Collection[str] = (),
    secrets: Sequence[str] = (),
    own_files: Collection[str] = (),
) -> tuple[Violation, ...]:
    """What stands against the work; nothing when it may become a branch. The same work gives the same answer.

    `approved`: absolute paths in the sandbox whose change a person allowed. `secrets`: values that must not come out.
    `own_files`: the job's own policy and task, from the repository's root, when they are files of it. No secret is
    quoted. Raises RepoError when git fails.
    """
    if taken.commit is None:
        return ()
    ours = Masker(secrets)
    changed = changes(quarantine.path, quarantine.base, taken.commit)
    found = [
        *_too_many(changed, policy.gate),
        *_paths(changed, policy, approved),
        *_guarded(changed, policy.gate, own_files),
        *_submodules(changed),
        *_names(quarantine, taken.commit, changed),
        *_links(quarantine, taken.commit, changed),
        *_contents(quarantine, taken, changed, policy.gate, ours),
    ]
    return _told(found, ours)


def _told(found: Iterable[Violation], ours: Masker) -> tuple[Violation, ...]:
    """In order of the paths, as many as one reads, and without secrets in names."""
    ordered = sorted(found, key=lambda each: (each.path, each.kind, each.reason))
    told = [
        each.model_copy(update={"path": ours.text(each.path), "reason": ours.text(each.reason)})
        for each in ordered[:MOST]
    ]
    if len(ordered) > MOST:
        told.append(Violation(kind="path", reason=f"{len(ordered) - MOST:,} more things stand against the work"))
    return tuple(told)


def _violation(kind: Kind, path: str, what: str, rule: str | None = None, where: str | None = None) -> Violation:
    """`what` follows the path, as a predicate."""
    return Violation(kind=kind, path=_valid(path), rule=rule, where=where, reason=f"`{_short(path)}` {what}")


def _valid(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _short(path: str) -> str:
    return printable(_valid(path), 120)


# --- paths


def _too_many(changed: Sequence[Change], gate: Gate) -> Iterator[Violation]:
    if len(changed) > gate.files:
        reason = f"{len(changed):,} files are changed; gate.files in the policy allows {gate.files:,}"
        yield Violation(kind="files", rule="gate.files", reason=reason)


def _paths(changed: Iterable[Change], policy: Policy, approved: Collection[str]) -> Iterator[Violation]:
    """By the path rules. Both names of a renamed file are among the changes."""
    for change in changed:
        decision = may_write(policy, f"{REPO}/{change.path}")
        match decision.verdict:
            case "allow":
                continue
            case "deny":
                what = f"is changed, but {decision.reason}"
            case "ask" if f"{REPO}/{change.path}" in approved:
                continue
            case "ask":
                what = f"is changed, and nobody approved that: {decision.reason}"
            case never:
                assert_never(never)
        yield _violation("path", change.path, what, decision.rule, decision.where)


def _guarded(changed: Iterable[Change], gate: Gate, own_files: Collection[str]) -> Iterator[Violation]:
    protected = patterns(gate.protect)
    for change in changed:
        path = change.path
        if path in own_files:
            yield _violation("protected", path, "is the policy or the task of this job")
        elif covered(protected, path):
            yield _violation("protected", path, "is protected by gate.protect in the policy", "gate.protect")
        elif what := built_in(gate, path):
            yield _violation("protected", path, what)


def _submodules(changed: Iterable[Change]) -> Iterator[Violation]:
    """Also what has a mode that git does not know: it takes it for a submodule."""
    for change in changed:
        if SUBMODULE in (change.old_mode, change.new_mode):
            yield _violation("submodule", change.path, "is a submodule; these must not change")


# --- names and links, in the light of the whole tree


def _names(quarantine: Quarantine, commit: str, changed: Iterable[Change]) -> Iterator[Violation]:
    """Names that are not what they seem. Those that base has are nobody's fault."""
    added = [change.path for change in changed if change.old_mode == NO_FILE]
    twins = _twins(names(quarantine, commit)) if added else {}
    for path in added:
        if not path.isprintable():
            yield _violation("path", path, "has characters in its name that cannot be seen")
        for part in (path, *_folders(path)):
            others = twins.get(folded(part), set()) - {part}
            if others:
                what = f"differs from `{_short(min(others))}` by upper and lower case alone"
                yield _violation("path", path, what)
                break


def _twins(files: Collection[str]) -> dict[str, set[str]]:
    """Folded name -> the names of files and folders that are folded to it, where there are several."""
    lowest = {posixpath.dirname(path) for path in files} - {""}
    folders = {above for folder in lowest for above in (folder, *_folders(folder))}
    known: dict[str, set[str]] = {}
    for name in chain(files, folders):
        known.setdefault(folded(name), set()).add(name)
    return {folded: names for folded, names in known.items() if len(names) > 1}


def _folders(path: str) -> Iterator[str]:
    """The folders that a path lies in, from the innermost."""
    while path := posixpath.dirname(path):
        yield path


def _links(quarantine: Quarantine, commit: str, changed: Iterable[Change]) -> Iterator[Violation]:
    mine = [change.path for change in changed if change.new_mode == LINK]
    if not mine:
        return
    targets = _targets(
        quarantine, {entry.path: entry.id for entry in entries(quarantine, commit) if entry.mode == LINK}
    )
    for path in mine:
        what = _leaves(path, targets) if path in targets else f"is a link of more than {LONGEST_LINK} bytes"
        if what:
            yield _violation("symlink", path, what)


def _targets(quarantine: Quarantine, links: Mapping[str, str]) -> dict[str, str]:
    """Path -> target, of links that a kernel would follow; `links` are paths and ids."""
    known = sizes(quarantine, links.values())
    texts = contents(quarantine, [id for id, size in known.items() if size <= LONGEST_LINK], max_bytes=LINK_BYTES)
    return {path: os.fsdecode(texts[id]) for path, id in links.items() if id in texts}


def _leaves(link: str, targets: Mapping[str, str]) -> str | None:
    """What is wrong with where a link leads, when it is followed as a kernel does it."""
    place: list[str] = []
    rest = link.split("/")
    hops = 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            if not place:
                return "is a link that leaves the repository"
            place.pop()
        elif name not in ("", "."):
            place.append(name)
        if not place:
            continue
        if folded(place[0]) == ".git":
            return "is a link into .git"
        target = targets.get("/".join(place))
        if target is not None:
            hops += 1
            if hops > MOST_HOPS:
                return "is a link that leads nowhere"
            if target.startswith("/"):
                return "is a link to an absolute path"
            place.pop()
            rest[:0] = target.split("/")
    return None


# --- contents


def _contents(
    quarantine: Quarantine, taken: Taken, changed: Sequence[Change], gate: Gate, ours: Masker
) -> Iterator[Violation]:
    yield from _secret_names(changed, ours)
    added = additions(quarantine, taken, changed)
    if isinstance(added, TooMuch):
        if gate.secret_scan or ours or not gate.binaries:
            reason = f"the changed files have {added.size:,} bytes; the gate looks at {show_size(READ_BYTES)} at most"
            yield Violation(kind="bytes", reason=reason)
        elif added.size > gate.bytes:
            yield _too_large(added.size, gate)
        return
    if (size := sum(len(addition.data) for addition in added)) > gate.bytes:
        yield _too_large(size, gate)
    for addition in added:
        if addition.binary and not gate.binaries:
            yield _violation("binary", addition.path, "is binary, and gate.binaries in the policy allows none")
    yield from _secrets(added, ours, scan=gate.secret_scan)


def _too_large(size: int, gate: Gate) -> Violation:
    reason = f"{size:,} bytes of new content; gate.bytes in the policy allows {show_size(gate.bytes)}"
    return Violation(kind="bytes", rule="gate.bytes", reason=reason)


def _secret_names(changed: Iterable[Change], ours: Masker) -> Iterator[Violation]:
    for change in changed:
        if ours.text(change.path) != change.path:
            yield _violation("secret", change.path, f"has {OUR_SECRET} in its name")


def _secrets(added: Iterable[Addition], ours: Masker, *, scan: bool) -> Iterator[Violation]:
    deadline = time.monotonic() + SCAN_SECONDS
    for addition in added:
        found = find_our_secrets(addition.data, ours)
        try:
            if scan:
                found += find_credentials(addition.data, most=MOST_SECRETS, deadline=deadline)
        except TooSlow:
            what = f"could not be searched for secrets within {SCAN_SECONDS:.0f} seconds"
            yield _violation("secret", addition.path, what)
        for finding in found[:MOST_SECRETS]:
            yield _violation("secret", addition.path, _told_finding(finding, addition))


def _told_finding(finding: Finding, addition: Addition) -> str:
    line = f"in line {addition.lines[finding.line - 1]}" if finding.line else "over several lines"
    return f"has {finding.what} {line}"
