"""What the toolbox's process may do, and how it gives that up. Needs Linux; numbers are those of <linux/prctl.h>."""

from __future__ import annotations

import ctypes
import os
import signal
from errno import EPERM

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
KEPT = 1 << 5 | 1 << 6 | 1 << 7
"""CAP_KILL, CAP_SETGID, CAP_SETUID: to run commands as another user, and to end them."""

_libc = ctypes.CDLL(None, use_errno=True)


def settle() -> None:
    """Give up all but KEPT, for good: no child can have a capability, nobody of another uid can look into us."""
    os.umask(0o022)
    if os.geteuid() == 0:
        if os.getgroups():
            os.setgroups([])
        for capability in range(64):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        _keep_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def act_as(uid: int, gid: int) -> None:
    """From now on open files with the rights of this user. Signals still need the rights of our own uid.

    Raises OSError when there is no such user here: these calls themselves tell no error, but who one was before.
    """
    if os.geteuid() == 0:
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        if (_libc.setfsuid(-1), _libc.setfsgid(-1)) != (uid, gid):
            raise OSError(EPERM, f"cannot act as user {uid}, group {gid}")


def become(uid: int, gid: int) -> None:
    """Turn into this user; with its uid all capabilities go. Raises OSError when the switch is refused."""
    if os.geteuid() != uid or os.getegid() != gid:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def kill_all_of(uid: int) -> None:
    """Kill every process of this user, by being it for one call. Only the first process of a container may do this:
    it is spared by that call, and the kernel keeps from it what those processes could send meanwhile.
    """
    if os.geteuid() != 0:
        return
    os.setresuid(uid, uid, 0)
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has none
    finally:
        os.setresuid(0, 0, 0)
        prctl(PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def _keep_capabilities() -> None:
    """capset(2): effective and permitted become what we have of KEPT, inheritable becomes empty."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if _libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    kept = sets[1] & KEPT
    wanted = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if _libc.capset(header, wanted) != 0:
        raise OSError(ctypes.get_errno(), "capset")
