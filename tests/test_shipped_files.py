"""Every file in policies/ and tasks/ is valid, does what it says, and refuses what it should."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from runner.cli import main
from runner.config import load
from runner.policy import Call, Policy, Rule, can_ever_allow, decide, load_policy, parse_call, parse_rule
from runner.policy.contain import may_write
from runner.policy.paths import REPO
from runner.repo import guarded
from runner.repo.guarded import always_guarded
from runner.shipped import shipped
from runner.task import Task, preview
from runner.tools import TOOLS

ROOT = Path(__file__).parent.parent
POLICIES = sorted(shipped("policies").glob("*.yaml"))
TASKS = sorted(file for file in shipped("tasks").glob("*.yaml") if not file.stem.endswith(".replies"))


@cache
def _policy(name: str) -> Policy:
    return load_policy(shipped("policies") / f"{name}.yaml").value


def _bash(policy: str, command: str) -> bool:
    return decide(_policy(policy), Call(tool="Bash", subject=command)).allowed


def test_the_promised_files_are_there() -> None:
    assert {"ci", "edit", "full-offline", "readonly"} == {file.stem for file in POLICIES}
    assert {"demo", "fix-bug", "fix-issue", "refactor", "document"} <= {file.stem for file in TASKS}


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.stem)
def test_a_policy_is_valid_a_whitelist_and_commented(file: Path) -> None:
    policy = load_policy(file).value
    assert policy.mode == "whitelist"
    assert policy.tests
    assert file.read_text().startswith(f"# {file.stem}: ")


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.stem)
def test_every_rule_stands_where_it_says(file: Path) -> None:
    policy = load_policy(file).value
    for rule in (*policy.allow, *policy.ask, *policy.deny):
        assert _line(rule).partition(" #")[0].strip() == f"- {rule}"


def _line(rule: Rule) -> str:
    name, _, number = str(rule.where).rpartition(":")
    return Path(name).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("file", TASKS, ids=lambda file: file.stem)
def test_a_task_is_valid_commented_and_its_templates_render(file: Path) -> None:
    task = load(file, Task)
    rendered = preview(task, "job-1")
    assert file.read_text().startswith("# ")
    assert all("{{" not in text and text for text in rendered)
    assert "job-1" in rendered.branch


# What scripted.md has examples of are replies of a model.
DOCUMENTS = [ROOT / "README.md", *sorted(file for file in (ROOT / "docs").glob("*.md") if file.stem != "scripted")]
EXAMPLES = [
    pytest.param(text, id=f"{file.name}-{number}")
    for file in DOCUMENTS
    for number, text in enumerate(re.findall(r"```yaml\n(version: 1\n.*?)```", file.read_text(), re.DOTALL), start=1)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_in_the_documents_is_valid_and_decides_as_it_says(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    example = tmp_path / "example.yaml"
    example.write_text(text)
    assert main(["check", str(example)]) == 0, capsys.readouterr().err
    if "tests:" in text:
        assert main(["policy", "test", str(example)]) == 0, capsys.readouterr().out


def test_there_are_such_examples() -> None:
    files = Counter(str(example.id).rpartition("-")[0] for example in EXAMPLES)
    assert files["README.md"] >= 1
    assert files["policies.md"] >= 3


def _rules_in_the_documents() -> list[str]:
    """What stands in backquotes and looks like a rule."""
    text = (ROOT / "docs" / "policies.md").read_text()
    spans = [span for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    return [span for span in spans if re.fullmatch(r"(?!Tool)(@\w+|[A-Z]\w+)\(.+\)|mcp__\w.*", span)]


@pytest.mark.parametrize("text", _rules_in_the_documents())
def test_a_rule_in_the_documents_is_one(text: str) -> None:
    parse_rule(text)


def test_each_policy_allows_all_that_the_stricter_one_does() -> None:
    names = ("readonly", "edit", "ci")
    for stricter, wider in zip(names, names[1:], strict=False):
        assert {rule.text for rule in _policy(stricter).allow} <= {rule.text for rule in _policy(wider).allow}


def test_the_tools_that_each_policy_offers() -> None:
    offered = {file.stem: {tool for tool in TOOLS if can_ever_allow(_policy(file.stem), tool)} for file in POLICIES}
    assert offered["readonly"] == {"Bash", "BashOutput", "KillBash", "Read", "Glob", "Grep"}
    assert offered["edit"] == offered["ci"] == offered["full-offline"] == offered["readonly"] | {"Edit", "Write"}


def test_full_offline_lets_any_command_run_and_nothing_reach_out() -> None:
    for command in ("curl x | sh", "x=$(y); (eval $x)", "sudo -i", "a <<E\nb", "python3 -c 1 > /etc/x"):
        assert _bash("full-offline", command)
    egress = _policy("full-offline").egress
    assert egress.setup == egress.agent == egress.checks == ()


def test_ci_reaches_package_indexes_while_setting_up_and_nothing_later() -> None:
    egress = _policy("ci").egress
    assert [str(rule) for rule in egress.setup] == ["pypi.org", "files.pythonhosted.org", "registry.npmjs.org"]
    assert egress.agent == egress.checks == ()


LOOKS = [
    "ls -la",
    "ls -la src | head -5",
    "cat README.md",
    "cat a.py b.py | wc -l",
    "head -n 50 src/a.py",
    "tail -n +10 a",
    "sed -n '10,20p' src/a.py",
    "sed -n '/def f/,/^$/p' a.py",
    "sed 's/a/b/g' a.py",
    "sed -n '$p' a",
    "sed -n 5p a",
    "grep -rn 'TODO' src",
    'grep -n "a\\|b" x.py | sort | uniq -c | sort -rn | head',
    "rg -n 'foo\\(' --type py",
    "rg --files | wc -l",
    "find . -name '*.py' -not -path './.git/*'",
    "find src -type f | xargs_free || true",
    "git status --short",
    "git diff HEAD~1 -- src",
    "git log --oneline -20",
    "git log -p -1",
    "git show HEAD:a.py",
    "git blame -L 1,20 a.py",
    "git grep -n foo",
    "git ls-files | head",
    "git rev-parse HEAD",
    "git branch --show-current",
    "pwd",
    "cd src && ls",
    "cd src && grep -rn foo . | head -20",
    'echo "exit: $?"',
    "test -f a && echo yes || echo no",
    "[ -d src ] && ls src",
    "wc -l $(ls)",
    "which python3",
    "command -v rg",
    "du -sh .",
    "stat a",
    "file a",
    "diff a b",
    "cat a 2>/dev/null",
    "ls nothing 2>&1 | head",
    "cat a # the file",
    "for f in *.py; do head -3 $f; done",
    "if [ -f a ]; then cat a; fi",
    "printf '%s\\n' a b",
    "sort -k2 -n a",
    "cut -d: -f1 a | tr a-z A-Z",
    "tree -L 2",
    "cat 'a file.txt'",
    "git diff -- '*.py'",
    "echo 'a && b; c | d > e'",
    "basename a/b",
    '[ -n "$x" ] && echo a',
    "for f in a b; do printf '%s\\n' \"$f\"; done",
    "realpath a",
    "nl -ba a",
    "git -C sub status",
    "git --no-pager log -3",
    "find . -name a -print",
    "sh -c ls",
    "env ls",
    "xargs ls",
    "timeout 5 ls",
    "nohup ls",
    "time ls",
    "exec ls",
    "A=1 ls",
    "export A=1",
    "cat <<< x",
    "echo $((1))",
    "[[ a ]]",
    "cat < /etc/shadow",
    "builtin cd",
]
NOT_LOOKING = {"find src -type f | xargs_free || true"}
"""Of these; nothing is known of the program."""

CHANGES = [
    "rm -rf src",
    "mv a b",
    "cp a b",
    "touch a",
    "mkdir a",
    "chmod +x a",
    "echo x > a",
    "echo x >> a",
    "cat > a",
    "tee a",
    "sed -i s/a/b/ a",
    "sed --in-place s/a/b/ a",
    "sed -ni p a",
    "sed 'w out' a",
    "sed 's/a/b/w out' a",
    "sed '1e id' a",
    "sed 's/a/id/e' a",
    "sed -f script a",
    "find . -delete",
    "find . -exec rm {} ';'",
    "find . -execdir rm {} +",
    "find . -ok rm {} ';'",
    "find . -fprintf out x",
    "sort -o a a",
    "sort --output=a a",
    "sort --outp a a",
    "sort -uoa a",
    "sort --compress-program=sh a",
    "rg --pre sh x",
    "rg --pre=sh x",
    "rg --hostname-bin=sh x",
    "git diff --output=a",
    "git diff --outp=a",
    "git log --output a",
    "git grep -Osh foo",
    "git grep --open-files-in-pager=sh x",
    "git commit -am x",
    "git add a",
    "git checkout .",
    "git reset --hard",
    "git push",
    "git config a b",
    "git branch -D a",
    "git -c core.pager=sh log",
    "git -C /tmp log",
    "git diff --ext-diff",
    "git show --textconv a",
    "tree -o a",
    "uniq a b",
    "date -s 1",
    "file -C -m a",
    "printf -v PATH x",
    "printf -vPATH x",
    "for x in -v; do printf $x PATH y; done",
    "test -v 'a[$(id)]'",
    "[ -v 'a[$(id)]' ]",
    "[ -R a ]",
    "[ $x 'a[`id`]' ]",
    "for x in '-v a[$(id)]'; do [ $x ]; done",
    "for x in --output=a; do git diff $x; done",
    "python3 -c 1",
    "bash",
    "sudo ls",
    "eval ls",
    "PATH=/tmp ls",
    "LD_PRELOAD=./x.so ls",
    "curl x",
    "wget x",
    "nc x 1",
    "ssh x",
    "ls; rm a",
    "ls && rm a",
    "ls | sh",
    "ls || rm a",
    "ls & rm a",
    "ls\nrm a",
    "$(rm a)",
    "ls $(rm a)",
    "ls `rm a`",
    "ls <(rm a)",
    "(rm a)",
    "{ rm a; }",
    "ls() { rm a; }; ls",
    "$x",
    "l$x",
    "l?",
    "ls > $x",
    "cat <<E\n$(rm a)\nE",
    "echo ${x@P}",
    "case a in a) rm b;; esac",
    "for PATH in /tmp; do ls; done",
    "for f in a; do rm $f; done",
    "if ls; then rm a; fi",
    "while ls; do rm a; done",
    "find $x",
    "find *",
    "git diff *",
    "git diff {--output=a,}",
    "sort $x",
    "git log -- a; rm a",
    "./ls",
    "/tmp/ls",
    "..",
    "ls\rrm a",
    "ls\u200b",
    "alias ls=rm",
    "trap 'rm a' EXIT",
    "source a",
    ". a",
    "jobs; rm a",
    "ls &> out",
    "ls >& out",
    "ls 2> out",
    "ls >| out",
    "ls &>/dev/null rm a",
    "command rm a",
    "command -v ls; rm a",
    "awk 'BEGIN{system(\"id\")}'",
    "perl -e 1",
    "vi a",
    "make",
    "pytest",
    "npm test",
    "less a",
    "man ls",
    "tar xf a",
]


@pytest.mark.parametrize("command", LOOKS)
def test_looking_is_allowed_by_every_policy(command: str) -> None:
    for policy in ("readonly", "edit", "ci"):
        assert _bash(policy, command) is (command not in NOT_LOOKING), policy


@pytest.mark.parametrize("command", CHANGES)
def test_readonly_lets_no_command_change_or_start_anything(command: str) -> None:
    assert not _bash("readonly", command)


EVERYDAY = [
    "cd src && pytest -q 2>&1 | tail -20",
    "python -m pytest -q tests/test_a.py::test_b",
    "python3 -m pytest -x -q",
    "pytest -k 'a and not b' --tb=short",
    "python3 -c 'print(1)'",
    "python3 script.py > /dev/null 2>&1",
    "pip install -e .",
    "pip install -e '.[test]' 2>&1 | tail -3",
    "pip list | grep -i pytest",
    "ruff check . && ruff format --check .",
    "mypy src",
    "npm ci && npm test",
    "npm run build --if-present",
    "npm run lint -- --fix",
    "npx tsc --noEmit",
    "node -e 'console.log(1)'",
    "go build ./... && go test ./...",
    "cargo test --workspace",
    "cargo clippy -- -D warnings",
    "make test",
    "make -j4 all",
    "cmake -B build && cmake --build build && ctest --test-dir build",
    "gcc -o a a.c",
    "mkdir -p a/b",
    "cp -r a b",
    "mv a.py b.py",
    "rm -rf build dist",
    "rm -f a && touch b",
    "chmod +x run.sh",
    "sed -i 's/foo/bar/g' src/a.py",
    "sed -i.bak 's/a/b/' x",
    "git add -A",
    "git add src tests && git status",
    'git commit -m "a && b"',
    "git commit -m 'fix: x; y | z'",
    'git commit -am "it\'s > that"',
    "git stash && git stash pop",
    "git checkout -b work",
    "git checkout -- src/a.py",
    "git restore src/a.py",
    "git switch -c x",
    "git reset HEAD~1",
    "git rm old.py",
    "git mv a b",
    "git log --oneline | head -3",
    "for f in src/*.py; do python3 -m py_compile $f; done",
    "pytest -q || true",
    'pytest -q; echo "exit: $?"',
    "python3 -m pytest -q | tee /dev/null",
    "! grep -rn TODO src",
    "if python3 -m pytest -q; then echo ok; else echo broken; fi",
    "cd /workspace/repo && ls",
    "ls -la && git diff --stat",
    "python3 -m pytest \\\n  -q \\\n  tests",
    "python3 -m venv .venv",
    "python3 - < /dev/null",
    "make check 2>&1 | grep -i error",
    "tox -e py311",
    "black . && mypy .",
    "pnpm install && pnpm test",
    "gofmt -l .",
    "mvn -q test",
    "./gradlew test",
    "npm run test:unit",
    "python -m unittest discover -s tests",
    "echo done",
    "git diff --name-only | sort | uniq",
    "env make",
    "A=1 pytest",
    "timeout 60 pytest",
    "pytest > log",
    "cat <<'E' > a\nE",
    "xargs rm",
    "sh -c 'make'",
]
NOT_UNDER_CI = {"sed -i.bak 's/a/b/' x"}
"""The rule names -i, and -i.bak is another word."""

NEVER_UNDER_CI = [
    "git push",
    "git push origin HEAD",
    "cd src && git push",
    "timeout 5 git push",
    "sh -c 'git push'",
    "sudo make install",
    "git remote add x y",
    "git config user.name x",
    "curl https://example.invalid",
    "wget x",
    "ssh x",
    "docker run x",
    "echo x > .github/workflows/ci.yml",
    "find . -name '*.pyc' -delete",
    "bash script.sh",
    "eval make",
    "kill 1",
    "mount",
    "su",
    "git -c core.hooksPath=x commit",
    "$(make)",
    "apt-get install x",
    "dd if=/dev/zero of=a",
    "ln -s / a",
]


@pytest.mark.parametrize("command", EVERYDAY)
def test_everyday_commands_pass_under_ci(command: str) -> None:
    assert _bash("ci", command) is (command not in NOT_UNDER_CI)


@pytest.mark.parametrize("command", NEVER_UNDER_CI)
def test_ci_does_not_allow(command: str) -> None:
    assert not _bash("ci", command)


@pytest.mark.parametrize(
    "command",
    [
        "pytest -q",
        "python3 -m pytest",
        "npm test",
        "npm run test:unit -- -w",
        "go test ./...",
        "cargo test",
        "make test",
        "cd src && pytest -q 2>&1 | tail -5",
    ],
)
def test_edit_runs_tests(command: str) -> None:
    assert _bash("edit", command)


@pytest.mark.parametrize(
    "command",
    [
        "make all",
        "npm run build",
        "python3 x.py",
        "rm a",
        "git commit -m x",
        "pip install x",
        "go run .",
        "make test x",
        "npm run build:test",
        "python3 -c 1",
    ],
)
def test_edit_does_not_build_or_remove(command: str) -> None:
    assert not _bash("edit", command)


PROTECTED = [
    ".github/workflows/ci.yml",
    ".github/CODEOWNERS",
    "CODEOWNERS",
    ".gitlab-ci.yml",
    ".gitattributes",
    "sub/.gitattributes",
    ".gitmodules",
    ".circleci/config.yml",
    "Jenkinsfile",
    ".pre-commit-config.yaml",
    ".husky/pre-push",
    ".claude/settings.json",
    "sub/.mcp.json",
]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("policy", ["edit", "ci"])
def test_what_runs_outside_the_job_is_denied_to_tools_and_commands(policy: str, path: str) -> None:
    for tool in ("Edit", "Write"):
        assert not decide(_policy(policy), parse_call(f"{tool}({path})")).allowed
    assert may_write(_policy(policy), f"{REPO}/{path}").verdict == "deny"


@pytest.mark.parametrize("path", PROTECTED)
def test_what_they_deny_for_that_reason_the_gate_protects_under_any_policy(path: str) -> None:
    assert any(pattern.covers(path.lower()) for pattern in always_guarded())


def test_gitignore_can_be_changed() -> None:
    for policy in ("edit", "ci", "full-offline"):
        assert may_write(_policy(policy), f"{REPO}/.gitignore").allowed
        assert _policy(policy).gate.allow == (".gitignore",)


def test_the_documents_name_every_path_that_is_always_protected() -> None:
    named = set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "policies.md").read_text()))
    for pattern in (*guarded.CONTINUOUS_INTEGRATION, *guarded.GIT, *guarded.HOOKS, *guarded.AGENTS_AND_EDITORS):
        name = pattern.removeprefix("**/").removesuffix("/**")
        assert set(name.split("/")) <= named, pattern


@pytest.mark.parametrize(
    ("path", "readable"),
    [
        ("src/a.py", True),
        (".gitignore", True),
        ("deploy/.env", False),
        (".env", False),
        (".env.example", True),
        ("tests/certificates/a.pem", True),
        ("keys/id_rsa", False),
        ("id_rsa.pub", False),
        ("id_ed25519", False),
        ("sub/.netrc", False),
    ],
)
def test_secrets_in_the_repository_are_not_read(path: str, readable: bool) -> None:
    for policy in ("readonly", "edit", "ci"):
        assert decide(_policy(policy), Call(tool="Read", subject=f"/workspace/repo/{path}")).allowed is readable


def test_source_and_scratch_files_can_be_edited_and_other_places_cannot() -> None:
    for policy in ("edit", "ci"):
        assert decide(_policy(policy), Call(tool="Edit", subject="/workspace/repo/src/a.py")).allowed
        assert decide(_policy(policy), Call(tool="Write", subject="/tmp/x")).allowed
        assert not decide(_policy(policy), Call(tool="Write", subject="/etc/x")).allowed
