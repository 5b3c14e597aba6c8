"""What of a diff steers the checks without being the code that they check: configuration, hooks, tests that base has.

It is known by name and place, not by what it does. What is in the list and honest does no harm: the checks run without
it first, and only when they need it is it anybody's business (docs/checks.md).
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from runner.policy.shell import Unclear, simple_commands
from runner.repo.diff import NO_FILE, SUBMODULE, Change

STEERS = "which steers the checks"
A_TEST = "which is a test that base has"
NEW_TEST = "which is a test of its own"
NAMED = "which a command of the task runs"

NAMES = (
    # Python
    *(
        "conftest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        ".coveragerc",
        "noxfile.py",
    ),
    *("sitecustomize.py", "usercustomize.py", "*.pth", "*.pyc", "*.egg-link", "pip.conf", ".python-version"),
    # any
    *("makefile", "gnumakefile", "*.mk", "justfile", ".justfile", "taskfile.y*ml", "rakefile", "earthfile"),
    *(".gitattributes", ".envrc", ".env", ".tool-versions", "mise.toml", ".mise.toml"),
    # JavaScript
    *("jest.config.*", "vitest.config.*", "vitest.workspace.*", "vite.config.*", "karma.conf.*", ".mocharc*"),
    *("ava.config.*", "playwright.config.*", "cypress.config.*", "babel.config.*", ".babelrc*", ".nycrc*", ".c8rc*"),
    *(".npmrc", ".yarnrc*", ".pnpmfile.cjs", ".node-version", ".nvmrc", "deno.json*", "bunfig.toml"),
    # others
    *("phpunit.xml*", "phpunit.dist.xml", "pest.php", ".rspec", ".ruby-version", "rust-toolchain*", "nextest.toml"),
    *("go.work*", "gradle.properties", "maven.config", "jvm.config", "ctestconfig.cmake", "ctestcustom.cmake"),
)
"""Patterns of file names, in lower case, at any depth."""
FOLDERS = (
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".cargo",
    ".mvn",
    "*.egg-info",
    "*.dist-info",
)
"""Patterns of folders, with all that is in them."""

TEST_FOLDERS = frozenset(("tests", "__tests__", "__snapshots__", "testdata"))
TOP_TEST_FOLDERS = frozenset(("test", "spec", "specs", "e2e", "t"))
"""Further down such a name may well be a part of the product."""
TEST_NAMES = (
    *("test_*.py", "*_test.py", "tests.py", "*_test.go", "*_spec.rb", "test_*.rb"),
    *("*.test.[jt]s*", "*.spec.[jt]s*", "*.test.[cm][jt]s", "*.spec.[cm][jt]s"),
    *("*Test.java", "*Tests.java", "*IT.java", "*Test.kt", "*Tests.cs", "*Test.php", "*_test.cc", "*_test.cpp"),
    *("*_test.exs", "test_*.sh", "*.bats", "*_test.dart"),
)

TOOLS = frozenset(
    (
        *("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "exceptiongroup", "tomli", "xdist", "execnet"),
        *("pytest_cov", "pytest_asyncio", "pytest_mock", "hypothesis", "coverage", "nose", "nose2", "tox", "nox"),
        *("mock", "setuptools", "pkg_resources", "pip", "wheel", "attr", "attrs", "trio", "anyio"),
        *("claw_evidence", "claw_evidence_hooks"),
    )
)
"""Modules that a check's own programs import. Those of the standard library count too."""
PROGRAMS = frozenset(
    (
        *("pytest", "py.test", "python", "python3", "pip", "pip3", "tox", "nox", "coverage", "uv", "poetry", "hatch"),
        *("node", "npm", "npx", "yarn", "pnpm", "bun", "deno", "jest", "vitest", "mocha", "tsc", "eslint"),
        *("make", "just", "task", "cmake", "ctest", "ninja", "go", "cargo", "rustc", "java", "mvn", "gradle", "dotnet"),
        *("ruby", "rake", "rspec", "bundle", "php", "phpunit", "composer", "perl", "prove", "ruff", "mypy", "flake8"),
        *("git", "sh", "bash", "env", "timeout", "grep", "diff", "cmp", "test", "cat", "sed", "awk", "find", "xargs"),
    )
)
"""Programs of checks: a new file of such a name wants to be found in its place."""
IMPORTED_FROM = frozenset((".", "src", "lib", "test", *TEST_FOLDERS))
"""Folders that are usual places in Python's module path."""
MODULES = (".py", ".pyc", ".so", ".pyd")

SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh", "source", "."))
INTERPRETER = re.compile(r"(python|pypy)[\d.]*|node|deno|bun|ruby|perl|php")
SHELL_SCRIPT = (".sh", ".bash", ".zsh", ".ksh")
JUDGES = re.compile(r"(^|[/._-])(run_?tests?|tests?|specs?|checks?|verify|validate|ci|lint|grade|eval)([/._-]|$)", re.I)
"""Names of programs that check others."""
Read = Callable[[str], bytes]
Sections = Callable[[str, Collection[str]], Any]
"""What in the text of a configuration file steers; the second argument are the words of the task's commands."""


def steering(changed: Iterable[Change], read: Read, *, commands: Sequence[str] = ()) -> dict[str, str]:
    """The paths among `changed` that steer the checks, and why: `which …`, to follow the path.

    `read` gives a content by its id. `commands` are those of the checks and of setup: what they run steers as well.
    """
    argvs = [argv for command in commands for argv in _commands(command)]
    words, run = frozenset(word for argv in argvs for word in argv), frozenset(_run(argvs))
    found: dict[str, str] = {}
    for change in changed:
        if why := _why(change, read, words, run):
            found[change.path] = why
    return found


def _why(change: Change, read: Read, words: Collection[str], run: Collection[str]) -> str | None:
    path, new = PurePosixPath(change.path), change.old_mode == NO_FILE
    if _by_place(path) or SUBMODULE in (change.old_mode, change.new_mode):
        return STEERS
    if (sections := SECTIONS.get(path.name.lower())) and _differ(change, read, sections, words):
        return STEERS
    if new and (_shadows(path) or path.name in PROGRAMS):
        return STEERS
    if not new and change.path in run:
        return NAMED
    if not _is_test(path):
        return None
    if not new:
        return A_TEST
    # Where a command speaks of it, it is what was asked for.
    return None if _is_named(change.path, words) else NEW_TEST


def _by_place(path: PurePosixPath) -> bool:
    name = path.name.lower()
    return any(fnmatchcase(name, pattern) for pattern in NAMES) or any(
        fnmatchcase(folder, pattern) for folder in path.parts[:-1] for pattern in FOLDERS
    )


def _is_test(path: PurePosixPath) -> bool:
    folders = path.parts[:-1]
    if not TEST_FOLDERS.isdisjoint(folders) or folders[:1] and folders[0] in TOP_TEST_FOLDERS:
        return True
    if "/src/test/" in f"/{path}" or str(path) == "test.py":
        return True
    return any(fnmatchcase(path.name, pattern) for pattern in TEST_NAMES)


def _shadows(path: PurePosixPath) -> bool:
    """Whether a new file would be imported in place of a module that the checks' own programs use."""
    if path.suffix not in MODULES:
        return False
    return any(
        str(folder) in IMPORTED_FROM
        and path.relative_to(folder).parts[0].partition(".")[0] in TOOLS | sys.stdlib_module_names
        for folder in path.parents
    )


# --- what the commands run


def _commands(command: str) -> Iterator[tuple[str, ...]]:
    """Program and arguments of each simple command; of what cannot be read for certain, all words."""
    read = simple_commands(command)
    if isinstance(read, Unclear):
        yield from ((word,) for word in re.findall(r"[^\s;&|()<>'\"`$]+", command))
        return
    for simple in read:
        yield tuple(word.text for word in simple.program)


def _is_named(path: str, words: Iterable[str]) -> bool:
    """By path, or as a module."""
    module = path.removesuffix(".py").replace("/", ".")
    return any(path in word or module in word for word in words)


def _run(argvs: Iterable[Sequence[str]]) -> Iterator[str]:
    """Files of the repository that the commands run in order to check something, as it seems."""
    for argv in argvs:
        program = argv[0].rpartition("/")[2] if argv else ""
        script = next((word for word in argv[1:] if not word.startswith("-")), "")
        if program in SHELLS or (INTERPRETER.fullmatch(program) and JUDGES.search(script)):
            yield _plain(script)
        # Anywhere, because what comes first may start what comes after: `timeout 60 ./run_tests`.
        yield from (_plain(word) for word in argv if word.endswith(SHELL_SCRIPT))
        yield from (_plain(word) for word in argv if word.startswith("./") and JUDGES.search(word))


def _plain(path: str) -> str:
    return str(PurePosixPath(path.removeprefix("/workspace/repo/")))


# --- files in which honest work happens too: compared by what in them steers


def _differ(change: Change, read: Read, sections: Sections, words: Collection[str]) -> bool:
    """Whether what steers differs between the two versions. A file that cannot be read steers in any case."""
    try:
        old, new = (
            sections(read(id).decode() if mode != NO_FILE else "", words)
            for mode, id in ((change.old_mode, change.old_id), (change.new_mode, change.new_id))
        )
    except (ValueError, SyntaxError, RecursionError, configparser.Error):
        return True
    return bool(old != new)


PROJECT_STEERS = ("entry-points", "dynamic")
OWN_SECTIONS = frozenset(
    (
        *("black", "isort", "ruff", "flake8", "pylint", "mypy", "pyright", "bandit", "codespell", "typos", "deptry"),
        *("bumpversion", "commitizen", "semantic_release", "setuptools_scm", "towncrier", "vulture", "pydocstyle"),
        *("interrogate", "djlint", "yapf", "autopep8", "docformatter", "bdist_wheel"),
    )
)
"""Of tools that judge nothing, unless a command of the task runs them."""
FOREIGN = re.compile(r"@|file:|^\s*(-e|--editable)|^pytest|^\.?/", re.I)
"""A dependency from elsewhere than an index, or one that plugs into pytest."""


def _pyproject(text: str, words: Collection[str]) -> Any:
    document = tomllib.loads(text)
    project = _table(document.pop("project", {}))
    groups = document.pop("dependency-groups", {})
    tools = _table(document.pop("tool", {}))
    poetry, setuptools = _table(tools.pop("poetry", {})), _table(tools.pop("setuptools", {}))
    return {
        **document,
        "project": {name: project[name] for name in PROJECT_STEERS if name in project},
        "scripts": _named_as_tools(project.get("scripts")),
        "dependencies": _foreign([project.get("dependencies"), project.get("optional-dependencies"), groups]),
        "poetry": {name: poetry[name] for name in ("plugins", "build") if name in poetry},
        "poetry.scripts": _named_as_tools(poetry.get("scripts")),
        "setuptools": {name: setuptools[name] for name in ("cmdclass", "data-files") if name in setuptools},
        "tool": {name: tool for name, tool in tools.items() if name not in OWN_SECTIONS.difference(words)},
    }


def _setup_cfg(text: str, words: Collection[str]) -> Any:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    own = OWN_SECTIONS.difference(words)
    steers = [name for name in parser if name not in HARMLESS_SECTIONS and re.split("[-:]", name)[0] not in own]
    listed = [
        value.splitlines() for name in DEPENDENCIES if parser.has_section(name) for value in parser[name].values()
    ]
    return {name: _without(parser[name], HARMLESS_OPTIONS) for name in steers}, _foreign(listed)


HARMLESS_SECTIONS = frozenset(("metadata", "options.extras_require", "options.packages.find", "options.package_data"))
HARMLESS_OPTIONS = frozenset(
    ("install_requires", "packages", "python_requires", "package_dir", "include_package_data", "zip_safe")
)
DEPENDENCIES = ("options", "options.extras_require")


PACKAGE_HARMLESS = frozenset(
    (
        *("name", "version", "description", "keywords", "author", "contributors", "license", "repository", "bugs"),
        *("homepage", "funding", "files", "main", "module", "browser", "exports", "types", "typings", "sideEffects"),
        *("private", "dependencies", "devDependencies", "peerDependencies", "optionalDependencies", "type"),
    )
)
COMPOSER_HARMLESS = frozenset(
    ("name", "version", "description", "license", "authors", "require", "require-dev", "autoload")
)


def _json_without(harmless: frozenset[str]) -> Sections:
    def sections(text: str, words: Collection[str]) -> Any:
        document = _table(json.loads(text or "{}"))
        names = ("dependencies", "devDependencies", "optionalDependencies", "overrides")
        foreign = [value for name in names for value in _table(document.get(name, {})).values()]
        local = sorted(str(value) for value in foreign if re.match(r"(file|link|portal|git|https?)[:+]", str(value)))
        return _without(document, harmless), local

    return sections


HARMLESS_ARGUMENTS = frozenset(
    (
        *("name", "version", "description", "long_description", "long_description_content_type", "url", "author"),
        *("author_email", "maintainer", "maintainer_email", "license", "classifiers", "keywords", "project_urls"),
        *("install_requires", "extras_require", "python_requires", "packages", "package_data", "include_package_data"),
    )
)


def _setup_py(text: str, words: Collection[str]) -> Any:
    """The program without the plain values that `setup()` gets for what steers nothing."""
    tree = ast.parse(text)
    foreign = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in HARMLESS_ARGUMENTS and _is_plain(node.value):
            foreign += [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            node.value = ast.Constant(None)
    return ast.dump(tree), _foreign(foreign)


def _is_plain(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


SECTIONS: Mapping[str, Sections] = {
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
    "package.json": _json_without(PACKAGE_HARMLESS),
    "composer.json": _json_without(COMPOSER_HARMLESS),
}


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return dict(value)


def _without(table: Mapping[str, Any], harmless: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in harmless}


def _named_as_tools(scripts: Any) -> dict[str, Any]:
    """Console scripts that would be installed in the place of a program that checks use."""
    return {name: value for name, value in _table(scripts or {}).items() if name in PROGRAMS}


def _foreign(dependencies: Any) -> list[str]:
    """The texts, at any depth, that name a dependency from elsewhere than an index."""
    if isinstance(dependencies, dict):
        dependencies = list(dependencies.values())
    if isinstance(dependencies, list):
        return sorted(found for value in dependencies for found in _foreign(value))
    return [dependencies] if isinstance(dependencies, str) and FOREIGN.search(dependencies) else []
