"""The loop and all of its tools where they work for real: in a container, whatever its image holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.sandbox.base import REPO, Sandbox
from runner.sandbox.image import ImageRef
from runner.transcript import ToolRan
from tests.agents.jobs import bash, calls, says, start_job

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("image", ["busybox_image", "base_image"])
def test_every_tool_works_in_any_image(
    request: pytest.FixtureRequest, open_sandbox: Callable[[ImageRef], Sandbox], image: str, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    sandbox = open_sandbox(request.getfixturevalue(image))
    job = start_job(
        sandbox,
        [
            calls(("Write", {"file_path": "src/a.txt", "content": "one\ntwo\n"}), ("Read", {"file_path": "src/a.txt"})),
            calls(("Edit", {"file_path": "src/a.txt", "old_string": "two", "new_string": "zwei"})),
            bash("cd src && pwd && cat a.txt"),
            calls(("Bash", {"command": "pwd; exit 3"}), ("Bash", {"command": "sleep 60", "timeout": 300})),
            calls(("Grep", {"pattern": "zw.i", "output_mode": "content"}), ("Glob", {"pattern": "**/*.txt"})),
            calls(("Bash", {"command": "echo ready; sleep 600", "run_in_background": True})),
            calls(("KillBash", {"shell_id": "task-1"}), ("BashOutput", {"bash_id": "task-1"})),
            says("Done."),
        ],
    )
    try:
        end = job.run()
    finally:
        job.model.close()
        job.server.stop()
    assert (end.reason, end.turns) == ("done", 8)
    write, read, edit, shell, failed, slept, grep, glob, started, killed, output = job.recorded(ToolRan)
    assert write.content == f"Created {REPO}/src/a.txt (8 bytes)."
    assert read.content == "     1\tone\n     2\ttwo"
    assert edit.content.endswith("     1\tone\n     2\tzwei")
    assert shell.content == f"{REPO}/src\none\nzwei"
    assert failed.content == f"Exit code 3\n{REPO}/src"
    assert slept.details["timed_out"] is True
    assert grep.content == f"{REPO}/src/a.txt:2:zwei"
    assert glob.content == f"{REPO}/src/a.txt"
    assert started.details["bash_id"] == "task-1"
    assert killed.content.startswith("Background command task-1 has ended.")
    assert output.details["running"] is False
    assert (tmp_path / shell.details["log"]).read_text() == f"{REPO}/src\none\nzwei\n"
