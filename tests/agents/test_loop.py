from __future__ import annotations

import os
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from runner.agents.base import Clock
from runner.config import load
from runner.errors import Cancelled, SandboxLost
from runner.ledger import JobLedger
from runner.messages import Usage
from runner.models import Playing
from runner.models.base import NoReply
from runner.models.script import ScriptedCall
from runner.policy import Policy
from runner.sandbox.base import REPO, Sandbox
from runner.task import Limits
from runner.transcript import (
    AgentEnded,
    AgentPrompted,
    Event,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    Resumed,
    ToolDecided,
    ToolRan,
)
from tests.agents.jobs import Start, bash, blacklist, calls, fails, says, used, whitelist

# -- the way through


def test_a_reply_without_tool_calls_ends_the_job(start: Start) -> None:
    job = start(says("All done.", usage=used(input_tokens=10, output_tokens=5)))
    end = job.run()
    assert (end.reason, end.message, end.turns) == ("done", "All done.", 1)
    assert end.usage == Usage(input_tokens=10, output_tokens=5)
    assert end.cost_usd == Decimal("0.000105")
    assert [type(event) for event in job.events] == [AgentPrompted, ModelReplied, AgentEnded]
    assert job.said(0) == "Fix it."


def test_the_prompt_is_recorded_with_system_and_tools_once(start: Start) -> None:
    job = start(bash("true"), says("", stop_reason="end_turn"), says("Done."))
    job.run()
    first, nudge = job.recorded(AgentPrompted)
    assert first.text == "Fix it."
    assert first.system == job.requests[0]["system"][0]["text"]
    assert first.tools == tuple(tool["name"] for tool in job.requests[0]["tools"])
    assert (nudge.system, nudge.tools) == (None, ())


def test_a_tool_call_is_judged_run_answered_and_recorded(start: Start, sandbox: Sandbox) -> None:
    job = start(bash("echo hello > a.txt; cat a.txt"), says("Done."))
    assert job.run().turns == 2
    assert sandbox.read_file(f"{REPO}/a.txt") == b"hello\n"
    (answer,) = job.answers(1)
    assert (answer["tool_use_id"], answer["content"]) == ("toolu_00001_0", "hello")
    (decided,) = job.recorded(ToolDecided)
    assert (decided.turn, decided.call.name, decided.allowed) == (1, "Bash", True)
    (ran,) = job.recorded(ToolRan)
    assert (ran.turn, ran.tool_use_id, ran.name, ran.ran, ran.is_error) == (1, "toolu_00001_0", "Bash", True, False)
    assert ran.content == "hello"
    assert ran.details["exit_code"] == 0
    order = [AgentPrompted, ModelReplied, ToolDecided, ToolRan, ModelReplied, AgentEnded]
    assert [type(event) for event in job.events] == order


def test_calls_of_one_reply_are_run_in_order_and_each_is_answered(start: Start) -> None:
    job = start(
        calls(
            ("Bash", {"command": "echo one > a.txt"}),
            ("Read", {"file_path": "a.txt"}),
            ("Edit", {"file_path": "a.txt", "old_string": "one", "new_string": "two"}),
            ("Nonsense", {}),
            ("Bash", {"command": "cat a.txt"}),
        ),
        says("Done."),
    )
    job.run()
    answers = job.answers(1)
    assert [answer["tool_use_id"] for answer in answers] == [f"toolu_00001_{index}" for index in range(5)]
    assert answers[1]["content"] == "     1\tone"
    assert answers[4]["content"] == "two"


def test_text_and_thinking_beside_calls_go_back_to_the_model(start: Start) -> None:
    job = start(bash("true", text="Let me see.", thinking="hm"), says("Done."))
    job.run()
    kinds = [block["type"] for block in job.requests[1]["messages"][1]["content"]]
    assert kinds == ["thinking", "text", "tool_use"]


def test_each_reply_is_recorded_with_its_cost(start: Start) -> None:
    usage = used(input_tokens=1000, cache_read_tokens=1000, cache_write_tokens=1000, output_tokens=1000)
    job = start(bash("true", usage=usage), says("Done.", usage=usage))
    end = job.run()
    replies = job.recorded(ModelReplied)
    assert [reply.turn for reply in replies] == [1, 2]
    assert [reply.cost_usd for reply in replies] == [Decimal("0.02205")] * 2
    assert end.cost_usd == Decimal("0.0441")
    assert len({reply.request_hash for reply in replies}) == 2


def test_an_unknown_price_is_an_unknown_cost(start: Start) -> None:
    job = start(says("Done."), model="house-model")
    assert job.run().cost_usd is None
    assert job.recorded(ModelReplied)[0].cost_usd is None


# -- the policy


def test_a_denied_call_is_answered_with_its_rule_and_the_job_goes_on(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nmode: blacklist\ndeny:\n  - Read(**/*.env)\n")
    job = start(
        calls(("Read", {"file_path": "prod.env"})),
        bash("echo still here"),
        says("Done."),
        policy=load(file, Policy).value,
    )
    assert job.run().reason == "done"
    (answer,) = job.answers(1)
    assert answer["is_error"] is True
    assert answer["content"].startswith(f"Denied by rule Read(**/*.env) ({file}:4): ")
    decided = job.recorded(ToolDecided)[0]
    assert (decided.allowed, decided.rule, decided.where) == (False, "Read(**/*.env)", f"{file}:4")
    assert job.recorded(ToolRan)[0].ran is False
    assert job.answers(2)[0]["content"] == "still here"


def test_what_no_rule_allows_is_denied_with_what_is(start: Start) -> None:
    job = start(bash("rm -rf /"), says("Done."), policy=whitelist("Bash(ls:*)"))
    job.run()
    content = job.answers(1)[0]["content"]
    assert content.startswith("Denied: no rule allows 'rm -rf /'")
    assert "it allows ls" in content


def test_tools_that_can_never_be_allowed_are_not_offered_and_denied_when_called(start: Start) -> None:
    job = start(calls(("Write", {"file_path": "a", "content": "x"})), says("Done."), policy=whitelist("Read(**)"))
    job.run()
    assert {tool["name"] for tool in job.requests[0]["tools"]} == {"Read", "Glob", "Grep"}
    assert job.answers(1)[0]["content"].startswith("Denied: ")


def test_a_job_may_be_allowed_nothing(start: Start) -> None:
    job = start(bash("true"), says("I could not do it."), policy=whitelist())
    assert job.run().reason == "done"
    assert "Tools: none." in job.recorded(AgentPrompted)[0].system
    assert job.answers(1)[0]["content"].startswith("Denied: ")


def test_rules_for_edits_speak_of_whole_files_too(start: Start, sandbox: Sandbox) -> None:
    job = start(
        calls(
            ("Write", {"file_path": "src/a.txt", "content": "x"}),
            ("Write", {"file_path": "b.txt", "content": "x"}),
            ("Write", {"file_path": "src/../c.txt", "content": "x"}),
        ),
        says("Done."),
        policy=whitelist("Edit(src/**)"),
    )
    job.run()
    assert [answer["content"].startswith("Denied") for answer in job.answers(1)] == [False, True, True]
    assert sandbox.stat(f"{REPO}/b.txt").kind == sandbox.stat(f"{REPO}/c.txt").kind == "missing"


def test_a_link_out_of_what_is_allowed_is_denied(start: Start, sandbox: Sandbox) -> None:
    sandbox.exec("ln -s /etc/passwd link; echo fine > file; ln -s file inner")
    job = start(
        calls(
            ("Read", {"file_path": "link"}),
            ("Read", {"file_path": "inner"}),
            ("Grep", {"pattern": "root", "path": "link"}),
            ("Edit", {"file_path": "link", "old_string": "root", "new_string": ""}),
        ),
        says("Done."),
        policy=whitelist("Read(**)", "Edit(**)"),
    )
    job.run()
    denied = [answer["content"].startswith("Denied") for answer in job.answers(1)]
    assert denied == [True, False, True, True]


def test_a_search_does_not_show_what_reading_would_not(start: Start, sandbox: Sandbox) -> None:
    sandbox.exec("echo TOKEN=1 > .env; echo TOKEN=2 > a.txt")
    job = start(
        calls(("Grep", {"pattern": "TOKEN", "output_mode": "content"}), ("Glob", {"pattern": "*"})),
        says("Done."),
        policy=blacklist("Read(.env)"),
    )
    job.run()
    for answer in job.answers(1):
        assert f"{REPO}/a.txt" in answer["content"]
        assert ".env" not in answer["content"]


# -- calls that make no sense


def test_an_unknown_tool_is_answered_with_the_tools(start: Start) -> None:
    job = start(calls(("bash", {"command": "true"}), ("functions.Bash!", {})), says("Done."))
    assert job.run().reason == "done"
    assert job.answers(1)[0]["content"] == (
        "There is no tool 'bash'; the tools are Bash, BashOutput, KillBash, Read, Write, Edit, Glob, Grep."
    )
    assert job.answers(1)[1]["is_error"] is True
    assert job.recorded(ToolDecided) == []


def test_wrong_arguments_are_answered_with_the_right_ones(start: Start) -> None:
    job = start(calls(("Read", {"path": "a.txt"})), says("Done."))
    assert job.run().reason == "done"
    content = job.answers(1)[0]["content"]
    assert "'path' is not a parameter; did you mean 'file_path'" in content
    assert "'file_path' is required" in content


def test_broken_json_is_answered_with_what_is_wrong(start: Start) -> None:
    broken = ScriptedCall(name="Bash", json_text='{"command": "ls"')
    job = start(says(tools=(broken,)), says("Done."))
    assert job.run().reason == "done"
    assert job.answers(1)[0]["content"].startswith("Bash was not run, its input is not valid JSON: ")
    assert job.recorded(ToolRan)[0].ran is False


def test_a_file_error_is_an_answer(start: Start, sandbox: Sandbox) -> None:
    sandbox.exec("echo x > file; ln -s loop loop")
    job = start(
        calls(
            ("Write", {"file_path": "file/below", "content": ""}),
            ("Read", {"file_path": "loop"}),
            ("Write", {"file_path": "/proc/1/mem", "content": ""}),
            ("Read", {"file_path": "x" * 5000}),
        ),
        says("Done."),
    )
    assert job.run().reason == "done"
    assert [answer["is_error"] for answer in job.answers(1)] == [True] * 4


def test_a_call_that_keeps_failing_is_answered_with_a_warning(start: Start) -> None:
    again = bash("false", repeat=5)
    job = start(again, bash("echo other; false"), bash("false", repeat=4), bash("true"), bash("false"), says("Done."))
    job.run()
    warned = [index for index, ran in enumerate(job.recorded(ToolRan)) if "failed 5 times in a row" in ran.content]
    assert warned == [4]


def test_file_names_that_are_no_text_do_not_break_the_conversation(start: Start, sandbox: Sandbox) -> None:
    job = start(
        bash(r"name=$(printf 'caf\351'); mkdir $name; echo needle > $name/a.txt; ln -s $name link; cd $name"),
        calls(
            ("Glob", {"pattern": "*/*.txt"}),
            ("Grep", {"pattern": "needle"}),
            ("Read", {"file_path": "link/a.txt"}),
            ("Write", {"file_path": "link/b.txt", "content": "x"}),
            ("Bash", {"command": "ls"}),
        ),
        says("Done."),
    )
    assert job.run().reason == "done"
    assert all("caf" in answer["content"] for answer in job.answers(2)[:2])
    assert job.answers(2)[2]["content"] == "     1\tneedle"
    assert job.answers(2)[4]["content"] == "a.txt\nb.txt"
    assert all(event.model_dump_json() for event in job.events)


# -- replies that are not what one hopes for


def test_a_reply_cut_at_max_tokens_is_asked_to_go_on(start: Start) -> None:
    job = start(says("First ha", stop_reason="max_tokens"), says("lf."))
    end = job.run()
    assert (end.reason, end.message) == ("done", "lf.")
    assert "cut off" in job.said(1)
    assert "cut off" in job.recorded(AgentPrompted)[1].text


def test_a_model_that_never_comes_to_an_end_is_given_up(start: Start) -> None:
    job = start(says("and ", stop_reason="max_tokens", repeat=10))
    end = job.run()
    assert (end.reason, end.turns) == ("no_answer", 4)


def test_half_a_tool_call_is_not_run_and_answered_with_the_reason(start: Start, sandbox: Sandbox) -> None:
    half = ScriptedCall(name="Write", json_text='{"file_path": "a.txt", "content": "begi')
    whole = ScriptedCall(name="Bash", input={"command": "echo whole"})
    job = start(says(tools=(whole, half), stop_reason="max_tokens"), says("Done."))
    assert job.run().reason == "done"
    assert job.answers(1)[0]["content"] == "whole"
    assert job.answers(1)[1]["content"].endswith("Your reply was cut at max_tokens: do it in smaller steps.")
    assert sandbox.stat(f"{REPO}/a.txt").kind == "missing"


@pytest.mark.parametrize("empty", [{"text": ""}, {"text": " \n"}, {"thinking": "hm"}])
def test_an_empty_reply_is_nudged_once(start: Start, empty: dict[str, str]) -> None:
    job = start(says(stop_reason="end_turn", **empty), bash("true"), says("Done."))
    assert job.run().reason == "done"
    assert "Your reply was empty" in job.said(1)
    silent = start(says(stop_reason="end_turn", repeat=3, **empty))
    end = silent.run()
    assert (end.reason, end.turns, end.message) == ("no_answer", 2, "")


def test_a_refusal_ends_the_job_and_runs_nothing(start: Start, sandbox: Sandbox) -> None:
    job = start(bash("touch a.txt", text="I will not.", stop_reason="refusal"), says("Well."))
    end = job.run()
    assert (end.reason, end.message) == ("refusal", "I will not.")
    assert sandbox.stat(f"{REPO}/a.txt").kind == "missing"
    assert job.agent.resume(job.context, "Checks failed.").reason == "done"


def test_a_paused_turn_goes_on(start: Start) -> None:
    job = start(says("Wait", stop_reason="pause_turn"), says("Done."))
    assert job.run().reason == "done"


def test_a_stop_reason_of_the_future_is_taken_by_its_content(start: Start) -> None:
    job = start(bash("echo hi", stop_reason="novel"), says("Done.", stop_reason="novel"))
    end = job.run()
    assert (end.reason, end.message) == ("done", "Done.")
    assert job.answers(1)[0]["content"] == "hi"


# -- the provider's troubles


def test_retries_are_recorded_and_the_job_goes_on(start: Start) -> None:
    job = start(fails(status=529), fails(after=3, then="cut"), says("Done."))
    assert job.run().reason == "done"
    assert [event.turn for event in job.recorded(ModelRetried)] == [1, 1]
    assert job.recorded(ModelRetried)[0].retried.status == 529


def test_a_provider_that_fails_for_good_is_an_error_and_recorded(start: Start) -> None:
    job = start(bash("true"), fails(status=400, message="no such thing"))
    with pytest.raises(NoReply, match="no such thing"):
        job.run()
    (failed,) = job.recorded(ModelFailed)
    assert failed.turn == 2
    assert "no such thing" in failed.error
    assert job.recorded(AgentEnded)[0].reason == "provider"


def test_billed_tokens_of_failed_tries_are_counted(start: Start) -> None:
    usage = used(input_tokens=1000, output_tokens=100)
    broken = says("Half", usage=usage, fault={"after": 4, "then": "cut"})
    job = start(broken, says("Done.", usage=usage))
    end = job.run()
    assert end.usage.input_tokens == 2000
    assert end.cost_usd is not None
    assert end.cost_usd >= Decimal("0.0075")
    assert end.cost_usd == job.recorded(ModelReplied)[0].cost_usd


def test_what_failed_tries_may_have_cost_is_recorded_as_doubtful(start: Start) -> None:
    usage = used(input_tokens=1000, output_tokens=100)
    broken = says("Half", usage=usage, fault={"after": 4, "then": "cut"}, repeat=2)
    job = start(broken, retries=1, max_tokens=1001)
    with pytest.raises(NoReply):
        job.run()
    (retried,), (failed,) = job.recorded(ModelRetried), job.recorded(ModelFailed)
    assert failed.worst_usage == retried.retried.worst_usage == Usage(input_tokens=1000, output_tokens=1001)
    assert failed.cost_doubtful_usd == retried.cost_doubtful_usd == Decimal("0.015")


def test_of_a_cancelled_request_all_that_it_may_cost_is_doubtful(start: Start) -> None:
    job = start(fails(status=529), max_tokens=1000)

    def record(event: Event) -> None:
        job.events.append(event)
        if isinstance(event, ModelRetried):
            raise Cancelled

    job.context = replace(job.context, record=record)
    with pytest.raises(Cancelled):
        job.run()
    (failed,) = job.recorded(ModelFailed)
    assert (failed.wasted, failed.worst_usage.output_tokens) == (Usage(), 1000)
    assert failed.cost_doubtful_usd is not None
    assert failed.cost_doubtful_usd > Decimal("0.015")


def test_no_try_is_made_that_could_overshoot_the_cost(start: Start) -> None:
    usage = used(input_tokens=9000, output_tokens=100)
    broken = says("Half", usage=usage, fault={"after": 4, "then": "cut"}, repeat=10)
    job = start(broken, says("Done."), limits=Limits(cost_usd=0.25), max_tokens=4096, retries=20)
    end = job.run()
    assert end.reason == "limits.cost_usd"
    assert end.cost_usd is not None
    assert Decimal("0.027") * len(job.requests) <= end.cost_usd <= Decimal("0.25")
    assert 1 < len(job.requests) < 5
    (failed,) = job.recorded(ModelFailed)
    assert failed.wasted.input_tokens == 9000 * len(job.requests)


def test_a_lost_sandbox_is_an_error(start: Start, sandbox: Sandbox) -> None:
    job = start(says("Done."), bash("true"))
    job.run()
    sandbox.close()
    with pytest.raises(SandboxLost):
        job.agent.resume(job.context, "Check failed.")


# -- limits


def test_turns_are_limited_after_the_last_calls_were_run(start: Start, sandbox: Sandbox) -> None:
    job = start(bash("echo x >> a.txt", text="Next.", repeat=9), limits=Limits(turns=3))
    end = job.run()
    assert (end.reason, end.turns, end.message) == ("limits.turns", 3, "Next.")
    assert sandbox.read_file(f"{REPO}/a.txt") == b"x\n" * 3
    assert job.recorded(AgentEnded)[0].reason == "limits.turns"


def test_a_model_that_does_not_answer_ends_with_the_time(start: Start) -> None:
    started = time.monotonic()
    job = start(bash("true"), fails(after=2, then="hang"), seconds=2)
    end = job.run()
    assert end.reason == "limits.seconds"
    assert end.turns == 1
    assert time.monotonic() - started < 30
    assert len(job.recorded(ModelFailed)) == 1


def test_a_command_ends_with_the_time_and_what_follows_is_not_run(start: Start, sandbox: Sandbox) -> None:
    job = start(calls(("Bash", {"command": "sleep 60"}), ("Bash", {"command": "touch a.txt"})), seconds=2)
    assert job.run().reason == "limits.seconds"
    slept, touched = job.recorded(ToolRan)
    assert slept.details["timed_out"] is True
    assert (touched.ran, touched.is_error) == (False, True)
    assert sandbox.stat(f"{REPO}/a.txt").kind == "missing"


def test_output_tokens_lower_max_tokens_and_then_end_the_job(start: Start) -> None:
    job = start(
        bash("true", usage=used(input_tokens=1, output_tokens=600), repeat=9), limits=Limits(output_tokens=2000)
    )
    end = job.run()
    assert [request["max_tokens"] for request in job.requests] == [2000, 1400, 800]
    assert end.reason == "limits.output_tokens"
    assert end.usage.output_tokens == 1800


def test_cost_lowers_max_tokens_and_then_ends_the_job(start: Start) -> None:
    usage = used(input_tokens=2000, output_tokens=500)
    job = start(bash("true", usage=usage, repeat=99), limits=Limits(cost_usd=0.2))
    end = job.run()
    allowed = [request["max_tokens"] for request in job.requests]
    assert allowed[0] == 8192
    assert sorted(allowed, reverse=True) == allowed
    assert 256 <= allowed[-1] < 8192
    assert end.reason == "limits.cost_usd"
    assert end.cost_usd is not None
    assert Decimal("0.15") < end.cost_usd <= Decimal("0.2")


def test_the_batch_s_cap_ends_the_job_as_its_own_does(start: Start) -> None:
    usage = used(input_tokens=2000, output_tokens=500)
    batch = JobLedger(Decimal("0.2"), limit="batch.cost_usd")
    job = start(bash("true", usage=usage, repeat=99), limits=Limits(cost_usd=100), ledger=batch)
    assert job.run().reason == "batch.cost_usd"
    assert job.recorded(AgentEnded)[0].reason == "batch.cost_usd"
    assert 150_000 < batch.spent == 13_500 * len(job.requests) <= 200_000
    assert (batch.doubtful, batch.reserved) == (0, 0)


def test_a_cap_that_pays_for_no_request_ends_the_job_before_one_is_sent(start: Start) -> None:
    job = start(says("Done."), limits=Limits(cost_usd=0.001))
    assert job.run().reason == "limits.cost_usd"
    assert job.requests == []
    assert job.recorded(ModelFailed) == []


def test_what_earlier_attempts_wasted_counts_against_the_limits(start: Start) -> None:
    earlier = Resumed(attempt=2, transcript="", replies=0, usage=Usage(output_tokens=600), cost_usd=Decimal("0.5"))
    job = start(says("Done.", usage=used(output_tokens=100)), limits=Limits(output_tokens=1000), events=[earlier])
    end = job.run()
    assert job.requests[0]["max_tokens"] == 400
    assert (end.usage.output_tokens, end.cost_usd) == (700, Decimal("0.5015"))


def test_the_model_is_told_once_when_a_limit_is_near(start: Start) -> None:
    job = start(bash("true", repeat=6), limits=Limits(turns=6))
    job.run()
    told = [index for index in range(1, 6) if "Left of this job: " in job.said(index)]
    assert told == [3]
    assert job.said(3) == "Left of this job: 3 replies. Bring the work to a good end."


class LittleTime(Clock):
    """Nearly over as soon as the work has begun."""

    def __init__(self) -> None:
        super().__init__(60)
        self._begun = False

    @property
    def seconds_left(self) -> float:
        begun, self._begun = self._begun, True
        return 5 if begun else 60


def test_a_reminder_that_was_not_given_then_is_no_difference_when_a_job_is_played(start: Start) -> None:
    then = start(bash("true"), says("Done."))
    then.run()
    now = start(clock=LittleTime())
    now.context = replace(now.context, model=Playing(then.recorded(ModelReplied), None, on_difference="stop"))
    assert now.run().reason == "done"
    assert [event.text for event in now.recorded(AgentPrompted)][1:] == [
        "Left of this job: little time. Bring the work to a good end."
    ]


# -- repair rounds


def test_resume_goes_on_with_the_same_conversation_and_limits(start: Start) -> None:
    job = start(bash("cd /tmp"), says("Done."), bash("pwd"), says("Now."), limits=Limits(turns=4))
    assert job.run().turns == 2
    end = job.agent.resume(job.context, "Check failed: pytest")
    assert (end.reason, end.turns, end.message) == ("done", 4, "Now.")
    assert job.said(2) == "Check failed: pytest"
    assert len(job.requests[2]["messages"]) == 5
    assert job.answers(3)[0]["content"] == "/tmp"
    assert job.agent.resume(job.context, "Again").reason == "limits.turns"
    assert len(job.requests) == 4
    assert [event.reason for event in job.recorded(AgentEnded)] == ["done", "done", "limits.turns"]


def test_what_is_sent_first_stays_the_same_so_that_the_cache_serves_it(start: Start) -> None:
    job = start(bash("echo 1"), bash("date +%N"), says("Done."))
    job.run()
    first, *later = job.requests
    assert os.path.commonprefix([str(request["system"]) for request in job.requests]) == str(first["system"])
    assert all(request["tools"] == first["tools"] for request in later)
