"""What a policy says but hardly means."""

from __future__ import annotations

import pytest

from runner.policy import Policy, parse_rule
from runner.policy.findings import covers, findings


def found(mode: str = "whitelist", **keys: object) -> str:
    return "\n".join(findings(Policy.model_validate({"version": 1, "mode": mode, **keys})))


def test_a_policy_that_means_what_it_says_has_none() -> None:
    allow = ["Read", "Edit(src/**)", "Bash(ls:*)", "WebFetch(domain:example.org)", "Edit(//tmp/**)"]
    assert found(allow=allow, deny=["Read(**/.env)", "Edit(src/gen/**)"], ask=["Bash(rm:*)"]) == ""


def test_a_whitelist_without_rules_allows_nothing() -> None:
    assert found() == "the policy allows nothing at all"
    assert found(allow=["mcp__github"]) == ""
    assert found("interactive") == ""


def test_a_blacklist_is_no_boundary() -> None:
    assert found("blacklist").startswith("mode blacklist guards against accidents only")


def test_every_page_there_is_is_hardly_meant() -> None:
    assert found(allow=["WebFetch"]) == "WebFetch allows pages of every host there is"


def test_secrets_and_a_way_out_are_named_together() -> None:
    said = found(allow=["Bash"], secrets=["TOKEN"], egress=["api.example.org"])
    assert said == "commands see TOKEN and reach api.example.org: they can send the one to the other"
    assert found(allow=["Bash"], secrets=["TOKEN"]) == found(allow=["Bash"], egress=["api.example.org"]) == ""


def test_a_rule_that_a_stronger_one_covers_has_no_effect() -> None:
    assert found(allow=["Edit(src/a.py)"], deny=["Edit(src/**)"]) == (
        "Edit(src/a.py) has no effect: Edit(src/**) denies all of it"
    )
    assert found(allow=["Read"], ask=["Bash(a:*)"], deny=["Bash"]) == "Bash(a:*) has no effect: Bash denies all of it"
    assert "has a person asked about all of it" in found(allow=["Read(a)"], ask=["Read"])


def test_a_rule_that_is_there_twice_is_named() -> None:
    assert (
        found(allow=["Read", "Edit(src/**)", "edit_file(src/**)"]) == "edit_file(src/**) is there already: Edit(src/**)"
    )


@pytest.mark.parametrize("path", ["/etc/passwd", "/tmp/**", "/home/me/x"])
def test_a_path_that_looks_like_one_from_the_root_is_explained(path: str) -> None:
    assert found(allow=[f"Read({path})"]).endswith(f"starts at the repository; the root of the container is /{path}")


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("Edit", "Edit(src/**)", True),
        ("Edit", "Write(src/**)", True),
        ("Write", "Edit(src/**)", False),
        ("Edit(src/**)", "Edit(src/a/**)", True),
        ("Edit(src/**)", "Edit(src/*.py)", True),
        ("Edit(src/*.py)", "Edit(src/**)", False),
        ("Edit(src)", "Edit(src/**)", True),
        ("Edit(src/)", "Edit(src)", False),
        ("Edit(src/)", "Edit(src/*)", True),
        ("Read(**)", "Read(*.pem)", True),
        ("Read(**/*.pem)", "Read(keys/*.pem)", False),
        ("Read(**/*.pem)", "Read(keys/a.pem)", True),
        ("Read(**)", "Read(//etc/**)", False),
        ("Bash(git:*)", "Bash(git push:*)", True),
        ("Bash(git push:*)", "Bash(git:*)", False),
        ("Bash(git push)", "Bash(git push)", True),
        ("Bash(git:*)", "Bash(gitk)", False),
        ("WebFetch(domain:*.example.org)", "WebFetch(domain:a.example.org)", True),
        ("WebFetch(domain:*.example.org)", "WebFetch(domain:*.a.example.org)", True),
        ("WebFetch(domain:*.example.org)", "WebFetch(domain:example.org)", False),
        ("WebFetch(domain:a.example.org)", "WebFetch(domain:*.a.example.org)", False),
        ("WebFetch(domain:a.example.org:8443)", "WebFetch(domain:a.example.org)", False),
        ("mcp__a", "mcp__a__x", True),
        ("mcp__a__x", "mcp__a", False),
        ("@exec", "Bash(ls)", True),
    ],
)
def test_covering_is_claimed_only_where_it_is_certain(wide: str, narrow: str, covered: bool) -> None:
    assert covers(parse_rule(wide), parse_rule(narrow)) is covered
