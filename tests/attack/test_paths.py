"""Path rules: a path is made up for every rule, and what the policy denies is tried."""

from __future__ import annotations

import pytest

from runner.attack import paths
from runner.policy import Policy
from runner.policy.paths import parse_path
from runner.sandbox.base import REPO, Sandbox


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("src/**", "/workspace/repo/src/deep/any"),
        ("*.pem", "/workspace/repo/deep/any.pem"),
        ("**/.env", "/workspace/repo/deep/.env"),
        ("/docs/", "/workspace/repo/docs/any"),
        ("data/[a-c]?.txt", "/workspace/repo/data/aq.txt"),
        ("data/[!a-c]*.txt", "/workspace/repo/data/~any.txt"),
        ("a\\*b", "/workspace/repo/deep/a*b"),
        ("~/.aws/**", "/workspace/home/.aws/deep/any"),
        ("//etc/passwd", "/etc/passwd"),
    ],
)
def test_a_path_is_made_up_that_the_pattern_covers(pattern: str, path: str) -> None:
    assert paths.example(parse_path(pattern)) == path
    assert parse_path(pattern).covers(path)


def _targets(**keys: object) -> set[tuple[str, str, str | None, bool]]:
    policy = Policy.model_validate({"version": 1, "mode": "blacklist", **keys})
    return {(target.access, target.path, target.rule, target.there) for target in paths.targets(policy, "token")}


def test_what_is_denied_is_tried_and_nothing_else() -> None:
    assert _targets(deny=["Read(**/.env)", "Edit(src/**)"]) == {
        ("read", "/workspace/repo/deep/.env", "Read(**/.env)", True),
        ("write", "/workspace/repo/src/deep/any", "Edit(src/**)", True),
        ("write", "/workspace/repo/src/unlisted.py", "Edit(src/**)", True),
        ("write", "/workspace/repo/src/newly/made", "Edit(src/**)", False),
    }


def test_what_a_whitelist_does_not_name_is_tried() -> None:
    tried = _targets(mode="whitelist", allow=["Read(docs/**)", "Edit(src/**)", "Bash(cat:*)"])
    assert ("read", "/workspace/repo/unlisted.txt", None, True) in tried
    assert ("write", "/workspace/repo/unlisted.txt", None, True) in tried
    assert "/workspace/repo/src/deep/any" not in {path for access, path, *_ in tried if access == "write"}


def test_what_git_keeps_to_itself_does_not_apply() -> None:
    policy = Policy.model_validate({"version": 1, "mode": "blacklist", "deny": ["Edit(.git)"]})
    found = list(paths.untried(paths.targets(policy, "token")))
    assert [(item.status, item.name) for item in found][:1] == [("not_applicable", "make newly/.git (Edit(.git))")]


@pytest.mark.parametrize(
    ("access", "refused", "status"),
    [("write", frozenset({"a.lock"}), "held"), ("write", frozenset(), "hole"), ("read", frozenset({"a.lock"}), "hole")],
)
def test_what_gets_through_is_held_by_the_gate_alone_and_only_if_it_was_written(
    access: paths.Access, refused: frozenset[str], status: str
) -> None:
    policy = Policy.model_validate({"version": 1, "mode": "blacklist", "deny": ["Edit(*.lock)", "Read(*.lock)"]})
    target = paths.Target(path=f"{REPO}/a.lock", text="", access=access, rule="Edit(*.lock)")
    (found,) = paths.judged(policy, [target], [paths.Outcome(tried=9, through=("mv",))], refused)
    assert found.status == status
    assert "mv" in found.evidence


@pytest.mark.engine
def test_an_open_file_is_reached_and_changed_in_every_way(sandbox: Sandbox) -> None:
    """The ways are ways: what nothing stops gets through, by git too."""
    path = f"{REPO}/a/b.txt"
    read, write = (paths.Target(path=path, text="# token\n", access=access, rule=None) for access in ("read", "write"))
    sandbox.write_file(path, b"# token\n")
    sandbox.exec("git init -q; git add .; git -c user.name=x -c user.email=x@x commit -qm x")
    reads, writes = paths.try_paths(sandbox, (read, write))
    assert len(reads.through) == reads.tried
    assert len(writes.through) == writes.tried
    assert {"cat", "python", "git show", "git worktree"} <= {*reads.through}
    assert {"mv", "sed -i", "ln -s", "git checkout-index"} <= {*writes.through}
    assert sandbox.read_file(path) == b"# token\n"
