from __future__ import annotations

from runner.sandbox.base import REPO
from runner.tools.base import Session


def test_a_new_file_is_made_with_its_folders(run, get) -> None:
    answer = run("Write", file_path="a/b/c.txt", content="héllo\n")
    assert get("a/b/c.txt") == "héllo\n".encode()
    assert answer.content == f"Created {REPO}/a/b/c.txt (7 bytes)."


def test_a_file_that_was_not_read_is_not_overwritten(run, put, get) -> None:
    put("a.txt", "precious\n")
    answer = run("Write", file_path="a.txt", content="new\n")
    assert answer.is_error
    assert "was not read in this session. Read it first" in answer.content
    assert get("a.txt") == b"precious\n"


def test_a_file_that_was_read_is_replaced_again_and_again(run, put, get) -> None:
    put("a.txt", "old\n")
    run("Read", file_path="a.txt")
    assert run("Write", file_path="a.txt", content="new\n").content == f"Replaced {REPO}/a.txt (4 bytes)."
    assert not run("Write", file_path="a.txt", content="newer\n").is_error
    assert get("a.txt") == b"newer\n"


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(run, put, get) -> None:
    put("a.txt", "old\n")
    run("Read", file_path="a.txt")
    run("Bash", command="echo other > a.txt")
    answer = run("Write", file_path="a.txt", content="new\n")
    assert answer.is_error
    assert "has changed since it was last read" in answer.content
    assert get("a.txt") == b"other\n"
    run("Read", file_path="a.txt")
    assert not run("Write", file_path="a.txt", content="new\n").is_error


def test_content_goes_in_byte_for_byte(run, get) -> None:
    content = "a\r\nb\n\ttab \u2028 no end"
    run("Write", file_path="a.txt", content=content)
    assert get("a.txt") == content.encode()


def test_a_file_may_be_written_empty(run, get) -> None:
    assert not run("Write", file_path="a.txt", content="").is_error
    assert get("a.txt") == b""


def test_a_folder_is_not_overwritten(run, put) -> None:
    put("src/a.txt", "")
    answer = run("Write", file_path="src", content="x")
    assert answer.is_error
    assert "is a directory" in answer.content


def test_the_mode_of_a_replaced_file_stays(run, put, session: Session) -> None:
    put("run.sh", "#!/bin/sh\n")
    run("Bash", command="chmod 755 run.sh")
    run("Read", file_path="run.sh")
    run("Write", file_path="run.sh", content="#!/bin/sh\ntrue\n")
    assert session.sandbox.stat(f"{REPO}/run.sh").mode & 0o777 == 0o755


def test_an_edited_file_that_was_read_may_be_written(run, put) -> None:
    put("a.txt", "one\ntwo\n")
    run("Read", file_path="a.txt")
    run("Edit", file_path="a.txt", old_string="one", new_string="1")
    assert not run("Write", file_path="a.txt", content="all new\n").is_error


def test_an_edit_alone_does_not_count_as_reading_the_file(run, put) -> None:
    put("a.txt", "one\ntwo\n")
    run("Edit", file_path="a.txt", old_string="one", new_string="1")
    assert run("Write", file_path="a.txt", content="all new\n").is_error
