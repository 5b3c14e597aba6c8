"""Codex's execpolicy: calls of `prefix_rule` in a file that looks like Python. It is parsed, never run."""

from __future__ import annotations

import ast
import itertools
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from runner.document.tree import Document, Mark
from runner.document.words import near, shown
from runner.errors import ConfigError
from runner.policy.dialects.commands import words_rule
from runner.policy.dialects.draft import STRICTNESS, Draft, Imported, Item, Taken
from runner.policy.verdicts import Verdict
from runner.policy.writing import plain

LONGEST = 256 * 1024
MOST_RULES = 1_000
"""Of one call, with the alternatives of its tokens multiplied."""
Decision = Literal["allow", "prompt", "forbidden"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
VERDICTS: dict[Decision, Verdict] = {"allow": "allow", "prompt": "ask", "forbidden": "deny"}
Tokens = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixRule:
    """One call of prefix_rule."""

    pattern: tuple[Tokens, ...]
    """For each token the alternatives."""
    decision: Decision
    justification: str
    match: tuple[Tokens, ...]
    not_match: tuple[Tokens, ...]

    def matches(self, command: Tokens) -> bool:
        return len(command) >= len(self.pattern) and all(
            token in tokens for token, tokens in zip(command, self.pattern, strict=False)
        )


def decided(rules: Iterable[PrefixRule], command: Tokens) -> Decision | None:
    """The strictest of the rules that match; None when none does."""
    found = [rule.decision for rule in rules if rule.matches(command)]
    return max(found, key=DECISIONS.index, default=None)


def convert(text: str, source: str) -> Imported:
    """Raises ConfigError."""
    document = Document(source=source)
    draft = Draft(document)
    rules: dict[int, PrefixRule] = {}
    for number, call in _calls(text, source):
        item = _item(document, number, call)
        if _name(call) != "prefix_rule":
            draft.note("left out", item, "only prefix_rule says something that a policy can")
        elif rule := _rule(draft, item, call):
            rules[number] = rule
            _take(draft, item, rule)
    draft.check()
    for number, rule in rules.items():
        for command in (*rule.match, *rule.not_match):
            _expect(draft, Item(("prefix_rule", number), shlex.join(command)), decided(rules.values(), command))
    return draft.finished()


def _expect(draft: Draft, example: Item, decision: Decision | None) -> None:
    """An example becomes one of ours. What no rule of Codex names is asked about."""
    call, verdict = f"Bash({example.value})", VERDICTS[decision] if decision else "ask"
    ours = draft.decision(call)
    if STRICTNESS[ours] > STRICTNESS[verdict]:
        draft.note("stricter", example, f"is {verdict} there, and {ours} here")
        verdict = ours
    draft.expect(call, verdict)


# --- reading


def _calls(text: str, source: str) -> list[tuple[int, ast.Call]]:
    if len(text) > LONGEST:
        raise ConfigError(f"{source}: is larger than {LONGEST:,} characters")
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        line, what = (error.lineno or 1, error.msg) if isinstance(error, SyntaxError) else (1, str(error))
        raise ConfigError(f"{source}:{line}:1: is not written as rules are: {plain(what)}") from None
    except (RecursionError, MemoryError):
        raise ConfigError(f"{source}:1:1: is nested too deeply") from None
    found: list[tuple[int, ast.Call]] = []
    for statement in statements:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name()) as call):
                found.append((len(found), call))
            case ast.Expr(value=ast.Constant(value=str())):
                pass  # a text that stands for a comment
            case _:
                raise ConfigError(
                    f"{source}:{statement.lineno}:{statement.col_offset + 1}: only calls can be read here, such as "
                    'prefix_rule(pattern=["git", "status"])'
                )
    return found


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _item(document: Document, number: int, call: ast.Call) -> Item:
    document.values[_name(call), number] = Mark(document.source, call.lineno, call.col_offset + 1)
    return Item((_name(call), number), plain(ast.unparse(call))[:200])


def _rule(draft: Draft, item: Item, call: ast.Call) -> PrefixRule | None:
    """None, and complaints, for a call that makes no sense."""
    given: dict[str, Any] = {}
    for keyword in call.keywords:
        try:
            given[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            draft.complain(item, f"{keyword.arg} must be written out, in text and lists")
            return None
    if call.args:
        draft.complain(item, "takes its arguments by name, such as pattern=[…]")
    for name in given.keys() - {"pattern", "decision", "justification", "match", "not_match"}:
        meant = near(name, ("pattern", "decision", "justification", "match", "not_match"))
        draft.complain(item, f"there is no argument {shown(name)}{f'; did you mean {meant!r}?' if meant else ''}")
    decision = given.get("decision", "allow")
    if not draft.is_word(Item(item.path, decision), DECISIONS):
        return None
    pattern = [_alternatives(token) for token in _listed(given.get("pattern")) or [None]]
    examples = {key: [_command(command) for command in _listed(given.get(key, []))] for key in ("match", "not_match")}
    if not all(pattern) or not all(command for commands in examples.values() for command in commands):
        draft.complain(item, "pattern is a list of words, or of lists of words; examples are commands")
        return None
    rule = PrefixRule(
        pattern=tuple(tokens for tokens in pattern if tokens),
        decision=decision,
        justification=str(given.get("justification") or ""),
        match=tuple(command for command in examples["match"] if command),
        not_match=tuple(command for command in examples["not_match"] if command),
    )
    _check_examples(draft, item, rule)
    return rule


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [None]


def _alternatives(token: object) -> Tokens | None:
    tokens = [token] if isinstance(token, str) else token
    if isinstance(tokens, list) and tokens and all(isinstance(word, str) and word for word in tokens):
        return tuple(tokens)
    return None


def _command(command: object) -> Tokens | None:
    """An example, as text or as a list of words."""
    if isinstance(command, str):
        try:
            return tuple(shlex.split(command)) or None
        except ValueError:
            return None
    return _alternatives(command) if isinstance(command, list) else None


def _check_examples(draft: Draft, item: Item, rule: PrefixRule) -> None:
    for command in rule.match:
        if not rule.matches(command):
            draft.complain(item, f"match: the rule does not match {shown(shlex.join(command))}")
    for command in rule.not_match:
        if rule.matches(command):
            draft.complain(item, f"not_match: the rule matches {shown(shlex.join(command))}")


# --- writing


def _take(draft: Draft, item: Item, rule: PrefixRule) -> None:
    verdict = VERDICTS[rule.decision]
    count = 1
    for tokens in rule.pattern:
        count *= len(tokens)
    if count > MOST_RULES:
        draft.complain(item, f"stands for {count:,} commands; more than {MOST_RULES:,} are not taken over")
        return
    comment = rule.justification or f"for {item.value}"
    taken: Taken = "exactly"
    reasons = []
    for words in itertools.product(*rule.pattern):
        text, why = _rule_for(verdict, words)
        if text:
            draft.add(verdict, text, comment)
        if why:
            reasons.append(why)
            taken = "stricter"
    draft.note(taken, item, "; ".join(dict.fromkeys(reasons)))


def _rule_for(verdict: Verdict, words: Tokens) -> tuple[str, str]:
    """The rule for one row of tokens, and in what it is stricter."""
    starred = next((word for word in words if "*" in word), None)
    if starred and verdict == "allow":
        return "", f"{shown(starred)} would be a pattern here, so that this is not allowed"
    try:
        return words_rule((*words, "*")), f"the * in {shown(starred)} is any text here" if starred else ""
    except ValueError as error:
        return ("", f"not allowed: {error}") if verdict == "allow" else ("Bash", f"stands for all commands: {error}")
