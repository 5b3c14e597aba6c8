"""`steering`: what of a diff decides what the checks say, by name, place and section."""

from __future__ import annotations

import pytest

from runner.repo.diff import NO_FILE, Change
from runner.repo.steering import A_TEST, NAMED, NEW_TEST, STEERS, steering

PYPROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = []\n[tool.ruff]\nline-length = 80\n'
SETUP_CFG = "[metadata]\nname = x\n[options]\ninstall_requires =\n    idna\n[flake8]\nmax-line-length = 80\n"
SETUP_PY = "from setuptools import setup\n\nsetup(name='x', install_requires=['idna'], cmdclass={})\n"
PACKAGE = '{"name": "x", "scripts": {"test": "jest"}, "dependencies": {"a": "1"}}'


def why(path: str, old: str | None = "old", new: str | None = "new", *commands: str) -> str | None:
    """Why a change of one file steers; None in the place of a content: it is not there."""
    modes = [NO_FILE if content is None else "100644" for content in (old, new)]
    change = Change(modes[0], modes[1], "old", "new", path)
    found = steering(
        [change], {"old": (old or "").encode(), "new": (new or "").encode()}.__getitem__, commands=commands
    )
    return found.get(path)


@pytest.mark.parametrize(
    "path",
    [
        *("conftest.py", "a/b/conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", "tox.ini", ".coveragerc"),
        *("noxfile.py", "sitecustomize.py", "src/usercustomize.py", "x.pth", "evil.egg-info/entry_points.txt"),
        *("evil-1.dist-info/entry_points.txt", "Makefile", "sub/GNUmakefile", "rules.mk", "justfile", "Taskfile.yml"),
        *("jest.config.ts", "vitest.config.mjs", "karma.conf.js", ".mocharc.json", "phpunit.xml.dist", ".rspec"),
        *(".cargo/config.toml", "go.work", ".npmrc", "pip.conf", ".python-version", ".envrc", ".gitattributes"),
        *("node_modules/.bin/jest", "web/node_modules/jest/index.js", ".venv/bin/pytest", "__pycache__/a.pyc"),
        *("tests/__pycache__/test_a.cpython-311.pyc", ".mvn/maven.config", "deno.json", ".babelrc"),
    ],
)
@pytest.mark.parametrize("old", [None, "old"])
def test_what_configures_checks_steers_by_its_name(path: str, old: str | None) -> None:
    assert why(path, old) == STEERS
    assert why(path, "old", None) == STEERS


@pytest.mark.parametrize(
    "path",
    [
        *("app.py", "src/app/core.py", "README.md", "requirements.txt", "docs/conf.py", "app/tasks.py", "go.mod"),
        *("app/testing.py", "django/test/client.py", "management/commands/test.py", "lib/contest.py", "latest_news.py"),
        *("Cargo.toml", "src/main.rs", "index.js", "app/json.py", "app/types.py", "src/app/logging.py"),
    ],
)
def test_code_does_not_steer(path: str) -> None:
    assert why(path) is None
    assert why(path, None) is None


@pytest.mark.parametrize(
    "path",
    [
        *("tests/test_a.py", "test_a.py", "a/b/a_test.py", "pkg/a_test.go", "src/a.test.ts", "src/a.spec.jsx"),
        *("test/index.js", "spec/a_spec.rb", "tests/data/expected.json", "src/test/java/A.java", "ATest.java"),
        *("__tests__/a.js", "app/__snapshots__/a.snap", "pkg/testdata/golden", "test.py", "app/tests.py"),
    ],
)
def test_tests_steer_and_it_matters_whether_base_has_them(path: str) -> None:
    assert why(path) == A_TEST
    assert why(path, "old", None) == A_TEST
    assert why(path, None) == NEW_TEST


def test_a_new_test_that_a_command_names_is_what_was_asked_for() -> None:
    assert why("tests/test_new.py", None, "new", "pytest -q tests/test_new.py::test_a") is None
    assert why("tests/test_new.py", None, "new", "python -m unittest tests.test_new") is None
    assert why("tests/test_new.py", "old", "new", "pytest -q tests/test_new.py") == A_TEST


@pytest.mark.parametrize(
    "path",
    [
        *("pytest.py", "_pytest/__init__.py", "pluggy/hooks.py", "unittest/__init__.py", "json.py", "src/argparse.py"),
        *("tests/random.py", "lib/subprocess.so", "claw_evidence_hooks.py"),
    ],
)
def test_a_new_module_that_shadows_one_of_the_checks_steers(path: str) -> None:
    assert why(path, None) == STEERS
    assert why(path) in (None, A_TEST), "it was there"


@pytest.mark.parametrize(
    ("old", "new", "steers"),
    [
        (PYPROJECT, PYPROJECT.replace("[]", '["idna>=3"]'), False),
        (PYPROJECT, PYPROJECT.replace('"1"', '"2"'), False),
        (PYPROJECT, PYPROJECT.replace("80", "100"), False),
        (PYPROJECT, PYPROJECT + "[project.scripts]\nx = 'x:main'\n", False),
        (PYPROJECT, PYPROJECT + "[tool.poetry.dependencies]\nx = '1'\n", False),
        (PYPROJECT, PYPROJECT + "[dependency-groups]\ndev = ['pytz']\n", False),
        (PYPROJECT, PYPROJECT + "[project.scripts]\npytest = 'x:main'\n", True),
        (PYPROJECT, PYPROJECT + "[project.entry-points.pytest11]\nx = 'x'\n", True),
        (PYPROJECT, PYPROJECT + "[tool.pytest.ini_options]\naddopts = '-x'\n", True),
        (PYPROJECT, PYPROJECT + "[tool.unheard-of]\na = 1\n", True),
        (PYPROJECT, PYPROJECT + "[build-system]\nbuild-backend = 'x'\n", True),
        (PYPROJECT, PYPROJECT + "[tool.setuptools.cmdclass]\nx = 'x'\n", True),
        (PYPROJECT, PYPROJECT.replace("[]", '["pytest-skipper"]'), True),
        (PYPROJECT, PYPROJECT.replace("[]", '["x @ file:./x"]'), True),
        (PYPROJECT, "not = [toml", True),
        (None, PYPROJECT, False),
        (PYPROJECT + "[tool.pytest.ini_options]\n", None, True),
    ],
)
def test_pyproject_steers_by_its_sections(old: str | None, new: str | None, steers: bool) -> None:
    assert why("pyproject.toml", old, new) == (STEERS if steers else None)


def test_the_configuration_of_a_tool_steers_when_a_command_runs_it() -> None:
    assert why("pyproject.toml", PYPROJECT, PYPROJECT.replace("80", "100"), "python -m ruff check .") == STEERS
    assert why("setup.cfg", SETUP_CFG, SETUP_CFG.replace("80", "100"), "flake8") == STEERS


@pytest.mark.parametrize(
    ("new", "steers"),
    [
        (SETUP_CFG.replace("idna", "idna\n    pytz"), False),
        (SETUP_CFG.replace("name = x", "name = y"), False),
        (SETUP_CFG + "[tool:pytest]\naddopts = -x\n", True),
        (SETUP_CFG + "[options.entry_points]\npytest11 =\n    x = x\n", True),
        (SETUP_CFG.replace("idna", "idna\n    pytest-skipper"), True),
        ("no section = 1\n", True),
    ],
)
def test_setup_cfg_steers_by_its_sections(new: str, steers: bool) -> None:
    assert why("setup.cfg", SETUP_CFG, new) == (STEERS if steers else None)


@pytest.mark.parametrize(
    ("new", "steers"),
    [
        (SETUP_PY.replace("['idna']", "['idna', 'pytz']"), False),
        (SETUP_PY.replace("'x'", "'y'") + "# a comment\n", False),
        (SETUP_PY.replace("cmdclass={}", "cmdclass={'build_py': x}"), True),
        (SETUP_PY.replace("['idna']", "evil()"), True),
        (SETUP_PY.replace("cmdclass={}", "entry_points={'pytest11': ['x = x']}"), True),
        ("import os\n" + SETUP_PY, True),
        ("def", True),
    ],
)
def test_setup_py_steers_by_what_it_does(new: str, steers: bool) -> None:
    assert why("setup.py", SETUP_PY, new) == (STEERS if steers else None)


@pytest.mark.parametrize(
    ("new", "steers"),
    [
        (PACKAGE.replace('"a": "1"', '"a": "1", "b": "2"'), False),
        (PACKAGE.replace('"x"', '"y"'), False),
        (PACKAGE.replace("jest", "true"), True),
        (PACKAGE.replace('"name"', '"jest": {}, "name"'), True),
        (PACKAGE.replace('"a": "1"', '"jest": "file:./fake"'), True),
        ("[" * 100_000, True),
        ("[]", True),
    ],
)
def test_package_json_steers_by_its_keys(new: str, steers: bool) -> None:
    assert why("web/package.json", PACKAGE, new) == (STEERS if steers else None)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("run_tests.sh", "./run_tests.sh"),
        ("ci/go.sh", "sh ci/go.sh --fast"),
        ("ci/all", "cd . && bash -e ./ci/all"),
        ("verify.py", "python3 verify.py"),
        ("scripts/check-all.js", "node scripts/check-all.js"),
        ("build.sh", "/workspace/repo/build.sh"),
        ("run_tests", "timeout 60 ./run_tests"),
        ("ci/go.sh", "CI=1 xvfb-run -a ci/go.sh"),
    ],
)
def test_what_a_command_runs_to_check_steers(path: str, command: str) -> None:
    assert why(path, "old", "new", command) == NAMED
    assert why(path, "old", "new", "true") is None
    assert why(path, None, "new", command) is None, "it is to be written"


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("app.py", "python3 app.py --self"),
        ("slugify", "./slugify x | grep -q x"),
        ("code.txt", "grep -q fixed code.txt"),
    ],
)
def test_code_that_a_command_runs_does_not(path: str, command: str) -> None:
    assert why(path, "old", "new", command) is None


def test_a_new_file_with_the_name_of_a_program_steers() -> None:
    assert why("bin/pytest", None) == STEERS
    assert why("tools/npm", None) == STEERS
    assert why("bin/pytest") is None
    assert why("bin/calc", None, "new", "bin/calc 1 2") is None


@pytest.mark.parametrize("command", ["echo ${x@P}", "if true; then", "pytest <<", "x" * 20_000, "\0"])
def test_a_command_that_nobody_understands_does_no_harm(command: str) -> None:
    assert why("app.py", "old", "new", command) is None
    assert why("conftest.py", "old", "new", command) == STEERS
