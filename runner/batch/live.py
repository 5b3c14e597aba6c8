"""Following a batch while it runs: a picture at a terminal, lines elsewhere, JSON for machines, or nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, Protocol, TextIO

from rich.console import ConsoleDimensions
from rich.live import Live
from rich.text import Text

from runner.batch.base import BatchEvent, StoreError
from runner.batch.board import Board
from runner.batch.console import PlainConsole
from runner.batch.lines import json_line, line_of
from runner.batch.picture import BETWEEN, Picture, draw, money_text, progress_text
from runner.batch.standing import Pace, Standing
from runner.errors import OUTCOMES
from runner.report.text import STYLES

Way = Literal["live", "plain", "json", "quiet"]

TICK_SECONDS = 0.25
"""Between two pictures."""
LOOK_SECONDS = 1.0
"""Between two looks at the batch's state, which other runners change as well."""
PROGRESS_SECONDS = 30.0
"""Between two lines that say how far the batch is, where there is no picture."""
MOST_WAITING = 10_000
"""Events that wait to be written as JSON; when there are more, those who bring them wait."""
_SMALLEST = (20, 4)


def way_to_follow(*, as_json: bool, quiet: bool, stream: TextIO) -> Way:
    """How what happens is best shown; `stream` is where people look."""
    if as_json:
        return "json"
    if quiet:
        return "quiet"
    terminal = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return "live" if terminal and stream.encoding.lower().startswith("utf") else "plain"


@dataclass(frozen=True, slots=True)
class Followed:
    """What a batch's events are given to, and where something can be said to whoever looks on."""

    see: Callable[[BatchEvent], None]
    board: Board


@contextmanager
def followed(
    way: Way, *, name: str, look: Callable[[], Standing], out: TextIO, err: TextIO, runs: Path | None = None
) -> Iterator[Followed]:
    """Inside, all that is given to `see` is shown: JSON on `out`, everything else on `err`.

    `see` may be called from any thread; it only stores, but for JSON it waits for a reader that is far behind. A reader
    that goes away is no reason to end a batch that costs money: then nothing is shown any more. `look` is asked now and
    then. `runs`: see `line_of`.
    """
    board = Board()
    if way == "json":
        writer = _Json(board, out)
        with _thread(writer.tick, out, every=0.0):
            yield Followed(writer.see, board)
        return
    shown = _VIEWS[way](_State(name, board, look, runs), err)
    with shown.opened(), _thread(shown.tick, err, every=TICK_SECONDS):
        yield Followed(board.see, board)


@contextmanager
def _thread(tick: Callable[[], None], stream: TextIO, *, every: float) -> Iterator[None]:
    """Calls `tick` again and again, and once more at the end."""
    over = threading.Event()

    def loop() -> None:
        try:
            while not over.wait(every):
                tick()
            tick()
        except OSError:
            hang_up(stream)

    thread = threading.Thread(target=loop, name="batch-view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def hang_up(stream: TextIO) -> None:
    """Nobody reads this stream any more. What is buffered goes nowhere, or the interpreter fails over it at its end."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class _State:
    """What all that is drawn is drawn from."""

    def __init__(self, name: str, board: Board, look: Callable[[], Standing], runs: Path | None) -> None:
        self.name = name
        self.board = board
        self.pace = Pace()
        self.began = time.monotonic()
        self.runs = runs
        self.standing = look()
        self._look = look
        self._looked = -LOOK_SECONDS

    def refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self.standing = self._look()
        except StoreError:
            return  # whoever works on the batch finds it out, too, and has to end for it
        self.pace.note(self.standing.ended, now)


class _Shown(Protocol):
    def __init__(self, state: _State, stream: TextIO) -> None: ...

    def opened(self) -> AbstractContextManager[object]: ...

    def tick(self) -> None: ...


class _Quiet:
    """Says only what must be said."""

    def __init__(self, state: _State, stream: TextIO) -> None:
        self._state = state
        self._stream = stream
        self._noticed = ""

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def tick(self) -> None:
        self._state.board.news()
        self._say([])

    def _say(self, lines: list[str]) -> None:
        notice = self._state.board.notice
        if notice != self._noticed:
            self._noticed = notice
            lines.append(notice)
        if lines:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


class _Plain(_Quiet):
    """A line for each thing that happens, and now and then one that says how far the batch is."""

    def __init__(self, state: _State, stream: TextIO) -> None:
        super().__init__(state, stream)
        self._progress_at = time.monotonic() + PROGRESS_SECONDS

    def tick(self) -> None:
        self._state.refresh()
        lines = [line for event in self._state.board.news() if (line := line_of(event, runs=self._state.runs))]
        if time.monotonic() >= self._progress_at:
            self._progress_at = time.monotonic() + PROGRESS_SECONDS
            lines.append(_progress(self._state))
        self._say(lines)


def _progress(state: _State) -> str:
    standing = state.standing
    parts = [progress_text(standing, state.pace), f"{standing.working:,} running", money_text(standing)]
    return f"{'progress':<14}  {BETWEEN.join(parts)}"


class _Terminal:
    """The picture, and above it a line for each job that has ended."""

    def __init__(self, state: _State, stream: TextIO) -> None:
        self._state = state
        self._stream = stream
        self._console, self._live = self._made()

    def _made(self) -> tuple[PlainConsole, Live]:
        console = PlainConsole(self._stream, force_terminal=True)
        live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, vertical_overflow="crop"
        )
        return console, live

    @contextmanager
    def opened(self) -> Iterator[None]:
        try:
            self._live.start()
        except OSError:
            hang_up(self._stream)
            self._console, self._live = self._made()
            self._live.start()
        with suppress(OSError):
            # We may be killed at any time, and a terminal without a cursor is no thing to leave behind.
            self._console.show_cursor(True)
        try:
            yield
        finally:
            with suppress(OSError):
                self._live.stop()

    def tick(self) -> None:
        self._state.refresh()
        columns, lines = terminal_size(self._stream)
        self._console.size = ConsoleDimensions(columns, lines)
        ended = [event for event in self._state.board.news() if event.kind != "job_started"]
        self._live.update(draw(self._picture(columns, lines), time.time()))
        above = [text for event in ended if (text := _coloured(event, columns, self._state.runs))]
        if above:
            self._console.print_whole(Text("\n").join(above))
        else:
            self._live.refresh()

    def _picture(self, columns: int, lines: int) -> Picture:
        state = self._state
        seconds = time.monotonic() - state.began
        return Picture(state.name, state.board, state.standing, state.pace, seconds, columns, lines)


def _coloured(event: BatchEvent, width: int, runs: Path | None) -> Text | None:
    line = line_of(event, width=width, runs=runs)
    if line is None:
        return None
    lead, rest = line[: line.find(" ")], line[line.find(" ") :]
    style = STYLES.get(lead, "bold red") if lead in OUTCOMES else "bold yellow"
    return Text.assemble((lead, style), rest)


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines; those of old where the terminal does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return 80, 24
    columns, lines = size.columns or 80, size.lines or 24
    return max(columns, _SMALLEST[0]), max(lines, _SMALLEST[1])


_VIEWS: dict[Literal["live", "plain", "quiet"], type[_Shown]] = {
    "live": _Terminal,
    "plain": _Plain,
    "quiet": _Quiet,
}


class _Json:
    """Writes each event as it comes."""

    def __init__(self, board: Board, stream: TextIO) -> None:
        self._board = board
        self._stream = stream
        self._noticed = ""
        self._waiting: SimpleQueue[BatchEvent] = SimpleQueue()
        self._gone = False

    def see(self, event: BatchEvent) -> None:
        self._board.see(event)
        while self._waiting.qsize() > MOST_WAITING and not self._gone:
            time.sleep(TICK_SECONDS / 10)
        if event.kind != "batch_ended" and not self._gone:
            self._waiting.put(event)

    def tick(self) -> None:
        """Write what waits; when there is nothing, wait a little for something."""
        try:
            self._write()
        except OSError:
            self._gone = True
            raise

    def _write(self) -> None:
        self._board.news()
        if (notice := self._board.notice) != self._noticed:
            self._noticed = notice
            self._put(BatchEvent(kind="note", time=time.time(), text=notice))
        with suppress(Empty):
            self._put(self._waiting.get(timeout=TICK_SECONDS))
            while True:
                self._put(self._waiting.get_nowait())
        self._stream.flush()

    def _put(self, event: BatchEvent) -> None:
        self._stream.write(json_line(event) + "\n")
