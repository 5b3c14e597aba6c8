"""Text of agents, commands and repositories made fit for people's eyes: it can be read, and does nothing."""

from __future__ import annotations

import json
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

# Lines of a job's log that GitHub's runner takes for commands (docs: workflow commands): `::name …::` at a line's
# start, `##[name …]` anywhere. Wrapping may bring any part of a text to a line's start.
_COMMAND_NAMES = (
    "(?:set-env|set-output|save-state|add-path|add-mask|add-matcher|remove-matcher|echo|debug|warning|error|notice|group"
    r"|endgroup|stop-commands|internal-set-repo-path)\b"
)
_WORKFLOW_COMMAND = re.compile(rf"##(?=\[{_COMMAND_NAMES})|::(?={_COMMAND_NAMES}[^\n]*?::)", re.IGNORECASE)


def visible(text: str) -> str:
    """The text without terminal escapes, and with every character that would not be seen named or pictured."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_named, _ESCAPES.sub("", text))


def exact(text: str) -> str:
    """The same with nothing left out: of a call, what looks like an escape may be the part that counts."""
    return _inert(_UNSEEN.sub(_named, text))


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
    """Visible, on one line, and no command to the runner of a CI job whose log it may stand in."""
    return _inert(" ".join(visible(text).split()))


def visible_json(value: object) -> str:
    """JSON, indented, with an escape for every character in its strings that would not be seen, or would act."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    text = _UNSEEN.sub(lambda run: json.dumps(run.group())[1:-1], text)
    return _WORKFLOW_COMMAND.sub(lambda found: f"\\u{ord(found.group()[0]):04x}{found.group()[1:]}", text)


def _inert(text: str) -> str:
    return _WORKFLOW_COMMAND.sub(r"⟨\g<0>⟩", text)
