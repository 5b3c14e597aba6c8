"""The reader of shell commands, held against real shells: what it says it understands, it must understand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.policy.shell import SimpleCommand, Unclear, simple_commands
from runner.policy.wrappers import Undecidable, started


def _texts(command: str) -> list[list[str]]:
    commands = simple_commands(command)
    assert not isinstance(commands, Unclear), commands
    return [[word.text for word in command.words] for command in commands]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("git status", [["git", "status"]]),
        ("  git   status  ", [["git", "status"]]),
        ("a && b || c; d | e & f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a |& b", [["a"], ["b"]]),
        ("a\nb\n\nc", [["a"], ["b"], ["c"]]),
        ("a \\\n b", [["a", "b"]]),
        ('git commit -m "a && b; c | d"', [["git", "commit", "-m", "a && b; c | d"]]),
        ("echo 'it''s' \"a 'b'\" c\\ d", [["echo", "its", "a 'b'", "c d"]]),
        ('echo "\\$HOME \\"x\\" \\n"', [["echo", '$HOME "x" \\n']]),
        ('echo ""', [["echo", ""]]),
        ("echo a#b # c; d", [["echo", "a#b"]]),
        ("# only a comment", []),
        ("pytest -q 2>&1 | tail -20", [["pytest", "-q"], ["tail", "-20"]]),
        ("a >/dev/null 2>/dev/null </dev/null", [["a"]]),
        ("a &>/dev/null", [["a"]]),
        ("! a", [["a"]]),
        ("if a; then b; elif c; then d; else e; fi", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("for f in x y; do a $f; done | b", [["a", "$f"], ["b"]]),
        ("for x; do a; done", [["a"]]),
        ("while read line; do a; done", [["read", "line"], ["a"]]),
        ("A=1 B=2 a", [["A=1", "B=2", "a"]]),
        ("echo $? ${HOME} $1", [["echo", "$?", "${HOME}", "$1"]]),
        ("[ -f x ] && a", [["[", "-f", "x", "]"], ["a"]]),
        ("echo $ 5$", [["echo", "$", "5$"]]),
        ("echo then if", [["echo", "then", "if"]]),
    ],
)
def test_commands_are_split_into_words(command: str, expected: list[list[str]]) -> None:
    assert _texts(command) == expected


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("a $(b)", "command substitution"),
        ('a "$(b)"', "command substitution"),
        ("a `b`", "command substitution"),
        ('a "`b`"', "command substitution"),
        ("a <(b)", "process substitution"),
        ("a >(b)", "process substitution"),
        ("(a)", "parenthesis"),
        ("a() { b; }", "parenthesis"),
        ("x=(1 2)", "parenthesis"),
        ("{ a; }", "'{'"),
        ("a <<E\nb\nE", "here-document"),
        ("a <<< b", "here-string"),
        ("a ${x:-b}", "${NAME}"),
        ("a ${x@P}", "${NAME}"),
        ("a $'\\x41'", "$'"),
        ('a $"b"', '$"'),
        ("a $[1]", "$["),
        ("a $((1))", "command substitution"),
        ("case x in y) a;; esac", "parenthesis"),
        ("case x in", "case"),
        ("[[ a ]]", "[["),
        ("function f { a; }", "function"),
        ("a;; b", "';;'"),
        ("select x in a; do b; done", "select"),
        ("coproc a", "coproc"),
        ("a 'b", "not closed"),
        ('a "b', "not closed"),
        ("a \\", "backslash"),
        ("a\rb", "U+000D"),
        ("a\x00b", "U+0000"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("a\u00a0b", "U+00A0"),
        ("a" * 10_001, "more than 10,000"),
        ("a >", "without a target"),
        ("a > $x", "makes up"),
        ("a > *", "makes up"),
        ("a &>/dev/null b", "after '&>'"),
        ("a 10>/dev/null", "two digits"),
        ("for PATH in /x; do a; done", "lower-case"),
        ("fi x", "after 'fi'"),
        ("a $\\\nx", "broken behind"),
        ('a "$\\\nx"', "broken behind"),
    ],
)
def test_what_is_not_understood_is_said_to_be_so(command: str, reason: str) -> None:
    found = simple_commands(command)
    assert isinstance(found, Unclear)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("a > f", ("> f",)),
        ("a >f 2>&1", ("> f",)),
        ("a >> 'x y'", (">> x y",)),
        ("a < f", ("< f",)),
        ("a 2>f", ("> f",)),
        ("a &> f", ("&> f",)),
        ("a >& f", (">& f",)),
        ("a >| f", (">| f",)),
        ("a <> f", ("<> f",)),
        ("> f", ("> f",)),
        ("a >/dev/nullx", ("> /dev/nullx",)),
        ("a >/dev/null/../f", ("> /dev/null/../f",)),
        ("a >&2", ()),
        ("a 2>&-", ()),
        ("a > /dev/stderr", ()),
    ],
)
def test_redirections_to_files_are_kept(command: str, files: tuple[str, ...]) -> None:
    commands = simple_commands(command)
    assert not isinstance(commands, Unclear)
    assert commands[0].files == files


@pytest.mark.parametrize(
    ("word", "kind", "prefix"),
    [
        ("abc", "literal", "abc"),
        ("'*'", "literal", "*"),
        ("\\*", "literal", "*"),
        ("a*", "glob", "a"),
        ("?", "glob", ""),
        ("[ab]", "glob", ""),
        ("a$x", "unknown", "a"),
        ('"$x"', "unknown", ""),
        ("'$x'", "literal", "$x"),
        ("~/a", "unknown", ""),
        ("a~", "literal", "a~"),
        ("{a,b}", "unknown", ""),
        ("x{1..3}", "unknown", "x"),
        ("a*$x", "unknown", "a"),
        ("--x=~/y", "unknown", "--x="),
    ],
)
def test_words_that_the_shell_replaces_are_marked(word: str, kind: str, prefix: str) -> None:
    commands = simple_commands(f"p {word}")
    assert not isinstance(commands, Unclear)
    found = commands[0].words[1]
    assert (found.kind, found.prefix) == (kind, prefix)


PIECES = st.sampled_from(
    [
        "p",
        "q",
        "p a",
        "'p'",
        '"q"',
        "\\p",
        " ",
        " ",
        " ",
        "\n",
        ";",
        "; ",
        " && ",
        " || ",
        " | ",
        " & ",
        "|&",
        "&",
        "x=1 ",
        ">/dev/null",
        " 2>&1",
        "&>/dev/null",
        ">f ",
        "<f",
        "$x",
        "${x}",
        "#c",
        "! ",
        "if ",
        "then ",
        "else ",
        "fi",
        "do ",
        "for x in ",
        "for x in p q; do ",
        "done",
        "{ ",
        "}",
        "(",
        ")",
        "$(q)",
        "`q`",
        "\\\n",
        "'",
        '"',
        "\\",
        "=",
        "~",
        "*",
        "<<E\n",
        "E\n",
        "time ",
        "eval ",
        "env ",
        "[[ ",
        "]]",
        "case x in ",
        "x)",
        ";;",
        "esac",
        "function p ",
        "p()",
        "$'q'",
        "2",
        "10",
        ">&2",
        ">|f",
        "<>f",
        "true",
        "false",
        "command ",
        "exec ",
        "-",
        "\t",
        "if p; then q; fi",
        "a",
        "{p,q}",
        "!",
        "<<<",
        "\x0b",
        "é",
        "$",
        '$"q"',
        "builtin ",
        "trap 'p' EXIT;",
        "alias p=q\n",
        "sh -c 'p'",
        "p;q",
        "p|q",
        "2>f",
        ">&f",
        ">&1q",
        "coproc ",
    ]
)
SHELLS = [shell for shell in ("bash", "dash") if shutil.which(shell)]
# One write for each record: background jobs share the pipe.
RECORD = """
US=$(printf '\\037')
p() { IFS=$US; printf 'p%s%s\\036' "${1+$US}" "$*" >&9; unset IFS; }
q() { IFS=$US; printf 'q%s%s\\036' "${1+$US}" "$*" >&9; unset IFS; }
"""


def _really_started(shell: str, command: str, folder: Path) -> set[tuple[str, ...]]:
    """What a real shell starts of the two recorded commands."""
    # The pipe ends when the last background job does.
    done = subprocess.run(
        [shell, "-c", f"exec 9>&1 >/dev/null\n{RECORD}\nPATH=/nowhere\n{command}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    records = done.stdout.decode(errors="replace").split("\036")[:-1]
    return {tuple(record.split("\037")) for record in records}


def _accounts_for(commands: tuple[SimpleCommand, ...], argv: tuple[str, ...]) -> bool:
    """Whether a command that a shell started is one of those that were found."""
    for command in commands:
        for words in started(command.words):
            if words[0].text != argv[0]:
                continue
            if any(word.kind != "literal" for word in words) or tuple(word.text for word in words) == argv:
                return True
    return False


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(PIECES, min_size=1, max_size=10))
@example(pieces=["p &>/dev/null q"])
@example(pieces=["p 10>/dev/null"])
@example(pieces=["for x in p q; do $x; done"])
@example(pieces=["alias p=q\n", "p a"])
def test_every_command_that_a_shell_starts_was_found(shell: str, tmp_path: Path, pieces: list[str]) -> None:
    command = "".join(pieces)
    commands = simple_commands(command)
    if isinstance(commands, Unclear):
        return
    try:
        [list(started(command.words)) for command in commands]
    except Undecidable:
        return
    for argv in _really_started(shell, command, tmp_path):
        assert _accounts_for(commands, argv), (command, argv)


@settings(max_examples=500, deadline=None)
@given(command=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join)))
def test_any_text_is_read_or_unclear(command: str) -> None:
    found = simple_commands(command)
    assert isinstance(found, Unclear | tuple)
