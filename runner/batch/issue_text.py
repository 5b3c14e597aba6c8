"""Text of strangers, made honest: what a person who reads an issue on its page would not see is taken out, and said.

Hidden text is how an issue gives orders to a model behind the back of whoever looks at it. Taken out are HTML comments,
and characters that are not seen or that move the text around them: zero-width ones, bidirectional controls, tags,
control characters. What can be seen stays as it is, but line ends, which become LF.

HTML comments are taken out of code blocks too, where they are seen. Whether a fence is one depends on all the Markdown
around it, and where our reading differed from that of the page would be a place to hide in.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import NamedTuple

_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")

# The categories Cc (but tab and LF), Cf, Cs, Zl and Zp of the Unicode Character Database, but those of Cf that are seen
# (Arabic and Kaithi signs around numbers); fillers and blanks that have no category of their own; variation selectors.
_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
# The selector that stays: behind the symbols that it makes emoji of.
_EMOJI = "\ufe0f"
_STRAY = re.compile(
    "(?<![#*0-9\u2190-\u27ff\u2900-\u2bff\u3030\u303d\u3297\u3299\u00a9\u00ae\U0001f000-\U0001faff])" + _EMOJI
)
_NAMED = 4
"""Kinds of invisible characters that a note names."""


class Cleaned(NamedTuple):
    """A text without what is hidden in it."""

    text: str
    note: str
    """What was taken out, with the SHA-256 of the original; "" when there was nothing."""


def clean(original: str, *, name: str, markdown: bool = True) -> Cleaned:
    """The text to give to a model. `name` is said in the note; without `markdown` no HTML comment is looked for."""
    text = _LINE_ENDS.sub("\n", original)
    text, unseen = _without_unseen(text)
    text, comments = _without_comments(text) if markdown and "<!--" in text else (text, [])
    found = [*([_comments_note(comments)] if comments else []), *([_unseen_note(unseen)] if unseen else [])]
    if not found:
        return Cleaned(text, "")
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()
    return Cleaned(text, f"{' and '.join(found)} taken out of {name}; SHA-256 of the original: {digest}")


def _without_unseen(text: str) -> tuple[str, Counter[str]]:
    unseen: Counter[str] = Counter()
    for pattern in (_UNSEEN, _STRAY) if _EMOJI in text else (_UNSEEN,):
        if found := pattern.findall(text):
            unseen.update(found)
            text = pattern.sub("", text)
    return text, unseen


def _comments_note(lengths: list[int]) -> str:
    return f"{len(lengths)} HTML comment{'s'[: len(lengths) - 1]} ({sum(lengths):,} characters)"


def _unseen_note(unseen: Counter[str]) -> str:
    names = [f"U+{ord(character):04X}" for character, _ in unseen.most_common(_NAMED)]
    more = ["…"] if len(unseen) > _NAMED else []
    return f"{unseen.total():,} invisible character{'s'[: unseen.total() - 1]} ({', '.join(names + more)})"


# --- HTML comments

_OPENING = "<!--"
# Where one ends, as HTML has it: `<!-->` and `<!--->` are whole ones.
_EMPTY = re.compile("-?>")
_END = re.compile("--!?>")
# What nothing closes is hidden to the end of the text: at the start of a line (behind the marks of quotes and lists),
# and anywhere behind other HTML, which may still be open. Behind words a page shows it all, `<!--` included.
_AT_LINE_START = re.compile(r"^[ \t>*+\-\d.)]*<!--", re.MULTILINE)
_HTML = re.compile("<(?:[A-Za-z/?]|!(?!--))")


def _without_comments(text: str) -> tuple[str, list[int]]:
    """The text without its comments, and how long each of them was."""
    text, lengths = _without_closed(text)
    rest = _hidden_rest(text)
    return text[:rest], [*lengths, *([len(text) - rest] if rest < len(text) else [])]


def _without_closed(text: str) -> tuple[str, list[int]]:
    kept: list[str] = []
    lengths: list[int] = []
    last, at = "", 0
    while (start := text.find(_OPENING, at)) >= 0:
        inside = start + len(_OPENING)
        if (end := _EMPTY.match(text, inside) or _END.search(text, inside)) is None:
            break
        lengths.append(end.end() - start)
        kept.append(text[at:start])
        last = kept[-1][-1:] or last
        at = end.end()
        # No two halves may become one comment by what was between them.
        if last.strip() and text[at : at + 1].strip():
            kept.append(" ")
            last = " "
    return "".join([*kept, text[at:]]), lengths


def _hidden_rest(text: str) -> int:
    """Where, in a text without closed comments, one begins that hides all that follows; else the text's length."""
    html = _HTML.search(text)
    found = text.find(_OPENING, html.start()) if html else -1
    starts = [found] if found >= 0 else []
    if at_start := _AT_LINE_START.search(text):
        starts.append(at_start.end() - len(_OPENING))
    return min(starts, default=len(text))
