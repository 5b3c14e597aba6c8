"""Options that start programs or write files, however they are written; and variables that do the like."""

from __future__ import annotations

import pytest

from runner.policy.options import risky_option
from runner.policy.shell import SimpleCommand, Unclear, simple_commands
from runner.policy.variables import is_harmless, is_harmless_name, is_search_path


def _command(text: str) -> SimpleCommand:
    commands = simple_commands(text)
    assert not isinstance(commands, Unclear), commands
    return commands[-1]


def _risk(command: str, *named: str) -> str | None:
    return risky_option(_command(command).program, lambda text: text in named)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("find . -delete", "-delete"),
        ("sort -uo out in", "-uo"),
        ("sort --outp=x in", "--outp=x"),
        ("rg --pre x y", "--pre"),
        ("rg x $y", "$y"),
        ('rg x "$y"', "$y"),
        ("y=-z; rg x $y", "$y"),
        ("rg {a,--pre=x}", "{a,--pre=x}"),
        ("sed -i s/a/b/ f", "-i"),
        ("sed -n -e p -e 'w f'", "w f"),
        ("sed '1e x' f", "1e x"),
        ("sed 's/a/b/w f'", "s/a/b/w f"),
        ("sed --exp='1e x' f", "--exp=1e x"),
        ("awk 'BEGIN { system(\"x\") }'", 'BEGIN { system("x") }'),
        ("awk '{ print > \"f\" }'", '{ print > "f" }'),
        ("awk -f x", "-f"),
        ("git -c a=b log", "-c"),
        ("git log --outp=x", "--outp=x"),
        ("git grep -nO x", "-nO"),
        ("git rebase -x a", "-x"),
        ("git bisect run a", "run"),
        ("git fetch 'ext::a'", "ext::a"),
        ("git log $x", "$x"),
        ('test "$x" "$y"', "$x"),
        ("[ $x = y ]", "$x"),
        ('x=-v; test "$x" a', "$x"),
        ("tar xIf a b", "xIf"),
        ("man -P a b", "-P"),
        ("less '+!a' b", "+!a"),
        ("uniq a b", "b"),
        ("printf -v x y", "-v"),
        ("test -v 'a[$(b)]'", "-v"),
        ("[ a = '$(b)' ]", "$(b)"),
        ("export PATH=x", "PATH=x"),
        ("go test -exec=a", "-exec=a"),
    ],
)
def test_a_risky_word_is_found(command: str, word: str) -> None:
    assert _risk(command) == word


@pytest.mark.parametrize(
    "command",
    [
        "find . -name '*.py' -print",
        "sort -k1,1 -t: f",
        "rg -n x src",
        "rg x -- --pre",
        "y=src; rg x $y",
        'for y in src/*.py; do rg x "$y"; done',
        "rg x $(git rev-parse HEAD)",
        "sed -n '1,5p;/a/,/b/{p;d}' f",
        "sed -E -e 's#(a|b)#[\\1]#g' -e '$!d' f",
        "sed ':a;N;$!ba;s/\\n/ /g' f",
        "sed 'a some text' f",
        "awk -F: -v x=1 '$3 > 5 || x { print $1 \"|\" $2 }' f",
        "git log -STODO -3",
        'git commit -m "$x"',
        'git commit -am "$(cat f)"',
        "git status",
        "tar xzf a.tgz",
        "uniq -c f",
        "printf '%s\\n' -v",
        "[ -f x ]",
        '[ -f "$x" ]',
        '[ "$x" = "$y" ]',
        '[ ! "$x" ]',
        '[ "$x" -gt 1 -a -n "$y" ]',
        "i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i -eq 2 ]; done",
        'git add "$x" && git checkout $y',
        "export FOO=1",
        "ls $x",
    ],
)
def test_everyday_use_is_no_risk(command: str) -> None:
    assert _risk(command) is None


def test_a_rule_that_names_the_word_takes_the_risk() -> None:
    assert _risk("sed -i s/a/b/ f", "-i") is None
    assert _risk("sed -i '1e x' f", "-i") == "1e x"
    assert _risk("find . -delete -exec a ';'", "-delete") == "-exec"


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("FOO", True),
        ("CI", True),
        ("x", True),
        ("LC_ALL", True),
        ("DJANGO_SETTINGS_MODULE", True),
        ("NODE_ENV", True),
        ("PYTHONUNBUFFERED", True),
        ("GIT_AUTHOR_NAME", True),
        ("PATH", False),
        ("NODE_PATH", False),
        ("IFS", False),
        ("ENV", False),
        ("BASH_ENV", False),
        ("LD_PRELOAD", False),
        ("GIT_DIR", False),
        ("PYTHONPATH", False),
        ("PAGER", False),
        ("MAKEFLAGS", False),
        ("NODE_OPTIONS", False),
        ("RUSTC_WRAPPER", False),
        ("npm_config_script_shell", False),
        ("_", False),
    ],
)
def test_variables_that_tell_programs_what_to_do_are_known(name: str, harmless: bool) -> None:
    assert is_harmless_name(name) is harmless


def test_some_values_are_harmless_where_others_are_not() -> None:
    for text, harmless in {
        "PAGER=cat a": True,
        "PAGER=x a": False,
        "PAGER=$x a": False,
        "GIT_EDITOR=true a": True,
        "PYTHONWARNINGS=ignore a": True,
        "PYTHONWARNINGS=all:0:x.y a": False,
    }.items():
        assert is_harmless(_command(text).words[0]) is harmless


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ("src", True),
        (".:src/lib", True),
        ("$PWD/src", True),
        ("/workspace/repo/src:$PYTHONPATH", True),
        ("/tmp", False),
        ("/workspace/repo/../x", False),
        ("src:/tmp", False),
        ("~/x", False),
        ("$x", False),
        ("$(x)", False),
    ],
)
def test_a_search_path_stays_in_the_repository(value: str, inside: bool) -> None:
    assert is_search_path(_command(f"PYTHONPATH={value} pytest").words[0]) is inside
