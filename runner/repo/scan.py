"""What looks like a key or a password in lines that somebody added.

The rules are those of detect-secrets (https://github.com/Yelp/detect-secrets) for credentials that have a form of their
own; its rules for entropy, variable names and URLs find too much that is none. Its pragmas (`allowlist secret`) are not
looked at, for whoever adds the line could write one, and nothing is asked of any service.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from runner.masking import Masker

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

CHUNK = 16_384
"""Characters given to a rule at a time. Some rules take long for texts made for that: the time is looked at between."""
LONGEST_LINE, OVERLAP = 4_096, 1_024
"""Longer lines are looked at in parts."""
FEWEST_CHARACTERS = 6
"""Different characters in a credential; with fewer it is a placeholder."""
OUR_SECRET = "a secret of this job"


class Finding(NamedTuple):
    line: int
    """From 1; 0 when it goes over several."""
    what: str
    """A noun, such as `what looks like a credential (GitHub Token)`. The value is nowhere."""


class TooSlow(Exception):
    """The time was over before everything was looked at."""


def find_our_secrets(data: bytes, ours: Masker) -> list[Finding]:
    """The job's own secrets, in whatever form they stand there, each line once."""
    if ours.data(data) is data:
        return []
    lines = [number for number, line in enumerate(data.split(b"\n"), 1) if ours.data(line) is not line]
    return [Finding(line, OUR_SECRET) for line in lines or [0]]


def find_credentials(data: bytes, *, most: int, deadline: float) -> list[Finding]:
    """What looks like a credential, up to `most`. `deadline` is by `time.monotonic`; raises TooSlow."""
    # Text may come in two bytes for each character, one of them zero.
    text = data.replace(b"\0", b"").decode("utf-8", "replace")
    found: dict[Finding, None] = {}
    for first, chunk in _chunks(text):
        if time.monotonic() > deadline:
            raise TooSlow
        found.update(dict.fromkeys(_in_chunk(first, chunk)))
        if len(found) >= most:
            break
    return sorted(found)[:most]


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text in pieces of whole lines, and the number of each one's first line."""
    first, number, lines, size = 1, 0, list[str](), 0
    for number, line in enumerate(text.split("\n"), 1):
        for start in range(0, max(1, len(line)), LONGEST_LINE - OVERLAP):
            part = line[start : start + LONGEST_LINE]
            if lines and (size + len(part) > CHUNK or start):
                yield first, "\n".join(lines)
                first, lines, size = number, [], 0
            lines.append(part)
            size += len(part) + 1
    yield first, "\n".join(lines)


def _in_chunk(first: int, chunk: str) -> Iterator[Finding]:
    for detector in _detectors():
        for rule in detector.denylist:
            for found in rule.finditer(chunk):
                if _is_credential(detector, found):
                    yield _finding(first, found, detector.secret_type)
    for what, rule in NEWER.items():
        for found in rule.finditer(chunk):
            if not _is_placeholder(found):
                yield _finding(first, found, what)


def _finding(first: int, found: re.Match[str], kind: str) -> Finding:
    return Finding(first + found.string.count("\n", 0, found.start()), f"what looks like a credential ({kind})")


def _is_credential(detector: RegexBasedDetector, found: re.Match[str]) -> bool:
    """Whether it is one by the library's own second look, too."""
    return not _is_placeholder(found) and any(True for _ in detector.analyze_string(found[0]))


def _is_placeholder(found: re.Match[str]) -> bool:
    """Whether it stands for a credential in an example, or is part of a longer row of capitals, as of a protein."""
    text = found[0]
    around = found.string[max(0, found.start() - 1) : found.start()] + found.string[found.end() : found.end() + 1]
    in_a_row = _CAPITALS.fullmatch(text) and _CAPITALS.search(around)
    return bool(in_a_row) or "EXAMPLE" in text.upper() or len(set(text)) < FEWEST_CHARACTERS


_CAPITALS = re.compile("[0-9A-Z]+")

RULES = {
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
"""Modules of detect_secrets.plugins, and the class in each."""

NEWER = {
    "Anthropic API Key": re.compile(r"sk-ant-[A-Za-z0-9_-]{24,}"),
    "GitHub Token": re.compile(r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    "Google API Key": re.compile(r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
}
"""Forms that the library does not know yet."""


@cache
def _detectors() -> tuple[RegexBasedDetector, ...]:
    # Imported when there is something to look at, for it takes a tenth of a second.
    return tuple(getattr(import_module(f"detect_secrets.plugins.{name}"), kind)() for name, kind in RULES.items())
