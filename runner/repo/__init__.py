"""The repository in and out of a sandbox. Host git never runs over anything that a container could write.

source = locate(task.repo, folder=task_folder)                       # what and from where: base is pinned
check_branch(source, branch)                                         # before anything costs money
with open_quarantine(source, folder=job_folder) as quarantine:       # a private repository: base's history, no more
    hidden = hide(quarantine, policy)                                # what no tool or command may read
    put(quarantine, sandbox, branch=branch, author=author, hidden=hidden)  # into /workspace/repo, the rest
    left = ignore_untracked(sandbox)                                 # after setup: what it left is not work
    ...                                                              # the agent works
    taken = take(quarantine, sandbox, author=author, message=message, trailers=trailers, ignored=left, hidden=hidden)
    violations = judge_changes(quarantine, taken, policy)            # one is enough: then there is no branch
    commit = restore_protected(quarantine, taken, globs)             # for the checks
    put(quarantine, checks_sandbox, branch=branch, author=author, commit=commit, hidden=hidden)
    delivered = deliver(quarantine, taken, branch, folder=job_folder)
"""

from __future__ import annotations

from runner.repo.deliver import Delivered, check_branch, deliver
from runner.repo.gate import judge_changes
from runner.repo.hide import NOTHING_HIDDEN, Hidden, brought_in, hide
from runner.repo.protect import changed_protected, restore_protected
from runner.repo.put import go_on, ignore_untracked, put, put_base, settle, untracked
from runner.repo.quarantine import Quarantine, open_quarantine, remove_bases
from runner.repo.source import Source, locate, own_files
from runner.repo.take import TakeLimits, Taken, take

__all__ = [
    "NOTHING_HIDDEN",
    "Delivered",
    "Hidden",
    "Quarantine",
    "Source",
    "TakeLimits",
    "Taken",
    "brought_in",
    "changed_protected",
    "check_branch",
    "deliver",
    "go_on",
    "hide",
    "ignore_untracked",
    "judge_changes",
    "locate",
    "open_quarantine",
    "own_files",
    "put",
    "put_base",
    "remove_bases",
    "restore_protected",
    "settle",
    "take",
    "untracked",
]
