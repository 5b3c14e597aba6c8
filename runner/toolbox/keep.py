"""Paths that change hands: from the job's user to the keeper, as whom nothing ever runs.

Nobody in here may change an owner (that takes CAP_CHOWN). So the keeper copies what it is to have, and the job's user,
whose it was, removes the original. Every folder on the way to it becomes the keeper's too, with mode 1777: the sticky
bit lets the job's user make, rename and remove what is its own there, and nothing else. So what is kept can neither be
changed nor got out of the way, whatever a command does.

Paths are bytes. No process of the job's user may run meanwhile: nothing here minds what one could swap in.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import EINVAL, ELOOP, EPERM

from . import files, privileges

KEEPER = 1001
"""User and group of the keeper: neither the toolbox's nor a job's."""
SHARED = 0o1777
COPY_BYTES = 1 << 20


class Place:
    """A path in the repository: what is to become of it, and the places below it."""

    def __init__(self) -> None:
        self.kept = False
        self.readable = True
        self.below: dict[bytes, Place] = {}


class Piece:
    """What is to be copied, where to, whether the job's user may read it, and what is said of places below."""

    __slots__ = ("place", "readable", "source", "target")

    def __init__(self, source: bytes, target: bytes, place: Place, *, readable: bool) -> None:
        self.source, self.target, self.place, self.readable = source, target, place, readable


def plan(repo: bytes, unreadable: list[bytes], unwritable: list[bytes]) -> Place:
    """The places that these paths name, from the repository down. Raises OSError for a path that is not in it."""
    root = Place()
    for paths, readable in ((unwritable, True), (unreadable, False)):
        for path in paths:
            place = root
            for name in names_of(repo, path):
                place = place.below.setdefault(name, Place())
            place.kept, place.readable = True, readable
    return root


def names_of(repo: bytes, path: bytes) -> list[bytes]:
    full = os.path.join(repo, path)
    files.split(full)
    names = files.below(repo, full)
    if names is None:
        raise OSError(EINVAL, "not in the repository", path)
    return names


def is_done(path: bytes, place: Place) -> bool:
    """Whether what there is of these places is the keeper's already, as far as its folders are.

    To be asked with the rights of the job's user, who cannot see into what it may not read, nor change it.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    if found.st_uid != KEEPER:
        return not place.kept and not any(there(os.path.join(path, name)) for name in place.below)
    return place.kept or all(is_done(os.path.join(path, name), below) for name, below in place.below.items())


def there(path: bytes) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class Handover:
    """Gives what `plan` named to the keeper. The first error ends it, and leaves the repository as it is then."""

    def __init__(self, uid: int, gid: int) -> None:
        """The job's user."""
        self._uid, self._gid = uid, gid

    def run(self, repo: bytes, root: Place) -> bool:
        """False when there was nothing to keep. Raises OSError, naming the path that could not be given away."""
        if os.geteuid() != 0:
            raise PermissionError(EPERM, "only a toolbox that is root can give files to another user", repo)
        self._as_user()
        if not self._there(repo, root):
            return False
        self._check_parent(os.path.dirname(repo))
        self._give(repo, root)
        return True

    def _there(self, path: bytes, place: Place) -> bool:
        """Whether the place, or one below it, is to be kept and exists; forgets those below that do not."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISLNK(mode) and place.below:
            raise OSError(ELOOP, "a link is in the way of what is to be kept", path)
        below = place.below.items() if stat.S_ISDIR(mode) else ()
        place.below = {name: deeper for name, deeper in below if self._there(os.path.join(path, name), deeper)}
        return place.kept or bool(place.below)

    def _check_parent(self, folder: bytes) -> None:
        """The repository itself must stay where it is, too."""
        found = os.lstat(folder)
        if found.st_uid == self._uid or not found.st_mode & stat.S_ISVTX:
            raise PermissionError(EPERM, "the job's user could rename what is in it", folder)

    def _give(self, path: bytes, place: Place) -> None:
        if place.kept:
            self._give_all(path, place)
            return
        found = self._give_folder(path)
        for name, below in place.below.items():
            self._give(os.path.join(path, name), below)
        self._as_keeper()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _give_folder(self, path: bytes) -> os.stat_result:
        """The folder alone; what is in it moves over as it is. Returns what the folder was like."""
        found = self._open_up(path)
        new = beside(path)
        self._as_keeper()
        os.mkdir(new)
        os.chmod(new, SHARED)
        self._as_user()
        for name in os.listdir(path):
            move(os.path.join(path, name), os.path.join(new, name))
        os.rmdir(path)
        self._as_keeper()
        os.rename(new, path)
        return found

    def _give_all(self, path: bytes, place: Place) -> None:
        """A file, a link, or a folder with all below it."""
        new = beside(path)
        todo = [Piece(path, new, place, readable=place.readable)]
        folders: list[tuple[Piece, os.stat_result]] = []
        while todo:
            piece = todo.pop()
            found = self._mine(piece.source)
            if stat.S_ISDIR(found.st_mode):
                todo += self._enter(piece)
                folders.append((piece, found))
            elif stat.S_ISREG(found.st_mode):
                self._copy_file(piece, found)
            elif stat.S_ISLNK(found.st_mode):
                self._copy_link(piece, found)
            else:
                raise OSError(EINVAL, "neither a file nor a folder nor a link", piece.source)
        for piece, found in reversed(folders):
            self._leave(piece, found)
        self._as_keeper()
        os.rename(new, path)

    def _enter(self, piece: Piece) -> list[Piece]:
        """Make the folder's copy; returns what is in it."""
        self._open_up(piece.source)
        names = os.listdir(piece.source)
        self._as_keeper()
        os.mkdir(piece.target, 0o700)
        inside = []
        for name in names:
            place = piece.place.below.get(name, Place())
            source, target = os.path.join(piece.source, name), os.path.join(piece.target, name)
            inside.append(Piece(source, target, place, readable=piece.readable and place.readable))
        return inside

    def _leave(self, piece: Piece, found: os.stat_result) -> None:
        """All that was in the folder has been copied and removed."""
        self._as_user()
        os.rmdir(piece.source)
        self._as_keeper()
        os.chmod(piece.target, 0o755 if piece.readable else 0o700)
        os.utime(piece.target, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _copy_file(self, piece: Piece, found: os.stat_result) -> None:
        self._as_user()
        if not found.st_mode & stat.S_IRUSR:
            os.chmod(piece.source, 0o600)
        source = os.open(piece.source, os.O_RDONLY | os.O_NOFOLLOW)
        self._as_keeper()
        target = os.open(piece.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while os.sendfile(target, source, None, COPY_BYTES):
                pass
            os.fchmod(target, mode_of(piece, found))
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        except OSError as error:
            raise OSError(error.errno, error.strerror, piece.source) from None
        finally:
            os.close(source)
            os.close(target)
        self._as_user()
        os.unlink(piece.source)

    def _copy_link(self, piece: Piece, found: os.stat_result) -> None:
        self._as_user()
        goal = os.readlink(piece.source)
        self._as_keeper()
        os.symlink(goal, piece.target)
        os.utime(piece.target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
        self._as_user()
        os.unlink(piece.source)

    def _open_up(self, path: bytes) -> os.stat_result:
        """See to it that the job's user can list and empty a folder of its own; returns what it was like before."""
        found = self._mine(path)
        if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(path, 0o700)
        return found

    def _mine(self, path: bytes) -> os.stat_result:
        """What the path is, which must be the job's user's to give. From here on we act as that user."""
        self._as_user()
        found = os.lstat(path)
        if found.st_uid != self._uid:
            raise PermissionError(EPERM, f"belongs to user {found.st_uid}, not to the job's", path)
        return found

    def _as_user(self) -> None:
        privileges.act_as(self._uid, self._gid)

    def _as_keeper(self) -> None:
        privileges.act_as(KEEPER, KEEPER)


def move(source: bytes, target: bytes) -> None:
    """Rename to another folder. A folder must be writable for that, because its ".." changes."""
    mode = os.lstat(source).st_mode
    closed = stat.S_ISDIR(mode) and not mode & stat.S_IWUSR
    if closed:
        os.chmod(source, stat.S_IMODE(mode) | stat.S_IWUSR)
    os.rename(source, target)
    if closed:
        os.chmod(target, stat.S_IMODE(mode))


def beside(path: bytes) -> bytes:
    """A new name in the same folder."""
    return os.path.join(os.path.dirname(path), b".claw-" + os.urandom(8).hex().encode("ascii"))


def mode_of(piece: Piece, found: os.stat_result) -> int:
    """Of a kept file: for all to read or for the keeper alone, executable when it was."""
    executable = found.st_mode & stat.S_IXUSR
    if piece.readable:
        return 0o755 if executable else 0o644
    return 0o700 if executable else 0o600


def trusting(variables: dict[bytes, bytes], repo: bytes) -> dict[bytes, bytes]:
    """Variables by which git works in a repository whose folder is another user's, settings in them not lost."""
    count = variables.get(b"GIT_CONFIG_COUNT", b"0")
    if not count.isdigit():
        return variables  # git will say what it thinks of that
    return {
        **variables,
        b"GIT_CONFIG_COUNT": b"%d" % (int(count) + 1),
        b"GIT_CONFIG_KEY_" + count: b"safe.directory",
        b"GIT_CONFIG_VALUE_" + count: repo,
    }


def trust_at_home(home: bytes, repo: bytes) -> None:
    """The same for gits before 2.38, which believe only a file. To be called as the job's user."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError):  # what is there is no file to write to: newer gits have the variables
        fd = os.open(os.path.join(home, b".gitconfig"), flags, 0o644)
        try:
            os.write(fd, b"\n[safe]\n\tdirectory = %s\n" % repo)
        finally:
            os.close(fd)
