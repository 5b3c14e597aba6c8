"""claw-runner: a task and a policy in; a branch, a result, the cost and the transcript out."""

__version__ = "0.1.0"
