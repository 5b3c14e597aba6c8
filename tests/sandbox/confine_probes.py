"""What a confined command might try. Runs inside, as the job's user, with the toolbox's Python; prints JSON.

Granted are: reading all but /etc/passwd and /workspace/home/keys; writing to src/ and .git/ of the repository, to
/workspace/home (but for keys), /tmp and /dev. Each attempt does one thing that is not granted; each use does one that
is. Output: name of the attempt -> what stopped it, or null when it got through; name of the use -> null, or the error.
Numbers of system calls: <asm/unistd_64.h>. The pid of an unconfined process of the same user is in /tmp/outsider.
"""
# ruff: noqa: PTH102, PTH104, PTH108, PTH208, PTH211

import ctypes
import json
import os
import platform
import socket
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
MEMFD_CREATE, RENAMEAT2, OPEN_TREE = (319, 316, 428) if platform.machine() == "x86_64" else (279, 276, 428)
RENAME_EXCHANGE = 2
FILE, SECRET, KEY = "docs/file", "/etc/passwd", "/workspace/home/keys/id"
ATTEMPTS, USES = {}, {}


def attempt(name, *arguments):
    def register(function):
        ATTEMPTS[name] = lambda: function(*arguments)
        return function

    return register


def use(function):
    USES[function.__name__.replace("_", " ")] = function
    return function


def system_call(number, *arguments):
    result = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def outsider():
    with open("/tmp/outsider") as file:
        return file.read().strip()


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def write(path, flags=os.O_WRONLY):
    os.close(os.open(path, flags, 0o600))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: PLW1510
    if done.returncode:
        raise OSError(done.returncode, done.stderr.strip())


for path in (SECRET, KEY, "/proc/self/root" + SECRET, "/proc/thread-self/root" + KEY):
    attempt(f"read {path}", path)(read)


@attempt("read through a link of one's own")
def _():
    os.symlink(KEY, "src/link")
    read("src/link")


@attempt("read from a folder that was opened before its name was looked up")
def _():
    folder = os.open("/workspace/home/keys", os.O_PATH)
    os.close(os.open("id", os.O_RDONLY, dir_fd=folder))


@attempt("read through a descriptor that cannot read")
def _():
    fd = os.open(KEY, os.O_PATH)
    read(f"/proc/self/fd/{fd}")


@attempt("read what is linked to a place that may be read")
def _():
    os.link(KEY, "src/hard")
    read("src/hard")


@attempt("read what was moved to a place that may be read")
def _():
    os.rename("/workspace/home/keys", "src/keys")


@attempt("run a file that may not be read")
def _():
    os.execv("/workspace/home/keys/run", ["run"])


@attempt("read in a program without a file")
def _():
    fd = system_call(MEMFD_CREATE, b"program", 0)
    os.write(fd, b"#!/bin/sh\nexec cat /workspace/home/keys/id\n")
    run(f"/proc/{os.getpid()}/fd/{fd}")


@attempt("read in another shell")
def _():
    run("/bin/sh", "-c", f"cat {KEY}")


@attempt("read by git")
def _():
    run("/opt/claw/bin/git", "hash-object", KEY)


for name in (f"root{SECRET}", "cwd/id", "fd/9", "environ", "mem", "maps"):
    attempt(f"read {name} of an unconfined process", name)(lambda name: read(f"/proc/{outsider()}/{name}"))


@attempt("read by mounting elsewhere")
def _():
    system_call(OPEN_TREE, -100, b"/etc", 1)


for flags in ("O_WRONLY", "O_RDWR", "O_WRONLY | O_APPEND", "O_TRUNC", "O_WRONLY | O_TRUNC"):
    value = sum(getattr(os, flag) for flag in flags.split(" | "))
    attempt(f"open with {flags}", FILE, value)(write)
attempt("cut off", FILE, 0)(os.truncate)
attempt("make a file", "docs/new", os.O_WRONLY | os.O_CREAT)(write)
attempt("make a file without a name", "docs", os.O_WRONLY | os.O_TMPFILE)(write)
attempt("make a folder", "docs/new")(os.mkdir)
attempt("make a link", "/etc", "docs/new")(os.symlink)
attempt("make a pipe", "docs/new")(os.mkfifo)
attempt("make a socket", "docs/new")(lambda path: socket.socket(socket.AF_UNIX).bind(path))
attempt("remove a file", FILE)(os.unlink)
attempt("remove a folder", "docs/sub")(os.rmdir)
attempt("rename", FILE, "docs/other")(os.rename)
attempt("move out", FILE, "src/other")(os.rename)
attempt("move in", "src/own", "docs/own")(os.rename)
attempt("move over", "src/own", FILE)(os.replace)
attempt("move a granted folder", "src", "/workspace/home/there/src")(os.rename)
attempt("make something beside a granted folder", "new")(os.mkdir)
attempt("exchange", RENAMEAT2, -100, b"src/own", -100, FILE.encode(), RENAME_EXCHANGE)(system_call)
attempt("link in", "src/own", "docs/own")(os.link)
attempt("write in a granted folder that has become a link", "way/file")(write)
attempt("write below a folder with something left out", "/workspace/home/new", os.O_WRONLY | os.O_CREAT)(write)
attempt("write through /proc", f"/proc/self/cwd/{FILE}")(write)


@attempt("write what is linked to a granted place")
def _():
    os.link(FILE, "src/linked")
    write("src/linked")


@attempt("write through a descriptor that cannot write")
def _():
    fd = os.open(FILE, os.O_RDONLY)
    write(f"/proc/self/fd/{fd}")


@attempt("write from within the folder")
def _():
    run("/bin/sh", "-c", "cd docs && echo x >file")


@use
def write_where_it_is_granted():
    for path in ("src/new", "/tmp/new", ".git/new", "/dev/null"):
        write(path, os.O_WRONLY | os.O_CREAT)


@use
def move_between_granted_folders():
    os.mkdir("src/folder")
    os.rename("src/folder", "/workspace/repo/.git/folder")
    os.rename(".git/folder", "src/folder")


@use
def remove_what_is_ones_own():
    write("src/gone", os.O_WRONLY | os.O_CREAT)
    os.unlink("src/gone")


@use
def write_beside_what_is_left_out():
    write("/workspace/home/there/new", os.O_WRONLY | os.O_CREAT)


@use
def read_beside_what_is_left_out():
    read("/etc/group")
    os.listdir("/etc")


@use
def use_a_socket_in_tmp():
    server = socket.socket(socket.AF_UNIX)
    server.bind("/tmp/socket")
    server.listen()
    socket.socket(socket.AF_UNIX).connect("/tmp/socket")


@use
def use_a_file_without_a_name():
    write("/tmp", os.O_RDWR | os.O_TMPFILE)


@use
def run_a_shell_and_its_children():
    run("/bin/sh", "-c", "ls / >/dev/null && cat docs/file | cat >src/copy")


@use
def signal_other_processes_of_the_user():
    os.kill(int(outsider()), 0)


@use
def have_only_the_descriptors_of_the_call():
    extra = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 3]
    if extra:
        raise OSError(0, f"also has {extra}")


def outcome(function):
    try:
        function()
    except OSError as error:
        return str(error)
    return None


def main():
    used = {name: outcome(function) for name, function in USES.items()}
    stopped = {name: outcome(function) for name, function in ATTEMPTS.items()}
    print(json.dumps({"used": used, "stopped": stopped}))


if __name__ == "__main__":
    main()
