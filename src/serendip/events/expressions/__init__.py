"""Expressions of columns: :func:`parse` reads them, an :class:`Expression` gives the value for each event."""

from serendip.events.expressions.evaluation import FUNCTIONS, Expression, not_flat
from serendip.events.expressions.language import (
    columns_of,
    cut,
    decide,
    evaluate,
    parse,
    split_expressions,
    suggest,
)

__all__ = [
    "FUNCTIONS",
    "Expression",
    "columns_of",
    "cut",
    "decide",
    "evaluate",
    "not_flat",
    "parse",
    "split_expressions",
    "suggest",
]
