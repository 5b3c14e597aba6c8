"""Two collections of shell commands, judged as a job would: everyday ones are allowed, ways around a policy are not.

`corpus/benign.yaml` and `corpus/hostile.yaml` are lists of groups: a policy, and commands that are judged by it.
`corpus/not_caught.yaml` has what is known to get through; it counts in the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from runner.policy import Call, Decision, Policy, decide, load_policy
from runner.shipped import shipped

_CORPUS = Path(__file__).parent / "corpus"
_MOST_REFUSED = 0.01
"""The part of everyday commands that a policy may refuse although it should not."""
_FEWEST = {"benign": 150, "hostile": 250}


class _Judged(NamedTuple):
    policy: str
    command: str
    decision: Decision

    def __str__(self) -> str:
        return f"{self.policy}: {self.command[:200]!r}: {self.decision.verdict}: {self.decision.reason}"


@cache
def _preset(name: str) -> Policy:
    policy = load_policy(shipped("policies") / f"{name}.yaml").value
    assert policy is not None
    return policy


def _policy(policy: Any) -> Policy:
    return _preset(policy) if isinstance(policy, str) else Policy.model_validate({"version": 1, **policy})


def _command(command: Any) -> str:
    """A text, or the parts of one: what it begins with, and how often that stands there before its end."""
    return command if isinstance(command, str) else command["text"] * command["times"] + command.get("end", "")


def _cases(name: str) -> Iterator[_Judged]:
    for group in yaml.safe_load((_CORPUS / f"{name}.yaml").read_text("utf-8")):
        policy = _policy(group["policy"])
        shown = group["policy"] if isinstance(group["policy"], str) else f"a {policy.mode}"
        for command in map(_command, group["commands"]):
            yield _Judged(shown, command, decide(policy, Call(tool="Bash", subject=command)))


@cache
def _judged(name: str) -> tuple[_Judged, ...]:
    return tuple(_cases(name))


def _rate(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})".replace("%", " %")


@pytest.mark.parametrize("name", _FEWEST)
def test_there_are_enough_cases_and_none_twice(name: str) -> None:
    cases = [(judged.policy, judged.command) for judged in _judged(name)]
    assert len(cases) >= _FEWEST[name]
    assert sorted({case for case in cases if cases.count(case) > 1}) == []


def test_everyday_commands_are_allowed() -> None:
    refused = [judged for judged in _judged("benign") if judged.decision.verdict != "allow"]
    assert len(refused) <= _MOST_REFUSED * len(_judged("benign")), "\n" + "\n".join(map(str, refused))


def test_no_way_around_a_policy_is_allowed() -> None:
    assert [str(judged) for judged in _judged("hostile") if judged.decision.verdict == "allow"] == []


def test_what_is_said_to_get_through_does() -> None:
    assert [str(judged) for judged in _judged("not_caught") if judged.decision.verdict != "allow"] == []


def test_says_both_rates(record_property: Callable[[str, object], None]) -> None:
    benign, hostile = _judged("benign"), (*_judged("hostile"), *_judged("not_caught"))
    refused = sum(judged.decision.verdict != "allow" for judged in benign)
    allowed = sum(judged.decision.verdict == "allow" for judged in hostile)
    rates = f"benign refused: {_rate(refused, len(benign))}, hostile allowed: {_rate(allowed, len(hostile))}"
    record_property("rate", rates)
