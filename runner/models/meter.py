"""Tokens of a request as the Messages API would count them, the prompt cache included; estimated from sizes."""

from __future__ import annotations

import hashlib

from runner.messages import Usage
from runner.models.api_rules import ApiRequest, cacheable

CHARS_PER_TOKEN = 4


def tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


class Meter:
    """Counts the requests of one conversation, and remembers what their cache points put into the cache.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching, without its smallest length and its expiry.
    """

    def __init__(self) -> None:
        self._cached: set[bytes] = set()
        """Hashes of the prefixes that are in the cache."""

    def usage(self, request: ApiRequest, output_chars: int) -> Usage:
        prefix = hashlib.sha256(request.model.encode())
        chars = read = point = 0
        points: list[bytes] = []
        for block in cacheable(request):
            text = block.model_dump_json(exclude={"cache_control"}, exclude_unset=True)
            prefix.update(text.encode())
            chars += len(text)
            if prefix.digest() in self._cached:
                read = chars
            if getattr(block, "cache_control", None) is not None:
                point = chars
                points.append(prefix.digest())
        self._cached.update(points)
        return Usage(
            input_tokens=tokens(chars - max(point, read)),
            cache_read_tokens=tokens(read),
            cache_write_tokens=tokens(max(0, point - read)),
            output_tokens=tokens(output_chars),
        )
