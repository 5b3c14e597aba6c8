"""The score card: every category, every hole with evidence and a next step, in 80 columns, and nothing that acts."""

from __future__ import annotations

from runner.attack import CATEGORIES, Finding, Scorecard
from runner.attack.card import lines
from runner.attack.findings import NEXT_STEPS

HELD = tuple(
    Finding(category=category, name="try", status="held", evidence="Operation not permitted") for category in CATEGORIES
)


def _card(*more: Finding) -> Scorecard:
    return Scorecard(
        engine="podman", engine_version="5.0", policy="policies/ci.yaml", image="base", findings=(*HELD, *more),
        seconds=7.2,
    )  # fmt: skip


def _hole(evidence: str = "read 64 bytes") -> Finding:
    return Finding(category="devices", name="read the memory", status="hole", evidence=evidence)


def test_every_category_has_a_line_with_held_of_tried() -> None:
    shown = "\n".join(lines(_card(_hole())))
    for category in CATEGORIES:
        assert f"  {category} " in shown
    assert "devices           1 of   2  1 hole" in shown
    assert "Everything held" not in shown


def test_a_hole_is_named_with_evidence_and_next_step() -> None:
    text = " ".join(" ".join(lines(_card(_hole()))).split())
    assert "✗ devices: read the memory read 64 bytes" in text
    assert f"→ {NEXT_STEPS['devices']}" in text


def test_what_could_not_be_tried_is_not_held() -> None:
    broken = Finding(category="git", name="look", status="error", evidence="it ended without a word")
    assert not _card(broken).held
    assert "git               1 of   2  not all tried" in "\n".join(lines(_card(broken)))


def test_what_does_not_apply_is_neither_held_nor_a_hole() -> None:
    beside = [
        Finding(category="proxy", name=name, status="not_applicable", evidence="no name is listed") for name in "ab"
    ]
    card = _card(*beside)
    assert card.held
    assert "  proxy: no name is listed (2 attempts)" in [*lines(card)]


def test_no_line_is_wider_than_a_terminal_and_none_acts_on_it() -> None:
    shown = "\n".join(lines(_card(_hole("\x1b[31mred\x1b[0m \u202egnissim " + "long " * 100))))
    assert max(map(len, shown.splitlines())) <= 80
    assert not {char for char in shown if not char.isprintable()} - {"\n"}


def test_the_document_counts_and_names_the_holes() -> None:
    document = _card(_hole()).document()
    assert document["held"] is False
    assert document["counted"]["devices"] == {"held": 1, "hole": 1, "not_applicable": 0, "error": 0}
    assert document["holes"][0]["next_step"] == NEXT_STEPS["devices"]
