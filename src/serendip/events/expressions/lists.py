"""Jagged columns in expressions: ``Jet_pt[:,0]``, ``sum(Jet_pt)``, ``Jet_pt[Jet_eta < 2.5]``, ``2 * Jet_pt``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions.values import EXACT, condition, missing, negation, plain
from serendip.events.jagged import Jagged

__all__ = ["lifted", "nth", "ordered", "pick", "reduced", "widened"]


def widened(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as bool, int64, uint64 or float64, so that small types neither overflow nor round."""
    if values.dtype in (np.bool_, np.float64, np.uint64):
        return values
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64, copy=False)


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of flat columns act on the values inside of lists.

    A per-event number is broadcast to the values in the list of the event; two lists must have the same number of
    values in every event.
    """

    def apply(*arguments: Any) -> Any:
        lists = [argument for argument in arguments if isinstance(argument, Jagged)]
        if not lists:
            return function(*arguments)
        first = lists[0]
        for other in lists[1:]:
            if other.offsets is not first.offsets and not np.array_equal(other.offsets, first.offsets):
                event = int(np.flatnonzero(other.counts != first.counts)[0])
                raise InputError(
                    f"two lists have different numbers of values in the same event (event {event}: "
                    f"{first.counts[event]} and {other.counts[event]}); take one object of each, for example "
                    "[:,0], or lists of the same collection"
                )
        inside = [
            argument.content
            if isinstance(argument, Jagged) and isinstance(argument.content, Jagged)
            else widened(argument.content)
            if isinstance(argument, Jagged)
            else np.repeat(argument, first.counts)
            if np.ndim(argument)
            else argument
            for argument in arguments
        ]
        return Jagged(first.offsets, apply(*inside))

    return apply


def nth(values: Jagged, position: int) -> Any:
    """Object ``position`` of each event, negative from the end; NaN, or an empty list, where there is none."""
    starts, stops = values.offsets[:-1], values.offsets[1:]
    at = starts + position if position >= 0 else stops + position
    there = (at >= starts) & (at < stops)
    content = values.content
    if isinstance(content, Jagged):
        counts = np.zeros(len(values), dtype=np.int64)
        counts[there] = content.counts[at[there]]
        return Jagged.of(counts, content[at[there]].content)
    if there.all():
        return widened(content[at])
    return _with_nan(content[at[there]], there)


def _with_nan(values: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
    """``values`` where ``there`` and NaN elsewhere."""
    values = plain(values)
    if values.dtype.kind in "iu" and values.size and max(int(values.max()), -int(values.min())) >= EXACT:
        raise InputError(
            "some events lack the object, and the whole numbers of the others are too large to be stored with NaN (above 2^53); "
            "require the object first, with --where 'count(...) > 0'"
        )
    out = np.full(len(there), np.nan)
    out[there] = values
    return out


def pick(values: Jagged, chosen: Any) -> Jagged:
    """Keep the objects that pass a condition, or the first ones with a slice."""
    if isinstance(chosen, slice):
        number = np.arange(values.offsets[-1]) - np.repeat(values.offsets[:-1], values.counts)
        low, high = (
            None
            if end is None
            else np.repeat(values.counts + end if end < 0 else np.full(len(values), end), values.counts)
            for end in (chosen.start, chosen.stop)
        )
        mask = np.ones(len(number), dtype=bool)
        if low is not None:
            mask &= number >= low
        if high is not None:
            mask &= number < high
        return _masked(values, mask)
    if not isinstance(chosen, Jagged) or isinstance(chosen.content, Jagged) or chosen.content.dtype != bool:
        raise InputError(
            "a list can be followed by [:,N] for object N (the first is 0), [:,:N] for the first N, or a condition for each "
            "object, for example [Jet_pt > 30]"
        )
    if not np.array_equal(values.offsets, chosen.offsets):
        raise InputError("the condition in [...] is on another collection than the list before it")
    # an object for which the condition is unknown does not pass it
    return _masked(values, np.ma.filled(chosen.content, fill_value=False))


def _masked(values: Jagged, mask: NDArray[np.bool_]) -> Jagged:
    passed = np.concatenate([[0], np.cumsum(mask)])
    return Jagged(passed[values.offsets], values.content[mask])


def ordered(values: Any, by: Any = None) -> Jagged:
    """Objects of each event in falling order of ``by``, equal ones in the order of the file; NaN comes last."""
    by = values if by is None else by
    if not (isinstance(values, Jagged) and isinstance(by, Jagged)) or isinstance(by.content, Jagged):
        raise InputError("ordered(values, by) needs two lists of numbers for each event")
    if not np.array_equal(values.offsets, by.offsets):
        raise InputError("ordered(values, by) needs two lists of the same collection")
    event = np.repeat(np.arange(len(by)), by.counts)
    return Jagged(values.offsets, values.content[np.lexsort((-np.asarray(by.content, np.float64), event))])


def reduced(name: str, values: Any) -> Any:
    """Sum, number, smallest, largest, mean, any or all of the values of each event.

    The sum of no value is 0, the number of conditions is that of the true ones, and the smallest, largest or mean of no
    value is NaN. Of lists of lists the inner ones are taken together.
    """
    if not isinstance(values, Jagged):
        raise InputError(f"{name}(...) with one argument needs a list for each event, such as {name}(Jet_pt)")
    if isinstance(values.content, Jagged):
        return Jagged(values.offsets, reduced(name, values.content))
    if name == "count" and values.content.dtype != bool:
        return values.counts
    content = values.content
    if name in ("any", "all"):
        decisive = content if name == "any" else negation(content)
        decided = _trues(np.ma.filled(decisive, fill_value=False), values.offsets) > 0
        open_ = _trues(missing(content), values.offsets) > 0
        return condition(decided == (name == "any"), open_ & ~decided)
    content = plain(content)
    if name in ("sum", "count", "mean"):
        total = _trues(content, values.offsets) if content.dtype == bool else _sums(content, values.offsets)
        if name != "mean":
            return total
        return np.where(values.counts > 0, total, np.nan) / np.maximum(values.counts, 1)
    filled = values.counts > 0
    kind = np.minimum if name == "min" else np.maximum
    found = kind.reduceat(content, values.offsets[:-1][filled]) if filled.any() else content[:0]
    return widened(found) if filled.all() else _with_nan(found, filled)


def _trues(mask: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of true values of each event."""
    before = np.zeros(len(mask) + 1, dtype=np.int32 if len(mask) < 2**31 else np.int64)
    np.cumsum(mask, dtype=before.dtype, out=before[1:])
    return np.diff(before[offsets]).astype(np.int64)


def _sums(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of the values of each event, by awkward's kernel, which is faster than those of NumPy."""
    import awkward as ak

    content = ak.contents.NumpyArray(values.astype(np.float64, copy=False))
    lists = ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
    sums: NDArray[np.float64] = ak.to_numpy(ak.sum(ak.Array(lists), axis=1))
    return sums
