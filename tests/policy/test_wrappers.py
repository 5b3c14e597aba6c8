"""What a wrapper starts for certain: all that a rule which allows may see."""

from __future__ import annotations

import pytest

from runner.policy.shell import SimpleCommand, Unclear, simple_commands
from runner.policy.wrappers import seen_through


def _command(text: str) -> SimpleCommand:
    commands = simple_commands(text)
    assert not isinstance(commands, Unclear), commands
    return commands[-1]


@pytest.mark.parametrize(
    ("command", "starts"),
    [
        ("timeout 60 pytest -q", ["pytest -q"]),
        ("timeout -k 5 --signal=KILL 2m pytest", ["pytest"]),
        ("env pytest", ["pytest"]),
        ("env -i -u A --unset=B C=1 D= pytest -q", ["pytest -q"]),
        ("nice -n 5 make test", ["make test"]),
        ("nice -5 make", ["make"]),
        ("nohup make", ["make"]),
        ("time -p make", ["make"]),
        ("command ls", ["ls"]),
        ("stdbuf -oL -e 0 a", ["a"]),
        ("setsid -w a", ["a"]),
        ("sudo -n -u root a", ["a"]),
        ("xargs grep x", ["grep x …"]),
        ("xargs -0 -n 1 -P4 grep x", ["grep x …"]),
        ("xargs -I{} cp {} d/{}", ["cp {} d/{}"]),
        ("find . -name x -exec grep x {} \\;", ["grep x {}"]),
        ("find a b -exec wc {} + -exec ls {} ';'", ["wc {}", "ls {}"]),
        ("sh -c 'a && b'", ["a", "b"]),
        ("bash -euo pipefail -c 'a' x y", ["a"]),
        ("bash -lc a", ["a"]),
        ("sh <<'E'\na\nb\nE", ["a", "b"]),
        ("git -C src --no-pager status", ["git status"]),
        ("git -c color.ui=never -c user.name=x commit", ["git commit"]),
        ("env timeout 5 ls", ["timeout 5 ls"]),
    ],
)
def test_a_wrapper_is_seen_through(command: str, starts: list[str]) -> None:
    found = seen_through(_command(command))
    assert found is not None
    assert [str(inside) for inside in found.starts] == starts


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "timeout",
        "timeout 5",
        "timeout x ls",
        "timeout --unknown 5 ls",
        "timeout -s $x 5 ls",
        "timeout $x ls",
        "env",
        "env -S 'ls a'",
        "env -C /tmp ls",
        "env PATH=/tmp ls",
        "env LD_PRELOAD=x ls",
        "nice --unknown ls",
        "time -o f ls",
        "xargs",
        "xargs -a f ls",
        "exec -a x ls",
        "sudo -i ls",
        "watch ls",
        "strace ls",
        "find . -name x",
        "sh",
        "sh x.sh",
        'sh -c "$x"',
        "sh -i -c ls",
        "bash --rcfile x -c ls",
        "sh -c 'coproc a'",
        "git status",
        "git -c core.pager=x log",
        "git -c alias.a=b a",
        "git -C /tmp status",
        "git -C .. status",
        'git -C "$x" status',
        "git --git-dir=x status",
    ],
)
def test_what_is_not_certain_is_not_seen_through(command: str) -> None:
    assert seen_through(_command(command)) is None


def test_what_find_and_xargs_put_in_is_not_known() -> None:
    found = seen_through(_command("find src -exec a {} \\;"))
    assert found is not None
    assert (found.starts[0].words[1].kind, found.starts[0].words[1].prefix) == ("unknown", "src")
    found = seen_through(_command("xargs a"))
    assert found is not None
    assert found.starts[0].words[-1].splits


def test_find_and_sudo_need_a_rule_themselves() -> None:
    found = seen_through(_command("find . -name x -exec a {} \\; -print"))
    assert found is not None
    assert str(found.own) == "find . -name x -print"
    found = seen_through(_command("sudo -n a"))
    assert found is not None
    assert str(found.own) == "sudo"
    found = seen_through(_command("nice a"))
    assert found is not None
    assert found.own is None
