"""What runs inside: it needs nothing but the standard library, and sees rights that a container should not have."""

from __future__ import annotations

import ast
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runner.attack.inside
from runner.attack.entry import MODULES, Orders, argv, modules, read_report
from runner.attack.findings import Category
from runner.errors import SandboxError
from runner.sandbox import owner, profile
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef

INSIDE = Path(runner.attack.inside.__file__).parent
ORDERS = Orders(
    categories=("capabilities", "privileges"),
    canary="/nowhere",
    token="token",
    port=1,
    abstract="nowhere",
    namespaces={},
    uid=profile.UID,
    read_only=True,
    user_namespace=False,
    listed=None,
)


@pytest.mark.parametrize("path", sorted(INSIDE.glob("*.py")), ids=lambda path: path.name)
def test_what_runs_inside_uses_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    others = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert others <= {f"runner.attack.inside.{name}" for name in MODULES}


def test_what_is_no_report_is_an_error_that_shows_it() -> None:
    with pytest.raises(SandboxError, match="Killed"):
        read_report(b"some output\nKilled\n")


Attack = Callable[..., set[Category]]


@pytest.fixture
def leaking(engine: ContainerEngine, base_image: ImageRef, toolbox_volume: str) -> Iterator[Attack]:
    """`leaking(User=, **HostConfig)`: where a container leaks that no toolbox guards, with these settings."""
    name = f"claw-test-{uuid.uuid4().hex[:12]}"

    def attack(user: str = "1000:1000", **host: Any) -> set[Category]:
        python, *options, boot, orders = argv(ORDERS)
        boot = f"import io, sys; sys.stdin = io.StringIO(sys.argv.pop()); exec({boot!r})"
        sound = {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "NetworkMode": "none"}
        limits = [{"Name": name, "Soft": 4096, "Hard": 4096} for name in ("nofile", "nproc")]
        limits.append({"Name": "core", "Soft": 0, "Hard": 0})
        body = {
            "Image": base_image.reference,
            "Entrypoint": [python, *options, boot, orders, modules().decode()],
            "Cmd": [],
            "User": user,
            "Env": ["PYTHONHOME=/opt/claw"],
            "Labels": {owner.LABEL: "1", owner.OWNER: owner.mine()},
            "HostConfig": {"Binds": [f"{toolbox_volume}:/opt/claw:ro"], "Ulimits": limits, **sound, **host},
        }
        engine.api.post("/containers/create", body=body, name=name)
        engine.api.post(f"/containers/{name}/start")
        engine.api.post(f"/containers/{name}/wait")
        report = read_report(engine.api.client.logs(name, stderr=False))
        # The first process is the attack itself here.
        others = [found for found in report.findings if "the first process" not in found.name]
        return {found.category for found in others if found.status in ("hole", "error")}

    yield attack
    engine.api.delete(f"/containers/{name}", force="true", v="true")


@pytest.mark.engine
def test_without_capabilities_and_new_privileges_both_lines_hold(leaking: Attack) -> None:
    assert leaking() == set()


@pytest.mark.engine
def test_capabilities_that_were_added_are_a_hole(leaking: Attack) -> None:
    assert leaking(CapAdd=["CHOWN", "NET_RAW"]) == {"capabilities"}


@pytest.mark.engine
def test_new_privileges_are_a_hole(leaking: Attack) -> None:
    assert leaking(SecurityOpt=[]) == {"privileges"}


@pytest.mark.engine
def test_root_is_a_hole(leaking: Attack) -> None:
    assert "privileges" in leaking(user="0:0")
