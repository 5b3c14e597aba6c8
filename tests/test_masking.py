"""Secrets are masked in every form and however the bytes that hold them are cut."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.errors import ConfigError
from runner.masking import LONGEST_NAMED, MASK, Masker, StreamMasker, check_maskable, masker

TOKEN = "tok_4f9Zq7-Lw2/x8+Yb1=Nc6?Rt&3 Vm'5\"$J\\<é>"
PLAIN = "ghp_Zx81kQpW0aTrLs93VbNmC64uYe2D"
KEY = "-----BEGIN KEY-----\n" + "\n".join(base64.b64encode(bytes([n]) * 48).decode() for n in range(65, 90)) + "\n"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _as_git_quotes(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(char if char.isascii() else "".join(f"\\{byte:o}" for byte in char.encode()) for char in quoted)


FORMS = {
    "plain": str,
    "json": json.dumps,
    "json with letters": lambda secret: json.dumps({"key": f"a{secret}b"}, ensure_ascii=False),
    "json in json": lambda secret: json.dumps(json.dumps([secret])),
    "json for a page": lambda secret: (
        json.dumps(secret).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    ),
    "json with escaped slashes": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "url": lambda secret: "https://x.invalid/?k=" + quote(secret, safe="") + "&z=1",
    "url path": quote,
    "form": quote_plus,
    "lower-case url": lambda secret: quote(secret, safe="").replace("%2F", "%2f").replace("%3C", "%3c").lower(),
    "html": html.escape,
    "html text": lambda secret: html.escape(secret, quote=False),
    "shell word": shlex.quote,
    "shell backslashes": lambda secret: "'" + secret.replace("'", "'\\''") + "'",
    "python": lambda secret: repr({"key": secret}),
    "base64": lambda secret: _b64(secret.encode()),
    "base64 of more": lambda secret: _b64(b"user:" + secret.encode() + b"\nmore text behind it"),
    "base64 of a json": lambda secret: _b64(json.dumps({"auth": secret}).encode()),
    "base64 in a url": lambda secret: quote(_b64(secret.encode()), safe=""),
    "url-safe base64": lambda secret: base64.urlsafe_b64encode(b"ab" + secret.encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
    "upper-case hex": lambda secret: secret.encode().hex().upper(),
    "name of a file": lambda secret: '"a/' + _as_git_quotes(secret) + '"',
    "hex bytes": lambda secret: secret.encode().hex(" "),
    "escaped bytes": lambda secret: "".join(f"\\x{byte:02x}" for byte in secret.encode()),
    "all percent-encoded": lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("secret", [TOKEN, PLAIN], ids=["odd characters", "letters"])
def test_a_secret_is_masked_in_every_form(secret: str, form: object) -> None:
    if form is FORMS["lower-case url"]:
        secret = secret.lower()
    written = form(secret)  # type: ignore[operator]
    masked = Masker([secret]).text(f"before {written} after")
    assert MASK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert not _shares(masked, written, 8)
    assert Masker([secret]).data(f"before {written} after".encode()) == masked.encode()


def _shares(text: str, written: str, size: int) -> list[str]:
    """Pieces of the written secret that are still there; what stands around it in the same form is short."""
    core = written[len(written) // 3 : -len(written) // 3]
    return [core[at : at + size] for at in range(len(core) - size + 1) if core[at : at + size] in text]


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_of_a_longer_base64_no_more_than_the_edges_of_the_secret_stays(before: int, after: int) -> None:
    encoded = _b64(b"<" * before + PLAIN.encode() + b">" * after)
    kept = Masker([PLAIN]).text(encoded).split(MASK)
    # One character at each end holds bits of both the secret and its neighbour.
    assert len(kept) == 2
    assert len(kept[0]) <= -(-before * 8 // 6)
    assert len(kept[1]) <= 1 + -(-after * 8 // 6) + 2


@pytest.mark.parametrize("line", [20, 60, 64, 76, 77])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", "\n  ", "\n     7\t"])
@pytest.mark.parametrize("before", [0, 1, 17, 40, 44, 45, 46, 47])
def test_base64_and_hex_that_are_broken_into_lines_are_masked(line: int, end: str, before: int) -> None:
    raw = b"x" * before + PLAIN.encode() + b"y" * 50
    for encoded in (_b64(raw), raw.hex()):
        text = end.join(encoded[at : at + line] for at in range(0, len(encoded), line))
        masked = Masker([PLAIN]).text(text)
        assert masked.count(MASK) == 1
        assert len(masked) < len(text) - len(PLAIN) * 4 // 3 + 4


def test_what_the_usual_programs_print_is_masked() -> None:
    secret = PLAIN * 3
    for command in (["base64"], ["base64", "-w0"], ["xxd", "-p"], ["od", "-An", "-c"], ["jq", "-Rs", "."]):
        try:
            done = subprocess.run(command, input=f"{'.' * 41}{secret}\n", capture_output=True, text=True, check=True)
        except FileNotFoundError:
            continue
        # od is the one that is not: it takes every byte for itself.
        assert (MASK in Masker([secret]).text(done.stdout)) is (command[0] != "od"), command


def test_of_a_multi_line_secret_the_whole_and_every_line_is_masked() -> None:
    assert masker((KEY,))(KEY) == MASK + "\n"
    lines = KEY.splitlines()
    assert masker((KEY,))("\n".join(f"{n:6}\t{line}" for n, line in enumerate(lines))).count(MASK) == len(lines)
    assert masker((KEY,))(json.dumps(KEY)) == f'"{MASK}\\n"'
    encoded = base64.encodebytes(b"# mine\n" + KEY.encode()).decode()
    assert len(masker((KEY,))(encoded)) < 40


def test_values_that_are_no_characters_are_masked() -> None:
    secret = "pass\udcff\udcfeword"
    assert Masker([secret]).data(b"a pass\xff\xfeword b") == b"a *** b"
    assert masker((secret,))(f"a {secret} b pass\ufffd\ufffdword c") == "a *** b *** c"
    assert masker(("\ud800 lone half",))("a \ud800 lone half b") == "a *** b"


def test_text_without_a_secret_is_left_as_it_is() -> None:
    text = "naïve \ud800 \udcff \x00 text\r\nwith ghp_Zx81kQpW0aTrLs93VbNmC64uYe2 almost\n" * 3
    assert masker((PLAIN, TOKEN, KEY))(text) == text
    data = b"\xff\xfe\x00binary" * 9
    assert Masker([PLAIN]).data(data) is data


@pytest.mark.parametrize("secrets", [(), ("",), ("a", "xyz", "   ")])
def test_what_is_too_short_to_hide_is_left_alone(secrets: tuple[str, ...]) -> None:
    mask = Masker(secrets)
    assert not mask
    assert (mask.text("a xyz    b"), mask.data(b"a xyz"), masker(secrets)("a xyz")) == ("a xyz    b", b"a xyz", "a xyz")
    stream = mask.stream()
    assert [stream.feed(b"a x"), stream.cut(), stream.feed(b"yz"), stream.end()] == [b"a x", b"", b"yz", b""]


def test_secrets_that_overlap_leave_nothing_of_either() -> None:
    assert masker(("abcdefgh", "efghijkl"))("<abcdefghijkl>") == "<***>"
    assert masker(("abababab",))("<abababababab>") == "<***>"
    assert masker(("secret-a", "secret-a-longer"))("secret-a-longer secret-a") == "*** ***"


# --- names under `secrets`


@pytest.mark.parametrize("value", ["correct horse", "12345678", "\nghp_abcd1234\n", "x" * 100 + "abc"])
def test_a_value_of_eight_characters_can_be_kept_out(value: str) -> None:
    check_maskable("TOKEN", value)
    assert Masker([value])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("hunter2", "is shorter than 8 characters"),
        ("aaaaaaaaaaaaaaaa", "has fewer than 4 different characters"),
        ("0123456789" * (LONGEST_NAMED // 10 + 1), "is longer than 16,384 characters"),
    ],
)
def test_a_value_that_cannot_be_masked_is_refused_by_name_and_not_shown(value: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"secrets: the value of TOKEN {why}") as error:
        check_maskable("TOKEN", value)
    assert not value.strip() or value not in str(error.value)


# --- streams


def _streamed(stream: StreamMasker, pieces: list[bytes]) -> bytes:
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.end()])


SMALL = ("abcd-abce", "bcd-", "AAAA" * 5, "two\nlines", "aaab")
SECRETS = st.lists(
    st.one_of(st.sampled_from(SMALL), st.text("ab\n", min_size=4, max_size=12), st.just(PLAIN)), min_size=1, max_size=3
)


@st.composite
def _texts(draw: st.DrawFn, secrets: list[str]) -> bytes:
    """Bytes in which secrets stand often: whole, cut, doubled, encoded, in lines."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        secret = draw(st.sampled_from(secrets)).encode()
        written = draw(
            st.sampled_from(
                [
                    secret,
                    secret[:-1],
                    secret[1:],
                    secret + secret,
                    base64.b64encode(b"?" * draw(st.integers(0, 40)) + secret),
                    secret.hex().encode(),
                    json.dumps(secret.decode()).encode(),
                ]
            )
        )
        if draw(st.booleans()):
            line = draw(st.integers(16, 40))
            end = draw(st.sampled_from([b"\n", b"\r\n", b"\\n", b"\n   12\t", b"\\r\\n"]))
            written = end.join(written[at : at + line] for at in range(0, len(written), line))
        parts += [written, draw(st.one_of(st.sampled_from([b"", b"\n", b" "]), st.binary(max_size=4)))]
    return b"".join(parts)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[list[str], list[bytes]]:
    secrets = draw(SECRETS)
    text = draw(_texts(secrets))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return secrets, [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


@given(_cases())
@example((["aaab"], [b"aa", b"a", b"b"]))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_however_a_stream_is_cut_it_is_masked_as_the_whole(case: tuple[list[str], list[bytes]]) -> None:
    secrets, pieces = case
    mask = Masker(secrets)
    assert _streamed(mask.stream(), pieces) == mask.data(b"".join(pieces))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_secret_that_comes_byte_by_byte_is_masked(size: int) -> None:
    text = base64.encodebytes(b"." * 50 + TOKEN.encode() * 2) + TOKEN.encode() + b"\n" + PLAIN.encode() + b" end"
    mask = Masker([TOKEN, PLAIN])
    stream = mask.stream()
    assert _streamed(stream, [text[at : at + size] for at in range(0, len(text), size)]) == mask.data(text)
    assert _streamed(stream, [text]) == mask.data(text), "the next stream begins anew"


def test_what_no_secret_begins_with_is_not_held_back() -> None:
    stream = Masker([PLAIN, TOKEN]).stream()
    for line in (b"Listening on port 8087\n", b"...", b"0123456789abcdefX\n", b"\r\n"):
        assert stream.feed(line) == line
    assert stream.feed(b"see g") == b"see "
    assert stream.feed(b"ulls.") == b"gulls."


def test_a_stream_of_beginnings_is_not_kept_in_memory() -> None:
    stream, begun = Masker([PLAIN]).stream(), PLAIN[:-1].encode()
    given = sum(len(stream.feed(begun)) for _ in range(2_000))
    assert 2_000 * len(begun) - given == len(begun) == len(stream.end())


# --- gaps


@pytest.mark.parametrize("head", range(len(PLAIN) + 1))
@pytest.mark.parametrize("write", [str.encode, lambda s: s.encode().hex().encode()], ids=["plain", "hex"])
def test_beside_a_gap_no_more_than_three_characters_of_a_secret_stay(head: int, write: object) -> None:
    written: bytes = write(PLAIN)  # type: ignore[operator]
    for tail in range(len(written) - head + 1):
        stream = Masker([PLAIN]).stream()
        before = stream.feed(b"before " + written[:head]) + stream.cut()
        after = stream.feed(written[len(written) - tail :] + b" after") + stream.end()
        assert before == b"before " + (b"***" if head > 3 else written[:head])
        assert after == (b"***" if tail > 3 else written[len(written) - tail :]) + b" after"


def test_the_middle_of_a_secret_between_two_gaps_is_masked() -> None:
    stream = Masker([PLAIN]).stream()
    assert stream.feed(b"a") + stream.cut() == b"a"
    assert stream.feed(b"x81k") + stream.feed(b"QpW0") + stream.cut() == b"***"
    assert stream.feed(b"x81") + stream.cut() == b"x81"
    assert stream.feed(b"rLs93") + stream.end() == b"***"


@given(_cases(), st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_gap_costs_nothing_but_pieces_of_secrets(case: tuple[list[str], list[bytes]], data: st.DataObject) -> None:
    """What was written around the gap, and is no piece of a secret, is still there."""
    secrets, pieces = case
    stream = Masker(secrets).stream()
    out = []
    for piece in pieces:
        out.append(stream.feed(piece + b"#"))
        if data.draw(st.booleans()):
            out.append(stream.cut())
    out.append(stream.end())
    assert b"".join(out).count(b"#") == b"".join(pieces).count(b"#") + len(pieces)


def test_base64_that_is_cut_in_the_middle_of_a_line_is_masked_on_both_sides() -> None:
    lines = base64.encodebytes(b"=" * 70 + KEY.encode())
    for at in range(400, 480, 7):
        stream = Masker([KEY]).stream()
        before = stream.feed(lines[:at]) + stream.cut()
        after = stream.feed(lines[at + 100 :]) + stream.end()
        assert before.endswith(MASK.encode())
        assert after.startswith(MASK.encode())
        assert len(before + after) < 160
