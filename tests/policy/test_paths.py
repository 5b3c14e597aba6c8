"""Path patterns, held against git: a pattern means what it means in a .gitignore."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.policy.paths import HOME, REPO, normal, parse_path, plain_path
from runner.sandbox import base


def test_the_folders_are_those_of_the_sandbox() -> None:
    assert str(base.REPO) == REPO
    assert str(base.HOME) == HOME


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("src/**", "src/a.py", True),
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", False),
        ("src/**", "lib/src/a.py", False),
        ("src", "src/a.py", True),
        ("src", "lib/src/a.py", True),
        ("src/", "src/a.py", True),
        ("src/", "src", False),
        ("/src", "lib/src/a.py", False),
        ("./src/*.py", "src/a.py", True),
        ("src/*.py", "src/sub/a.py", False),
        ("*.py", "src/sub/a.py", True),
        ("**", "a", True),
        ("**/.env", ".env", True),
        ("**/.env", "a/b/.env", True),
        ("**/.env*", "a/.env.local", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a?c", "abc", True),
        ("a[bc]d", "acd", True),
        ("a[!bc]d", "acd", False),
        ("a[^bc]d", "axd", True),
        ("\\*.py", "*.py", True),
        ("\\*.py", "a.py", False),
        (".github/**", ".github/workflows/ci.yml", True),
        ("SRC/**", "src/a", False),
        ("**", "/etc/passwd", False),
        ("//etc/**", "/etc/passwd", True),
        ("//**", "/etc/passwd", True),
        ("~/.cache/**", f"{HOME}/.cache/x", True),
        ("~/.cache/**", ".cache/x", False),
        ("src/**", "src/../.github/x", False),
        ("src/**", f"{REPO}/./src//a", True),
        ("src/**", f"/{REPO}/src/a", True),
        ("**", f"{REPO}/../home/x", False),
        ("*", "a\nb", True),
        ("*", "a\udcff", True),
    ],
)
def test_a_pattern_covers(pattern: str, path: str, covered: bool) -> None:
    assert parse_path(pattern).covers(path) is covered


@pytest.mark.parametrize(
    ("pattern", "folder", "covered"),
    [
        ("src/**", "src", True),
        ("src/*", "src", True),
        ("src/*.py", "src", False),
        ("**/*.py", ".", False),
        ("**", ".", True),
        ("**", "/", False),
        ("//**", "/", True),
        ("src", "src/a", True),
        ("src/*/", "src", False),
    ],
)
def test_a_pattern_covers_all_in_a_folder_only_when_every_name_matches(
    pattern: str, folder: str, covered: bool
) -> None:
    assert parse_path(pattern).covers_all_in(folder) is covered


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("!src", "'!' is not allowed"),
        ("*.{js,ts}", "braces have no meaning"),
        ("a/../b", "no empty parts"),
        ("a//b", "no empty parts"),
        ("./", "no empty parts"),
        ("/", "no empty parts"),
        ("//", "no empty parts"),
        ("a[bc", "'[' has no ']'"),
        ("a[z-a]", "runs backwards"),
        ("[[:alpha:]]", "write [A-Za-z]"),
        ("~root/x", "~root is not replaced"),
        ("~root", "write ~/ for the home"),
        ("$HOME/x", "HOME is not replaced by anything"),
        ("${HOME}/x", "// for the root"),
        ("a\\", "backslash"),
        ("a\x00", "U+0000"),
        ("a\u200b", "U+200B"),
    ],
)
def test_a_pattern_that_could_never_match_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        parse_path(pattern)


@pytest.mark.parametrize("pattern", ["~$draft.docx", "$x", "a~", "$recycle/x", "**/~"])
def test_a_name_that_only_looks_like_a_variable_is_a_name(pattern: str) -> None:
    assert parse_path(pattern).covers(pattern.removeprefix("**/"))


@pytest.mark.parametrize(
    "pattern", ["**/" * 30 + "a*a*a*a*a*a*a*a*b", "**/a*/" * 30 + "b", "**/*a*/" * 20 + "b", "*a" * 100 + "b"]
)
@pytest.mark.parametrize("path", ["/".join(["a" * 100] * 60), "a" * 4_000, "/".join(["a"] * 2_000)])
def test_matching_takes_no_exponential_time(pattern: str, path: str) -> None:
    started = time.monotonic()
    assert not parse_path(pattern).covers(path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (f"{REPO}/src/a.py", "src/a.py"),
        (f"{REPO}/a.py", "/a.py"),
        (f"{REPO}/!a/b", "/!a/b"),
        (f"{REPO}/a/[x]*", "a/\\[x]\\*"),
        (REPO, "**"),
        (f"{HOME}/.cache/x", "~/.cache/x"),
        ("/etc/passwd", "//etc/passwd"),
        ("/", "//**"),
        (f"{REPO}/a\nb", None),
    ],
)
def test_a_path_is_written_as_one_would_write_it(path: str, pattern: str | None) -> None:
    assert plain_path(path) == pattern


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text("ab*?[]{}\\!~$. -^", min_size=1, max_size=5), min_size=1, max_size=4).map("/".join), st.booleans()
)
def test_the_pattern_of_a_path_covers_it_and_all_that_is_in_it_and_nothing_beside_it(path: str, absolute: bool) -> None:
    whole = normal(f"/{path}" if absolute else path)
    pattern = parse_path(plain_path(whole) or "")
    assert pattern.covers_all_in(whole)
    if whole not in ("", REPO, HOME):
        assert pattern.covers(whole)
        assert not pattern.covers(f"{whole}x")


NAMES = st.sampled_from(["a", "b", "ab", "a.b", ".a", "A", "*", "[", "a b", "-"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(
        ["a", "b", "ab", ".", "*", "**", "?", "/", "/", "[ab]", "[!a]", "[^b]", "[a-b]", "\\*", "\\a", "-"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def _git_ignores(repository: Path, pattern: str, paths: list[str]) -> set[str]:
    (repository / ".gitignore").write_text(pattern + "\n")
    command = ["git", "-C", str(repository), "check-ignore", "--no-index", "-z", "--stdin"]
    found = subprocess.run(command, input="\0".join(paths).encode(), capture_output=True, check=False)
    return set(found.stdout.decode().split("\0")) - {""}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=PATTERNS, paths=st.lists(PATHS, min_size=1, max_size=8, unique=True))
@example(pattern="a/**/b", paths=["a/b", "a/x/b", "a/b/c"])
def test_a_pattern_matches_what_git_would_ignore(repository: Path, pattern: str, paths: list[str]) -> None:
    # `//` and `./` are our ways to write where a path starts. Stars that are not `*` or `**` alone differ between
    # versions of git.
    if pattern.startswith(("//", "./")) or re.search(r"[^/]\*\*|\*\*[^/]", pattern):
        return
    try:
        parsed = parse_path(pattern)
    except ValueError:
        return
    assert {path for path in paths if parsed.covers(path)} == _git_ignores(repository, pattern, paths)
