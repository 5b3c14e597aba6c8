"""A pytest plugin that writes down, line by line, which tests ran and that pytest came to its end by itself.

It is silent, and does nothing where CLAW_EVIDENCE names no file: in the workers of xdist, in what tests start, and in a
pytest within pytest. Each line is a JSON list: what happened, the process, details. It is read by Python 3.6 and newer.
"""

import json
import os
from typing import Any, Iterator  # noqa: UP035  old Pythons have no better

import pytest

REPORT = "CLAW_EVIDENCE"
OWNER = "CLAW_EVIDENCE_OWNER"
"""Pid of the first process in this line that ran pytest: those below it are not the check."""
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def _report() -> str:
    path, mine = os.environ.get(REPORT, ""), str(os.getpid())
    # One that replaces itself (exec) keeps its pid, and is still the first.
    return path if path and os.environ.setdefault(OWNER, mine) == mine else ""


class _State:
    path = _report()
    pid = os.getpid()
    depth = 0
    """How many calls of pytest.main are under way in this process; only the outermost counts."""
    begun = 0
    """Tests that it has begun."""
    collected = False
    """It has read all tests, and nothing stopped it."""


# The functions are bound here, because tests put others in their place while they run.
def _tell(
    *facts: Any,
    dumps: Any = json.dumps,
    getpid: Any = os.getpid,
    open: Any = os.open,
    write: Any = os.write,
    close: Any = os.close,
) -> None:
    if not _State.path or getpid() != _State.pid:
        return
    try:
        file = open(_State.path, FLAGS, 0o600)
        try:
            write(file, (dumps([facts[0], _State.pid, *facts[1:]]) + "\n").encode("ascii"))
        finally:
            close(file)
    except OSError:
        pass  # the tests must not suffer from it


QUIET = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan")
"""Options with which a session runs no test."""


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_cmdline_main(config: Any) -> Iterator[None]:
    _hide(config.pluginmanager)
    _State.depth += 1
    if _State.depth == 1:
        _State.begun, _State.collected = 0, False
        _tell("began")
    outcome: Any = yield
    _State.depth -= 1
    if _State.depth == 0 and outcome.excinfo is None:
        _tell("ended", int(outcome.get_result() or 0))


def pytest_collectreport(report: Any) -> None:
    if _State.depth == 1 and report.outcome != "passed":
        _tell("unread", report.nodeid, report.outcome)


def pytest_collection_finish() -> None:
    if _State.depth == 1:
        _State.collected = True


def pytest_runtest_logreport(report: Any) -> None:
    if _State.depth != 1:
        return
    _State.begun += report.when == "setup"
    if report.when != "call" and report.outcome == "passed":
        return
    expected = hasattr(report, "wasxfail")
    # A mark in the test itself says so whatever the code under test does.
    marked = ("xfail" if expected else "skip") in getattr(report, "keywords", ())
    _tell("test", report.nodeid, report.outcome, expected, marked)


def pytest_sessionfinish(session: Any) -> None:
    if _State.depth == 1:
        nothing_to_run = any(getattr(session.config.option, name, False) for name in QUIET)
        _tell("session", session.testscollected, _State.begun, _State.collected, nothing_to_run)


def _hide(plugins: Any) -> None:
    """Take our name out of the list of plugins that pytest prints."""
    listed = getattr(plugins, "_plugin_distinfo", None)
    if isinstance(listed, list):
        listed[:] = [(plugin, found) for plugin, found in listed if getattr(plugin, "__name__", "") != "claw_evidence"]


_tell("loaded")
