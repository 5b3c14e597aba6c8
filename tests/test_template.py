"""Templates of a task: what they can say, what they cannot, and that they end."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import ConfigError
from runner.task import Repo
from runner.template import MAX_CHARS, SLUG_CHARS, TemplateMistake, check, names, render, slug

VALUES: dict[str, Any] = {
    "task": {"name": "fix", "setup": ["a", "b"], "repo": Repo(url="x")},
    "job": {"id": "j-1"},
    "vars": {"items": 3, "yes": True, "none": None, "big": "x" * 1_000_000, "many": list(range(2_000))},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("fix {{ task.name }} in {{ job.id }}", "fix fix in j-1"),
        ("{{ vars.items }} {{ vars['items'] }} {{ task.repo.url }}", "3 3 x"),
        ("{{ vars.yes }}{{ vars.none }}|", "true|"),
        ("{% for s in task.setup %}\n- {{ loop.index }}: {{ s }}\n{% endfor %}\nend", "- 1: a\n- 2: b\nend"),
        ("{% if vars.yes and not vars.none %}a{% else %}b{% endif %}", "a"),
        ("{% for k in task.repo %}{{ k }} {% endfor %}", "url base "),
        (
            "{{ task.setup|join(', ')|upper }} {{ task.setup|first }}{{ task.setup|last }}{{ task.setup|length }}",
            "A, B ab2",
        ),
        ("{{ vars.missing|default('d') }}", "d"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{{ 'a' if vars.items > 2 else 'b' }}", "a"),
        ("{% raw %}{{ x }}{% endraw %}{# not this #}", "{{ x }}"),
        ("<b>&amp; {{ '<i>' }}", "<b>&amp; <i>"),
        ("ends with a newline\n", "ends with a newline\n"),
        ("{{ vars.missing is defined }}", "false"),
        ("{{ missing.key.key|default('d') }}", "d"),
        ("{{ 'Crème Brûlée: 2nd [try]'|slug }}", "creme-brulee-2nd-try"),
        ("{{ 'one two three'|slug(8) }}", "one-two"),
        ("{{ 'a\n\nb'|quote }}", "> a\n> \n> b"),
        ("{{ ''|quote }}", "> "),
    ],
)
def test_a_template_gives(template: str, text: str) -> None:
    assert render(template, **VALUES) == text


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{{ nope }}", "'nope' is undefined; there are job, task, vars"),
        ("{{ task.nope }}", "task has no attribute 'nope'; it has name, repo, setup"),
        ("{{ nope.a.b }}", "'nope' is undefined; there are job, task, vars"),
        ("{{ task.name.nope }}", "'fix' has no attribute 'nope'"),
        ("{{ nope|slug }}", "'nope' is undefined"),
        ("{{ task.name|slug(0) }}", "'slug' gives 1 to 80 characters, not 0"),
        ("{% if nope %}x{% endif %}", "'nope' is undefined"),
        ("{% if %}", "line 1 of the template: "),
        ("a\n{{ b", "line 2 of the template: "),
        ("{{ x|nofilter }}", "No filter named 'nofilter'"),
        ("{{ task.__class__ }}", "has no attribute '__class__'"),
        ("{{ ''['__class__'] }}", "has no attribute '__class__'"),
        ("{{ task.setup.append }}", "has no attribute 'append'"),
        ("{{ vars.get }}", "has no attribute 'get'"),
        ("{{ task.repo.model_dump }}", "has no attribute 'model_dump'"),
        ("{{ loop }}", "'loop' is undefined"),
        ("{{ range(3) }}", "a call is not allowed"),
        ("{{ task.name.upper() }}", "a call is not allowed"),
        ("{% for x in task.setup recursive %}{{ loop(x) }}{% endfor %}", "a call is not allowed"),
        ("{% set x = 1 %}", "'set' is not allowed"),
        ("{% macro m() %}{% endmacro %}", "a macro is not allowed"),
        ("{% include 'x' %}", "Include is not allowed"),
        ("{% import 'x' as y %}", "Import is not allowed"),
        ("{% extends 'x' %}", "Extends is not allowed"),
        ("{{ 2 ** 99 }}", "Pow is not allowed"),
        ("{{ 'a' * 99 }}", "Mul is not allowed"),
        ("{{ '%99d' % 1 }}", "Mod is not allowed"),
        ("{{ 'a' ~ 'b' }}", "Concat is not allowed"),
        ("{{ _deadline }}", "'_deadline' is not a value"),
        ("{% for c in task.name %}{% endfor %}", "'for' needs a list or a mapping"),
    ],
)
def test_a_template_cannot(template: str, what: str) -> None:
    with pytest.raises(ConfigError, match="^prompt: ") as caught:
        render(template, key="prompt", **VALUES)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_data() -> None:
    assert render("{{ vars.a }}", vars={"a": "{{ job.id }}{% for %}"}) == "{{ job.id }}{% for %}"


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        ("no tags", set()),
        ("{{ task.name }} {% if issue.body %}{{ row['x'] }}{% endif %}", {"task", "issue", "row"}),
        ("{% for label in issue.labels %}{{ label }}{{ loop.index }}{% endfor %}", {"issue"}),
        ("{{ x is defined }}{{ y|default(z) }}", {"x", "y", "z"}),
        ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", set()),
    ],
)
def test_the_values_that_a_template_asks_for_are_known(template: str, asked: set[str]) -> None:
    assert names(template) == asked


@given(st.text())
def test_a_slug_fits_into_any_name(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", slug(text))
    assert len(slug(text)) <= SLUG_CHARS
    assert slug(slug(text)) == slug(text)


@pytest.mark.parametrize(
    ("text", "short"), [("", "untitled"), ("你好", "untitled"), ("-- ? --", "untitled"), ("x" * 90, "x" * 40)]
)
def test_a_slug_is_never_nothing_and_never_long(text: str, short: str) -> None:
    assert slug(text) == short


@given(st.text(st.sampled_from("> \nab"), max_size=20))
def test_no_text_can_leave_its_quote(text: str) -> None:
    assert all(line.startswith("> ") for line in render("{{ x|quote }}", x=text).split("\n"))


LOOP = "{% for a in vars.many %}{% for b in vars.many %}{% for c in vars.many %}"
BOMBS = [
    LOOP + "{% endfor %}{% endfor %}{% endfor %}",
    LOOP + "{{ a }}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in vars.many %}" * 4 + "{% endfor %}" * 4,
    "{{ vars.big }}{{ vars.big }}",
    "{{ vars.big|replace('x', vars.big) }}",
    "{{ vars.many|join(vars.big) }}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{% if vars.yes %}" * 300 + "{% endif %}" * 300,
    "{{ vars" + ".a" * 5_000 + " }}",
    "{{ [" + "1," * 50_000 + "] }}",
    "{{ vars.yes" + "|upper" * 5_000 + " }}",
    "{{ 1 }}" * 100_000,
    "{{" * 100_000,
    "{#" * 100_000,
    "{% raw %}" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("template", BOMBS, ids=lambda template: template[:20])
def test_a_bomb_is_refused_soon(template: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError):
        render(template, **VALUES)
    assert time.monotonic() - started < 20


def test_output_up_to_the_limit_passes() -> None:
    assert len(render("{{ vars.big }}", **VALUES)) == 1_000_000 < MAX_CHARS


PIECES = st.sampled_from(
    [
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "for x in ",
        "task.setup",
        "vars",
        "endfor",
        "if ",
        "endif",
        "else",
        "|",
        "join",
        "upper",
    ]
    + [
        "(",
        ")",
        "[",
        "]",
        "'",
        '"',
        ".",
        "a",
        "1",
        " ",
        "\n",
        "not ",
        "is defined",
        "{#",
        "#}",
        "raw",
        "loop.index",
        "-",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=50), st.lists(PIECES, max_size=25).map("".join)))
def test_any_text_renders_or_is_a_config_error(template: str) -> None:
    try:
        checked = check(template)
    except TemplateMistake:
        with pytest.raises(ConfigError):
            render(template, **VALUES)
        return
    try:
        assert isinstance(render(checked, **VALUES), str)
    except ConfigError as error:
        assert str(error)  # noqa: PT017
