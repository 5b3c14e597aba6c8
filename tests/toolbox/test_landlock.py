"""Landlock by itself: what a grant becomes, and that a process which cannot be held is told so."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runner.toolbox import landlock

needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
ROOT = Path(__file__).parent.parent.parent


def alone(script: str, *arguments: str | Path) -> str:
    """What a script prints in a process of its own: what is taken away there is gone for good."""
    imports = "import os, sys\nfrom runner.toolbox import child, landlock, privileges\n"
    command = [sys.executable, "-c", imports + textwrap.dedent(script), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return run.stdout.strip()


def held(access: str, hole: str | Path, file: Path) -> str:
    """What reading a file gives when this access to all is granted, but for the hole."""
    script = """
        access, hole, file = sys.argv[1:]
        privileges.prctl(privileges.PR_SET_NO_NEW_PRIVS, 1)
        rules = [landlock.plan(b"/", access, [os.fsencode(hole)])] if access else []
        landlock.restrict(landlock.make_ruleset(rules))
        try:
            print(open(file).read())
        except PermissionError:
            print("refused")
    """
    return alone(script, access, hole, file)


def test_what_is_left_out_becomes_a_tree_of_holes() -> None:
    path, rights, holes = landlock.plan(b"/no", "read", [b"/no/a/b", b"/no/a/c/d", b"/no/e", b"/no/e/f", b"/other"])
    assert (path, rights) == (b"/no", landlock.EXECUTE | landlock.READ_FILE | landlock.READ_DIR)
    assert holes == {b"a": {b"b": None, b"c": {b"d": None}}, b"e": None}


def test_a_hole_swallows_those_below_it_in_any_order() -> None:
    assert landlock.plan(b"/", "read", [b"/no/a/b", b"/no/a"])[2] == {b"no": {b"a": None}}


@pytest.mark.parametrize("hole", [b"/no/a", b"/no", b"/"])
def test_leaving_out_all_of_a_grant_gives_nothing(hole: bytes) -> None:
    assert landlock.plan(b"/no/a", "write", [hole]) == (b"/no/a", 0, {})


def test_an_access_that_does_not_exist_is_no_grant() -> None:
    with pytest.raises(KeyError):
        landlock.plan(b"/", "everything", [])


@needs_landlock
def test_only_what_is_granted_is_left(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("read")
    assert held("read", "/none", file) == "read"
    assert held("list", "/none", file) == "refused"
    assert held("read", tmp_path, file) == "refused"
    assert held("", "", file) == "refused"


@needs_landlock
def test_a_trial_shows_that_the_kernel_refuses(tmp_path: Path) -> None:
    script = """
        privileges.prctl(privileges.PR_SET_NO_NEW_PRIVS, 1)
        print(landlock.holds([landlock.plan(b"/", "write", [])], os.fsencode(sys.argv[1])))
    """
    assert alone(script, tmp_path) == "True"


def test_a_process_that_could_not_be_held_is_told_so() -> None:
    script = """
        try:
            landlock.restrict(0)
        except OSError as error:
            print(error)
    """
    assert "Landlock could not be applied" in alone(script)


def test_a_piece_of_work_that_dies_is_an_error() -> None:
    script = """
        for work in (lambda: os._exit(1), lambda: os.lstat("/no/such")):
            try:
                child.in_child(work)
            except OSError as error:
                print(error)
    """
    assert alone(script).splitlines() == [
        "[Errno 10] the process that was to do it died",
        "[Errno 2] No such file or directory: '/no/such'",
    ]
