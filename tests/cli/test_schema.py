"""`claw-runner schema`: the schemas and the reference in the repository are those of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from runner.cli import main
from runner.cli.schema import Format
from runner.config import load
from runner.errors import ConfigError
from runner.policy import Policy
from runner.shipped import shipped
from runner.task import Task

ROOT = Path(__file__).parent.parent.parent
FILES = {
    **{name: ROOT / "schemas" / f"{name}.schema.json" for name in ("task", "policy", "result")},
    "docs": ROOT / "docs" / "reference.md",
}


def test_every_format_has_its_file() -> None:
    assert set(FILES) == set(get_args(Format))


@pytest.mark.parametrize("name", FILES)
def test_the_file_in_the_repository_is_what_the_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    printed = capsys.readouterr().out
    assert FILES[name].read_text() == printed, (
        f"make it again: claw-runner schema {name} > {FILES[name].relative_to(ROOT)}"
    )


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(FILES[name].read_text())
    return schema


@pytest.mark.parametrize("name", ["task", "policy", "result"])
def test_a_schema_is_one(name: str) -> None:
    schema = _schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert not schema["additionalProperties"]


@pytest.mark.parametrize("kind", ["tasks", "policies"])
def test_every_shipped_file_fits_its_schema(kind: str) -> None:
    schema = _schema({"tasks": "task", "policies": "policy"}[kind])
    files = [
        file
        for file in shipped("tasks" if kind == "tasks" else "policies").glob("*.yaml")
        if "replies" not in file.name
    ]
    assert files
    for file in files:
        jsonschema.validate(yaml.safe_load(file.read_text()), schema)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("task", "version: 1\nname: Bad Name\nprompt: x"),
        ("task", "version: 1\nname: x\nprompt: x\nlimits: {turns: 0}"),
        ("task", "version: 1\nname: x\nprompt: x\nnothing: 1"),
        ("task", "version: 2\nname: x\nprompt: x"),
        ("task", "name: x\nprompt: x"),
        ("policy", "version: 1\nmode: strict"),
        ("policy", "version: 1\nallow: [Read]"),
        ("policy", "version: 1\nmode: whitelist\negress: 5"),
        ("policy", "version: 1\nmode: whitelist\ntests: [{call: Bash(ls)}]"),
        ("policy", "version: 1\nmode: whitelist\ncontainer: {memory: 2x}"),
        ("policy", "version: 1\nmode: whitelist\nallow: [1]"),
    ],
)
def test_what_the_schema_refuses_the_code_refuses_too(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), _schema(name))
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "f.yaml", Task if name == "task" else Policy)


def test_the_reference_explains_every_key() -> None:
    rows = [line for line in FILES["docs"].read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for row in rows:
        assert row.rstrip(" |").rpartition("|")[2].strip(), row
