"""What must hold whatever a model writes into a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.tools import TOOLS
from runner.tools.arguments import InvalidInput, parse
from runner.tools.base import Answer, Session, os_failure
from tests.tools.sandboxes import toolbox

FILE_TOOLS = ("Read", "Write", "Edit", "Glob", "Grep")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with toolbox(tmp_path_factory.mktemp("toolbox")) as sandbox:
        sandbox.exec("mkdir -p src/deep; echo one > src/a.py; ln -s src link; ln -s nowhere broken; mkfifo fifo")
        yield Session(sandbox=sandbox)


def answer(session: Session, name: str, input: dict[str, Any]) -> Answer:
    """As the loop does it; anything but an answer is an error of ours."""
    try:
        tool = parse(TOOLS[name], input)
        return tool.run(session, tool.calls(session))
    except InvalidInput as error:
        return Answer(content=str(error), is_error=True)
    except OSError as error:
        return os_failure(name, error)


paths = st.one_of(
    st.sampled_from(["", ".", "..", "/", "//", "src", "src/a.py", "link/a.py", "broken", "broken/x", "fifo", "~", "-"]),
    st.lists(st.sampled_from(["src", "..", ".", "", "link", "deep", "x" * 300, "a.py", "{", "[", "*", "\n", "é"])).map(
        "/".join
    ),
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=5),
)
values = st.one_of(paths, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.integers(), max_size=1))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tool and arguments that are valid now and then."""
    name = draw(st.sampled_from(FILE_TOOLS))
    properties = TOOLS[name].model_json_schema()["properties"]
    input = {}
    for key, schema in properties.items():
        if draw(st.booleans()) or key in TOOLS[name].model_json_schema()["required"]:
            fitting = {"integer": st.integers(0, 5), "boolean": st.booleans()}.get(schema.get("type", ""), paths)
            input[key] = draw(fitting if draw(st.integers(0, 9)) else values)
    return name, input


@settings(max_examples=200, deadline=None)
@given(call=inputs())
@example(call=("Glob", {"pattern": "[z-a]"}))
@example(call=("Glob", {"pattern": "[!"}))
@example(call=("Grep", {"pattern": "a{1000}{1000}"}))
@example(call=("Grep", {"pattern": "x", "glob": "{a"}))
@example(call=("Grep", {"pattern": "(?P<x>a)" * 50, "multiline": True, "output_mode": "content"}))
@example(call=("Read", {"file_path": "src/a.py", "offset": 10**18}))
@example(call=("Edit", {"file_path": "src/a.py", "old_string": "\n", "new_string": "\r\n"}))
def test_every_call_ends_in_an_answer_with_words(session: Session, call: tuple[str, dict[str, Any]]) -> None:
    given = answer(session, *call)
    assert given.content.strip()
    assert len(given.content) < 150_000
