"""The reader of shell commands, held against real shells: what it says it understands, it must understand."""

from __future__ import annotations

import os
import posixpath
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.policy.shell import SimpleCommand, Unclear, commands_of, simple_commands
from runner.policy.started import Undecidable, started

REPO = "/workspace/repo"


def _commands(command: str, cwd: str | None = REPO) -> tuple[SimpleCommand, ...]:
    commands = commands_of(command, cwd)
    assert not isinstance(commands, Unclear), commands
    return commands


def _texts(command: str) -> list[list[str]]:
    return [[word.text for word in command.words] for command in _commands(command)]


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
        ("until a; do b; done", [["a"], ["b"]]),
        ("for ((i=0; i<3; i++)); do a; done", [["a"]]),
        ("A=1 B=2 a", [["A=1", "B=2", "a"]]),
        ("echo $? ${HOME} $1", [["echo", "$?", "${HOME}", "$1"]]),
        ("[ -f x ] && a", [["[", "-f", "x", "]"], ["a"]]),
        ("[[ -f x && ! -d y ]] && a", [["a"]]),
        ("echo $ 5$", [["echo", "$", "5$"]]),
        ("echo then if", [["echo", "then", "if"]]),
        ("(a; b) && { c; d; }", [["a"], ["b"], ["c"], ["d"]]),
        ("case $x in a|b) c;; (d) e;; *) f; esac", [["c"], ["e"], ["f"]]),
        ("a $(b $(c)) `d`", [["c"], ["b", "$(c)"], ["d"], ["a", "$(b $(c))", "`d`"]]),
        ('a "x $(b) y"', [["b"], ["a", "x $(b) y"]]),
        ("a <(b) >(c)", [["b"], ["c"], ["a", "<(b)", ">(c)"]]),
        ("case $(a) in $(b)) c;; esac", [["a"], ["b"], ["c"]]),
        ("[[ -n $(a) ]]", [["a"]]),
        ("x=(1 $(a))", [["a"], ["x=(...)"]]),
        ("f() { a; }; f b", [["a"], ["f", "b"]]),
        ("function f { a; } > /dev/null", [["a"]]),
        ("a <<< $(b)", [["b"], ["a"]]),
        ("cat <<E\n$(a) ${x:-y} \\`\nE\nc", [["a"], ["cat"], ["c"]]),
        ("cat <<'E' | a\n$(b)\nE\nc", [["cat"], ["a"], ["c"]]),
        ("cat <<E && a\nb\nE\nc", [["cat"], ["a"], ["c"]]),
        ("cat <<E > /dev/null a; c\nb\nE", [["cat", "a"], ["c"]]),
        ("a <<A <<B\nx\nA\n$(b)\nB", [["b"], ["a"]]),
        ('git -m "$(cat <<\'E\'\nit\'s $(x)\nE\n)"', [["cat"], ["git", "-m", "$(cat <<'E'\nit's $(x)\nE\n)"]]),
        ("> /dev/null a b", [["a", "b"]]),
        ("a > /dev/null b", [["a", "b"]]),
        ("export A=1 B", [["export", "A=1", "B"]]),
        ("unset a", [["unset", "a"]]),
        ("time a", [["time", "a"]]),
        ("a $((1+x)) ${#x} ${x%.py} ${x//a/b}", [["a", "$((1+x))", "${#x}", "${x%.py}", "${x//a/b}"]]),
        ("echo {}", [["echo", "{}"]]),
    ],
)  # fmt: skip
def test_commands_are_split_into_words(command: str, expected: list[list[str]]) -> None:
    assert _texts(command) == expected


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("a ${x@P}", "${x@P}"),
        ("a ${!x}", "${!x}"),
        ("a ${x:=b}", "${x:=b}"),
        ("a ${x:-$(b)}", "${x:-$(b)}"),
        ("a ${x[$(b)]}", "${x[$(b)]}"),
        ('a $"b"', '$"'),
        ("a $[1]", "$["),
        ("a $((b[1]))", "arithmetic"),
        ("a $(($(b)))", "arithmetic"),
        ("a $((1+$(b)))", "arithmetic"),
        ("a $((PATH=1))", "arithmetic with PATH"),
        ("read x; a $((x))", "arithmetic over $x"),
        ("x='b[$(c)]'; a $((x))", "arithmetic over $x"),
        ("(( x > 1 ))", "(("),
        ("[[ a && b == c ]]", "two commands"),
        ("[[ -v 'a[$(b)]' ]]", "[[ -v"),
        ("[[ 'a[$(b)]' -eq 1 ]]", "comparison"),
        ("[[ a < b ]]", "where a word should be"),
        ("a;; b", "';;'"),
        ("case x in x) a;& y) b;; esac", ";&"),
        ("select x in a; do b; done", "select"),
        ("coproc a", "coproc"),
        ("a 'b", "does not parse"),
        ('a "b', "does not parse"),
        ("a \\", "does not parse"),
        ("a\rb", "U+000D"),
        ("a\x00b", "U+0000"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("a\u00a0b", "U+00A0"),
        ("a" * 10_001, "more than 10,000"),
        ("a >", "does not parse"),
        ("a &>/dev/null b", "after '&>'"),
        ("a 10>/dev/null", "two digits"),
        ("a >&'$(b)'", "replaces twice"),
        ("a > /dev/tcp/h/1", "network"),
        ("for PATH in /x; do a; done", "PATH"),
        ("fi x", "'fi'"),
        ("a $\\\nx", "broken"),
        ('a "$\\\nx"', "broken"),
        ("c\\\nd", "broken within a word"),
        ("x+=$y a", "'+='"),
        ("cat <<E\n`b`\nE", "backquotes in a here-document"),
        ("a <> f", "does not parse"),
        ("cat <<E\na", "does not parse"),
        ("cat <<E\na\\\nE\nE", "broken line"),
        ("`a \\`b\\``", "backquotes"),
        ("echo() { a; }", "function"),
        ("f() { a; }; unset -f f", "unset"),
        ("$(" * 40 + "a" + ")" * 40, "commands within commands"),
    ],
)
def test_what_is_not_understood_is_said_to_be_so(command: str, reason: str) -> None:
    found = simple_commands(command)
    assert isinstance(found, Unclear)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("a > f", ["> f"]),
        ("a >f 2>&1", ["> f"]),
        ("a >> 'x y'", ["> x y"]),
        ("a < f", ["< f"]),
        ("a 2>f", ["> f"]),
        ("a &> f", ["> f"]),
        ("a >& f", ["> f"]),
        ("a >| f", ["> f"]),
        ("> f", ["> f"]),
        ("a > $x", ["> $x"]),
        ("a > *", ["> *"]),
        ("a >/dev/nullx", ["> /dev/nullx"]),
        ("a >/dev/null/../f", ["> /dev/null/../f"]),
        ("a >&2", []),
        ("a 2>&-", []),
        ("a > /dev/stderr", []),
        ("a < <(b)", []),
        ("a <<< b", []),
        ("cat <<E > f\nx\nE", ["> f"]),
        ("(a; b) > f", ["> f"]),
        ("while a; do b; done < f", ["< f"]),
        ("f() { a; } >> f", ["> f"]),
        ("a $(b > f)", ["> f"]),
        ("a $(< f)", ["< f"]),
    ],
)
def test_redirections_to_files_are_kept(command: str, files: list[str]) -> None:
    assert [str(file) for command in _commands(command) for file in command.files] == files


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
        ("{a}", "literal", "{a}"),
        ("x{{a,b},c}", "unknown", "x"),
        ("x{1..3}", "unknown", "x"),
        ("a*$x", "unknown", "a"),
        ("--x=~/y", "unknown", "--x="),
        ("a$(b)", "unknown", "a"),
    ],
)
def test_words_that_the_shell_replaces_are_marked(word: str, kind: str, prefix: str) -> None:
    found = _commands(f"p {word}")[-1].words[1]
    assert (found.kind, found.prefix) == (kind, prefix)


@pytest.mark.parametrize(
    ("word", "splits"),
    [("$x", True), ('"$x"', False), ("a$x", True), ("$(b)", True), ('"$(b)"', False), ('"$@"', True), ("$?", False)],
)
def test_words_of_which_the_shell_may_make_several_are_marked(word: str, splits: bool) -> None:
    assert _commands(f"p {word}")[-1].words[1].splits is splits


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("x=a; p $x", ("a",)),
        ("x=a && p src/$x.py", ("src/a.py",)),
        ("for x in a b; do p $x; done", ("a", "b")),
        ("x='a b'; p \"$x\"", ("a b",)),
        ("x='a b'; p $x", ()),
        ("x=a; x=$(b); p $x", ()),
        ("x=a; if b; then x=c; fi; p $x", ()),
        ("b && x=a; p $x", ()),
        ("x=a; read x; p $x", ()),
        ("x=a; f() { p $x; }; f", ()),
        ("x=a; f() { x=b; }; f; p $x", ()),
        ("x=a; for i in 1 2; do p $x; x=b; done", ()),
        ("(x=a); p $x", ()),
        ("x=a | b; p $x", ()),
        ("x=a; eval b; p $x", ()),
        ("x=a; . b; p $x", ()),
        ("x=a; $b; p $x", ()),
        ("x=a; x+=b; p $x", ()),
        ("x=a p $x", ()),
        ("x=a; x=b y=$x; p $y", ()),
        ("x=a; x=$x/b; p $x", ("a/b",)),
        ("p $'a'", ("a", "$a")),
    ],
)
def test_what_a_variable_holds_is_known_where_nothing_else_can_have_set_it(
    command: str, values: tuple[str, ...]
) -> None:
    found = next(command for command in _commands(command) if command.program and command.program[0].text == "p")
    assert found.program[1].values == values


@pytest.mark.parametrize(
    ("command", "folders"),
    [
        ("p", {"/r"}),
        ("cd a && p", {"/r/a"}),
        ("cd a; p", {"/r", "/r/a"}),
        ("cd a || p", {"/r"}),
        ("cd a || exit; p", {"/r", "/r/a"}),
        ("cd a && cd ../b && p", {"/r/b"}),
        ("cd /x/./y/.. && p", {"/x"}),
        ("(cd a); p", {"/r"}),
        ("cd a | b; p", {"/r"}),
        ("cd a & p", {"/r"}),
        ("{ cd a; }; p", {"/r", "/r/a"}),
        ("if cd a; then p; fi", {"/r", "/r/a"}),
        ("! cd a && p", {"/r"}),
        ("cd && p", {"/workspace/home"}),
        ("x=a; cd $x && p", {"/r/a"}),
        ("cd $x && p", None),
        ("cd - && p", None),
        ("pushd a; p", None),
        ("for i in 1 2; do p; cd a; done", None),
        ("f() { p; }; cd a; f", None),
        ("f() { p; }; f", {"/r"}),
        ("$x a; p", None),
        ("eval b; p", None),
        ("trap b DEBUG; p", None),
        ("trap b EXIT; . c; p", {"/r"}),
        ("cd a &>/dev/null && p", {"/r", "/r/a"}),
        ("command cd a; p", {"/r", "/r/a"}),
        ("time cd a && p", {"/r", "/r/a"}),
        ("HOME=/x; p", None),
    ],
)
def test_the_working_directory_is_followed(command: str, folders: set[str] | None) -> None:
    found = next(one for one in _commands(command, "/r") if one.program and one.program[0].text == "p")
    assert found.cwds == folders


@pytest.mark.parametrize(
    ("command", "is_function"),
    [
        ("p", False),
        ("p() { a; }; p", True),
        ("p; p() { a; }", False),
        ("(p() { a; }); p", False),
        ("b && p() { a; }; p", False),
        ("p() { a; } & p", False),
        ("if b; then p() { a; }; fi; p", False),
        ("p() { a; } && p", True),
        ("p() { a; }; c $(p)", True),
        ("f() { p() { a; }; }; p", False),
    ],
)
def test_a_function_is_called_where_it_is_defined_for_certain(command: str, is_function: bool) -> None:
    calls = [one for one in _commands(command) if one.program and one.program[0].text == "p"]
    assert [call.is_function for call in calls] == [is_function]


def test_what_a_command_reads_from_the_script_itself_is_kept() -> None:
    assert [command.input and command.input.text for command in _commands("a <<E\nx\nE\nb <<< 'y z'\nc")] == [
        "x\n",
        "y z",
        None,
    ]


def test_judging_commands_is_what_loads_the_grammar() -> None:
    code = "import sys, runner.policy.commands; print('tree_sitter' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "False"


# --- Held against real shells ---

PIECES = st.sampled_from(
    [
        *("p", "q", "p a", "'p'", '"q"', "\\p", " ", " ", " ", "\n", ";", "; ", " && ", " || ", " | ", " & "),
        *("|&", "&", "x=1 ", "x=p", ">/dev/null", " 2>&1", "&>/dev/null", ">f ", "<f", "$x", "${x}", "#c"),
        *("! ", "if ", "then ", "else ", "fi", "do ", "for x in ", "for x in p q; do ", "done", "{ ", "}", "("),
        *(")", "$(q)", "`q`", "\\\n", "'", '"', "\\", "=", "~", "*", "<<E\n", "E\n", "<<'E'\n", "<<-E\n"),
        *("\tE\n", "<<E | q\n", "time ", "eval ", "env ", "[[ ", " ]]", "[ ", " ]", "case x in ", "x)", ";;"),
        *("esac", "$'q'", "2", "10", ">&2", ">|f", "<>f", "true", "false", "command ", "exec ", "-", "\t"),
        *("if p; then q; fi", "a", "{p,q}", "!", "<<<", "\x0b", "é", "$", '$"q"', "builtin ", "trap 'p' EXIT;"),
        *("alias p=q\n", "sh -c 'p'", "p;q", "p|q", "2>f", ">&f", ">&1q", "coproc ", "$((1+x))", "$((", "))"),
        *("<(q)", ">(p)", "${x:-p}", "${x:-$(p)}", '"$(q)"', '"`p`"', '"$x"', "'$(p)'", "\\$(p)", "export x=1"),
        *("local ", "cd d", "cd d && ", "x=(p q)", "x+=1", "for ((i=0;i<2;i++)); do "),
        *("\"$(cat <<'E'\np\nE\n)\"", "<<E && q\np $(q)\nE\n", "((i++))", "&>>f", "1>f", ",", "..", "^", "@"),
        *("%", "$@"),
    ]
)  # fmt: skip
WORDS = [
    "a",
    "p",
    "'x y'",
    '"z"',
    "\\;",
    "-n",
    "é",
    "a#b",
    "{a,b}",
    "*.c",
    "a=b",
    "'$(p)'",
    '"it\'s"',
    "$'t'",
    "then",
    "}",
] + ["$x", '"$x"', '"$@"', "$?", "${x:-p}", "${#x}", "$((1+2))", "${x%p}", "[", "!", "--"]
SUBSTITUTIONS = ("$({})", '"$({})"', "`{}`", "a$( {} )b", "<({})", '"a $({};)"', "$({}\n)")
REDIRECTIONS = [
    " >f",
    " 2>f",
    " >>d/f",
    " 2>&1",
    " &>f",
    " >&2",
    " <g",
    " >| f",
    " > f a",
    " <<< p",
    " < <(q)",
    ' > "f"',
] + [" >/dev/null", " >$x"]
PROGRAMS = [
    "p",
    "q",
    "'p'",
    '"q"',
    "\\p",
    "command p",
    "exec q",
    "eval p",
    "time p",
    "! p",
    "cd d",
    "cd ..",
    "builtin cd d",
] + ["true", "false", "echo", "x=1", "x=p q", "export x=2", "[ a ]", "[[ -n a ]]", "d/p", "set --", "read x", ">f p"]
BODIES = ("p\n", "$(p)\n", "`q`\n", "a $x ${x:-p}\n", "", "E \n", "it's \" \\$(p)\n", "p\nq\n")
TAILS = ("", " | q", " && q", "; q", " >f", " a", " &", " 2>&1 | p | q", " || q")
# Loops end, and no function calls one: a fork bomb is a script, too.
COMPOUNDS = (
    ["if {}; then {}; fi", "if {}\nthen {}\nelse {}; fi", "for x in p a; do {}; done", "while {}; do {}; break; done"]
    + ["{{ {}; }}", "( {} )", "case a in a|b) {};; *) {};; esac", "! {}", "f() {{ {}; }}", "f() ( {} ); f a"]
    + ["until {}; do {}; break; done", "for ((i=0;i<2;i++)); do {}; done", "{{ {}; }} >f", "( {} ) 2>&1 | q"]
)
JOINTS = ("; ", " && ", " || ", " | ", "\n", " & ", " |& ", " \\\n| ", " &&\n", " # c\n")


class Scripts:
    """Scripts made up at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def script(self, depth: int = 2) -> str:
        statements = [self._statement(depth)]
        while self.random.random() < 0.4:
            statements += [self.random.choice(JOINTS), self._statement(depth - 1)]
        return "".join(statements)

    def _statement(self, depth: int) -> str:
        kind = self.random.random()
        if depth <= 0 or kind < 0.4:
            return self._simple(depth)
        if kind < 0.55:
            return self._heredoc()
        return self.random.choice(COMPOUNDS).format(*(self.script(depth - 1) for _ in range(3)))

    def _simple(self, depth: int) -> str:
        words = [self._word(depth) for _ in range(self.random.choice((0, 0, 1, 2, 3)))]
        redirection = self.random.choice(REDIRECTIONS) if self.random.random() < 0.3 else ""
        return " ".join([self.random.choice(PROGRAMS), *words]) + redirection

    def _word(self, depth: int) -> str:
        if depth <= 0 or self.random.random() < 0.7:
            return self.random.choice(WORDS)
        return self.random.choice(SUBSTITUTIONS).format(self.script(depth - 1))

    def _heredoc(self) -> str:
        delimiter = self.random.choice(("E", "'E'", '"E"', "\\E", " E", "-E"))
        end = "\tE" if delimiter == "-E" else "E"
        body, tail = self.random.choice(BODIES), self.random.choice(TAILS)
        return f"{self.random.choice(PROGRAMS)} <<{delimiter}{tail}\n{body}{end}\n"


# The same examples every time: who changed something else should not be the one to find what is left.
SHELLS = [shell for shell in ("bash", "dash") if shutil.which(shell)]
# Each record is written at once: background jobs share the pipe.
RECORD = {
    "bash": """
command_not_found_handle() { local IFS=$'\\037'; printf '%s\\036' "$*" >&9; }
""",
    "dash": """
US=$(printf '\\037')
p() { IFS=$US; printf 'p%s%s\\036' "${1+$US}" "$*" >&9; unset IFS; }
q() { IFS=$US; printf 'q%s%s\\036' "${1+$US}" "$*" >&9; unset IFS; }
""",
}


def _really_started(shell: str, command: str, folder: Path) -> set[tuple[str, ...]]:
    """What a real shell starts of commands that are not there."""
    with subprocess.Popen(
        [shell, "-c", f"exec 9>&1 >/dev/null\n{RECORD[shell]}\nPATH=/nowhere\n{command}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=60)  # the pipe ends when the last background job does
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return {tuple(record.split("\037")) for record in out.decode(errors="replace").split("\036")[:-1]}


def _accounts_for(commands: tuple[SimpleCommand, ...], argv: tuple[str, ...]) -> bool:
    """Whether a command that a shell started is one of those that were found."""
    for command in commands:
        for words in started(command.words, command.input):
            if words[0].text != posixpath.basename(argv[0]):
                continue
            if any(word.kind != "literal" for word in words) or tuple(word.text for word in words)[1:] == argv[1:]:
                return True
    return False


def _may_be_written(commands: tuple[SimpleCommand, ...], path: str) -> bool:
    for command in commands:
        for file in command.files:
            target = file.target
            if command.cwds is None or (target.kind != "literal" and not target.values):
                return True
            texts = target.values or (target.text,)
            if path in {posixpath.normpath(posixpath.join(cwd, text)) for cwd in command.cwds for text in texts}:
                return True
    return False


def _compare(shell: str, command: str, folder: Path) -> None:
    commands = commands_of(command, "/r")
    if isinstance(commands, Unclear):
        return
    with suppress(Undecidable):
        [list(started(command.words, command.input)) for command in commands]
        shutil.rmtree(folder)
        (folder / "d").mkdir(parents=True)
        (folder / "g").touch()
        for argv in _really_started(shell, command, folder):
            # A program may be called `x=`, which no rule denies.
            assert "=" in argv[0] or _accounts_for(commands, argv), (command, argv)
        written = {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"d", "g"}
        assert all(_may_be_written(commands, f"/r/{path}") for path in written), (command, written)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=400, derandomize=True)
@given(pieces=st.lists(PIECES, min_size=1, max_size=10))
@example(pieces=["p &>/dev/null q"])
@example(pieces=["p 10>/dev/null"])
@example(pieces=["for x in p q; do $x; done"])
@example(pieces=["alias p=q\n", "p a"])
@example(pieces=["<<<p{p,q}$!cd  E"])
@example(pieces=['>/dev/null"p"$@case x in '])
@example(pieces=["2<<'E'\n<<E && q\np $(q)\nE\n>&f\\\nx+=1p"])
@example(pieces=["!", '"q" a'])
@example(pieces=["tes b <([[-n $? ]])"])
@example(pieces=["p | q\n\\\n\n2>f x"])
@example(pieces=["p >&f'$(q)'"])
@example(pieces=['p "a `q <<"E" 2>&1\n`p`\nE\n`"'])
@example(pieces=["p <<E \\\n&& q\nE\n"])
@example(pieces=["echo '<<E'\np\necho E"])
@example(pieces=["p $((1<<E))\nq\nE"])
def test_every_command_that_a_shell_starts_was_found(
    shell: str, tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    _compare(shell, "".join(pieces), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=500, derandomize=True)
@given(seed=st.integers(0, 2**40))
def test_every_command_of_a_script_was_found(shell: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    _compare(shell, Scripts(seed).script(), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "script",
    [
        "cd d 2>/dev/null && p | q &>f",
        "time x=1 builtin cd d && p >f",
        "x=1; cd d; p | q && cd ..; p >f",
        "cat <<E | q && cd d; p >f\nE\np >f",
        "f() { p >f; }; cd d; f",
        "for i in 1 2; do p >f; cd d; done",
        "p() { q; }; (p) | p; unset x",
        "if cd d; then p >f; else q >f; fi; p > g",
        "x=a; x=b >$x",
        "x=a; >$x x=b",
        "x=a; x=b y=$x; p >$y",
        "x=a; x=b p >$x",
    ],
)
def test_a_script_does_what_was_found(shell: str, tmp_path: Path, script: str) -> None:
    _compare(shell, script, tmp_path)


@settings(max_examples=500)
@given(command=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join)))
def test_any_text_is_read_or_unclear(command: str) -> None:
    found = simple_commands(command)
    assert isinstance(found, Unclear | tuple)
