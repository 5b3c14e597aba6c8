"""A base image without a registry: made of this machine's own distribution, from its packages, by mmdebstrap.

The packages come from wherever this machine's apt gets them; what the image says about package sources is what the
distribution says, so that it has nothing of this machine in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runner.errors import ImageNotFound
from runner.sandbox import owner
from runner.sandbox.api import Api
from runner.sandbox.build import load

SECONDS = 1800
"""For mmdebstrap, which needs some 20 s where a mirror is near."""

SOURCES = {
    "debian": """\
deb http://deb.debian.org/debian {suite} main
deb http://deb.debian.org/debian {suite}-updates main
deb http://deb.debian.org/debian-security {suite}-security main
""",
    "ubuntu": """\
deb http://archive.ubuntu.com/ubuntu {suite} main universe
deb http://archive.ubuntu.com/ubuntu {suite}-updates main universe
deb http://security.ubuntu.com/ubuntu {suite}-security main universe
""",
}
# As the registry's slim images do it.
NO_DOCUMENTATION = (
    *("path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright", "path-exclude=/usr/share/man/*"),
    *("path-exclude=/usr/share/info/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/lintian/*"),
)
# What mmdebstrap leaves of this machine and of its own settings.
TRACES = ("/etc/apt/sources.list.d/*", "/etc/apt/apt.conf.d/99mmdebstrap", "/etc/hostname", "/etc/resolv.conf")


class Distribution(NamedTuple):
    """A Debian or Ubuntu release."""

    name: str
    suite: str

    @property
    def image(self) -> str:
        """What its base image is called on every engine."""
        return f"claw-runner/{self.name}:{self.suite}"


def distribution(os_release: Path = Path("/etc/os-release")) -> Distribution | None:
    """What this machine runs, by os-release(5); None when it is neither Debian nor Ubuntu."""
    try:
        pairs = dict(line.split("=", 1) for line in os_release.read_text().splitlines() if "=" in line)
    except OSError:
        return None
    name, suite = (pairs.get(key, "").strip("\"'") for key in ("ID", "VERSION_CODENAME"))
    return Distribution(name, suite) if name in SOURCES and suite else None


def make_base(api: Api, release: Distribution) -> None:
    """Make the base image of this machine's release and import it. Raises ImageNotFound with what is lacking."""
    if not (program := shutil.which("mmdebstrap")):
        raise ImageNotFound(
            "mmdebstrap, which makes a base image from packages, is not installed: apt-get install mmdebstrap"
        )
    with tempfile.TemporaryDirectory(prefix="claw-runner-base-") as folder:
        archive = Path(folder, "base.tar")
        _run(list(_mmdebstrap(program, release, Path(folder), archive)))
        with archive.open("rb") as stream:
            load(api, release.image, stream, changes=[f"LABEL {owner.LABEL}=1", 'CMD ["/bin/bash"]'])


def _mmdebstrap(program: str, release: Distribution, folder: Path, archive: Path) -> Iterator[str]:
    """The command that writes the archive; its files lie in `folder`."""
    canonical = SOURCES[release.name].format(suite=release.suite)
    mirror, final, settings = folder / "mirror.list", folder / "sources.list", folder / "apt.conf"
    mirror.write_text("\n".join(package_sources(release.suite)) or canonical)
    final.write_text(canonical)
    settings.write_text("\n".join(acquire_settings()))
    yield from (program, "--variant=minbase", "--include=ca-certificates", "--format=tar", f"--aptopt={settings}")
    yield from (f"--dpkgopt={line}" for line in NO_DOCUMENTATION)
    traces = " ".join(f'"$1"{path}' for path in TRACES)
    yield f"--customize-hook=upload {final} /etc/apt/sources.list"
    yield f"--customize-hook=rm -rf {traces}"
    yield from (release.suite, str(archive), str(mirror))


def package_sources(suite: str) -> list[str]:
    """Where this machine's apt gets the release from, as sources.list(5) lines; not what others have added to it."""
    files = _run(["apt-get", "update", "--print-uris"])
    found = re.findall(r"^'(\S+)/dists/([^/\s]+)/(main|universe)/binary-[^/\s]+/Packages", files, re.MULTILINE)
    suites = (suite, f"{suite}-updates", f"{suite}-security")
    return list(dict.fromkeys(f"deb {url} {name} {component}" for url, name, component in found if name in suites))


def acquire_settings() -> list[str]:
    """This machine's apt settings for getting packages: proxies, certificate authorities, checks of dates."""
    return re.findall(r"^Acquire::(?:https?::|Check-|Retries).*;$", _run(["apt-config", "dump"]), re.MULTILINE)


def _run(command: list[str]) -> str:
    """Standard output. Raises ImageNotFound with the last lines of standard error when the command fails."""
    variables = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=variables,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageNotFound(f"no base image could be made from packages: {error}") from error
    if done.returncode:
        last = "\n  ".join(done.stderr.strip().splitlines()[-10:])
        raise ImageNotFound(f"no base image could be made from packages: {command[0]} failed:\n  {last}")
    return done.stdout
