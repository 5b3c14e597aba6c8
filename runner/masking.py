"""Secrets in text and bytes: found in every form in which they are commonly written, and replaced by `***`.

    mask = Masker((token,))
    mask.text("a line"), mask.data(b"some bytes")
    stream = mask.stream()                        # for what arrives in pieces
    stream.feed(b"...tok") + stream.feed(b"en...") + stream.end()

A secret is found as it is; escaped for JSON, a URL, a form, HTML or a shell; in base64 and hexadecimal, also as a part
of something longer that was encoded, and where the encoder broke its output into lines.
"""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from heapq import merge
from typing import NamedTuple
from urllib.parse import quote

from runner.errors import ConfigError

MASK = "***"
SHORTEST_SECRET = 4
"""Characters. Shorter values are in every text; hiding them hides nothing."""
SHORTEST_NAMED = 8
"""Characters that a variable under `secrets` must have: shorter ones stand in texts by chance."""
LONGEST_NAMED = 16_384
SHORTEST_PART = 4
"""Bytes of a secret that are masked where the rest of it is missing."""


def masker(secrets: tuple[str, ...]) -> Callable[[str], str]:
    """A function that puts `***` for each secret in a text, in whatever form it stands there.

    Of a secret of several lines each line is hidden too. Values under four characters are left alone.
    """
    mask = Masker(secrets)
    return mask.text if mask else str


def check_maskable(name: str, value: str) -> None:
    """Raise ConfigError for the value of a variable that could not be kept out of what is written. It is not shown."""
    length = len(value.strip())
    if length < SHORTEST_NAMED:
        what = f"is shorter than {SHORTEST_NAMED} characters" if length else "is empty"
    elif length > LONGEST_NAMED:
        what = f"is longer than {LONGEST_NAMED:,} characters"
    elif len(set(value)) < SHORTEST_PART:
        what = f"has fewer than {SHORTEST_PART} different characters"
    else:
        return
    raise ConfigError(f"secrets: the value of {name} {what}, so it cannot be masked; give it another value")


class Masker:
    """Knows some secrets; false when there is none to hide."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._in_text, self._in_data = _finders(tuple(secrets))

    def __bool__(self) -> bool:
        return bool(self._in_text)

    def text(self, text: str) -> str:
        """The text with every secret masked."""
        if not self:
            return text
        data = _bytes_of_text(text)
        masked = _mask(self._in_text, data)
        return text if masked is data else masked.decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """The bytes with every secret masked; the very same object when there is none in them."""
        return _mask(self._in_data, data)

    def stream(self) -> StreamMasker:
        return StreamMasker(self._in_data)


def _bytes_of_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bytes_of_data(text: str) -> bytes:
    """The bytes that the host has for the value of a variable."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _bytes_of_text(text)


def valid_text(text: str) -> str:
    """The text with each lone surrogate (what Python makes of bytes that are not UTF-8) as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# --- how secrets are written


class _Forms(NamedTuple):
    texts: set[str]
    """As a whole, and all that must stand there on one line."""
    encoded: set[bytes]
    """Encoded: an encoder may have put line breaks in."""


def _forms(secret: str) -> _Forms:
    whole = secret.strip()
    parts = [part for part in {whole, *map(str.strip, secret.splitlines())} if len(part) >= SHORTEST_SECRET]
    texts = {form for part in parts for form in _escaped(part)}
    encoded = {form for part in parts for form in (*_hexadecimal(part), *_base64(part))}
    if whole in parts:
        # Whole documents are encoded, too, in which the secret stands escaped.
        encoded |= {form for text in (json.dumps(whole)[1:-1], *_percent_encoded(whole)) for form in _base64(text)}
    texts |= {again for form in encoded for again in _escaped_base64(form.decode())}
    return _Forms(texts, encoded)


def _escaped(secret: str) -> Iterator[str]:
    yield from (secret, valid_text(secret), _bytes_of_data(secret).decode(errors="replace"), repr(secret)[1:-1])
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        for text in (once, once.replace("/", "\\/"), _json_for_html(once)):
            yield from (text, json.dumps(text)[1:-1])
    yield from _percent_encoded(secret)
    for double, single in (('"', "'"), ("&quot;", "&#x27;"), ("&quot;", "&#39;"), ("&#34;", "&#39;"), ('"', "&apos;")):
        yield html.escape(secret, quote=False).replace('"', double).replace("'", single)
    yield from (secret.replace("'", "'\\''"), secret.replace("'", "'\"'\"'"))  # within single quotes of a shell
    yield re.sub(r'([$`"\\!])', r"\\\1", secret)  # within double quotes
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", secret)  # without quotes
    yield "".join(_IN_NAMES.get(byte, chr(byte)) for byte in _bytes_of_data(secret))


_IN_NAMES = {byte: f"\\{byte:03o}" for byte in (*range(32), *range(127, 256))}
_IN_NAMES |= {
    ord(char): f"\\{sign}" for char, sign in (("\t", "t"), ("\n", "n"), ("\r", "r"), ('"', '"'), ("\\", "\\"))
}
"""How git and others write odd bytes of file names."""


def _json_for_html(text: str) -> str:
    """As some writers of JSON have it, who keep it harmless within a page."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _percent_encoded(text: str) -> Iterator[str]:
    """For a URL or a form. Who encodes less leaves the first set alone, or both."""
    for safe in ("", "/", "!'()*", "!'()*;,/?:@&=+$#"):
        upper = quote(_bytes_of_data(text), safe=safe)
        for encoded in (upper, re.sub("%..", lambda found: found[0].lower(), upper)):
            yield from (encoded, encoded.replace("%20", "+"))


def _hexadecimal(text: str) -> Iterator[bytes]:
    """As `6a6b`, `6a 6b`, `6a:6b`, `%6a%6b` and `\\x6a\\x6b`."""
    data = _bytes_of_data(text)
    for digits in (data.hex(), data.hex().upper()):
        pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
        yield digits.encode()
        yield from (sign.join(pairs).encode() for sign in (" ", ":", "%", "\\x"))


def _base64(text: str) -> Iterator[bytes]:
    """As a part of something encoded, it may begin at any of three bytes; what it shares a character with is not
    known, so those at its ends are left out."""
    data = _bytes_of_data(text)
    for before in range(3):
        first, end = -(-8 * before // 6), 8 * (before + len(data)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + data)[first:end]


def _escaped_base64(encoded: str) -> Iterator[str]:
    if "/" in encoded or "+" in encoded:
        yield encoded.replace("/", "\\/")
        yield from _percent_encoded(encoded)


# --- finding them


_BREAK = re.compile(rb"\r?\n {0,12}(?:[0-9]{1,9}\t)?|(?:\\r)?\\n")
"""What may part two lines of encoded text: also a line number behind it, and as JSON has it."""
_BEGUN_BREAK = re.compile(rb"(?:\r|\r?\n {0,12}[0-9]{0,9}|\\|\\r|\\r\\)\Z")
"""A break, or the beginning of one, at the end of a text."""
_FULL_LINE = re.compile(rb"[A-Za-z0-9+/_-]{16}")
"""Encoders break full lines; a word at the end of a line is not continued on the next."""
_LINE = 16
_LINE_BEFORE = b"_" * _LINE
"""Stands for a line that began before a gap."""
_BREAK_BYTES = 24

Span = tuple[int, int]


class _Joined(NamedTuple):
    """A text without the breaks in its encoded lines."""

    text: bytes
    starts: list[int]
    """Of each line, in the joined text."""
    origins: list[int]
    """Of each line, in the text that it was made of."""

    def origin(self, at: int) -> int:
        line = bisect_right(self.starts, at) - 1
        return self.origins[line] + at - self.starts[line]


def _join(text: bytes, *, begun: bool = False) -> _Joined:
    """`begun`: what may be the beginning of a break at the end of the text is taken for one."""
    cuts = [found.span() for found in _BREAK.finditer(text) if _ends_a_line(text, found.start())]
    if begun and (last := _BEGUN_BREAK.search(text, max(0, len(text) - _BREAK_BYTES))):
        cuts = [cut for cut in cuts if cut[1] <= last.start()]
        cuts += [last.span()] if _ends_a_line(text, last.start()) else []
    lines, starts, origins, at, size = [], [0], [0], 0, 0
    for start, end in cuts:
        lines.append(text[at:start])
        size += start - at
        at = end
        starts.append(size)
        origins.append(at)
    return _Joined(b"".join((*lines, text[at:])), starts, origins)


def _ends_a_line(text: bytes, at: int) -> bool:
    return at >= _LINE and _FULL_LINE.fullmatch(text, at - _LINE, at) is not None


class _Index:
    """Some forms, to be looked for."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self.forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self.longest = max(map(len, self.forms), default=0)
        self._by_head: dict[bytes, list[bytes]] = {}
        for form in self.forms:
            self._by_head.setdefault(form[:_HEAD], []).append(form)
        self._short = {form[:size] for form in self.forms for size in range(1, _HEAD)}
        self._head, self._whole = _patterns(self.forms)

    def occurrences(self, text: bytes) -> Iterator[Span]:
        """In order, also those that overlap; of those that begin at one place the longest."""
        found = self._whole.search(text)
        while found:
            yield found.span()
            found = self._whole.search(text, found.start() + 1)

    def begun(self, text: bytes) -> int:
        """How many bytes of a form, short of all of it, the text ends with: the most that it may be."""
        first = max(0, len(text) - self.longest + 1)
        for found in self._head.finditer(text, first):
            at = found.start()
            begun = text[at:]
            forms = self._by_head.get(text[at : at + _HEAD], ())
            if any(len(form) > len(begun) and form.startswith(begun) for form in forms):
                return len(begun)
        return next((size for size in range(_HEAD - 1, 0, -1) if text[-size:] in self._short), 0)

    def ends(self, lead: bytes) -> Iterator[bytes]:
        """The ends of forms, short of all of them, that begin as `lead` does."""
        begin = lead[:SHORTEST_PART]
        if len(begin) < SHORTEST_PART:
            return
        for form in self.forms:
            at = form.find(begin, 1)
            while at > 0:
                yield form[at:]
                at = form.find(begin, at + 1)


@lru_cache(maxsize=16)  # for keys of many lines it takes half a second
def _finders(secrets: tuple[str, ...]) -> tuple[_Finder, _Finder]:
    """For text and for bytes: a text may hold characters that stand for bytes that are not UTF-8."""
    found = [_forms(secret) for secret in secrets]
    texts = {form for forms in found for form in forms.texts}
    encoded = {form for forms in found for form in forms.encoded}
    in_text, in_data = {_bytes_of_text(form) for form in texts}, {_bytes_of_data(form) for form in texts}
    finder = _Finder(in_text, encoded)
    return finder, finder if in_text == in_data else _Finder(in_data, encoded)


_HEAD = 4
"""Bytes of a form that are looked at first; no form is shorter."""


def _patterns(forms: Iterable[bytes]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What fits wherever a form may begin, and what fits the longest of the forms, sorted so, at a place."""
    by_first: dict[bytes, list[bytes]] = {}
    for form in forms:
        by_first.setdefault(form[:1], []).append(re.escape(form[1:]))
    if not by_first:
        return re.compile(rb"(?!)"), re.compile(rb"(?!)")
    bytes_at = ({form[at : at + 1] for form in forms} for at in range(_HEAD))
    head = b"(?=" + b"".join(b"[" + b"".join(map(re.escape, sorted(found))) + b"]" for found in bytes_at) + b")"
    whole = b"|".join(re.escape(byte) + b"(?:" + b"|".join(rest) + b")" for byte, rest in by_first.items())
    return re.compile(head), re.compile(head + b"(?:" + whole + b")")


class _Finder:
    """Finds secrets in bytes; false when it knows none."""

    def __init__(self, texts: set[bytes], encoded: set[bytes]) -> None:
        self._all = _Index(texts | encoded)
        self._encoded = _Index(encoded)
        self._reach = 3 * self._all.longest + _BREAK_BYTES
        """A form with all the breaks that may stand within it is shorter."""

    def __bool__(self) -> bool:
        return bool(self._all.forms)

    def spans(self, text: bytes) -> Iterator[Span]:
        """Where secrets stand, in order; those that overlap are one."""
        found = self._all.occurrences(text)
        joined = _join(text)
        if len(joined.starts) > 1:
            broken = self._encoded.occurrences(joined.text)
            found = merge(found, ((joined.origin(start), joined.origin(end - 1) + 1) for start, end in broken))
        last: Span | None = None
        for start, end in found:
            if last is None or start >= last[1]:
                if last is not None:
                    yield last
                last = start, end
            else:
                last = last[0], max(last[1], end)
        if last is not None:
            yield last

    def begun(self, text: bytes) -> tuple[int, int]:
        """The first place where a form may begin that goes on behind the text's end, and how much of it is there.

        The end of the text, and 0, when there is none.
        """
        base = max(0, len(text) - self._reach)
        at, size = len(text), 0
        for joined, index in self._readings(text[base:]):
            held = index.begun(joined.text)
            if held and (begin := base + joined.origin(len(joined.text) - held)) < at:
                at, size = begin, held
        return at, size

    def torn_end(self, text: bytes, *, more: bool) -> int | None:
        """How much of the text's beginning is the end of a form whose beginning is missing.

        None: too early to say. Without `more` to come, a text that is the middle of a form is meant as well.
        """
        best = 0
        for joined, index in self._readings(_LINE_BEFORE + text[: self._reach]):
            lead = joined.text[_LINE:]
            if more and len(lead) < SHORTEST_PART:
                return None
            for end in index.ends(lead):
                if lead.startswith(end):
                    best = max(best, joined.origin(_LINE + len(end) - 1) + 1 - _LINE)
                elif end.startswith(lead):
                    if more:
                        return None
                    best = len(text)
        return best

    def _readings(self, text: bytes) -> Iterator[tuple[_Joined, _Index]]:
        """What a text that may go on can be: itself, or encoded lines."""
        yield _Joined(text, [0], [0]), self._all
        if _BREAK.search(text) or _BEGUN_BREAK.search(text):
            yield _join(text), self._encoded
            yield _join(text, begun=True), self._encoded


def _mask(finder: _Finder, data: bytes) -> bytes:
    parts, at = [], 0
    for start, end in finder.spans(data):
        parts += [data[at:start], MASK.encode()]
        at = end
    return b"".join((*parts, data[at:])) if parts else data


# --- in a stream


_CONTEXT = _LINE + _BREAK_BYTES
"""Bytes before a place that say whether there is a break."""


class StreamMasker:
    """Masks what arrives in pieces: together they come out as they would from `Masker.data`, however they are cut.

    What may be the beginning of a secret is held back until it is known. Made by `Masker.stream`.
    """

    def __init__(self, finder: _Finder) -> None:
        self._finder = finder
        self._restart(torn=False)

    def _restart(self, *, torn: bool) -> None:
        self._torn = torn
        """Bytes are missing before what comes, and it is not known yet whether they were part of a secret."""
        self._window = _LINE_BEFORE if torn else b""
        self._at = len(self._window)
        """The first byte that was not given out; those before it are kept for context."""
        self._masked_to = 0

    def feed(self, data: bytes) -> bytes:
        """What is certain by now, masked."""
        if not self._finder:
            return data
        self._window += data
        torn = b""
        if self._torn:
            size = self._finder.torn_end(self._window[self._at :], more=True)
            if size is None:
                return b""
            torn = self._mask_to(self._at + size)
            self._torn = False
        return torn + self._give(self._finder.begun(self._window)[0])

    def end(self) -> bytes:
        """The rest; another stream may begin."""
        rest = self._mend() + self._give(len(self._window))
        self._restart(torn=False)
        return rest

    def cut(self) -> bytes:
        """The rest of what was fed; bytes are missing before what will be.

        A beginning or an end of a secret beside the gap is masked, from four bytes on.
        """
        torn = self._mend()
        at, size = self._finder.begun(self._window)
        rest = self._give(at)
        rest += self._mask_to(len(self._window)) if size >= SHORTEST_PART else self._give(len(self._window))
        self._restart(torn=bool(self._finder))
        return torn + rest

    def _mend(self) -> bytes:
        """Settle what the end of a secret is at the beginning, now that no more will come."""
        size = self._finder.torn_end(self._window[self._at :], more=False) if self._torn else 0
        self._torn = False
        return self._mask_to(self._at + (size or 0))

    def _mask_to(self, end: int) -> bytes:
        """Mask up to there; what is given out for it."""
        if end <= max(self._at, self._masked_to):
            return b""
        begins = self._masked_to <= self._at
        self._masked_to = self._at = end
        return MASK.encode() if begins else b""

    def _give(self, end: int) -> bytes:
        """Give out all up to there, masked."""
        end = max(end, self._at)
        parts = []
        for start, stop in self._finder.spans(self._window):
            if start >= end:
                break
            if start >= self._masked_to:
                parts += [self._window[max(self._at, self._masked_to) : start], MASK.encode()]
                self._at = start
            self._masked_to = max(self._masked_to, stop)
        parts.append(self._window[max(self._at, self._masked_to) : end])
        dropped = max(0, end - _CONTEXT)
        self._window = self._window[dropped:]
        self._at = end - dropped
        self._masked_to = max(0, self._masked_to - dropped)
        return b"".join(parts)
