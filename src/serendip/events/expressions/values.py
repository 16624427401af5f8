"""Conditions that may be undecided, and whole numbers that stay exact.

A comparison with a missing value is neither true nor false. Conditions are then joined as in SQL (Kleene's three-valued
logic): ``unknown & false`` is false, ``unknown | true`` is true, anything else unknown stays unknown. A condition is an array
of booleans, masked where it is unknown.

Missing numbers are NaN. Columns of whole numbers that no float holds exactly come as masked arrays instead
(:func:`whole_numbers`); these can be compared, and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = [
    "EXACT", "compared", "condition", "conjunction", "disjunction", "exactly", "missing", "negation", "plain",
    "same_integers", "truth", "whole_numbers",
]  # fmt: skip

EXACT = 2**53
"""From here on, floats leave whole numbers out."""

_FAR = 2.0**12
_WRAPPED = 2.0**40


def whole_numbers(values: NDArray[Any], absent: NDArray[np.bool_]) -> NDArray[Any]:
    """Whole numbers of which some are missing: floats with NaN if these are exact, else a masked array.

    Parameters
    ----------
    values
        Integers, shape ``(n,)``; of any value where they are missing.
    absent
        Where they are missing, shape ``(n,)``.
    """
    if not absent.any():
        return values
    present = values[~absent]
    if len(present) and _beyond(present):
        return np.ma.MaskedArray(values, mask=absent)
    return np.where(absent, np.nan, values.astype(np.float64))


def missing(values: Any) -> NDArray[np.bool_]:
    """Where a value is missing, in the shape of the values."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.getmaskarray(values)
    values = np.asarray(values)
    return np.asarray(np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool))


def plain(values: Any) -> Any:
    """A condition as numbers, NaN where it is unknown; anything else as it is."""
    if isinstance(values, np.ma.MaskedArray) and values.dtype == bool:
        return np.ma.filled(values.astype(np.float64), np.nan)
    return values


def condition(true: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where it is true, false (neither mask) and unknown."""
    return np.ma.MaskedArray(true, mask=unknown) if np.any(unknown) else true


def truth(values: Any) -> NDArray[np.bool_]:
    """``values`` as a condition; numbers other than 0 and 1 are neither true nor false."""
    values = np.asanyarray(values)
    if values.dtype == bool:
        already: NDArray[np.bool_] = values
        return already
    unknown = missing(values)
    if not np.all((values == 0) | (values == 1) | unknown):
        raise InputError(
            "&, | and ! join conditions, but one side is neither true nor false; compare it with a number, "
            "for example `flag != 0` (bit operations are not possible)"
        )
    return condition(values == 1, unknown)


def negation(values: Any) -> NDArray[np.bool_]:
    """The opposite; unknown values stay unknown."""
    return condition(~np.ma.getdata(truth(values)), missing(truth(values)))


def conjunction(a: Any, b: Any) -> NDArray[np.bool_]:
    """``a & b``."""
    (yes_a, open_a), (yes_b, open_b) = _sides(a), _sides(b)
    return condition(yes_a & yes_b, (open_a & (yes_b | open_b)) | (open_b & yes_a))


def disjunction(a: Any, b: Any) -> NDArray[np.bool_]:
    """``a | b``."""
    (yes_a, open_a), (yes_b, open_b) = _sides(a), _sides(b)
    return condition(yes_a | yes_b, (open_a | open_b) & ~(yes_a | yes_b))


def _sides(values: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a condition is true, and where it is unknown."""
    values = truth(values)
    return np.ma.filled(values, fill_value=False), missing(values)


def compared(relation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], NDArray[Any]]:
    """A comparison that is unknown where a value is missing, and exact between whole numbers and floats."""

    def compare(a: Any, b: Any) -> NDArray[Any]:
        unknown = missing(a) | missing(b)
        a, b = (
            np.ma.getdata(side) if isinstance(side, np.ma.MaskedArray) else np.asarray(side)
            for side in (a, b)
        )
        result = np.asarray(relation(a, b))
        if {a.dtype.kind, b.dtype.kind} in ({"i", "f"}, {"u", "f"}):
            whole = b if a.dtype.kind == "f" else a
            if _beyond(whole):
                result = _exact_relation(relation, a, b, result, whole)
        return condition(result, unknown)

    return compare


def _exact_relation(
    relation: Callable[[Any, Any], Any],
    a: NDArray[Any],
    b: NDArray[Any],
    result: NDArray[Any],
    whole: NDArray[Any],
) -> NDArray[Any]:
    """Repeat the comparison where the integer was rounded; Python compares its integers and floats exactly."""
    result, (a, b, whole) = np.array(result), np.broadcast_arrays(a, b, whole)
    rows = np.flatnonzero(_large(whole))
    pairs = zip(a.ravel()[rows].tolist(), b.ravel()[rows].tolist(), strict=True)
    result.reshape(-1)[rows] = [relation(x, y) for x, y in pairs]
    return result


def _large(values: NDArray[Any]) -> NDArray[np.bool_]:
    return (values >= EXACT) | (values <= -EXACT)


def _beyond(values: Any) -> bool:
    """Whether whole numbers reach where floats are not exact; False for floats, which are exact."""
    values = np.asarray(values)
    return (
        values.dtype.kind in "iu"
        and values.dtype.itemsize == 8
        and bool(values.size and (int(values.max()) >= EXACT or int(values.min()) <= -EXACT))
    )


def same_integers(a: Any, b: Any) -> tuple[Any, Any]:
    """Both sides in one integer type, if they are whole numbers that one type holds; else as they are."""
    a, b = (np.asarray(plain(side)) for side in (a, b))
    a, b = (side.astype(np.int64) if side.dtype == bool else side for side in (a, b))
    if a.dtype.kind + b.dtype.kind not in ("iu", "ui") or not (a.size and b.size):
        return a, b
    unsigned, signed = (a, b) if a.dtype.kind == "u" else (b, a)
    if int(unsigned.max()) < 2**63:
        return a.astype(np.int64), b.astype(np.int64)
    if int(signed.min()) >= 0:
        return a.astype(np.uint64), b.astype(np.uint64)
    return a, b


def exactly(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A sum, difference or product in floats, or in 64-bit integers where floats would round whole numbers.

    Results beyond 64 bits are floats.
    """

    def apply(a: Any, b: Any) -> Any:
        a, b = plain(a), plain(b)
        rounded = operation(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
        kinds = {np.asarray(side).dtype.kind for side in (a, b)}
        if not kinds <= set("biu") or not np.size(rounded):
            return rounded
        low, high = float(np.min(rounded)), float(np.max(rounded))
        if not (_beyond(a) or _beyond(b) or max(high, -low) >= EXACT):
            return rounded
        # Arithmetic modulo 2^64 gives the right bits of every result that 64 bits hold.
        with np.errstate(over="ignore"):
            bits = np.asarray(operation(*(np.asarray(side).astype(np.uint64) for side in (a, b))))
        if low > _FAR - 2.0**63 and high < 2.0**63 - _FAR:
            return bits.view(np.int64)
        # A result below zero would come back as one near 2^64.
        return bits if np.all(np.abs(bits.astype(np.float64) - rounded) < _WRAPPED) else rounded

    return apply
