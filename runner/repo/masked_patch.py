"""A patch as people may see it: without the job's secrets."""

from __future__ import annotations

import re

from runner.masking import Masker

_BINARY = re.compile(rb"^GIT binary patch\n(?:(?:literal|delta) \d+\n(?:[A-Za-z][^\n]*\n)*\n){1,2}", re.MULTILINE)
LEFT_OUT = b"# Binary content, left out because the diff holds a secret.\n"


def masked_patch(patch: bytes, mask: Masker, *, holds_secret: bool) -> bytes:
    """The patch with every secret masked.

    `holds_secret`: the gate found one in the diff. Then binary files, which git writes compressed, are left out.
    """
    return mask.data(_BINARY.sub(LEFT_OUT, patch) if holds_secret else patch)
