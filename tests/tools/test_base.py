from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from runner.policy import TOOLS as POLICY_TOOLS
from runner.tools import TOOLS
from runner.tools.arguments import InvalidInput, parameters, parse, spec
from runner.tools.bash import Bash

VALID: dict[str, dict[str, Any]] = {
    "Bash": {"command": "true", "timeout": 5000, "description": "nothing", "run_in_background": False},
    "BashOutput": {"bash_id": "1"},
    "KillBash": {"shell_id": "1"},
    "Read": {"file_path": "/a", "offset": 3, "limit": 4},
    "Write": {"file_path": "/a", "content": ""},
    "Edit": {"file_path": "/a", "old_string": "a", "new_string": "", "replace_all": True},
    "Glob": {"pattern": "*", "path": "/"},
    "Grep": {
        "pattern": "a",
        "path": "/",
        "glob": "*.py",
        "type": "py",
        "output_mode": "content",
        "-A": 1,
        "-B": 0,
        "-C": 2,
        "-n": True,
        "-i": False,
        "head_limit": 5,
        "multiline": False,
    },
    "WebFetch": {"url": "https://example.org/", "prompt": "what is it?"},
}


def test_the_policy_knows_these_tools_and_one_that_other_agents_have() -> None:
    assert set(TOOLS) | {"Agent"} == set(POLICY_TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_the_schema_says_what_parse_accepts(name: str) -> None:
    schema = spec(TOOLS[name]).input_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(VALID[name]) == set(parameters(TOOLS[name]))
    jsonschema.validate(VALID[name], schema)
    parse(TOOLS[name], VALID[name])
    for key in schema["required"]:
        without = {other: value for other, value in VALID[name].items() if other != key}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(without, schema)
        with pytest.raises(InvalidInput, match=f"'{key}' is required"):
            parse(TOOLS[name], without)


@pytest.mark.parametrize("name", TOOLS)
def test_tool_and_parameters_are_described_to_the_model(name: str) -> None:
    seen = spec(TOOLS[name])
    assert seen.name == name
    assert len(seen.description) > 30
    assert all(parameter["description"] for parameter in seen.input_schema["properties"].values())
    words = {"type", "description", "enum", "minimum"}
    assert all(set(parameter) <= words for parameter in seen.input_schema["properties"].values())
    assert set(seen.input_schema) == {"type", "properties", "required", "additionalProperties"}


@pytest.mark.parametrize("value", [2000, "2000", " 2000 ", 2000.0])
def test_a_number_may_be_quoted_or_written_as_a_float(value: object) -> None:
    assert parse(TOOLS["Bash"], {"command": "true", "timeout": value}) == parse(
        TOOLS["Bash"], {"command": "true", "timeout": 2000}
    )


@pytest.mark.parametrize("value", ["soon", "2e3", 1.5, True, [1], {}, "9" * 5000, 0, -1])
def test_what_is_no_number_is_said_with_what_was_given(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"'timeout': .* \(got "):
        parse(TOOLS["Bash"], {"command": "true", "timeout": value})


@pytest.mark.parametrize(("value", "flag"), [("true", True), ("False", False), (True, True)])
def test_a_flag_may_be_quoted(value: object, flag: bool) -> None:
    assert parse(Bash, {"command": "true", "run_in_background": value}).run_in_background is flag


@pytest.mark.parametrize("value", ["yes", 1, "1", 0])
def test_other_words_are_no_flags(value: object) -> None:
    with pytest.raises(InvalidInput, match="'run_in_background'"):
        parse(TOOLS["Bash"], {"command": "true", "run_in_background": value})


def test_null_counts_as_not_given() -> None:
    assert parse(TOOLS["Read"], {"file_path": "/a", "offset": None}) == parse(TOOLS["Read"], {"file_path": "/a"})
    with pytest.raises(InvalidInput, match="'file_path' is required"):
        parse(TOOLS["Read"], {"file_path": None})


@pytest.mark.parametrize(
    ("tool", "wrong", "right"),
    [
        ("Read", "path", "file_path"),
        ("Read", "filePath", "file_path"),
        ("Edit", "old_str", "old_string"),
        ("Edit", "newString", "new_string"),
        ("Bash", "cmd", "command"),
        ("Grep", "regex_pattern", "pattern"),
        ("Grep", "outputMode", "output_mode"),
        ("KillBash", "bash_id", "shell_id"),
    ],
)
def test_an_unknown_parameter_is_answered_with_the_right_one(tool: str, wrong: str, right: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{wrong}' is not a parameter; did you mean '{right}'"):
        parse(TOOLS[tool], {wrong: "x"})


def test_an_unknown_parameter_without_a_likely_meaning_is_answered_with_all() -> None:
    with pytest.raises(InvalidInput, match="'zzz' is not a parameter; the parameters are file_path, offset, limit"):
        parse(TOOLS["Read"], {"file_path": "/a", "zzz": 1})


@pytest.mark.parametrize(
    ("tool", "input"),
    [
        ("Bash", {"command": "true\0"}),
        ("Bash", {"command": ""}),
        ("Read", {"file_path": "/a\0b"}),
        ("Read", {"file_path": "\ud800"}),
        ("Write", {"file_path": "/a", "content": "\udfff"}),
        ("Write", {"file_path": "/a", "content": {"key": 1}}),
        ("Grep", {"pattern": "a\0"}),
        ("Grep", {"pattern": "a", "output_mode": "lines"}),
        ("Grep", {"pattern": "a", "-A": -1}),
    ],
)
def test_what_could_not_be_passed_on_is_refused(tool: str, input: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"^{tool} was not run, its input is not valid:\n- "):
        parse(TOOLS[tool], input)
