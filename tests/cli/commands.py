"""Commands for the tests of `main`: what a command can do to it."""

from __future__ import annotations

import os
import sys
import time

import typer

from runner.errors import Cancelled, ConfigError, EngineUnavailable


def answer() -> int:
    """Answer."""
    print("answered")
    return 11


def nothing() -> None:
    """Return nothing, as a command that always succeeds."""


def overrides(ctx: typer.Context, words: list[str]) -> int:
    """Print what was understood."""
    print(words, ctx.obj)
    return 0


def config_error() -> int:
    raise ConfigError("a.yaml:1:2: x: is wrong\nb.yaml:3:4: y: is \x1b[31mred")


def engine_error() -> int:
    raise EngineUnavailable("no engine answers")


def bug() -> int:
    raise ZeroDivisionError("by design")


def interrupted() -> int:
    raise KeyboardInterrupt


def other_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"x")
    return 0


def sleep() -> int:
    """Sleep until a signal comes, and then take a moment to clean up."""
    try:
        print("ready", flush=True)
        time.sleep(60)
    except Cancelled:
        time.sleep(float(sys.stdin.readline() or 0))
        print("cleaned up", flush=True)
        raise
    return 0


def chatter() -> int:
    """Write more than a pipe holds."""
    for _ in range(100_000):
        print("y" * 80)
    return 0
