"""A policy learned from jobs allows what they did, with no rule too many, and says which rules are a risk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.messages import ToolUse
from runner.policy import Call, Policy, decide, load_policy
from runner.policy.history import History, Past, PastConnection, history, redecide, rejudge
from runner.policy.learn import Learned, learn
from runner.policy.writing import policy_text
from runner.transcript import AnyEvent, EgressTried, ToolDecided, ToolRan

REPO = "/workspace/repo"


def past(
    tool: str, subject: str, *, job: str = "job", allowed: bool = True, failed: bool = False, cwd: str = REPO
) -> Past:
    call = Call(tool=tool, subject=subject, cwd=cwd)
    return Past(job=job, turn=1, calls=(call,), verdict="allow" if allowed else "deny", allowed=allowed, failed=failed)


def did(*calls: str | Past, connections: tuple[PastConnection, ...] = ()) -> History:
    """A job; a text is a command."""
    return History(tuple(past("Bash", call) if isinstance(call, str) else call for call in calls), connections)


def rules(found: Learned) -> list[str]:
    return list(found.policy.allow)


def loaded(found: Learned) -> Policy:
    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_text(policy_text(found.policy))
        return load_policy(path).value


# --- commands


def test_a_command_that_was_always_the_same_is_allowed_as_it_was() -> None:
    assert rules(learn([did("git status", "git status"), did("git status")])) == ["Bash(git status)"]


def test_a_command_with_several_arguments_is_allowed_with_any() -> None:
    assert rules(learn([did("git diff", "git diff --stat", "git diff HEAD~1 -- src")])) == ["Bash(git diff:*)"]


def test_what_all_have_in_common_stays_in_the_rule() -> None:
    assert rules(learn([did("git commit -m one", "git commit -m 'two words'")])) == ["Bash(git commit -m:*)"]


def test_commands_of_one_program_are_told_apart() -> None:
    found = learn([did("git status", "npm run build", "npm run test", "npm ci")])
    assert rules(found) == ["Bash(git status)", "Bash(npm ci)", "Bash(npm run build)", "Bash(npm run test)"]


def test_each_part_of_a_command_line_has_its_rule() -> None:
    found = learn([did("cd src && grep -rn x . | sort -u > /dev/null; for f in *.py; do wc -l $f; done")])
    assert rules(found) == ["Bash(grep -rn x .)", "Bash(sort -u)", "Bash(wc -l:*)"]


def test_what_a_wrapper_starts_has_the_rule() -> None:
    assert rules(learn([did("timeout 60 pytest -q")])) == ["Bash(pytest -q)"]


def test_an_option_that_a_rule_must_name_has_a_rule_of_its_own() -> None:
    found = learn([did("sed -n 1p a", "sed -n 2p b", "sed -n 3p c", "sed -n 4p c", "sed -i s/a/b/ a")])
    assert rules(found) == ["Bash(sed -i s/a/b/ a)", "Bash(sed -n:*)"]


def test_a_redirection_needs_the_file_it_writes() -> None:
    assert rules(learn([did("ls > out/list.txt"), did("wc -l < src/a.py")])) == [
        "Read(src/a.py)",
        "Edit(out/list.txt)",
        "Bash(ls)",
        "Bash(wc -l)",
    ]


def test_few_commands_of_an_interpreter_are_named_one_by_one() -> None:
    assert rules(learn([did("python a.py", "python b.py")])) == ["Bash(python a.py)", "Bash(python b.py)"]


def test_many_commands_of_an_interpreter_are_one_rule_marked_as_risky() -> None:
    found = learn([did(*(f"python {name}.py" for name in "abcd"))])
    assert found.policy.allow == {"Bash(python:*)": "4 calls; risky: an interpreter runs whatever code it is given"}


@pytest.mark.parametrize(
    ("commands", "risk"),
    [
        ([f"npm install {name}" for name in "abcd"], "a package manager runs code of packages"),
        ([f"python -m pip install {name}" for name in "abcd"], "a package manager runs code of packages"),
        ([f"make {name}" for name in "abcd"], None),
        ([f"make all V={name}" for name in "1234"], "make runs what files of the repository say"),
        (["curl https://example.org"], "network"),
        (["git push origin main"], "network"),
        ([f"rm -f {name}" for name in "abcd"], "rm destroys whatever it is given"),
        ([f"python -m pytest {name}" for name in "abcd"], None),
        ([f"ls {name}" for name in "abcd"], None),
    ],
)
def test_risky_generalisations_are_marked(commands: list[str], risk: str | None) -> None:
    comments = list(learn([did(*commands)]).policy.allow.values())
    assert {comment.partition("; risky: ")[2] or None for comment in comments} == {risk}


def test_what_no_rule_can_say_is_named_and_not_allowed() -> None:
    found = learn([did("git status", "$PROGRAM --version", "echo 'not closed", "cd /etc && git log")])
    assert rules(found) == ["Bash(git status)"]
    assert [call.subject for call in found.missing] == ["$PROGRAM --version", "echo 'not closed", "cd /etc && git log"]


# --- files


def test_several_files_of_a_folder_are_the_folder() -> None:
    files = [past("Edit", f"{REPO}/src/{name}.py") for name in "abc"] + [past("Edit", f"{REPO}/docs/x.md")]
    assert rules(learn([did(*files)])) == ["Edit(docs/x.md)", "Edit(src/**)"]


def test_several_folders_are_the_folder_that_they_lie_in() -> None:
    files = [past("Write", f"{REPO}/src/{folder}/{name}.py") for folder in "xyz" for name in "abc"]
    assert rules(learn([did(*files)])) == ["Edit(src/**)"]


def test_the_whole_repository_is_for_reading_alone() -> None:
    files = [past(tool, f"{REPO}/{name}.py") for tool in ("Read", "Edit") for name in "abcd"]
    assert rules(learn([did(*files)])) == ["Read(**)", *(f"Edit(/{name}.py)" for name in "abcd")]


def test_a_search_needs_all_that_lies_in_its_folder() -> None:
    assert rules(learn([did(past("Grep", f"{REPO}/src"), past("Glob", REPO))])) == ["Read(**)"]
    assert rules(learn([did(past("Grep", f"{REPO}/src"))])) == ["Read(/src)"]


def test_files_outside_are_named_from_the_root_and_never_all_of_them() -> None:
    files = [past("Read", path) for path in ("/a", "/b", "/c", "/etc/x", "/workspace/home/.npmrc")]
    assert rules(learn([did(*files)])) == [
        "Read(//a)",
        "Read(//b)",
        "Read(//c)",
        "Read(//etc/x)",
        "Read(~/.npmrc)",
    ]


def test_a_name_that_no_pattern_can_hold_is_allowed_by_its_folder() -> None:
    assert rules(learn([did(past("Read", f"{REPO}/src/a\nb"))])) == ["Read(src/**)"]


# --- other tools, connections, counts


def test_pages_agents_and_tools_of_servers_are_allowed_by_name() -> None:
    found = learn(
        [
            did(
                past("WebFetch", "https://docs.example.org/a"),
                past("WebFetch", "https://docs.example.org/b"),
                past("mcp__github__get_issue", ""),
                past("Agent", ""),
            )
        ]
    )
    assert rules(found) == ["Agent", "WebFetch(domain:docs.example.org)", "mcp__github__get_issue"]


def test_reading_what_a_background_command_prints_comes_with_commands() -> None:
    assert rules(learn([did("ls", past("BashOutput", ""), past("KillBash", ""))])) == ["Bash(ls)"]
    assert rules(learn([did(past("BashOutput", ""))])) == ["BashOutput"]


def test_connections_become_egress_by_phase() -> None:
    tried = [("setup", "pypi.org", 443, True), ("agent", "example.org", 8443, True), ("agent", "evil.org", 443, False)]
    connections = tuple(
        PastConnection(job="job", phase=phase, host=host, port=port, address=None, allowed=allowed)  # type: ignore[arg-type]
        for phase, host, port, allowed in tried
    )
    found = learn([did(connections=connections)])
    assert {phase: list(domains) for phase, domains in found.policy.egress.items()} == {
        "setup": ["pypi.org"],
        "agent": ["example.org:8443"],
    }
    policy = loaded(found)
    assert [rejudge(policy, one).allowed for one in connections] == [True, True, False]
    assert "evil.org" in learn([did(connections=connections)], include_denied=True).policy.egress["agent"]


def test_counts_of_calls_jobs_failures_and_denials_stand_behind_the_rules() -> None:
    jobs = [
        did(past("Bash", "pytest", job="a", failed=True), past("Bash", "pytest", job="a")),
        did(past("Bash", "pytest", job="b"), past("Bash", "git pull", job="b", allowed=False)),
    ]
    assert learn(jobs).policy.allow == {"Bash(pytest)": "3 calls in 2 jobs, 1 failed"}
    assert learn(jobs, include_denied=True).policy.allow["Bash(git pull)"] == "1 call, 1 denied then; risky: network"
    assert (learn(jobs).calls, learn(jobs, include_denied=True).calls) == (3, 4)


def test_nothing_is_learned_from_nothing() -> None:
    found = learn([])
    assert (rules(found), found.missing, loaded(found).mode) == ([], (), "whitelist")


# --- whatever was done

WORD = st.sampled_from(
    ["-q", "--stat", "a.py", "src/b.py", "'two words'", "$HOME", "*.py", "x=1", "-i", "-delete", "main"]
)
PROGRAM = st.sampled_from(
    ["git", "git diff", "git push", "npm run", "python", "python -m pytest", "ls", "sed", "find .", "sort", "make"]
    + ["timeout 5 ls", "env A=1 make", "FOO=1 make", "xargs rm", "sudo make", "./run.sh", "rm", "cd src", "sh -c ls"]
)  # fmt: skip
COMMAND = st.tuples(PROGRAM, st.lists(WORD, max_size=3)).map(lambda parts: " ".join([parts[0], *parts[1]]))
LINE = st.tuples(
    COMMAND,
    st.sampled_from(["", " && ", " | ", "; "]),
    COMMAND,
    st.sampled_from(["", " > out.txt", " 2>&1", " < in/x", " <<'E'\ntext\nE", " >> $LOG"]),
).map(lambda parts: (parts[0] + parts[1] + parts[2] if parts[1] else parts[0]) + parts[3])
NAME = st.sampled_from(["a", "b", "c", "d.py", ".env", "x y", "[z]", "!bang", "~t", "$v", "\u202e", "n\nl"])
PATH = st.tuples(
    st.sampled_from([REPO, f"{REPO}/src", f"{REPO}/src/deep", "/tmp", "/workspace/home", "", "/etc"]), NAME
).map("/".join)
CALL = st.one_of(
    LINE.map(lambda line: past("Bash", line)),
    st.tuples(st.sampled_from(["Read", "Write", "Edit", "Grep", "Glob"]), PATH).map(lambda pair: past(*pair)),
    st.tuples(LINE, st.sampled_from([f"{REPO}/src", "/tmp"])).map(lambda pair: past("Bash", pair[0], cwd=pair[1])),
    st.sampled_from(["https://example.org/x", "http://a.example.org:8080/"]).map(lambda url: past("WebFetch", url)),
)  # fmt: skip


@given(calls=st.lists(CALL, max_size=12))
@example(calls=[past("Bash", "echo hi")])
@example(calls=[past("Bash", "git push main"), past("Bash", "git 'two words'"), past("Bash", "git")])
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_learned_policy_allows_all_again_and_needs_each_of_its_rules(calls: Sequence[Past]) -> None:
    found = learn([did(*calls)])
    policy = loaded(found)
    assert [str(rule) for rule in policy.allow] == rules(found)
    could = [call for call in calls if call.calls[0] not in found.missing]
    for call in could:
        assert redecide(policy, call).allowed, (call, rules(found))
    for rule in policy.allow:
        fewer = policy.model_copy(update={"allow": tuple(other for other in policy.allow if other != rule)})
        assert not all(redecide(fewer, call).allowed for call in could), (rule, rules(found))


# --- transcripts


def decided(name: str, input: dict[str, Any], *subjects: str, turn: int = 1, id: str = "t", **more: Any) -> ToolDecided:
    call = ToolUse(id=id, name=name, input=input)
    facts = {"allowed": True, "rule": None, "where": None, "reason": ""} | more
    return ToolDecided(turn=turn, call=call, subjects=subjects, **facts)


def ran(id: str = "t", *, is_error: bool = False, **details: Any) -> ToolRan:
    return ToolRan(
        turn=1, tool_use_id=id, name="Bash", ran=True, content="", is_error=is_error, seconds=0.0, details=details
    )


def judged(*events: AnyEvent) -> list[tuple[str, str]]:
    return [(call.tool, call.subject) for past in history("job", events).calls for call in past.calls]


def test_what_was_judged_is_taken_from_the_transcript() -> None:
    events = (
        decided("Bash", {"command": "x"}, "Bash(echo (a))", id="1"),
        decided("Read", {"file_path": "l"}, "Read(/workspace/repo/l)", "Read(/etc/passwd)", id="2"),
        decided("BashOutput", {"bash_id": "b"}, "BashOutput", id="3"),
    )
    assert judged(*events) == [
        ("Bash", "echo (a)"),
        ("Read", "/workspace/repo/l"),
        ("Read", "/etc/passwd"),
        ("BashOutput", ""),
    ]


def test_in_older_transcripts_it_is_told_by_what_the_model_said() -> None:
    events = [
        decided("Bash", {"command": "ls"}),
        decided("Read", {"file_path": "src/../a.py"}),
        decided("Edit", {"file_path": "/tmp/x", "old_string": "a"}),
        decided("Grep", {"pattern": "x"}),
        decided("Glob", {"pattern": "**/*.py", "path": "src"}),
        decided("Glob", {"pattern": "/etc/apt/*.list"}),
        decided("WebFetch", {"url": "https://example.org/"}),
        decided("KillBash", {"shell_id": "b"}),
        decided("Read", {"file_path": 3}),
        decided("Bash", {}),
        decided("Teleport", {"to": "x"}),
    ]
    assert judged(*events) == [
        ("Bash", "ls"),
        ("Read", f"{REPO}/a.py"),
        ("Edit", "/tmp/x"),
        ("Grep", REPO),
        ("Glob", f"{REPO}/src"),
        ("Glob", "/etc/apt"),
        ("WebFetch", "https://example.org/"),
        ("KillBash", ""),
    ]


def test_the_working_directory_is_followed_from_command_to_command() -> None:
    events = [decided("Bash", {}, "Bash(cd src)"), ran(cwd=f"{REPO}/src"), decided("Bash", {}, "Bash(ls > x)", id="u")]
    found = history("job", events).calls[1].calls[0]
    assert found.cwd == f"{REPO}/src"
    policy = loaded(learn([history("job", events)]))
    assert decide(policy, found).allowed
    assert "Edit(src/x)" in [str(rule) for rule in policy.allow]


def test_how_a_call_was_decided_and_ended_is_known() -> None:
    events = [
        decided("Bash", {}, "Bash(a)", id="1", verdict="ask", approval="x/1"),
        ran("1", is_error=True),
        decided("Bash", {}, "Bash(b)", id="2", allowed=False),
        decided("Bash", {}, "Bash(c)", id="2", verdict="allow"),
    ]
    found = history("job", events).calls
    assert [(call.verdict, call.allowed, call.failed) for call in found] == [
        ("ask", True, True),
        ("deny", False, False),
        ("allow", True, False),
    ]


def test_connections_are_known() -> None:
    tried = EgressTried(
        phase="agent",
        host="example.org",
        port=443,
        address="93.184.216.34",
        allowed=True,
        rule="example.org",
        reason="",
    )
    (found,) = history("job", [tried]).connections
    assert (found.host, found.port, found.allowed) == ("example.org", 443, True)
