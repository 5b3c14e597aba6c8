"""Variables that change what a program does with the same arguments: what it runs, loads, or is configured by."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.policy.paths import REPO
from runner.policy.words import Word

_TELLING = re.compile(
    r"""
    # the shell itself, and where programs and libraries are found
    BASH.* | SHELL.* | ENV | IFS | PS\d | PROMPT_.* | PWD | OLDPWD | GLOB.* | FCEDIT | HIST.* | POSIXLY_.*
    | TERM.* | .*HOME | .*PATH | .*PATH_.* | LD_.* | DYLD_.* | GCONV.* | .*PRELOAD.* | LOCALDOMAIN | HOSTALIASES
    | NIS_.* | MALLOC_.*
    # programs to start
    | .*PAGER.* | .*EDITOR.* | VISUAL | BROWSER | .*SHELL | .*ASKPASS.* | .*_RSH | CC | CXX | CPP | LD | AR | AS
    | FC | LEX | YACC
    # of one program or language
    | LESS.* | MAN.* | GROFF.* | MAIL.* | XDG_.* | GIT_.* | SSH_.* | GPG_.* | GNUPG.* | GREP_.* | RIPGREP_.* | RG_.*
    | FD_.* | FZF_.* | BAT_.* | TAR_.* | ZIP.* | GZIP | XZ_.* | BZIP.* | MAKE.* | CMAKE_.* | NINJA_.* | MESON_.*
    | CTEST_.* | PYTHON.* | PYTEST.* | PIP_?.* | UV_.* | POETRY_.* | PDM_.* | TOX_.* | NOX_.* | VIRTUALENV_.*
    | CONDA_.* | MYPY.* | RUFF_.* | COVERAGE_.* | NODE_.* | NPM_.* | YARN_.* | PNPM_.* | BUN_.* | DENO_.* | TS_.*
    | ESLINT_.* | BABEL_.* | ELECTRON_.* | PERL.* | RUBY.* | GEM_.* | BUNDLE.* | RAKE.* | RUST.* | CARGO.*
    | GO[A-Z0-9]* | CGO_.* | JAVA.* | JDK_.* | _JAVA_.* | CLASSPATH | MAVEN_.* | M2_.* | GRADLE_.* | KOTLIN_.*
    | SBT_.* | SCALA_.* | DOTNET_.* | CORECLR_.* | COMPLUS_.* | MONO_.* | PHP.* | COMPOSER_.* | LUA.* | R_.*
    | JULIA_.* | ERL_.* | ELIXIR_.* | MIX_.* | DOCKER_.* | KUBE.* | AWS_.* | TF_.* | OPENSSL_.* | SSLKEYLOG.*
    | CURL_.* | WGET.* | AWK.* | GAWK.* | SED_.* | LS_.*
    """,
    re.VERBOSE,
)
_TELLING_BY_ENDING = re.compile(
    r"""
    .*(?:
    COMMAND | CMD | EXEC | HOOK | OPT | OPTS | OPTION | OPTIONS | FLAGS | ARGS | WRAPPER | LAUNCHER | RUNNER
    | PROG | PROGRAM | COMPILER | LINKER | TOOLCHAIN | PROXY | INIT | STARTUP | PLUGIN | PLUGINS | PROFILE | CONFIG
    | RC | RCFILE | ROOT | PREFIX
    )(?:_.*)?
    """,
    re.VERBOSE,
)
_KNOWN_HARMLESS = frozenset(
    (
        *("CARGO_INCREMENTAL", "CARGO_TERM_COLOR", "CGO_ENABLED", "DOTNET_NOLOGO", "GIT_AUTHOR_DATE"),
        *("GIT_AUTHOR_EMAIL", "GIT_AUTHOR_NAME", "GIT_COMMITTER_DATE", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_NAME"),
        *("GIT_OPTIONAL_LOCKS", "GIT_TERMINAL_PROMPT", "GOARCH", "GOMAXPROCS", "GOOS", "MALLOC_ARENA_MAX"),
        *("NODE_ENV", "NODE_NO_WARNINGS", "NPM_TOKEN", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT", "PIP_QUIET"),
        *("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONNOUSERSITE", "PYTHONOPTIMIZE"),
        *("PYTHONSAFEPATH", "PYTHONTRACEMALLOC", "PYTHONUNBUFFERED", "PYTHONUTF8", "RUST_BACKTRACE", "RUST_LOG"),
        *("TERM", "TOX_PARALLEL_NO_SPINNER"),
    )
)
_PAGERS = frozenset(("PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER", "GH_PAGER", "BAT_PAGER"))
_EDITORS = frozenset(("EDITOR", "VISUAL", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR"))
_LOWER = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_LOWER_TELLING = re.compile(r"npm_.*|.*_proxy|yarn_.*|pnpm_.*|cabal_.*", re.ASCII)


def is_harmless_name(name: str, *, exported: bool = True) -> bool:
    """Whether no program we know of is told what to do by such a variable; `exported`: programs come to see it."""
    if _LOWER.fullmatch(name):
        return name != "_" and not _LOWER_TELLING.fullmatch(name)
    if name in _KNOWN_HARMLESS:
        return True
    return not (_TELLING.fullmatch(name.upper()) or (exported and _TELLING_BY_ENDING.fullmatch(name.upper())))


def is_harmless(assignment: Word, *, exported: bool = True) -> bool:
    """Whether a command that comes to see the assignment does what it does without."""
    name, value = assignment.assigns, assignment.text.partition("=")[2]
    if is_harmless_name(name, exported=exported):
        return True
    if assignment.kind != "literal":
        return False
    return (
        (name in _PAGERS and value in ("cat", ""))
        or (name in _EDITORS and value in ("true", ":", "cat"))
        or (name == "PYTHONWARNINGS" and re.fullmatch("ignore|default|error|always|once|module", value) is not None)
    )


_REPO_PATHS = re.compile(
    rf"(?:(?:{REPO}|\$PWD|\$\{{PWD\}}|\$\(pwd\))(?=[/:]|$)|(?![/~$]))(?!.*\.\.)[\w./:-]*", re.ASCII
)


def is_search_path(assignment: Word) -> bool:
    """Whether it tells Python to look for modules in places of the repository, all of it."""
    value = assignment.text.partition("=")[2]
    names = re.split(r":(?=.)", value.removesuffix(":$PYTHONPATH").removesuffix(":${PYTHONPATH}"))
    return assignment.assigns == "PYTHONPATH" and all(_REPO_PATHS.fullmatch(name) for name in names)


def runs_tests(words: Sequence[Word]) -> bool:
    """Whether a command runs the repository's own code, for which a search path in it changes nothing."""
    texts = [word.text for word in words[:3] if word.kind == "literal"]
    if texts[:1] in (["pytest"], ["py.test"], ["tox"], ["nox"]):
        return True
    return len(texts) == 3 and re.fullmatch(r"python3?", texts[0]) is not None and texts[1:] in (
        ["-m", "pytest"], ["-m", "unittest"], ["-m", "tox"], ["-m", "nox"]
    )  # fmt: skip


_COMMANDS = re.compile(
    r"(?:GIT_|MAN|SYSTEMD_|GH_|BAT_|DELTA_)?PAGER|(?:GIT_|GIT_SEQUENCE_|FC)?EDIT(?:OR)?|VISUAL|BROWSER|GIT_EXTERNAL_DIFF|GIT_SSH"
    r"|LESS(?:OPEN|CLOSE)|.*(?:COMMAND|CMD|WRAPPER|ASKPASS|_RSH)|PS[0-4]|BASH_ENV"
)


def is_a_command(name: str) -> bool:
    """Whether some program runs what the variable holds."""
    return _COMMANDS.fullmatch(name) is not None
