"""Collect Python, git and ripgrep of this distribution, with all they load, into one tree that runs in any image.

    bin/            python3, git, rg: loader and library path are written into the files (patchelf), so that
                    the kernel starts them directly, whatever libc the image has or lacks
    lib/            ld.so (the loader), shared libraries, python3.N (standard library), git (link to libexec/git-core)
    libexec/        git-core: `git` under the names git calls it by, and its shell scripts
    share/          git-tmpl: git's template folder, empty
    path/           git and rg alone, for the end of the commands' PATH

Runs in the image build, with the distribution's own python3; usage: assemble.py TREE. Fails when anything that it
expects of the distribution is not there.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

TREE = Path("/opt/claw")
"""Where the tree lies at run time: written into its files."""

# What needs a terminal, a display, a database, the network or a compiler has no use inside; neither have tests.
# OpenSSL (_ssl, _hashlib) costs 6 MB and milliseconds at every start: nothing in a job has a network, and hashlib has
# its own implementations.
UNUSED_LIBRARY = (
    "__phello__ config-* curses dbm dist-packages distutils ensurepip idlelib lib2to3 pydoc_data site-packages "
    "sitecustomize.py sqlite3 test tkinter turtle.py turtledemo venv EXTERNALLY-MANAGED lib-dynload __pycache__ tests"
)
UNUSED_MODULES = (
    "_crypt _ctypes_test _curses _curses_panel _dbm _gdbm _hashlib _sqlite3 _ssl _test* _tkinter _xx* nis ossaudiodev "
    "readline xx*"
)
UNUSED_GIT = "git-daemon git-http-* git-imap-send git-remote-* git-shell scalar"

# Same length, same place: paths that the files would look up outside the tree.
MOVED_IN_GIT = {
    b"/usr/lib/git-core": b"/opt/claw/lib/git",
    b"share/git-core/templates": b"/opt/claw/share/git-tmpl",
}
# An image's /etc/ld.so.preload, library cache or name service switch would bring the image's libraries into our
# processes; these names do not exist, and glibc has sound answers for that.
MOVED_IN_LOADER = {
    b"/etc/ld.so.cache": b"/opt/claw/lib/-c",
    b"/etc/ld.so.preload": b"/opt/claw/lib/-pre",
}
MOVED_IN_LIBC = {b"/etc/nsswitch.conf": b"/opt/claw/lib/-nss"}


def main(tree: Path) -> None:
    for folder in ("bin", "lib", "libexec/git-core", "share/git-tmpl", "path"):
        (tree / folder).mkdir(parents=True)
    loader = Path(run("patchelf", "--print-interpreter", sys.executable))
    for name, source in {"python3": sys.executable, "git": shutil.which("git"), "rg": shutil.which("rg")}.items():
        copy_program(Path(source).resolve(), tree / "bin" / name)
    replace(tree / "bin/git", MOVED_IN_GIT)
    copy_git(tree)
    copy_library(tree)
    copy_shared_objects(tree, loader)
    for name in ("git", "rg"):
        (tree / "path" / name).symlink_to(f"../bin/{name}")


def copy_program(source: Path, target: Path) -> None:
    """Copy an ELF program and make it start from the tree. DT_RPATH, because it goes before LD_LIBRARY_PATH."""
    shutil.copy(source, target)
    run("patchelf", "--set-interpreter", f"{TREE}/lib/ld.so", "--force-rpath", "--set-rpath", f"{TREE}/lib", target)


def copy_git(tree: Path) -> None:
    """git's programs: most are git itself, by another name."""
    source = Path("/usr/lib/git-core")
    target = tree / "libexec/git-core"
    git = (source / "git").read_bytes()
    for path in sorted(source.iterdir()):
        if path.is_dir() or any(path.match(pattern) for pattern in UNUSED_GIT.split()):
            continue
        content = path.read_bytes()
        if content == git:
            (target / path.name).symlink_to("../../bin/git")
        elif content.startswith(b"\x7fELF"):
            copy_program(path, target / path.name)
        elif not content.startswith(b"#!/usr/bin/perl"):
            shutil.copy(path, target)
    (tree / "lib/git").symlink_to("../libexec/git-core")


def copy_library(tree: Path) -> None:
    """The standard library, compiled so that no time stamp is compared: a volume may not keep them."""
    source = Path(sysconfig.get_path("stdlib"))
    target = tree / "lib" / source.name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*UNUSED_LIBRARY.split()))
    shutil.copytree(
        source / "lib-dynload",
        target / "lib-dynload",
        ignore=shutil.ignore_patterns(*UNUSED_MODULES.replace(" ", ".* ").split()),
    )
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    unchecked = compileall.PycInvalidationMode.UNCHECKED_HASH if hasattr(compileall, "PycInvalidationMode") else None
    compileall.compile_dir(target, quiet=1, invalidation_mode=unchecked, stripdir=str(tree), prependdir=str(TREE))


def copy_shared_objects(tree: Path, loader: Path) -> None:
    """The loader and every library that something in the tree names."""
    shutil.copy(loader, tree / "lib/ld.so")
    replace(tree / "lib/ld.so", MOVED_IN_LOADER)
    found = {}
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF":
            found.update(needed(path, loader))
    for name, path in found.items():
        shutil.copy(path, tree / "lib" / name)
    replace(tree / "lib/libc.so.6", MOVED_IN_LIBC)


def needed(path: Path, loader: Path) -> dict[str, Path]:
    """Shared libraries that an ELF file loads, by the name it calls them. The distribution's loader finds them."""
    listed = run(loader, "--list", path)
    assert "not found" not in listed, listed
    return {name: Path(where) for name, where in re.findall(r"^\s*(lib\S+) => (/\S+) ", listed, re.MULTILINE)}


def replace(path: Path, moved: dict[bytes, bytes]) -> None:
    """Replace NUL-terminated strings of a program by others of the same length."""
    content = path.read_bytes()
    for old, new in moved.items():
        assert len(old) == len(new), (old, new)
        assert b"\0" + old + b"\0" in content, (path, old)
        content = content.replace(b"\0" + old + b"\0", b"\0" + new + b"\0")
    path.write_bytes(content)


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
