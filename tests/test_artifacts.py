"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runner.artifacts import files_in, fingerprint, write_all_whole, write_whole


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_created_and_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert _names(tmp_path) == ["a"]


def test_a_reader_of_the_old_file_keeps_the_old_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as file:
        write_whole(tmp_path / "a", b"new")
        assert file.read() == b"old"


def test_when_one_of_several_cannot_be_written_none_appears(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(FileNotFoundError):
        write_all_whole({tmp_path / "a": b"new", tmp_path / "missing" / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_what_comes_last_is_not_there_when_an_earlier_one_cannot_appear(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_all_whole({tmp_path / "a": b"new", tmp_path / "last": b"new"})
    assert _names(tmp_path) == ["a"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "a").symlink_to("target")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


def test_a_fingerprint_is_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert fingerprint(tmp_path / "a") == (100_000, hashlib.sha256(b"x" * 100_000).hexdigest())


def test_only_regular_files_have_a_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder", "missing"):
        with pytest.raises(OSError, match=f"{name}|Is a directory"):
            fingerprint(tmp_path / name)


def test_links_and_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("b", "logs/1.log", ".claw-7-b", "a"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").symlink_to(tmp_path / "logs")
    assert [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)] == ["a", "b", "logs/1.log"]
