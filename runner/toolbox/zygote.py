"""The zygote: a fork of the toolbox, made at its start, that makes the supervisors.

Who forks pays for it afterwards: the first write to each page copies it, some hundred times. So the toolbox does not
fork when it is wanted; the zygote does, ahead of time, and gets the descriptors through a socket (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import os
import socket
import struct

from . import supervisor

FDS = struct.Struct(f"{len(supervisor.Ends.__slots__)}i")
PID = struct.Struct("i")


class Zygote:
    """The toolbox's end. It ends with this process, or with `close`; the supervisors then end their commands."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._socket.close()
            try:
                serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def supervisor(self, ends: supervisor.Ends) -> int:
        """Pid of a new supervisor that waits for orders on `ends`.

        Raises OSError when no process can be made, EOFError when the zygote is gone.
        """
        try:
            self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, FDS.pack(*ends.all()))])
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError from None
        answer = self._socket.recv(PID.size)
        if not answer:
            raise EOFError
        [pid] = PID.unpack(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return int(pid)

    def close(self) -> None:
        self._socket.close()


def serve(requests: socket.socket) -> None:
    """In the zygote: a supervisor for each set of descriptors; the answer is its pid, or the negative error number."""
    while True:
        data, extras, _, _ = requests.recvmsg(1, socket.CMSG_LEN(FDS.size), socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        fds = FDS.unpack(extras[0][2])
        try:
            answer = supervisor.fork(supervisor.Ends(*fds))
        except OSError as error:
            answer = -(error.errno or 11)
        for fd in fds:
            os.close(fd)
        requests.send(PID.pack(answer))
