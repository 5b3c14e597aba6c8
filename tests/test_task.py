"""Task files: defaults, what is refused, and what the templates give."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import Loaded, load
from runner.errors import ConfigError
from runner.task import Limits, Task, Texts, filled, only_in_batches, preview, texts

GOOD = "version: 1\nname: fix-it\nprompt: do it\n"


def _load(folder: Path, text: str) -> Loaded[Task]:
    (folder / "t.yaml").write_text(text)
    return load(folder / "t.yaml", Task)


def _error(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_task_needs_a_version_a_name_and_a_prompt(tmp_path: Path) -> None:
    task = _load(tmp_path, GOOD).value
    assert (task.repo.url, task.repo.base, task.image, task.agent) == (".", "HEAD", "base", "loop")
    assert task.limits == Limits(cost_usd=None, turns=60, seconds=1800)
    assert task.expect_change
    missing = _error(tmp_path, "image: x")
    assert [line.split(": ", 1)[1] for line in missing.splitlines()] == [
        "version: is required",
        "name: is required",
        "prompt: is required",
    ]


def test_a_full_task_is_read(tmp_path: Path) -> None:
    task = _load(
        tmp_path,
        GOOD + "vars: {a: x, b: 2, c: 0.5, d: true}\nrepo: {url: 'git@host:a/b.git', base: v1.0}\nimage: python:3.12\n"
        "setup: [make deps]\nmodel: scripted:replies.json\nmax_tokens: 1000\nexpect_change: false\n"
        "checks: {run: [make test], protect: ['tests/**'], repair_rounds: 2, seconds: 5}\n"
        "limits: {cost_usd: 1, turns: 5, seconds: 60.5, output_tokens: 1000, retries: 0, retry_seconds: 0}\n"
        "output: {branch: b, commit_message: m, author: {name: A, email: a@b}}\n",
    ).value
    assert task.vars == {"a": "x", "b": 2, "c": 0.5, "d": True}
    assert (task.limits.cost_usd, task.limits.seconds, task.checks.seconds) == (1, 60.5, 5)
    assert task.output.author.name == "A"


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("name: Fix It", "is there twice"),
        ("model: gpt-4", "model: must be one of anthropic:…, scripted:…, replay:… (got 'gpt-4')"),
        ("model: claude-sonnet-4-6", "did you mean 'anthropic:claude-sonnet-4-6'?"),
        ("model: antropic:x", "did you mean 'anthropic:x'?"),
        ("model: 'anthropic:'", "model: must be one of"),
        ("model: [a]", "model: must be text (got a list)"),
        ("agent: codex", "agent: must be 'loop' (got 'codex')"),
        ("repo: {base: -x}", "repo.base: must be one word that does not begin with '-' (got '-x')"),
        ("repo: {base: 'a b'}", "repo.base: must be one word"),
        ("repo: {url: ''}", "repo.url: must be one line that is not empty (got '')"),
        ("image: --privileged", "image: must be one word"),
        ("limits: {turns: 0}", "t.yaml:4:17: limits.turns: must be at least 1 (got 0)"),
        ("limits: {cost_usd: 0}", "limits.cost_usd: must be greater than 0 (got 0)"),
        ("limits: {cost_usd: '2'}", "limits.cost_usd: must be a number (got '2')"),
        ("limits: {cost_usd: true}", "limits.cost_usd: must be a number (got true)"),
        ("limits: {seconds: 1e9}", "limits.seconds: must be at most 604800"),
        ("checks: {run: [1]}", "checks.run[0]: must be text (got 1); put it in quotes"),
        ("checks: {run: ['']}", "checks.run[0]: must be at least 1 character long"),
        ("vars: {a-b: 1}", "vars.a-b: must be a name: letters, digits and '_'"),
        ("vars: {a: null}", "vars.a: must be text or a whole number or a number or true or false (got nothing)"),
        ("output: {author: {email: 'a>b'}}", "output.author.email: must be one line without '<' and '>'"),
        ("output: {branch: '{{ x'}", "t.yaml:4:18: output.branch: line 1 of the template: "),
        (
            "output: {commit_message: '{{ x() }}'}",
            "output.commit_message: line 1 of the template: a call is not allowed",
        ),
        (
            "output: {branch: '{{ isue.number }}'}",
            "t.yaml:4:18: output.branch: there is no value 'isue'; did you mean 'issue'?",
        ),
        ("output: {branch: '{{ x.y }}'}", "there is no value 'x'; there are task, job, vars, issue, row, comment"),
        ("image: '{{ loop }}'", "t.yaml:4:8: image: there is no value 'loop'"),
        ("repo: {base: '{{ ref }}'}", "t.yaml:4:14: repo.base: there is no value 'ref'"),
        ("repo: {url: '{{ x() }}'}", "t.yaml:4:13: repo.url: line 1 of the template: a call is not allowed"),
        ('repo: {url: "a\\nb"}', "repo.url: must be one line that is not empty (got 'a\\nb')"),
        ("policy: ci.yaml", "policy: unknown key"),
        ("secrets: [X]", "secrets: unknown key"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, extra: str, what: str) -> None:
    assert what in _error(tmp_path, GOOD + extra + "\n")


@pytest.mark.parametrize("name", ["Fix", "-a", "a b", "a/b", "ä", "a" * 64, "a\\n"])
def test_a_name_is_short_and_plain(tmp_path: Path, name: str) -> None:
    assert "name: must be lower-case letters" in _error(tmp_path, f'version: 1\nname: "{name}"\nprompt: x\n')


def test_the_templates_know_the_task_the_job_and_the_vars(tmp_path: Path) -> None:
    task = _load(
        tmp_path,
        "version: 1\nname: n\nprompt: |\n  {{ vars.what }} in {{ task.repo.base }}\nvars: {what: '{{ fix }}'}\n"
        "output: {commit_message: '{{ task.name }} by {{ job.id }}'}\n",
    )
    assert texts(task, "j1") == Texts(prompt="{{ fix }} in HEAD\n", branch="claw/j1", commit_message="n by j1")


def test_a_template_that_fails_is_named_with_its_place(tmp_path: Path) -> None:
    task = _load(tmp_path, "version: 1\nname: n\nprompt: '{{ vars.waht }}'\nvars: {what: x}\n")
    with pytest.raises(
        ConfigError, match="t.yaml:3:9: prompt: vars has no attribute 'waht'; it has what; there are job, task, vars$"
    ):
        texts(task, "j1")


ISSUE = {"issue": {"number": 7, "title": "A title", "milestone": "v2", "repository": "acme/pager"}}
ABOUT_ISSUES = """\
version: 1
name: n
prompt: "{{ issue.title }} at {{ task.repo.base }}"
repo: {url: "https://example.org/{{ issue.repository }}", base: "{{ issue.milestone }}"}
image: "python:{{ vars.python }}"
vars: {python: "3.12"}
output: {branch: "claw/{{ issue.number }}-{{ issue.title | slug }}"}
"""


def test_a_template_may_use_what_a_batch_gives(tmp_path: Path) -> None:
    task = _load(tmp_path, ABOUT_ISSUES)
    ready = filled(task, "j1", ISSUE)
    assert (ready.value.repo.url, ready.value.repo.base) == ("https://example.org/acme/pager", "v2")
    assert ready.value.image == "python:3.12"
    assert texts(ready, "j1", ISSUE) == Texts(prompt="A title at v2", branch="claw/7-a-title", commit_message="n")
    assert (ready.sha256, ready.where(("image",))) == (task.sha256, task.where(("image",)))


def test_without_a_batch_such_a_template_says_what_is_missing(tmp_path: Path) -> None:
    task = _load(tmp_path, ABOUT_ISSUES)
    with pytest.raises(ConfigError, match="t.yaml:4:13: repo.url: 'issue' is undefined; there are job, task, vars$"):
        filled(task, "j1")


def test_commands_are_no_templates(tmp_path: Path) -> None:
    task = _load(tmp_path, GOOD + "setup: ['echo {{ issue.title }}']\nchecks: {run: ['{{ issue.body }}']}\n")
    ready = filled(task, "j1", ISSUE).value
    assert (ready.setup, ready.checks.run) == (("echo {{ issue.title }}",), ("{{ issue.body }}",))


def test_a_preview_has_an_example_in_place_of_the_issue(tmp_path: Path) -> None:
    task = _load(tmp_path, ABOUT_ISSUES)
    assert preview(task, "JOB") == Texts(
        prompt="TITLE at {{ issue.milestone }}", branch="claw/1-title", commit_message="n"
    )


def test_what_only_a_batch_gives_is_known(tmp_path: Path) -> None:
    assert only_in_batches(_load(tmp_path, ABOUT_ISSUES)) == ("issue",)
    assert only_in_batches(_load(tmp_path, GOOD + "image: '{{ row.image or comment.body }}'\n")) == ("row", "comment")
    assert only_in_batches(_load(tmp_path, GOOD)) == ()


def test_a_preview_shows_a_template_over_rows_as_it_is(tmp_path: Path) -> None:
    keys = "image: '{{ row.image }}'\noutput: {commit_message: '{{ comment.body }} in {{ job.id }}'}\n"
    shown = preview(_load(tmp_path, GOOD.replace("do it", "'{{ row.goal }}'") + keys), "JOB")
    assert shown == Texts(prompt="{{ row.goal }}", branch="claw/JOB", commit_message="COMMENT in JOB")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (
            "output: {branch: '{{ issue.titel }}'}",
            "output.branch: issue has no attribute 'titel'; it has assignees, author,",
        ),
        ("repo: {base: '{{ issue.labels }} x'}", "repo.base: must be one word"),
    ],
)
def test_a_preview_finds_what_no_batch_could_fill_in(tmp_path: Path, keys: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preview(_load(tmp_path, GOOD + keys), "JOB")
    assert what in str(caught.value)
