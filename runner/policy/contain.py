"""From path rules to what the kernel can hold: Landlock grants, files that stay out, files that change hands.

The tools are judged call by call (`decide`); commands read and write without asking. What follows here from the same
rules bounds both: `may_read` and `may_write` say what tools and commands together could be allowed to do with a path,
`containment` what commands are held to while they run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from runner.policy.decide import can_ever_allow
from runner.policy.domains import DomainPattern
from runner.policy.egress import rules_for
from runner.policy.paths import HOME, REPO, PathPattern
from runner.policy.rules import Rule
from runner.policy.schema import Policy
from runner.policy.verdicts import Decision, about, allowed_by, ask, asked_by, denied_by, no, some, yes

GIT = f"{REPO}/.git"
_BUSY = ("/tmp", HOME, "/proc", "/dev", GIT)
"""Where commands must be able to make new things, or new things appear by themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A right of commands over a whole hierarchy, in Landlock's sense."""

    path: str
    access: Literal["list", "read", "write"]
    """Each contains the one before it: list names · read and execute · write, make, rename, remove."""
    without: tuple[str, ...] = ()
    """Paths below it that the grant leaves out. In their folders, up to `path`, nothing new can be made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncontained:
    """A rule that the tools keep to, and commands are not held to."""

    rule: str
    """As written."""
    where: str | None
    """file:line."""
    why: str
    """What commands can do all the same, and what catches it, if anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Containment:
    """What commands are held to under a policy."""

    grants: tuple[Grant, ...]
    """All that they may do with files, for `Sandbox.confine`."""
    restricts: bool
    """False: the grants hold nothing back."""
    writable: tuple[str, ...]
    """Paths in the repository, from its root, that commands may change, with all below them; "." for all of it."""
    uncontained: tuple[Uncontained, ...]
    notes: tuple[str, ...]
    """Where commands are held to less than the tools, or to no more than what was there when they began."""


def may_read(policy: Policy, path: str) -> Decision:
    """Whether a tool or a command could be allowed to read a path, which is absolute.

    `Read`, `Glob` or `Grep` alone, without a pattern, are about the tools; commands read whatever no pattern denies.
    """
    return _reading(policy).judge(path)


def may_write(policy: Policy, path: str) -> Decision:
    """Whether a tool or a command could be allowed to make, change or remove a path, which is absolute."""
    return _writing(policy).judge(path)


def can_hide(policy: Policy) -> bool:
    """False when there is no path that `hidden` would name."""
    access = _reading(policy)
    return bool(access.deny) or access.otherwise.verdict == "deny"


def hidden(policy: Policy, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of the paths (from the repository's root, as `os.fsdecode` gives them) that nothing may read."""
    access = _reading(policy)
    return tuple(path for path in paths if access.judge(f"{REPO}/{path}").verdict == "deny")


def unreadable(policy: Policy, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of the paths that a rule denies to read: where setup has made such a file, it must change hands.

    Unlike `hidden` this leaves out what a whitelist merely does not name: what was built, commands may need.
    """
    deny = _patterns(_reading(policy).deny)
    return tuple(path for path in paths if _covered(deny, f"{REPO}/{path}"))


def kept(policy: Policy, paths: Iterable[str]) -> tuple[str, ...]:
    """What must belong to another user inside, so that commands cannot change it: existing paths that a rule denies.

    Of `paths` (files, from the repository's root) those that commands could else write to. A folder stands for all in
    it where the rules deny everything in it, so that nothing new can be made there either.
    """
    writable = _writable(policy)
    deny = _patterns(_writing(policy).deny)
    if not deny:
        return ()
    named: dict[str, None] = {}
    closed: dict[str, bool] = {}
    for path in paths:
        whole = f"{REPO}/{path}"
        if _in_any(whole, writable) and not _lies_in(whole, GIT) and _covered(deny, whole):
            named[_closed_folder(deny, whole, closed) or whole] = None
    return tuple(sorted(posixpath.relpath(path, REPO) for path in named))


def containment(policy: Policy) -> Containment:
    """What commands are held to."""
    writable = _writable(policy)
    unreadable, unwritable = _outside(_reading(policy).deny), _outside(_writing(policy).deny)
    grants = tuple(_grants(writable, unreadable, unwritable))
    return Containment(
        grants=grants,
        restricts=grants != (Grant(path="/", access="write"),),
        writable=tuple(posixpath.relpath(path, REPO) for path in writable),
        uncontained=tuple(_uncontained(policy, writable)) if can_ever_allow(policy, "Bash") else (),
        notes=tuple(_notes(policy, writable)) if can_ever_allow(policy, "Bash") else (),
    )


# --- the rules of one kind of access


@dataclass(frozen=True, kw_only=True, slots=True)
class _Access:
    """The rules that bear on reading, or on writing."""

    deny: tuple[Rule, ...]
    ask: tuple[Rule, ...]
    allow: tuple[Rule, ...]
    otherwise: Decision
    """For paths in the repository that no rule covers."""

    def judge(self, path: str) -> Decision:
        if rule := _covering(self.deny, path):
            return denied_by(rule)
        if rule := _covering(self.ask, path):
            return asked_by(rule)
        if rule := _covering(self.allow, path):
            return allowed_by([rule])
        return self.otherwise if _lies_in(path, REPO) else _OUTSIDE


_OUTSIDE = yes("outside the repository commands may do what the container lets them")


def _reading(policy: Policy) -> _Access:
    tools = ("Read", "Glob", "Grep", "Edit", "Write")  # who may change a file may know what is in it
    allow = tuple(rule for rule in policy.allow if any(rule.speaks_of(tool) for tool in tools))
    limited = any(True for _ in about(policy.allow, "Read"))
    return _Access(
        deny=tuple(rule for rule in about(policy.deny, "Read") if rule.pattern is not None),
        ask=tuple(about(policy.ask, "Read")),
        allow=allow,
        otherwise=_otherwise(policy, allow) if limited else yes("no rule limits what may be read"),
    )


def _writing(policy: Policy) -> _Access:
    allow = _about_writing(policy.allow)
    anything = next((rule for rule in about(policy.allow, "Bash") if rule.pattern is None), None)
    return _Access(
        # `Write` alone is about that tool; `Edit` alone covers all that write.
        deny=tuple(rule for rule in _about_writing(policy.deny) if rule.pattern is not None or rule.speaks_of("Edit")),
        ask=_about_writing(policy.ask),
        allow=allow,
        otherwise=allowed_by([anything]) if anything and not allow else _otherwise(policy, allow),
    )


def _about_writing(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.speaks_of("Edit") or rule.speaks_of("Write"))


def _otherwise(policy: Policy, allow: tuple[Rule, ...]) -> Decision:
    match policy.mode:
        case "blacklist":
            return yes("no rule denies it")
        case "interactive":
            return ask("no rule allows it, so a person is asked")
        case "whitelist":
            return no(f"no rule allows it; allowed are: {some([rule.text for rule in allow]) or 'none'}")


def _covering(rules: Iterable[Rule], path: str) -> Rule | None:
    return next((rule for rule in rules if _covers(rule, path)), None)


def _covers(rule: Rule, path: str) -> bool:
    return rule.pattern.covers(path) if isinstance(rule.pattern, PathPattern) else rule.pattern is None


def _patterns(rules: Iterable[Rule]) -> tuple[PathPattern, ...]:
    return tuple(rule.pattern for rule in rules if isinstance(rule.pattern, PathPattern))


# --- hierarchies


def _hierarchy(pattern: PathPattern) -> str | None:
    """The path of which the pattern covers exactly all that is below (and itself); None when that is no one path."""
    names = list(pattern.names)
    if names[-1] == "*" and not pattern.only_folders:
        del names[-1]
        while names and names[-1] == "**":
            del names[-1]
    plain = [re.sub(r"\\(.)", r"\1", name) for name in names]
    wild = any(re.search(r"[*?\[]", re.sub(r"\\.", "", name)) for name in names)
    return None if wild else "/" + "/".join(plain)


def _writable(policy: Policy) -> tuple[str, ...]:
    """Hierarchies in the repository that commands may write to: for `src/**` and literal paths there are such."""
    access = _writing(policy)
    if any(rule.pattern is None for rule in access.deny):
        return ()
    if access.otherwise.verdict != "deny":
        return _without_denied((REPO,), access)
    found = (_hierarchy(rule.pattern) for rule in access.allow if isinstance(rule.pattern, PathPattern))
    inside = {path for path in found if path and (_lies_in(path, REPO) or _lies_in(REPO, path))}
    if any(rule.pattern is None for rule in access.allow) or any(_lies_in(REPO, path) for path in inside):
        return _without_denied((REPO,), access)
    return _without_denied(_topmost(path for path in inside if not _lies_in(path, GIT)), access)


def _without_denied(paths: Iterable[str], access: _Access) -> tuple[str, ...]:
    deny = _patterns(access.deny)
    return tuple(path for path in paths if not any(pattern.covers_all_in(path) for pattern in deny))


def _outside(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Hierarchies outside the repository that rules deny, as far as a grant can leave them out."""
    paths = (_hierarchy(pattern) for pattern in _patterns(rules))
    return _topmost(path for path in paths if path and _can_be_left_out(path))


def _can_be_left_out(path: str) -> bool:
    return not (_lies_in(path, REPO) or _lies_in(REPO, path) or any(_lies_below(path, busy) for busy in _BUSY))


def _grants(writable: tuple[str, ...], unreadable: tuple[str, ...], unwritable: tuple[str, ...]) -> Iterator[Grant]:
    left_out = _topmost((*unreadable, *unwritable))
    if unreadable:
        yield Grant(path="/", access="list")
    if unreadable or unwritable or REPO not in writable:
        yield Grant(path="/", access="read", without=unreadable)
    if REPO in writable:
        yield Grant(path="/", access="write", without=left_out)
        return
    yield Grant(path="/", access="write", without=(REPO, *left_out))
    for path in (GIT, *writable):
        yield Grant(path=path, access="write")


def _topmost(paths: Iterable[str]) -> tuple[str, ...]:
    """Without those that lie in another of them."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: (path.count("/"), path)):
        if not _in_any(path, kept):
            kept.append(path)
    return tuple(kept)


def _in_any(path: str, folders: Iterable[str]) -> bool:
    return any(_lies_in(path, folder) for folder in folders)


def _lies_in(path: str, folder: str) -> bool:
    """Whether it is the folder, or below it."""
    return path == folder or _lies_below(path, folder)


def _lies_below(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder if folder == "/" else f"{folder}/")


def _covered(patterns: Iterable[PathPattern], path: str) -> bool:
    return any(pattern.covers(path) for pattern in patterns)


def _closed_folder(deny: tuple[PathPattern, ...], path: str, known: dict[str, bool]) -> str | None:
    """The highest folder above the path in which everything is denied."""
    names = path[len(REPO) + 1 :].split("/")
    for length in range(1, len(names)):
        folder = "/".join((REPO, *names[:length]))
        if folder not in known:
            known[folder] = any(pattern.covers_all_in(folder) for pattern in deny)
        if known[folder]:
            return folder
    return None


# --- what commands are not held to


def _uncontained(policy: Policy, writable: tuple[str, ...]) -> Iterator[Uncontained]:
    for rules, gap in (
        (policy.deny, _denied_reading),
        (policy.deny, _denied_writing),
        (policy.ask, _asked),
        ((*policy.deny, *policy.ask), _command),
    ):
        for rule in rules:
            if why := gap(rule, writable):
                yield Uncontained(rule=rule.text, where=rule.where, why=why)
    for rule in (*policy.deny, *policy.ask):
        if reached := _reached(policy, rule):
            why = f"commands reach {some(reached)} through egress; the list of egress is what holds them"
            yield Uncontained(rule=rule.text, where=rule.where, why=why)


def _denied_reading(rule: Rule, writable: tuple[str, ...]) -> str | None:
    if not any(rule.speaks_of(tool) for tool in ("Read", "Glob", "Grep")):
        return None
    if not rule.speaks_of("Read"):
        return f"it is about {rule.tool} alone; commands are held to Read rules"
    if not isinstance(rule.pattern, PathPattern):
        return "it takes the tools away; commands read files all the same"
    if _only_git(rule.pattern):
        return "git must read there; it holds the history of base, and of that no file that is hidden"
    return _outside_gap(rule.pattern)


def _denied_writing(rule: Rule, writable: tuple[str, ...]) -> str | None:
    if not (rule.speaks_of("Edit") or rule.speaks_of("Write")):
        return None
    if not isinstance(rule.pattern, PathPattern):
        return None if rule.speaks_of("Edit") else "it takes the tool away; commands write files all the same"
    if _only_git(rule.pattern):
        return "git must write there; of what it writes only commits and their files come out"
    if _hierarchy(rule.pattern) is None and writable and _reaches_repository(rule.pattern):
        return "a command may make a new file of such a name; the gate refuses it"
    return _outside_gap(rule.pattern)


def _asked(rule: Rule, writable: tuple[str, ...]) -> str | None:
    if rule.speaks_of("Edit") or rule.speaks_of("Write"):
        if not isinstance(rule.pattern, PathPattern):
            return "commands are not asked about; the gate refuses what nobody approved" if writable else None
        path = _hierarchy(rule.pattern)
        if writable and (path is None or any(_lies_in(path, w) or _lies_in(w, path) for w in writable)):
            return "commands are not asked about; the gate refuses what nobody approved"
    elif rule.speaks_of("Read"):
        return "commands are not asked about; they read it"
    return None


def _command(rule: Rule, writable: tuple[str, ...]) -> str | None:
    if not rule.speaks_of("Bash") or rule.pattern is None:
        return None
    return "it is about the words of a command; a script or an interpreter can do the same by other words"


def _outside_gap(pattern: PathPattern) -> str | None:
    """Why commands are not held to a deny rule outside the repository; None where they are."""
    path = _hierarchy(pattern)
    if path is None:
        return None if pattern.names[:2] == _REPO_NAMES else "Landlock grants whole folders, not names by pattern"
    if _lies_in(path, REPO) or _can_be_left_out(path):
        return None
    if _lies_in(REPO, path):
        return "the repository lies there; no grant can leave it out"
    return "there commands must be able to make new files, whatever their names"


_REPO_NAMES = tuple(REPO.split("/")[1:])


def _reaches_repository(pattern: PathPattern) -> bool:
    return pattern.names[:2] == _REPO_NAMES or "**" in pattern.names[:2]


def _only_git(pattern: PathPattern) -> bool:
    """Whether it is meant for `.git`, the repository's own folder."""
    return pattern.covers(f"{GIT}/config") and not pattern.covers_all_in(REPO)


def _reached(policy: Policy, rule: Rule) -> list[str]:
    """Entries of the agent's egress list that lead to hosts which the rule is about."""
    if not rule.speaks_of("WebFetch"):
        return []
    entries = rules_for(policy.egress, "agent")
    if not isinstance(rule.pattern, DomainPattern):
        return [entry.text for entry in entries]
    pattern = rule.pattern
    return [entry.text for entry in entries if _overlap(entry, pattern)]


def _overlap(one: DomainPattern, other: DomainPattern) -> bool:
    return any(a.covers(b.host, None) or (a.subdomains_only and b.subdomains_only and a.host == b.host)
               for a, b in ((one, other), (other, one)))  # fmt: skip


def _notes(policy: Policy, writable: tuple[str, ...]) -> Iterator[str]:
    access = _writing(policy)
    if writable and access.otherwise.verdict == "deny":
        for rule in access.allow:
            if isinstance(rule.pattern, PathPattern) and _hierarchy(rule.pattern) is None:
                yield f"{rule} lets the tools write and commands not, because it does not name whole folders"
    if writable and access.deny:
        yield (
            "what a rule denies to write is held where it exists when the agent begins; what a command makes there "
            "later, the gate refuses"
        )
