"""Judge one tool call: deny beats allow beats the mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.document.words import shown
from runner.policy.paths import PathPattern
from runner.policy.rules import TOOLS, CommandPattern, Rule
from runner.policy.schema import Policy
from runner.policy.shell import SimpleCommand, Unclear, Word, simple_commands
from runner.policy.wrappers import Undecidable, started


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One thing a tool call would do, in the policy's words."""

    tool: str
    """Canonical tool name."""
    subject: str
    """A shell command for Bash, an absolute path for the file tools, "" where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What was decided, by which rule (as written), where that rule stands (file:line), and why, in a sentence."""

    allowed: bool
    rule: str | None
    where: str | None
    reason: str


def decide(policy: Policy, call: Call) -> Decision:
    """Whether the call may be made. For a denied one the reason tells the model what would be needed."""
    if call.tool not in TOOLS:
        return _no(f"{shown(call.tool)} is not a tool that this policy speaks of")
    for rule in _about(policy.deny, call.tool):
        if _blanket(rule) or (isinstance(rule.pattern, PathPattern) and _catches_path(rule.pattern, call)):
            return _denied(rule)
    if call.tool == "Bash":
        return _decide_command(policy, call.subject)
    for rule in _about(policy.allow, call.tool):
        if _allows(rule, call):
            return _allowed([rule])
    if policy.mode == "blacklist":
        return _yes("no rule denies it")
    return _no(_not_allowed(policy, call))


def can_ever_allow(policy: Policy, tool: str) -> bool:
    """False for a tool whose every call would be denied: it need not be offered to the model."""
    if tool not in TOOLS or any(_blanket(rule) for rule in _about(policy.deny, tool)):
        return False
    return policy.mode == "blacklist" or any(True for _ in _about(policy.allow, tool))


def _about(rules: Iterable[Rule], tool: str) -> list[Rule]:
    return [rule for rule in rules if tool in rule.tools]


def _blanket(rule: Rule) -> bool:
    return rule.pattern is None


# --- Paths, and tools without a subject ---


def _catches_path(pattern: PathPattern, call: Call) -> bool:
    return pattern.covers(call.subject) or (call.tool in ("Glob", "Grep") and pattern.covers_all_in(call.subject))


def _allows(rule: Rule, call: Call) -> bool:
    """Whether an allow rule covers the call. Whoever may use Bash may read and stop what it started."""
    return not isinstance(rule.pattern, PathPattern) or _catches_path(rule.pattern, call)


def _not_allowed(policy: Policy, call: Call) -> str:
    rules = [str(rule) for rule in _about(policy.allow, call.tool)]
    subject = f"{call.tool} of {shown(call.subject)}" if call.subject else call.tool
    known = f"allowed are: {_some(rules)}" if rules else "the policy allows none of that"
    return f"no rule allows {subject}; {known}"


def _some(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - 40} more" if len(distinct) > 40 else ""
    return ", ".join(distinct[:40]) + more


# --- Commands ---


def _decide_command(policy: Policy, command: str) -> Decision:
    deny = [rule for rule in _about(policy.deny, "Bash") if isinstance(rule.pattern, CommandPattern)]
    allow = _about(policy.allow, "Bash")
    anything = next((rule for rule in allow if _blanket(rule)), None)
    commands = simple_commands(command)
    if deny and (decision := _denied_command(deny, commands)):
        return decision
    if anything:
        return _allowed([anything])
    if policy.mode == "blacklist":
        return _yes("no rule denies it")
    if not allow:
        return _no("the policy allows no commands")
    if isinstance(commands, Unclear):
        return _no(f"the command has {commands.reason}, which this policy cannot judge; use plain commands")
    rules = [_allowing(allow, simple) for simple in commands]
    if refused := next((reason for reason in rules if isinstance(reason, str)), None):
        return _no(refused)
    return _allowed([rule for rule in rules if isinstance(rule, Rule)])


def _denied_command(deny: list[Rule], commands: tuple[SimpleCommand, ...] | Unclear) -> Decision | None:
    """Denied when any part may match, also behind `env`, `timeout`, `sh -c` …, or when that cannot be known."""
    if isinstance(commands, Unclear):
        return _no(f"the command has {commands.reason}, which this policy cannot judge; use plain commands")
    try:
        for command in commands:
            for words in started(command.words):
                if rule := next((rule for rule in deny if _catches(rule, words)), None):
                    return _denied(rule)
    except Undecidable as error:
        return _no(f"the command has {error}, which this policy cannot judge; use plain commands")
    return None


def _catches(rule: Rule, words: Sequence[Word]) -> bool:
    return isinstance(rule.pattern, CommandPattern) and rule.pattern.catches(words)


def _allowing(allow: list[Rule], command: SimpleCommand) -> Rule | str:
    """The rule that allows one simple command, or why none does."""
    if command.files:
        return f"redirections to files ({command.files[0]}) are not allowed; use the Write or Edit tool"
    risk: str | None = None
    for rule in allow:
        if not isinstance(rule.pattern, CommandPattern) or not rule.pattern.allows(command):
            continue
        risk = rule.pattern.risky_option(command)
        if risk is None:
            return rule
    if risk is not None:
        return (
            f"with {shown(risk)} {command.words[0].text} may write files or run other programs, "
            f"so a rule must name that word to allow {shown(str(command))}"
        )
    return f"no rule allows {shown(str(command))}; {_needed(allow, command)}"


def _needed(allow: list[Rule], command: SimpleCommand) -> str:
    """Which rule would allow a command, and what the policy has instead."""
    words = [word.text for word in command.words[:2] if word.kind == "literal" and not word.text.startswith("-")]
    known = [(rule.pattern.words[0], str(rule)) for rule in allow if isinstance(rule.pattern, CommandPattern)]
    same = [text for program, text in known if words and program == words[0]]
    allowed = f"of {words[0]} it has {_some(same)}" if same else f"it allows {_some([program for program, _ in known])}"
    return f"the policy would need a rule such as Bash({' '.join(words)}:*); {allowed}"


# --- Decisions ---


def _yes(reason: str) -> Decision:
    return Decision(allowed=True, rule=None, where=None, reason=reason)


def _no(reason: str) -> Decision:
    return Decision(allowed=False, rule=None, where=None, reason=reason)


def _denied(rule: Rule) -> Decision:
    return Decision(allowed=False, rule=rule.text, where=rule.where, reason=f"the policy denies it by the rule {rule}")


def _allowed(rules: list[Rule]) -> Decision:
    """By these rules, each of which allows a part."""
    texts = list(dict.fromkeys(rule.text for rule in rules))
    places = list(dict.fromkeys(rule.where for rule in rules if rule.where))
    rule = ", ".join(texts)
    reason = f"allowed by {rule}" if rule else "it does nothing"
    return Decision(allowed=True, rule=rule or None, where=", ".join(places) or None, reason=reason)
