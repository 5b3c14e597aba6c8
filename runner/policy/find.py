"""What `find` is told to start."""

from __future__ import annotations

from collections.abc import Sequence

from runner.policy.words import Word, made_up

ACTIONS = ("-exec", "-execdir", "-ok", "-okdir")


def find_segments(words: Sequence[Word]) -> tuple[tuple[Word, ...], list[tuple[Word, ...]]]:
    """What find itself is told, and the commands that it starts for what it finds, each as words."""
    own: list[Word] = []
    segments: list[tuple[Word, ...]] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.text not in ACTIONS or word.kind != "literal":
            own.append(word)
            continue
        end = next((end for end in range(at, len(words)) if _ends(words, end)), len(words))
        segments.append(tuple(words[at:end]) or (made_up(""),))
        at = end + 1
    return tuple(own), segments


def _ends(words: Sequence[Word], at: int) -> bool:
    return words[at].text == ";" or (words[at].text == "+" and words[at - 1].text == "{}")
