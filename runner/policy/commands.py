"""Judge a shell command: every simple command in it, what each of them may start, and the files they are redirected to.

What a rule denies or asks about is sought broadly (started.py); what a rule allows must be certain (allowing.py).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace

from runner.document.words import shown
from runner.policy.allowing import Missing, allowing
from runner.policy.command_pattern import CommandPattern
from runner.policy.files import decide_path
from runner.policy.rules import Rule, parse_rule
from runner.policy.schema import Policy
from runner.policy.shell import Redirection, SimpleCommand, Unclear, commands_of
from runner.policy.simple import Folders
from runner.policy.started import Undecidable, script_given, scripts_in, started
from runner.policy.verdicts import Call, Decision, about, allowed_by, ask, asked_by, denied_by, no, yes

Commands = tuple[SimpleCommand, ...] | Unclear
_DEEPEST = 5


def decide_command(policy: Policy, call: Call) -> Decision:
    """Whether a shell may be given the command that is the call's subject."""
    if whole := _whole(about(policy.deny, "Bash")):
        return denied_by(whole)
    commands = commands_of(call.subject, call.cwd)
    if denied := _denied(policy, commands):
        return denied
    decisions = [_parts(policy, commands), *_files(policy, commands)]
    refused = [decision for decision in decisions if decision.verdict != "allow"]
    if any(decision.verdict == "deny" for decision in refused):
        return _strictest(refused)
    if asked := _asked(policy, commands):
        return asked
    return _strictest(refused) if refused else _together(decisions)


def _strictest(refused: Sequence[Decision]) -> Decision:
    """The one to tell, with a rule that would allow all of it, where there is one."""
    told = min(refused, key=lambda decision: (decision.verdict != "deny", decision.rule is None))
    suggestions = {None if decision.rule else decision.suggestion for decision in refused}
    return told if len(suggestions) == 1 else replace(told, suggestion=None)


def _whole(rules: Sequence[Rule]) -> Rule | None:
    """The rule that speaks of every command."""
    return next((rule for rule in rules if rule.pattern is None), None)


def _together(decisions: Sequence[Decision]) -> Decision:
    """All of them allow; by which rules."""
    by = [decision for decision in decisions if decision.rule]
    if not by:
        return decisions[0]
    rules = ", ".join(dict.fromkeys(decision.rule or "" for decision in by))
    places = ", ".join(dict.fromkeys(decision.where for decision in by if decision.where))
    return Decision(verdict="allow", rule=rules, where=places or None, reason=f"allowed by {rules}")


# --- rules that deny or ask


def _denied(policy: Policy, commands: Commands) -> Decision | None:
    try:
        found = _caught(about(policy.deny, "Bash"), commands)
    except Undecidable as error:
        return no(_not_judged(str(error)))
    if found is None:
        return None
    rule, part = found
    return replace(denied_by(rule), reason=f"the policy denies {part} by the rule {rule}")


def _asked(policy: Policy, commands: Commands) -> Decision | None:
    rules = about(policy.ask, "Bash")
    if whole := _whole(rules):
        return asked_by(whole)
    try:
        found = _caught(rules, commands)
    except Undecidable as error:
        return ask(_not_judged(str(error)))
    if found is None:
        return None
    rule, part = found
    return replace(asked_by(rule), reason=f"by the rule {rule} a person is asked about {part}")


def _not_judged(has: str) -> str:
    return f"the command has {has}, which this policy cannot judge; use plain commands"


def _caught(rules: Sequence[Rule], commands: Commands) -> tuple[Rule, str] | None:
    """A rule that may speak of any part, also behind `env`, `timeout`, `sh -c` …, and that part. Raises Undecidable."""
    patterns = [(rule, rule.pattern) for rule in rules if isinstance(rule.pattern, CommandPattern)]
    if not patterns:
        return None
    if isinstance(commands, Unclear):
        raise Undecidable(commands.reason)
    for command in commands:
        for words in started(command.words, command.input):
            if rule := next((rule for rule, pattern in patterns if pattern.catches(words)), None):
                return rule, "it" if len(commands) == 1 else shown(" ".join(word.text for word in words))
    return None


# --- rules that allow


def _parts(policy: Policy, commands: Commands) -> Decision:
    """Whether all that the command starts is allowed."""
    allow = about((*policy.allow, *policy.ask), "Bash")  # what is asked about needs no other rule
    if whole := _whole(allow):
        return allowed_by([whole])
    if policy.mode == "blacklist":
        if isinstance(commands, Unclear):
            reason = f"no rule denies it; it has {commands.reason}, so it was not judged"
            return replace(yes(reason), unjudged=True)
        return yes("no rule denies it")
    refused = ask if policy.mode == "interactive" else no
    if isinstance(commands, Unclear):
        return refused(_not_judged(commands.reason))
    found = [allowing(allow, command) for command in commands]
    missing = [one for one in found if isinstance(one, Missing)]
    if policy.mode == "whitelist" and not allow:
        return no("the policy allows no commands", _suggested(allow, commands, missing))
    if missing:
        return refused(missing[0].reason, _suggested(allow, commands, missing))
    return allowed_by([rule for rules in found if not isinstance(rules, Missing) for rule in rules])


def _suggested(allow: Sequence[Rule], commands: Sequence[SimpleCommand], missing: Sequence[Missing]) -> str | None:
    """The one rule with which all would be allowed."""
    suggestions = {one.suggestion for one in missing}
    suggestion = suggestions.pop() if len(suggestions) == 1 else None
    if suggestion is None:
        return None
    rules = (*allow, parse_rule(suggestion))
    return None if any(isinstance(allowing(rules, command), Missing) for command in commands) else suggestion


# --- redirections


def _files(policy: Policy, commands: Commands) -> Iterator[Decision]:
    """What the path rules say of the files that commands are redirected to."""
    if isinstance(commands, Unclear):
        return
    anything = _whole(about((*policy.allow, *policy.ask), "Bash"))
    for command in _with_inner(commands):
        for redirection in command.files:
            decision = _redirected(policy, redirection, command.cwds)
            if not anything or decision.rule:
                yield decision


def _with_inner(commands: Sequence[SimpleCommand], depth: int = 0) -> Iterator[SimpleCommand]:
    """The commands, and those in scripts that they are given."""
    for command in commands:
        yield command
        moved = any(word.text.startswith(("-C", "--chdir", "-execdir")) for word in command.words)
        cwds = None if moved or command.cwds is None or len(command.cwds) > 1 else command.cwds
        scripts = (*scripts_in(command.program), *script_given(command.program, command.input))
        for script in scripts if depth < _DEEPEST else ():
            inner = commands_of(script, next(iter(cwds), None) if cwds else None)
            yield from () if isinstance(inner, Unclear) else _with_inner(inner, depth + 1)


def _redirected(policy: Policy, redirection: Redirection, cwds: Folders) -> Decision:
    tool = "Read" if redirection.access == "read" else "Write"
    paths = _paths(redirection, cwds)
    if paths is None:
        return _unknown_file(policy, tool, redirection)
    decisions = [decide_path(policy, Call(tool=tool, subject=path)) for path in paths]
    decision = min(decisions, key=lambda decision: ("deny", "ask", "allow").index(decision.verdict))
    if decision.verdict == "allow":
        return _together(decisions)
    return replace(decision, reason=f"of the redirection {shown(str(redirection))}: {decision.reason}")


def _paths(redirection: Redirection, cwds: Folders) -> tuple[str, ...] | None:
    """All files that it may be."""
    target = redirection.target
    texts = (target.text,) if target.kind == "literal" else target.values
    if not texts or (cwds is None and not all(text.startswith("/") for text in texts)):
        return None
    return tuple(posixpath.join(cwd, text) for cwd in cwds or ("/",) for text in texts)


def _unknown_file(policy: Policy, tool: str, redirection: Redirection) -> Decision:
    """What rules about every file say, and what a rule about some files may say."""
    reason = f"the file of the redirection {shown(str(redirection))} is not known before it runs; write its path"
    deny, asking, allow = (about(rules, tool) for rules in (policy.deny, policy.ask, policy.allow))
    if deny:
        return replace(denied_by(deny[0]), reason=reason)
    if policy.mode == "whitelist" and not _whole((*allow, *asking)):
        return no(reason)
    if asking:
        return replace(asked_by(asking[0]), reason=reason)
    if whole := _whole(allow):
        return allowed_by([whole])
    return yes("no rule denies it") if policy.mode == "blacklist" else ask(reason)
