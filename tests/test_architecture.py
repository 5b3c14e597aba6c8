"""Promises about the shape of the package: imports point down, there is no cycle, importing is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import runner

PACKAGE = Path(runner.__file__).parent

# From the bottom up. A module may import modules of its own layer and of the layers below it.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "runner",
        "runner.artifacts",
        "runner.cache",
        "runner.errors",
        "runner.masking",
        "runner.scratch",
        "runner.shipped",
        "runner.toolbox",
    ),
    (
        "runner.config",
        "runner.document",
        "runner.ledger",
        "runner.messages",
        "runner.policy",
        "runner.result",
        "runner.task",
        "runner.template",
        "runner.transcript",
    ),
    ("runner.approvals", "runner.egress", "runner.models", "runner.repo", "runner.report", "runner.sandbox"),
    ("runner.agents", "runner.tools"),
    (
        "runner.admission",
        "runner.attack",
        "runner.checks",
        "runner.enclosure",
        "runner.job",
        "runner.past",
        "runner.preparation",
        "runner.recorded",
        "runner.replay",
        "runner.resolve",
    ),
    ("runner.batch",),
    ("runner.cli", "runner.__main__"),
)
# Imported when used: the module that is made for one provider's SDK, whose import costs over a second. Commands are
# imported by name when they are called, so that --help is quick.
LAZY = {("runner.models.anthropic", "runner.models.sdk")}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


MODULES = dict(_modules())


def _imports(name: str) -> Iterator[tuple[str, bool]]:
    """The modules of the package that a module imports, and whether the import stands inside a function."""
    tree = ast.parse(MODULES[name].read_bytes())
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found = [f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in names]
            case ast.ImportFrom(module=module, names=names):
                # Inside the container the toolbox is a package of another name, so it alone imports relatively.
                assert name.startswith("runner.toolbox"), f"{name}: relative import; write the whole name"
                found = [f"runner.toolbox.{module or alias.name}" for alias in names]
            case _:
                continue
        for module in found:
            if module in MODULES:
                yield module, id(node) in inside


def _layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if any(name == entry or (entry != "runner" and name.startswith(f"{entry}.")) for entry in names):
            return number
    raise AssertionError(f"{name} is in no layer; add it to LAYERS in {Path(__file__).name}")


PRODUCT = [name for name in MODULES if not name.startswith("runner.toolbox")]


@pytest.mark.parametrize("name", PRODUCT)
def test_imports_point_down(name: str) -> None:
    up = [module for module, _ in _imports(name) if _layer(module) > _layer(name)]
    assert not up, f"{name} imports from a layer above it: {up}"


@pytest.mark.parametrize("name", PRODUCT)
def test_no_import_of_ours_hides_in_a_function(name: str) -> None:
    hidden = {(name, module) for module, inside in _imports(name) if inside}
    assert hidden <= LAZY


def test_there_is_no_import_cycle() -> None:
    graph = {name: {module for module, _ in _imports(name) if module != name} for name in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("runner.toolbox")])
def test_the_toolbox_uses_the_standard_library_alone(name: str) -> None:
    tree = ast.parse(MODULES[name].read_bytes())
    roots = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    roots |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
    # Where SHA-256 lies in Python 3.12 and newer; 3.11 has it elsewhere, and the toolbox tries both.
    assert roots <= {*sys.stdlib_module_names, "_sha2"}


def test_importing_the_job_imports_no_sdk() -> None:
    code = "import sys, runner.job; print({'anthropic', 'docker', 'podman', 'genai_prices'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "set()"
