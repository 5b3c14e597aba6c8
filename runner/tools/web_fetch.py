"""WebFetch: a page of the web as text, fetched by the runner and not from the container."""

from __future__ import annotations

import re

from runner.egress.fetch import NotFetched, Page, upgraded
from runner.egress.html import to_text
from runner.policy import Call
from runner.tools.arguments import Word
from runner.tools.base import Answer, Session, Tool, failure

MAX_CHARS = 100_000
"""Of one answer: about 25,000 to 30,000 tokens."""
_READABLE = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|toml)|application/(java|ecma)script|")
# What browsers call these; Python knows encodings that take ages, or are none.
_CHARSETS = re.compile(
    r"utf-?(8|16|16le|16be)|(us-)?ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|shift_jis|"
    r"euc-(jp|kr)|gb(2312|k|18030)|big5"
)


class WebFetch(Tool):
    """Fetches a web page and returns its text; HTML comes as Markdown, other text and JSON as they are.

    The whole page is returned, up to 100,000 characters: nobody summarises it for you, so `prompt` is not needed.
    Only hosts that the policy names can be fetched from. http is tried as https.
    """

    url: Word
    """The URL, beginning with https:// or http://."""
    prompt: Word | None = None
    """What you look for in the page. It changes nothing in the answer."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return (Call(tool="WebFetch", subject=upgraded(self.url)),)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        if session.fetch is None:
            return failure("Pages cannot be fetched in this job.")
        try:
            page = session.fetch(calls[-1].subject, session.seconds_left)
        except NotFetched as error:
            return failure(str(error))
        return _show(page)


def _show(page: Page) -> Answer:
    details = {"url": page.url, "content_type": page.content_type, "bytes": len(page.body)}
    kind, _, parameters = page.content_type.partition(";")
    kind = kind.strip().lower()
    text = _decoded(page.body, parameters)
    if not _READABLE.fullmatch(kind) or "\0" in text[:1024]:
        what = f"it says that it is {kind}" if kind else "it does not say what it is"
        return failure(f"{page.url} is no text: {what}, {len(page.body):,} bytes.", **details)
    if "html" in kind or (not kind and text.lstrip()[:1] == "<"):
        text = to_text(text, page.url)
    notes = [f"the page is {page.url}"]
    if page.truncated or len(text) > MAX_CHARS:
        notes.append("it is longer: this is its beginning")
    return Answer(content=f"{text[:MAX_CHARS]}\n({'; '.join(notes)})", details=details)


def _decoded(body: bytes, parameters: str) -> str:
    found = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters, re.IGNORECASE)
    charset = found[1].lower() if found and _CHARSETS.fullmatch(found[1].lower()) else "utf-8"
    return body.decode(charset, "replace").removeprefix("\ufeff")
