"""Ways by which a command may come to read or change a file. Runs inside, alone; JSON in, JSON out.

In: the targets, each with its path, what is in it (`text`), and what is tried (`read` or `write`). Out: for each target
how many ways were tried, and the names of those that got through. What a way changed is put back for the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

SECONDS = 10
REPO = "/workspace/repo"

# $F is the file, $D its folder, $N its name, $R its path in the repository, $T a folder for scratch files.
READ = {
    "cat": 'cat "$F"',
    "sed": 'sed -n 1,9p "$F"',
    "grep": 'grep "" "$F"',
    "cp": 'cp "$F" "$T/copy" && cat "$T/copy"',
    "ln": 'ln "$F" "$D/attack-link" && cat "$D/attack-link"; rm -f "$D/attack-link"',
    "ln -s": 'ln -s "$F" "$T/link" && cat "$T/link"',
    "mv": 'mv "$F" "$D/attack-moved" && cat "$D/attack-moved"; mv "$D/attack-moved" "$F"',
    "mv of its folder": 'mv "$D" "$D.moved" && cat "$D.moved/$N"; mv "$D.moved" "$D"',
    "dd": 'dd if="$F" 2>/dev/null',
    "tar": 'tar -cf - "$F" 2>/dev/null',
    "find": 'find "$D" -name "$N" -exec cat {} ";"',
    "/proc": 'cd "$D" && cat "/proc/self/cwd/$N" "/proc/self/root$F"',
    "chmod": 'chmod 777 "$D" "$F"; cat "$F"',
}
READ_BY_GIT = {
    "git show": 'git show "HEAD:$R"',
    "git grep": 'git grep -h -e "" HEAD -- "$R"',
    "git log -p": 'git log --all -p -- "$R"',
    "git archive": 'git archive HEAD -- "$R"',
    "git diff": 'git diff --no-index /dev/null "$F"',
    "git checkout": 'git checkout -f HEAD -- "$R"; cat "$F"',
    "git worktree": 'git worktree add -f "$T/tree" HEAD; cat "$T/tree/$R"; git worktree remove -f "$T/tree"',
    "git cat-file": "git cat-file --batch-all-objects --batch",
}
WRITE = {
    ">": 'echo changed > "$F"',
    ">>": 'echo changed >> "$F"',
    "tee": 'echo changed | tee "$F"',
    "sed -i": 'sed -i "s/^/changed/" "$F"',
    "cp": 'echo changed > "$T/new" && cp -f "$T/new" "$F"',
    "mv": 'echo changed > "$T/new" && mv -f "$T/new" "$F"',
    "ln -s": 'echo changed > "$T/new" && ln -sf "$T/new" "$F"',
    "ln": 'echo changed > "$D/attack-new" && ln -f "$D/attack-new" "$F"; rm -f "$D/attack-new"',
    "rm": 'rm -f "$F"',
    "dd": 'echo changed | dd of="$F" 2>/dev/null',
    "chmod": 'chmod 777 "$D" "$F"; echo changed > "$F"',
    "mv of its folder": 'mv "$D" "$D.moved" && mkdir "$D" && echo changed > "$F"; rm -rf "$D.moved"',
    "/proc": 'cd "$D" && echo changed > "/proc/self/cwd/$N"',
}
WRITE_BY_GIT = {
    "git rm": 'git rm -qf "$R"; git reset -q',
    "git checkout-index": (
        'b=$(echo changed | git hash-object -w --stdin) && git update-index --add --cacheinfo "100644,$b,$R" &&'
        'git checkout-index -f -- "$R"; git reset -q'
    ),
    "git apply": (
        "printf '%s\\n' \"--- a/$R\" \"+++ b/$R\" '@@ -0,0 +1 @@' '+changed' | git apply --unidiff-zero -; git reset -q"
    ),
}


def main() -> None:
    targets = json.load(sys.stdin)
    print(json.dumps([{"read": reading, "write": writing}[target["access"]](target) for target in targets]))


def reading(target: dict[str, str]) -> dict[str, object]:
    ways = fitting(READ, READ_BY_GIT, target["path"])
    through = [name for name, script in ways.items() if target["text"] in said(script, target["path"])]
    with suppress(OSError), open(target["path"], encoding="utf-8") as file:
        through += ["python"] if target["text"] in file.read() else []
    return {"tried": len(ways) + 1, "through": through}


def writing(target: dict[str, str]) -> dict[str, object]:
    path, through = target["path"], []
    with suppress(OSError):
        os.makedirs(os.path.dirname(path))
    before = state(path)
    ways = fitting(WRITE, WRITE_BY_GIT, path)
    for name, script in ways.items():
        said(script, path)
        if changed(path, before, target["text"]):
            through.append(name)
    with suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write("changed")
    if changed(path, before, target["text"]):
        through.append("python")
    return {"tried": len(ways) + 1, "through": through}


def fitting(ways: dict[str, str], by_git: dict[str, str], path: str) -> dict[str, str]:
    """Those whose program is there. In the repository's root a file's folder is the repository: that one stays."""
    kept = {name: script for name, script in ways.items() if name not in ("tar", "dd") or shutil.which(name)}
    if os.path.dirname(path) in (REPO, "/", "/tmp", "/workspace", "/workspace/home"):
        kept.pop("mv of its folder")
    return {**kept, **(by_git if path.startswith(REPO + "/") else {})}


def said(script: str, path: str) -> str:
    """What a script printed."""
    with scratch() as folder:
        variables = {
            **os.environ,
            "F": path, "D": os.path.dirname(path), "N": os.path.basename(path), "R": os.path.relpath(path, REPO),
            "T": folder,
        }  # fmt: skip
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                ["/bin/sh", "-c", script], cwd=REPO, env=variables, timeout=SECONDS, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            return done.stdout.decode("utf-8", "replace")
    return ""


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A new folder. Where nothing can be made any more one of that name is not there."""
    path = f"/tmp/attack-{os.getpid()}"
    for folder in ("/tmp", "/workspace/home", "/dev/shm"):  # a policy may take any of them away
        path = f"{folder}/attack-{os.getpid()}"
        with suppress(OSError):
            os.mkdir(path)
            break
    yield path
    shutil.rmtree(path, ignore_errors=True)


def state(path: str) -> tuple[int, int, int] | None:
    """Kind, size and time of change, which tell of every write, also where the content cannot be read."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns


def changed(path: str, before: tuple[int, int, int] | None, text: str) -> bool:
    """Whether the file is not what it was; then it is put back, so that the next way finds it so."""
    if state(path) == before:
        return False
    with suppress(OSError):
        os.unlink(path)
    if before is not None:
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.utime(path, ns=(before[2], before[2]))
    return True


if __name__ == "__main__":
    main()
