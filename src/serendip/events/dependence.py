"""Refuse correlated events unless their groups are named, and report the findings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.copies import Dependence, find_dependence
from serendip.events.identity import ALONE, COPIES, Place

__all__ = ["CONSEQUENCE", "REMEDY", "Telling", "check_dependence", "described", "sentence"]

log = logging.getLogger(__name__)

_LOOKED = 10_000
_MOST = 8
# whole numbers that differ in so many rows number the events
_NUMBERING = 0.9

CONSEQUENCE = (
    "Such events depend on each other: a classifier is tested on copies of its training events, errors are too small, and "
    "no p-value is true"
)
REMEDY = (
    "Name the columns that are equal for events that belong together (--group COL[,COL]); exact copies can be removed, or grouped "
    f"with --group {COPIES}. If the events are independent nevertheless, use --group {ALONE}; this is recorded"
)


def check_dependence(
    file: str,
    names: Sequence[str],
    columns: Sequence[NDArray[Any]],
    groups: NDArray[np.int64] | None,
    asked: object,
    place: Place,
) -> None:
    """Look for events that depend on each other, beyond the groups that are named.

    Parameters
    ----------
    file
        For messages.
    names, columns
        The mass and the features, shape ``(n,)`` each.
    groups
        Code of the group of each event, shape ``(n,)``, or None.
    asked
        The user's setting for groups: columns, a word, or nothing.
    place
        Gives the position of an event in the file.

    Raises
    ------
    InputError
        If there are such events and no groups are set. With groups, or with ``"none"``, it is a warning.
    """
    texts = described(names, columns, groups, place)
    if not texts:
        return
    text = "; ".join(texts)
    if groups is not None:
        log.warning("%s: in one event of each group, %s. %s", file, text, CONSEQUENCE)
    elif asked == ALONE:
        log.warning("%s: %s. They are treated as independent because of --group %s", file, text, ALONE)
    else:
        raise InputError(f"{file}: {text}. {CONSEQUENCE}. {REMEDY}")


def described(
    names: Sequence[str], columns: Sequence[NDArray[Any]], groups: NDArray[np.int64] | None, place: Place
) -> tuple[str, ...]:
    """Findings of :func:`find_dependence` among all events, or one event of each group, in words."""
    rows = np.arange(len(columns[0]))
    if groups is not None:
        rows = np.sort(np.unique(groups, return_index=True)[1])
        columns = [values[rows] for values in columns]
    found = find_dependence(columns)
    return tuple(sentence(sign, names, len(rows), lambda i: place(int(rows[i]))) for sign in found)


class Telling:
    """The columns of a table that are searched for copies if no features are given: the finest.

    Attributes
    ----------
    groups
        Code of the group of each event, shape ``(n,)``, or None.
    place
        Gives the position of an event in the file.
    """

    def __init__(self) -> None:
        self.groups: NDArray[np.int64] | None = None
        self.place: Place = lambda i: f"row {i}"
        self._columns: list[tuple[float, str, NDArray[Any]]] = []

    def add(self, name: str, role: str, values: NDArray[Any]) -> None:
        """Keep a column, mass or feature or of no role, if it is among the finest."""
        some = values[:: max(1, len(values) // _LOOKED)]
        fineness = len(np.unique(some)) / max(len(some), 1)
        if role == "" and values.dtype.kind in "iu" and fineness > _NUMBERING:
            return
        self._columns.append((2.0 if role == "mass" else fineness, name, values))
        self._columns.sort(key=lambda entry: -entry[0])
        del self._columns[_MOST:]

    def signs(self) -> tuple[str, ...]:
        """The findings, in words; rows with values that are not finite are left out."""
        columns = [values for _, _, values in self._columns]
        if not columns:
            return ()
        good = np.flatnonzero(np.logical_and.reduce([np.isfinite(values) for values in columns]))
        groups = None if self.groups is None else self.groups[good]
        names = [name for _, name, _ in self._columns]
        return described(names, [v[good] for v in columns], groups, lambda i: self.place(int(good[i])))


def sentence(sign: Dependence, names: Sequence[str], n: int, place: Place) -> str:
    """The findings among ``n`` events."""
    pair = f"{place(sign.rows[0])} and {place(sign.rows[1])}"
    if sign.kind == "copies":
        what = "mass and features" if len(names) > 1 else names[0]
        return f"{sign.count} of {n} rows are copies of others (same {what}; for example {pair})"
    if sign.kind == "values":
        return (
            f"the values of '{names[sign.column]}' come in groups of {sign.size} rows ({sign.count} of {n} rows repeat one; for "
            f"example {pair}), as if one event had several rows"
        )
    return (
        f"at least {sign.count} of {n} events are near copies of others, in groups of some {sign.size}: much closer to each other "
        f"than events of any smooth distribution (for example {pair}), as if one event had been used several times"
    )
