from __future__ import annotations

import pytest

from runner.egress.fetch import NotFetched, Page
from runner.policy import Call
from runner.tools.arguments import parse, spec
from runner.tools.base import Answer, Session
from runner.tools.web_fetch import MAX_CHARS, WebFetch

URL = "https://example.org/page"


def page(body: str | bytes, content_type: str = "text/html", *, truncated: bool = False) -> Page:
    data = body.encode() if isinstance(body, str) else body
    return Page(url=URL, content_type=content_type, body=data, truncated=truncated)


def show(session: Session, found: Page | NotFetched) -> Answer:
    """What the tool says of this page."""

    def fetch(url: str, seconds: float) -> Page:
        if isinstance(found, NotFetched):
            raise found
        return found

    session.fetch = fetch
    tool = WebFetch(url=URL)
    return tool.run(session, tool.calls(session))


def test_a_page_is_judged_and_fetched_by_its_url(session: Session) -> None:
    asked: list[tuple[str, float]] = []

    def fetch(url: str, seconds: float) -> Page:
        asked.append((url, seconds))
        return page("hello")

    session.fetch, session.seconds_left = fetch, 7.0
    tool = parse(WebFetch, {"url": "http://example.org/page", "prompt": "what is it about?"})
    calls = tool.calls(session)
    assert calls == (Call(tool="WebFetch", subject=URL),)
    assert tool.run(session, calls).content == f"hello\n(the page is {URL})"
    assert asked == [(URL, 7.0)]


def test_html_comes_as_markdown_and_other_text_as_it_is(session: Session) -> None:
    assert show(session, page("<h1>Hi</h1><script>x</script>")).content.startswith("# Hi\n(")
    assert show(session, page("<h1>Hi</h1>", "text/plain")).content.startswith("<h1>Hi</h1>\n(")
    assert show(session, page("<h1>Hi</h1>", "application/xhtml+xml; charset=UTF-8")).content.startswith("# Hi\n(")
    assert show(session, page('{"a": 1}', "application/json")).content.startswith('{"a": 1}\n(')
    assert show(session, page("<p>no type", "")).content.startswith("no type\n(")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=iso-8859-1", "grün".encode("latin-1")),
        ('text/plain; charset="windows-1252"', "grün".encode("cp1252")),
        ("text/plain", "grün".encode()),
        ("text/plain; charset=utf-16", "grün".encode("utf-16")),
        ("text/plain; charset=rot13", "grün".encode()),
        ("text/plain; charset=no-such-thing", "\ufeffgrün".encode()),
    ],
)
def test_text_is_read_in_the_encoding_that_it_names(session: Session, content_type: str, body: bytes) -> None:
    assert show(session, page(body, content_type)).content.startswith("grün\n(")


@pytest.mark.parametrize(
    ("content_type", "body"), [("image/png", b"\x89PNG"), ("application/pdf", b"%PDF"), ("text/plain", b"a\0b")]
)
def test_what_is_no_text_is_refused_with_its_type_and_size(session: Session, content_type: str, body: bytes) -> None:
    answer = show(session, page(body, content_type))
    assert answer.is_error
    assert answer.content == f"{URL} is no text: it says that it is {content_type}, {len(body)} bytes."


def test_a_long_page_is_cut_and_says_so(session: Session) -> None:
    answer = show(session, page("x" * (MAX_CHARS + 1), "text/plain"))
    assert len(answer.content) < MAX_CHARS + 200
    assert answer.content.endswith("it is longer: this is its beginning)")
    assert show(session, page("x", truncated=True)).content.endswith("this is its beginning)")


def test_what_went_wrong_is_told(session: Session) -> None:
    answer = show(session, NotFetched("example.org was not reached: it is asleep."))
    assert (answer.is_error, answer.content) == (True, "example.org was not reached: it is asleep.")


def test_a_job_without_the_web_says_so(session: Session) -> None:
    tool = WebFetch(url=URL)
    assert tool.run(session, tool.calls(session)).is_error


@pytest.mark.parametrize(
    "url", ["nonsense", "http://[", "http://a:99999/", "file:///etc/passwd", "https://ex℀mple.com"]
)
def test_a_url_that_makes_no_sense_is_left_to_the_policy(session: Session, url: str) -> None:
    [call] = WebFetch(url=url).calls(session)
    assert call.tool == "WebFetch"


def test_the_model_is_told_that_nobody_summarises() -> None:
    assert "up to 100,000 characters" in spec(WebFetch).description
    assert f"{MAX_CHARS:,}" == "100,000"
