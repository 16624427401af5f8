"""Parquet (one file or a folder of files) and CSV, both with pyarrow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.table import Table

__all__ = ["CsvTable", "ParquetTable"]

FLATTEN = (
    "holds a list of values for each event (jagged), but one number for each event is needed; make one "
    "column "
    "of it first, for example with awkward: ak.fill_none(ak.firsts(array), nan), and write that"
)


def _kind(column: pa.DataType) -> tuple[str, bool]:
    """Type in NumPy's words, and whether it can be loaded."""
    if pa.types.is_dictionary(column):
        return _kind(column.value_type)
    if pa.types.is_decimal(column):
        return "float64", True
    if pa.types.is_string(column) or pa.types.is_large_string(column) or pa.types.is_null(column):
        return "text", True
    flat = pa.types.is_integer(column) or pa.types.is_floating(column) or pa.types.is_boolean(column)
    return (str(np.dtype(column.to_pandas_dtype())), True) if flat else (str(column), False)


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type) or (pa.types.is_boolean(column.type) and column.null_count):
        column = column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column.cast(pa.int8())
    array: NDArray[Any] = column.to_numpy()
    return array


class _ArrowTable(Table):
    def _describe(self, schema: pa.Schema) -> None:
        duplicated = {name for name, count in Counter(schema.names).items() if count > 1}
        for field in schema:
            kind, loadable = _kind(field.type)
            if field.name in duplicated:
                self.unreadable[field.name] = "is there more than once; rename one of them"
            elif loadable:
                self.types[field.name] = kind
            elif pa.types.is_nested(field.type):
                self.unreadable[field.name] = FLATTEN
            else:
                self.unreadable[field.name] = f"has the type {kind}; expected numbers or text"
        if self.n_rows == 0:
            raise InputError(f"{self.path.name}: the table has no rows")


def parquet_files(folder: Path) -> list[str]:
    """List Parquet files below a folder by name, without hidden ones and those that begin with ``_``."""
    found = [
        file for file in folder.rglob("*") if file.suffix in (".parquet", ".pq") and file.name[0] not in "._"
    ]
    return [str(file) for file in sorted(found)]


class ParquetTable(_ArrowTable):
    """A Parquet file, or a folder with files of one schema, in the order of their names."""

    format = "Parquet"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        if tree is not None:
            raise InputError(f"{path.name}: a Parquet file holds one table; leave --tree out")
        files = parquet_files(path) if path.is_dir() else [str(path)]
        if not files:
            raise InputError(f"'{path}' is a folder without Parquet files")
        try:
            if path.is_dir():
                self._data = pa.dataset.dataset(
                    files, format="parquet", partitioning="hive", partition_base_dir=str(path)
                )
                schema, self.n_rows = self._data.schema, self._data.count_rows()
                self._parts = {
                    part.path: set(part.physical_schema.names) for part in self._data.get_fragments()
                }
            else:
                self._data = None
                metadata = pa.parquet.read_metadata(path)
                schema, self.n_rows = metadata.schema.to_arrow_schema(), metadata.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._broken(error) from error
        self._describe(schema)
        stored = (schema.metadata or {}).get(b"serendip")
        self.roles = json.loads(stored) if stored else None

    def _broken(self, error: Exception) -> InputError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return InputError(
            f"{self.path.name}: this is not a readable Parquet file, it may be truncated or damaged "
            f"({reason}); write or copy it again"
        )

    def load(
        self, names: Collection[str], start: int = 0, stop: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """See :meth:`Table.load`."""
        self.require(names)
        if self._data is not None:
            in_files = set().union(*self._parts.values())
            for part, present in self._parts.items():
                if lacking := sorted((set(names) & in_files) - present):
                    raise InputError(
                        f"{self.path.name}: the part '{Path(part).name}' has no column '{lacking[0]}', other parts have; "
                        "all parts of a table need the same columns"
                    )
        try:
            if self._data is None:
                table = pa.parquet.read_table(self.path, columns=list(names), partitioning=None)
            else:
                table = self._data.to_table(columns=list(names))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._broken(error) from error
        if start or stop is not None:
            table = table.slice(start, None if stop is None else stop - start)
        return {name: _to_numpy(table[name]) for name in names}


class CsvTable(_ArrowTable):
    """A text table with one header line; the separator is a comma, semicolon, tab or blank."""

    format = "CSV"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        if tree is not None:
            raise InputError(f"{path.name}: a CSV file holds one table; leave --tree out")
        compression = "gzip" if path.suffix == ".gz" else None
        try:
            with pa.input_stream(path, compression=compression) as stream:
                head = stream.read(1 << 20)
            if b"\0" in head:
                raise InputError(
                    f"{path.name}: this is not a text file, although its name says CSV; give it its true "
                    "suffix"
                )
            header = head.decode("utf-8").lstrip("\ufeff").splitlines()[0]
            separator = max(",;\t ", key=header.count)
            self._check_header(header.split(separator))
            with pa.input_stream(path, compression=compression) as stream:
                self._table = pa.csv.read_csv(stream, parse_options=pa.csv.ParseOptions(delimiter=separator))
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else "it is empty"
            raise InputError(f"{path.name}: this is not a readable CSV table ({reason})") from error
        self._table = self._table.rename_columns([name.strip() for name in self._table.column_names])
        self.n_rows = self._table.num_rows
        self._describe(self._table.schema)

    def _check_header(self, names: list[str]) -> None:
        names = [name.strip().strip('"') for name in names]
        numbers = [name for name in names if _is_number(name)]
        if len(numbers) == len(names) and names != [str(i) for i in range(len(names))]:
            raise InputError(
                f"{self.path.name}: the first line holds numbers ({', '.join(names[:3])}...); expected "
                "column names"
            )

    def load(
        self, names: Collection[str], start: int = 0, stop: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """See :meth:`Table.load`."""
        self.require(names)
        return {name: _to_numpy(self._table[name])[start:stop] for name in names}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
