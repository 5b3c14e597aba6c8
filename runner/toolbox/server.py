"""The toolbox's main program: takes requests from the pipe, and answers them. See docs/protocol.md."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

from . import frames, hold, privileges
from .loop import Loop
from .operations import OPERATIONS, Toolbox
from .relay import Relay
from .stream import Refused, Stream
from .zygote import Zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INPUT, OUTPUT = 0, 1
READ_BYTES = 128 * 1024
MAX_STREAMS = 256
END_SECONDS = 2.0
BROKEN_PROTOCOL = 65
"""Exit code when the host sends what the protocol does not know (EX_DATAERR)."""


def serve() -> NoReturn:
    """Answer until standard input ends; then everything that was started ends too.

    Arguments `hold new WORKSPACE` or `hold snapshot WORKSPACE`: nothing else can be written (hold.py).
    """
    os.closerange(3, 65536)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps for us, adopted orphans included
    # For the supervisors, which wait for these two; blocked before the first fork, so that none can come too early.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    privileges.prctl(privileges.PR_SET_CHILD_SUBREAPER, 1)
    privileges.settle()
    held = hold.hold(os.fsencode(sys.argv[3]), new=sys.argv[2] == "new") if sys.argv[1:2] == ["hold"] else ""
    gc.freeze()  # what is there now stays; a collection in a fork must not copy its pages
    zygote = Zygote()
    loop = Loop()
    toolbox = Toolbox(loop, zygote, Relay(loop, OUTPUT), held=held)
    server = Server(toolbox)
    loop.tick = toolbox.tick
    loop.watch(INPUT, server.read)
    code = 0
    try:
        loop.run()
    except (EOFError, BrokenPipeError):
        pass  # the host is gone, or done with us
    except frames.ProtocolError as error:
        print(f"the host broke the protocol: {error}", file=sys.stderr)
        code = BROKEN_PROTOCOL
    end(toolbox)
    os._exit(code)


def end(toolbox: Toolbox) -> None:
    """As first process of a container our exit ends all others at once; elsewhere the supervisors do it, when told."""
    if os.getpid() == 1:
        return
    toolbox.close()
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(0.005)


class Server:
    """The streams of the pipe, and who is served on them."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._parser = frames.Parser()
        self._streams: dict[int, Stream] = {}
        self._newest = -1

    def read(self) -> None:
        """Take what the pipe has. Raises EOFError at its end, ProtocolError for nonsense."""
        data = os.read(INPUT, READ_BYTES)
        if not data:
            raise EOFError
        for id, kind, payload in self._parser.feed(data):
            if id % 2 == 0:
                self._toolbox.relay.receive(id, kind, payload)
            elif kind == frames.OPEN:
                self._open(id, payload)
            else:
                self._pass_on(id, kind, payload)

    def _open(self, id: int, payload: bytes) -> None:
        self._streams = {key: stream for key, stream in self._streams.items() if not stream.closed}
        if id <= self._newest or len(self._streams) >= MAX_STREAMS:
            raise frames.ProtocolError(f"stream {id} cannot be opened")
        self._newest = id
        request = frames.decode_json(payload)
        operation, arguments = request.get("op"), request.get("arguments")
        if not isinstance(operation, str) or not isinstance(arguments, dict):
            raise frames.ProtocolError("a request without operation or arguments")
        stream = self._streams[id] = Stream(id, OUTPUT)
        try:
            if operation not in OPERATIONS:
                raise Refused("bad_request", f"unknown operation {operation!r}")
            answer = OPERATIONS[operation](self._toolbox, stream, arguments)
            if answer is not None:
                stream.answer(answer)
        except (OSError, KeyError, TypeError, ValueError, Refused) as error:
            if isinstance(error, BrokenPipeError):
                raise
            stream.fail(error)

    def _pass_on(self, id: int, kind: int, payload: bytes) -> None:
        stream = self._streams.get(id)
        if stream is None or stream.closed:
            # What the host sent before it saw our answer.
            if id > self._newest:
                raise frames.ProtocolError(f"stream {id} was never opened")
        elif kind == frames.DATA:
            stream.take(payload)
        elif kind == frames.CREDIT:
            stream.granted(frames.decode_credit(payload))
        elif kind == frames.CANCEL:
            stream.on_cancel()
        else:
            raise frames.ProtocolError("the host answered what was not asked")
