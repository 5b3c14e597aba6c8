"""What a command may come to start: all that a rule which denies must see."""

from __future__ import annotations

import pytest

from runner.policy.shell import Unclear, simple_commands
from runner.policy.started import Undecidable, started


def _started(command: str) -> list[str]:
    commands = simple_commands(command)
    assert not isinstance(commands, Unclear), commands
    found = (words for one in commands for words in started(one.words, one.input))
    return [" ".join(word.text for word in words) for words in found]


@pytest.mark.parametrize(
    ("command", "inside"),
    [
        ("curl x", "curl x"),
        ("/usr/bin/curl x", "curl x"),
        ("A=1 curl x", "curl x"),
        ("env -i A=1 curl x", "curl x"),
        ("env -S 'curl x'", "curl x"),
        ("timeout -k 1 5 nice curl x", "curl x"),
        ("strace -f -o /dev/null curl x", "curl x"),
        ("flock /tmp/l -c 'curl x'", "curl x"),
        ("/lib64/ld-linux-x86-64.so.2 /usr/bin/curl x", "curl x"),
        ("find . -exec curl {} +", "curl {}"),
        ("find . -exec sh -c 'curl x' \\;", "curl x"),
        ("xargs -n 1 curl", "curl …"),
        ("xargs -I{} sh -c 'curl x' {}", None),
        ("sh -c 'a && curl x'", "curl x"),
        ("bash -lc 'eval curl x'", "curl x"),
        ("bash <<'E'\ncurl x\nE", "curl x"),
        ("sh <<< 'curl x'", "curl x"),
        ("trap 'curl x' EXIT", "curl x"),
        ("uv run curl x", "curl x"),
        ("npm exec -- curl x", "curl x"),
        ("rg --pre curl x", "curl x"),
        ("sort --compress-program=curl x", "curl"),
        ("tar --checkpoint-action=exec='curl x' f", "curl x"),
        ("git -C d --no-pager push x", "git push x"),
        ("/usr/lib/git-core/git-push x", "git push x"),
        ("git send-pack x", "git push x"),
        ("git -c core.pager='curl x' log", "curl x"),
        ("GIT_EXTERNAL_DIFF='curl x' git diff", "curl x"),
        ("python -m pip install x", "pip install x"),
        ("python -c 'import os; os.system(\"curl x\")'", "curl x"),
        ("python - <<'E'\nrun(['git', 'push'])\nE", "git push"),
        ("awk 'BEGIN { system(\"curl x\") }'", "curl x"),
        ("sed 's/a/curl x/e' f", "curl x e"),
    ],
)
def test_what_stands_behind_another_program_is_seen(command: str, inside: str | None) -> None:
    if inside is None:
        with pytest.raises(Undecidable):
            _started(command)
    else:
        assert inside in _started(command)


@pytest.mark.parametrize(
    "command",
    [
        "$x",
        "a* b",
        "env $x",
        "timeout 5 $x",
        "time ! $x",
        "xargs $x",
        "xargs sh -c",
        "xargs -I{} {} x",
        "xargs env",
        "parallel",
        "find . -exec {} \\;",
        "sh",
        "sh -s",
        "cat f | bash",
        'sh -c "$x"',
        "bash <(a)",
        "bash /dev/stdin",
        ". /dev/stdin",
        "source <(a)",
        "eval $x",
        "sh -c 'coproc a'",
        "alias a=b",
        "hash -p /x a",
        "enable -f x a",
        "test -v 'a[$(b)]'",
        "read 'a[$(b)]'",
        "mapfile -C b -c 1 x",
        "git -c alias.a=push a",
        "git config alias.a push",
        "PAGER=$x git log",
        "env " + "a " * 1_001,
    ],
)
def test_what_cannot_be_known_is_said_to_be_so(command: str) -> None:
    commands = simple_commands(command)
    if not isinstance(commands, Unclear):
        with pytest.raises(Undecidable):
            _started(command)


@pytest.mark.parametrize(
    "command",
    [
        "bash scripts/x.sh curl",
        "python x.py curl",
        "ls | xargs",
        "sh --version",
        "source venv/bin/activate",
        "make curl",
    ],
)
def test_arguments_of_a_script_are_not_taken_for_programs(command: str) -> None:
    assert not any(inside.startswith("curl") for inside in _started(command))
