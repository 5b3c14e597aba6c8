"""HTML as a model reads it: the text, with headings, lists, code and links marked as in Markdown.

Takes time in proportion to the page, whatever is in it, and never fails; what is no HTML comes out as text.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin

_TOKEN = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^>]*>?|<(/?)([a-zA-Z][^\s/>]*)([^>]*)>?|[^<]+|<", re.DOTALL)
_HREF = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_SKIPPED = frozenset(("noscript", "script", "style", "svg", "template", "textarea", "title"))
_PARAGRAPHS = frozenset(("article", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "section", "table"))
_LINES = frozenset(
    ("address", "aside", "body", "br", "caption", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "footer")
    + ("form", "header", "hr", "legend", "li", "main", "nav", "ol", "option", "summary", "tr", "ul")
)


def to_text(page: str, url: str) -> str:
    """The title and the text of a page; links are made absolute from `url`."""
    reader = _Reader(url)
    title = ""
    position = 0
    while token := _TOKEN.match(page, position):
        position = token.end()
        tag = (token[2] or "").lower()
        if not tag:
            reader.text("" if token[0].startswith(("<!", "<?")) else token[0])
        elif token[1]:
            reader.close(tag)
        elif tag in _SKIPPED:
            end = re.compile(f"</{tag}[^>]*>?", re.IGNORECASE).search(page, position)
            if tag == "title":
                title = title or page[position : end.start() if end else None]
            position = end.end() if end else len(page)
        else:
            reader.open(tag, token[3])
    return f"{' '.join(_unescaped(title).split())}\n\n{reader.result()}".strip()


class _Reader:
    """Writes down what it is given, tag by tag."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._out: list[str] = []
        self._verbatim = 0
        """How many <pre> are open."""
        self._links: list[str] = []
        """Where the open <a> lead to; "" for nowhere worth telling."""

    def text(self, text: str) -> None:
        text = _unescaped(text)
        self._out.append(text if self._verbatim else re.sub(r"\s+", " ", text))

    def open(self, tag: str, attributes: str) -> None:
        self._break(tag)
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._out.append("#" * int(tag[1]) + " ")
            case "li":
                self._out.append("- ")
            case "td" | "th":
                self._out.append(" | ")
            case "pre":
                self._verbatim += 1
                self._out.append("```\n")
            case "code" if not self._verbatim:
                self._out.append("`")
            case "a":
                self._links.append(self._target(attributes))
                self._out.append("[" if self._links[-1] else "")

    def close(self, tag: str) -> None:
        match tag:
            case "pre" if self._verbatim:
                self._verbatim -= 1
                self._out.append("\n```")
            case "code" if not self._verbatim:
                self._out.append("`")
            case "a" if self._links:
                link = self._links.pop()
                self._out.append(f"]({link})" if link else "")
        self._break(tag)

    def result(self) -> str:
        lines = (line.rstrip() for line in "".join(self._out).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._out.append("\n\n")
        elif tag in _LINES:
            self._out.append("\n")

    def _target(self, attributes: str) -> str:
        found = _HREF.search(attributes)
        link = _unescaped(next(filter(None, found.groups()), "")) if found else ""
        if not link or link.startswith("#") or link.lower().startswith("javascript:"):
            return ""
        try:
            return urljoin(self._url, link)
        except ValueError:
            return link


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character number with thousands of digits
        return text
