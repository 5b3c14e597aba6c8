"""The repository in and out of a sandbox. Host git never runs over anything that a container could write.

source = locate(task.repo, folder=task_folder)                       # what and from where: base is pinned
check_branch(source, branch)                                         # before anything costs money
with open_quarantine(source, folder=job_folder) as quarantine:       # a private repository: base's history, no more
    put(quarantine, sandbox, branch=branch, author=author)           # into /workspace/repo
    left = ignore_untracked(sandbox)                                 # after setup: what it left is not work
    ...                                                              # the agent works
    taken = take(quarantine, sandbox, author=author, message=message, trailers=trailers, ignored=left)
    commit = restore_protected(quarantine, taken, globs)             # for the checks
    put(quarantine, checks_sandbox, branch=branch, author=author, commit=commit)
    delivered = deliver(quarantine, taken, branch, folder=job_folder)
"""

from __future__ import annotations

from runner.repo.deliver import Delivered, check_branch, deliver
from runner.repo.protect import changed_protected, restore_protected
from runner.repo.put import ignore_untracked, put
from runner.repo.quarantine import Quarantine, open_quarantine
from runner.repo.source import Source, locate
from runner.repo.take import TakeLimits, Taken, take

__all__ = [
    "Delivered",
    "Quarantine",
    "Source",
    "TakeLimits",
    "Taken",
    "changed_protected",
    "check_branch",
    "deliver",
    "ignore_untracked",
    "locate",
    "open_quarantine",
    "put",
    "restore_protected",
    "take",
]
