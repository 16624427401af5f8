"""Words of messages that follow a number."""

from __future__ import annotations

__all__ = ["noun"]


def noun(n: float, one: str, many: str | None = None) -> str:
    """The noun, or noun and verb, after a number: ``event`` after 1, else ``events`` or what ``many`` says."""
    if n == 1:
        return one
    return f"{one}s" if many is None else many
