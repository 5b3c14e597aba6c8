"""Turn titles into slugs: lower-case ASCII words joined by dashes."""

import re

_NOT_WORD = re.compile(r"[^a-z0-9]+")


def slugify(title: str, max_length: int = 80) -> str:
    """The slug of a title, cut at `max_length` characters.

    >>> slugify("Hello, World!")
    'hello-world'
    """
    slug = _NOT_WORD.sub("-", title.lower()).strip("-")
    return slug[:max_length]


def unique(slug: str, taken: set[str]) -> str:
    """`slug`, or the first of `slug-2`, `slug-3`, … that is not taken."""
    if slug not in taken:
        return slug
    number = 2
    while f"{slug}-{number}" in taken:
        number += 1
    return f"{slug}-{number}"
