"""Files that belong to another user inside: a command cannot change them, nor get them out of the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import SandboxError
from runner.sandbox.base import HOME, REPO, Sandbox
from runner.sandbox.client import Client
from tests.local_toolbox import local_sandbox

Opener = Callable[..., Sandbox]
PREPARED = r"""
git init -q && git config user.name a && git config user.email a@b
mkdir -p ci/deep src/sub docs
echo rule >ci/rule; echo deep >ci/deep/file; ln -s deep ci/link
printf '#!/bin/sh\necho ran\n' >ci/run; chmod 755 ci/run
echo own >src/own; echo kept >src/sub/kept; echo x >src/sub/other; echo top >top; echo doc >docs/doc
git add -A && git commit -qm base
git checkout -qb changed && echo changed | tee ci/rule src/sub/kept top >src/own && git commit -qam changed
git checkout -q -
echo secret >.env; echo .env >.git/info/exclude
"""
KEPT = {
    f"{REPO}/ci/rule": b"rule\n",
    f"{REPO}/ci/deep/file": b"deep\n",
    f"{REPO}/src/sub/kept": b"kept\n",
    f"{REPO}/top": b"top\n",
}
ATTACKS = (
    "echo x >top; echo x >>ci/rule; truncate -s 0 src/sub/kept; : >ci/deep/file",
    "rm -rf ci top src/sub .env",
    "rm -rf src",
    "mv ci other; mv src other; mv src/sub src/other; mv top other; mv ci/deep other; mv /workspace/repo /workspace/x",
    "cp src/own top; mv src/own top; mv -T docs ci; mv -T docs src/sub",
    "ln -f src/own top; ln -sf own src/sub/kept; ln -sfn docs ci; ln top other && echo x >other; rm -f other",
    "sed -i s/top/x/ top; sed -i s/rule/x/ ci/rule; sed -i s/kept/x/ src/sub/kept",
    "chmod 777 . ci src src/sub top ci/rule; chmod -R u+w .; chown 1000:1000 top ci",
    'perl -e \'rename "src/own", "top"\'; perl -e \'unlink "top"; truncate("ci/rule", 0); rmdir "src/sub"\'',
    "touch ci/new ci/deep/new; mkdir ci/new; ln -s x ci/new; mkfifo ci/new",
    "git checkout -qf changed; git checkout -q -f -",
    "git checkout changed -- ci top src/sub; git reset -q --hard changed; git reset -q --hard HEAD~1",
    "echo x >ci/rule; git stash -u; git stash pop; git rm -rfq ci src/sub; git mv top other; git clean -fdxq",
    "git -c core.hooksPath=/dev/null merge -q changed; git apply <(git diff HEAD changed); git restore -s changed .",
    "tar cf /tmp/t.tar docs && tar xf /tmp/t.tar --transform s/docs/ci/ --recursive-unlink",
    "cp -a --remove-destination docs/doc top; install -m 777 docs/doc top",
    "(cd ci && rm -rf .); cd .. && rm -rf repo; cp -rT repo/docs repo/ci",
    "dd if=/dev/zero of=top bs=1 count=9 conv=notrunc; setfacl -m u:1000:rwx top; mount --bind docs ci",
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Client]:
    with local_sandbox(tmp_path) as opened:
        assert opened.exec(PREPARED).ok
        yield opened


def keep_some(sandbox: Sandbox) -> None:
    sandbox.keep(
        unreadable=[".env"], unwritable=["ci", f"{REPO}/src/sub/kept", "top", "none", "none/there", "top/below"]
    )


def text(sandbox: Sandbox, script: str) -> str:
    result = sandbox.exec(script)
    assert result.ok, result
    return result.output.decode().removesuffix("\n")


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_kept_survives(sandbox: Client, attack: str) -> None:
    keep_some(sandbox)
    before = text(sandbox, "find ci top src/sub/kept -exec stat -c '%n %i %u %a %Y' {} + | sort")
    sandbox.exec(attack)
    assert {path: sandbox.read_file(path) for path in KEPT} == KEPT
    assert text(sandbox, "find ci top src/sub/kept -exec stat -c '%n %i %u %a %Y' {} + | sort") == before


@pytest.mark.engine
def test_what_is_kept_survives_in_a_container(open_sandbox: Opener) -> None:
    sandbox = open_sandbox()
    assert sandbox.exec(PREPARED).ok
    keep_some(sandbox)
    assert text(sandbox, "git status --short") == ""
    assert sandbox.exec(["status", "--short"], program="git").output == b""
    for attack in ATTACKS:
        sandbox.exec(attack)
        assert {path: sandbox.read_file(path) for path in KEPT} == KEPT, attack
    assert not sandbox.exec("cat .env").ok
    assert text(sandbox, "stat -c '%u %a' . ci top") == "1001 1777\n1001 755\n1001 644"


def test_what_is_not_kept_is_the_commands_own(sandbox: Client) -> None:
    keep_some(sandbox)
    text(sandbox, "echo x >src/own; sed -i s/x/y/ src/own; mv src/own src/sub/own; rm src/sub/own src/sub/other")
    text(sandbox, "mkdir new; touch new/x src/file; mv new src/; rm -r src/new src/file docs; git commit -qam work")
    sandbox.write_file(f"{REPO}/src/sub/by-tool", b"x")
    assert text(sandbox, "git status --short") == "?? src/sub/by-tool"


def test_what_is_kept_can_be_read_and_run(sandbox: Client) -> None:
    keep_some(sandbox)
    assert text(sandbox, "cat ci/rule ci/link/file; ls ci; ci/run") == "rule\ndeep\ndeep\nlink\nrule\nrun\nran"


def test_what_is_unreadable_is_closed_with_all_below(sandbox: Client) -> None:
    sandbox.exec("mkdir -p keys/deep && echo k >keys/deep/id && echo s >src/secret && ln -s id keys/link")
    sandbox.keep(unreadable=["keys", "src/secret", "ci/deep"], unwritable=["keys/deep/id", "src/secret", "ci"])
    for path in ("keys/deep/id", "keys/link", "src/secret", "ci/deep/file"):
        assert b"Permission denied" in sandbox.exec(f"cat {path}").output
        with pytest.raises(PermissionError):
            sandbox.read_file(f"{REPO}/{path}")
    assert not sandbox.exec("ls keys || ls ci/deep || cp -r keys /tmp || mv keys /tmp").ok
    assert text(sandbox, "cat ci/rule src/own") == "rule\nown"


def test_the_file_tools_are_held_too(sandbox: Client) -> None:
    keep_some(sandbox)
    for path in ("top", "ci/rule", "ci/new", "ci/new/deeper"):
        with pytest.raises(PermissionError):
            sandbox.write_file(f"{REPO}/{path}", b"x")


def test_git_sees_no_change(sandbox: Client) -> None:
    times = "find ci top src docs -printf '%p %T@ %#m %l\n' | grep -v '^[^ ]* [^ ]* 0755 ' | grep -v 1777 | sort"
    before = text(sandbox, times)
    keep_some(sandbox)
    assert text(sandbox, times) == before
    assert text(sandbox, "git status --short") == ""
    assert text(sandbox, "git stash list; git diff HEAD; git fsck 2>&1; git log --format=%s") == "base"
    assert sandbox.exec(["status", "--short"], program="git").output == b""


def test_git_trusts_the_repository_beside_other_settings(sandbox: Client) -> None:
    assert "GIT_CONFIG_COUNT" not in text(sandbox, "env")
    keep_some(sandbox)
    own = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "claw.test", "GIT_CONFIG_VALUE_0": "mine"}
    result = sandbox.exec("git config claw.test; git status --short", variables=own)
    assert (result.exit_code, result.output) == (0, b"mine\n")
    # Gits before 2.38 believe only files.
    assert text(sandbox, "unset GIT_CONFIG_COUNT; git status --short") == ""


def test_paths_that_are_not_there_change_nothing(sandbox: Client) -> None:
    before = text(sandbox, "stat -c '%i %u %a' . src")
    sandbox.keep(unreadable=["none", "src/none"], unwritable=["top/none"])
    assert text(sandbox, "stat -c '%i %u %a' . src") == before
    assert "GIT_CONFIG_COUNT" not in text(sandbox, "env")


def test_the_whole_repository_can_be_kept(sandbox: Client) -> None:
    sandbox.keep(unreadable=[], unwritable=[str(REPO)])
    sandbox.exec("touch new; rm -rf ci .git; echo x >top; mv ../repo ../x; rm -rf ../repo")
    assert text(sandbox, "cat top; git status --short") == "top"
    assert text(sandbox, "stat -c '%u %a' . .git src") == "1001 755\n1001 755\n1001 755"


def test_odd_names_and_closed_folders_are_kept(sandbox: Client) -> None:
    text(
        sandbox, r"cd docs; echo 1 >$'\377 *\n'; mkdir -m 0 closed; echo 2 >none; chmod 0 none; mkdir -m 500 ../src/ro"
    )
    deep = "/".join("d" for _ in range(1200))
    text(sandbox, f"mkdir -p docs/deep/{deep}")
    sandbox.keep(unreadable=[], unwritable=["docs", "src/own"])
    assert text(sandbox, r"cd docs; cat $'\377 *\n' none; ls closed") == "1\n2"
    assert text(sandbox, f"stat -c %u docs/deep/{deep} docs/closed; stat -c '%u %a' src/ro") == "1001\n1001\n1000 500"
    assert not sandbox.exec("rm -rf docs").ok


def test_one_name_of_a_hard_linked_file_is_kept_for_itself(sandbox: Client) -> None:
    text(sandbox, "ln top src/second")
    keep_some(sandbox)
    text(sandbox, "echo changed >src/second")
    assert sandbox.read_file(f"{REPO}/top") == b"top\n"


@pytest.mark.parametrize(
    ("made", "path", "said"),
    [
        ("mkfifo docs/pipe", "docs", "neither a file nor a folder nor a link: '.*/docs/pipe'"),
        ("ln -s docs way", "way/doc", "a link is in the way of what is to be kept: '.*/way'"),
        ("true", "../home", "not a resolved absolute path"),
        ("true", "docs/", "not a resolved absolute path"),
        ("true", "/etc/passwd", "not in the repository: '/etc/passwd'"),
        ("true", str(HOME), "not in the repository"),
    ],
)
def test_what_cannot_be_kept_is_named(sandbox: Client, made: str, path: str, said: str) -> None:
    sandbox.exec(made)
    with pytest.raises(OSError, match=re.compile(said)):
        sandbox.keep(unreadable=[], unwritable=[path])


@pytest.mark.engine
def test_a_disk_without_room_for_a_copy_is_an_error_that_names_the_file(open_sandbox: Opener) -> None:
    sandbox = open_sandbox(disk="16m")
    text(sandbox, "mkdir folder && head -c 9000000 /dev/zero >folder/big")
    with pytest.raises(OSError, match="No space left on device: '/workspace/repo/folder/big'"):
        sandbox.keep(unreadable=[], unwritable=["folder"])


def test_nothing_is_kept_while_commands_run(sandbox: Client) -> None:
    task = sandbox.start("sleep 600")
    with pytest.raises(OSError, match="commands run"):
        sandbox.keep(unreadable=[], unwritable=["top"])
    sandbox.stop_task(task.id)
    sandbox.keep(unreadable=[], unwritable=["top"])


def test_it_is_done_once(sandbox: Client) -> None:
    keep_some(sandbox)
    keep_some(sandbox)
    with pytest.raises(SandboxError, match="other paths are kept already"):
        sandbox.keep(unreadable=[], unwritable=["docs"])
