"""A piece of work in a fork of the toolbox: as another user, or to try what cannot be undone."""

from __future__ import annotations

import json
import os
import sys
from errno import ECHILD

from .stream import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def in_child(work: Callable[[], object]) -> Any:
    """What `work` returned, which must be fit for JSON. Raises the OSError that it raised, or ECHILD when it died.

    The toolbox does nothing else meanwhile.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.write(writer, answer(work))
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = json.loads(pipe.read() or b"{}")
    if "answer" in told:
        return told["answer"]
    error = told.get("error", {"errno": ECHILD, "message": "the process that was to do it died", "path": None})
    raise OSError(error["errno"], error["message"], error["path"])


def answer(work: Callable[[], object]) -> bytes:
    try:
        told = {"answer": work()}
    except OSError as error:
        told = {"error": describe(error)}
    return json.dumps(told).encode("ascii")
