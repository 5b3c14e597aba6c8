"""Scripts, and the server that plays them: as strict about requests as the API, and clear when a script ends."""

from __future__ import annotations

import copy
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config import FileModel
from runner.errors import ConfigError
from runner.messages import Request, Text, Usage
from runner.models import Model, NoReply, RetryBudget, open_model
from runner.models.api_rules import Refused, judge
from runner.models.script import ScriptedCall, ScriptedUsage, Trouble, Turn, load_script
from runner.models.scripted import ScriptedServer

HEAD = "version: 1\nmodel: claude-sonnet-4-6\nturns:\n"


def written(folder: Path, turns: str, name: str = "script.yaml") -> Model:
    (folder / name).write_text(HEAD + turns)
    budget = RetryBudget(tries=3, seconds=5, first_wait_seconds=0.001)
    return open_model(f"scripted:{name}", folder=folder, variables={}, budget=budget)


# -- scripts


def test_a_script_is_played_from_top_to_bottom(
    tmp_path: Path, ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    model = written(tmp_path, "- text: one\n  tools: [{name: Bash, input: {command: ls}}]\n- text: two\n")
    request = ask()
    first = model.reply(request)
    assert (first.text, first.stop_reason) == ("one", "tool_use")
    second = model.reply(go_on(request, first))
    assert (second.text, second.stop_reason) == ("two", "end_turn")
    model.close()


def test_turns_whose_pattern_does_not_match_are_skipped(
    tmp_path: Path, ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    turns = """
- text: first
  tools: [{name: Bash, input: {command: pytest}}]
- when: '\\d+ failed'
  text: I mend it.
- when: '\\d+ passed'
  text: Nothing to do.
- when: never
  text: lost
- text: last
"""
    for answer, said in (("2 failed, 1 passed", "I mend it."), ("3 passed", "Nothing to do."), ("?", "last")):
        model = written(tmp_path, turns)
        request = ask()
        reply = model.reply(request)
        assert model.reply(go_on(request, reply, answer)).text == said
        model.close()


def test_a_turn_can_be_repeated(tmp_path: Path, ask: Callable[..., Request], go_on: Callable[..., Request]) -> None:
    model = written(tmp_path, "- {repeat: 3, tools: [{name: Bash, input: {command: 'true'}}]}\n- text: done\n")
    request, ids = ask(), []
    while (reply := model.reply(request)).stop_reason == "tool_use":
        ids.append(reply.tool_uses[0].id)
        request = go_on(request, reply)
    assert len(set(ids)) == 3
    model.close()


def test_a_job_that_is_resumed_finds_the_script_where_it_left_it(
    tmp_path: Path, ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    turns = """
- fault: {status: 529}
- text: first
  thinking: hm
  tools: [{name: Bash, input: {command: make}}]
  fault: {delay_seconds: 0}
- when: never
  text: skipped
- text: again
  repeat: 3
  tools: [{name: Bash, input: {command: make}}]
- {text: cut, fault: {after: 3}}
- text: last
"""
    whole, requests, replies = written(tmp_path, turns), [ask()], []
    for _ in range(5):
        replies.append(whole.reply(requests[-1]))
        requests.append(go_on(requests[-1], replies[-1]))
    whole.close()
    assert [reply.text for reply in replies] == ["first", "again", "again", "again", "last"]
    for begun in range(1, 5):
        other = written(tmp_path, turns)
        for request, reply in list(zip(requests, replies, strict=False))[begun:]:
            assert other.reply(request).content == reply.content
        other.close()


def test_faults_are_played_and_survived(tmp_path: Path, ask: Callable[..., Request]) -> None:
    model = written(
        tmp_path,
        "- fault: {status: 529}\n- fault: {status: 429, headers: {retry-after-ms: '1'}}\n"
        "- {text: cut, fault: {after: 3, then: reset}}\n- text: done\n",
    )
    assert model.reply(ask()).text == "done"
    model.close()


def test_the_end_of_a_script_names_its_file(tmp_path: Path, ask: Callable[..., Request]) -> None:
    model = written(tmp_path, "- text: only\n")
    model.reply(ask())
    with pytest.raises(NoReply, match=r"^scripted:script\.yaml: HTTP 400 .*script\.yaml has no turn for request 2$"):
        model.reply(ask())
    model.close()


def test_usage_is_what_the_script_says_or_follows_from_sizes(tmp_path: Path, ask: Callable[..., Request]) -> None:
    model = written(tmp_path, "- {text: a, usage: {input_tokens: 7, output_tokens: 5}}\n- text: b\n- text: b\n")
    assert model.reply(ask()).usage == Usage(input_tokens=7, output_tokens=5)
    short, long = model.reply(ask("x")).usage, model.reply(ask("x" * 4000)).usage
    assert 900 < long.total_tokens - short.total_tokens < 1100
    model.close()


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ("", "turns"),
        ("- {}\n", "says nothing; give it text, tools or a fault"),
        ("- {txt: x}\n", "unknown key; did you mean 'text'?"),
        ("- {text: x, when: '('}\n", "is not a regular expression"),
        ("- {text: x, repeat: 0}\n", "at least 1"),
        ("- {text: x, fault: {then: explode}}\n", "then"),
        ("- {text: x, fault: {status: 99}}\n", "at least 200"),
        ("- {tools: [{input: {}}]}\n", "name: is required"),
        ("- {text: [1]}\n", "must be text"),
    ],
)
def test_a_wrong_script_is_refused_with_its_line(tmp_path: Path, turns: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"script\.yaml:\d+:\d+: .*{re.escape(message)}"):
        written(tmp_path, turns)


def test_only_scripts_are_read_as_scripts(tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ConfigError, match=r"a script ends in \.yaml") as caught:
        load_script(tmp_path / "id_rsa")
    assert "PRIVATE" not in str(caught.value)


def test_a_missing_script_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ghost\.yaml"):
        load_script(tmp_path / "ghost.yaml")


DOCS = Path(__file__).parents[2] / "docs" / "scripted.md"


def test_the_scripts_in_the_documentation_are_valid(tmp_path: Path) -> None:
    scripts = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    for script in scripts:
        (tmp_path / "script.yaml").write_text(script)
        load_script(tmp_path / "script.yaml")
    assert len(scripts) == 2


@pytest.mark.parametrize("model", [Turn, Trouble, ScriptedCall, ScriptedUsage], ids=lambda model: model.__name__)
def test_every_key_is_documented(model: type[FileModel]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []


# -- the server


def post(server: ScriptedServer, body: bytes, path: str = "/v1/messages", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    sent = {"x-api-key": server.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, sent)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


TOOL = {"name": "Bash", "description": "d", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
VALID: dict[str, Any] = {
    "model": "m",
    "max_tokens": 10,
    "stream": True,
    "system": "s",
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, USE]},
        {"role": "user", "content": [RESULT, {"type": "text", "text": "and?"}]},
    ],
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """VALID with one value replaced, added, or (to=KeyError) taken away."""
    body = copy.deepcopy(VALID)
    place: Any = body
    for key in path[:-1]:
        place = place[key]
    if to is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return body


def test_a_valid_request_is_accepted() -> None:
    judge(json.dumps(VALID).encode())


POINTED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (changed("model", to=KeyError), "model: Field required"),
        (changed("max_tokens", to=KeyError), "max_tokens: Field required"),
        (changed("max_tokens", to=0), "max_tokens"),
        (changed("max_tokens", to="10"), "max_tokens"),
        (changed("stream", to=False), "stream"),
        (changed("temprature", to=1), "temprature: Extra inputs are not permitted"),
        (changed("messages", to=[]), "messages"),
        (changed("messages", 0, "role", to="system"), "role"),
        (changed("messages", 0, "role", to="assistant"), "roles must alternate"),
        (changed("messages", to=VALID["messages"][:2]), "end with a user message"),
        (changed("messages", to=[VALID["messages"][0]] * 3), "roles must alternate"),
        (changed("messages", 0, "content", to=""), "non-whitespace text"),
        (changed("messages", 0, "content", to=[]), "non-empty content"),
        (changed("messages", 0, "content", to=[{"type": "text", "text": " \n"}]), "non-whitespace text"),
        (changed("messages", 0, "content", to=[{"type": "text"}]), "text"),
        (changed("messages", 0, "content", to=[{"text": "x"}]), "type"),
        (changed("messages", 0, "content", to=[USE]), "tool_use belongs to the assistant"),
        (changed("messages", 2, "content", to="later"), "without `tool_result` blocks immediately after: t1"),
        (changed("messages", 2, "content", 0, "tool_use_id", to="t2"), "t1"),
        (changed("messages", 2, "content", to=[RESULT, RESULT | {"tool_use_id": "t9"}]), "unexpected `tool_use_id`"),
        (changed("messages", 2, "content", to=[RESULT, RESULT]), "single result"),
        (changed("messages", 2, "content", to=[{"type": "text", "text": "x"}, RESULT]), "must come first"),
        (changed("messages", 1, "content", to=[USE, USE]), "ids must be unique"),
        (changed("messages", 1, "content", 1, "id", to="a b"), "id"),
        (changed("messages", 1, "content", 1, "input", to="ls"), "input"),
        (changed("messages", 1, "content", 1, "invalid", to=None), "invalid: Extra inputs"),
        (changed("messages", to=[*VALID["messages"], *VALID["messages"][1:]]), "ids must be unique"),
        (changed("messages", 1, "content", 0, to={"type": "thinking", "thinking": "x", "signature": "y"}), "signature"),
        (changed("tools", to=[TOOL, TOOL]), "Tool names must be unique"),
        (changed("tools", 0, "name", to="no spaces"), "name"),
        (changed("tools", 0, "input_schema", to={}), "input_schema"),
        (changed("tools", 0, "input_schema", to={"type": "string"}), "input_schema"),
        (changed("tools", 0, "input_schema", "required", to=["command"]), "'command' is not among the properties"),
        (changed("system", to=[{"type": "text", "text": ""}]), "system"),
        (changed("system", to=[POINTED] * 5), "maximum of 4 blocks with cache_control"),
        ([], "object"),
        (None, "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_api_refuses_is_refused(body: Any, reason: str) -> None:
    with pytest.raises(Refused, match=re.escape(reason)):
        judge(json.dumps(body).encode())


def test_refusals_are_answered_with_400_and_use_up_no_turn(ask: Callable[..., Request]) -> None:
    with ScriptedServer([Turn(text="served")]) as server:
        status, answer = post(server, json.dumps(changed("max_tokens", to=0)).encode())
        assert status == 400
        assert json.loads(answer)["error"]["type"] == "invalid_request_error"
        assert post(server, b"{")[0] == 400
        assert server.requests == []
        status, answer = post(server, json.dumps(VALID).encode())
        assert status == 200
        assert "served" in answer


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "/v1/complete"}, 404),
        ({"x_api_key": "other"}, 401),
        ({"anthropic_version": ""}, 200),
        ({"content_type": "text/plain"}, 400),
    ],
)
def test_what_is_no_messages_request_is_answered_like_the_api(change: dict[str, str], status: int) -> None:
    with ScriptedServer([Turn(text="x")]) as server:
        assert post(server, json.dumps(VALID).encode(), **change)[0] == status


def test_a_request_beyond_the_api_s_size_is_refused(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    with pytest.raises(NoReply, match="HTTP 413 .*too long for one request"):
        bench(Turn(text="x")).model.reply(ask("x" * (33 << 20)))


def test_a_conversation_that_is_wrong_reaches_the_caller_as_a_reason(
    bench: Callable[..., Any], ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    made = bench(Turn(tools=({"name": "Bash"},)), Turn(text="x"))  # type: ignore[arg-type]
    request = ask()
    reply = made.model.reply(request)
    unanswered = go_on(request, reply.model_copy(update={"content": (*reply.content, Text(text="and?"))}))
    broken = unanswered.messages[-1].model_copy(update={"content": (Text(text="no result"),)})
    with pytest.raises(NoReply, match="HTTP 400 invalid_request_error: .*without `tool_result` blocks"):
        made.model.reply(request.model_copy(update={"messages": (*unanswered.messages[:-1], broken)}))


def test_two_servers_do_not_know_each_other(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    one, two = bench(Turn(text="one")), bench(Turn(text="two"))
    assert [two.model.reply(ask()).text, one.model.reply(ask()).text] == ["two", "one"]


def test_many_threads_get_one_turn_each(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(*[Turn(text=str(number)) for number in range(17)])
    texts = [made.model.reply(ask()).text]
    threads = [threading.Thread(target=lambda: texts.append(made.model.reply(ask()).text)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts, key=int) == [str(number) for number in range(17)]


def test_stopping_ends_whatever_is_under_way(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    before = threading.active_count()
    made = bench(Turn(text="x", fault={"after": 2, "then": "hang"}))  # type: ignore[arg-type]
    errors: list[NoReply] = []

    def reply() -> None:
        try:
            made.model.reply(ask())
        except NoReply as error:
            errors.append(error)

    thread = threading.Thread(target=reply)
    thread.start()
    while not made.server.requests:
        time.sleep(0.005)
    made.server.stop()
    thread.join(10)
    assert errors
    assert threading.active_count() == before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(made.server.url.rpartition(":")[2])))


def test_closing_the_model_stops_its_server(tmp_path: Path, ask: Callable[..., Request]) -> None:
    before = threading.active_count()
    model = written(tmp_path, "- text: one\n")
    model.reply(ask())
    assert threading.active_count() > before
    model.close()
    assert threading.active_count() == before
