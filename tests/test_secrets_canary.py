"""A secret that an agent does everything to get out is nowhere outside its sandbox, in any form.

The jobs run through the command line, in a process of its own, with a model that knows the secret and says it.
"""

from __future__ import annotations

import base64
import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import pytest
import yaml

from runner.models.script import Turn
from runner.models.scripted import ScriptedServer
from runner.sandbox.container import ContainerEngine
from tests.agents.jobs import bash, calls, says
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

MODEL = "claude-sonnet-4-6"
SECRETS = {"CANARY": "cAnArY_9fK2xQz7Wm5rT8vB3nL6pD1s", "ODD": "odd \"one\" & <two> 'q' \\e/c+r=t%é$x"}
CANARY = SECRETS["CANARY"]

FORMS = r"""
env; cat /proc/self/environ; echo "plain $CANARY"; echo "$ODD" >&2
printf %s "$CANARY" | base64; printf 'x%s' "$CANARY" | base64 -w 20; printf 'xy%s.' "$CANARY" | base64 -w 0; echo
printf %s "$CANARY" | od -An -v -tx1 | tr -d ' \n'; echo; printf %s "$CANARY" | od -An -v -w100 -tx1
i=1; while [ $i -le 31 ]; do printf %s "$CANARY" | cut -c$i | tr -d '\n'; sleep 0.01; i=$((i+1)); done; echo
yes "$CANARY" | head -c 200000
"""
WRITE = r"""
echo fixed > code.txt; echo "key = '$CANARY'" > leak.txt; printf 'bin\0\1%s\0' "$CANARY" > leak.bin
mkdir "dir-$CANARY"; echo x > "dir-$CANARY/file"; ln -s "$CANARY" link; git checkout --quiet -b "branch-$CANARY"
git add --all; git -c user.name="$CANARY" commit --quiet -m "message with $CANARY" -m "$ODD"; git tag "tag-$CANARY"
git notes add -m "$CANARY"; echo "$CANARY" > untracked; cd "dir-$CANARY"
"""
LEAKS = [
    bash(FORMS),
    bash(WRITE, text=f"Now I write {CANARY}."),
    bash(f"cat untracked # {CANARY}", text=f"And the working directory has {CANARY} in it."),
    calls(
        ("Read", {"file_path": "/workspace/repo/leak.txt"}),
        ("Read", {"file_path": f"/workspace/repo/no-{CANARY}"}),
        ("Grep", {"pattern": "key", "output_mode": "content"}),
        ("Glob", {"pattern": "**/*"}),
        ("Write", {"file_path": "/workspace/repo/more.txt", "content": f"{CANARY}\n"}),
        ("Bash", {"command": 'echo "$CANARY"; sleep 600', "run_in_background": True}),
        ("BashOutput", {"bash_id": "task-1"}),
        (f"No{CANARY}", {CANARY: CANARY}),
    ),
    calls(("BashOutput", {"bash_id": "task-1"}), ("KillBash", {"shell_id": "task-1"})),
    bash(f"exec {CANARY}"),
    says(f"Done with {CANARY}."),
]
CLEAN = [
    bash(FORMS),
    bash('echo fixed > code.txt; git add --all; git commit --quiet -m "fixed with $CANARY" -m "$ODD"'),
    says(f"Fixed with {CANARY}."),
]


class Ran(NamedTuple):
    """A job that has ended."""

    exit_code: int
    outcome: str
    texts: dict[str, bytes]
    """All that can be seen from outside, by where."""
    folder: Path


def written(secret: str) -> Iterator[bytes]:
    """The forms that are looked for, by other means than those that mask them."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    yield json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    yield from (quote(secret, safe="").encode(), quote_plus(secret).encode())
    yield from (html.escape(secret).encode(), html.escape(secret, quote=False).encode())
    yield from (
        secret.encode().hex().encode(),
        secret.encode().hex().upper().encode(),
        secret.encode().hex(" ").encode(),
    )
    for before in ("", "x", "xy"):
        yield base64.b64encode(f"{before}{secret}".encode())[4:-4]


PIECES = {name: [form for form in set(written(secret)) if len(form) > 8] for name, secret in SECRETS.items()}


def leaks(texts: dict[str, bytes]) -> list[tuple[str, str, bytes]]:
    """Where which secret was found; the two halves of the first are looked for as well, for what was cut."""
    halves = {"half": [CANARY[:16].encode(), CANARY[16:].encode()]}
    return [
        (where, name, form)
        for where, text in texts.items()
        for name, forms in (PIECES | halves).items()
        for form in forms
        if form in text.replace(b"\n", b"") or form in text
    ]


@pytest.fixture
def files(tmp_path: Path, base_image: Any, toolbox_volume: str) -> Path:
    repository = Repository(tmp_path / "repo")
    repository.write("code.txt", "broken\n")
    repository.commit("first")
    task = {
        "version": 1,
        "name": "leak",
        "prompt": "Fix code.txt.",
        "repo": {"url": "repo", "base": "main"},
        "setup": ['echo "setup $CANARY $ODD"'],
        "model": f"anthropic:{MODEL}",
        "checks": {"run": ['echo "check $CANARY $ODD"; grep -q fixed code.txt']},
        "limits": {"seconds": 120, "retries": 0},
    }
    policy = {
        "version": 1,
        "mode": "blacklist",
        "secrets": list(SECRETS),
        "container": {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    return tmp_path


def run(files: Path, engine: ContainerEngine, turns: list[Turn], *options: str) -> Ran:
    command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml", "--engine", engine.name]
    with ScriptedServer(turns, model=MODEL) as server:
        keys = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": server.url}
        done = subprocess.run(
            [*command, *options],
            cwd=files,
            env=os.environ | keys | SECRETS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
            check=False,
        )
    found = list(files.glob("runs/leak-*/result.json"))
    assert found, done.stderr.decode()
    texts = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    texts |= {f"name of {path}": os.fsencode(path.name) for path in files.rglob("*")}
    texts |= {"stdout": done.stdout, "stderr": done.stderr, "engine": engine_says(engine)}
    objects = Repository.existing(files / "repo").output("cat-file", "--batch", "--batch-all-objects")
    texts["objects"] = objects
    return Ran(done.returncode, json.loads(found[0].read_text())["outcome"], texts, found[0].parent)


def engine_says(engine: ContainerEngine) -> bytes:
    """All containers, images and volumes that the engine knows, with labels and variables."""
    asked = ("/containers/json?all=true", "/images/json?all=true", "/volumes")
    return json.dumps([engine.api.get(path) for path in asked], ensure_ascii=False).encode()


def test_a_diff_with_a_secret_is_denied_and_the_secret_is_nowhere(engine: ContainerEngine, files: Path) -> None:
    ran = run(files, engine, LEAKS)
    assert (ran.exit_code, ran.outcome) == (12, "denied")
    assert leaks(ran.texts) == []
    assert b"***" in ran.texts["stderr"]
    patch = (ran.folder / "patch.diff").read_bytes()
    assert b"key = '***'" in patch
    assert b"GIT binary patch" not in patch, "what is compressed cannot be masked"
    assert Repository.existing(files / "repo").git("branch", "--list", "claw/*") == ""


def test_a_job_that_says_a_secret_but_does_not_write_it_is_solved(engine: ContainerEngine, files: Path) -> None:
    ran = run(files, engine, CLEAN, "--json")
    assert (ran.exit_code, ran.outcome) == (0, "solved")
    assert leaks(ran.texts) == []
    message = Repository.existing(files / "repo").git("log", "-1", "--format=%B", "--branches=claw/*")
    assert message.startswith("fixed with ***\n\n***\n")
    logs = [path for path in (ran.folder / "logs").iterdir() if b"***" in path.read_bytes()]
    assert len(logs) == 2, "of a command, and of the check"


def test_errors_do_not_say_a_secret(engine: ContainerEngine, files: Path) -> None:
    task = yaml.safe_load((files / "task.yaml").read_text())
    task["setup"] = ['echo "failed with $CANARY"; exit 3']
    (files / "task.yaml").write_text(yaml.safe_dump(task))
    ran = run(files, engine, [says("Never asked.")])
    assert (ran.exit_code, ran.outcome) == (21, "sandbox_error")
    assert leaks(ran.texts) == []
    assert b"failed with ***" in ran.texts["stdout"]
