"""`claw-runner policy check | test | explain`: what a policy amounts to, before anything runs under it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from runner.cli.inputs import policy_file
from runner.cli.policy_layers import layers
from runner.cli.policy_overview import overview, overview_json
from runner.cli.rows import Row, rows_text
from runner.config import Loaded
from runner.errors import EXIT_CODES, ConfigError
from runner.policy import Call, Decision, Policy, decide, load_policy, parse_call
from runner.policy.contain import Uncontained, containment
from runner.policy.schema import PolicyCase
from runner.report.units import plural
from runner.report.visible import one_line, visible_json

PolicyName = Annotated[
    str, typer.Argument(metavar="POLICY", help="a policy file, or readonly, edit, ci or full-offline")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, and nothing else")]


# --- check ---


def check(policy: PolicyName, as_json: AsJson = False) -> int:
    """Validate a policy and print what it amounts to; exit code 2 when it is wrong."""
    path = policy_file(policy)
    try:
        loaded = load_policy(path)
    except ConfigError as error:
        if not as_json:
            raise
        _print_json({"file": str(path), "valid": False, "errors": str(error).splitlines()})
        return error.exit_code
    if as_json:
        _print_json({"file": str(path), **overview_json(loaded)})
    else:
        typer.echo(overview(loaded))
    return 0


# --- test ---


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One example, and what the policy says of it."""

    where: str
    case: PolicyCase
    decision: Decision

    @property
    def passed(self) -> bool:
        return self.decision.verdict == self.case.expect


def test(policy: PolicyName, as_json: AsJson = False) -> int:  # noqa: PT028  it is none of pytest's
    """Try the examples that a policy carries under `tests`; exit code 10 when one is decided otherwise.

    Where a policy extends another one, the last example of a call counts.
    """
    loaded = load_policy(policy_file(policy))
    last = {case.call: index for index, case in enumerate(loaded.value.tests)}
    tried = [_try(loaded, index, loaded.value.tests[index]) for index in sorted(last.values())]
    failed = [item for item in tried if not item.passed]
    if as_json:
        _print_json([_tried_json(item) for item in tried])
    else:
        for item in failed:
            typer.echo(_failure(item))
        typer.echo(_summary(loaded, len(tried), len(failed)))
    return EXIT_CODES["unsolved"] if failed else 0


def _try(policy: Loaded[Policy], index: int, case: PolicyCase) -> Tried:
    where = policy.where(("tests", index)).rpartition(":")[0]
    return Tried(where=where, case=case, decision=decide(policy.value, parse_call(case.call)))


def _failure(item: Tried) -> str:
    decision = item.decision
    rule = f" by {_with_place(decision.rule, decision.where)}" if decision.rule else f": {decision.reason}"
    return one_line(f"{item.where}: {item.case.call}: expected {item.case.expect}, got {decision.verdict}{rule}")


def _summary(policy: Loaded[Policy], count: int, failed: int) -> str:
    name = one_line(str(policy.path))
    if not count:
        return f"{name}: no examples; write some under tests"
    return f"{name}: {failed} of {plural(count, 'example')} failed" if failed else f"{name}: {_passed(count)}"


def _passed(count: int) -> str:
    return "the example passed" if count == 1 else f"all {count} examples passed"


def _tried_json(item: Tried) -> dict[str, Any]:
    return {
        "call": item.case.call,
        "expect": item.case.expect,
        "passed": item.passed,
        "where": item.where,
        "decision": asdict(item.decision),
    }


# --- explain ---


def explain(
    policy: PolicyName,
    call: Annotated[str, typer.Argument(metavar="CALL", help="such as 'Bash(git push)' or 'Edit(src/a.py)'")],
    as_json: AsJson = False,
) -> int:
    """Say how a call is decided, by which rule, what would be needed to allow it, and which layer holds it.

    Paths start at the repository unless they begin with / or ~/.
    """
    loaded = load_policy(policy_file(policy))
    try:
        parsed = parse_call(call)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    decision = decide(loaded.value, parsed)
    if as_json:
        _print_json(
            {
                "call": {"tool": parsed.tool, "subject": parsed.subject, "parameters": dict(parsed.parameters)},
                "decision": asdict(decision),
                "layers": dict(layers(loaded.value, parsed, decision)),
                "uncontained": [asdict(gap) for gap in containment(loaded.value).uncontained],
            }
        )
        return 0
    typer.echo(_explanation(loaded.value, parsed, decision))
    return 0


def _explanation(policy: Policy, call: Call, decision: Decision) -> str:
    head = one_line(f"{call.tool}({call.subject})" if call.subject else call.tool)
    rows: list[Row] = [("decision", decision.verdict), ("rule", _rule(decision)), ("reason", decision.reason)]
    if needed := _needed(decision):
        rows.append(("needed", needed))
    parts = [head, rows_text(rows), "held by", rows_text(layers(policy, call, decision))]
    if gaps := containment(policy).uncontained:
        parts += ["decided but not contained", rows_text(_gap_rows(gaps))]
    return "\n".join(parts)


def _rule(decision: Decision) -> str:
    return _with_place(decision.rule, decision.where) if decision.rule else "none"


def _with_place(rule: str, where: str | None) -> str:
    """With the file and line, seen from here."""
    return f"{rule} ({where.replace(f'{Path.cwd()}/', '')})" if where else rule


def _needed(decision: Decision) -> str | None:
    """What a person would have to write for it to be allowed."""
    match decision.verdict, decision.rule, decision.suggestion:
        case "allow", _, _:
            return None
        case _, _, str(suggestion):
            return f"{suggestion} under allow"
        case verdict, str(rule), _:
            return f"the rule {rule} would have to go: {verdict} beats allow"
    return None


def _gap_rows(gaps: Iterable[Uncontained]) -> Iterator[Row]:
    """The rules, by what is the matter with them."""
    for why, rules in groupby(sorted(gaps, key=lambda gap: gap.why), key=lambda gap: gap.why):
        yield "-", why
        yield from (("", _with_place(gap.rule, gap.where)) for gap in rules)


def _print_json(value: object) -> None:
    typer.echo(visible_json(value))
