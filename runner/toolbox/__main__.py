"""Starts the toolbox: `python3 -s -S -B FOLDER`; frames on standard input and output, until standard input ends."""

import os
import sys

if not __package__:
    # Started as a folder: become the package that the relative imports below need, behind the standard library.
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [*sys.path[1:], os.path.dirname(folder)]
    __package__ = os.path.basename(folder)

from .server import serve

if __name__ == "__main__":
    serve()
