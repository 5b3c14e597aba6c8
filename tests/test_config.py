"""YAML files: what is refused and how it is said; any bytes give a value or a ConfigError, soon."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, Field

from runner.config import FileModel, Loaded, load
from runner.errors import ConfigError


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"must be even (got {value}); add one")
    return value


class Inner(FileModel):
    turns: int = Field(default=1, ge=1, le=10)
    seconds: float = Field(default=1, gt=0, allow_inf_nan=False)
    words: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=(), strict=False)


class Outer(FileModel):
    version: Literal[1]
    name: str
    mode: Literal["left", "right"] = "left"
    switch: bool = False
    even: Annotated[int, AfterValidator(_even)] = 2
    limit: float | None = None
    limits: Inner = Inner()
    parts: tuple[Inner, ...] = Field(default=(), strict=False)
    vars: dict[str, str | int | float | bool] = Field(default_factory=dict)


GOOD = "version: 1\nname: x\n"


def _load(folder: Path, text: str | bytes, **overrides: str) -> Loaded[Outer]:
    path = folder / "f.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, Outer, overrides={key.replace("__", "."): value for key, value in overrides.items()})


def _errors(folder: Path, text: str | bytes, **overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, **overrides)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_good_file_is_a_frozen_value_with_path_and_hash(tmp_path: Path) -> None:
    loaded = _load(tmp_path, GOOD + "limits: {turns: 3, words: [a, b]}\nparts: [{turns: 2}]\n")
    assert loaded.value == Outer(version=1, name="x", limits=Inner(turns=3, words=("a", "b")), parts=(Inner(turns=2),))
    assert loaded.path == tmp_path / "f.yaml"
    assert loaded.sha256 == hashlib.sha256((tmp_path / "f.yaml").read_bytes()).hexdigest()


def test_where_gives_line_and_column_of_a_value_and_of_the_parent_when_it_is_not_there(tmp_path: Path) -> None:
    loaded = _load(tmp_path, GOOD + "limits:\n  turns: 3\n  words:\n    - a\n    -   b\n")
    file = tmp_path / "f.yaml"
    assert loaded.where(("limits", "turns")) == f"{file}:4:10"
    assert loaded.where(("limits", "words", 1)) == f"{file}:7:9"
    assert loaded.where(("limits", "seconds")) == loaded.where(("limits",)) == f"{file}:4:3"
    assert loaded.where(("even",)) == f"{file}:1:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # values
        (GOOD + "limits: {turns: 0}", "f.yaml:3:17: limits.turns: must be at least 1 (got 0)"),
        (GOOD + "limits: {turns: 1.5}", "f.yaml:3:17: limits.turns: must be a whole number (got 1.5)"),
        (GOOD + "limits: {turns: true}", "f.yaml:3:17: limits.turns: must be a whole number (got true)"),
        (GOOD + "limits: {turns: '3'}", "f.yaml:3:17: limits.turns: must be a whole number (got '3')"),
        (GOOD + "limits: {seconds: -1}", "f.yaml:3:19: limits.seconds: must be greater than 0 (got -1)"),
        (GOOD + "limits: 5", "f.yaml:3:9: limits: must be a mapping (got 5)"),
        (GOOD + "limits:", "f.yaml:3:8: limits: must be a mapping (got nothing)"),
        (GOOD + "limits: {words: abc}", "f.yaml:3:17: limits.words: must be a list (got 'abc'); write ['abc']"),
        (GOOD + "limits: {words: [a, '']}", "limits.words[1]: must be at least 1 character long (got '')"),
        (GOOD + "parts: [{}, {turns: x}]", "f.yaml:3:21: parts[1].turns: must be a whole number (got 'x')"),
        (GOOD + "even: 3", "f.yaml:3:7: even: must be even (got 3); add one"),
        (GOOD + "mode: up", "f.yaml:3:7: mode: must be 'left' or 'right' (got 'up')"),
        (GOOD + "switch: yes", "switch: must be true or false (got 'yes'); only true and false are booleans here"),
        (GOOD + "vars: {a: [1]}", "vars.a: must be text or a whole number or a number or true or false (got a list)"),
        ("version: 2\nname: x", "f.yaml:1:10: version: must be 1 (got 2)"),
        ("version: 1\nname: 3.10", "f.yaml:2:7: name: must be text (got 3.1); put it in quotes"),
        ("version: 1\nname:\n", "f.yaml:2:6: name: must be text (got nothing)"),
        ("version: 1", "f.yaml:1:1: name: is required"),
        # keys
        (GOOD + "limit: 1\nlimts: {}", "f.yaml:4:1: limts: unknown key; did you mean 'limits'?"),
        (GOOD + "limits: {colour: 1}", "limits.colour: unknown key; the keys here are turns, seconds, words"),
        (GOOD + "name: y", "f.yaml:3:1: name: is there twice (first on line 2); remove one"),
        (GOOD + "limits: {turns: 1, turns: 2}", "f.yaml:3:20: limits.turns: is there twice"),
        (GOOD + "1: x", "f.yaml:3:1: 1: a key must be text; write '1' in quotes"),
        (GOOD + "true: x", "a key must be text; write 'true' in quotes"),
        (GOOD + "? [a, b]\n: c", "f.yaml:3:3: '?': a key must be text"),
        (GOOD + "? {a: b}\n: c", "a key must be text"),
        (GOOD + "'a key': 1", "f.yaml:3:1: 'a key': unknown key"),
        # what YAML can do and we do not want
        (GOOD + "vars: &a {x: 1}", "f.yaml:3:7: vars: anchors (&a) are not allowed"),
        (GOOD + "vars: &a {x: 1}\nlimits: *a", "f.yaml:4:9: limits: aliases (*a) are not allowed"),
        (GOOD + "<<: {name: y}", "f.yaml:3:1: '<<': merge keys are not allowed"),
        (GOOD + "vars: !!python/object/apply:os.system [id]", "f.yaml:3:7: vars: tags ("),
        (GOOD + "even: !!int '4'", "f.yaml:3:7: even: tags ("),
        (GOOD + "vars: {a: ! 5}", "vars.a: tags ('!') are not allowed"),
        ("%YAML 1.1\n---\n" + GOOD, "f.yaml:1:1: directives such as %YAML are not allowed"),
        (GOOD + "---\nname: y", "f.yaml:3:1: a second document begins here"),
        # scalars that mean something else elsewhere
        (GOOD + "even: 012", "f.yaml:3:7: even: 012 has a leading zero, which is octal to some readers; write 12"),
        (GOOD + "limit: .nan", "f.yaml:3:8: limit: .nan is not a finite number"),
        (GOOD + "limit: -.inf", "f.yaml:3:8: limit: -.inf is not a finite number"),
        (GOOD + "limit: 1e999", "f.yaml:3:8: limit: the number is too large"),
        (GOOD + f"even: {10**30}", "f.yaml:3:7: even: the number is too large"),
        (GOOD + "even: 1_000", "even: must be a whole number (got '1_000')"),
        (GOOD + "even: 1:30", "even: must be a whole number (got '1:30')"),
        # bytes
        (b"\xef\xbb\xbf" + GOOD.encode(), "f.yaml:1:1: starts with a byte order mark"),
        (b"version: 1\nname: \xff", "f.yaml:2:7: byte 0xff is not UTF-8"),
        (b"version: 1\nname: a\0b", "f.yaml:2:8: character U+0000 is not allowed"),
        ("version: 1\nname: a\x1bb", "f.yaml:2:8: character U+001B is not allowed"),
        ("version: 1\nname: a\u2028b", "f.yaml:2:8: character U+2028 is not allowed"),
        ('version: 1\nname: "a\\0b"', "f.yaml:2:7: name: character U+0000 is not allowed in text"),
        ('version: 1\nname: "a\\eb"', "f.yaml:2:7: name: character U+001B is not allowed in text"),
        (GOOD.encode("utf-16"), "f.yaml:1:1: byte 0xff is not UTF-8"),
        # form
        ("", "f.yaml:1:1: is empty; it must have the keys version, name"),
        ("# nothing\n", "f.yaml:1:1: is empty"),
        ("- a", "f.yaml:1:1: must be a mapping (got a list); it must have the keys version, name"),
        ("just text", "f.yaml:1:1: must be a mapping (got 'just text')"),
        ("version: 1\n\tname: x", "f.yaml:2:1: a tab cannot indent; use spaces"),
        ("version: 1\nname: a: b", "f.yaml:2:8: is not YAML: mapping values are not allowed"),
        ("version: 1\nname: 'x", "f.yaml:2:7: is not YAML"),
        ("version: 1\nname: @x", "put text that starts with this character in quotes"),
        ("version: 1\nname: [x", "is not YAML"),
        (GOOD + "vars: " + "[" * 40, "f.yaml:3:38: nested more than 32 levels deep"),
        (GOOD + "vars: [" + "1, " * 30_000 + "]", "more than 20,000 entries"),
        ("a: " + "x" * (1024 * 1024), "f.yaml: is larger than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_place_key_and_hint(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in "\n".join(_errors(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("y", "y"), ("1:30", "1:30"), ("2026-11-21", "2026-11-21"), ("1_0", "1_0"),
        ("=", "="), ("'012'", "012"), ("0o14", 12), ("0x1F", 31), ("12", 12), ("-3", -3), ("1e3", 1000.0), (".5", 0.5),
        ("true", True), ("FALSE", False), ("'true'", "true"), ("1.10.2", "1.10.2"), ("'a\tb'", "a\tb"), ("~x", "~x"),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(tmp_path: Path, text: str, value: object) -> None:
    found = _load(tmp_path, f"{GOOD}vars: {{a: {text}}}").value.vars["a"]
    assert (found, type(found)) == (value, type(value))


def test_all_mistakes_are_reported_at_once_in_order_of_place(tmp_path: Path) -> None:
    text = "version: 2\nname: 5\nlimits:\n  turns: 0\n  wurds: []\nvars: {a: *x, b: [2]}\nname: z\n"
    places = [error.split(": ")[0] for error in _errors(tmp_path, text)]
    assert places == [
        "f.yaml:1:10",
        "f.yaml:2:7",
        "f.yaml:4:10",
        "f.yaml:5:3",
        "f.yaml:6:11",
        "f.yaml:6:18",
        "f.yaml:7:1",
    ]


def test_no_more_than_twenty_mistakes_are_listed(tmp_path: Path) -> None:
    errors = _errors(tmp_path, GOOD + "".join(f"k{index}: 1\n" for index in range(50)))
    assert len(errors) == 21
    assert errors[-1] == "… and 30 more"


def test_a_message_is_one_line_whatever_the_value_holds(tmp_path: Path) -> None:
    long = "y" * 500
    text = f'"a\\nb": 1\nmode: "{long}\\n"\n{long}: 1\nvars: &{long} {{}}\nlimits: *{long}\n'
    text += f"even: 0{'1' * 500}\n1{'0' * 500}: 1\n"
    errors = _errors(tmp_path, GOOD + text)
    assert len(errors) == 7
    assert all(len(error) < 250 for error in errors)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "unreadable parent", "nul"])
def test_a_path_that_is_no_file_is_said_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "task.yaml"
    expected = {
        "missing": "there is no such file; did you mean",
        "folder": "is a directory; name a file",
        "fifo": "is not a regular file",
        "unreadable parent": "cannot be read: Not a directory",
        "nul": "cannot be read: embedded null byte",
    }[kind]
    match kind:
        case "missing":
            (tmp_path / "tasks.yaml").touch()
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "unreadable parent":
            path.touch()
            path = path / "task.yaml"
        case "nul":
            path = tmp_path / "a\0b"
    with pytest.raises(ConfigError, match=expected):
        load(path, Outer)


def test_an_override_replaces_one_key_and_is_named_by_its_flag(tmp_path: Path) -> None:
    text = GOOD + "limits: {turns: 99, words: [a]}\n"
    assert _load(tmp_path, text, limits__turns="5", even="4").value.limits == Inner(turns=5, words=("a",))
    assert _errors(tmp_path, text, limits__turns="0") == ["--limits.turns: must be at least 1 (got 0)"]
    assert _errors(tmp_path, GOOD, limits__turn="1") == ["--limits.turn: unknown key; did you mean 'turns'?"]
    assert _errors(tmp_path, GOOD, name__x="1") == ["--name.x: name is not a mapping"]
    assert _errors(tmp_path, GOOD, even="[") == _errors(tmp_path, GOOD, even="[") != []


def test_an_override_of_a_text_key_is_taken_as_it_is(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD, name="a: *b 012").value.name == "a: *b 012"


def test_an_override_of_another_key_is_yaml(tmp_path: Path) -> None:
    loaded = _load(tmp_path, GOOD, limits__words="[a, b]", vars__n="3", switch="true")
    assert (loaded.value.limits.words, loaded.value.vars, loaded.value.switch) == (("a", "b"), {"n": 3}, True)
    assert loaded.where(("vars", "n")) == "--vars.n"


def test_the_hash_is_of_the_file_not_of_the_overrides(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD, even="4").sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.sampled_from(
    ["version: 1\n", "name: x\n", "limits:\n", "  turns: 3\n", "  words:\n", "    - a\n", "\t", " ", "\n", "- ", "? ",
     ": ", "&a ", "*a", "!!int ", "<<: ", "{", "}", "[", "]", ",", "'", '"', "|\n", ">-\n", "#", "---\n", "...\n",
     "%YAML 1.2\n", "\\x00", "\r", "~", ".nan", "012", "1e999", "0o", "é", "\u2028", "parts: [{}]\n", "vars: {a: 1}\n"]
)  # fmt: skip


def _loads_or_complains(folder: Path, data: bytes) -> None:
    path = folder / "f.yaml"
    path.write_bytes(data)
    started = time.monotonic()
    try:
        loaded = load(path, Outer)
    except ConfigError as error:
        assert str(error).splitlines()  # noqa: PT017
        assert all(line.startswith((str(path), "… and ")) for line in str(error).splitlines())  # noqa: PT017
    else:
        assert isinstance(loaded.value, Outer)
    assert time.monotonic() - started < 10


@FUZZ
@given(data=st.binary(max_size=400))
@example(data=b"? " * 200)
@example(data=b"{" * 40)
@example(data=b"- " * 100)
@example(data=b'"\\ud800"')
@example(data=b'"\\UFFFFFFFF"')
@example(data=b"%YAML 99999999999999999999.1\n---\n")
@example(data=b"a: !<tag:x%FF> b")
def test_any_bytes_give_a_value_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    _loads_or_complains(tmp_path, data)


@FUZZ
@given(text=st.lists(PIECES, max_size=40).map("".join))
def test_any_pieces_of_yaml_give_a_value_or_a_config_error(tmp_path: Path, text: str) -> None:
    _loads_or_complains(tmp_path, text.encode())


@FUZZ
@given(
    key=st.sampled_from(
        ["name", "even", "limits", "limits.turns", "limits.words", "parts", "vars.a", "vars", "x.y", "name.z"]
    ),
    text=st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=10).map("".join)),
)
def test_any_override_gives_a_value_or_a_config_error(tmp_path: Path, key: str, text: str) -> None:
    try:
        loaded = _load(tmp_path, GOOD + "limits: {turns: 2}\n", **{key: text})
    except ConfigError as error:
        assert str(error).startswith(f"--{key.split('.', maxsplit=1)[0]}")  # noqa: PT017
    else:
        assert isinstance(loaded.value, Outer)


@pytest.mark.parametrize(
    "data",
    [
        b"? " * 500_000, b"[" * 1_000_000, b"- " * 500_000, b"{a: " * 250_000, b"&a " * 300_000, b"a: b\n" * 200_000,
        b"'" * 1_000_000, b"a:\n" * 300_000, b"[a, " * 30, b"!" * 1_000_000, b"#" * 1_000_000, b"\n" * 1_000_000,
        b"x: |\n" + b" a\n" * 300_000, b'"\\x41"' * 100_000, b"*a\n" * 300_000, b"a" * 1_000_000 + b": 1",
    ],
)  # fmt: skip
def test_a_megabyte_of_malice_is_answered_soon(tmp_path: Path, data: bytes) -> None:
    _loads_or_complains(tmp_path, data)


TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"), min_size=1
)


@FUZZ
@given(turns=st.integers(1, 10), words=st.lists(TEXT, max_size=4), variables=st.dictionaries(TEXT, TEXT, max_size=4))
def test_what_is_quoted_is_read_as_it_was_written(
    tmp_path: Path, turns: int, words: list[str], variables: dict[str, str]
) -> None:
    tree = {"version": 1, "name": "x", "limits": {"turns": turns, "words": words}, "vars": variables}
    loaded = _load(tmp_path, json.dumps(tree, ensure_ascii=False)).value
    assert loaded.limits == Inner(turns=turns, words=tuple(words))
    assert loaded.vars == variables
