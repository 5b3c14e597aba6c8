"""Asking the person at this terminal."""

from __future__ import annotations

import json
import os
import select
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from runner.approvals.base import Answer, Ask, Scope, in_vain
from runner.approvals.words import arguments, shortened
from runner.report.units import duration
from runner.report.visible import one_line

MOST_HELD = 200
"""Lines that are kept back while a question is open; of more, the last."""
_LOOK_SECONDS = 0.2
"""Between two looks whether the job is in the foreground again."""
_PROMPT = "> "


class Screen:
    """A terminal that lines are written to, but not between a question and its answer."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._held: deque[str] | None = None
        """What has to wait for the end of a question; None when there is none."""

    def say(self, line: str) -> None:
        """Write a line, or keep it for later. Raises OSError."""
        with self._lock:
            if self._held is None:
                self.show(line + "\n")
            else:
                self._held.append(line)

    def show(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, `say` waits; `show` does not."""
        with self._lock:
            self._held = deque(maxlen=MOST_HELD)
        try:
            yield
        finally:
            with self._lock:
                lines, self._held = self._held, None
                self.show("".join(f"{line}\n" for line in lines or ()))


class TerminalApprover:
    """Asks at a terminal, one question after the other. What was typed before a question is not its answer."""

    def __init__(self, keyboard: TextIO, screen: Screen) -> None:
        self._keyboard = keyboard.fileno()
        self._screen = screen
        self._one = threading.Lock()

    def ask(self, question: Ask) -> Answer:
        """See Approver. The end of input, or of the terminal, is a denial."""
        deadline = time.monotonic() + question.seconds
        if not self._one.acquire(timeout=question.seconds):
            return in_vain(question)
        try:
            with self._screen.held():
                return self._asked(question, deadline)
        except OSError as error:
            return _no(f"the terminal is gone: {error.strerror}")
        finally:
            self._one.release()

    def _asked(self, question: Ask, deadline: float) -> Answer:
        self._screen.show(_question(question))
        self._forget_typed(deadline)
        self._screen.show(_PROMPT)
        while line := self._line(deadline):
            choice = _choice(line, question)
            if isinstance(choice, Answer):
                self._screen.show(_settled(choice, question))
                return choice
            self._screen.show(choice)
        self._forget_typed(deadline)
        over = line is None
        self._screen.show(f"\n{'Time is over' if over else 'No more input'}: denied.\n")
        return in_vain(question) if over else _no("the input ended")

    def _line(self, deadline: float) -> str | None:
        """What was typed, "" at the end of input, None when the time is over."""
        while (left := deadline - time.monotonic()) > 0:
            # The kernel stops a process that reads a terminal whose foreground is another's: it would wait for ever.
            if not self._in_foreground():
                time.sleep(min(left, _LOOK_SECONDS))
            elif select.select([self._keyboard], [], [], min(left, _LOOK_SECONDS))[0]:
                return os.read(self._keyboard, 65_536).decode("utf-8", "replace")
        return None

    def _forget_typed(self, deadline: float) -> None:
        while not self._in_foreground() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if self._in_foreground():
            with suppress(termios.error):
                termios.tcflush(self._keyboard, termios.TCIFLUSH)

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._keyboard) == os.getpgrp()
        except OSError:
            return True  # not the terminal that controls us: it can be read by anybody


# -- words


def _question(question: Ask) -> str:
    why = question.reason + (f" ({question.where})" if question.where else "")
    lines = [
        "",
        f"-- May the agent do this? (approval {one_line(question.id)})",
        "",
        *shortened(question.call, "v shows all"),
        "",
        f"   why: {one_line(why)}",
        f"   denied by itself in {duration(question.seconds)}",
        "",
        *_choices(question),
    ]
    return "\n".join(lines) + "\n"


def _choices(question: Ask) -> Iterator[str]:
    rule = _rule(question)
    yield "   [o]nce    this call, and no other"
    yield f"   [j]ob     until the job ends: this call{f', and all that {rule} allows' if rule else ' again'}"
    if rule:
        yield "   [a]lways  the same, and prints that rule for the policy"
    elif question.rule:
        yield "             (to be asked no more, take the rule out of the policy)"
    yield "   [d]eny    d REASON tells the agent why"
    if question.input:
        yield "   [v]iew    all that the call was given"


def _choice(line: str, question: Ask) -> Answer | str:
    """The answer that was typed, or what to show before the next try."""
    word, _, rest = line.strip().partition(" ")
    match word.lower(), rest:
        case "o" | "once", "":
            return _yes("once")
        case "j" | "job", "":
            return _yes("job")
        case "a" | "always", "" if rule := _rule(question):
            return _yes("job", reason=f"always, by the rule {rule}")
        case "d" | "deny" | "n" | "no", _:
            return _no(one_line(rest))
        case "v" | "view", _ if question.input:
            return "\n".join([*arguments(question.input), "", *_choices(question)]) + "\n" + _PROMPT
        case _:
            letters = ", ".join(["o", "j", *(["a"] if _rule(question) else []), "d"])
            return f"Please answer with one of {letters}.\n{_PROMPT}"


def _yes(scope: Scope, reason: str = "") -> Answer:
    return Answer(allowed=True, scope=scope, by="terminal", reason=reason)


def _no(reason: str) -> Answer:
    return Answer(allowed=False, scope="once", by="terminal", reason=reason)


def _settled(answer: Answer, question: Ask) -> str:
    if not answer.allowed:
        return "Denied.\n"
    if answer.scope == "once":
        return "Allowed once.\n"
    if not answer.reason:
        return "Allowed for this job.\n"
    rule = json.dumps(question.suggestion, ensure_ascii=False)
    return f"Allowed for this job. For every job, add this to the policy:\n\nallow:\n  - {rule}\n\n"


def _rule(question: Ask) -> str | None:
    """The rule to paste; None when there is none, or none whose every character can be seen."""
    rule = question.suggestion
    return rule if rule and one_line(rule) == rule else None
