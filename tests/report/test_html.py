"""The report: one page that loads nothing, runs nothing of anybody else's, and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from runner.messages import Text
from runner.report import render_html
from runner.report.conversation import BUDGET_CHARS, FIRST_ITEMS, LAST_ITEMS
from runner.result import Artifact, JobResult, compute_result
from runner.transcript import (
    AgentEnded,
    AnyEvent,
    ApprovalAsked,
    Diverged,
    GateRan,
    JobEnded,
    JobStarted,
    Resumed,
    SandboxOpened,
    SnapshotUsed,
    ToolDecided,
    ToolRan,
)
from tests.report.sample import (
    HOSTILE,
    PATCH_BYTES,
    Clock,
    call,
    checked,
    decided,
    guarded_events,
    job_facts,
    ran,
    replied,
    sample_events,
    sample_result,
    sandbox_report,
    taken,
)


class Page(HTMLParser):
    """What a browser would make of the page: its elements, properly nested, and the text in them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def whole_text(self) -> str:
        return "".join(self.text)


ARTIFACTS = tuple(
    Artifact(path=path, bytes=1_234, sha256="ab" * 32)
    for path in ("cost.json", "logs/0013-bash.log", "logs/<b>&\"' #?.log", "javascript:alert(1)", "transcript.jsonl")
)


@pytest.fixture(scope="module")
def html() -> str:
    events = sample_events()
    return render_html(sample_result(events), events, PATCH_BYTES, ARTIFACTS)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def _render(*events: AnyEvent, patch: bytes = b"") -> Page:
    clock = Clock()
    for event in (JobStarted(job=job_facts()), *events, JobEnded(outcome="changed", reason="x")):
        clock.add(event, after=1.0)
    result = compute_result(clock.events, transcript_hash="4" * 64)
    return Page(render_html(result, clock.events, patch, ()))


@pytest.mark.parametrize(
    "part",
    [
        "fix-slugify", "solved", "all 2 checks passed",
        "claw/fix-slugify-20260504-093000-a1b2", "3c3c3c3c3c3c", "podman 4.3.1", "anthropic:claude-sonnet-4-6",
        "+18", "−6", "2/2", "$0.3823", "of $2.00", "556.6k", "96% cached", "3 min 05 s", "29 calls, 3 denied",
        "capabilities", "none (5 sets 0000000000000000)", "9 hard", "1 soft", "1 missing",
        "sub/.git is a repository of its own; it was left out",
        "Accented letters are dropped", "You are a careful software engineer", "The accents must be folded",
        "Try 1 failed (HTTP 529), waited 2.5 s", "overloaded_error",
        "a deny rule matches; the network is closed to this job", "policies/ci.yaml:4",
        "Check (round 2): pytest -q → passed", "Check: ruff check . → exit 1",
        "slugify/core.py", "renamed from docs/old.md", "binary", "claude-sonnet-4-6",
        "logs/0013-bash.log", '"cost_usd": 2.0', "ab" * 32, "1" * 64, "4" * 64,
    ],
)  # fmt: skip
def test_it_shows(page: Page, part: str) -> None:
    assert part in page.whole_text


@pytest.fixture(scope="module")
def guarded() -> Page:
    events = guarded_events()
    return Page(render_html(sample_result(events), events, PATCH_BYTES, ARTIFACTS))


@pytest.mark.parametrize(
    "part",
    [
        "3 calls, 2 denied, 3 asked",
        "3 violations; no branch was made, the work is kept in patch.diff",
        "CI workflows are protected", "protected", "Edit(docs/**)", "policies/ci.yaml:12",
        "The gate refused the diff: 3 violations",
        "3 asked, 1 allowed, 2 denied", "allowed for this job", "by ana", "not from there", "10 min",
        "bump-20260504-110000-c3d4/2", "nobody answered within 600 s", "waiting for a person",
        "3 connections let through, 3 refused", "files.pythonhosted.org:443", "8.4 MB", "evil.example:443",
        "host is not in the policy's egress list", "Connection to evil.example:443 refused",
        "applied to the agent’s commands", "Commands may write", "src", "Not brought in", ".env",
        "Owned by another user", "Makefile", "Decided but not contained", "Read(**/*.pem)",
        "Landlock holds the path rules; 1 rule decided but not contained",
        "approved", "asked by Bash(pip install:*) policies/ci.yaml:9",
    ],
)  # fmt: skip
def test_it_shows_what_held_the_job(guarded: Page, part: str) -> None:
    assert part in guarded.whole_text


def test_what_the_gate_refused_is_the_first_thing_one_sees(guarded: Page) -> None:
    sections = [attrs["id"] for tag, attrs in guarded.elements if tag == "section"]
    assert sections == [
        *("gate", "summary", "timeline", "changes", "conversation", "approvals", "denials", "network", "containment"),
        "files",
    ]
    assert ("header", {"class": "top bad"}) in guarded.elements


def test_sections_about_what_did_not_happen_are_left_out(page: Page) -> None:
    sections = {attrs["id"] for tag, attrs in page.elements if tag == "section"}
    assert sections == {"summary", "timeline", "changes", "conversation", "denials", "files"}


def test_links_of_a_guarded_job_lead_somewhere(guarded: Page) -> None:
    ids = {attrs["id"] for _, attrs in guarded.elements if "id" in attrs}
    targets = {attrs["href"] for _, attrs in guarded.elements if (attrs.get("href") or "").startswith("#")}
    assert {target.removeprefix("#") for target in targets if target} <= ids


def test_a_diff_that_the_gate_let_pass_says_so() -> None:
    assert "passed" in _render(taken(), GateRan(violations=())).whole_text


def test_a_question_about_the_diff_belongs_to_no_turn() -> None:
    asked = ApprovalAsked(id="x/1", turn=0, call="Edit(a)", rule=None, where=None, reason="why", expires_seconds=1)
    page = _render(asked)
    assert "x/1" in page.whole_text
    assert "#turn-0" not in {attrs.get("href") for _, attrs in page.elements}


def test_commands_that_nobody_could_read_are_listed() -> None:
    events = guarded_events()
    result = sample_result(events).model_copy(update={"unjudged": ("eval $X", "<b>")})
    page = Page(render_html(result, events, b"", ()))
    assert "Commands that ran although the policy could not read all of them" in page.whole_text
    assert "eval $X" in page.whole_text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_was_asked_tried_and_refused_may_be_hostile(hostile: str) -> None:
    events = guarded_events(hostile)
    result = sample_result(events).model_copy(update={"unjudged": (hostile,)})
    html = render_html(result, events, b"", ())
    tags = [tag for tag, _ in Page(html).elements]
    assert (tags.count("h1"), tags.count("script"), tags.count("img"), tags.count("body")) == (1, 1, 0, 1)
    assert not set(html) & set("\x1b\x00\x07\x08\x7f\x9b\u202e\u200b")


def test_very_many_violations_questions_and_connections_are_bounded() -> None:
    events = guarded_events()
    result = sample_result(events)
    assert result.gate is not None
    assert result.contained is not None
    many = {
        "gate": result.gate.model_copy(update={"violations": result.gate.violations * 10_000}),
        "approvals": result.approvals.model_copy(update={"questions": result.approvals.questions * 10_000}),
        "egress": result.egress * 10_000,
        "contained": result.contained.model_copy(update={"kept": ("x",) * 10_000}),
        "unjudged": ("eval $X",) * 10_000,
    }
    html = render_html(result.model_copy(update=many), events, b"", ())
    assert len(html) < BUDGET_CHARS
    assert "29,500 more in result.json" in Page(html).whole_text


def test_it_loads_nothing_and_says_so_to_the_browser(html: str, page: Page) -> None:
    policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not {tag for tag, _ in page.elements} & {"img", "link", "iframe", "object", "embed", "base", "form", "use"}
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style


def test_links_stay_in_the_page_or_the_folder(page: Page) -> None:
    links = [attrs["href"] for tag, attrs in page.elements if "href" in attrs]
    files = ("patch.diff", "transcript.jsonl", "result.json")
    assert all(link and link.startswith(("#", "./", *files)) for link in links)
    assert "./javascript%3Aalert%281%29" in links
    assert "./logs/%3Cb%3E%26%22%27%20%23%3F.log" in links


def test_links_within_the_page_lead_somewhere(page: Page) -> None:
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    targets = {attrs["href"] for _, attrs in page.elements if (attrs.get("href") or "").startswith("#")}
    assert {target.removeprefix("#") for target in targets if target} <= ids


def test_nothing_hostile_becomes_an_element_or_an_attribute(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert tags <= {
        "html", "head", "meta", "title", "style", "body", "header", "div", "p", "span", "h1", "h2", "h3", "dl", "dt",
        "dd", "nav", "a", "main", "section", "code", "ul", "ol", "li", "blockquote", "details", "summary", "table",
        "thead", "tbody", "tr", "th", "td", "svg", "rect", "polygon", "polyline", "b", "i", "br", "pre", "article",
        "button", "footer", "script",
    }  # fmt: skip
    names = {name for _, attrs in page.elements for name in attrs}
    assert not [name for name in names if name.startswith("on")]
    assert sum(tag == "h1" for tag, _ in page.elements) == 1
    assert sum(tag == "script" for tag, _ in page.elements) == 1


def test_hostile_text_is_shown_as_text(page: Page) -> None:
    text = page.whole_text
    assert "<script>alert(1)</script>" in text
    assert '<script>alert("from the diff")</script>' in text
    assert "{{ 7*7 }} {% raw %} ${x} &lt;b&gt;" in text
    assert "access⟨U+202E⟩ gnp.exe ⟨U+2066⟩⟨U+200B⟩⟨U+00AD⟩hidden⟨U+E0041⟩tags" in text


def test_no_control_or_bidi_character_is_in_the_file(html: str) -> None:
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\U000e0041]", html)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_field_may_be_hostile(hostile: str) -> None:
    use = call(1, hostile, **{hostile: hostile})
    decision = decided(1, use, allowed=False).model_copy(update={"rule": hostile, "where": hostile, "reason": hostile})
    clock = Clock()
    for event in (
        JobStarted(job=job_facts(id=hostile, task=hostile, repo=hostile, base=hostile, model=hostile)),
        replied(1, Text(text=hostile), use, model=hostile),
        decision,
        ran(1, use, hostile, details={"exit_code": hostile, "log": hostile}),
        taken(commit=hostile, commits=(hostile,), paths=(hostile,), notes=(hostile,)),
        checked(hostile, 1, hostile, log=hostile),
        JobEnded(outcome="tampered", reason=hostile),
    ):
        clock.add(event, after=1.0)
    result = compute_result(clock.events, transcript_hash=hostile)
    patch = (
        f"diff --git a/{hostile} b/{hostile}\n--- a/x\n+++ b/{hostile}\n@@ -1 +1 @@ {hostile}\n-{hostile}\n+{hostile}\n"
    )
    html = render_html(result, clock.events, patch.encode(), (Artifact(path=hostile, bytes=1, sha256=hostile),))
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("h1"), tags.count("script"), tags.count("img"), tags.count("body")) == (1, 1, 0, 1)
    assert not set(html) & set("\x1b\x00\x07\x08\x7f\x9b\u202e\u200b")


def test_a_command_cannot_hide_in_what_a_terminal_would_swallow() -> None:
    use = call(1, "Bash", command="true \x1b]0; ; rm -rf src ; \x07")
    page = _render(replied(1, use), decided(1, use, allowed=False))
    # As subject and argument of the call, and as a denial.
    assert page.whole_text.count("true ␛]0; ; rm -rf src ; ␇") == 3


def test_a_call_that_got_no_answer_says_so() -> None:
    use = call(1, "Bash", command="boom")
    page = _render(replied(1, use), decided(1, use))
    assert "no answer" in page.whole_text


def test_a_job_without_anything_has_a_report() -> None:
    page = _render()
    assert "Nothing changed." in page.whole_text


def test_the_page_says_what_was_cut_from_a_long_answer(page: Page) -> None:
    assert "36,000 characters left out" in page.whole_text


def test_a_log_is_linked_only_when_it_is_there(page: Page) -> None:
    links = {attrs.get("href") for tag, attrs in page.elements if tag == "a"}
    assert "./logs/0013-bash.log" in links
    assert "./logs/0003-bash.log" not in links


def _size(events: Sequence[AnyEvent]) -> tuple[int, Page]:
    html = render_html(sample_result(events), events, PATCH_BYTES, ())
    return len(html), Page(html)


def test_a_huge_job_has_a_small_report_that_says_what_is_missing() -> None:
    events = sample_events(turns=2_000, output_chars=110_000)
    assert sum(len(event.model_dump_json()) for event in events) > 20_000_000
    size, page = _size(events)
    assert size < 3 * BUDGET_CHARS
    entries = [event for event in events if not isinstance(event, JobStarted | JobEnded | ToolDecided | ToolRan)]
    left_out = len(entries) - FIRST_ITEMS - LAST_ITEMS
    assert f"{left_out:,} entries are left out here; all are in transcript.jsonl" in page.whole_text
    assert "Turn 1 " in page.whole_text
    assert "Turn 2001 " in page.whole_text


def test_many_long_texts_are_cut_shorter_and_the_page_says_so() -> None:
    clock = Clock()
    clock.add(JobStarted(job=job_facts()))
    for turn in range(1, 601):
        use = call(turn, "Bash", command="make")
        for event in (replied(turn, use), decided(turn, use), ran(turn, use, "\u202e<" * 10_000)):
            clock.add(event, after=0.1)
    clock.add(JobEnded(outcome="changed", reason="x"))
    result = compute_result(clock.events, transcript_hash="4" * 64)
    html = render_html(result, clock.events, b"", ())
    assert len(html) < 12 * BUDGET_CHARS
    assert "Texts are cut to 3,000 characters each" in Page(html).whole_text


def test_turns_that_share_a_number_of_calls_are_bounded() -> None:
    uses = [call(1, "Bash", command=str(n)).model_copy(update={"id": str(n)}) for n in range(1_000)]
    page = _render(replied(1, *uses))
    assert "940 calls more of this turn in transcript.jsonl" in page.whole_text


def test_an_outcome_colours_the_page() -> None:
    events = sample_events()
    for outcome, tone in (("solved", "good"), ("limit", "warn"), ("tampered", "bad"), ("repo_error", "bad")):
        result: JobResult = sample_result(events).model_copy(update={"outcome": outcome})
        page = Page(render_html(result, events, b"", ()))
        assert ("header", {"class": f"top {tone}"}) in page.elements


CLAIM = "I committed the changes."


def _claimed(message: str, **branch: object) -> Page:
    return _render(AgentEnded(reason="done", message=message), taken(**branch))


def test_a_claim_that_does_not_hold_is_set_beside_what_was_observed() -> None:
    page = _claimed(CLAIM, committed_by_runner=True)
    assert "Claims that do not hold" in page.whole_text
    assert "observed: the work was left uncommitted; the runner committed it" in page.whole_text


def test_a_claim_that_holds_is_not_worth_a_line() -> None:
    assert "Claims" not in _claimed(CLAIM, committed_by_runner=False).whole_text


def test_a_job_that_goes_on_says_what_was_played_and_where_it_differed() -> None:
    reply = replied(1)
    played = reply.model_copy(update={"reply": reply.reply.model_copy(update={"played": True})})
    resumed = Resumed(attempt=3, transcript="", replies=1, cost_doubtful_usd=Decimal("0.5"))
    text = _render(resumed, played, Diverged(turn=2, what="another answer <b>")).whole_text
    for part in (
        "1 turn played from earlier attempts, not paid again; what it asked differed in turn 2",
        "Attempt 3 goes on: 1 reply is played, not paid again",
        "Turn 2 differs from what was recorded: another answer <b>",
        "$0.5000 doubtful",
    ):
        assert part in text


def test_checks_on_base_as_left_and_tampered_say_so() -> None:
    page = _render(
        checked("pytest a", 1, kind="fail_to_pass", on="base"),
        taken(),
        checked("pytest a", 0, kind="fail_to_pass", tampered="it skips itself"),
        checked("pytest b", 1, on="as_left"),
    )
    text = page.whole_text
    for part in ("fail to pass on base", "as it was left", "tampered", "it skips itself", "Check (round 2) on base"):
        assert part in text
    # A check that was to fail on base, and did, is as it should be.
    marks = [
        attrs.get("class") for tag, attrs in page.elements if tag == "li" and attrs.get("class") in ("pass", "fail")
    ]
    assert marks == ["pass", "fail", "fail"]


def test_a_snapshot_is_named() -> None:
    used = SnapshotUsed(purpose="agent", key="5a" * 32, made=True, seconds=2.0)
    text = _render(SandboxOpened(purpose="agent", report=sandbox_report()), used).whole_text
    assert "made here 5a5a5a5a5a5a 2.0 s" in text
    assert "Repository and setup were made into a snapshot" in text
