"""What is shown of a diff has no secret in it, compressed ones included."""

from __future__ import annotations

from pathlib import Path

from runner.masking import Masker
from runner.repo.masked_patch import LEFT_OUT, masked_patch
from tests.repo.repositories import Repository

SECRET = "ghp_Zx81kQpW0aTrLs93VbNmC64uYe2D"


def patch_of(folder: Path) -> bytes:
    """Text files and binary ones, new, changed and removed, with a secret in each."""
    repository = Repository(folder)
    for name in ("changed.bin", "removed.bin"):
        repository.write(name, bytes(range(256)) * 20 + b"\0old")
    base = repository.commit("base")
    repository.write("changed.bin", bytes(range(256)) * 20 + f"\0{SECRET}".encode())
    repository.write("new.bin", f"\0\1{SECRET}".encode() * 50)
    repository.write("text.txt", f"GIT binary patch\nliteral 3\nKcmYdfF*D@;\n\nkey: {SECRET}\nlast\n")
    (repository.path / "removed.bin").unlink()
    head = repository.commit("head")
    return repository.output("diff-tree", "-r", "--patch", "--binary", "--full-index", base, head)


def test_text_is_masked_and_binary_content_left_out(tmp_path: Path) -> None:
    patch = patch_of(tmp_path)
    shown = masked_patch(patch, Masker([SECRET]), holds_secret=True)
    assert shown.count(LEFT_OUT) == patch.count(b"\nGIT binary patch\n") == 3
    assert b"\nGIT binary patch" not in shown
    assert b"+GIT binary patch\n+literal 3\n" in shown, "the text of a file stays"
    assert b"+key: ***\n+last\n" in shown
    assert shown.count(b"diff --git") == patch.count(b"diff --git")
    assert SECRET.encode() not in shown


def test_a_diff_without_a_secret_is_as_it_was(tmp_path: Path) -> None:
    patch = patch_of(tmp_path).replace(SECRET.encode(), b"nothing")
    assert masked_patch(patch, Masker([SECRET]), holds_secret=False) == patch
