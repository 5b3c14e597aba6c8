"""`claw-runner schema`: the file formats, for editors and for people."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

from runner.cli.reference import reference
from runner.policy import Policy
from runner.result import JobResult
from runner.task import Task

FORMATS: dict[str, type[BaseModel]] = {"task": Task, "policy": Policy, "result": JobResult}
Format = Literal["task", "policy", "result", "docs"]


def schema(
    format: Annotated[Format, typer.Argument(help="docs: a Markdown table of all keys.")],
) -> int:
    """Print the JSON schema of a file format, or the reference of all keys."""
    typer.echo(document(format), nl=False)
    return 0


def document(format: Format) -> str:
    """The text that `schema` prints; ends in a newline."""
    if format == "docs":
        return reference(Task, Policy)
    return json.dumps(json_schema(format), indent=2, ensure_ascii=False) + "\n"


def json_schema(format: Literal["task", "policy", "result"]) -> dict[str, Any]:
    """A schema of draft 2020-12, as pydantic makes it: for results of what is written, else of what may be written."""
    model = FORMATS[format]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(mode="serialization" if format == "result" else "validation"),
    }
