"""Which event is which: ids that name each event once, and groups of events that depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions import split_expressions
from serendip.events.expressions.values import EXACT, missing
from serendip.wording import counted

__all__ = ["ALONE", "COPIES", "Place", "checked_ids", "column_list", "content_codes", "group_codes"]

Place = Callable[[int], str]

COPIES = "duplicates"
"""Word for groups of exact copies: events with the same mass and features."""

ALONE = "none"
"""Word for events that are taken as independent although they look like copies."""

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 1 << 15


def column_list(given: str | Sequence[str] | None, known: Collection[str]) -> tuple[str, ...]:
    """Names of columns from ``COL[,COL...]`` or a list; a column whose name has a comma is found as a whole."""
    if given is None:
        return ()
    if isinstance(given, str):
        given = [given] if given.strip().strip("`") in known else split_expressions(given)
    names = tuple(dict.fromkeys(name.strip().strip("`") for name in given))
    if not names:
        raise InputError("an empty list of columns was given; name at least one column")
    return names


def checked_ids(file: str, columns: Mapping[str, NDArray[Any]], place: Place) -> dict[str, Any]:
    """Ids as int64, uint64 or text, unique for each event.

    Parameters
    ----------
    file
        For messages.
    columns
        The columns that make up the id, shape ``(n,)`` each.
    place
        Where an event is in the file, by its number in the columns: ``row 3``.

    Raises
    ------
    InputError
        If a value is missing or no id, or two events have the same id.
    """
    ids = {name: _exact(file, "id", name, values, place) for name, values in columns.items()}
    keys = list(ids.values())
    order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])
    again = np.ones(max(len(order) - 1, 0), dtype=bool)
    for values in keys:
        again &= values[order[1:]] == values[order[:-1]]
    same = np.flatnonzero(again)
    if len(same):
        a, b = order[same[0]], order[same[0] + 1]
        first = ":".join(str(values[a]) for values in keys)
        names = ",".join(ids)
        raise InputError(
            f"{file}: the id '{names}' is repeated in {counted(len(same), 'row')}, first '{first}' in {place(a)} and {place(b)}; "
            "rows of the same event depend on each other, and a p-value that takes them as independent is wrong. Copies: "
            "remove them. Several candidates of one event, or one generated event used many times: name it with "
            f"--group {names} in place of --id"
        )
    return ids


def group_codes(file: str, columns: Mapping[str, NDArray[Any]], place: Place) -> NDArray[np.int64]:
    """Code of the group of each event, shape ``(n,)``: equal where all columns are equal.

    A single column of whole numbers is its own code; otherwise the code is a 64-bit hash of the values. So it depends on
    nothing else, and samples from several files keep their groups when they are joined.

    Parameters
    ----------
    file, place
        As for :func:`checked_ids`.
    columns
        The columns that define the groups, shape ``(n,)`` each.

    Raises
    ------
    InputError
        If a value is missing.
    """
    keys = []
    for name, values in columns.items():
        exact = _exact(file, "group", name, values, place)
        keys.append(exact if exact.dtype.kind in "iu" else _text_codes(exact))
    return keys[0].astype(np.int64) if len(keys) == 1 else content_codes(keys)


def content_codes(columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Code of the content of each row, shape ``(n,)``: a 64-bit hash, equal for rows that are equal in all columns."""
    codes = np.empty(len(columns[0]), dtype=np.uint64)
    for start in range(0, len(codes), _BLOCK):
        block = np.zeros(min(_BLOCK, len(codes) - start), dtype=np.uint64)
        for values in columns:
            part = values[start : start + _BLOCK]
            # -0.0 equals 0.0
            part = part.astype(np.float64) + 0.0 if part.dtype.kind == "f" else part.astype(np.int64)
            block = _splitmix(block ^ _splitmix(part.view(np.uint64)))
        codes[start : start + _BLOCK] = block
    return codes.view(np.int64)


def _splitmix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = values + _GOLDEN
        values ^= values >> np.uint64(30)
        values *= _MIX[0]
        values ^= values >> np.uint64(27)
        values *= _MIX[1]
        values ^= values >> np.uint64(31)
    return values


def _text_codes(texts: NDArray[Any]) -> NDArray[np.uint64]:
    """Hash of each text, once for each that is different."""
    import hashlib

    different, which = np.unique(texts, return_inverse=True)
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in different.tolist())
    return np.frombuffer(digests, dtype=np.uint64)[which.ravel()]


def _exact(file: str, role: str, name: str, values: NDArray[Any], place: Place) -> NDArray[Any]:
    """Values as whole numbers or text; floating-point numbers only if they are whole and exact."""
    absent = np.flatnonzero(missing(values))
    if len(absent):
        raise InputError(
            f"{file}: {role} column '{name}' is missing in {counted(len(absent), 'row')}, first in {place(absent[0])}; "
            f"expected one {role} for each row; remove these rows with --where '!isnan({name})'"
        )
    values = np.ma.getdata(values)
    if values.dtype.kind == "f":
        if np.isfinite(values).all() and (len(values) == 0 or np.abs(values).max() < EXACT):
            whole = values.astype(np.int64)
            if np.array_equal(whole, values):
                return whole
        raise InputError(
            f"{file}: {role} column '{name}' has values that are not integers below 2^53; expected numbers or text"
        )
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype == object:
        empty = [row for row, value in enumerate(values) if value is None]
        if empty:
            raise InputError(
                f"{file}: {role} column '{name}' is missing in {counted(len(empty), 'row')}, first in {place(empty[0])}; "
                f"expected one {role} for each row"
            )
    return values.astype(str)
