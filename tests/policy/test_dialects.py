"""Settings of other agents become policies that allow nothing that the settings would not, and say what was lost.

What the settings mean is told by small models of the three systems, written from their documentation and not from the
importers: rules over the words of commands that are given to them taken apart, over paths, and over URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.errors import ConfigError
from runner.policy import Call, Policy, Verdict, decide, load_policy, parse_call
from runner.policy.dialects import Dialect, Imported, convert, detect
from runner.policy.writing import policy_text

REPO, HOME = "/workspace/repo", "/workspace/home"
STRICT: tuple[Verdict, ...] = ("allow", "ask", "deny")
THOROUGH = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=STRICT.index)


def loaded(imported: Imported) -> Policy:
    """The policy, through its file."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_text(policy_text(imported.policy))
        return load_policy(path).value


def of_claude(value: object, **more: Any) -> Imported:
    return convert(json.dumps(value), "settings.json", "claude", **more)


def of_opencode(permission: object, **more: Any) -> Imported:
    return convert(json.dumps({"permission": permission, **more}), "opencode.json", "opencode")


def of_codex(text: str) -> Imported:
    return convert(text, "rules.star", "codex")


def notes(imported: Imported, taken: str) -> list[str]:
    return [str(note) for note in imported.notes if note.taken == taken]


# --- the calls that everything is tried on

Words = tuple[str, ...]


class Command(NamedTuple):
    """A command line, as the simple commands that it is made of."""

    parts: tuple[Words, ...]

    @property
    def call(self) -> Call:
        return Call(tool="Bash", subject=" && ".join(" ".join(words) for words in self.parts))


SIMPLE = [
    ("git",),
    ("git", "push"),
    ("git", "pushall"),
    ("git", "push", "--force"),
    ("git", "status"),
    ("git", "status", "-s"),
    ("git", "log", "-p", "main"),
    ("npm", "run", "test"),
    ("npm", "run", "test:unit"),
    ("npm", "run", "test:unit", "--watch"),
    ("npm", "run", "build"),
    ("npm", "publish"),
    ("curl", "https://example.org/x"),
    ("rm", "-rf", "build"),
    ("rmdir", "build"),
    ("pytest",),
    ("pytest", "-q", "tests"),
]
COMMANDS = [Command((words,)) for words in SIMPLE]
COMMANDS += [Command((("git", "status"), last)) for last in SIMPLE[::3]]
PATHS = [
    f"{REPO}/a.py",
    f"{REPO}/.env",
    f"{REPO}/README.md",
    f"{REPO}/src/a.py",
    f"{REPO}/src/.env",
    f"{REPO}/src/lib/b.py",
    f"{REPO}/src/lib/secret.txt",
    f"{REPO}/docs/x.md",
    f"{REPO}/.git/config",
    f"{HOME}/.zshrc",
    f"{HOME}/notes/n.md",
    "/etc/passwd",
    "/srv/data/f.py",
]
FILES = [Call(tool=tool, subject=path) for tool in ("Read", "Edit", "Write", "Grep") for path in PATHS]
PAGES = [
    Call(tool="WebFetch", subject=f"https://{host}/page")
    for host in ("example.org", "docs.example.org", "a.docs.example.org", "python.org", "evilexample.org")
]
AGENTS = [Call(tool="Agent", subject="", parameters={"model": model}) for model in ("haiku", "opus")]
TOOLS = [Call(tool="mcp__github__get_issue", subject=""), Call(tool="mcp__github__push", subject="")]


def assert_stricter(policy: Policy, call: Call, source: Verdict) -> None:
    ours = decide(policy, call)
    assert STRICT.index(ours.verdict) >= STRICT.index(source), (call, ours, source)


# --- Claude Code


def gitignore(pattern: str, path: str) -> bool:
    """Whether a pattern covers a path, by the rules of .gitignore and Claude Code's anchors."""
    anchors = {"//": "/", "~/": HOME, "./": REPO, "/": REPO}
    prefix = next((prefix for prefix in anchors if pattern.startswith(prefix)), "")
    root, rest = anchors.get(prefix, REPO), pattern.removeprefix(prefix)
    anchored = bool(prefix) or "/" in rest.rstrip("/")
    rest = rest.rstrip("/") + ("/**" if pattern.endswith("/") else "")
    expression = "" if anchored else "(?:.*/)?"
    for token in re.findall(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^]]*\]|.", rest):
        expression += {"**/": "(?:.*/)?", "/**": "/.+", "**": ".+", "*": "[^/]*", "?": "[^/]"}.get(
            token, token if token.startswith("[") else re.escape(token)
        )
    return re.fullmatch(re.escape(root.rstrip("/")) + "/" + expression + "(?:/.*)?", path) is not None


def claude_command(pattern: str, words: Words) -> bool:
    text = " ".join(words)
    if pattern == "*":
        return True
    if pattern.endswith(":*"):
        pattern = f"{pattern[:-2]} *"
    expression = ".*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(expression, text) is not None or (pattern.endswith(" *") and text == pattern[:-2])


FAMILY = {
    "Read": ("Read", "Glob", "Grep"),
    "Edit": ("Edit", "Write"),
    "MultiEdit": ("Edit", "Write"),
    "Task": ("Agent",),
}


def claude_matches(rule: str, call: Call, words: Words) -> bool:
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", rule)
    assert found
    tool, spec = found[1], found[2]
    if tool.startswith("mcp__"):
        return re.fullmatch(tool if tool.count("__") > 1 else f"{tool}__.*", call.tool) is not None
    if call.tool not in FAMILY.get(tool, (tool,)):
        return False
    if spec is None:
        return True
    match call.tool:
        case "Bash":
            return claude_command(spec, words)
        case "WebFetch":
            host, domain = call.subject.split("/")[2], spec.removeprefix("domain:")
            return domain == "*" or host == domain or (domain.startswith("*.") and host.endswith(domain[1:]))
        case "Agent":
            name, _, value = spec.partition(":")
            return call.parameters.get(name) == value
        case _:
            return gitignore(spec, call.subject)


def claude(value: Mapping[str, Any], call: Call, words: Words = ()) -> Verdict:
    """One simple command, or a call of another tool."""
    permissions = value.get("permissions", {})
    mode = permissions.get("defaultMode", "default")
    if mode == "bypassPermissions" and permissions.get("disableBypassPermissionsMode"):
        mode = "default"
    silent = mode in ("dontAsk", "plan") or permissions.get("denyInsteadOfPrompting", False)
    asked: Verdict = "deny" if silent else "ask"
    folders = permissions.get("additionalDirectories", [])
    inside = call.subject.startswith(f"{REPO}/") or any(
        call.subject.startswith(folder.replace("~", HOME) + "/") for folder in folders
    )
    reads, writes = call.tool in ("Read", "Glob", "Grep"), call.tool in ("Edit", "Write")
    if any(claude_matches(rule, call, words) for rule in permissions.get("deny", [])):
        return "deny"
    if not inside and (
        (reads and permissions.get("blockReadsOutsideWorkingDirectories"))
        or (writes and permissions.get("blockWritesOutsideWorkingDirectories"))
    ):
        return "deny"
    if mode == "plan" and not reads and call.tool not in ("WebFetch", *[tool.tool for tool in TOOLS]):
        return "deny"
    if any(claude_matches(rule, call, words) for rule in permissions.get("ask", [])):
        return asked
    if any(claude_matches(rule, call, words) for rule in permissions.get("allow", [])):
        return "allow"
    if mode == "bypassPermissions" or (reads and inside):
        return "allow"
    if mode == "acceptEdits" and writes and inside and "/.git/" not in call.subject:
        return "allow"
    return asked


PATH_PATTERNS = [
    "src/**", "/src/**", "./.env", ".env", "*.py", "**/*.py", "//etc/**", "~/.zshrc", "src", "docs/*", "**", "src/*.py",
    "//**", "~/**", "src/lib/", "[sd]*/**", "//srv/data/*.py", "/README.md",
]  # fmt: skip
CLAUDE_RULES = st.one_of(
    st.sampled_from(
        ["git *", "git:*", "git push*", "git push", "npm run test*", "npm run *", "git * main", "*", "curl *", "rm*"]
        + ["npm run test:*", "pytest -q *", "git status", "*push*", "*--force"]
    ).map(lambda spec: f"Bash({spec})"),
    st.tuples(st.sampled_from(["Read", "Edit", "Write", "Grep", "MultiEdit"]), st.sampled_from(PATH_PATTERNS)).map(
        lambda pair: f"{pair[0]}({pair[1]})"
    ),
    st.sampled_from(["example.org", "*.example.org", "*", "python.org"]).map(lambda host: f"WebFetch(domain:{host})"),
    st.sampled_from(
        ["Bash", "Read", "Edit", "WebFetch", "Agent", "Task", "Agent(model:opus)", "mcp__github", "mcp__github__push"]
    ),
)  # fmt: skip
MODES = ["default", "manual", "acceptEdits", "auto", "dontAsk", "plan", "bypassPermissions"]
CLAUDE_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "allow": st.lists(CLAUDE_RULES, max_size=5),
        "ask": st.lists(CLAUDE_RULES, max_size=2),
        "deny": st.lists(CLAUDE_RULES, max_size=2),
        "defaultMode": st.sampled_from(MODES),
        "additionalDirectories": st.just(["/srv/data", "~/notes"]),
        "disableBypassPermissionsMode": st.just("disable"),
        "denyInsteadOfPrompting": st.booleans(),
        "blockReadsOutsideWorkingDirectories": st.booleans(),
        "blockWritesOutsideWorkingDirectories": st.booleans(),
    },
).map(lambda permissions: {"permissions": permissions})


@given(value=CLAUDE_SETTINGS)
@example(value={"permissions": {"allow": ["Bash"], "deny": ["Bash(git push*)", "Bash(*--force)"]}})
@example(value={"permissions": {"allow": ["Bash(npm run test*)", "Read(*)"]}})
@THOROUGH
def test_what_claude_code_would_not_allow_is_not_allowed(value: dict[str, Any]) -> None:
    policy = loaded(of_claude(value))
    for command in COMMANDS:
        assert_stricter(policy, command.call, strictest(claude(value, command.call, words) for words in command.parts))
    for call in (*FILES, *PAGES, *AGENTS, *TOOLS):
        assert_stricter(policy, call, claude(value, call))


def test_usual_settings_of_claude_code_are_taken_over_exactly() -> None:
    value = {
        "permissions": {
            "defaultMode": "dontAsk",
            "allow": ["Bash(pytest *)", "Bash(git status:*)", "Bash(npm run build)", "Edit(src/**)"],
            "deny": ["Read(./.env)", "WebFetch", "Bash(git push *)"],
        }
    }
    imported = of_claude(value)
    assert {note.taken for note in imported.notes} == {"exactly"}
    policy = loaded(imported)
    for command in COMMANDS:
        verdicts = [claude(value, command.call, words) for words in command.parts]
        assert decide(policy, command.call).verdict == strictest(verdicts), command
    for call in (*FILES, *PAGES):
        assert decide(policy, call).verdict == claude(value, call), call


@pytest.mark.parametrize(
    ("mode", "ours"),
    [
        ("default", "interactive"),
        ("acceptEdits", "interactive"),
        ("auto", "interactive"),
        ("dontAsk", "whitelist"),
        ("plan", "whitelist"),
        ("bypassPermissions", "blacklist"),
    ],
)
def test_each_mode_of_claude_code_has_one_of_ours(mode: str, ours: str) -> None:
    imported = of_claude({"permissions": {"defaultMode": mode}})
    assert imported.policy.mode == ours
    assert ("WARNING" in "".join(map(str, imported.notes))) is (mode == "bypassPermissions")


def test_accepted_edits_are_allowed_but_for_what_is_asked_about_even_so() -> None:
    policy = loaded(of_claude({"permissions": {"defaultMode": "acceptEdits"}}))
    verdicts = [decide(policy, parse_call(f"Edit({path})")).verdict for path in ("src/a.py", ".git/hooks/x", "/etc/x")]
    assert verdicts == ["allow", "ask", "ask"]


def test_a_star_in_a_denied_command_stands_for_all_that_it_stood_for() -> None:
    imported = of_claude({"permissions": {"allow": ["Bash"], "deny": ["Bash(git push*)", "Bash(curl * | sh)"]}})
    policy = loaded(imported)
    for command in ("git push", "git pushall --force", "git push origin main", "curl x"):
        assert decide(policy, Call(tool="Bash", subject=command)).verdict == "deny", command
    assert decide(policy, Call(tool="Bash", subject="git pull")).verdict == "allow"
    assert len(notes(imported, "stricter")) == 2


@pytest.mark.parametrize(
    "rule",
    ["Bash(npm run build && npm publish)", "Bash(echo $HOME)", 'Bash(git commit -m "*")', "Agent(Explore)", "bash(ls)"]
    + ["WebSearch", "WebFetch(domain:*.com)", "Read(!x)", "Skill(pdf *)", "mcp__a__b(x)", "Read(../x)"],
)
def test_what_cannot_be_said_is_not_allowed_and_named_with_its_place(rule: str) -> None:
    imported = of_claude({"permissions": {"allow": [rule]}})
    assert list(imported.policy.allow) == ["Read(**)"]
    (note,) = notes(imported, "left out")
    assert note.startswith("settings.json:1:")
    assert rule in note


@pytest.mark.parametrize(
    ("rule", "ours"),
    [
        ("Agent(Explore)", "Agent"),
        ("WebFetch(domain:*.com)", "WebFetch"),
        ("Read(../x)", "Read"),
        ("Bash($(x) *)", "Bash"),
        ("Bash(*rm*)", "Bash"),
        ("mcp__a__b(x)", "mcp__a__b"),
    ],
)
def test_what_was_denied_and_cannot_be_said_is_denied_as_a_whole(rule: str, ours: str) -> None:
    imported = of_claude({"permissions": {"deny": [rule]}})
    assert list(imported.policy.deny) == [ours]
    assert len(notes(imported, "stricter")) == 1


def test_paths_relative_to_settings_of_a_user_are_not_allowed_in_the_repository() -> None:
    value = {"permissions": {"allow": ["Edit(/src/**)", "Edit(src/**)"], "deny": ["Read(/keys/**)"]}}
    imported = of_claude(value, in_repository=False)
    assert "Edit(/src/**)" not in imported.policy.allow
    assert {"Edit(src/**)"} < set(imported.policy.allow)
    assert list(imported.policy.deny) == ["Read(/keys/**)"]
    assert "Edit(/src/**)" in of_claude(value).policy.allow


def test_domains_of_the_sandbox_become_egress_without_those_that_are_denied() -> None:
    network = {"allowedDomains": ["github.com", "*.example.org", "evil.example.com", "*.com", "x.org"]}
    network["deniedDomains"] = ["*.example.com", "a.example.org", "y.org"]
    imported = of_claude({"sandbox": {"network": network, "enabled": True}})
    assert imported.policy.egress == {"agent": {"github.com": "", "x.org": ""}}
    assert len(notes(imported, "left out")) == 4


def test_the_file_system_of_the_sandbox_is_denied_to_the_tools_too() -> None:
    filesystem = {"denyRead": ["~/.ssh", "/etc"], "denyWrite": ["src/gen"], "allowWrite": ["/srv"]}
    value = {"permissions": {"allow": ["Read", "Edit"]}, "sandbox": {"filesystem": filesystem}}
    policy = loaded(of_claude(value))
    denied = ["Read(~/.ssh/id)", "Read(/etc/passwd)", "Read(/workspace/repo/etc/x)", "Edit(src/gen/a.py)"]
    assert [decide(policy, parse_call(call)).verdict for call in denied] == ["deny"] * 4
    assert decide(policy, parse_call("Edit(src/a.py)")).verdict == "allow"


def test_hooks_and_other_settings_are_named() -> None:
    imported = of_claude({"permissions": {}, "hooks": {"PreToolUse": []}, "model": "opus"})
    assert ["hooks are not run" in note for note in notes(imported, "left out")] == [True, False]


# --- Codex

TOKEN = st.sampled_from(["git", "push", "status", "npm", "run", "test", "-rf", "rm", "--force", "*"])
PREFIX = st.lists(st.one_of(TOKEN, st.lists(TOKEN, min_size=1, max_size=2)), min_size=1, max_size=3)
CODEX_RULES = st.lists(st.tuples(PREFIX, st.sampled_from(["allow", "prompt", "forbidden"])), max_size=6)


def codex(rules: Sequence[tuple[list[Any], str]], words: Words) -> Verdict:
    found: list[Verdict] = []
    for pattern, decision in rules:
        tokens = [[token] if isinstance(token, str) else token for token in pattern]
        if len(words) >= len(tokens) and all(word in some for word, some in zip(words, tokens, strict=False)):
            found.append({"allow": "allow", "prompt": "ask", "forbidden": "deny"}[decision])  # type: ignore[arg-type]
    return strictest(found) if found else "ask"


@given(rules=CODEX_RULES)
@THOROUGH
def test_what_codex_would_not_allow_is_not_allowed(rules: list[tuple[list[Any], str]]) -> None:
    text = "".join(f"prefix_rule(pattern={pattern!r}, decision={decision!r})\n" for pattern, decision in rules)
    policy = loaded(of_codex(text))
    for command in COMMANDS:
        assert_stricter(policy, command.call, strictest(codex(rules, words) for words in command.parts))
    for call in (*FILES, *PAGES):
        assert_stricter(policy, call, "ask")


CODEX = """
# What may be done without asking.
prefix_rule(
    pattern = ["git", ["status", "diff"]],
    justification = "looking\\nis: fine # really",
    match = [["git", "status"], "git diff --stat"],
    not_match = ["git push"],
)
prefix_rule(pattern = ["rm"], decision = "forbidden", match = ["rm -rf 'a b'"])
"""


def test_an_execpolicy_becomes_rules_comments_and_examples() -> None:
    imported = of_codex(CODEX)
    policy = loaded(imported)
    assert [str(rule) for rule in (*policy.allow, *policy.deny)] == [
        "Bash(git status:*)",
        "Bash(git diff:*)",
        "Bash(rm:*)",
    ]
    cases = {case.call: case.expect for case in policy.tests}
    allowed = dict.fromkeys(("Bash(git status)", "Bash(git diff --stat)"), "allow")
    assert cases == allowed | {"Bash(git push)": "ask", "Bash(rm -rf 'a b')": "deny"}
    assert all(decide(policy, parse_call(call)).verdict == expect for call, expect in cases.items())
    assert "# looking is: fine # really" in policy_text(imported.policy)


def test_an_example_that_is_decided_more_strictly_here_says_so() -> None:
    imported = of_codex('prefix_rule(pattern=["find"], match=["find . -delete", "find . -name a"])')
    assert imported.policy.tests == {"Bash(find . -delete)": "ask", "Bash(find . -name a)": "allow"}
    assert "find . -delete" in notes(imported, "stricter")[0]


def test_calls_of_other_functions_are_named_and_left_out() -> None:
    assert "network_rule" in notes(of_codex('network_rule(host="example.org", decision="allow")'), "left out")[0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("prefix_rule(pattern=[x])", "rules.star:1:1: prefix_rule[0]: pattern must be written out"),
        ("\nx = 1", "rules.star:2:1: only calls can be read here"),
        ("prefix_rule(pattern=['a'])\nimport os", "rules.star:2:1: only calls can be read here"),
        ("prefix_rule(pattern=['a'], decison='allow')", "there is no argument 'decison'; did you mean 'decision'?"),
        ("prefix_rule(pattern=['a'], decision='forbid')", "there is no 'forbid'; did you mean 'forbidden'?"),
        ("prefix_rule(pattern=[])", "pattern is a list of words"),
        ("prefix_rule()", "pattern is a list of words"),
        ("prefix_rule(['a'])", "takes its arguments by name"),
        ("prefix_rule(pattern=['a', ['b', 3]])", "pattern is a list of words"),
        ("prefix_rule(pattern='git')", "pattern is a list of words"),
        ("prefix_rule(pattern=['a'], match=['b c'])", "match: the rule does not match 'b c'"),
        ("prefix_rule(pattern=['a'], not_match=['a b'])", "not_match: the rule matches 'a b'"),
        ("prefix_rule(pattern=['a'], match=['\"'])", "examples are commands"),
        ("prefix_rule(pattern=", "rules.star:1:1: is not written as rules are"),
        ("prefix_rule(pattern=['a'\0])", "rules.star:1:1: is not written as rules are"),
        ("(" * 5_000, "rules.star:1:1: is"),
        ("-" * 100_000 + "1", "rules.star:1:1: is"),
        ("prefix_rule(pattern=" + "[" * 90 + "]" * 90 + ")", "pattern is a list of words"),
        (f"prefix_rule(pattern={[['a', 'b']] * 40})", "stands for 1,099,511,627,776 commands"),
        ("#" * 300_000, "is larger than 262,144 characters"),
    ],
)
def test_what_is_wrong_in_an_execpolicy_is_told_with_its_place(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)):
        of_codex(text)


def test_nothing_in_an_execpolicy_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for code in (f"open({str(trap)!r}, 'w')", f"prefix_rule(pattern=[open({str(trap)!r}, 'w')])"):
        try:
            of_codex(code)
        except ConfigError:
            continue
    assert not trap.exists()


# --- OpenCode


def wildcard(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text) is not None or (pattern.endswith(" *") and text == pattern[:-2])


OPENCODE_KEYS = {
    "Bash": "bash",
    "Read": "read",
    "Edit": "edit",
    "Write": "edit",
    "Grep": "grep",
    "WebFetch": "webfetch",
}
OUTSIDE = "external_directory"


def opencode_word(rules: Sequence[tuple[str, str, Verdict]], key: str, text: str) -> Verdict:
    """The last that matches: (pattern for the key, pattern for the text, word)."""
    return [word for name, pattern, word in rules if wildcard(name, key) and wildcard(pattern, text)][-1]


def opencode(permission: Any, call: Call, words: Words = ()) -> Verdict:
    rules: list[tuple[str, str, Verdict]] = [("*", "*", "allow"), (OUTSIDE, "*", "ask")]
    rules += [("read", "*.env", "deny"), ("read", "*.env.*", "deny")]
    given = {"*": permission} if isinstance(permission, str) else permission
    for key, value in given.items():
        patterns = {"*": value} if isinstance(value, str) else value
        rules += [(key, pattern.replace("~", HOME), word) for pattern, word in patterns.items()]
    inside = call.subject.startswith(f"{REPO}/")
    if call.tool == "Bash":
        text = " ".join(words)
    elif call.tool == "Grep":
        text = "some expression"
    else:
        text = call.subject.removeprefix(f"{REPO}/")
    verdicts = [opencode_word(rules, OPENCODE_KEYS.get(call.tool, "task"), text)]
    if call.tool in ("Read", "Edit", "Write", "Grep") and not inside:
        verdicts.append(opencode_word(rules, OUTSIDE, call.subject))
    if call.tool == "Grep":
        verdicts.append("allow")
    return strictest(verdicts)


WORD = st.sampled_from(STRICT)


def _key(patterns: Sequence[str]) -> Any:
    return st.one_of(WORD, st.dictionaries(st.sampled_from(["*", *patterns]), WORD, min_size=1, max_size=4))


PERMISSION = st.one_of(
    WORD,
    st.fixed_dictionaries(
        {},
        optional={
            "bash": _key(["git *", "git push*", "npm run test", "npm *", "*--force*", "rm -rf *", "git stat?s"]),
            "read": _key(["*.env", "src/*", "src/*.py", "README.md", "/etc/*", "~/notes/*", "*secret*", "s?c/*"]),
            "edit": _key(["src/*", "*.py", "docs/x.md", "src/lib*", "a.p?", "/srv/data/*", "*/a.py"]),
            "grep": WORD,
            "webfetch": _key(["https://example.org/*", "https://*", "*python*", "https://docs.example.org/*"]),
            "task": _key(["explore"]),
            "external_directory": st.one_of(WORD, st.dictionaries(st.sampled_from(["/etc/*", "*"]), WORD, max_size=2)),
            "doom_loop": WORD,
            "*": WORD,
            "web*": WORD,
        },
    ).flatmap(lambda found: st.permutations(sorted(found)).map(lambda keys: {key: found[key] for key in keys})),
)


@given(permission=PERMISSION)
@example(permission={"bash": {"*": "allow", "git push*": "deny", "*--force*": "ask"}})
@example(permission={"*": "ask", "read": "allow"})
@THOROUGH
def test_what_opencode_would_not_allow_is_not_allowed(permission: Any) -> None:
    policy = loaded(of_opencode(permission))
    for command in COMMANDS:
        source = strictest(opencode(permission, command.call, words) for words in command.parts)
        assert_stricter(policy, command.call, source)
    for call in (*FILES, *PAGES, *AGENTS):
        assert_stricter(policy, call, opencode(permission, call))


def test_a_usual_permission_of_opencode_does_what_it_did() -> None:
    permission = {
        "bash": {"*": "deny", "git status": "allow", "git log *": "allow", "npm run build": "allow"},
        "edit": {"*": "deny", "src/*": "allow"},
        "webfetch": {"*": "deny", "https://example.org/*": "allow"},
        "external_directory": "deny",
    }
    policy = loaded(of_opencode(permission))
    assert policy.mode == "whitelist"
    for command in COMMANDS:
        source = strictest(opencode(permission, command.call, words) for words in command.parts)
        assert decide(policy, command.call).verdict == source, command
    for call in PAGES + [call for call in FILES if call.tool != "Grep"]:
        assert decide(policy, call).verdict == opencode(permission, call), call


def test_what_a_later_pattern_allows_again_stays_denied_and_is_named() -> None:
    imported = of_opencode({"bash": {"git *": "deny", "git status": "allow"}})
    assert list(imported.policy.deny)[:1] == ["Bash(git:*)"]
    assert "here the strictest counts" in notes(imported, "stricter")[0]


def test_tools_that_are_off_are_denied() -> None:
    imported = of_opencode({}, tools={"bash": False, "write": False, "webfetch": True})
    assert {"Bash", "Edit"} <= set(imported.policy.deny)
    assert "WebFetch" in imported.policy.allow


def test_permissions_of_single_agents_are_named() -> None:
    imported = of_opencode({"skill": "ask", "my-mcp_*": "ask"}, agent={"build": {}}, theme="dark")
    assert len(notes(imported, "left out")) == 4


# --- files


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ('{"permissions": {}}', "claude"),
        ('// mine\n{"sandbox": {},}', "claude"),
        ('{"permission": "ask"}', "opencode"),
        ('\ufeff{"$schema": "https://opencode.ai/config.json"}', "opencode"),
        ("# rules\n\nprefix_rule(pattern=['a'])", "codex"),
    ],
)
def test_it_shows_whose_settings_they_are(text: str, dialect: Dialect) -> None:
    assert detect(text, "f") == dialect


@pytest.mark.parametrize("text", ["", "{}", "[1]", "version: 1", '{"allow": []}'])
def test_where_it_does_not_show_it_is_asked_for(text: str) -> None:
    with pytest.raises(ConfigError, match=r"f:1:1: .*--from claude, codex, opencode"):
        detect(text, "f")


def test_comments_and_commas_too_many_are_read_over() -> None:
    text = '{ /* a "b" */ "permissions": { // c\n "deny": ["Bash(rm *)", /* d */ "Read(a//b*)",], }, }\n// end'
    assert list(convert(text, "f", "claude").policy.deny) == ["Bash(rm:*)", "Read"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"permissions": {"allow": "Bash"}}', "f:1:27: permissions.allow: must be a list (got 'Bash')"),
        ('{"permissions": {"allow": [1]}}', "f:1:28: permissions.allow[0]: must be text (got 1)"),
        ('{"permissions": []}', "f:1:17: permissions: must be a mapping (got a list)"),
        ('{"permissions": {"defaultMode": "acceptEdit"}}', "did you mean 'acceptEdits'?"),
        ('{"permissions": {"deny": ["Bash(x"]}}', "f:1:27: permissions.deny[0]: is not a rule"),
        ('{"permissions": {"denyInsteadOfPrompting": 1}}', "must be true or false (got 1)"),
        ('{"permissions": {}, "permissions": {}}', "f:1:21: the key 'permissions' stands here twice"),
        ('{"permissions": {"allow": ["\\ud800"]}}', "f:1:28: holds half a character"),
        ('{"permissions": {"allow": ["a\nb"]}}', "f:1:28: is no text on one line"),
        ('{"permissions": {"allow": ["\\x"]}}', "f:1:28: is no text in double quotes"),
        ('{"permissions" {}}', "f:1:16: ':' is expected"),
        ('{"permissions": {}} x', "f:1:21: something stands behind the end"),
        ("{'permissions': {}}", "f:1:2: a key in"),
        ('{"permissions": ', "f:1:17: ends too early"),
        ('{"permissions": nul}', "f:1:17: a value is expected (got 'nul}')"),
        ('{"permissions": ' + "[" * 200_000, "is nested more than 32 levels deep"),
        ('{"permissions": 1e99999}', "f:1:23: ',' is expected"),
        ("/*" + "x" * 200_000, "f:1:1: a value is expected"),
        ("[]", "f:1:1: must be a mapping"),
    ],
)
def test_what_is_wrong_in_a_settings_file_is_told_with_its_place(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)):
        convert(text, "f", "claude")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"permission": {"bash": "yes"}}', "f:1:25: permission.bash: there is no 'yes'"),
        ('{"permission": {"bash": {"git *": 3}}}', "permission.bash.'git *': there is no 3"),
        ('{"permission": 3}', "permission: there is no 3; the words here are allow, ask, deny"),
        ('{"permission": {"external_directory": "no"}}', "there is no 'no'"),
        ("[]", "f:1:1: must be a mapping"),
    ],
)
def test_what_is_wrong_in_opencodes_permissions_is_told_with_its_place(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)):
        convert(text, "f", "opencode")


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_as_a_rule_gives_a_policy_that_loads(text: str) -> None:
    for rule in (text, f"Bash({text})", f"Read({text})", f"WebFetch(domain:{text})"):
        for verdict in ("allow", "deny"):
            try:
                imported = of_claude({"permissions": {verdict: [rule]}})
            except ConfigError:
                continue
            assert_loads(imported)


@given(st.dictionaries(st.text(max_size=20), WORD, max_size=3))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_as_a_pattern_gives_a_policy_that_loads(patterns: dict[str, str]) -> None:
    try:
        imported = of_opencode({key: patterns for key in ("bash", "read", "webfetch")})
    except ConfigError:
        return
    assert_loads(imported)


def assert_loads(imported: Imported) -> None:
    policy = loaded(imported)
    assert [str(rule) for rule in policy.allow] == list(imported.policy.allow)
    assert [str(rule) for rule in policy.deny] == list(imported.policy.deny)
