"""A terminal with somebody at it, for tests."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from runner.approvals import Answer, Ask, Screen, TerminalApprover

PATIENCE = 60.0
"""Seconds; what must happen at once on an idle machine may take a while on a loaded one."""


def question(**more: object) -> Ask:
    facts: dict[str, object] = {
        "id": "fix-1/1",
        "call": "Bash(pip install x)",
        "reason": "no rule allows 'pip install x'",
        "suggestion": "Bash(pip install:*)",
        "input": '{"command": "pip install x"}',
        "seconds": PATIENCE,
    }
    return Ask(**(facts | more))  # type: ignore[arg-type]


class Person:
    """Sits at the terminal: reads what is shown, types answers."""

    def __init__(self, master: int, keyboard: TextIO, screen: Screen) -> None:
        self._master = master
        self.keyboard = keyboard
        self.screen = screen
        self.approver = TerminalApprover(keyboard, screen)
        self.seen = ""

    def asked(self, ask: Ask) -> Callable[[], Answer]:
        """Ask in a thread; returns what waits for the answer."""
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(self.approver.ask(ask)), daemon=True)
        thread.start()

        def answer() -> Answer:
            thread.join(PATIENCE)
            assert answers, f"no answer; seen: {self.seen}"
            return answers[0]

        return answer

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def sees(self, text: str, *, times: int = 1) -> None:
        """Wait until the text was shown so often."""
        deadline = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, f"never saw {text!r} in {self.seen!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.seen += os.read(self._master, 65_536).decode().replace("\r\n", "\n")

    def hangs_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def leaves(self) -> None:
        if self._master >= 0:
            os.close(self._master)


@contextmanager
def somebody() -> Iterator[Person]:
    master, slave = os.openpty()
    keyboard, display = os.fdopen(os.dup(slave), "r"), os.fdopen(slave, "w")
    person = Person(master, keyboard, Screen(display))
    try:
        yield person
    finally:
        keyboard.close()
        with suppress(OSError):
            display.close()
        person.leaves()
