"""A task: what to do and where. It grants nothing: it may come in a pull request, so it names no secret, no policy."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

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


NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Template = Annotated[NonEmpty, AfterValidator(template.check)]
Word = Annotated[str, Form(r"[^\s\x00-\x1f-][^\s]*", "one word that does not begin with '-'")]


class Repo(FileModel):
    """Where the work happens."""

    url: NonEmpty = "."
    """Local path (relative to the task file) or any git URL."""
    base: Word = "HEAD"
    """Branch, tag or commit that the work starts from."""


class Checks(FileModel):
    """How the outcome is judged: in a second, fresh container, on the commit that came out."""

    run: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands; each must exit 0."""
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
    """What the agent is asked; a Jinja2 template over `task`, `job.id` and `vars`."""
    vars: dict[Variable, str | int | float | bool] = Field(default_factory=dict)
    """Values for the templates: `{{ vars.issue }}`."""
    repo: Repo = Repo()
    """Where the work happens."""
    image: Word = "base"
    """A folder of images/, or any image reference; its digest is pinned in the result."""
    setup: tuple[NonEmpty, ...] = Field(default=(), strict=False)
    """Shell commands that prepare the container before the agent starts and before the checks run."""
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


def texts(task: Loaded[Task], job_id: str) -> Texts:
    """Raises ConfigError with the place in the file."""
    output = task.value.output
    return Texts(
        prompt=_render(task, task.value.prompt, "prompt", job_id=job_id),
        branch=_render(task, output.branch, "output", "branch", job_id=job_id),
        commit_message=_render(task, output.commit_message, "output", "commit_message", job_id=job_id),
    )


def _render(task: Loaded[Task], source: str, *path: str, job_id: str) -> str:
    try:
        return template.render(source, key=".".join(path), task=task.value, job={"id": job_id}, vars=task.value.vars)
    except ConfigError as error:
        raise ConfigError(f"{task.where(path)}: {error}") from None
