"""Where the folders that come with claw-runner lie: `images`, `policies` and `tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent


def shipped(kind: Literal["images", "policies", "tasks"]) -> Path:
    """The folder as installed by a wheel, else that of the checkout that this package lies in."""
    installed = PACKAGE / "shipped" / kind
    return installed if installed.is_dir() else PACKAGE.parent / kind
