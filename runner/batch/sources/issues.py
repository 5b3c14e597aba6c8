"""Issues as templates see them, whatever wrote them: `gh --json`, GitHub's REST interface, an event, a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.document.words import shown


class Mistake(ValueError):
    """What is wrong with a row."""


GH_FIELDS = frozenset((
    "assignees", "author", "body", "closed", "closedAt", "closedByPullRequestsReferences", "comments", "createdAt",
    "id", "isPinned", "labels", "milestone", "number", "projectCards", "projectItems", "reactionGroups", "state",
    "stateReason", "title", "updatedAt", "url",
    "authorAssociation", "commentsCount", "isLocked", "isPullRequest", "repository",
))  # fmt: skip
"""What `gh issue list`, `gh issue view` and `gh search issues` print."""

Item = Mapping[str, Any]


def is_pull_request(item: Item) -> bool:
    """REST lists pull requests among the issues, and says so; events about one have it beside or in the issue."""
    issue = item.get("issue")
    inner = issue if isinstance(issue, dict) else {}
    return bool(item.get("pull_request") or inner.get("pull_request") or item.get("isPullRequest") is True)


def is_issue(item: Item) -> bool:
    return "number" in item and ("title" in item or "body" in item)


def from_github(item: Item) -> bool:
    """Whether all that is in it, as far as it says anything, is what GitHub says of issues."""
    return item.keys() <= GH_FIELDS or ("user" in item and "html_url" in item)


def issue_of(item: Item, repository: Any = None) -> dict[str, Any]:
    """An issue with the same keys wherever it comes from; None is what its source does not say. Raises Mistake."""
    url = _text(item, "html_url") or _text(item, "url")
    return {
        "number": _number(item),
        "title": _title(item),
        "body": _text(item, "body") or "",
        "author": _login(item.get("author") or item.get("user")),
        "author_association": _association(item),
        "labels": _names(item.get("labels"), "name"),
        "assignees": _names(item.get("assignees"), "login"),
        "milestone": _named(item.get("milestone"), "title"),
        "state": _lower(item, "state"),
        "state_reason": _lower(item, "state_reason", "stateReason"),
        "repository": _repository(repository or item.get("repository"), url, _text(item, "repository_url")),
        "url": url,
        "created_at": _text(item, "created_at", "createdAt"),
        "updated_at": _text(item, "updated_at", "updatedAt"),
        "closed_at": _text(item, "closed_at", "closedAt"),
        # In REST it is their number.
        "comments": [comment_of(one) for one in _list(item.get("comments")) if isinstance(one, dict)],
    }


def comment_of(item: Item) -> dict[str, Any]:
    return {
        "author": _login(item.get("author") or item.get("user")),
        "author_association": _association(item),
        "body": _text(item, "body") or "",
        "url": _text(item, "html_url") or _text(item, "url"),
        "created_at": _text(item, "created_at", "createdAt"),
    }


def _number(item: Item) -> int:
    number = item.get("number")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 10**12:
        raise Mistake(f"number: must be the issue's number, a whole one from 1 (got {shown(number)})")
    return number


def _title(item: Item) -> str:
    title = item.get("title")
    if not isinstance(title, str) or not title.split():
        got = "there is none" if "title" not in item else f"got {shown(title)}"
        raise Mistake(f"title: must be the issue's title ({got}); ask gh for it: --json number,title,body")
    return " ".join(title.split())


def _text(item: Item, *names: str) -> str | None:
    """The first of the keys that says something. Raises Mistake for what is no text."""
    for name in names:
        value = item.get(name)
        if value is not None and not isinstance(value, str):
            raise Mistake(f"{name}: must be text (got {shown(value)})")
        if value:
            return value
    return None


def _lower(item: Item, *names: str) -> str | None:
    # gh writes OPEN, REST open.
    text = _text(item, *names)
    return text.lower() if text else None


def _association(item: Item) -> str | None:
    text = _text(item, "author_association", "authorAssociation")
    return text.upper() if text else None


def _login(value: Any) -> str | None:
    return _named(value, "login")


def _named(value: Any, key: str) -> str | None:
    name = value.get(key) if isinstance(value, dict) else value
    return name if isinstance(name, str) and name else None


def _names(value: Any, key: str) -> list[str]:
    """Of a list of mappings or texts; a table has them in one text: `bug, ui` or `bug;ui`."""
    items = re.split("[,;]", value) if isinstance(value, str) else _list(value)
    names = (_named(item, key) for item in items)
    return [name.strip() for name in names if name and name.strip()]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _repository(value: Any, *urls: str | None) -> str | None:
    """`owner/name`, as it is said, else out of the issue's address."""
    said = value if isinstance(value, dict) else {}
    name = said.get("full_name") or said.get("nameWithOwner") or value
    if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name
    found = (
        re.search(r"://[^/]+/(?:api/v3/)?(?:repos/)?([\w.-]+/[\w.-]+)(?:/issues/\d+)?$", url or "") for url in urls
    )
    return next((match[1] for match in found if match), None)
