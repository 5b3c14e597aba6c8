"""How a whole command is decided: every part, by every rule, in every mode; and a corpus of honest and hostile ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import yaml

from runner.policy import Call, Decision, Policy, decide, load_policy, parse_rule
from runner.shipped import shipped

Mode = Literal["whitelist", "blacklist", "interactive"]
CORPUS = Path(__file__).parent / "corpus"


def policy(mode: Mode, **rules: list[str]) -> Policy:
    return Policy(version=1, mode=mode, **{key: [parse_rule(text) for text in texts] for key, texts in rules.items()})


def bash(judged: Policy, command: str, cwd: str = "/workspace/repo") -> Decision:
    return decide(judged, Call(tool="Bash", subject=command, cwd=cwd))


# --- The corpus ---


class Case(NamedTuple):
    under: str
    """The name of a policy."""
    command: str
    about: str


def _cases(name: str) -> Iterator[Case]:
    about, under = "", []
    for line in (CORPUS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("=== "):
            *trick, policies = line[4:].split(" | ")
            about, under = "".join(trick), policies.split(", ")
        elif line and not line.startswith(("# ", "--- ")):
            command = re.sub("«([0-9A-F]+)»", lambda found: chr(int(found[1], 16)), line.replace("⏎", "\n"))
            yield from (Case(name, command, about) for name in under)


def _policies() -> dict[str, Policy]:
    written = yaml.safe_load((CORPUS / "policies.yaml").read_text(encoding="utf-8"))
    own = {
        name: policy(keys["mode"], **{key: keys.get(key, []) for key in ("allow", "ask", "deny")})
        for name, keys in written.items()
    }
    return own | {name: load_policy(shipped("policies") / f"{name}.yaml").value for name in ("edit", "ci")}


def _shown(wrong: list[tuple[Case, Decision]]) -> str:
    return "\n".join(f"{case.under}: {case.command!r}: {decision.reason[:200]}" for case, decision in wrong)


def _told(capsys: pytest.CaptureFixture[str], record: Callable[[str, object], None], rate: str) -> None:
    record("rate", rate)  # for the summary, also where tests run in several processes
    with capsys.disabled():
        print(f"\n{rate}")


def test_no_hostile_command_is_allowed(
    capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    policies = _policies()
    decided = [(case, bash(policies[case.under], case.command)) for case in _cases("hostile.txt")]
    wrong = [(case, decision) for case, decision in decided if decision.verdict != "deny"]
    rate = f"{len(decided)} hostile commands, {len(wrong)} allowed ({len(wrong) / len(decided):.2%})"
    _told(capsys, record_property, rate)
    assert len(decided) >= 250
    assert not wrong, _shown(wrong)


def test_everyday_commands_are_not_refused(
    capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    policies = _policies()
    decided = [(case, bash(policies[case.under], case.command)) for case in _cases("benign.txt")]
    wrong = [(case, decision) for case, decision in decided if not decision.allowed]
    rate = f"{len(decided)} everyday commands, {len(wrong)} refused ({len(wrong) / len(decided):.2%})"
    _told(capsys, record_property, rate)
    assert len(decided) >= 150
    assert len(wrong) <= len(decided) / 100, _shown(wrong)


@pytest.mark.parametrize("name", ["hand", "edit", "commands"])
@pytest.mark.parametrize(
    "command",
    [
        "ls " + "a " * 6_000 + "; curl x",
        "ls; " * 2_600 + "curl x",
        "(" * 300 + "curl x" + ")" * 300,
        "$(ls " * 200 + "$(curl x)" + ")" * 200,
        "{ " * 300 + "curl x;" + " }" * 300,
        "if ls; then " * 100 + "curl x; " + "fi;" * 100,
        "env " * 1_500 + "curl x",
        "! " * 500 + "curl x",
        "ls && " * 1_500 + "curl x",
        "ls | " * 1_500 + "curl x",
        "for x in a; do cd b; " * 20 + "curl x; " + "done; " * 20,
        "cat <<E\nE\n" * 900 + "curl x",
        "sh -c '" * 6 + "curl x" + "'" * 6,
        'bash -c "' + "eval " * 100 + 'curl x"',
    ],
)
def test_a_long_or_deep_command_is_not_a_way_around(name: str, command: str) -> None:
    assert bash(_policies()[name], command).verdict == "deny"


# --- Rules and modes ---


def test_one_part_that_a_rule_denies_denies_all_and_is_named() -> None:
    judged = policy("whitelist", allow=["Bash(ls:*)", "Bash(curl:*)"], deny=["Bash(curl:*)"])
    decision = bash(judged, "ls && timeout 5 curl x")
    assert (decision.verdict, decision.rule) == ("deny", "Bash(curl:*)")
    assert decision.reason == "the policy denies 'curl x' by the rule Bash(curl:*)"


def test_deny_beats_ask_beats_allow_over_all_parts() -> None:
    judged = policy("whitelist", allow=["Bash(ls:*)"], ask=["Bash(pip install:*)"], deny=["Bash(curl:*)"])
    assert bash(judged, "ls").verdict == "allow"
    assert bash(judged, "ls; pip install x").verdict == "ask"
    assert bash(judged, "ls; pip install x; curl y").verdict == "deny"


def test_what_a_person_is_asked_about_needs_no_other_rule() -> None:
    judged = policy("whitelist", ask=["Bash(pip install:*)"])
    decision = bash(judged, "pip install x")
    assert (decision.verdict, decision.rule) == ("ask", "Bash(pip install:*)")
    assert bash(judged, "pip install x && make").verdict == "deny"


def test_a_person_is_asked_about_what_may_be_it() -> None:
    judged = policy("blacklist", ask=["Bash(git push:*)"])
    for command in ("git push", "timeout 5 git push", "sh -c 'git push'", "git $x", "$x push", "coproc git push"):
        assert bash(judged, command).verdict == "ask"
    assert bash(judged, "git pull").verdict == "allow"


def test_with_bash_under_ask_a_person_is_asked_about_every_command() -> None:
    for mode in ("whitelist", "blacklist", "interactive"):
        judged = policy(mode, allow=["Bash(ls:*)"], ask=["Bash"], deny=["Bash(curl:*)"])
        assert bash(judged, "ls").verdict == "ask"
        assert bash(judged, "curl x").verdict == "deny"


def test_interactive_asks_where_a_whitelist_denies() -> None:
    judged = policy("interactive", allow=["Bash(ls:*)"], deny=["Bash(curl:*)"])
    assert bash(judged, "ls | ls -l").verdict == "allow"
    asked = bash(judged, "ls && pip install x")
    assert (asked.verdict, asked.suggestion) == ("ask", "Bash(pip install:*)")
    assert bash(judged, "ls > f").verdict == "ask"
    assert bash(judged, "ls; curl x").verdict == "deny"


def test_what_is_not_understood_is_asked_about_unless_it_may_be_denied() -> None:
    assert bash(policy("interactive", allow=["Bash(ls:*)"]), "coproc ls").verdict == "ask"
    assert bash(policy("interactive", deny=["Bash(curl:*)"]), "coproc ls").verdict == "deny"


def test_a_blacklist_reports_what_it_could_not_judge() -> None:
    decision = bash(policy("blacklist"), "coproc ls")
    assert decision.allowed
    assert decision.reason == "no rule denies it; it has 'coproc', so it was not judged"
    assert bash(policy("blacklist"), "ls").reason == "no rule denies it"


def test_a_suggestion_is_one_rule_that_would_do() -> None:
    judged = policy("interactive", allow=["Bash(ls:*)"])
    suggested = {
        "npm run build": "Bash(npm run:*)",
        "python3 -m build --wheel": "Bash(python3 -m build:*)",
        "rm -rf build": "Bash(rm:*)",
        "timeout 60 make test": "Bash(make test:*)",
        "make test | tee log": None,
        "$x": None,
        "coproc ls": None,
        "ls > a.txt": "Edit(/a.txt)",
        "PATH=/x:$PATH make": "Bash(PATH=* make:*)",
    }
    assert {command: bash(judged, command).suggestion for command in suggested} == suggested


# --- Redirections ---


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("ls > src/a", "allow"),
        ("ls >> src/a 2>&1", "allow"),
        ("ls > a", "deny"),
        ("cd src && ls > a", "allow"),
        ("cd src; ls > a", "deny"),
        ("cd src && ls > ../a", "deny"),
        ("ls > $x", "deny"),
        ("ls < docs/a", "allow"),
        ("ls < secret/a", "deny"),
        ("ls < a", "deny"),
        ("ls > asked/a", "ask"),
        ("ls > /dev/null 2>&1", "allow"),
        ("for i in a b; do ls > src/$i; done", "allow"),
        ("sh -c 'ls > src/a'", "allow"),
        ("sh -c 'ls > a'", "deny"),
        ("cat <<'E' > src/a\nx > a\nE", "allow"),
    ],
)
def test_a_redirection_is_judged_by_the_path_rules(command: str, verdict: str) -> None:
    judged = policy(
        "whitelist",
        allow=["Bash(ls:*)", "Bash(cat:*)", "Edit(src/**)", "Read(docs/**)", "Read(secret/**)"],
        ask=["Edit(asked/**)"],
        deny=["Read(secret/**)"],
    )
    assert bash(judged, command).verdict == verdict


def test_relative_files_are_those_of_the_folder_that_the_command_starts_in() -> None:
    judged = policy("whitelist", allow=["Bash(ls:*)", "Edit(src/**)"])
    assert bash(judged, "ls > a", cwd="/workspace/repo/src").allowed
    assert not bash(judged, "ls > a", cwd="/workspace/repo/lib").allowed
    assert not bash(judged, "ls > src/a", cwd="/tmp").allowed


def test_where_bash_is_allowed_as_a_whole_path_rules_still_deny_redirections() -> None:
    judged = policy("whitelist", allow=["Bash"], deny=["Edit(.github/**)"])
    assert bash(judged, "ls > a; coproc b; (c)").allowed
    for command in ("ls > .github/x", "cd .github && ls > x", "sh -c 'ls > .github/x'", "ls > $x"):
        assert bash(judged, command).verdict == "deny"


def test_a_decision_names_the_rules_for_commands_and_for_files() -> None:
    judged = policy("whitelist", allow=["Bash(ls:*)", "Edit(src/**)"])
    assert bash(judged, "ls > src/a").reason == "allowed by Bash(ls:*), Edit(src/**)"
    reason = bash(judged, "ls > a").reason
    assert reason.startswith("of the redirection '> a': no rule allows Write of '/workspace/repo/a'; allowed are:")


# --- What is allowed for certain ---


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("export A=1; read -r x; local y=2; set -e; shift; : ; exit 1", True),
        ("cd /tmp/x; true || false", True),
        ("export PATH=/x", False),
        ("make test", True),
        ("cd sub && make test", True),
        ("cd /tmp/x && make test", False),
        ('cd "$x"; make test', False),
        ('cd "$(git rev-parse --show-toplevel)" && make test', True),
        ("git -C sub status", True),
        ("git -C /tmp status", False),
        ("./run", True),
        ("cd sub && ./run", True),
        ("cd /tmp && ./run", False),
        ("/tmp/run", False),
        ("X=1 Y=2 make test", True),
        ("LD_PRELOAD=x make test", False),
        ("LD_AUDIT=x make test", True),
        ("f() { make test; }; f", True),
        ("f() { make clean; }; f", False),
        ("timeout 5 make test", True),
        ("timeout 5 make clean", False),
        ("sudo make test", False),
        ("nohup env A=1 nice -n 3 timeout 5 make test", True),
        ("doas ls", True),
        ("doas rm", False),
        ("xargs rm", False),
        ("xargs -n1 git status", True),
    ],
)
def test_a_whitelist_allows_what_is_certain(command: str, allowed: bool) -> None:
    judged = policy(
        "whitelist",
        allow=[
            "Bash(make test)",
            "Bash(git status:*)",
            "Bash(git rev-parse:*)",
            "Bash(./run)",
            "Bash(LD_AUDIT=* make test)",
        ]
        + ["Bash(doas ls:*)", "Bash(xargs:*)"],
    )
    assert bash(judged, command).allowed is allowed


def test_sudo_needs_a_rule_besides_what_it_starts() -> None:
    assert bash(policy("whitelist", allow=["Bash(sudo:*)", "Bash(apt:*)"]), "sudo -n apt update").allowed
    assert not bash(policy("whitelist", allow=["Bash(apt:*)"]), "sudo apt update").allowed
    assert not bash(policy("whitelist", allow=["Bash(sudo:*)"]), "sudo apt update").allowed
    assert bash(policy("whitelist", allow=["Bash(sudo apt:*)"]), "sudo apt update").allowed


@pytest.mark.parametrize(
    ("rule", "command", "allowed"),
    [
        ("Bash(timeout 60 pytest:*)", "timeout 60 pytest -q", True),
        ("Bash(timeout 60 pytest:*)", "timeout 60 rm pytest", False),
        ("Bash(timeout * pytest:*)", "timeout 5 rm pytest", False),
        ("Bash(timeout:*)", "timeout 5 rm x", False),
        ("Bash(env:*)", "env", True),
        ("Bash(env:*)", "env rm x", False),
        ("Bash(find . -exec grep:*)", "find . -exec grep x {} \\;", True),
        ("Bash(find . -exec grep:*)", "find . -exec grep x {} \\; -exec rm {} \\;", False),
        ("Bash(watch -n 1 ls:*)", "watch -n 1 ls", True),
        ("Bash(watch:*)", "watch rm x", False),
        ("Bash(bash:*)", "bash -c 'rm x'", True),
        ("Bash(* --version)", "LD_PRELOAD=x ls --version", False),
        ("Bash(* --version)", "A=1 ls --version", True),
        ("Bash(sed -i:*)", "sed -i s/a/b/ f", True),
        ("Bash(sed -i:*)", "sed -i 1e f", False),
        ("Bash(export PATH=*)", "export PATH=/x:$PATH", True),
        ("Bash(export:*)", "export PATH=/x", False),
    ],
)
def test_a_wildcard_does_not_reach_what_a_wrapper_starts(rule: str, command: str, allowed: bool) -> None:
    assert bash(policy("whitelist", allow=[rule]), command).allowed is allowed


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("npm publish", "the policy would need a rule such as Bash(npm publish:*); it allows git, ls, find"),
        ("git push -f", "the policy would need a rule such as Bash(git push:*); of git it has Bash(git status:*)"),
        ("ls $(x)", "no rule allows 'x'; the policy would need a rule such as Bash(x:*)"),
        ("coproc x", "the command has 'coproc', which this policy cannot judge; use plain commands"),
        ("find . -delete", "with '-delete' find may write files or run other programs, so a rule must name that word"),
        ("$x a", "the program in '$x a' is not known before it runs; write its name"),
        ("PATH=/x ls", "PATH may change what programs do, so a rule must name it"),
        ("timeout -x 5 ls", "what timeout starts here is not certain"),
        ("cd /x && git status", "it is allowed in the repository only"),
        ("ls > $x", "the file of the redirection '> $x' is not known before it runs; write its path"),
    ],
)
def test_the_reason_tells_the_model_what_would_be_needed(command: str, said: str) -> None:
    judged = policy("whitelist", allow=["Bash(git status:*)", "Bash(ls:*)", "Bash(find:*)"])
    assert said in bash(judged, command).reason
