"""The repository in and out of real containers: the same story on every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.repo import deliver
from runner.sandbox.base import Sandbox
from tests.repo.conftest import Work

pytestmark = pytest.mark.engine


def test_work_goes_in_and_comes_out_as_a_branch(begin: Callable[..., Work], sandbox: Sandbox) -> None:
    work = begin(sandbox=sandbox)
    work.run("sed -i 's/a - b/a + b/' app.py; git commit -qam 'Fix add'; echo more > more.txt; ln -s /etc/passwd link")
    taken = work.take()
    assert taken.changed == ("app.py", "link", "more.txt")
    assert work.git(
        "log", "--reverse", "--format=%s", f"main..{taken.commit}".replace("main", work.quarantine.base)
    ) == ("Fix add\nBy template")
    delivered = deliver(work.quarantine, taken, "claw/job-1", folder=work.folder)
    assert work.repository.git("rev-parse", delivered.branch) == taken.commit


@pytest.mark.parametrize(
    "attack", ["rm -rf .git", "rm .git/HEAD; mkfifo .git/HEAD", "git config core.fsmonitor 'touch ~/ran'", "mkfifo x"]
)
def test_a_damaged_repository_still_gives_the_work(attack: str, begin: Callable[..., Work], sandbox: Sandbox) -> None:
    work = begin(sandbox=sandbox)
    work.run(f"echo fixed > app.py; {attack}; rm -f ~/ran")
    assert work.take().changed == ("app.py",)
    assert sandbox.stat("/workspace/home/ran").kind == "missing"


def test_the_work_comes_out_of_a_full_disk(
    begin: Callable[..., Work], open_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    work = begin(sandbox=open_sandbox(disk="16m"))
    filled = work.sandbox.exec(
        "seq 40000 > big; head -c 100m /dev/zero > $HOME/junk; df --output=avail /workspace | tail -1"
    )
    assert filled.output.split()[-1] == b"0"
    taken = work.take()
    assert taken.changed == ("big",)
    assert taken.notes == ()


def test_an_image_without_git_takes_part(
    begin: Callable[..., Work], open_sandbox: Callable[..., Sandbox], busybox_image: object
) -> None:
    work = begin(sandbox=open_sandbox(image=busybox_image))
    work.run("echo fixed > app.py")
    taken = work.take()
    assert taken.changed == ("app.py",)
    assert taken.notes == ()
