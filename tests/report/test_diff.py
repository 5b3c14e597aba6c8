"""Patches as git writes them are read back exactly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.report.diff import MOST_FILE_LINES, MOST_LINES, OPEN_LINES, FileDiff, parse_patch
from tests.report.sample import PATCH_BYTES


def _git(repo: Path, *args: str) -> bytes:
    command = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "init.defaultBranch=main",
        "-C",
        str(repo),
        *args,
    ]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "config", "core.quotePath", "true")
    return tmp_path


def _patch(repo: Path) -> list[FileDiff]:
    _git(repo, "add", "-A")
    return parse_patch(_git(repo, "diff", "--cached", "-M", "--binary", "HEAD"))


def _commit(repo: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(data)
    _git(repo, "add", "-A")
    _git(repo, "commit", "-qm", "base", "--allow-empty")


def test_every_kind_of_change_is_named(repo: Path) -> None:
    text = b"".join(b"line %d\n" % n for n in range(30))
    _commit(repo, {"kept.py": b"a\n", "gone.py": b"x\n", "old.py": text, "tool": b"#!/bin/sh\n", "pic": b"\0\1"})
    (repo / "kept.py").write_bytes(b"b\n")
    (repo / "gone.py").unlink()
    (repo / "old.py").rename(repo / "new name.py")
    (repo / "tool").chmod(0o755)
    (repo / "pic").write_bytes(b"\0\2\n--- a/fake\n+++ b/fake\n")
    (repo / "added").write_bytes(b"#!/bin/sh\n")
    (repo / "added").chmod(0o755)
    (repo / "link").symlink_to("kept.py")
    found = {file.path: (file.change, file.binary) for file in _patch(repo)}
    assert found == {
        "kept.py": ("modified", False),
        "gone.py": ("deleted", False),
        "new name.py": ("renamed from old.py", False),
        "tool": ("mode 100755", False),
        "pic": ("modified", True),
        "added": ("added, executable", False),
        "link": ("added, symbolic link", False),
    }


@pytest.mark.parametrize(
    "name",
    ["a b", "ä漢.py", 'quo"te', "back\\slash", "tab\there", "new\nline", "x b/x", "-dash", "a/b/c d.txt", " lead"],
)
@pytest.mark.parametrize("data", [b"text\n", b"", b"\0bin"])
def test_odd_names_come_back(repo: Path, name: str, data: bytes) -> None:
    _commit(repo, {})
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_bytes(data)
    assert [file.path for file in _patch(repo)] == [name]


def test_lines_that_look_like_headers_stay_lines(repo: Path) -> None:
    _commit(repo, {"f": b"-- a/x\n@@ -1 +1 @@\ndiff --git a/p b/p\nlast\n"})
    (repo / "f").write_bytes(b"++ b/x\n@@ -9 +9 @@\ndiff --git a/q b/q\nlast")
    (file,) = _patch(repo)
    assert [(line.kind, line.text) for line in file.lines if line.kind != "hunk"] == [
        ("del", "-- a/x"),
        ("del", "@@ -1 +1 @@"),
        ("del", "diff --git a/p b/p"),
        ("del", "last"),
        ("add", "++ b/x"),
        ("add", "@@ -9 +9 @@"),
        ("add", "diff --git a/q b/q"),
        ("add", "last"),
        ("note", "No newline at end of file"),
    ]


def test_lines_are_numbered_on_both_sides() -> None:
    core = parse_patch(PATCH_BYTES)[0]
    assert [(line.old, line.new) for line in core.lines if line.text == "import re"] == [(1, 1)]
    assert [line.new for line in core.lines if line.text == "import unicodedata"] == [2]
    assert (core.insertions, core.deletions) == (9, 4)


def test_bytes_that_are_not_text_do_not_stop_it(repo: Path) -> None:
    _commit(repo, {"f": b"a\n"})
    (repo / "f").write_bytes(b"caf\xe9\r\n")
    (file,) = _patch(repo)
    assert [line.text for line in file.lines if line.kind == "add"] == ["caf\ufffd␍"]


def test_a_huge_patch_is_cut_and_says_so() -> None:
    def file(name: str, lines: int) -> str:
        header = (
            f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{lines} @@\n"
        )
        return header + "".join(f"+line {n}\n" for n in range(lines))

    files = parse_patch("".join(file(f"f{n}", 1_000) for n in range(20)).encode())
    assert len(files) == 20
    assert all(file.insertions == 1_000 for file in files)
    assert all(len(file.lines) + file.left_out == 1_001 for file in files)
    assert max(len(file.lines) for file in files) == MOST_FILE_LINES
    assert sum(len(file.lines) for file in files) == MOST_LINES
    assert sum(len(file.lines) for file in files if file.unfolded) <= OPEN_LINES


def test_a_very_long_line_is_cut() -> None:
    patch = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+" + b"x" * 1_000_000 + b"\n"
    (file,) = parse_patch(patch)
    assert len(file.lines[-1].text) < 1_000


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.tuples(st.integers(0, len(PATCH_BYTES)), st.binary(max_size=8)), max_size=6))
def test_a_broken_patch_is_read_as_far_as_it_goes(cuts: list[tuple[int, bytes]]) -> None:
    patch = PATCH_BYTES
    for position, put in cuts:
        patch = patch[:position] + put + patch[position + len(put) // 2 :]
    files = parse_patch(patch)
    assert len(files) <= patch.count(b"diff --git ")
    assert sum(len(file.lines) for file in files) <= patch.count(b"\n") + 1


@pytest.mark.parametrize(
    "patch", [b"", b"\n\n", b"garbage", b"@@ -1 +1 @@\n+x", b"diff --git \n@@ -1,9 +1,9 @@\n+a", b"+++ b/x"]
)
def test_what_is_no_patch_gives_what_can_be_read(patch: bytes) -> None:
    assert len(parse_patch(patch)) <= 1
