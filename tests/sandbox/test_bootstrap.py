"""A base image from distribution packages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.sandbox import bootstrap
from runner.sandbox.bootstrap import Distribution, distribution, package_sources
from runner.sandbox.container import ContainerEngine
from tests.sandbox.plain import run

OF_OUR_OWN = pytest.mark.skipif(
    distribution() is None or not shutil.which("apt-get"), reason="this machine is neither Debian nor Ubuntu"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_CODENAME=bookworm\n',
            Distribution("debian", "bookworm"),
        ),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME="noble"\n', Distribution("ubuntu", "noble")),
        ("ID=fedora\nVERSION_ID=42\n", None),
        ("ID=debian\n", None),
    ],
)
def test_only_releases_of_debian_and_ubuntu_can_be_made(
    tmp_path: Path, text: str, expected: Distribution | None
) -> None:
    (tmp_path / "os-release").write_text(text)
    assert distribution(tmp_path / "os-release") == expected
    assert distribution(tmp_path / "missing") is None


@OF_OUR_OWN
def test_packages_come_from_where_this_machine_gets_them_and_from_nobody_else() -> None:
    release = distribution()
    assert release is not None
    found = package_sources(release.suite)
    assert any(line.split()[2:] == [release.suite, "main"] for line in found)
    assert {line.split()[3] for line in found} <= {"main", "universe"}
    assert package_sources("no-such-suite") == []


@OF_OUR_OWN
@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed")
@pytest.mark.engine
def test_a_base_made_from_packages_has_nothing_of_this_machine(engine: ContainerEngine) -> None:
    release = distribution()
    assert release is not None
    if not engine.api.exists(f"/images/{release.image}/json"):
        bootstrap.make_base(engine.api, release)
    assert run(engine, release.image, "cat", "/etc/apt/sources.list").stdout == bootstrap.SOURCES[release.name].format(
        suite=release.suite
    )
    traces = ("/etc/apt/apt.conf.d/99mmdebstrap", "/etc/apt/sources.list.d/0000sources.list", "/root/.bash_history")
    assert run(engine, release.image, "ls", *traces).stdout == ""
    assert run(engine, release.image, "bash", "-c", "apt-get --version | head -1; git --version").exit_code == 127
