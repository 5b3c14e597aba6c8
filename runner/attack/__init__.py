"""A red team for one policy on one engine: what hostile code could try, tried, and a card that names every hole.

    card = attack(engine, policy, image="base")
    card.held, card.leaking, card.findings

Everything runs where an agent's commands run: in a container opened by the policy, as the job's user, under the grants,
behind the gateway. What is tried inside is in `inside/`, as plain as it is hostile, and bounded so that a hole costs
this machine nothing.
"""

from __future__ import annotations

from runner.attack.findings import CATEGORIES, Category, Finding, Scorecard
from runner.attack.red_team import attack

__all__ = ["CATEGORIES", "Category", "Finding", "Scorecard", "attack"]
