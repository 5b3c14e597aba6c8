"""Text of agents, commands and repositories made fit for people's eyes: it can be read, and does nothing."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links, clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]{0,4096}(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]{0,8}[0-Z\\^-~]"  # the two-character ones
)

# Control characters but tab and newline, and what is invisible or moves the text around it: soft hyphen,
# bidirectional marks, zero-width and joining characters, fillers, line separators, variation selectors (but U+FE0F,
# which emoji need), tags, lone surrogates. From the categories Cc, Cf, Cs, Zl, Zp of the Unicode Character Database.
_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]+"
)
_LONGEST_RUN = 8


def visible(text: str) -> str:
    """The text without terminal escapes, and with every character that would not be seen named or pictured."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_named, _ESCAPES.sub("", text))


def _named(run: re.Match[str]) -> str:
    found = run.group()
    if len(found) > _LONGEST_RUN:
        return f"⟨{len(found):,} invisible characters⟩"
    return "".join(_name(character) for character in found)


def _name(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def one_line(text: str) -> str:
    """Visible, on one line."""
    return " ".join(visible(text).split())
