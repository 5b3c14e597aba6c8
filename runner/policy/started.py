"""All that a command may come to start, seen as broadly as need be: for rules that deny, or that ask a person."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from runner.document.words import shown
from runner.policy.find import find_segments
from runner.policy.options import risky_option
from runner.policy.shell import Unclear, Word, simple_commands
from runner.policy.variables import is_a_command
from runner.policy.words import literal, made_up

WRAPPERS = frozenset(
    (
        *("bash-static", "builtin", "busybox", "catchsegv", "chpst", "chronic", "chroot", "chrt", "command"),
        *("daemonize", "dbus-run-session", "doas", "entr", "env", "exec", "fakeroot", "firejail", "flock"),
        *("hyperfine", "i386", "ionice", "linux32", "linux64", "ltrace", "nice", "nohup", "npx", "nsenter", "numactl"),
        *("parallel", "perf", "pkexec", "prlimit", "proot", "rlwrap", "run-parts", "runuser", "script", "setarch"),
        *("setpriv", "setsid", "setuidgid", "softlimit", "start-stop-daemon", "stdbuf", "strace", "sudo"),
        *("systemd-run", "taskset", "time", "timeout", "toybox", "trickle", "unbuffer", "unshare", "uvx", "valgrind"),
        *("watch", "x86_64", "xargs", "xvfb-run"),
    )
)
"""Programs of which any argument may be the one that they start."""
_RUNNERS = {
    "bundle": ("exec",),
    "conda": ("run",),
    "hatch": ("run",),
    "npm": ("exec", "x"),
    "pdm": ("run",),
    "pipenv": ("run",),
    "pnpm": ("exec", "dlx"),
    "poetry": ("run",),
    "rye": ("run",),
    "uv": ("run",),
    "yarn": ("exec", "dlx"),
}
"""Programs that start what stands behind one of these words."""
_SHELLS = frozenset(("ash", "bash", "dash", "eval", "ksh", "mksh", "rbash", "sh", "su", "trap", "zsh"))
"""Those that take a script, or parts of one, among their arguments."""
_TAKING_SCRIPTS = frozenset(("entr", "env", "flock", "hyperfine", "parallel", "runuser", "script", "watch"))
"""Wrappers of which an argument may be a script."""
_INTERPRETERS = re.compile(
    r"python[\d.]*|pypy3?|perl[\d.]*|ruby[\d.]*|node(?:js)?|deno|bun|php[\d.]*|lua[\d.]*|[gmn]?awk|sed|tclsh|expect|osascript"
    r"|vim?|nvim|ex|emacs|gdb|jshell|julia|Rscript|ghci|sqlite3"
)
_CODE = re.compile(r"[\s('\"!;{`]")
_PARTS = (re.compile(r"[\w./:@%+=-]+"), re.compile(r"[\w.:@%+=-]+"))
_EVALUATING = frozenset(
    (
        *("[", "declare", "export", "getopts", "let", "local", "mapfile", "printf", "read", "readarray", "readonly"),
        *("test", "typeset", "unset", "wait"),
    )
)
"""Builtins that look a variable up by a text, and run what stands in its index."""
_OTHERWISE_CALLED = frozenset(("bind", "compgen", "complete", "enable", "fc", "hash"))
"""Builtins that make another program of a name, or run one at a time of their own."""
_DEEPEST = 5
_MOST_WORDS = 1_000


class Undecidable(Exception):
    """What a command would start cannot be known; the text says why, to follow "it has"."""


def started(words: Sequence[Word], given: Word | None = None, depth: int = 0) -> Iterator[Sequence[Word]]:
    """The command, and the commands it may start on its part, each as words; program names without their folder.
    `given` is its standard input, where that is known.

    Raises Undecidable.
    """
    if depth > _DEEPEST:
        raise Undecidable("commands within commands")
    for word in words:
        if word.assigns and is_a_command(word.assigns):
            yield from _value(word, depth)
    words = [word for word in words if not word.assigns]
    if not words:
        return
    name = name_of(words[0])
    words = _completed(words, name)
    yield from _program(words, given, depth)
    for segment in find_segments(words)[1] if name == "find" else ():
        yield from started(segment, None, depth + 1)
    if name == "find" and all(word.kind != "unknown" or "{}" in word.text for word in words):
        return  # it is told for certain where one command ends
    if _is_wrapper(name) or risky_option(words, _never):
        yield from _any_of(words, name, depth)
    elif name in _RUNNERS:
        start = next((at for at, word in enumerate(words) if word.text in _RUNNERS[name]), len(words))
        yield from _any_of(words[start:], name, depth)


def _is_wrapper(name: str) -> bool:
    return name in WRAPPERS or name.startswith(("ld-linux", "ld-musl", "ld.so"))


def _never(text: str) -> bool:
    return False


def name_of(word: Word) -> str:
    """A program's name without its folder."""
    return word.text.rsplit("/", 1)[-1]


_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=", re.ASCII)


def is_assignment(word: Word) -> bool:
    """Whether it may be one, also behind `env`."""
    return _ASSIGNMENT.match(word.text) is not None


def _value(assignment: Word, depth: int) -> Iterator[Sequence[Word]]:
    """What a program would start because of a variable."""
    if assignment.kind != "literal":
        raise Undecidable(f"a command that the shell makes up in {assignment.assigns}")
    yield from _script(assignment.text.partition("=")[2], assignment.assigns, depth)


def _completed(words: Sequence[Word], name: str) -> Sequence[Word]:
    """With what the program itself puts among its arguments."""
    if name == "find":
        return [made_up(word.text) if "{}" in word.text else word for word in words]
    if name == "parallel" and not any(word.text.startswith(":::") for word in words):
        return [*words, made_up("…")]
    if name != "xargs" or len(words) == 1:
        return words
    replaced = _replaced(words)
    if not replaced:
        return [*words, made_up("…")]
    return [made_up(word.text) if replaced in word.text and at > 1 else word for at, word in enumerate(words)]


def _replaced(words: Sequence[Word]) -> str | None:
    """What xargs puts its input in the place of; None: it adds it at the end."""
    for word, following in zip(words[1:], [*words[2:], literal("")], strict=True):
        if word.text in ("-I", "-J"):
            return following.text
        if found := re.fullmatch(r"(?:-I|-i|--replace=?)(.*)", word.text, re.DOTALL):
            return found[1] or "{}"
    return None


def _program(words: Sequence[Word], given: Word | None, depth: int) -> Iterator[Sequence[Word]]:
    """A program with its arguments, and what it is told to start in scripts."""
    if words[0].kind != "literal":
        raise Undecidable(f"a program name that the shell makes up ({shown(words[0].text)})")
    name = name_of(words[0])
    yield (literal(name), *words[1:])
    if _is_wrapper(name):
        _check_program(words)
    elif name in _SHELLS:
        yield from _scripts(words, name, given, depth)
    elif name in (".", "source"):
        _check_file(words[1:2], name)
    elif _INTERPRETERS.fullmatch(name):
        yield from _code(words, given)
    elif name == "git" or name.startswith("git-"):
        yield from _git(words, name)
    elif name in _EVALUATING:
        _check_names(words, name)
    elif name in _OTHERWISE_CALLED:
        raise Undecidable(f"{name!r}, which gives another name to a command")
    elif name == "alias" and any(word.kind != "literal" or "=" in word.text for word in words[1:]):
        # What stands behind the alias where it is used belongs to the command: `alias g=git; g push`.
        raise Undecidable("an alias, which gives another name to a command")


def _any_of(words: Sequence[Word], name: str, depth: int) -> Iterator[Sequence[Word]]:
    """Which of the words is the program depends on the options: any may be, or hold it."""
    if len(words) > _MOST_WORDS:
        raise Undecidable(f"more than {_MOST_WORDS:,} words behind {name}")
    for start in range(1, len(words)):
        word = words[start]
        if word.kind != "literal":
            continue
        yield from _program(words[start:], None, depth)
        value = re.sub(r"exec=", "", word.text.partition("=")[2]) if word.text.startswith("-") else ""
        if name in _TAKING_SCRIPTS and _may_be_script(words, start, name):
            yield from _script(re.sub(r"^(-S|--split-string=)", "", word.text), name, depth)
        elif value:
            yield [literal(name_of(literal(part))) for part in value.split()] or words
        elif not _is_wrapper(name) and re.search(r"\s", word.text):
            yield [literal(part) for part in word.text.split()] or words


def _may_be_script(words: Sequence[Word], at: int, name: str) -> bool:
    if not re.search(r"\s", words[at].text):
        return False
    split = re.compile(r"-[iv]*S|--split-string")
    return name != "env" or bool(split.match(words[at].text) or split.fullmatch(words[at - 1].text))


_NOT_THE_PROGRAM = re.compile(r"-.*|!|\d[\d.]*[smhd]?", re.DOTALL)
"""Options, the numbers that some wrappers take, and the `!` that may stand behind `time`."""


def _check_program(words: Sequence[Word]) -> None:
    """Raise Undecidable when what a wrapper starts is made up by the shell."""
    for word in words[1:]:
        if word.kind == "literal" and (is_assignment(word) or _NOT_THE_PROGRAM.fullmatch(word.text)):
            continue
        if word.kind != "literal" and not is_assignment(word):
            raise Undecidable(f"a program name that the shell makes up ({shown(word.text)})")
        if word.kind == "literal":
            return


def _check_file(words: Sequence[Word], name: str) -> None:
    """Raise Undecidable when a shell reads its script from where that is not a plain file."""
    if not words or words[0].kind != "literal" or re.match(r"/+(dev|proc)/", words[0].text):
        raise Undecidable(f"a script for {name} that the shell makes up")


def _check_names(words: Sequence[Word], name: str) -> None:
    if name == "printf" and not words[1:2] or (name == "printf" and not words[1].text.startswith("-v")):
        return
    if any(word.kind == "literal" and re.search(r"\[.*(\$\(|`)", word.text, re.DOTALL) for word in words[1:]):
        raise Undecidable(f"a name for {name} that may hold a command")
    if name in ("mapfile", "readarray") and any(word.text.startswith("-C") for word in words):
        raise Undecidable(f"a command that {name} runs")


def _scripts(words: Sequence[Word], name: str, given: Word | None, depth: int) -> Iterator[Sequence[Word]]:
    """What a shell's arguments would start, were each of them a script."""
    if any(word.kind != "literal" for word in words[1:]):
        raise Undecidable(f"a script for {name} that the shell makes up")
    texts = [word.text for word in words[1:]]
    if name == "eval":
        texts = [" ".join(texts[1:] if texts[:1] == ["--"] else texts)]
    operands = [text for text in texts if not text.startswith(("-", "+"))]
    if name not in ("eval", "trap", "su") and (not operands or re.match(r"/+(dev|proc)/", operands[0])):
        if given is None and not any(text in ("--version", "--help", "-n") for text in texts):
            raise Undecidable(f"a script that {name} reads from its input")
        if given is not None and given.kind != "literal":
            raise Undecidable(f"a script for {name} that the shell makes up")
        texts += [given.text] if given else []
    elif name not in ("eval", "trap", "su") and not any(re.match(r"-\w*[cs]", text) for text in texts):
        texts = [shlex.quote(operands[0])]  # a file; the rest are its arguments
    for text in texts:
        yield from _script(text, name, depth)


def _script(text: str, name: str, depth: int) -> Iterator[Sequence[Word]]:
    commands = simple_commands(text)
    if isinstance(commands, Unclear):
        raise Undecidable(f"{commands.reason} in a script for {name}")
    for command in commands:
        yield from started(command.words, command.input, depth + 1)


def _code(words: Sequence[Word], given: Word | None) -> Iterator[Sequence[Word]]:
    """What the program text of an interpreter names: all its words in a row, from each of them on."""
    module = next((at for at, word in enumerate(words[:-1], start=1) if word.text == "-m"), None)
    if module and words[0].text.rsplit("/", 1)[-1].startswith("py"):
        yield words[module:]
    texts = [word.text for word in words[1:] if word.kind == "literal" and _CODE.search(word.text)]
    texts += [given.text] if given else []
    for text in texts:
        for pattern in _PARTS:
            parts = [literal(part) for part in pattern.findall(text)[:_MOST_WORDS]]
            for start, first in enumerate(parts):
                yield (literal(name_of(first)), *parts[start + 1 :])


def _git(words: Sequence[Word], name: str) -> Iterator[Sequence[Word]]:
    """git's command, without the options that stand before it."""
    rest = list(words[1:])
    if name != "git":
        rest.insert(0, literal(name.removeprefix("git-")))
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        if option in ("-c", "--config-env"):
            yield _setting(rest[0] if rest else made_up(""))
        if option in _GIT_VALUED:
            del rest[:1]
    if rest and rest[0].text == "config" and any(re.match("(?i)alias[.]", word.text) for word in rest[1:]):
        raise Undecidable("an alias of git, which gives another name to a command")
    if rest:
        yield (literal("git"), *rest)
    if rest and rest[0].text in ("http-push", "send-pack"):
        yield (literal("git"), literal("push"), *rest[1:])


_GIT_VALUED = ("-c", "-C", "--git-dir", "--work-tree", "--namespace", "--config-env", "--super-prefix", "--exec-path")


def _setting(setting: Word) -> Sequence[Word]:
    """What git may start because of `-c NAME=VALUE`."""
    if setting.kind != "literal" or re.match("(?i)alias[.]", setting.text):
        raise Undecidable("an alias of git, which gives another name to a command")
    return [literal(part) for part in setting.text.partition("=")[2].lstrip("!").split()] or [literal("")]


def script_given(words: Sequence[Word], input: Word | None) -> Iterator[str]:
    """What the script itself gives to a shell to read."""
    if input is not None and input.kind == "literal" and any(name_of(word) in _SHELLS for word in words):
        yield input.text


def scripts_in(words: Sequence[Word]) -> Iterator[str]:
    """Texts among the words that a shell named there may take for scripts."""
    names = [name_of(word) for word in words]
    first = next((place for place, name in enumerate(names) if name in _SHELLS), len(words))
    for word in words[first + 1 :]:
        if word.kind == "literal" and re.search(r"[<>]", word.text):
            yield word.text
