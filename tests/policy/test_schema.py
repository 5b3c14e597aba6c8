"""Policy files: sizes, bounds, cross-checks, and rules that know their line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import Loaded, load
from runner.errors import ConfigError
from runner.policy import Container, Policy, show_size
from runner.policy.domains import parse_domain
from runner.policy.schema import parse_size

GOOD = "version: 1\nmode: whitelist\n"


def _load(folder: Path, text: str) -> Loaded[Policy]:
    (folder / "p.yaml").write_text(text)
    return load(folder / "p.yaml", Policy)


def _error(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_policy_needs_a_version_and_a_mode_and_then_allows_nothing(tmp_path: Path) -> None:
    policy = _load(tmp_path, GOOD).value
    assert (policy.allow, policy.deny, policy.container) == ((), (), Container())
    assert "mode: is required" in _error(tmp_path, "version: 1\nallow: [Read]\n")
    assert "is empty; it must have the keys version, mode" in _error(tmp_path, "")


def test_rules_know_their_line(tmp_path: Path) -> None:
    policy = _load(tmp_path, GOOD + "allow:\n  - Read\n\n  # a comment\n  - Bash(ls)\ndeny: [Edit, 'Read(x)']\n").value
    assert [rule.where for rule in policy.allow] == [f"{tmp_path}/p.yaml:4", f"{tmp_path}/p.yaml:7"]
    assert [rule.where for rule in policy.deny] == [f"{tmp_path}/p.yaml:8"] * 2


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("allow: [Raed]", "p.yaml:3:9: allow[0]: there is no tool 'Raed'; did you mean Read?"),
        ("allow: [Read, WebSearch]", "p.yaml:3:15: allow[1]: there is no tool 'WebSearch'; the tools are Bash"),
        ("deny: ['Bash(a && b)']", "deny[0]: Bash(a && b) is not one plain command"),
        ("allow: Read", "allow: must be a list (got 'Read'); write ['Read']"),
        ("allow: [{Read: x}]", "allow[0]: must be a rule in text"),
        ("allow: [5]", "allow[0]: must be a rule in text, such as Bash(git status:*) (got 5)"),
        ("allow: [Read]\nallow: [Edit]", "p.yaml:4:1: allow: is there twice"),
        ("alow: [Read]", "p.yaml:3:1: alow: unknown key; did you mean 'allow'?"),
        ("ask: [Raed]", "p.yaml:3:7: ask[0]: there is no tool 'Raed'; did you mean Read?"),
        ("egress: [example.org, '*.com']", "p.yaml:3:23: egress[1]: *.com is too broad"),
        ("egress: {setup: [example.org, '*.com']}", "p.yaml:3:31: egress.setup[1]: *.com is too broad"),
        ("egress: {setpu: [example.org]}", "p.yaml:3:10: egress.setpu: unknown key; did you mean 'setup'?"),
        ("egress: example.org", "p.yaml:3:9: egress: must be a list (got 'example.org'); write ['example.org']"),
        ("egress: [5]", "egress[0]: must be a domain in text, such as example.org (got 5)"),
        ("egress: {bytes: 1k}", "egress.bytes: must be between 1m"),
        ("gate: {protect: ['a//b']}", "p.yaml:3:18: gate.protect[0]: a path pattern has no empty parts"),
        ("tests: [{call: 'Bash(ls)'}]", "tests[0].expect: is required"),
        ("tests: [{call: 'Raed(a)', expect: allow}]", "p.yaml:3:16: tests[0].call: there is no tool 'Raed'; did you"),
        ("secrets: [A-B]", "secrets[0]: must be the name of a variable (got 'A-B')"),
        ("approval_timeout: 0", "approval_timeout: must be greater than 0 (got 0)"),
        ("container: {memory: 2x}", "p.yaml:3:21: container.memory: must be a size such as 512m or 2g (got '2x')"),
        ("container: {memory: 1m}", "container.memory: must be between 64m and 4t (got 1m)"),
        ("container: {memory: -1}", "container.memory: must be between 64m"),
        ("container: {memory: true}", "container.memory: must be a size"),
        ("container: {memory: 1.5}", "container.memory: must be a size"),
        ("container: {cpus: 0}", "container.cpus: must be at least 0.1 (got 0)"),
        ("container: {pids: 1}", "container.pids: must be at least 16"),
        ("container: {read_only: no}", "container.read_only: must be true or false (got 'no')"),
        ("container: {user: root}", "container.user: unknown key"),
        (
            "container: {disk: 32m, tmp: 16m, file_size: 1g}",
            "container: file_size (1g) is more than disk (32m) and tmp (16m)",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, extra: str, what: str) -> None:
    assert what in _error(tmp_path, GOOD + extra + "\n")


def test_a_mode_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    said = _error(tmp_path, "version: 1\nmode: strict\n")
    assert said == "p.yaml:2:7: mode: must be 'whitelist', 'blacklist' or 'interactive' (got 'strict')"


def test_a_plain_list_of_egress_is_for_setup_and_agent(tmp_path: Path) -> None:
    egress = _load(tmp_path, GOOD + "egress: [pypi.org, '*.example.org:8443']\n").value.egress
    assert egress.setup == egress.agent == (parse_domain("pypi.org"), parse_domain("*.example.org:8443"))
    assert egress.checks == ()


def test_egress_may_name_addresses_and_rules_may_not(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD + "egress: [10.0.0.0/8, '[fd00::1]:8080']\n")
    assert "only domains can be named" in _error(tmp_path, GOOD + "allow: ['WebFetch(domain:10.0.0.1)']\n")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64m", 64 << 20), ("2G", 2 << 30), ("1536MiB", 1536 << 20), ("1t", 1 << 40), ("70000000", 70_000_000)],
)
def test_sizes(tmp_path: Path, text: str, size: int) -> None:
    assert _load(tmp_path, GOOD + f"container: {{memory: {text}}}\n").value.container.memory == size


@given(st.integers(0, 10**15 - 1))
def test_a_size_that_is_shown_is_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


def test_a_small_disk_needs_no_file_size(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD + "container: {disk: 32m}\n").value.container.disk == 32 << 20


def test_a_policy_can_be_written_down_and_read_again() -> None:
    policy = Policy.model_validate(
        {
            "version": 1,
            "mode": "interactive",
            "deny": ["bash(curl:*)", "Edit(.git/**)"],
            "ask": ["mcp__a", "Agent(model:x)"],
            "egress": ["*.example.org:8443", "10.0.0.0/8"],
            "tests": [{"call": "Bash(ls)", "expect": "ask"}],
        }
    )
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
