"""`judge_changes`: what stands against a diff before it may become a branch."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.policy import Policy
from runner.policy.paths import REPO
from runner.repo import Taken, guarded, judge_changes, locate, open_quarantine
from runner.task import Repo
from runner.transcript import Violation
from tests.repo.conftest import Work
from tests.repo.repositories import Repository, sample

Judge = Callable[..., tuple[Violation, ...]]

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ0bC2dF4hJ6"
OUR_SECRET = "correct-horse-battery"


def policy(mode: str = "blacklist", **rules: object) -> Policy:
    return Policy.model_validate({"version": 1, "mode": mode, **rules})


def gate(**settings: object) -> Policy:
    return policy(gate=settings)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return sample(tmp_path / "project")


@pytest.fixture
def judge(project: Repository, tmp_path: Path) -> Iterator[Judge]:
    """Commits what is in the project's work tree, and judges all commits since the beginning of the test."""
    source = locate(Repo(url=str(project.path), base="HEAD"), folder=tmp_path)
    with open_quarantine(source, folder=tmp_path) as quarantine:

        def judged(what: Policy | None = None, commit: str | None = None, **more: Any) -> tuple[Violation, ...]:
            commit = commit or project.commit()
            quarantine.git("fetch", "--quiet", "--no-tags", str(project.path), "refs/heads/main")
            commits = tuple(project.git("rev-list", "--reverse", f"{quarantine.base}..{commit}").split())
            return judge_changes(quarantine, Taken(commit=commit, commits=commits), what or policy(), **more)

        yield judged


def kinds(violations: tuple[Violation, ...]) -> list[tuple[str, str]]:
    return [(each.kind, each.path) for each in violations]


def test_harmless_work_passes(project: Repository, judge: Judge) -> None:
    project.write("app.py", "def add(a, b):\n    return a + b\n")
    project.write("new/deep/file.txt", "x\n")
    project.git("mv", "README.md", "README.txt")
    project.write("src/.gitkeep")
    assert judge() == ()


def test_no_work_passes(work: Work) -> None:
    assert judge_changes(work.quarantine, work.take(), policy()) == ()


def test_the_work_of_an_agent_is_judged_as_it_came_out(work: Work) -> None:
    work.run("mkdir .github; echo x > .github/ci.yml; git add .; git commit -qm CI; echo x > app.py; ln -s / root")
    violations = judge_changes(work.quarantine, work.take(), policy(deny=["Edit(app.py)"]))
    assert kinds(violations) == [("protected", ".github/ci.yml"), ("path", "app.py"), ("symlink", "root")]


# --- path rules


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ({"deny": ["Edit(docs/**)"]}, ["docs/use.md"]),
        ({"deny": ["Edit(README.md)"]}, ["README.md"]),
        ({"mode": "whitelist", "allow": ["Edit(docs/**)", "Edit(*.md)", "Edit(moved)"]}, ["app.py"]),
        ({"mode": "whitelist", "allow": ["Read"]}, ["README.md", "app.py", "docs/use.md", "moved"]),
        ({"mode": "whitelist", "allow": ["Bash"]}, []),
    ],
)
def test_every_changed_path_is_judged_both_names_of_a_renamed_one(
    rules: dict[str, Any], refused: list[str], project: Repository, judge: Judge
) -> None:
    project.git("mv", "README.md", "moved")
    project.write("app.py", "new\n")
    (project.path / "docs" / "use.md").unlink()
    violations = judge(policy(**rules))
    assert kinds(violations) == [("path", path) for path in refused]


def test_a_violation_names_the_rule_and_where_it_stands(project: Repository, judge: Judge) -> None:
    project.write("app.py", "new\n")
    rules = policy(deny=["Edit(app.py)"]).located(lambda path: "ci.yaml:3:1")
    violation = judge(rules)[0]
    assert (violation.rule, violation.where) == ("Edit(app.py)", "ci.yaml:3")
    assert violation.reason == "`app.py` is changed, but the policy denies it by the rule Edit(app.py)"


@pytest.mark.parametrize("rules", [{"ask": ["Edit(*.py)"]}, {"mode": "interactive", "allow": ["Edit(docs/**)"]}])
def test_what_a_person_is_asked_about_needs_their_approval(
    rules: dict[str, Any], project: Repository, judge: Judge
) -> None:
    project.write("app.py", "new\n")
    project.write("docs/use.md", "new\n")
    violations = judge(policy(**rules))
    assert kinds(violations) == [("path", "app.py")]
    assert "nobody approved" in violations[0].reason
    assert judge(policy(**rules), approved={f"{REPO}/app.py"}) == ()


# --- protected paths


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        ".GitHub/Workflows/ci.yml",
        "deep/.github/x",
        ".gitlab-ci.yml",
        ".gitlab/ci/x.yml",
        ".circleci/config.yml",
        "Jenkinsfile",
        "ci/Jenkinsfile.release",
        "azure-pipelines.yml",
        ".travis.yml",
        ".drone.yml",
        ".buildkite/pipeline.yml",
        "bitbucket-pipelines.yml",
        "appveyor.yml",
        ".woodpecker/a.yml",
        ".woodpecker.yaml",
        ".gitattributes",
        "deep/.gitignore",
        ".gitmodules",
        ".githooks/pre-commit",
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        "lefthook.yml",
        ".claude/settings.json",
        "web/.claude/settings.json",
        ".mcp.json",
        ".codex/config.toml",
        ".cursor/mcp.json",
        ".gemini/settings.json",
        "opencode.json",
        ".vscode/tasks.json",
        ".vscode/settings.json",
        ".devcontainer/devcontainer.json",
        "CODEOWNERS",
        "docs/CODEOWNERS",
    ],
)
def test_what_is_acted_on_outside_is_always_protected(path: str, project: Repository, judge: Judge) -> None:
    project.write(path, "x\n")
    violations = judge()
    assert kinds(violations) == [("protected", path)]
    assert violations[0].reason == f"`{path}` is always protected (gate.allow in the policy lifts that)"


@pytest.mark.parametrize("path", ["CLAUDE.md", "AGENTS.md", "github/x", ".vscode/extensions.json", "x.gitignore"])
def test_what_looks_like_it_is_not(path: str, project: Repository, judge: Judge) -> None:
    project.write(path, "x\n")
    assert judge() == ()


def test_gate_allow_lifts_what_is_built_in_and_nothing_else(project: Repository, judge: Judge) -> None:
    project.write(".gitignore", "*.pyc\n")
    project.write(".github/ci.yml", "x\n")
    project.write("keep/x", "x\n")
    project.write("task.yaml", "x\n")
    lifted = gate(allow=[".gitignore", ".github/**", "keep/**", "*.yaml"], protect=["keep/**"])
    assert kinds(judge(lifted, own_files=["task.yaml"])) == [("protected", "keep/x"), ("protected", "task.yaml")]
    assert kinds(judge(policy(deny=["Edit(.github/**)"], gate={"allow": [".git*"]}))) == [("path", ".github/ci.yml")]


def test_lock_files_are_protected_when_asked_for(project: Repository, judge: Judge) -> None:
    for name in ("uv.lock", "web/package-lock.json", "Cargo.lock", "clock"):
        project.write(name, "x\n")
    assert judge() == ()
    assert [path for _, path in kinds(judge(gate(lockfiles=False)))] == [
        "Cargo.lock",
        "uv.lock",
        "web/package-lock.json",
    ]


# --- limits, modes, links, names


def test_limits_on_files_and_bytes(project: Repository, judge: Judge) -> None:
    project.write("one", "x" * 3000)
    project.write("two", "y" * 3000)
    assert judge(gate(files=2, bytes=6100)) == ()
    reasons = [each.reason for each in judge(gate(files=1, bytes=6000))]
    assert reasons == [
        "6,002 bytes of new content; gate.bytes in the policy allows 6000",
        "2 files are changed; gate.files in the policy allows 1",
    ]


def test_lines_that_base_has_are_not_new_content(project: Repository, judge: Judge) -> None:
    project.write("docs/use.md", "Use it\nwith care\n")
    project.write("app.py", "")
    project.git("mv", "tests/test_app.py", "tests/test_all.py")
    assert judge(gate(bytes=10)) == ()
    assert kinds(judge(gate(bytes=9))) == [("bytes", "")]


def test_bytes_count_that_one_commit_adds_and_the_next_takes_away(project: Repository, judge: Judge) -> None:
    project.write("big", "x" * 9000)
    project.commit()
    (project.path / "big").unlink()
    assert kinds(judge(gate(bytes=8000))) == [("bytes", "")]


def test_more_than_the_gate_can_look_at_is_refused(project: Repository, judge: Judge) -> None:
    project.write("big", b"\0" * 34_000_000)
    assert kinds(judge(gate(bytes="1g"))) == [("bytes", "")]
    assert judge(gate(bytes="1g", secret_scan=False)) == ()


def test_binaries_are_refused_when_asked_for(project: Repository, judge: Judge) -> None:
    project.write("picture.png", b"\x89PNG\0\0")
    project.write("text", "text\n")
    assert judge() == ()
    assert kinds(judge(gate(binaries=False))) == [("binary", "picture.png")]


@pytest.mark.parametrize(
    ("links", "refused"),
    [
        ({"a": "app.py", "docs/b": "../app.py", "c": "docs", "d": "nowhere"}, set()),
        ({"a": "/etc/passwd"}, {"a"}),
        ({"a": "../outside"}, {"a"}),
        ({"docs/a": "../../outside"}, {"docs/a"}),
        ({"a": ".git/config"}, {"a"}),
        ({"docs/a": "../.GIT/hooks"}, {"docs/a"}),
        ({"a": "./docs/../.git"}, {"a"}),
        ({"docs/up": "..", "a": "docs/up/../etc"}, {"a"}),
        ({"a": "b", "b": "../.."}, {"a", "b"}),
        ({"a": "b/x", "b": "docs/b", "docs/b": "../../x"}, {"a", "b", "docs/b"}),
        ({"a": "b", "b": "a"}, {"a", "b"}),
        ({"a": "."}, set()),
    ],
)
def test_links_stay_within_the_repository(
    links: dict[str, str], refused: set[str], project: Repository, judge: Judge
) -> None:
    for path, target in links.items():
        (project.path / path).symlink_to(target)
    assert {(each.kind, each.path) for each in judge()} == {("symlink", path) for path in refused}


def test_a_link_that_base_has_may_lead_out_and_none_may_use_it(tmp_path: Path, project: Repository) -> None:
    (project.path / "out").symlink_to("/etc")
    project.commit()
    with open_quarantine(locate(Repo(url=str(project.path)), folder=tmp_path), folder=tmp_path) as quarantine:
        project.write("x", "x\n")
        (project.path / "mine").symlink_to("out/passwd")
        commit = project.commit()
        quarantine.git("fetch", "--quiet", str(project.path), "refs/heads/main")
        violations = judge_changes(quarantine, Taken(commit=commit, commits=(commit,)), policy())
    assert kinds(violations) == [("symlink", "mine")]


def test_a_submodule_is_refused(project: Repository, judge: Judge) -> None:
    project.git("update-index", "--add", "--cacheinfo", f"160000,{project.head},module")
    project.git("commit", "--quiet", "-m", "module")
    assert kinds(judge(commit=project.head)) == [("submodule", "module")]


@pytest.mark.parametrize("name", [b"bidi\xe2\x80\xae.py", b"bell\x07", b"new\nline", b"\xff\xfe", b"nbsp\xc2\xa0"])
def test_new_names_can_be_seen(name: bytes, project: Repository, judge: Judge) -> None:
    project.write(name, "x\n")
    violations = judge()
    assert [each.kind for each in violations] == ["path"]
    assert violations[0].reason.isprintable()
    violations[0].path.encode()


@pytest.mark.parametrize("name", ["APP.py", "Docs/other.md", "readme.md/x"])
def test_no_two_names_differ_by_case_alone(name: str, project: Repository, judge: Judge) -> None:
    project.write(name, "x\n")
    violations = judge()
    assert kinds(violations) == [("path", name)]
    assert "upper and lower case" in violations[0].reason


# --- secrets


@pytest.mark.parametrize(
    "content",
    [
        f"token = '{TOKEN}'\n",
        f"token = '{TOKEN}'  # pragma: allowlist secret\n",
        f"\0\0{TOKEN}\n",
        f"token = '{TOKEN}'\n".encode("utf-16"),
        "x" * 9000 + TOKEN,
    ],
)
def test_an_added_credential_is_refused_and_not_quoted(content: str | bytes, project: Repository, judge: Judge) -> None:
    project.write("settings.py", content)
    violations = judge()
    assert kinds(violations) == [("secret", "settings.py")]
    assert "GitHub Token" in violations[0].reason
    assert TOKEN not in str(violations)
    assert judge(gate(secret_scan=False)) == ()


def test_a_finding_names_its_line(project: Repository, judge: Judge) -> None:
    project.write("app.py", f"def add(a, b):\n    return a + b\n\n\nTOKEN = '{TOKEN}'\n")
    assert "in line 5" in judge()[0].reason


def test_a_credential_that_base_has_may_stay_and_move_but_not_come_back(project: Repository, tmp_path: Path) -> None:
    project.write("old.py", f"first\ntoken = '{TOKEN}'\n")
    project.commit()
    with open_quarantine(locate(Repo(url=str(project.path)), folder=tmp_path), folder=tmp_path) as quarantine:
        project.git("mv", "old.py", "new.py")
        project.write("new.py", f"begun\ntoken = '{TOKEN}'\nended\n")
        commit = project.commit()
        quarantine.git("fetch", "--quiet", str(project.path), "refs/heads/main")
        assert judge_changes(quarantine, Taken(commit=commit, commits=(commit,)), policy()) == ()
        project.write("new.py", f"other = '{TOKEN}'\n")
        commit = project.commit()
        quarantine.git("fetch", "--quiet", str(project.path), "refs/heads/main")
        assert kinds(judge_changes(quarantine, Taken(commit=commit, commits=(commit,)), policy())) == [
            ("secret", "new.py")
        ]


def test_a_credential_in_an_earlier_commit_is_in_the_branch_as_well(project: Repository, judge: Judge) -> None:
    project.write("settings.py", f"token = '{TOKEN}'\n")
    project.commit()
    project.write("settings.py", "token = os.environ['TOKEN']\n")
    assert kinds(judge()) == [("secret", "settings.py")]


@pytest.mark.parametrize(
    "written",
    [
        OUR_SECRET,
        base64.b64encode(f"user:{OUR_SECRET}".encode()).decode(),
        OUR_SECRET.encode().hex(),
        base64.encodebytes(b"a text of some length before " + OUR_SECRET.encode() + b" and behind it").decode(),
    ],
)
def test_the_jobs_own_secrets_are_found_in_every_form(written: str, project: Repository, judge: Judge) -> None:
    project.write("notes.txt", f"one\nsee {written}\n")
    violations = judge(gate(secret_scan=False), secrets=[OUR_SECRET])
    assert kinds(violations)[0] == ("secret", "notes.txt")
    assert "a secret of this job" in violations[0].reason
    assert written not in str(violations)


def test_a_secret_in_a_name_is_masked(project: Repository, judge: Judge) -> None:
    project.write(f"dir/{OUR_SECRET}.txt", "x\n")
    violations = judge(secrets=[OUR_SECRET])
    assert kinds(violations) == [("secret", "dir/***.txt")]
    assert OUR_SECRET not in str(violations)


# --- what is told


def test_the_same_work_gives_the_same_answer_in_order_of_the_paths(project: Repository, judge: Judge) -> None:
    for name in ("b/.gitignore", "a/.gitignore", "c", ".mcp.json"):
        project.write(name, f"{TOKEN}\n")
    first = judge(gate(files=1))
    paths = [each.path for each in first]
    assert paths == ["", ".mcp.json", ".mcp.json", "a/.gitignore", "b/.gitignore", "c"][: len(paths)]
    assert first == judge(gate(files=1))


def test_there_are_never_more_violations_than_one_reads(project: Repository, judge: Judge) -> None:
    for number in range(300):
        project.write(f"f{number}", "x\n")
    violations = judge(policy("whitelist", allow=["Read"]))
    assert len(violations) == 201
    assert violations[-1].reason == "100 more things stand against the work"


def test_the_documentation_names_everything_that_is_always_protected() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text().lower()
    for pattern in (*guarded.CONTINUOUS_INTEGRATION, *guarded.GIT, *guarded.HOOKS, *guarded.AGENTS_AND_EDITORS):
        name = pattern.removeprefix("**/").removesuffix("/**").removesuffix("*")
        assert name.rpartition("/")[2] in text, pattern
