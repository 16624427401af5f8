"""Columns of a branch of a TTree or a field of an RNTuple: a number, a text or a list for each event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from serendip.events.expressions.values import whole_numbers
from serendip.events.formats.table import as_array
from serendip.events.jagged import Jagged

__all__ = ["Contents", "Field", "columns_of_form", "reason_of", "to_column"]


@dataclass(frozen=True)
class Field:
    """A column and where it is.

    Parameters
    ----------
    kind
        Type of the numbers as NumPy names it, or ``"text"``.
    depth
        0 for one value for each event, 1 for a list of them, 2 for a list of lists.
    source
        The ``TBranch`` or ``RField`` that holds it.
    path
        Names of the fields from the source down to the column, for records and leaf lists.
    plain
        True for numbers and lists of numbers that uproot reads without knowing a class: a failure means a damaged file.
    interpretation
        How uproot shall read the source if its own choice is wrong.
    """

    kind: str
    depth: int
    source: Any
    path: tuple[str, ...] = ()
    plain: bool = True
    interpretation: Any = None

    @property
    def type(self) -> str:
        """Type for the listing of columns."""
        return "list of " * max(self.depth - 1, 0) + self.kind


@dataclass
class Contents:
    """Columns of a tree, those that cannot be used with the reason, and short names for columns with long ones."""

    fields: dict[str, Field] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, column: Field) -> None:
        """Add a column, or refuse its name if it is already used."""
        if name in self.fields or name in self.unreadable:
            self.fields.pop(name, None)
            self.unreadable[name] = "is duplicated; write the columns to a tree with different names"
        elif column.kind == "text" and column.depth:
            self.unreadable[name] = "has a list of texts for each event; expected numbers"
        else:
            self.fields[name] = column

    def refuse(self, name: str, why: str) -> None:
        """Record why a column cannot be used."""
        self.unreadable.setdefault(name, why)

    def shorten(self, short: dict[str, list[str]]) -> None:
        """Let columns be named by their last part where only one has it."""
        self.short = {
            last: names[0]
            for last, names in short.items()
            if len(names) == 1 and last not in self.fields and last not in self.unreadable
        }


def columns_of_form(form: Any, depth: int = 0) -> Iterator[tuple[tuple[str, ...], str, int, str]]:
    """Numbers and texts in a form of awkward: path, kind, depth, and why it cannot be used (empty if it can)."""
    if form.is_record:
        if not form.contents:
            yield (), "", depth, "contains no data"
        for name, content in zip(form.fields, form.contents, strict=True):
            if not name.startswith("@"):
                for path, kind, below, why in columns_of_form(content, depth):
                    yield (name, *path), kind, below, why
    elif form.parameter("__array__") in ("string", "bytestring"):
        yield (), "text", depth, ""
    elif form.is_option or form.is_indexed:
        yield from columns_of_form(form.content, depth)
    elif form.is_list:
        yield from columns_of_form(form.content, depth + 1)
    elif form.is_numpy:
        kind = np.dtype(form.primitive)
        why = "" if kind.kind in "biuf" else f"has the type {kind}; expected numbers"
        yield (), str(kind), depth + len(form.inner_shape), why
    elif form.is_union:
        yield (
            (),
            "",
            depth,
            "has values of different types in different events (std::variant); expected one type",
        )
    else:
        yield (), "", depth, "contains no data"


def to_column(array: Any, column: Field) -> Any:
    """NumPy array or :class:`Jagged` from the arrays of uproot.

    Raises
    ------
    TypeError
        If the values do not match the description.
    """
    if isinstance(array, np.ndarray):
        for name in column.path:
            array = array[name]
        if column.kind == "text":
            return as_array(array)
        values = _native(array)
        if values.dtype.kind == "f":
            values = values.astype(column.kind, copy=False)
        return Jagged.from_numpy(values) if values.ndim > 1 else values
    for name in column.path:
        array = array[name]
    if column.depth:
        return Jagged.from_awkward(array)
    layout = ak.to_layout(array)
    if layout.is_numpy:
        return _native(np.asarray(layout.data))
    if column.kind == "text":
        return np.array(ak.to_list(array), dtype=object)
    missing = np.asarray(ak.is_none(array))
    there = _native(ak.to_numpy(ak.drop_none(array)))
    if there.dtype.kind in "iu":
        values = np.zeros(len(missing), dtype=there.dtype)
        values[~missing] = there
        return whole_numbers(values, missing)
    if not missing.any():
        return there
    out = np.full(len(missing), np.nan, dtype=np.float32 if there.dtype == np.float32 else np.float64)
    out[~missing] = there
    return out


def _native(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{values.dtype} instead of numbers")
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def reason_of(error: BaseException) -> str:
    """The message of an exception of uproot, in one line and without the path of the file, with which our message begins."""
    text = " ".join(re.sub(r"\bin file \S+", "", str(error)).split())
    return text[:120] or type(error).__name__
