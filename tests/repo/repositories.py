"""Real repositories for the tests, made by real git."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Repository:
    """A repository that a user could have."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", *options)

    @classmethod
    def existing(cls, path: Path) -> Repository:
        repository = cls.__new__(cls)
        repository.path = path
        return repository

    def git(self, *args: str, stdin: bytes | None = None) -> str:
        return self.output(*args, stdin=stdin).decode("utf-8", "surrogateescape").strip()

    def output(self, *args: str, stdin: bytes | None = None) -> bytes:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *args],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            env={**os.environ, **IDENTITY},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (args, done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def write(self, name: str | bytes, content: str | bytes = b"") -> Path:
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, message: str = "work") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def tree(self, commit: str) -> str:
        return self.git("rev-parse", f"{commit}^{{tree}}")

    def objects(self) -> set[str]:
        listed = self.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered")
        return set(listed.split())

    def state(self) -> dict[str, object]:
        """All that must stay: the bytes of HEAD, index, configuration and work tree, every ref and reflog."""
        git_dir = Path(self.git("rev-parse", "--absolute-git-dir"))
        names = ["HEAD", "index", "config", "packed-refs", "info/exclude", "FETCH_HEAD", "ORIG_HEAD"]
        files = {name: _digest(git_dir / name) for name in names}
        logs = {str(path): _digest(path) for path in sorted((git_dir / "logs").rglob("*")) if path.is_file()}
        work = {
            str(path): _digest(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and git_dir not in path.parents
        }
        refs = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return {"files": files, "logs": logs, "work": work, "refs": refs}


def sample(path: Path) -> Repository:
    """Two commits, a tag, and a branch ahead of main with a secret that no job on main may see."""
    repository = Repository(path)
    repository.write("app.py", "def add(a, b):\n    return a - b\n")
    repository.write("tests/test_app.py", "from app import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    repository.write("README.md", "An app\n")
    repository.commit("Begin")
    repository.git("tag", "v1")
    repository.write("docs/use.md", "Use it\n")
    repository.commit("Document")
    repository.git("checkout", "--quiet", "-b", "future")
    repository.write("app.py", "def add(a, b):\n    return a + b  # the secret fix\n")
    repository.commit("The fix, from the future")
    repository.git("tag", "-a", "-m", "later", "v2")
    repository.git("checkout", "--quiet", "main")
    return repository


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
