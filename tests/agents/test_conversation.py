from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.agents.conversation import TOOL_PROMPT_TOKENS, Conversation
from runner.messages import Block, Message, Opaque, Reply, Request, Text, ToolResult, ToolSpec, ToolUse, Usage

TOOLS = (ToolSpec(name="Bash", description="runs", input_schema={"type": "object"}),)
THINKING = Opaque(block={"type": "thinking", "thinking": "hm", "signature": "s"})


def conversation() -> Conversation:
    return Conversation("You are.", TOOLS)


def asked(talk: Conversation) -> Request:
    return talk.request(max_tokens=100, seconds=1)


def reply(*content: Block, **usage: int) -> Reply:
    return Reply(content=content, stop_reason="end_turn", usage=Usage(**usage), model="m")


def test_a_request_carries_all_that_was_said() -> None:
    talk = conversation()
    talk.say("hello")
    request = asked(talk)
    assert (request.system, request.tools, request.max_tokens) == ("You are.", TOOLS, 100)
    assert request.messages == (Message(role="user", content=(Text(text="hello"),)),)


def test_the_user_never_speaks_twice_in_a_row() -> None:
    talk = conversation()
    talk.say("hello")
    talk.hear(reply(), asked(talk))
    talk.say("are you there?")
    (message,) = asked(talk).messages
    assert message.content == (Text(text="hello"), Text(text="are you there?"))


def test_results_come_before_what_is_said_with_them() -> None:
    talk = conversation()
    talk.say("hello")
    talk.hear(reply(ToolUse(id="1", name="Bash", input={})), asked(talk))
    talk.answer([ToolResult(tool_use_id="1", content="done")])
    talk.say("hurry")
    assert [block.type for block in asked(talk).messages[-1].content] == ["tool_result", "text"]


def test_empty_text_is_not_sent_back() -> None:
    talk = conversation()
    talk.say("hello")
    talk.hear(reply(Text(text=""), Text(text=" \n"), Text(text="yes")), asked(talk))
    assert asked(talk).messages[-1].content == (Text(text="yes"),)


def test_thinking_is_kept_with_what_it_led_to_and_dropped_alone() -> None:
    talk = conversation()
    talk.say("hello")
    talk.hear(reply(THINKING), asked(talk))
    assert [message.role for message in asked(talk).messages] == ["user"]
    talk.hear(reply(THINKING, Text(text="yes")), asked(talk))
    assert asked(talk).messages[-1].content == (THINKING, Text(text="yes"))


def test_a_made_up_tool_name_is_sent_back_in_letters_the_api_takes() -> None:
    talk = conversation()
    talk.say("hello")
    for name, sent in (("functions.Bash", "functions_Bash"), ("é" * 300, "_" * 128), ("", "_")):
        talk.hear(reply(ToolUse(id="1", name=name, input={})), asked(talk))
        assert asked(talk).messages[-1].content[-1].name == sent


def test_before_anything_was_counted_the_bytes_bound_the_input() -> None:
    talk = conversation()
    talk.say("h" * 5000)
    assert 5000 + TOOL_PROMPT_TOKENS < asked(talk).input_tokens < 5500 + TOOL_PROMPT_TOKENS


def test_a_count_tightens_the_bound_to_it_and_the_bytes_since() -> None:
    talk = conversation()
    talk.say("h" * 50_000)
    talk.hear(
        reply(Text(text="a" * 300), input_tokens=20, cache_read_tokens=9_000, cache_write_tokens=980), asked(talk)
    )
    talk.say("b" * 200)
    assert 10_000 + 500 < asked(talk).input_tokens < 10_000 + 1_000


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=6),
    tokens_per_byte=st.floats(0, 1),
    extra=st.integers(0, 800),
)
def test_no_tokenizer_counts_more_than_the_bound(texts: list[str], tokens_per_byte: float, extra: int) -> None:
    """A token is at least a byte long, and the provider adds a fixed prompt for the tools."""
    talk = conversation()
    for text in texts:
        talk.say(text)
        said = asked(talk)
        size = sum(len(block.text.encode()) for message in said.messages for block in message.content)
        counted = int(size * tokens_per_byte) + extra
        assert counted <= asked(talk).input_tokens
        talk.hear(reply(Text(text=text), input_tokens=counted), said)
