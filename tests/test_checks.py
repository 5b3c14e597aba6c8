"""The checks: what they prove on base, what counts as passed, what pytest leaves as evidence, what the agent is told.

The ways to cheat them are in `tests/cheats/`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.checks import NOTHING_PROVEN, evidence, feedback, prove_on_base
from runner.errors import ChecksError
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image, ensure_toolbox
from runner.transcript import CheckRan, of_kind
from tests import conftest as fixtures
from tests.cheats.project import FIX, PYTEST, Bench

# Without plugins that are slow to start.
PY = f"{sys.executable} -m pytest -q -p no:cacheprovider -p no:hypothesispytest -p no:anyio"


# --- what pytest leaves as evidence


@pytest.fixture
def observed(tmp_path: Path) -> Callable[..., evidence.Evidence | None]:
    """What is known of a command that was run, on this machine, in a folder with these files."""

    def observe(command: str, expected: int = 0, **files: str) -> evidence.Evidence | None:
        plugin, report, place = tmp_path / "plugin", tmp_path / "report", tmp_path / "place"
        for name, data in evidence.FILES.items():
            (plugin / name).parent.mkdir(parents=True, exist_ok=True)
            (plugin / name).write_bytes(data)
        place.mkdir()
        for name, text in files.items():
            (place / f"{name}.py").write_text(text)
        variables = {**os.environ, "PYTHONPATH": str(plugin), "CLAW_EVIDENCE": str(report)}
        for name in [name for name in variables if name.startswith(("PYTEST_", "COV_"))]:
            del variables[name]
        done = subprocess.run(
            ["sh", "-c", evidence.assigning(command, str(plugin))],
            cwd=place,
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert evidence.PLUGIN not in done.stdout + done.stderr, "it shows"
        return evidence.understood(report.read_bytes()) if report.exists() else None

    return observe


Observed = Callable[..., evidence.Evidence | None]
SUITE = """
import pytest

def test_good(): pass
def test_bad(): assert 0
@pytest.mark.skip
def test_marked(): pass
def test_by_chance(): pytest.skip("now")
@pytest.mark.xfail
def test_known(): assert 0
@pytest.fixture
def broken(): 1 / 0
def test_broken(broken): pass
"""
GOOD = "def test_good(): pass\n"


@pytest.mark.parametrize("options", ["", "-n 2", "-v -rA"])
def test_it_is_known_what_became_of_each_test(options: str, observed: Observed) -> None:
    found = observed(f"{PY} {options}", 1, test_a=SUITE)
    assert found == evidence.Evidence(
        ended=True,
        failed=True,
        ran=frozenset({"test_a.py::test_good", "test_a.py::test_bad", "test_a.py::test_broken"}),
        skipped=frozenset({"test_a.py::test_marked", "test_a.py::test_by_chance"}),
        xfailed=frozenset({"test_a.py::test_known"}),
        by_chance=frozenset({"test_a.py::test_by_chance"}),
    )


@pytest.mark.parametrize("option", ["--version", "--help >/dev/null", "--markers", "--collect-only", "--fixtures"])
def test_a_pytest_that_is_to_run_nothing_ends_well(option: str, observed: Observed) -> None:
    found = observed(f"{PY} {option}", test_a=GOOD)
    assert found is None or (found.ended and not evidence.is_suspicious(found))


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; os._exit(0)", 0),
        ("import os; os.execv('/bin/true', ['true'])", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
@pytest.mark.parametrize("where", ["conftest", "test_a"])
def test_a_pytest_that_is_ended_has_not_ended(code: str, exit_code: int, where: str, observed: Observed) -> None:
    found = observed(PY, exit_code, **{"test_b": GOOD, where: f"{code}\n"})
    assert found is not None
    assert not found.ended


def test_leaving_before_the_session_is_no_end(observed: Observed) -> None:
    found = observed(PY, 0, test_a=GOOD, conftest="import sys; sys.exit(0)")
    assert found is not None
    assert not found.ended


def test_one_that_replaces_itself_ends_once(observed: Observed) -> None:
    again = (
        "if 'AGAIN' not in os.environ:\n    os.environ['AGAIN'] = '1'\n    os.execv(sys.executable, sys.orig_argv)\n"
    )
    found = observed(PY, test_a=GOOD, conftest=f"import os, sys\n{again}")
    assert found is not None
    assert found.ended


def test_a_pytest_within_pytest_is_not_the_check(observed: Observed) -> None:
    inner = """
import subprocess, sys
pytest_plugins = "pytester"

def test_in_process(pytester):
    pytester.makepyfile("import pytest\\ndef test_inner(): pytest.skip('x')")
    pytester.runpytest_inprocess().assert_outcomes(skipped=1)
def test_in_another(tmp_path):
    (tmp_path / "test_x.py").write_text("import os; os._exit(0)")
    subprocess.run([sys.executable, "-m", "pytest", str(tmp_path)], check=True)
"""
    found = observed(
        PY, conftest="pytest_plugins = 'pytester'", test_a=inner.replace('pytest_plugins = "pytester"', "")
    )
    assert found == evidence.Evidence(
        ended=True, ran=frozenset({f"test_a.py::{name}" for name in ("test_in_process", "test_in_another")})
    )


def test_two_sessions_in_one_command_are_one(observed: Observed) -> None:
    found = observed(f"{PY} test_a.py && {PY} test_b.py", test_a=GOOD, test_b=GOOD)
    assert found == evidence.Evidence(ended=True, ran=frozenset({"test_a.py::test_good", "test_b.py::test_good"}))


@pytest.mark.parametrize("setting", ["PYTHONPATH=src", "export PYTHONPATH='src:lib';", "env PYTHONPATH=src"])
def test_a_command_may_set_the_module_path(setting: str, observed: Observed) -> None:
    path = "import os, sys\ndef test_path(): assert os.path.realpath('src') in sys.path\n"
    found = observed(f"{setting} {PY}", test_a=path)
    assert found is not None
    assert found.ran == {"test_a.py::test_path"}


@pytest.mark.parametrize(
    ("command", "run"),
    [
        ("PYTHONPATH= x", "PYTHONPATH=/p x"),
        ("a;PYTHONPATH=b x", "a;PYTHONPATH=/p:b x"),
        ("(PYTHONPATH=)", "(PYTHONPATH=/p)"),
        ("grep 'PYTHONPATH=x' $PYTHONPATH", "grep 'PYTHONPATH=x' $PYTHONPATH"),
        ("MY_PYTHONPATH=x y", "MY_PYTHONPATH=x y"),
    ],
)
def test_only_assignments_get_the_plugins_folder(command: str, run: str) -> None:
    assert evidence.assigning(command, "/p") == run


@pytest.mark.parametrize("command", ["echo x", f"{sys.executable} -c 'import sys; sys.exit(0)'"])
def test_what_is_no_pytest_leaves_nothing(command: str, observed: Observed) -> None:
    assert observed(command) is None


@pytest.mark.parametrize("without", ["PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", "env -u PYTHONPATH"])
def test_a_pytest_that_cannot_be_watched_runs_all_the_same(without: str, observed: Observed) -> None:
    assert observed(f"{without} {sys.executable} -m pytest -q", test_a=GOOD) is None


def test_old_pythons_can_read_the_plugin() -> None:
    for name, data in evidence.FILES.items():
        if name.endswith(".py"):
            assert ast.parse(data, feature_version=(3, 6))
            assert b"import annotations" not in data


@pytest.mark.parametrize(
    "junk", [b"", b"\xff\n[]\n{}\n1\n", b'["test", 1, "a"]\n["loaded"]\n["loaded", "x"]\n', b"[" * 100_000]
)
def test_nonsense_is_no_evidence(junk: bytes) -> None:
    assert evidence.understood(junk) is None


# --- what the agent is told


def test_the_agent_is_told_what_failed() -> None:
    failed = CheckRan(round=0, command="make test", exit_code=2, timed_out=False, seconds=1.0, output="boom\n")
    late = failed.model_copy(update={"command": "sleep 9", "exit_code": None, "timed_out": True, "on": "as_left"})
    told = feedback([failed, late])
    assert "$ make test   (exit code 2)\nboom" in told
    assert "$ sleep 9   (timed out, with your own versions of the tests)" in told
    assert "trust" not in told


# --- on an engine


@pytest.fixture
def bench(engine: ContainerEngine, toolbox_volume: str, once: Callable[[str], Any], tmp_path: Path) -> Iterator[Bench]:
    yield from _benches(engine, once, tmp_path)


@pytest.fixture
def one_bench(once: Callable[[str], Any], tmp_path: Path) -> Iterator[Bench]:
    """On one engine alone, for what is decided outside of containers."""
    engine = next(iter(fixtures._engines().values()), None)
    if engine is None:
        pytest.skip("there is no engine")
    with once(f"toolbox-{engine.name}"):
        ensure_toolbox(engine)
    yield from _benches(engine, once, tmp_path)


def _benches(engine: ContainerEngine, once: Callable[[str], Any], folder: Path) -> Iterator[Bench]:
    with once(f"python-{engine.name}"):
        ensure_image(engine, "python")
    with ExitStack() as opened:
        yield Bench(engine, folder, opened)


@pytest.mark.engine
def test_base_is_looked_at_in_one_container_and_recorded(bench: Bench) -> None:
    site = bench.site(checks={"fail_to_pass": [PYTEST], "pass_to_pass": [f"{PYTEST} -k double"]})
    proven = prove_on_base(site)
    recorded = of_kind(bench.events, CheckRan)
    assert [(check.kind, check.on, check.exit_code) for check in recorded] == [
        ("fail_to_pass", "base", 1),
        ("pass_to_pass", "base", 0),
    ]
    assert [one.check for one in proven.ran.values()] == recorded


@pytest.mark.engine
def test_a_check_that_proves_nothing_on_base_is_named(one_bench: Bench) -> None:
    with pytest.raises(ChecksError, match="fail_to_pass 'true' passes on base already"):
        prove_on_base(one_bench.site(checks={"fail_to_pass": ["true"], "pass_to_pass": ["false"]}))
    with pytest.raises(ChecksError, match=r"pass_to_pass 'exit 3' fails \(exit code 3\) on base already"):
        prove_on_base(one_bench.site(checks={"pass_to_pass": ["exit 3"]}))


@pytest.mark.engine
def test_a_task_without_such_checks_opens_no_container(one_bench: Bench) -> None:
    assert prove_on_base(one_bench.site()) == NOTHING_PROVEN
    assert one_bench.events == []


@pytest.mark.engine
def test_every_kind_of_check_counts_and_leaves_a_log(one_bench: Bench) -> None:
    checks = {"run": ["echo x"], "fail_to_pass": [PYTEST], "pass_to_pass": [f"{PYTEST} -k double"]}
    checked = one_bench.check(FIX, prove=True, checks=checks)
    assert [(check.kind, check.on, check.log) for check in checked.checks] == [
        ("run", "work", "logs/check-0-1.log"),
        ("fail_to_pass", "work", "logs/check-0-2.log"),
        ("pass_to_pass", "work", "logs/check-0-3.log"),
    ]
    assert checked.verdict == "solved", str(checked)


@pytest.mark.engine
def test_work_that_breaks_the_check_for_others_is_unsolved(one_bench: Bench) -> None:
    """Base's own conftest.py would pass it; whoever takes the branch would not."""
    checked = one_bench.check(f"{FIX}; echo 'import nowhere' >conftest.py")
    assert [(check.on, check.exit_code) for check in checked.checks] == [("work", 0), ("as_left", 4)]
    assert checked.verdict == "unsolved"


@pytest.mark.engine
def test_a_command_that_hides_failing_tests_gives_no_verdict(one_bench: Bench) -> None:
    with pytest.raises(ChecksError, match="exit code 0 although pytest fails in it"):
        one_bench.check("echo '# nothing' >>calc.py", checks={"run": [f"{PYTEST} | cat"]})


@pytest.mark.engine
def test_a_command_that_runs_no_test_gives_no_verdict(one_bench: Bench) -> None:
    skips = "import pytest\ndef test_other(): pytest.skip('never')"
    base = f"git rm -q tests/test_calc.py; printf '%s' \"{skips}\" >tests/test_other.py"
    with pytest.raises(ChecksError, match="runs no test, nor does it on base"):
        one_bench.check(FIX, base=base)


@pytest.mark.engine
def test_output_without_end_is_bounded_and_the_verdict_stays(bench: Bench) -> None:
    loud = "head -c 30000000 /dev/zero | tr '\\0' 'x'; exit 3"
    [check] = bench.check(FIX, checks={"run": [loud]}).checks
    assert (check.exit_code, len(check.output) < 100_000) == (3, True)
    [log] = bench.folder.glob("runs/*/logs/check-0-1.log")
    assert log.stat().st_size <= 21_000_000


@pytest.mark.engine
def test_what_a_check_leaves_running_ends_with_it(bench: Bench) -> None:
    leaves = "setsid sh -c 'sleep 30; touch late' & (sleep 30; touch late) & sleep 1000 & echo started"
    alive = (
        "! pgrep sleep && ! ls late && ! ls /proc/*/exe 2>/dev/null | xargs -n1 readlink 2>/dev/null | grep -q sleep"
    )
    checked = bench.check(FIX, checks={"run": [leaves, alive.replace("! pgrep sleep && ", "")]})
    assert checked.verdict == "solved", str(checked)
