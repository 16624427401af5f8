"""Arrays side by side, as in ``.npz`` and HDF5 files and dictionaries: which columns they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.expressions.values import whole_numbers
from serendip.events.formats.table import TEXT, as_array
from serendip.events.jagged import Jagged

__all__ = ["Beside", "Position", "beside", "extract", "reason", "with_missing"]

Position = tuple[str | int, ...]
"""Way from an array to a column: the name of a field, the number of a column, or both."""

# Matrices with up to so many columns have a name for each.
SPELT_OUT = 32


@dataclass
class Beside:
    """Columns that arrays of one length make.

    Attributes
    ----------
    n_rows
        Length that most arrays have.
    types, jagged, unreadable
        As in :class:`serendip.events.formats.table.Table`.
    columns
        Name of the array and way to the column.
    """

    n_rows: int = 0
    types: dict[str, str] = field(default_factory=dict)
    jagged: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    columns: dict[str, tuple[str, Position]] = field(default_factory=dict)

    def add(self, name: str, array: str, position: Position, dtype: np.dtype[Any]) -> None:
        """Add a column, or record why it cannot be one."""
        if name in self.types or name in self.unreadable:
            self.types.pop(name, None)
            self.columns.pop(name, None)
            self.unreadable[name] = "is duplicated; rename one of them"
            return
        if dtype.names:
            for one in dtype.names:
                self.add(f"{name}.{one}", array, (*position, one), dtype[one])
            return
        if dtype.subdtype is not None:
            base, shape = dtype.subdtype
            if shape == (1,):
                self.add(name, array, (*position, 0), base)
            else:
                self.add_lists(name, array, position, base, shape)
            return
        why = reason(dtype)
        if why:
            self.unreadable[name] = why
            return
        # of long doubles, doubles are made
        long = dtype.kind == "f" and dtype.itemsize > 8
        self.types[name] = TEXT if dtype.kind in "SU" else "float64" if long else str(dtype.newbyteorder("="))
        self.columns[name] = array, position

    def add_lists(
        self,
        name: str,
        array: str,
        position: Position,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        *,
        fields: bool = False,
    ) -> None:
        """Add lists of numbers for each row, and each number of short ones as a column too, unless they are many fields."""
        if dtype.names:
            for one in dtype.names:
                self.add_lists(f"{name}.{one}", array, (*position, one), dtype[one], shape, fields=True)
            return
        if dtype.kind not in "biuf":
            self.unreadable[name] = (
                f"has several values for each row (shape {tuple(shape)}) that are not numbers"
            )
            return
        self.jagged[name] = "list of " * (len(shape) - 1) + str(dtype.newbyteorder("="))
        self.columns[name] = array, position
        if len(shape) == 1 and shape[0] <= SPELT_OUT and not fields:
            for i in range(shape[0]):
                self.add(f"{name}[:,{i}]", array, (*position, i), dtype)


def reason(dtype: np.dtype[Any]) -> str:
    """Why values of a type cannot be used; empty if they can."""
    if dtype.kind in "biufSU":
        return ""
    if dtype.kind == "c":
        return f"is complex ({dtype}); expected real numbers; write real and imaginary part"
    if dtype.kind in "mM":
        return f"is a time ({dtype}); expected numbers or text; write it as a number, such as seconds"
    if dtype.kind == "O":
        return "holds Python objects; expected numbers or text"
    return f"has the type {dtype}; expected numbers or text"


def beside(arrays: Mapping[str, tuple[Sequence[int], np.dtype[Any]]]) -> Beside:
    """Columns of arrays side by side.

    An array ``(n,)`` is a column, ``(n, k)`` is a list of ``k`` numbers for each row, and ``k`` columns ``data[:,0]``,
    ``data[:,1]``; alone it has numbers for names. Fields of a structured array have their names, with the name of the array
    before it (``jets.pt``) unless it is alone.

    Parameters
    ----------
    arrays
        Shape and type of each.
    """
    found = Beside()
    lengths = [shape[0] for shape, _ in arrays.values() if len(shape) > 0]
    found.n_rows = max(set(lengths), key=lambda length: (lengths.count(length), length), default=0)
    for name, (shape, dtype) in arrays.items():
        alone = len(arrays) == 1
        if len(shape) == 0:
            found.unreadable[name] = "is a single value; expected one for each row"
        elif shape[0] != found.n_rows:
            found.unreadable[name] = f"has {shape[0]} rows while most columns have {found.n_rows}"
        elif dtype.names:
            for one in dtype.names:
                field_name = one if alone else f"{name}.{one}"
                if len(shape) == 1:
                    found.add(field_name, name, (one,), dtype[one])
                else:
                    found.add_lists(field_name, name, (one,), dtype[one], shape[1:], fields=True)
        elif len(shape) == 1:
            found.add(name, name, (), dtype)
        elif len(shape) == 2 and alone:
            for i in range(shape[1]):
                found.add(str(i), name, (i,), dtype)
        elif len(shape) == 2 and shape[1] == 1:
            found.add(name, name, (0,), dtype)
        else:
            found.add_lists(name, name, (), dtype, shape[1:])
    return found


def extract(values: NDArray[Any], position: Position) -> Any:
    """Give one column of some rows of an array; :class:`~serendip.events.jagged.Jagged` if it has several numbers each."""
    for step in position:
        values = values[step] if isinstance(step, str) else values[:, step]
    if values.ndim > 1:
        return Jagged.from_numpy(as_array(np.ascontiguousarray(with_missing(values))))
    return with_missing(np.array(values) if position else values)


def with_missing(values: NDArray[Any]) -> NDArray[Any]:
    """Masked entries as NaN if the type can hold it in addition to all values, as None in texts; else they stay masked."""
    if not isinstance(values, np.ma.MaskedArray):
        return as_array(values)
    mask = np.ma.getmaskarray(values)
    plain = as_array(values.data)
    if not mask.any():
        return plain
    if plain.dtype.kind in "OSU":
        text = plain.astype(object)
        text[mask] = None
        return text
    if plain.dtype.kind != "f":
        return whole_numbers(plain.astype(np.int8) if plain.dtype == bool else plain, mask)
    return np.where(mask, np.asarray(np.nan, plain.dtype), plain)
