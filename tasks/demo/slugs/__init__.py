"""Readable URL slugs."""

from slugs.slug import slugify, unique

__all__ = ["slugify", "unique"]
