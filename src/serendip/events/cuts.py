"""Apply a cut to the rows of a table; rows that a missing value leaves undecided are left out and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions import Expression, decide
from serendip.events.expressions.values import missing
from serendip.events.jagged import Jagged
from serendip.wording import counted

__all__ = ["apply_cut"]


def apply_cut(
    file: str, where: Expression, columns: Mapping[str, Any]
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Rows that pass, and how many a missing value leaves undecided, by reason.

    Parameters
    ----------
    file
        For messages.
    where
        The cut.
    columns
        Numbers of the columns it needs, shape ``(n,)`` each.

    Raises
    ------
    InputError
        If no row passes, or the expression is not a condition.
    """
    passing, undecided = decide(where, columns)
    left_out = {}
    if count := int(np.count_nonzero(undecided)):
        lists = [name for name in sorted(where.columns) if isinstance(columns[name], Jagged)]
        flat = [name for name in sorted(where.columns) if name not in lists]
        absent = [name for name in flat if (missing(columns[name]) & undecided).any()]
        reason = f"{' or '.join(absent)} missing" if absent else "its value is not defined"
        if lists and not absent:
            reason = f"the event has no such object in {' or '.join(lists)}"
        left_out[f"cut '{where.text}' undecided, {reason}"] = count
    rows = np.flatnonzero(passing)
    if len(rows) == 0:
        more = "".join(f"; {reason} in {counted(count, 'row')}" for reason, count in left_out.items())
        raise InputError(f"{file}: the cut '{where.text}' leaves no event of {len(passing)}{more}")
    return rows, left_out
