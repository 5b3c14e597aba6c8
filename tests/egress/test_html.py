"""HTML as text: what a model wants to know of a page, in time that the page's size bounds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.egress.html import to_text

URL = "https://example.org/docs/page.html"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<title>A &amp; B</title><p>One\n  two</p><p>three", "A & B\n\nOne two\n\nthree"),
        ("<h1>Top</h1><h3>Lower</h3>text", "# Top\n\n### Lower\n\ntext"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<pre>  two\n   three &lt;</pre>", "```\n  two\n   three <\n```"),
        ("run <code>make  test</code>", "run `make test`"),
        ('<a href="other.html#part">there</a>', "[there](https://example.org/docs/other.html#part)"),
        ("<a href='/x'>a</a> <a href=//b.test/>b</a>", "[a](https://example.org/x) [b](https://b.test/)"),
        ('<a href="#here">here</a> <a href="javascript:alert(1)">no</a>', "here no"),
        ("<tr><td>a</td><td>b</td></tr>", " | a | b".strip()),
        ("a<br>b<!-- not <b>this</b> -->c", "a\nbc"),
        ("<script>if (a < b) { '<p>' }</script><style>p {}</style>text", "text"),
        ("<SCRIPT>x</SCRIPT><P>text</P>", "text"),
        ("<script>never ends", ""),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("plain text", "plain text"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("<a href='http://['>bad</a>", "[bad](http://[)"),
        ("</pre></a></code>", "`"),
    ],
)
def test_a_page_reads_as_markdown(page: str, text: str) -> None:
    assert to_text(page, URL) == text


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", "<!--", "<title", "<title></title>", "<script>", "<svg></svg", "<a href='", "&", "<pre>  ", "</a>"],
)
def test_no_page_takes_long(piece: str) -> None:
    began = time.process_time()
    to_text(piece * (400_000 // len(piece)), URL)
    assert time.process_time() - began < 10  # minutes, if it were not in proportion


@given(st.lists(st.one_of(st.text(max_size=10), st.sampled_from(["<a href=", "<pre>", "</", "<!--", ">", "&#", "'"]))))
def test_nothing_makes_it_fail(pieces: list[str]) -> None:
    to_text("".join(pieces), URL)
