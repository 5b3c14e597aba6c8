"""Task files: defaults, what is refused, and what the templates give."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import Loaded, load
from runner.errors import ConfigError
from runner.task import Limits, Task, Texts, texts

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
        ("repo: {url: ''}", "repo.url: must be at least 1 character long (got '')"),
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
    with pytest.raises(ConfigError, match="t.yaml:3:9: prompt: .* has no attribute 'waht'; there are job, task, vars$"):
        texts(task, "j1")
