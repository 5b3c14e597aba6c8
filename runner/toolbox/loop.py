"""The toolbox's event loop: callbacks for descriptors that can be read or written, one thread, safe to fork from."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TICK_SECONDS = 0.25


class Loop:
    """Calls back when a watched descriptor is ready. Each callback does a bounded piece of work and returns."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self.tick: Callable[[], bool] = lambda: False
        """Called before each wait; True asks to be called again within TICK_SECONDS."""

    def watch(self, fd: int, callback: Callable[[], None], *, writable: bool = False) -> None:
        """Call `callback` whenever `fd` can be read (or written), or has been closed at the other end."""
        self._epoll.register(fd, select.EPOLLOUT if writable else select.EPOLLIN)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed. Does nothing when it is not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watches(self, fd: int) -> bool:
        return fd in self._callbacks

    def run(self) -> None:
        """Never returns; ends by an exception of a callback."""
        while True:
            busy = self.tick()
            for fd, _ in self._epoll.poll(TICK_SECONDS if busy else None):
                # An earlier callback of this round may have closed the descriptor, and another may have its number by
                # now: a callback finds nothing to read then, and must not mind.
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()
