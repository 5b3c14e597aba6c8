"""The search for credentials: what it finds, what it leaves alone, and that it ends."""

from __future__ import annotations

import time

import pytest

from runner.masking import Masker
from runner.repo.scan import OUR_SECRET, Finding, TooSlow, find_credentials, find_our_secrets

CREDENTIALS = {
    "AWS Access Key": "AKIA" + "Z7Q2M4X6T8R1W3Y5",
    "GitHub Token": "gho_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ0bC2dF4hJ6",
    "GitLab Token": "glpat-" + "x7Kq2_mZ9rT4vB1nW8sY",
    "NPM tokens": "//registry.npmjs.org/:_authToken=" + "npm_x7Kq2mZ9rT4vB1nW8sYx7Kq2mZ9rT4vB1nW8",
    "Private Key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "Slack Token": "xoxb-" + "12345678-12345678-abcDEF123",
    "Stripe Access Key": "sk_live_" + "a1B2c3D4e5F6g7H8i9J0k1L2",
    "OpenAI Token": "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" + "T3BlbkFJ" + "a1B2c3D4e5F6g7H8i9J0",
    "Anthropic API Key": "sk-ant-" + "api03-a1B2c3D4e5F6g7H8i9J0k1L2",
    "Google API Key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.",
    "PyPI Token": "pypi-AgEIcHlwaS5vcmc" + "aB3dE5gH7jK9mN1pQ3sT" * 4,
}


def found(text: str | bytes) -> list[Finding]:
    data = text.encode() if isinstance(text, str) else text
    return find_credentials(data, most=100, deadline=time.monotonic() + 120)


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_credentials_of_a_known_form_are_found_on_their_line(kind: str) -> None:
    assert found(f"one\ntwo\nkey = '{CREDENTIALS[kind]}'\nfour\n") == [
        Finding(3, f"what looks like a credential ({kind})")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "password = 'hunter2'; secret = 'correct horse'; api_key: 'abc'",
        "postgres://user:password@localhost:5432/db",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "AKIAIOSFODNN7EXAMPLE",
        "AC" + "x" * 32,
        ">protein\nMKTAYIAKQRQISFVKSHFSRQASIALEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ",
        "GATTACA" * 10 + "ACCA" + "GGTTAACCGGTTAACC",
        "192.0.2.7 and 8.8.8.8",
        "eyJhbGciOiJIUzI1NiJ9.notjson.x",
        "the sk-learn and xoxo of ghp_ and glpat-short",
        '"integrity": "sha512-' + "Zm9vYmFyYmF6cXV4" * 5 + '=="',
    ],
)
def test_honest_text_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_long_lines_are_searched_to_their_end() -> None:
    token = CREDENTIALS["GitHub Token"]
    for before in (4000, 4090, 8000, 100_000):
        assert [finding.line for finding in found(f"a\n{'x ' * (before // 2)}{token} {'y ' * 5000}\nb")] == [2]


def test_bytes_that_are_no_text_do_not_matter() -> None:
    assert found(b"\xff\xfe\0\x80" + CREDENTIALS["GitHub Token"].encode())
    assert found(CREDENTIALS["GitHub Token"].encode("utf-16-le"))


def test_text_made_to_take_long_is_given_up_in_time() -> None:
    hostile = b"sk-" * 400_000
    with pytest.raises(TooSlow):
        find_credentials(hostile, most=10, deadline=time.monotonic() + 0.2)


def test_no_more_is_told_than_asked_for() -> None:
    text = f"{CREDENTIALS['GitHub Token']}\n" * 1000
    assert len(find_credentials(text.encode(), most=5, deadline=time.monotonic() + 120)) == 5


def test_our_secrets_are_found_on_their_lines_and_over_several() -> None:
    ours = Masker(("correct-horse-battery",))
    assert find_our_secrets(b"a\nb correct-horse-battery\n", ours) == [Finding(2, OUR_SECRET)]
    assert find_our_secrets(b"nothing", ours) == []
    assert find_our_secrets(b"correct-horse-battery", Masker(())) == []
