"""The checks: run on what came out, in fresh sandboxes of their own; the verdict is their exit status, looked at twice.

proven = prove_on_base(site)                                # before the agent: they fail, or pass, where they should
ran = run_checks(site, taken, round, proven=proven)         # on the work; docs/checks.md says what they see of it
message = feedback([check for check in ran if not passed(check)])
"""

from __future__ import annotations

from runner.checks.running import NOTHING_PROVEN, Proven, feedback, prove_on_base, run_checks
from runner.result.evidence import check_passed as passed

__all__ = ["NOTHING_PROVEN", "Proven", "feedback", "passed", "prove_on_base", "run_checks"]
