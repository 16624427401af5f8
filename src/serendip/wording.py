"""Numbers with their nouns, for messages."""

from __future__ import annotations

__all__ = ["counted", "noun"]


def noun(n: float, one: str, many: str | None = None) -> str:
    """The noun, or noun and verb, after a number: ``event`` after 1, else ``events`` or the text of ``many``."""
    if n == 1:
        return one
    return f"{one}s" if many is None else many


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun, or noun and verb: ``1 event``, ``12 events``."""
    return f"{n} {noun(n, one, many)}"
