"""A task: what to do and where. It grants nothing: it may come in a pull request, so it names no secret, no policy.

A task may be a template for many jobs: a batch gives it the values `issue`, `row` and `comment`. They are the text of
strangers, so they reach the prompt, the names of things (repository, base, image, branch) and the commit message, and
nothing else: `setup` and `checks` are run by a shell and are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from runner import template
from runner.config import FileModel, Form, Loaded
from runner.document.words import near, shown
from runner.errors import ConfigError

PROVIDERS = ("anthropic", "scripted", "replay")


def _known_provider(model: str) -> str:
    provider, _, rest = model.partition(":")
    if provider in PROVIDERS and rest:
        return model
    meant = near(provider, PROVIDERS) or ("anthropic" if model.startswith("claude") else None)
    hint = f"; did you mean '{meant}:{rest or model}'?" if meant and provider not in PROVIDERS else ""
    raise ValueError(f"must be one of {', '.join(f'{name}:…' for name in PROVIDERS)} (got {shown(model)}){hint}")


_OF_BATCHES = ("issue", "row", "comment")
VALUES = ("task", "job", "vars", *_OF_BATCHES)
"""What templates may speak of; the last three are there in a batch only, as far as its source has them."""


def _template(source: str) -> str:
    for name in sorted(template.names(source) - set(VALUES)):
        meant = near(name, VALUES)
        hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(VALUES)}"
        raise ValueError(f"there is no value {name!r}; {hint}")
    return source


NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Template = Annotated[NonEmpty, AfterValidator(_template)]

# What repository, base and image must look like in the end, and before: that, or with a template in it.
_URL = Form(r"[^\x00-\x1f]+", "one line that is not empty")
_WORD = Form(r"[^\s\x00-\x1f-][^\s]*", "one word that does not begin with '-'")
Url = Annotated[str, _URL, AfterValidator(_template)]
Word = Annotated[str, Form(rf"(?:{_WORD.pattern}|[^\n]*\{{[{{%#][^\n]*)", _WORD.what), AfterValidator(_template)]


class Repo(FileModel):
    """Where the work happens."""

    url: Url = "."
    """Local path (relative to the task file) or any git URL; may be a Jinja2 template."""
    base: Word = "HEAD"
    """Branch, tag or commit that the work starts from; may be a Jinja2 template."""


class Checks(FileModel):
    """How the outcome is judged: in a second, fresh container, on the commit that came out."""

    run: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands; each must exit 0. Never a template: the text of an issue must not become a command."""
    fail_to_pass: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands that must fail on base, which is tried before the agent starts, and exit 0 on the work."""
    pass_to_pass: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands that must exit 0 on base, which is tried before the agent starts, and on the work."""
    trust: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Globs of files that steer the checks (conftest.py, Makefile …) and that the work may change all the same."""
    protect: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Globs of paths that are restored from base before the checks run."""
    repair_rounds: int = Field(default=0, ge=0, le=10)
    """How often failed checks are handed back to the agent, within the same limits."""
    seconds: float = Field(default=600, gt=0, le=86_400)
    """Time for each command."""


class Limits(FileModel):
    """Ceilings of one job. Reaching one ends the job with outcome `limit`."""

    cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """US dollars; refused at the start when the model's price is unknown."""
    turns: int = Field(default=60, ge=1, le=10_000)
    """Model replies."""
    seconds: float = Field(default=1800, gt=0, le=604_800)
    """Wall time of the agent, from the prepared sandbox on. Images, setup and checks have times of their own."""
    output_tokens: int | None = Field(default=None, ge=1)
    """Tokens the model writes, over all replies."""
    retries: int = Field(default=20, ge=0, le=1000)
    """Failed model requests that may be tried again, over the whole job."""
    retry_seconds: float = Field(default=600, ge=0, le=86_400)
    """Time the job may spend waiting for retries."""
    retry_cost_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """US dollars that failed requests may cost (worst case) before the job gives up."""


AuthorText = Annotated[str, Form(r"[^<>\n]+", "one line without '<' and '>'")]


class Author(FileModel):
    """Author of the commits."""

    name: AuthorText = "claw-runner"
    """Name."""
    email: AuthorText = "claw-runner@localhost"
    """Address; need not exist."""


class Output(FileModel):
    """How the work is delivered."""

    branch: Template = "claw/{{ job.id }}"
    """Name of the branch that appears in the repository; a Jinja2 template."""
    commit_message: Template = "{{ task.name }}"
    """Message of the commit the runner makes of uncommitted work; a Jinja2 template."""
    author: Author = Author()
    """Author of the commits that the runner and the agent make."""


Name = Annotated[str, Form(r"[a-z0-9][a-z0-9._-]{0,62}", "lower-case letters, digits, '.', '-' and '_', at most 63")]
Variable = Annotated[str, Form(r"[A-Za-z][A-Za-z0-9_]*", "a name: letters, digits and '_'")]
Model = Annotated[str, AfterValidator(_known_provider)]


class Task(FileModel):
    """What to do and where."""

    version: Literal[1]
    """Version of this format."""
    name: Name
    """Short name, part of the job's id: at most 63 lower-case letters, digits, dots, dashes and underscores."""
    prompt: Template
    """What the agent is asked; a Jinja2 template over `task`, `job`, `vars`; in batches `issue`, `row`, `comment`."""
    vars: dict[Variable, str | int | float | bool] = Field(default_factory=dict)
    """Values for the templates: `{{ vars.issue }}`."""
    repo: Repo = Repo()
    """Where the work happens."""
    image: Word = "base"
    """A folder of images/, or any image reference, whose digest is pinned in the result; may be a Jinja2 template."""
    setup: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands that prepare the container before the agent starts and before the checks run. Never a template."""
    agent: Literal["loop"] = "loop"
    """What does the work: `loop`, the built-in agent."""
    model: Model = "anthropic:claude-sonnet-4-6"
    """`anthropic:MODEL`, `scripted:FILE` or `replay:JOB`."""
    max_tokens: int = Field(default=8192, ge=256, le=128_000)
    """Tokens of one reply at most."""
    checks: Checks = Checks()
    """How the outcome is judged."""
    limits: Limits = Limits()
    """Ceilings of the job."""
    expect_change: bool = True
    """False: a job that changes nothing is no failure (reviews, questions)."""
    output: Output = Output()
    """How the work is delivered."""


class Texts(NamedTuple):
    """The templates of a task, rendered for one job."""

    prompt: str
    branch: str
    commit_message: str


def filled(task: Loaded[Task], job_id: str, values: Mapping[str, Any] = MappingProxyType({})) -> Loaded[Task]:
    """The task with the templates of its repository and image filled in. Raises ConfigError with the place in the file.

    What they give has the form that the key demands, and is no template any more.
    """
    known = _known(task, job_id, values)
    word = {path: _word(task, known, path, form) for path, form in _WORDS.items()}
    repo = task.value.repo.model_copy(update={"url": word["repo", "url"], "base": word["repo", "base"]})
    return replace(task, value=task.value.model_copy(update={"repo": repo, "image": word[("image",)]}))


def texts(task: Loaded[Task], job_id: str, values: Mapping[str, Any] = MappingProxyType({})) -> Texts:
    """`values` are those of a batch: `issue`, `row`, `comment`. Raises ConfigError with the place in the file."""
    known = _known(task, job_id, values)
    return Texts(*(_render(task, known, path) for path in _TEXTS))


EXAMPLE: Mapping[str, Any] = MappingProxyType({
    "issue": {
        "number": 1, "title": "TITLE", "body": "BODY", "author": "AUTHOR", "author_association": "NONE",
        "labels": ["LABEL"], "assignees": ["ASSIGNEE"], "milestone": "MILESTONE", "state": "open", "state_reason": None,
        "repository": "OWNER/REPOSITORY", "url": "URL", "created_at": "CREATED", "updated_at": "UPDATED",
        "closed_at": None, "comments": [],
    },
    "comment": {
        "author": "AUTHOR", "author_association": "NONE", "body": "COMMENT", "url": "URL", "created_at": "CREATED",
    },
})  # fmt: skip
"""Stands for the values that a batch gives, with all the keys that there are."""


def preview(task: Loaded[Task], job_id: str) -> Texts:
    """As `texts`, before there is a batch: an example stands for the issue and the comment, and a template over `row`,
    whose keys nobody knows yet, stays as it is. Raises ConfigError for what no batch could fill in."""
    known = _known(task, job_id, EXAMPLE)
    for path, form in _WORDS.items():
        if not _over_rows(task, path):
            _word(task, known, path, form)
    return Texts(*(_source(task, path) if _over_rows(task, path) else _render(task, known, path) for path in _TEXTS))


def only_in_batches(task: Loaded[Task]) -> tuple[str, ...]:
    """The values that its templates speak of and that nothing but a batch gives."""
    asked = {name for path in (*_WORDS, *_TEXTS) for name in template.names(_source(task, path))}
    return tuple(name for name in _OF_BATCHES if name in asked)


_Path = tuple[str, ...]
_WORDS: dict[_Path, Form] = {("repo", "url"): _URL, ("repo", "base"): _WORD, ("image",): _WORD}
_TEXTS: tuple[_Path, ...] = (("prompt",), ("output", "branch"), ("output", "commit_message"))


def _known(task: Loaded[Task], job_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"task": task.value, "job": {"id": job_id}, "vars": task.value.vars, **values}


def _source(task: Loaded[Task], path: _Path) -> str:
    return str(attrgetter(".".join(path))(task.value))


def _over_rows(task: Loaded[Task], path: _Path) -> bool:
    return "row" in template.names(_source(task, path))


def _word(task: Loaded[Task], known: Mapping[str, Any], path: _Path, form: Form) -> str:
    text = _render(task, known, path)
    try:
        if template.has_tags(text):
            raise ValueError(f"gives a template again (got {shown(text)})")
        return form.check(text)
    except ValueError as error:
        raise ConfigError(f"{task.where(path)}: {'.'.join(path)}: {error}") from None


def _render(task: Loaded[Task], known: Mapping[str, Any], path: _Path) -> str:
    try:
        return template.render(_source(task, path), key=".".join(path), **known)
    except ConfigError as error:
        raise ConfigError(f"{task.where(path)}: {error}") from None
