"""Text of strangers: what is hidden goes and is said, what is seen stays."""

from __future__ import annotations

import hashlib
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch.issue_text import clean

SEEN_FORMATS = set(range(0x600, 0x606)) | {
    0x6DD,
    0x8E2,
    0x890,
    0x891,
    0x110BD,
    0x110CD,
}  # Arabic and Kaithi signs around numbers
EMOJI = "\ufe0f"


def _text(original: str) -> str:
    return clean(original, name="body").text


@pytest.mark.parametrize(
    ("original", "text"),
    [
        ("a <!-- hidden --> b", "a  b"),
        ("a<!-- hidden -->b", "a b"),
        ("<!-- hidden -->\nseen", "\nseen"),
        ("a <!--\nmany\nlines\n--> b", "a  b"),
        ("one <!-- 1 --> two <!-- 2 --> three", "one  two  three"),
        ("<!--><b>seen</b> -->", "<b>seen</b> -->"),
        ("<!---> seen", " seen"),
        ("<!-- a --!> seen", " seen"),
        ("<!-- <!-- a --> seen -->", " seen -->"),
        ("```html\n<!-- in a fence -->\n```", "```html\n\n```"),
        ("`<!-- in code -->`", "` `"),
        ("<!<!-- x -->-- y -->", "<! -- y -->"),
        ("<\u200b!-- x -->", ""),
        ("<!-\u200b- x --\u2060>seen", "seen"),
    ],
)
def test_a_comment_is_taken_out(original: str, text: str) -> None:
    assert _text(original) == text


@pytest.mark.parametrize(
    ("original", "text"),
    [
        ("seen\n<!-- the rest\nis hidden", "seen\n"),
        ("seen\n  <!-- the rest", "seen\n  "),
        ("> - <!-- in a quote", "> - "),
        ("1. <!-- in a list", "1. "),
        ("<b>seen</b> <!-- behind HTML", "<b>seen</b> "),
        ("<details>\n\nwords <!-- in an open block", "<details>\n\nwords "),
        ("<?php <!-- behind an instruction", "<?php "),
        ("the parser stops at <!-- and says nothing", "the parser stops at <!-- and says nothing"),
        ("it stops at `<!--`\n\n<!-- hidden", "it stops at `<!--`\n\n"),
        ("a < b <!-- seen", "a < b <!-- seen"),
    ],
)
def test_a_comment_that_nothing_closes_ends_as_a_page_shows_it(original: str, text: str) -> None:
    assert _text(original) == text


@pytest.mark.parametrize(
    ("original", "text"),
    [
        ("zero\u200bwidth\u2060\ufeff", "zerowidth"),
        ("\u202ereversed\u202c \u2066x\u2069", "reversed x"),
        ("tags\U000e0041\U000e0042\U000e007f", "tags"),
        ("selectors\U000e0101\ufe01 \ufe0f", "selectors "),
        ("nul\x00 escape\x1b[31m", "nul escape[31m"),
        ("half a pair \ud83d", "half a pair "),
        ("blank\u3164\u115f\u2800", "blank"),
        ("soft\u00adhyphen", "softhyphen"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("tab\tand\nnewline", "tab\tand\nnewline"),
        ("⚠\ufe0f and 1\ufe0f\u20e3 stay", "⚠\ufe0f and 1\ufe0f\u20e3 stay"),
        ("Grüße, 你好, مرحبا, नमस्ते, e\u0301", "Grüße, 你好, مرحبا, नमस्ते, e\u0301"),
        ("no\u00a0break\u3000space", "no\u00a0break\u3000space"),
    ],
)
def test_what_is_not_seen_is_taken_out_and_nothing_else(original: str, text: str) -> None:
    assert _text(original) == text


def test_every_character_of_an_invisible_category_is_taken_out() -> None:
    left = [
        f"U+{code:04X}"
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and code not in SEEN_FORMATS
        and chr(code) not in "\t\n"
        and _text(f"a{chr(code)}b") not in ("ab", "a\nb")
    ]
    assert left == []


def test_the_note_says_what_was_taken_out_and_knows_the_original() -> None:
    original = "seen<!-- 12345 -->\u200b\u200b\u202e<!-- x -->"
    digest = hashlib.sha256(original.encode()).hexdigest()
    assert clean(original, name="body").note == (
        "2 HTML comments (24 characters) and 3 invisible characters (U+200B, U+202E) taken out of body; "
        f"SHA-256 of the original: {digest}"
    )


def test_one_is_not_said_as_many() -> None:
    assert clean("<!--x-->", name="t").note.startswith("1 HTML comment (8 characters) taken out of t;")
    assert clean("\u200b", name="t").note.startswith("1 invisible character (U+200B) taken out of t;")


def test_of_many_kinds_of_characters_some_are_named() -> None:
    assert "(U+200B, U+200C, U+200D, U+200E, …)" in clean("\u200b\u200c\u200d\u200e\u200f", name="t").note


def test_line_ends_alone_are_no_news() -> None:
    assert clean("a\r\nb", name="body") == ("a\nb", "")


def test_a_title_may_speak_of_comments() -> None:
    assert clean("It stops at <!-- x -->\u200b", name="title", markdown=False).text == "It stops at <!-- x -->"


@pytest.mark.parametrize(
    "bomb",
    ["<!--" * 100_000, "a<!---->" * 50_000, "<!" * 50_000 + "<!-- -->" + "-- -->" * 50_000, "a<!--" * 100_000 + "-->"],
    ids=["unclosed", "many", "nested", "long"],
)
def test_a_bomb_is_cleaned(bomb: str) -> None:
    assert len(_text(bomb)) <= len(bomb)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\n\t")))
def test_visible_text_passes_unchanged(text: str) -> None:
    visible = text.replace("<!--", "")
    if "<!--" not in visible:
        assert clean(visible, name="body") == (visible, "")


MIXED = st.lists(
    st.sampled_from(["<!--", "-->", "<!", "--", ">", "-", "!", "<", "\n", " ", "a", "<b>", "\r", "- ", "`"])
    | st.sampled_from(["\u200b", "\u202e", "\U000e0041", "\x00", "\ufe0f", "⚠", "\ud800", "\x85"])
    | st.characters(),
    max_size=30,
).map("".join)


@given(MIXED)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = _text(text)
    assert clean(once, name="body") == (once, "")


@given(MIXED)
def test_nothing_hidden_is_left(text: str) -> None:
    once = _text(text)
    assert "-->" not in once.partition("<!--")[2]
    assert not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n" for character in once
    )
    once.encode()
