"""rich's console for strangers' words: printed as they are; and a reader that went away is an error as ever."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console, RenderableType


class PlainConsole(Console):
    """Prints each Text as it is: rich's own markup, emoji codes and highlighting would read what others wrote."""

    def __init__(self, stream: TextIO, **options: Any) -> None:
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, **options)

    def print_whole(self, text: RenderableType) -> None:
        """Lines neither wrapped nor cut."""
        self.print(text, no_wrap=True, overflow="ignore", crop=False)

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled; rich itself would end the process here."""
        raise  # noqa: PLE0704
