"""Rows and a template into jobs: what each of them is, and what is wrong with the rows that become none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch.plan import MAX_ID_CHARS, Plan, plan, rebuild, require_prices, worst_case_usd
from runner.batch.sources import BadRow, Found, Row, Selection, read_source
from runner.config import Loaded, load
from runner.errors import ConfigError
from runner.policy import load_policy
from runner.resolve import resolve
from runner.task import Task, texts
from tests.repo.repositories import Repository

TEMPLATE = """\
version: 1
name: fix
prompt: "{{ issue.title }}: {{ issue.body }}"
output: {branch: "claw/{{ job.id }}", commit_message: "Fix #{{ issue.number }}"}
"""


def _issue(number: int, **keys: Any) -> dict[str, Any]:
    return {"number": number, "title": f"Title {number}", "body": "Body"} | keys


def _template(folder: Path, text: str = TEMPLATE) -> Loaded[Task]:
    (folder / "fix.yaml").write_text(text)
    return load(folder / "fix.yaml", Task)


def _plan(
    folder: Path, issues: Sequence[Any], text: str = TEMPLATE, *, vary: Sequence[str] = (), **options: Any
) -> Plan:
    (folder / "s.json").write_text("[" + ",\n".join(json.dumps(issue) for issue in issues) + "]")
    overrides = options.pop("overrides", {})
    (folder / "fix.yaml").write_text(text)
    template = load(folder / "fix.yaml", Task, overrides=overrides)
    return plan(read_source(str(folder / "s.json")), template, vary=vary, overrides=overrides, **options)


def _ids(made: Plan) -> list[str]:
    return [job.id for job in made.jobs]


# --- Jobs


def test_a_row_becomes_a_job(tmp_path: Path) -> None:
    made = _plan(tmp_path, [_issue(12, body="seen<!-- hidden -->"), _issue(7)])
    first, second = made.jobs
    assert (first.id, second.id) == ("fix-12", "fix-7")
    assert (first.title, first.source) == ("Title 12", f"{tmp_path}/s.json:1")
    assert (first.task_file, first.task_sha256) == (f"{tmp_path}/fix.yaml", _template(tmp_path).sha256)
    assert first.values["issue"]["body"] == "seen"
    assert first.notes[0].startswith("1 HTML comment (15 characters) taken out of body; ")
    assert (made.bad, made.notes) == ((), ())


def test_a_job_is_json_and_its_task_can_be_had_back(tmp_path: Path) -> None:
    text = TEMPLATE + "vars: {a: 1, b: x}\nsetup: [make]\nchecks: {run: [make test]}\nlimits: {cost_usd: 0.1}\n"
    [job] = _plan(tmp_path, [_issue(1)], text).jobs
    stored = json.loads(json.dumps({"task": job.task, "values": job.values}))
    assert stored == {"task": job.task, "values": job.values}
    task = rebuild(job)
    assert task.value == _template(tmp_path, text).value
    assert (task.path, task.sha256, task.where(("prompt",))) == (
        tmp_path / "fix.yaml", job.task_sha256, str(tmp_path / "fix.yaml"),
    )  # fmt: skip
    assert texts(task, job.id, job.values).prompt == "Title 1: Body"


def test_a_folder_of_tasks_needs_no_template(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nname: same\nprompt: x\n")
    (tmp_path / "b.yaml").write_text("version: 1\nname: same\nprompt: y\n")
    (tmp_path / "c.yaml").write_text("version: 1\nname: Bad\nprompt: z\nlimits: {turns: 0}\n")
    (tmp_path / "d.yaml").write_text("version: 1\nname: asks\nprompt: '{{ issue.title }}'\n")
    made = plan(read_source(str(tmp_path)), None, overrides={"limits.seconds": "5"})
    assert [re.sub(r"-[0-9a-f]{8}$", "-HASH", id) for id in _ids(made)] == ["same", "same-HASH"]
    assert [job.title for job in made.jobs] == ["same", "same"]
    assert all(rebuild(job).value.limits.seconds == 5 for job in made.jobs)
    assert [str(bad).removeprefix(f"{tmp_path}/").partition(" (")[0] for bad in made.bad] == [
        "c.yaml:2:7: name: must be lower-case letters, digits, '.', '-' and '_', at most 63",
        "c.yaml:4:17: limits.turns: must be at least 1",
        "d.yaml:3:9: prompt: 'issue' is undefined; there are job, task, vars",
    ]


def test_rows_need_a_template_and_tasks_have_none(tmp_path: Path) -> None:
    _plan(tmp_path, [_issue(1)])
    with pytest.raises(ConfigError, match=r"s.json:1: is no task file; say what to do with it: --task TEMPLATE.yaml"):
        plan(read_source(str(tmp_path / "s.json")), None)
    with pytest.raises(ConfigError, match=r"fix.yaml: is a task of its own; leave --task out"):
        plan(read_source(str(tmp_path)), _template(tmp_path))


# --- What is wrong


def test_a_row_that_a_template_has_no_values_for_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = TEMPLATE.replace("{{ issue.body }}", "{{ row.goal }}")
    issues = [_issue(1, goal="a"), _issue(2), _issue(3, gaol="b")]
    made = _plan(tmp_path, issues, text)
    assert _ids(made) == ["fix-1"]
    assert [str(bad).replace(f"{tmp_path}/", "") for bad in made.bad] == [
        "s.json:2: fix.yaml:3:9: prompt: 'row' is undefined; there are issue, job, task, vars",
        "s.json:3: fix.yaml:3:9: prompt: row has no attribute 'goal'; it has body, gaol, number, title; "
        "there are issue, job, row, task, vars",
    ]


def test_bad_rows_of_the_source_are_kept_and_others_counted(tmp_path: Path) -> None:
    issues = [_issue(1), _issue(2, title=""), _issue(3, pull_request={"url": "u"}), _issue(4, labels=[{"name": "bug"}])]
    made = _plan(tmp_path, issues, selection=Selection(labels=("bug",)))
    assert _ids(made) == ["fix-4"]
    assert [bad.place for bad in made.bad] == [f"{tmp_path}/s.json:2"]
    assert sorted(made.notes) == ["1 left out: a pull request", "1 left out: not labelled 'bug'"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("base", "--upload-pack=x", "repo.base: must be one word that does not begin with '-' (got '--upload-pack=x')"),
        ("base", "a b", "repo.base: must be one word"),
        ("base", "", "repo.base: must be one word"),
        ("base", "{{ 1 }}", "repo.base: gives a template again"),
        ("image", "--privileged", "image: must be one word that does not begin with '-'"),
        ("image", "a\nb", "image: must be one word"),
        ("url", "a\nb", "repo.url: must be one line that is not empty"),
        ("url", "", "repo.url: must be one line that is not empty"),
    ],
)
def test_what_a_template_gives_must_be_what_a_literal_must(tmp_path: Path, key: str, value: str, what: str) -> None:
    keys = "image: '{{ row.x }}'" if key == "image" else f"repo: {{{key}: '{{{{ row.x }}}}'}}"
    made = _plan(tmp_path, [_issue(1, x=value), _issue(2, x="fine")], f"{TEMPLATE}{keys}\n")
    assert _ids(made) == ["fix-2"]
    [bad] = made.bad
    assert what in bad.what
    assert re.search(r"fix.yaml:5:\d+: ", bad.what)


@pytest.mark.parametrize(
    "branch", ["a b", "a..b", "-x", "a/", "/a", "a.lock", "a//b", "a~1", "a:b", "@", "a/.b", "HEAD"]
)
def test_a_name_that_no_branch_can_have_is_found_before_anything_runs(tmp_path: Path, branch: str) -> None:
    text = TEMPLATE.replace("claw/{{ job.id }}", "{{ issue.title }}")
    [bad] = _plan(tmp_path, [_issue(1, title=branch)], text).bad
    assert "output.branch: there can be no branch with " in bad.what
    assert bad.what.endswith("; use the filter slug")


def test_a_branch_may_be_made_from_a_title(tmp_path: Path) -> None:
    text = TEMPLATE.replace("{{ job.id }}", "{{ issue.number }}-{{ issue.title | slug }}")
    made = _plan(tmp_path, [_issue(1, title="../Ünïcode: a --title? of [any] kind~^: that goes on and on")], text)
    [job] = made.jobs
    assert texts(rebuild(job), job.id, job.values).branch == "claw/1-unicode-a-title-of-any-kind-that-goes-on"


def test_two_jobs_that_ask_for_one_branch_are_told(tmp_path: Path) -> None:
    made = _plan(tmp_path, [_issue(1), _issue(2), _issue(3)], TEMPLATE.replace("{{ job.id }}", "same"))
    assert made.notes == (
        "2 jobs would have a branch that another job has too, and gets it with -2, -3, …; "
        "put {{ job.id }} into output.branch",
    )


@pytest.mark.parametrize("titles", [["a", "a/b"], ["a/b", "a"], ["a/b/c", "x", "a"], ["a", "x", "a/b/c"]])
def test_a_branch_for_which_another_leaves_no_place_is_found_before_anything_runs(
    tmp_path: Path, titles: list[str]
) -> None:
    text = TEMPLATE.replace("claw/{{ job.id }}", "{{ issue.title }}")
    made = _plan(tmp_path, [_issue(number, title=title) for number, title in enumerate(titles, 1)], text)
    assert len(made.jobs) == len(titles) - 1
    [bad] = made.bad
    assert f"{titles[-1]!r} cannot be made beside {titles[0]!r}, the branch of an earlier job" in bad.what


def test_branches_side_by_side_leave_each_other_their_place(tmp_path: Path) -> None:
    text = TEMPLATE.replace("claw/{{ job.id }}", "{{ issue.title }}")
    titles = ["a/b", "a/c", "ab", "a/b", "a/d/e", "a/d/f"]
    assert not _plan(tmp_path, [_issue(number, title=title) for number, title in enumerate(titles, 1)], text).bad


def test_a_cap_that_cannot_be_kept_is_said_at_once_and_not_by_each_job(tmp_path: Path) -> None:
    text = TEMPLATE + "model: anthropic:no-such-model\nlimits: {cost_usd: 1}\n"
    with pytest.raises(ConfigError, match=r"fix.yaml:6:20: limits.cost_usd: cannot be kept, because the price of anth"):
        _plan(tmp_path, [_issue(1)], text)


def test_a_cap_of_the_batch_needs_prices_as_well() -> None:
    known, unknown = "anthropic:claude-sonnet-4-6", "anthropic:no-such-model"
    require_prices([known, "scripted:x.yaml", "replay:x.jsonl"])
    with pytest.raises(ConfigError, match=f"--cost-usd: cannot be kept, because the price of {unknown} is unknown"):
        require_prices([known, unknown])


def test_text_of_a_row_is_never_read_as_a_template(tmp_path: Path) -> None:
    [job] = _plan(tmp_path, [_issue(1, body="{{ vars }}{% for %}")]).jobs
    assert texts(rebuild(job), job.id, job.values).prompt == "Title 1: {{ vars }}{% for %}"


def test_text_of_a_row_never_becomes_a_command(tmp_path: Path) -> None:
    text = TEMPLATE + "setup: ['echo {{ issue.body }}']\nchecks: {run: ['test {{ issue.title }}']}\n"
    repository = Repository(tmp_path / "repo")
    repository.write("a.txt", "x")
    repository.commit("first")
    [job] = _plan(tmp_path, [_issue(1, body="; rm -rf /")], text, overrides={"repo.url": str(repository.path)}).jobs
    (tmp_path / "p.yaml").write_text("version: 1\nmode: whitelist\n")
    task = _resolved(job, tmp_path).value
    assert (task.setup, task.checks.run) == (("echo {{ issue.body }}",), ("test {{ issue.title }}",))


def _resolved(job: Any, folder: Path) -> Loaded[Task]:
    policy: Any = load_policy(folder / "p.yaml")
    return resolve(rebuild(job), policy, runs=folder, id=job.id, values=job.values).task


# --- Variations


def test_a_matrix_makes_a_job_of_every_combination(tmp_path: Path) -> None:
    vary = ["model=anthropic:claude-sonnet-4-6,anthropic:claude-haiku-4-5", "limits.turns=10,20"]
    made = _plan(tmp_path, [_issue(1), _issue(2)], vary=vary)
    assert _ids(made) == [
        f"fix-{number}-{model}-turns-{turns}"
        for number in (1, 2)
        for model in ("claude-sonnet-4-6", "claude-haiku-4-5")
        for turns in (10, 20)
    ]
    last = rebuild(made.jobs[-1]).value
    assert (last.model, last.limits.turns) == ("anthropic:claude-haiku-4-5", 20)
    assert made.jobs[-1].title == "Title 2 (model=anthropic:claude-haiku-4-5, limits.turns=20)"
    assert len({job.key for job in made.jobs}) == 8


def test_a_variation_goes_on_top_of_what_replaces_keys(tmp_path: Path) -> None:
    made = _plan(tmp_path, [_issue(1)], vary=["limits.turns=10"], overrides={"limits.turns": "5", "image": "python"})
    task = rebuild(made.jobs[0]).value
    assert (task.limits.turns, task.image) == (10, "python")


@pytest.mark.parametrize(
    ("vary", "what"),
    [
        (["modl=a"], "--vary modl: unknown key; did you mean 'model'?"),
        (["limits.turn=1"], "--vary limits.turn: unknown key; did you mean 'turns'?"),
        (["limits.turns=10,x"], "--vary limits.turns: must be a whole number (got 'x')"),
        (["model=gpt"], "--vary model: must be one of anthropic:…"),
        (["model"], "--vary: must be a key of the task and its values, as in model=a,b (got 'model')"),
        (["=a"], "--vary: must be a key"),
        (["model=a,"], "--vary model: a value is empty or there twice (got 'a,')"),
        (["model=a,a"], "--vary model: a value is empty or there twice"),
        (
            [f"limits.{key}={','.join(map(str, range(1, 41)))}" for key in ("turns", "seconds")],
            "--vary: that makes 1,600 variations of each row; 1,000 are allowed",
        ),
        (["limits.turns=1", "limits.turns=2"], "--vary limits.turns: is there twice; give all values at once"),
    ],
)
def test_a_matrix_that_cannot_be_is_a_mistake(tmp_path: Path, vary: list[str], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _plan(tmp_path, [_issue(1)], vary=vary)
    assert what in str(caught.value)


def test_a_row_that_fails_in_one_variation_is_said_once(tmp_path: Path) -> None:
    made = _plan(tmp_path, [_issue(1, body="b"), {"a": 1}], vary=["limits.turns=1,2,3"])
    assert len(made.jobs) == 3
    assert len(made.bad) == 1


# --- Ids and keys


def test_what_comes_twice_is_one_job(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("version: 1\nname: same\nprompt: x\n")
    made = plan(read_source(str(tmp_path)), None)
    assert _ids(made) == ["same"]
    assert made.notes == (f"{tmp_path}/b.yaml: is the same as {tmp_path}/a.yaml, and done once",)


def test_a_key_changes_with_all_that_makes_a_job_and_with_nothing_else(tmp_path: Path) -> None:
    def key(issue: dict[str, Any], text: str = TEMPLATE, **options: Any) -> str:
        return _plan(tmp_path, [issue], text, **options).jobs[0].key

    first = key(_issue(1))
    assert key(dict(reversed(_issue(1).items()))) == first
    others = [
        key(_issue(2)),
        key(_issue(1, body="other")),
        key(_issue(1), f"{TEMPLATE}# x\n"),
        key(_issue(1), vary=["limits.turns=60"]),
        key(_issue(1), overrides={"limits.turns": "60"}),
    ]
    assert len({first, *others}) == 6


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6, unique=True))
def test_an_id_is_plain_short_and_its_own(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    rows: list[Found] = [
        Row(place=f"s:{number}", number=number, key=key, values={"row": {"n": number}})
        for number, key in enumerate(keys, start=1)
    ]
    name = "n" * 63
    made = plan(rows, _template(folder, f"version: 1\nname: {name}\nprompt: x\n"), vary=["limits.turns=1,2"])
    ids = _ids(made)
    assert len(set(ids)) == len(ids) == 2 * len(keys)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", id) and len(id) <= MAX_ID_CHARS for id in ids)


# --- Money


@pytest.mark.parametrize(
    ("keys", "worst"),
    [
        ("", None),
        ("limits: {cost_usd: 0.1}\n", Decimal("0.1")),
        ("limits: {turns: 1, output_tokens: 1}\n", None),
        ("model: replay:JOB\n", Decimal(0)),
    ],
)
def test_the_worst_case_is_a_bound_or_nothing(tmp_path: Path, keys: str, worst: Decimal | None) -> None:
    assert worst_case_usd(_template(tmp_path, TEMPLATE + keys).value) == worst


def test_bad_rows_can_be_said_in_a_line() -> None:
    assert str(BadRow("s.json:3", "is bad")) == "s.json:3: is bad"
