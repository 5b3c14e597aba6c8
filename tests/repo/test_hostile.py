"""What an agent can do to its repository: a sound branch comes out all the same; nothing is run, nothing hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from runner.errors import RepoError
from runner.repo import TakeLimits, Taken
from runner.sandbox.base import ExecResult, Sandbox
from tests.repo.conftest import Work
from tests.repo.repositories import Repository

QUICK = TakeLimits(seconds=8)
"""For attacks that make git wait for ever."""

# $P is a program that leaves a mark when it is run, inside or outside.
CONFIGURATION = {
    "fsmonitor": "git config core.fsmonitor $P",
    "ssh command": "git config core.sshCommand $P; git remote add origin ssh://host/x",
    "pager": "git config core.pager $P; git config pager.add $P",
    "editor": "git config core.editor $P; git config sequence.editor $P",
    "external diff": "git config diff.external $P",
    "hooks": (
        "mkdir .git/hooks; for h in pre-commit commit-msg post-commit post-index-change reference-transaction "
        "post-checkout pre-push pre-auto-gc post-rewrite prepare-commit-msg fsmonitor-watchman; do "
        "ln -s $P .git/hooks/$h; done"
    ),
    "hooks path": "git config core.hooksPath ~/hooks; mkdir ~/hooks; ln -s $P ~/hooks/reference-transaction",
    "filters": (
        "git config filter.x.clean $P; git config filter.x.smudge $P; git config filter.x.required true;"
        "echo '* filter=x' > .git/info/attributes"
    ),
    "process filter": "git config filter.x.process $P; echo '* filter=x' > .git/info/attributes",
    "textconv": "git config diff.x.textconv $P; echo '* diff=x' > .git/info/attributes",
    "diff and merge driver": (
        "git config diff.x.command $P; git config merge.x.driver $P; echo '* diff=x merge=x' > .git/info/attributes"
    ),
    "credential helper": "git config credential.helper $P; git config core.askPass $P",
    "aliases": 'for a in add rev-list read-tree write-tree pack-objects; do git config alias.$a "!$P"; done',
    "include": "printf '[core]\\n\\tfsmonitor = %s\\n' $P > ~/inc; git config include.path ~/inc",
    "include by folder": "printf '[core]\\n\\tfsmonitor = %s\\n' $P > ~/inc; git config includeIf.gitdir:/.path ~/inc",
    "own configuration": "git config --global core.fsmonitor $P; git config --global core.hooksPath ~/hooks",
    "pack hook": "git config uploadpack.packObjectsHook $P",
    "signatures": "git config commit.gpgSign true; git config gpg.program $P; git config user.signingKey x",
    "proxy": "git config core.gitProxy $P; git config http.proxy http://127.0.0.1:1",
    "trailers": "git config trailer.x.command $P; git config trailer.x.cmd $P",
    "alternate refs": "git config core.alternateRefsCommand $P; echo /workspace/home/o > .git/objects/info/alternates",
    "lazy fetch": (
        "git config extensions.partialClone origin; git config remote.origin.promisor true;"
        'git config core.repositoryFormatVersion 1; git config remote.origin.url "ext::$P"'
    ),
    "work tree elsewhere": "git config core.worktree /etc",
    "bare": "git config core.bare true",
    "configuration of the work tree": (
        "git config extensions.worktreeConfig true; printf '[core]\\n\\tfsmonitor = %s\\n' $P > .git/config.worktree"
    ),
    "format of the future": "git config core.repositoryFormatVersion 99",
    "unknown extension": "git config core.repositoryFormatVersion 1; git config extensions.future true",
    "broken configuration": "echo '[core' > .git/config",
    "huge configuration": "yes '[a]' | head -c 20000000 > .git/config",
    "configuration as a pipe": "rm .git/config; mkfifo .git/config",
    "configuration as a folder": "rm .git/config; mkdir .git/config",
    "configuration as a link": "ln -sf /dev/zero .git/config",
    "ignore everything": "echo '*' > .git/info/exclude; git config core.excludesFile ~/all; echo '*' > ~/all",
    "files as text": "git config core.autocrlf true; git config core.eol crlf",
    "no modes, no links": "git config core.fileMode false; git config core.symlinks false",
    "bits in the index": "git update-index --assume-unchanged app.py; git update-index --skip-worktree app.py",
    "sparse": "git config core.sparseCheckout true; echo /nothing > .git/info/sparse-checkout",
}

LAYOUT = {
    "alternates to the host": "printf '/etc\\n/root\\n/proc/1/root\\n' > .git/objects/info/alternates",
    "alternates in a circle": "echo /workspace/repo/.git/objects > .git/objects/info/alternates",
    "alternates as a pipe": "mkfifo .git/objects/info/alternates",
    "http alternates": "echo http://169.254.169.254/ > .git/objects/info/http-alternates",
    "a link for .git": "mv .git ~/g; ln -s ~/g .git",
    "a file for .git": "mv .git ~/g; echo 'gitdir: /workspace/home/g' > .git",
    "a file for .git to the host": "rm -rf .git; echo 'gitdir: /etc' > .git",
    "a pipe for .git": "rm -rf .git; mkfifo .git",
    "no .git": "rm -rf .git",
    "an empty .git": "rm -rf .git; mkdir .git",
    "another .git": "rm -rf .git; git init -q; git add .; git -c user.name=x -c user.email=x commit -qm Other",
    "common folder elsewhere": "echo /etc > .git/commondir",
    "HEAD as a pipe": "rm .git/HEAD; mkfifo .git/HEAD",
    "HEAD as a link": "ln -sf /etc/passwd .git/HEAD",
    "HEAD as a folder": "rm .git/HEAD; mkdir .git/HEAD",
    "HEAD as garbage": "head -c 1000 /dev/urandom > .git/HEAD",
    "HEAD to the outside": "echo 'ref: refs/../../../../etc/passwd' > .git/HEAD",
    "HEAD as an option": "echo 'ref: --upload-pack=x' > .git/HEAD",
    "HEAD in a circle": "echo 'ref: refs/heads/a' > .git/HEAD; echo 'ref: refs/heads/a' > .git/refs/heads/a",
    "HEAD to what is not there": "echo 1234567890123456789012345678901234567890 > .git/HEAD",
    "HEAD to a tree": "t=$(git rev-parse HEAD^{tree}); echo $t > .git/HEAD",
    "HEAD to a file": "b=$(git rev-parse HEAD:app.py); echo $b > .git/HEAD",
    "a branch as a pipe": "rm -f .git/refs/heads/claw/job-1; mkfifo .git/refs/heads/claw/job-1",
    "a branch as a link": "ln -sf /etc/passwd .git/refs/heads/claw/job-1",
    "refs as a file": "rm -rf .git/refs; echo x > .git/refs",
    "packed refs as a pipe": "rm -rf .git/refs/heads/claw .git/packed-refs; mkfifo .git/packed-refs",
    "packed refs without end": "yes 'garbage refs/x' | head -c 9000000 > .git/packed-refs",
    "an index of garbage": "head -c 5000 /dev/urandom > .git/index",
    "an index as a pipe": "rm .git/index; mkfifo .git/index",
    "an index as a link": "ln -sf /dev/zero .git/index",
    "objects elsewhere": "mv .git/objects ~/o; ln -s ~/o .git/objects",
    "no objects": "rm -rf .git/objects",
    "objects without the history": "git add app.py; git commit -qm Fix; rm -f .git/objects/pack/*",
    "an object as a pipe": (
        "git add app.py; git commit -qm Fix; o=$(git rev-parse HEAD | sed 's,^..,&/,');"
        "rm -f .git/objects/$o; mkfifo .git/objects/$o"
    ),
    "an object as garbage": (
        "git add app.py; git commit -qm Fix; o=$(git rev-parse HEAD^{tree} | sed 's,^..,&/,');"
        "chmod u+w .git/objects/$o; echo garbage > .git/objects/$o"
    ),
    "a pack index as a pipe": ("cd .git/objects/pack; rm -f *.idx; mkfifo pack-0.idx; touch pack-0.pack"),
    "a pack of garbage": "chmod u+w .git/objects/pack/*; head -c 3000 /dev/urandom > $(ls .git/objects/pack/*.pack)",
    "a commit graph that lies": "head -c 3000 /dev/urandom > .git/objects/info/commit-graph",
    "a pack list that lies": "head -c 3000 /dev/urandom > .git/objects/pack/multi-pack-index",
    "replaced objects": "git replace HEAD HEAD~1; git replace HEAD:app.py HEAD:README.md",
    "grafts": "git rev-parse HEAD > .git/info/grafts",
    "a shallow file": "git rev-parse HEAD > .git/shallow",
    "locks": "touch .git/index.lock .git/HEAD.lock .git/packed-refs.lock .git/refs/heads/claw/job-1.lock",
    "refs with odd names": (
        "h=$(git rev-parse HEAD); for n in ..a a.lock '-x' \"$(printf 'a\\nb')\" HEAD; do "
        'echo $h > ".git/refs/heads/$n"; done'
    ),
    "unreadable .git": "chmod 000 .git",
    "read-only .git": "chmod -R a-w .git",
    "pipes in the work tree": "mkfifo pipe docs/pipe",
    "settings in HOME": "printf '[core]\\n\\tfsmonitor = %s\\n[alias]\\n\\tadd = !%s\\n' $P $P > ~/.gitconfig",
}


def _prepared(work: Work) -> None:
    """A fix, and the program that leaves a mark: inside as the job's user, outside only where root runs it."""
    work.run("sed -i 's/a - b/a + b/' app.py")
    script = f"#!/bin/sh\ntouch /workspace/home/ran {work.folder}/pwned\ncat\n"
    work.sandbox.write_file("/workspace/home/p", script.encode())
    work.run("chmod 755 ~/p")


def _check_sound(work: Work, taken: Taken) -> None:
    """A branch that fsck accepts, that starts from base, and has the fix and nothing else."""
    assert taken.commit is not None
    assert taken.changed == ("app.py",)
    assert b"a + b" in work.show(taken.commit, "app.py")
    assert work.git("fsck", "--full", "--strict", "--no-dangling") == ""
    assert work.git("merge-base", taken.commit, work.quarantine.base) == work.quarantine.base
    assert not (work.folder / "pwned").exists()
    assert work.sandbox.stat("/workspace/home/ran").kind == "missing"


@pytest.mark.parametrize("attack", CONFIGURATION.values(), ids=CONFIGURATION.keys())
def test_configuration_of_the_agent_has_no_effect(attack: str, work: Work) -> None:
    _prepared(work)
    work.run(f"set -e; P=/workspace/home/p; {attack}; rm -f ~/ran", variables={"GIT_EDITOR": "true"})
    taken = work.take(limits=QUICK)
    _check_sound(work, taken)
    assert taken.notes == ()


@pytest.mark.parametrize("attack", LAYOUT.values(), ids=LAYOUT.keys())
def test_a_damaged_repository_still_gives_the_work(attack: str, work: Work) -> None:
    _prepared(work)
    work.run(f"set -e; P=/workspace/home/p; {attack}; rm -f ~/ran")
    begun = time.monotonic()
    taken = work.take(limits=QUICK)
    assert time.monotonic() - begun < 60
    _check_sound(work, taken)


# --- objects that git would not make

OBJECTS = """
set -e
fix() { git add app.py; git commit -qm Fix; }
obj() { git hash-object -t "$1" -w --stdin --literally; }
raw() { printf "$(printf %s "$1" | sed 's/../\\\\x&/g')"; }  # bytes of an object name
entry() { printf "$1 $2\\0"; raw "$3"; }
head_is() { c=$(printf 'tree %s\\nparent %s\\nauthor A <a> 1 +0000\\ncommitter A <a> 1 +0000\\n\\nhostile\\n' $1 \
    $(git rev-parse HEAD) | obj commit); git update-ref refs/heads/claw/job-1 $c; }
blob=$(echo payload | git hash-object -w --stdin)
good=$(git rev-parse HEAD:docs)
"""
TREES = {
    "a .git folder": "head_is $(entry 40000 .git $good | obj tree)",
    "a .GIT folder": "head_is $(entry 40000 .GIT $good | obj tree)",
    "a .git folder deeper": "t=$(entry 40000 .git $good | obj tree); head_is $(entry 40000 sub $t | obj tree)",
    "a short name of .git": "head_is $(entry 40000 git~1 $good | obj tree)",
    "a .git with an invisible character": "head_is $(entry 40000 '.g\\xe2\\x80\\x8cit' $good | obj tree)",
    "the folder above": "head_is $(entry 40000 .. $good | obj tree)",
    "the folder itself": "head_is $(entry 40000 . $good | obj tree)",
    "a name with a slash": "head_is $(entry 100644 a/b $blob | obj tree)",
    "a path to the outside": "head_is $(entry 100644 ../../etc/passwd $blob | obj tree)",
    "no name": "head_is $(entry 100644 '' $blob | obj tree)",
    "a name twice": "head_is $( (entry 100644 a $blob; entry 100644 a $blob) | obj tree)",
    "a file and a folder of one name": "head_is $( (entry 100644 a $blob; entry 40000 a $good) | obj tree)",
    "names out of order": "head_is $( (entry 100644 b $blob; entry 100644 a $blob) | obj tree)",
    "a mode with zeros": "head_is $(entry 040000 a $good | obj tree)",
    "a strange mode": "head_is $(entry 107777 a $blob | obj tree)",
    "a folder as a file": "head_is $(entry 100644 a $good | obj tree)",
    "a file as a folder": "head_is $(entry 40000 a $blob | obj tree)",
    "a null object": "head_is $(entry 100644 a $(printf '%040d' 0) | obj tree)",
    "a missing file": "head_is $(entry 100644 a $(printf '%040d' 7) | obj tree)",
    "a missing folder": "head_is $(entry 40000 a $(printf '%040d' 7) | obj tree)",
    "a cut tree": "head_is $(entry 100644 a 1234 | obj tree)",
    "a tree of garbage": "head_is $(head -c 100 /dev/urandom | obj tree)",
    "a submodule": "head_is $(entry 160000 sub $(git rev-parse HEAD) | obj tree)",
    "a submodule with commands": (
        "m=$(printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = -u./payload\\n\\tupdate = !touch pwned\\n' | obj blob);"
        "head_is $( (entry 100644 .gitmodules $m; entry 160000 x $(git rev-parse HEAD)) | obj tree)"
    ),
    "a link for .gitmodules": "head_is $(entry 120000 .gitmodules $blob | obj tree)",
    "a folder in itself, very deep": (
        "t=$good; for i in $(seq 300); do t=$(entry 40000 d $t | obj tree); done; head_is $t"
    ),
    "a million files": (
        "t=$good; for i in $(seq 6); do t=$( (for n in 0 1 2 3 4 5 6 7 8 9; do entry 40000 $n $t; done) | obj tree);"
        "done; head_is $t"
    ),
    "a file that unpacks to much": "head_is $(entry 100644 a $(head -c 100000000 /dev/zero | obj blob) | obj tree)",
    "a commit without an author": (
        "fix; c=$(printf 'tree %s\\nparent %s\\n\\nx\\n' $(git rev-parse HEAD^{tree} HEAD^) | obj commit);"
        "echo $c > .git/refs/heads/claw/job-1"
    ),
    "a commit of garbage": "fix; head -c 200 /dev/urandom | obj commit > .git/refs/heads/claw/job-1",
    "a commit with a NUL": (
        "fix; c=$( (git cat-file commit HEAD; printf 'a\\0b') | obj commit); echo $c > .git/refs/heads/claw/job-1"
    ),
    "a commit whose parent is a file": (
        "fix; c=$(printf 'tree %s\\nparent %s\\nauthor A <a> 1 +0000\\ncommitter A <a> 1 +0000\\n\\nx\\n'"
        " $(git rev-parse HEAD^{tree}) $blob | obj commit); echo $c > .git/refs/heads/claw/job-1"
    ),
    "a commit with many parents": (
        "fix; p=$(git rev-parse HEAD^); c=$( (printf 'tree %s\\n' $(git rev-parse HEAD^{tree});"
        " for i in $(seq 3000); do printf 'parent %s\\n' $p; done;"
        " printf 'author A <a> 1 +0000\\ncommitter A <a> 1 +0000\\n\\nx\\n')"
        " | obj commit); echo $c > .git/refs/heads/claw/job-1"
    ),
    "a message without end": (
        "fix; c=$( (git cat-file commit HEAD; head -c 5000000 /dev/zero | tr '\\0' x) | obj commit);"
        "echo $c > .git/refs/heads/claw/job-1"
    ),
    "a tag for HEAD": "fix; git tag -a -m x t; git rev-parse t > .git/refs/heads/claw/job-1",
    "another root": "c=$(git commit-tree -m x $good); git update-ref refs/heads/claw/job-1 $c",
}


@pytest.mark.parametrize("attack", TREES.values(), ids=TREES.keys())
def test_objects_that_git_would_not_make_do_not_come_out(attack: str, work: Work) -> None:
    _prepared(work)
    work.run(OBJECTS + attack)
    begun = time.monotonic()
    taken = work.take(limits=replace(QUICK, seconds=20))
    assert time.monotonic() - begun < 90
    _check_sound(work, taken)


@pytest.mark.parametrize("attack", ["folder", "link", "file", "missing", "unreadable"])
def test_without_a_work_tree_there_is_an_error_that_says_so(attack: str, work: Work) -> None:
    ways = {
        "folder": "mv /workspace/repo ~/r; mkfifo /workspace/repo",
        "link": "mv /workspace/repo ~/r; ln -s /etc /workspace/repo",
        "file": "mv /workspace/repo ~/r; echo > /workspace/repo",
        "missing": "rm -rf /workspace/repo",
        "unreadable": "chmod 000 /workspace/repo",
    }
    work.run(f"cd /; {ways[attack]}")
    with pytest.raises(RepoError, match="/workspace/repo"):
        work.take(limits=QUICK)


def test_files_that_cannot_be_read_stay_as_they_were_and_are_named(work: Work) -> None:
    work.run("echo x > docs/use.md; chmod 000 docs/use.md; echo fixed > app.py")
    taken = work.take()
    assert taken.changed == ("app.py",)
    assert "docs/use.md" in taken.notes[0]


def test_an_object_that_the_agent_was_not_given_cannot_be_named(work: Work) -> None:
    secret = work.repository.git("rev-parse", "future:app.py")
    work.run(
        f"git update-index --cacheinfo 100644,{secret},stolen.py; t=$(git write-tree --missing-ok);"
        "git update-ref HEAD $(git commit-tree -m x -p HEAD $t); echo fixed > app.py"
    )
    taken = work.take()
    assert "stolen.py" not in taken.changed
    assert secret not in Repository.existing(work.quarantine.path).objects()


# --- a sandbox that lies: what the host does when even the toolbox's git is not to be believed


class Liar:
    """A sandbox whose git tells what it likes: `pack` for every pack, `name` for the commit it made."""

    def __init__(self, sandbox: Sandbox, *, pack: Iterable[bytes], name: bytes) -> None:
        self._sandbox, self._pack, self._name = sandbox, pack, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._sandbox, attribute)

    def exec(self, command: Any, **options: Any) -> ExecResult:
        if "pack-objects" in command:
            for chunk in self._pack:
                options["on_output"](chunk)
            return ExecResult(exit_code=0, signal=None, output=b"")
        result = self._sandbox.exec(command, **options)
        return replace(result, output=self._name + b"\n") if "commit-tree" in command else result


def _pack_of(repository: Repository, *revisions: str) -> bytes:
    return repository.output(
        "pack-objects", "--stdout", "--revs", "--thin", stdin="\n".join(revisions).encode() + b"\n"
    )


def _endless() -> Iterable[bytes]:
    while True:
        yield b"PACK" * 10_000


@pytest.mark.parametrize(
    "name",
    [b"--output=/tmp/x", b"HEAD", b"refs/claw/base", b"", b"a" * 39, b"\xff" * 40, b"a" * 40 + b" --all", b"b" * 40],
)
def test_a_name_that_is_none_of_an_object_that_came_is_refused(name: bytes, work: Work) -> None:
    work.run("echo x > x")
    with pytest.raises(RepoError, match="for an object name|git index-pack"):
        replace(work, sandbox=Liar(work.sandbox, pack=[], name=name)).take()


@pytest.mark.parametrize("pack", [b"", b"garbage", b"PACK\0\0\0\2\xff\xff\xff\xff", b"\0" * 100_000])
def test_a_pack_that_is_none_is_refused(pack: bytes, work: Work) -> None:
    work.run("echo x > x")
    with pytest.raises(RepoError, match="git index-pack"):
        replace(work, sandbox=Liar(work.sandbox, pack=[pack], name=b"c" * 40)).take()


def test_a_pack_without_end_is_cut_off(work: Work) -> None:
    work.run("echo x > x")
    with pytest.raises(RepoError, match="larger than 1000000 bytes"):
        replace(work, sandbox=Liar(work.sandbox, pack=_endless(), name=b"c" * 40)).take(
            limits=TakeLimits(pack_bytes=1_000_000)
        )


def _dot_git(repository: Repository) -> str:
    """A commit on main whose tree has a `.git` folder with a hook."""
    hook = repository.git("hash-object", "-w", "--stdin", stdin=b"#!/bin/sh\ntouch pwned\n")
    inner = repository.git("mktree", stdin=f"100755 blob {hook}\tpost-checkout\n".encode())
    raw = b"40000 .git\0" + bytes.fromhex(inner)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=raw)
    return repository.git("commit-tree", tree, "-p", "main", "-m", "hostile")


def _other_root(repository: Repository) -> str:
    return repository.git("commit-tree", "main^{tree}", "-m", "another root")


def _from_the_past(repository: Repository) -> str:
    return repository.git("commit-tree", "future^{tree}", "-p", "main~1", "-m", "beside base")


def _submodule(repository: Repository) -> str:
    tree = repository.git("mktree", stdin=f"160000 commit {repository.head}\tsub\n".encode())
    return repository.git("commit-tree", tree, "-p", "main", "-m", "submodule")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_dot_git, "hasDotgit"),
        (_other_root, "does not start from base"),
        (_from_the_past, "does not start from base"),
        (_submodule, "sub is a submodule"),
    ],
)
def test_a_pack_with_a_hostile_branch_is_refused(make: Callable[[Repository], str], said: str, work: Work) -> None:
    work.run("echo x > x")
    commit = make(work.repository)
    liar = Liar(work.sandbox, pack=[_pack_of(work.repository, commit, "^main")], name=commit.encode())
    with pytest.raises(RepoError, match=said):
        replace(work, sandbox=liar).take()
    assert work.git("for-each-ref", "--format=%(refname)") == "refs/claw/base"
    assert commit not in Repository.existing(work.quarantine.path).objects()


def test_a_pack_that_lacks_what_it_names_is_refused(work: Work) -> None:
    work.run("echo x > x")
    repository = work.repository
    commit = repository.git("commit-tree", "future^{tree}", "-p", "main", "-m", "names the secret fix")
    objects = f"{commit}\n{repository.tree('future')}\n".encode()
    pack = repository.output("pack-objects", "--stdout", stdin=objects)
    with pytest.raises(RepoError, match="did not receive expected object"):
        replace(work, sandbox=Liar(work.sandbox, pack=[pack], name=commit.encode())).take()
