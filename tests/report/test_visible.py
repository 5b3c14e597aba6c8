"""Nothing from a container acts on a terminal or hides in a text."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.report.visible import exact, one_line, visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nand more", "plain\ttext\nand more"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07after", "after"),
        ("\x1b]8;;https://evil.invalid\x1b\\click\x1b]8;;\x1b\\", "click"),
        ("\x1b]52;c;ZXZpbA==\x1b\\", ""),
        ("\x1bP1$r0m\x1b\\x", "x"),
        ("\x1bc\x1b7\x1b(B", ""),
        ("\x9b31mred \x9d0;t\x9cx", "red x"),
        ("\x1b[", "␛["),
        ("\x1b]0;no end\nnext", "␛]0;no end\nnext"),
        ("a\x00b\x08c\x7fd\x85e", "a␀b␈c␡d⟨U+0085⟩e"),
        ("50%\r100%\r\ndone", "50%\n100%\ndone"),
        ("access\u202egpj.exe", "access⟨U+202E⟩gpj.exe"),
        ("zero\u200bwidth \ufeffbom so\u00adft", "zero⟨U+200B⟩width ⟨U+FEFF⟩bom so⟨U+00AD⟩ft"),
        ("tags\U000e0041\U000e0042", "tags⟨U+E0041⟩⟨U+E0042⟩"),
        ("line\u2028sep", "line⟨U+2028⟩sep"),
        ("lone \ud800", "lone ⟨U+D800⟩"),
        ("\u202e" * 5_000, "⟨5,000 invisible characters⟩"),
        ("naïve Ünïcödé 漢字 שלום ✔️ 😀", "naïve Ünïcödé 漢字 שלום ✔️ 😀"),
    ],
)
def test_text_is_shown_and_does_nothing(text: str, shown: str) -> None:
    assert visible(text) == shown


SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
SIGNS += "".join(map(chr, range(0x13430, 0x13440)))
"""Format characters by name that are seen: number signs of Arabic, Syriac and Kaithi, hieroglyph joiners."""


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), max_size=300))
def test_no_control_or_format_character_comes_through(text: str) -> None:
    left = [char for char in visible(text) if char not in "\t\n" + SIGNS]
    assert not [char for char in left if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.sampled_from("\x1b[]()P\\;0m\x07\x9b\x9da\n"), max_size=60))
def test_no_escape_survives_however_it_is_nested(text: str) -> None:
    assert not set(visible(text)) & set("\x1b\x9b\x9d\x07")


def test_of_what_is_decided_about_nothing_is_left_out() -> None:
    """A shell reads on after an escape that a terminal would swallow."""
    assert visible("true \x1b]0; ; rm -rf src ; \x07") == "true "
    assert exact("true \x1b]0; ; rm -rf src ; \x07") == "true ␛]0; ; rm -rf src ; ␇"
    assert exact("a\rb\tc\nd\u202e") == "a␍b\tc\nd⟨U+202E⟩"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), max_size=300))
def test_nothing_that_acts_comes_through_there_either(text: str) -> None:
    left = [char for char in exact(text) if char not in "\t\n" + SIGNS]
    assert not [char for char in left if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_a_line_stays_one_line() -> None:
    assert one_line(" a\r\nb\x0bc\u2028d \x1b[2J") == "a b␋c⟨U+2028⟩d"


def test_long_hostile_text_is_shown_quickly() -> None:
    """A pattern that tries again from every escape would take minutes for these."""
    for part in ("\x1b]", "\x1b]a", "\x1bP" + "a" * 50, "\x1b[" + "1;" * 40, "\u202ea"):
        visible(part * (1_000_000 // len(part)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::owned", "⟨::⟩error::owned"),
        ("x ::set-output name=a::b", "x ⟨::⟩set-output name=a::b"),
        ("##[add-mask]x", "⟨##⟩[add-mask]x"),
        ("#\x1b[0m#[error]x", "⟨##⟩[error]x"),
        ("std::vec::Vec ${x##[0-9]}", "std::vec::Vec ${x##[0-9]}"),
    ],
)
def test_no_command_to_a_ci_jobs_runner_comes_through(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert exact("##[Error]x ::STOP-COMMANDS::y") == "⟨##⟩[Error]x ⟨::⟩STOP-COMMANDS::y"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(st.text(st.characters()), lambda inner: st.dictionaries(st.text(), inner, max_size=3)))
def test_json_says_the_same_with_nothing_unseen_in_it(value: object) -> None:
    text = visible_json(value)
    assert json.loads(text) == value
    assert visible(text) == text


def test_json_holds_no_command_to_a_ci_jobs_runner() -> None:
    said = {"a": "::error::x ##[error]y \u202e é"}
    assert json.loads(visible_json(said)) == said
    assert one_line(visible_json(said)) == r'{ "a": "\u003a:error::x \u0023#[error]y \u202e é" }'
