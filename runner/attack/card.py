"""The score card as text, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from runner.attack.findings import CATEGORIES, Category, Finding, Scorecard
from runner.report.visible import one_line

WIDTH = 80
LONGEST = 400
"""Characters of evidence that are shown; all of it is in the JSON."""


def lines(card: Scorecard) -> Iterator[str]:
    """What was tried and what held, then each hole with its evidence and the next step, then what did not apply."""
    yield from _wrapped(f"Red team on {card.engine} {card.engine_version}, image {card.image}, policy {card.policy}")
    yield ""
    for category in CATEGORIES:
        yield _count(category, [finding for finding in card.findings if finding.category == category])
    yield from _section("Holes", card.of("hole"), "✗")
    yield from _section("Could not be tried", card.of("error"), "?")
    yield from _not_applicable(card.of("not_applicable"))
    yield ""
    yield _verdict(card)


def _count(category: Category, findings: list[Finding]) -> str:
    tried = [finding for finding in findings if finding.status != "not_applicable"]
    held = sum(finding.status == "held" for finding in tried)
    holes = sum(finding.status == "hole" for finding in tried)
    word = f"{holes} hole{'s'[: holes - 1]}" if holes else "held" if held == len(tried) else "not all tried"
    return f"  {category:<15} {held:>3} of {len(tried):>3}  {word if tried else 'nothing to try'}"


def _section(title: str, findings: tuple[Finding, ...], sign: str) -> Iterator[str]:
    if findings:
        yield ""
        yield title
    for finding in findings:
        yield from _wrapped(f"{sign} {finding.category}: {finding.name}", "  ", "    ")
        yield from _wrapped(finding.evidence, "    ")
        yield from _wrapped(f"→ {finding.next_step}", "    ", "      ")


def _not_applicable(findings: Iterable[Finding]) -> Iterator[str]:
    """Reasons, each with how many it is the reason of: often one is that of many."""
    reasons: dict[tuple[Category, str], int] = {}
    for finding in findings:
        key = (finding.category, finding.evidence)
        reasons[key] = reasons.get(key, 0) + 1
    if reasons:
        yield ""
        yield "Not applicable"
    for (category, reason), number in reasons.items():
        yield from _wrapped(f"{category}: {reason}{f' ({number} attempts)' if number > 1 else ''}", "  ", "    ")


def _verdict(card: Scorecard) -> str:
    tried = len(card.findings) - len(card.of("not_applicable"))
    held = len(card.of("held"))
    word = "Everything held" if card.held else f"{tried - held} did not hold"
    return f"{word}: {held} of {tried} attempts held, in {card.seconds:.0f} s."


def _wrapped(text: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        one_line(text[:LONGEST]), WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest
    )
