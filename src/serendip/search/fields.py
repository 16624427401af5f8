"""Types of settings that have a form of their own on the command line and in a YAML file."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

from serendip.events.expressions import split_expressions

__all__ = ["Columns", "Expressions", "Files", "Interval", "Intervals", "Listed"]


def _listed(value: Any) -> Any:
    """Text with commas is a list; a single number too."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, int | float) else value


def _expressions(value: Any) -> Any:
    """Text is split at the commas that are outside of parentheses."""
    return [part.strip() for part in split_expressions(value)] if isinstance(value, str) else value


def _one_or_more(value: Any) -> Any:
    """A list of one is that one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _columns(value: Any) -> Any:
    return _one_or_more(split_expressions(value) if isinstance(value, str) and "," in value else value)


def _interval(value: Any) -> Any:
    parts = value.split(":") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 < low < high < math.inf:
        given = ":".join(map(str, parts)) if isinstance(parts, list | tuple) else parts
        raise ValueError(f"'{given}' is not a mass interval: expected LO:HI with 0 < LO < HI, e.g. 3300:3700")
    return low, high


def _intervals(value: Any) -> Any:
    given = [value] if isinstance(value, str) else value or []
    if all(isinstance(part, str) for part in given):
        given = [part for text in given for part in text.split(",") if part.strip()]
    if len(given) == 2 and all(isinstance(edge, int | float) for edge in given):
        given = [given]
    return tuple(_interval(part) for part in given)


Listed = BeforeValidator(_listed)
"""Marks a tuple that may be given as text with commas, or as a single number."""

Expressions = Annotated[tuple[str, ...], BeforeValidator(_expressions)]
"""Columns or expressions, also as text with commas."""

Columns = Annotated[str | tuple[str, ...] | None, BeforeValidator(_columns)]
"""One column or several, also as text with commas."""

Files = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_more)]
"""One file or several."""

Interval = Annotated[tuple[float, float], BeforeValidator(_interval)]
"""Two masses, also as text ``LO:HI``."""

Intervals = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_intervals)]
"""Intervals of mass, also as texts ``LO:HI`` or ``LO:HI,LO:HI``."""
