"""The gate, and a person at it: may what came out of the sandbox become a branch?"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Sequence

from runner.approvals.asked import ask
from runner.approvals.base import Approver, Ask
from runner.policy import Policy
from runner.policy.contain import may_write
from runner.policy.paths import REPO
from runner.repo import Quarantine, Taken, judge_changes
from runner.transcript import AnyEvent, ApprovalAsked, GateRan, ToolDecided, of_kind

_MOST_NAMED = 20
_WRITTEN = re.compile(r"(?:Edit|Write)\((.*)\)", re.DOTALL)


def admit(
    quarantine: Quarantine,
    taken: Taken,
    policy: Policy,
    *,
    job: str,
    events: Sequence[AnyEvent],
    approver: Approver,
    record: Callable[[AnyEvent], None],
    secrets: Sequence[str] = (),
    mask: Callable[[str], str] = str,
    own_files: Collection[str] = (),
) -> GateRan:
    """The gate's verdict on a diff, recorded.

    A person is asked, once for all of them, about changed paths that only a person may allow and that nobody has
    allowed yet in the job (`events`); commands change files without asking for each.
    """
    approved = _approved(events)
    changed = [f"{REPO}/{path}" for path in taken.changed]
    asked = [path for path in changed if path not in approved and may_write(policy, path).verdict == "ask"]
    if asked and _granted(asked, _what(quarantine, taken), policy, job, events, approver, record, mask):
        approved |= set(asked)
    started = time.monotonic()
    violations = judge_changes(quarantine, taken, policy, approved=approved, secrets=secrets, own_files=own_files)
    ran = GateRan(violations=violations, seconds=time.monotonic() - started)
    record(ran)
    return ran


def _approved(events: Sequence[AnyEvent]) -> set[str]:
    """Absolute paths that a person let the file tools change."""
    decided = (event for event in of_kind(events, ToolDecided) if event.allowed and event.approval is not None)
    found = (_WRITTEN.fullmatch(subject) for event in decided for subject in event.subjects)
    return {match[1] for match in found if match}


def _what(quarantine: Quarantine, taken: Taken) -> str:
    """All of the work in a few letters, so that a yes to it is no yes to other work on the same paths."""
    assert taken.commit is not None
    return json.dumps({"tree": quarantine.tree(taken.commit)})


def _granted(
    paths: Sequence[str],
    what: str,
    policy: Policy,
    job: str,
    events: Sequence[AnyEvent],
    approver: Approver,
    record: Callable[[AnyEvent], None],
    mask: Callable[[str], str],
) -> bool:
    first = may_write(policy, paths[0])
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    question = Ask(
        id=f"{job}/{len(of_kind(events, ApprovalAsked)) + 1}",
        call=mask(", ".join(f"Edit({path.removeprefix(f'{REPO}/')})" for path in paths[:_MOST_NAMED]) + more),
        reason=mask(f"the diff changes what a person has to allow: {first.reason}"),
        rule=first.rule,
        where=first.where,
        # Masked, a rule would be another rule.
        suggestion=first.suggestion if mask(first.suggestion or "") == (first.suggestion or "") else None,
        input=what,
        seconds=policy.approval_timeout,
    )
    return ask(approver, question, turn=0, record=record).allowed
