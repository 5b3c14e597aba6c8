"""The red team: a sound sandbox holds everything, and one that lacks a control fails on that line and no other."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.attack import CATEGORIES, Category, Scorecard, attack
from runner.policy.loading import load_policy
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from tests.attack import altered
from tests.sandbox.weaker import Change, changed, weaker_engine

pytestmark = pytest.mark.engine

SMALL = {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000}
RULES = {
    "mode": "blacklist",
    "deny": ["Read(**/.env)", "Read(//etc/passwd)", "Edit(src/**)", "Edit(**/*.lock)", "Edit(//opt)"],
    "egress": ["listed.invalid", "*.listed.example"],
}
WITHOUT_REPOSITORY = frozenset(CATEGORIES) - {"path rules", "git"}
FLOODED = {"processes", "memory", "disk"}
WITHOUT_FLOODS = WITHOUT_REPOSITORY - FLOODED - {"privileges"}

Try = Callable[..., Scorecard]


@pytest.fixture
def red_team(tmp_path: Path, toolbox_volume: str, base_image: ImageRef) -> Try:
    """`red_team(engine, best_effort=, **policy)`; by default nothing is done that needs a repository."""

    def red_team(
        engine: ContainerEngine,
        *,
        best_effort: tuple[str, ...] = (),
        categories: frozenset[Category] = WITHOUT_REPOSITORY,
        host_variables: dict[str, str] | None = None,
        **keys: Any,
    ) -> Scorecard:
        container = {**SMALL, "best_effort": [*best_effort]}
        file = tmp_path / "policy.yaml"
        file.write_text(yaml.safe_dump({"version": 1, "mode": "blacklist", "container": container, **keys}))
        return attack(engine, load_policy(file), categories=categories, host_variables=host_variables or {})

    return red_team


def test_a_sound_sandbox_holds_everything_and_nothing_of_the_attack_is_left(
    engine: ContainerEngine, red_team: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    card = red_team(engine, categories=frozenset(CATEGORIES), **RULES)
    assert [*card.of("hole"), *card.of("error")] == []
    assert {found.category for found in card.of("held")} == set(CATEGORIES)
    assert len(card.of("held")) > 300
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yaml"]


def test_so_does_one_whose_workspace_lies_in_its_layer(engine: ContainerEngine, red_team: Try) -> None:
    categories: frozenset[Category] = frozenset(("mounts", "path rules", "git", "disk", "host files"))
    card = red_team(engine, categories=categories, container={**SMALL, "workspace": "layer"}, **RULES)
    assert [*card.of("hole"), *card.of("error")] == []
    assert any("modes allow it" in held.evidence for held in card.of("held"))


LEAKING: dict[str, set[Category]] = {
    "seccomp": {"namespaces", "system calls"},
    "masked_paths": {"/proc and /sys"},
    "read_only": {"mounts"},
    "host_mounts": {"mounts"},
    "devices": {"devices"},
    "pids": {"processes"},
    "cpus": {"processes"},
    "memory": {"memory"},
    "inodes": {"disk"},
    "file_size": {"disk"},
}


@pytest.mark.parametrize("control", list(LEAKING))
def test_a_control_that_did_not_take_is_a_hole_on_its_line_alone(
    engine: ContainerEngine, red_team: Try, control: str
) -> None:
    categories = WITHOUT_REPOSITORY if LEAKING[control] & FLOODED else WITHOUT_FLOODS
    # Without its limits on memory a container has none on swap, and without those on names another size.
    card = red_team(
        weaker_engine(engine, without=control), best_effort=(control, "swap", "disk"), categories=categories
    )
    assert set(card.leaking) == LEAKING[control]
    assert not card.of("error")
    # All but one are felt, and not only read back: how much a CPU does is not tried.
    felt = [hole for hole in card.of("hole") if not hole.name.startswith("control ")]
    assert bool(felt) == (control != "cpus")


@pytest.fixture
def engine_socket(tmp_path: Path) -> Iterator[Path]:
    """A socket that somebody listens on, as an engine does."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o666)
        yield path


def test_an_engine_socket_is_a_hole(engine: ContainerEngine, red_team: Try, engine_socket: Path) -> None:
    change = altered.mounted(engine_socket, "/run/podman/podman.sock")
    card = red_team(changed(engine, change), best_effort=("host_mounts",))
    assert "sockets" in card.leaking
    assert set(card.leaking) <= {"sockets", "mounts"}
    assert any("connected to" in hole.evidence for hole in card.of("hole"))


def test_the_hosts_files_are_a_hole(engine: ContainerEngine, red_team: Try) -> None:
    change = altered.mounted(Path("/tmp"), "/mnt", how="ro")
    card = red_team(changed(engine, change), categories=frozenset(("host files", "mounts", "devices")))
    assert set(card.leaking) == {"host files", "mounts"}


def test_the_hosts_network_is_a_hole(engine: ContainerEngine, red_team: Try) -> None:
    if engine.name != "docker":
        pytest.skip("podman does not start such a container in a user namespace")
    change: Change = lambda body: body.update(NetworkMode="host")  # noqa: E731
    lax = ("network", "resolv_conf")
    card = red_team(changed(engine, change), best_effort=lax, categories=WITHOUT_FLOODS)
    assert set(card.leaking) == {"egress", "namespaces", "sockets"}


def test_a_proxy_that_says_yes_is_a_hole(engine: ContainerEngine, red_team: Try) -> None:
    card = red_team(altered.Gullible(engine), categories=WITHOUT_FLOODS, egress=["listed.invalid"])
    assert card.leaking == ("proxy",)


def test_a_variable_of_the_host_is_a_hole_and_its_value_is_not_told(engine: ContainerEngine, red_team: Try) -> None:
    host = altered.Talkative.variables
    card = red_team(altered.Talkative(engine), categories=frozenset(("secrets",)), host_variables=host)
    assert card.leaking == ("secrets",)
    assert "BUILD_TOKEN" in str(card.of("hole"))
    assert host["BUILD_TOKEN"] not in card.model_dump_json()


@pytest.mark.parametrize("careless", [altered.Unconfined, altered.Unkept])
def test_commands_that_are_not_held_to_path_rules_are_a_hole(
    engine: ContainerEngine, red_team: Try, careless: type[ContainerEngine]
) -> None:
    card = red_team(careless(engine), categories=frozenset(("path rules", "mounts")), **RULES)
    assert card.leaking == ("path rules",)


def test_a_rule_that_nothing_can_hold_is_a_hole_that_says_so(engine: ContainerEngine, red_team: Try) -> None:
    card = red_team(engine, categories=frozenset(("path rules",)), deny=["Read(~/.aws/**)"])
    (hole,) = card.of("hole")
    assert "decided but not contained" in hole.evidence


def test_what_the_policy_asks_for_is_no_hole(engine: ContainerEngine, red_team: Try) -> None:
    card = red_team(engine, categories=frozenset(("mounts",)), container={**SMALL, "read_only": False})
    assert card.held
    assert "container.read_only" in card.of("not_applicable")[0].evidence
