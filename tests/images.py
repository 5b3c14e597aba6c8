"""Images for the tests, made from distribution packages, because no registry may be there."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

from runner.sandbox.build import load
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef, ensure_image

BUSYBOX = "claw-test/busybox:1"
ALPINE = "claw-test/alpine:1"
ALPINE_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/ash\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    "etc/group": b"root:x:0:root\nnobody:x:65534:\n",
    "etc/os-release": b'ID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME="Alpine Linux v3.20"\n',
    "etc/profile": b"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
}


def busybox(engine: ContainerEngine) -> ImageRef:
    """Nothing but /bin/busybox and /bin/sh."""
    return derived(engine, BUSYBOX, [])


def alpine(engine: ContainerEngine) -> ImageRef:
    """Alpine's layout and programs: every busybox applet as a link, musl's loader, no shell but ash."""
    if not engine.api.exists(f"/images/{ALPINE}/json"):
        with tempfile.TemporaryDirectory() as folder:
            program = _unpacked("busybox-static", Path(folder)) / "bin/busybox"
            loader = _unpacked("musl", Path(folder)) / "lib/x86_64-linux-musl/libc.so"
            listed = subprocess.run([program, "--list-full"], capture_output=True, check=True, text=True).stdout.split()
            links = {name: "/bin/busybox" for name in listed if name != "bin/busybox"}
            files = {"bin/busybox": program.read_bytes(), "lib/ld-musl-x86_64.so.1": loader.read_bytes()}
        load(engine.api, ALPINE, _archive(files | ALPINE_FILES, links), changes=())
    return ensure_image(engine, ALPINE)


def derived(engine: ContainerEngine, tag: str, changes: list[str]) -> ImageRef:
    """The busybox image with further Containerfile lines."""
    if not engine.api.exists(f"/images/{tag}/json"):
        with tempfile.TemporaryDirectory() as folder:
            program = (_unpacked("busybox-static", Path(folder)) / "bin/busybox").read_bytes()
        load(engine.api, tag, _archive({"bin/busybox": program}, {"bin/sh": "busybox"}), changes=changes)
    return ensure_image(engine, tag)


def _unpacked(package: str, folder: Path) -> Path:
    """The files of a Debian package, fetched with apt and not installed."""
    target = folder / f"{package}-files"
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, capture_output=True, timeout=120)
    archive = next(folder.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "--extract", archive, target], check=True, capture_output=True, timeout=60)
    return target


def _archive(files: dict[str, bytes], links: dict[str, str]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644 if name.startswith("etc/") else 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    buffer.seek(0)
    return buffer
