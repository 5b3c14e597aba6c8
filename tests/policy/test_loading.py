"""Policies that extend others: what is added, what is replaced, what each rule remembers, and what cannot be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runner.config import Loaded
from runner.errors import ConfigError
from runner.policy import Policy, load_policy
from runner.policy.domains import parse_domain
from runner.shipped import shipped

GIB = 1 << 30


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(f"version: 1\n{text}")


def load(folder: Path, name: str = "p") -> Loaded[Policy]:
    return load_policy(folder / f"{name}.yaml")


def rules(policy: Policy, key: str = "allow") -> list[str]:
    return [str(rule) for rule in getattr(policy, key)]


def error(folder: Path, name: str = "p") -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, name)
    return str(caught.value).replace(f"{folder}/", "")


def test_lists_are_added_base_first_and_sections_are_merged_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="mode: blacklist\nallow: [Read]\nask: ['Bash(a)']\ndeny: [Edit]\nsecrets: [A]\napproval_timeout: 5\n"
        "container: {memory: 1g, cpus: 1}\ngate: {protect: [a], files: 3}\ntests: [{call: Bash(a), expect: ask}]\n",
        p="extends: base.yaml\nmode: whitelist\nallow: ['Edit(b)']\nask: ['Bash(b)']\ndeny: ['Read(b)']\nsecrets: [B]\n"
        "container: {memory: 2g}\ngate: {protect: [b]}\ntests: [{call: Bash(b), expect: ask}]\n",
    )
    policy = load(tmp_path).value
    assert policy.mode == "whitelist"
    assert [rules(policy, key) for key in ("allow", "ask", "deny")] == [
        ["Read", "Edit(b)"],
        ["Bash(a)", "Bash(b)"],
        ["Edit", "Read(b)"],
    ]
    assert policy.secrets == ("A", "B")
    assert (policy.container.memory, policy.container.cpus, policy.approval_timeout) == (2 * GIB, 1, 5)
    assert (policy.gate.protect, policy.gate.files) == (("a", "b"), 3)
    assert [case.call for case in policy.tests] == ["Bash(a)", "Bash(b)"]


@pytest.mark.parametrize(
    ("base", "own", "setup", "agent"),
    [
        ("[a.org]", "[b.org]", "a.org b.org", "a.org b.org"),
        ("[a.org]", "{agent: [b.org]}", "a.org", "a.org b.org"),
        ("{setup: [a.org]}", "[b.org]", "a.org b.org", "b.org"),
        ("{setup: [a.org]}", "{agent: [b.org]}", "a.org", "b.org"),
    ],
)
def test_egress_is_added_whichever_way_it_is_written(
    tmp_path: Path, base: str, own: str, setup: str, agent: str
) -> None:
    write(tmp_path, base=f"mode: whitelist\negress: {base}\n", p=f"extends: base.yaml\negress: {own}\n")
    egress = load(tmp_path).value.egress
    assert egress.setup == tuple(map(parse_domain, setup.split()))
    assert egress.agent == tuple(map(parse_domain, agent.split()))


def test_the_mode_may_be_left_to_a_base(tmp_path: Path) -> None:
    write(tmp_path, base="mode: interactive\n", p="extends: base.yaml\n", none="extends: nomode.yaml\n", nomode="")
    assert load(tmp_path).value.mode == "interactive"
    assert error(tmp_path, "none") == "none.yaml:1:1: mode: is required"


def test_each_rule_knows_its_own_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, base="mode: whitelist\nallow:\n  - Read\n", p="extends: [base.yaml]\nallow: [Edit]\n")
    loaded = load(tmp_path)
    assert [rule.where for rule in loaded.value.allow] == [f"{tmp_path}/base.yaml:4", f"{tmp_path}/p.yaml:3"]
    assert loaded.where(("allow", 1)) == f"{tmp_path}/p.yaml:3:9"
    assert loaded.where(("mode",)) == f"{tmp_path}/base.yaml:2:7"


def test_the_hash_covers_every_file(tmp_path: Path) -> None:
    write(tmp_path, base="mode: whitelist\n", p="extends: base.yaml\n", alone="mode: whitelist\n")
    alone = load(tmp_path, "alone").sha256
    assert alone == hashlib.sha256((tmp_path / "alone.yaml").read_bytes()).hexdigest()
    before = load(tmp_path).sha256
    write(tmp_path, base="mode: whitelist # changed\n")
    assert load(tmp_path).sha256 != before


@pytest.mark.parametrize("name", ["readonly", "edit", "ci", "full-offline"])
def test_a_preset_is_extended_by_its_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, p=f"extends: {name}\nallow: ['Bash(my-tool:*)']\n")
    policy = load(tmp_path).value
    assert rules(policy) == [*rules(load_policy(shipped("policies") / f"{name}.yaml").value), "Bash(my-tool:*)"]
    assert policy.tests == ()  # its examples say what it does by itself


def test_a_file_beside_it_is_not_taken_for_a_preset_nor_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path, edit="mode: blacklist\n", p="extends: edit\n", q="extends: ./edit.yaml\n")
    assert load(tmp_path, "p").value.mode == "whitelist"
    assert load(tmp_path, "q").value.mode == "blacklist"


def test_paths_start_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, base="mode: whitelist\n", p="extends: sub/middle.yaml\n")
    write(tmp_path / "sub", middle="extends: ../base.yaml\n")
    monkeypatch.chdir("/")
    assert load(tmp_path).value.mode == "whitelist"


def test_a_file_that_several_extend_counts_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="mode: whitelist\nallow: [Read]\ncontainer: {pids: 20}\n",
        left="extends: base.yaml\nallow: ['Edit(l)']\ncontainer: {pids: 30}\n",
        right="extends: base.yaml\nallow: ['Edit(r)']\n",
        p="extends: [left.yaml, right.yaml]\n",
    )
    loaded = load(tmp_path)
    assert rules(loaded.value) == ["Read", "Edit(l)", "Edit(r)"]
    assert loaded.value.container.pids == 30
    assert [path.stem for path in loaded.bases] == ["base", "left", "right"]


# --- Mistakes ---


@pytest.mark.parametrize(
    ("extends", "what"),
    [
        ("nothing.yaml", "p.yaml:2:10: extends: nothing.yaml: there is no such file"),
        ("[base.yaml, nothing.yaml]", "p.yaml:2:22: extends[1]: nothing.yaml: there is no such file"),
        ("edti", "p.yaml:2:10: extends: 'edti': there is no policy of that name; did you mean 'edit'?"),
        ("zzz", "those that come with claw-runner are ci, edit, full-offline, readonly; a file is written as ./zzz"),
        ("5", "p.yaml:2:10: extends: must be a list (got 5)"),
        ("[5]", "p.yaml:2:11: extends[0]: must be text (got 5)"),
        ("p.yaml", "p.yaml:2:10: extends: policies cannot extend one another: 'p.yaml' extends 'p.yaml'"),
        ("[base.yaml, loop.yaml]", "loop.yaml:2:10: extends: policies cannot extend one another: 'p.yaml' extends"),
        ("broken.yaml", "p.yaml:2:10: extends: broken.yaml:3:1: is not YAML"),
        ("wrong.yaml", "wrong.yaml:3:9: allow[0]: there is no tool 'Raed'; did you mean Read?"),
        ("list.yaml", "list.yaml:1:1: must be a mapping (got a list)"),
        ("other.yaml", "other.yaml:1:10: version: must be 1 (got 2)"),
        ("twice.yaml", "twice.yaml:3:1: mode: is there twice (first on line 2)"),
    ],
)
def test_what_cannot_be_extended_is_named_with_its_place(tmp_path: Path, extends: str, what: str) -> None:
    write(
        tmp_path,
        base="mode: whitelist\n",
        loop="extends: p.yaml\n",
        broken="mode: [x\n",
        wrong="mode: whitelist\nallow: [Raed]\n",
        twice="mode: whitelist\nmode: blacklist\n",
        p=f"extends: {extends}\nmode: whitelist\nallow: [Read]\n",
    )
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "other.yaml").write_text("version: 2\nmode: whitelist\n")
    assert what in error(tmp_path)


def test_a_mistake_keeps_the_key_that_its_own_file_has(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="mode: whitelist\nallow: [Read, Glob]\negress: {agent: [a.org]}\n",
        p="extends: base.yaml\nallow: [Edit, Raed]\negress: ['*.com']\ntests: [{call: Raed, expect: deny}]\n",
    )
    assert error(tmp_path).splitlines() == [
        "p.yaml:3:15: allow[1]: there is no tool 'Raed'; did you mean Read?",
        "p.yaml:4:10: egress[0]: *.com is too broad: anybody can have a name below com; name the domains that you mean",
        "p.yaml:5:16: tests[0].call: there is no tool 'Raed'; did you mean Read?",
    ]


def test_a_rule_that_is_no_list_does_not_replace_the_list_of_a_base(tmp_path: Path) -> None:
    write(tmp_path, base="mode: blacklist\ndeny: [Bash]\n", p="extends: base.yaml\ndeny:\n", q="extends: p.yaml\n")
    assert "p.yaml:3:6: deny: must be a list (got nothing)" in error(tmp_path)
    assert "p.yaml:3:6: deny: must be a list (got nothing)" in error(tmp_path, "q")


def test_a_chain_of_more_than_eight_is_refused(tmp_path: Path) -> None:
    write(tmp_path, p0="mode: whitelist\n", **{f"p{n}": f"extends: p{n - 1}.yaml\n" for n in range(1, 9)})
    assert load(tmp_path, "p7").value.mode == "whitelist"
    assert error(tmp_path, "p8") == "p1.yaml:2:10: extends: more than 8 policies extend one another in a row"
