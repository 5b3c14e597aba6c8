"""Each cheat is tried on one engine, in turn: what a check sees does not depend on it, and containers cost time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image, ensure_toolbox
from tests import conftest as fixtures
from tests.cheats.corpus import CHEATS, HONEST, NOT_CAUGHT, TOGETHER
from tests.cheats.project import Bench


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, cases in (("cheat", CHEATS), ("honest", HONEST), ("missed", NOT_CAUGHT), ("together", TOGETHER)):
        if name in metafunc.fixturenames:
            engines = list(fixtures._engines())
            each = [(case, engines[number % len(engines)]) for number, case in enumerate(cases) if engines]
            metafunc.parametrize((name, "on"), each, ids=[str(case) for case, _ in each], indirect=["on"])


@pytest.fixture
def on(request: pytest.FixtureRequest, once: Callable[[str], Any]) -> ContainerEngine:
    """The engine of this case, with the image and the toolbox on it."""
    return _ready(fixtures._engines()[request.param], once)


@pytest.fixture
def bench(on: ContainerEngine, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as opened:
        yield Bench(on, tmp_path, opened)


@pytest.fixture
def python_image(engine: ContainerEngine, once: Callable[[str], Any]) -> str:
    """The name of the image with Python and pytest, which is on the engine."""
    _ready(engine, once)
    return "python"


def _ready(engine: ContainerEngine, once: Callable[[str], Any]) -> ContainerEngine:
    with once(f"toolbox-{engine.name}"):
        ensure_toolbox(engine)
    with once(f"python-{engine.name}"):
        ensure_image(engine, "python")
    return engine
