"""Tables in memory: dictionaries of arrays, structured arrays, data frames of pandas, polars and Arrow, awkward records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.arrays import Position, beside, extract
from serendip.events.formats.table import Table
from serendip.events.jagged import Jagged

__all__ = ["memory_table", "write_parquet"]

EXPECTED = (
    "expected a file, a list of files, a dictionary of arrays, a structured array, a data frame "
    "(pandas, polars, Arrow) or an awkward array of records"
)


def memory_table(source: Any) -> Table:
    """Table of an object in memory, recognised by its interface and not by its library.

    Raises
    ------
    InputError
        If it is no table.
    """
    kind = f"{type(source).__module__.split('.')[0]}.{type(source).__name__}"
    if isinstance(source, Mapping):
        return _Columns({str(name): values for name, values in source.items()}, "dictionary of arrays")
    if isinstance(source, np.ndarray):
        if source.ndim == 0 or (source.ndim == 1 and source.dtype.names is None):
            raise InputError(f"an array of shape {source.shape} has no columns; {EXPECTED}")
        return _Columns({"": source}, "NumPy array")
    if kind == "pandas.DataFrame":
        return _Columns(_pandas_columns(source), kind)
    if kind == "awkward.Array":
        return _awkward(source, kind)
    return _arrow(source, kind)


def write_parquet(source: Any, path: Path) -> None:
    """Write the columns of a table in memory that can be used, and no roles.

    Raises
    ------
    InputError
        If it is no table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = memory_table(source)
    columns = table.load([*table.types, *table.jagged])
    pq.write_table(pa.table({name: _as_arrow(values) for name, values in columns.items()}), path)


def _as_arrow(values: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, Jagged):
        return pa.LargeListArray.from_arrays(pa.array(values.offsets), _as_arrow(values.content))
    return pa.array(values)


def _arrow(source: Any, kind: str) -> Table:
    import pyarrow as pa

    from serendip.events.formats.arrow import ArrowTable

    try:
        if hasattr(source, "__arrow_c_stream__"):
            table = pa.table(source)
        elif hasattr(source, "__arrow_c_array__"):
            table = pa.Table.from_batches([pa.record_batch(source)])
        elif hasattr(source, "__dataframe__"):
            from pyarrow.interchange import from_dataframe

            table = from_dataframe(source)
        else:
            lazy = "; it is lazy, call collect() first" if hasattr(source, "collect") else ""
            raise InputError(f"cannot read events from an object of type {kind}{lazy}; {EXPECTED}")
    except (pa.ArrowException, TypeError, NotImplementedError) as error:
        if hasattr(source, "columns") and hasattr(source, "__getitem__"):
            # one column that Arrow does not know must not hide the others
            return _Columns({str(name): source[name] for name in source.columns}, kind)
        raise InputError(f"cannot read events from {kind}: {error}; {EXPECTED}") from error
    return ArrowTable(table, Path(kind), kind)


def _pandas_columns(frame: Any) -> dict[str, Any]:
    """Columns of a data frame, and the levels of its index that have a name."""

    def name(label: Any) -> str:
        return ".".join(map(str, label)) if isinstance(label, tuple) else str(label)

    columns: dict[str, Any] = {}
    for level in range(frame.index.nlevels):
        if frame.index.names[level] is not None:
            columns[name(frame.index.names[level])] = frame.index.get_level_values(level)
    for i, label in enumerate(frame.columns):
        if name(label) in columns:
            raise InputError(
                f"the data frame has the column '{name(label)}' more than once; rename one of them"
            )
        columns[name(label)] = frame.iloc[:, i]
    return columns


def _awkward(source: Any, kind: str) -> Table:
    import awkward as ak

    if not ak.fields(source):
        raise InputError(f"an awkward array without fields has no columns; {EXPECTED}")
    table = ak.to_arrow_table(source, list_to32=False, string_to32=True, extensionarray=False)

    from serendip.events.formats.arrow import ArrowTable

    return ArrowTable(table, Path(kind), kind)


class _Columns(Table):
    """Arrays of one length, each of NumPy or of Arrow."""

    in_memory = True

    def __init__(self, columns: Mapping[str, Any], name: str) -> None:
        super().__init__(Path(name))
        self.format = name
        self._arrow: dict[str, Any] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        reasons: dict[str, str] = {}
        for column, values in columns.items():
            self._hold(column, values, reasons)
        shapes = {column: (array.shape, array.dtype) for column, array in self._arrays.items()}
        shapes |= {column: ((len(array),), np.dtype(bool)) for column, array in self._arrow.items()}
        described = beside(shapes)
        if len({shape[0] for shape, _ in shapes.values() if shape}) > 1:
            lengths = ", ".join(f"{column}: {shape[0]}" for column, (shape, _) in shapes.items() if shape)
            raise InputError(f"{name}: the columns differ in length ({lengths})")
        self._positions: dict[str, tuple[str, Position]] = described.columns
        self.types, self.jagged, self.n_rows = described.types, described.jagged, described.n_rows
        self.unreadable = described.unreadable
        if self._arrow:
            self._describe_arrow()
        self.unreadable |= reasons

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in (*self._arrays.values(), *self._arrow.values()))

    def _hold(self, name: str, values: Any, reasons: dict[str, str]) -> None:
        if isinstance(values, np.ndarray):
            array: NDArray[Any] = values
        else:
            dtype = getattr(values, "dtype", None)
            if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
                array = np.asarray(values)
            else:
                self._hold_arrow(name, values, reasons)
                return
        if array.dtype == object:
            self._hold_arrow(name, array, reasons)
        else:
            self._arrays[name] = array

    def _hold_arrow(self, name: str, values: Any, reasons: dict[str, str]) -> None:
        import pyarrow as pa

        try:
            if hasattr(values, "__arrow_c_stream__"):
                self._arrow[name] = pa.chunked_array(values)
            else:
                try:
                    made = pa.array(values, from_pandas=True)
                except OverflowError:
                    made = pa.array(values, pa.uint64(), from_pandas=True)
                self._arrow[name] = made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            reasons[name] = (
                f"holds Python objects or a type that are neither numbers nor text ({str(error).splitlines()[0]})"
            )

    def _describe_arrow(self) -> None:
        from serendip.events.formats.arrow_types import listed, usable

        for name, column in self._arrow.items():
            kind, why = usable(column.type)
            numbers = listed(column.type)
            self.types.pop(name, None)
            if numbers is not None:
                self.jagged[name] = numbers
            elif kind is None:
                self.unreadable[name] = why
            else:
                self.types[name] = kind

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        found: dict[str, Any] = {}
        for name in names:
            if name in self._arrow:
                from serendip.events.formats.arrow_types import load

                found[name] = load(self._arrow[name].slice(start, stop - start), (), self.name, name)
            else:
                array, position = self._positions[name]
                part = self._arrays[array][start:stop]
                found[name] = extract(part, position)
        return found
