"""Counting a workspace: what is there, as its user sees it."""

from __future__ import annotations

import os
from pathlib import Path

from runner.toolbox.loop import Loop
from runner.toolbox.usage import Watch, measure

BLOCKS = 1 << 20


def counted(folder: Path) -> tuple[int, int]:
    return measure(os.fsencode(folder))


def test_every_file_folder_and_link_counts_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(os.urandom(BLOCKS))
    os.link(tmp_path / "folder/file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/")
    size, files = counted(tmp_path)
    assert files == 4
    assert BLOCKS <= size < 2 * BLOCKS


def test_holes_take_up_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert counted(tmp_path)[0] < BLOCKS


def test_a_folder_that_is_gone_is_empty(tmp_path: Path) -> None:
    assert counted(tmp_path / "gone") == (0, 0)


def test_nothing_is_counted_while_nothing_is_lost(tmp_path: Path) -> None:
    watch = Watch(Loop(), os.fsencode(tmp_path), now=counted(tmp_path), most=(1 << 50, 1 << 50))
    assert not watch.look()
