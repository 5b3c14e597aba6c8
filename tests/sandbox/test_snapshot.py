"""Snapshots on real engines: what a container finds that starts from one, and which of them stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main
from runner.errors import ControlNotEnforced, SandboxError
from runner.sandbox import owner, snapshot
from runner.sandbox.base import REPO, Filled, Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.sandbox.snapshot import Snapshots, key_of, remove_snapshots
from tests import images
from tests.conftest import sandbox_config
from tests.snapshots import remove_snapshots_of

pytestmark = pytest.mark.engine

Open = Callable[..., Sandbox]
PLENTY = 1 << 50
LEFT = (b"build/", b"odd \xff name", b"new\nline")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that anybody else has noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def key(engine: ContainerEngine, tmp_path: Path, own_cache: None) -> Iterator[Callable[[str], str]]:
    """`key(name)`: one that no other test has; its snapshot is removed at the end."""
    made = []

    def of(name: str) -> str:
        made.append(key_of({"test": str(tmp_path), "name": name}))
        return made[-1]

    yield of
    snapshots = Snapshots(engine.api, space=0)
    for name in made:
        with snapshots.used(name):
            pass  # noted as this cache's, whoever made it
    remove_snapshots_of(engine)


@pytest.fixture
def snapshots(engine: ContainerEngine) -> Snapshots:
    return Snapshots(engine.api, space=PLENTY)


@pytest.fixture
def open_layer(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, key: Callable[[str], str]
) -> Iterator[Open]:
    """`open_layer(filled, **container)`: a sandbox whose workspace lies in the container's layer."""
    with ExitStack() as opened:

        def opener(filled: Filled | None = None, *, image: ImageRef = base_image, **container: Any) -> Sandbox:
            config: SandboxConfig = sandbox_config(image, toolbox_volume, workspace="layer", **container)
            return opened.enter_context(engine.open_sandbox(replace(config, filled=filled)))

        yield opener


def shown(sandbox: Sandbox) -> list[bytes]:
    """Everything in the workspace: kind, mode, owner, name, target; of files seconds and links, too, and contents."""
    find = "find . -printf '%y %m %U:%G %p %l\\n'; find . ! -type d -printf '%p %Ts %n\\n'"
    listing = f"cd /workspace && ({find}) | sort; cat repo/file repo/odd*; id -u"
    return sandbox.exec(listing, head_bytes=100_000).output.splitlines()


def filled(sandbox: Sandbox) -> None:
    script = (
        "echo content > file; chmod 640 file; ln file hard; ln -s /etc/passwd link; mkdir -p build/deep; mkfifo pipe; "
        "echo odd > \"$(printf 'odd \\377 name')\"; echo x > $HOME/.config; touch -d '2001-02-03 04:05:06' old; "
        "chmod 750 build; echo script > run; chmod 755 run"
    )
    assert sandbox.exec(script).ok


def test_a_container_starts_with_what_the_workspace_had(
    snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    first = open_layer()
    filled(first)
    before = shown(first)
    made = snapshots.make(key("one"), first, left=LEFT)
    assert shown(first) == before
    assert shown(open_layer(made.filled)) == before
    with snapshots.used(key("one")) as found:
        assert found == made
    assert made.left == LEFT


def test_what_one_container_changes_no_other_one_sees(
    snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    first = open_layer()
    filled(first)
    made = snapshots.make(key("one"), first, left=())
    before = shown(open_layer(made.filled))
    assert open_layer(made.filled).exec("rm -rf /workspace/repo/* $HOME/.config; echo x > new").ok
    assert shown(open_layer(made.filled)) == before


def test_an_unknown_key_has_none(snapshots: Snapshots, key: Callable[[str], str]) -> None:
    with snapshots.used(key("none")) as found:
        assert found is None


def test_one_that_was_not_finished_is_never_started_from_and_goes(
    engine: ContainerEngine, snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    name = key("killed")
    code = "from runner.sandbox import owner; print(owner.mine())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    sandbox = open_layer()
    labels = {owner.LABEL: "1", owner.OWNER: dead, snapshot.KEY: name, snapshot.FACTS: "{}"}
    snapshot._commit(engine.api, sandbox, tag=f"making-{name[:16]}", labels=labels)
    with snapshots.used(name) as found:
        assert found is None
    snapshots.make_room()
    assert name not in {image["Labels"][snapshot.KEY] for image in snapshot.listed(engine.api)}


def keys_of(engine: ContainerEngine, *, among: list[str]) -> list[str]:
    there = {image["Labels"][snapshot.KEY] for image in snapshot.listed(engine.api)}
    return [key for key in among if key in there]


def test_the_least_recently_used_go_when_there_is_too_much(
    engine: ContainerEngine, open_layer: Open, key: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key(name) for name in ("oldest", "older", "newest")]
    listed = snapshot.listed
    mine = lambda api: [image for image in listed(api) if image["Labels"][snapshot.KEY] in keys]  # noqa: E731
    monkeypatch.setattr(snapshot, "listed", mine)  # other tests' are none of its business
    snapshots = Snapshots(engine.api, space=4_500_000)
    sandbox = open_layer()
    assert sandbox.exec("head -c 2000000 /dev/urandom > file").ok
    for name in keys[:2]:
        snapshots.make(name, sandbox, left=())
        _used_at(snapshots, name, time.time() - 1000 + keys.index(name))
    assert keys_of(engine, among=keys) == keys[:2]
    with snapshots.used(keys[0]):
        pass
    snapshots.make(keys[2], sandbox, left=())
    assert keys_of(engine, among=keys) == [keys[0], keys[2]]


def _used_at(snapshots: Snapshots, key: str, when: float) -> None:
    os.utime(snapshots._file(key), (when, when))


def test_one_that_a_container_runs_on_stays(
    engine: ContainerEngine, open_layer: Open, key: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = key("in use")
    listed = snapshot.listed
    mine = lambda api: [image for image in listed(api) if image["Labels"][snapshot.KEY] == name]  # noqa: E731
    monkeypatch.setattr(snapshot, "listed", mine)
    made = Snapshots(engine.api, space=PLENTY).make(name, open_layer(), left=())
    user = open_layer(made.filled)
    Snapshots(engine.api, space=0).make_room()
    assert [left.error != "" for left in remove_snapshots(engine.api)] == [True]
    assert user.exec("true").ok
    assert keys_of(engine, among=[name]) == [name]


def test_clean_finds_them(
    engine: ContainerEngine,
    snapshots: Snapshots,
    open_layer: Open,
    key: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = snapshots.make(key("to clean"), open_layer(), left=())
    assert main(["clean", "--snapshots", "--dry-run", "--json", "--engine", engine.name]) == 0
    found = [one for one in json.loads(capsys.readouterr().out) if one["kind"] == "snapshot"]
    assert [one["name"].endswith(made.filled.reference) for one in found].count(True) == 1


# --- a workspace in the layer


def test_the_root_cannot_be_written_although_it_is_mounted_writable(open_layer: Open) -> None:
    sandbox = open_layer()
    control = next(control for control in sandbox.report.controls if control.name == "read_only")
    assert (control.status, "Landlock" in control.effective) == ("hard", True)
    open_to_us = "-writable ! -path '/workspace*' ! -path '/tmp*' ! -path '/[dp]*' 2>/dev/null"
    script = (
        f"for d in $(find / -xdev -type d {open_to_us}); do "
        "echo tried $d; touch $d/x 2>/dev/null && echo made $d/x; mkdir $d/y 2>/dev/null && echo made $d/y; "
        "ln -s / $d/z 2>/dev/null && echo made $d/z; done; "
        f"for f in $(find / -xdev -type f {open_to_us}); do "
        ": 2>/dev/null >> $f && echo changed $f; done; touch /x /etc/x /usr/x"
    )
    output = sandbox.exec(script).output.decode()
    assert "tried /var/tmp" in output
    assert "made" not in output
    assert "changed" not in output
    with pytest.raises(PermissionError):
        sandbox.write_file("/var/tmp/x", b"by the toolbox")
    assert sandbox.exec("echo x > /tmp/x && echo x > /workspace/x && echo x > $HOME/x && echo > /dev/null").ok


def test_commands_end_that_fill_the_disk_and_others_may_make_room(open_layer: Open) -> None:
    sandbox = open_layer(disk="32m")
    full = sandbox.exec("for i in 1 2 3 4 5 6 7 8; do head -c 20000000 /dev/zero > big$i; done; sleep 60", seconds=120)
    assert full.over_quota
    assert not full.timed_out
    assert sandbox.exec("rm big*; sleep 1").ok
    assert sandbox.exec("head -c 20000000 /dev/zero > big; sleep 1").ok


def test_commands_end_that_make_too_many_files(open_layer: Open) -> None:
    script = "i=0; while [ $i -lt 100000 ]; do : > f$i; i=$((i+1)); done; sleep 100"
    assert open_layer(inodes=1000).exec(script, seconds=120).over_quota


def test_the_bounds_are_told_as_watched(open_layer: Open) -> None:
    controls = {control.name: control for control in open_layer().report.controls}
    assert (controls["disk"].status, controls["inodes"].status) == ("soft", "soft")
    assert "watched" in controls["disk"].effective


def test_what_a_snapshot_holds_does_not_count(
    snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    first = open_layer(disk="64m")
    assert first.exec("head -c 30000000 /dev/urandom > big").ok
    made = snapshots.make(key("big"), first, left=())
    assert made.filled.usage.bytes > 30_000_000
    assert open_layer(made.filled, disk="32m").exec("head -c 20000000 /dev/urandom > more; sleep 1").ok


def test_an_image_that_has_something_in_the_workspace_is_refused(
    engine: ContainerEngine, snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    sandbox = open_layer()
    filled(sandbox)
    made = snapshots.make(key("as image"), sandbox, left=())
    image = ImageRef(reference=made.filled.reference, digest="")
    with pytest.raises(ControlNotEnforced, match="has something there"):
        open_layer(image=image)


def test_an_image_that_declares_a_volume_there_is_refused(engine: ContainerEngine, open_layer: Open) -> None:
    image = images.derived(engine, "claw-test/volumes:1", ["VOLUME /data", "VOLUME /workspace"])
    with pytest.raises(ControlNotEnforced, match="declares a volume"):
        open_layer(image=image)


def test_what_was_kept_from_commands_is_so_in_a_snapshot(
    snapshots: Snapshots, open_layer: Open, key: Callable[[str], str]
) -> None:
    first = open_layer()
    filled(first)
    first.keep(unreadable=["run"], unwritable=["file", "build"])
    sandbox = open_layer(snapshots.make(key("kept"), first, left=()).filled)
    sandbox.keep(unreadable=["run"], unwritable=["file", "build"])
    with pytest.raises(SandboxError, match="other paths are kept already"):
        sandbox.keep(unreadable=[], unwritable=["old"])
    assert not sandbox.exec("cat run").ok
    assert not sandbox.exec(f"echo x > file; mv file other; rm -f file; mv {REPO} /workspace/away; test ! -e file").ok
    assert sandbox.read_file(f"{REPO}/file") == b"content\n"
