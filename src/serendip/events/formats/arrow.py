"""Parquet and Arrow (Feather, IPC) files, and Arrow tables in memory."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from serendip.errors import InputError
from serendip.events.formats.arrow_types import leaves, listed, load, usable
from serendip.events.formats.table import Table

__all__ = ["ArrowFile", "ArrowTable", "ParquetTable", "describe"]

TWICE = "is duplicated; rename one of them"


def describe(table: Table, schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Fill in types and unusable columns of a table; fields of records become columns with dotted names.

    Returns
    -------
    dict
        The path to each column that can be loaded.
    """
    paths: dict[str, tuple[str, ...]] = {}
    found = [leaf for field in schema for leaf in leaves(field)]
    counts = Counter(name for name, _, _ in found)
    for name, path, column in found:
        kind, reason = usable(column)
        numbers = listed(column)
        if counts[name] > 1:
            table.unreadable[name] = TWICE
        elif numbers is not None:
            table.jagged[name], paths[name] = numbers, path
        elif kind is None:
            table.unreadable[name] = reason
        else:
            table.types[name], paths[name] = kind, path
    return paths


def _values(table: pa.Table, path: tuple[str, ...], file: str, name: str) -> Any:
    return load(table[path[0]], path[1:], file, name)


class ArrowTable(Table):
    """An Arrow table in memory."""

    format = "Arrow"
    in_memory = True

    def __init__(self, table: pa.Table, path: Path, format: str = "Arrow") -> None:
        super().__init__(path)
        self.format = format
        self._table = table
        self.n_rows = table.num_rows
        self._paths = describe(self, table.schema)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return int(self._table.nbytes)

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        part = self._table.slice(start, stop - start)
        return {name: _values(part, self._paths[name], self.name, name) for name in names}


class _ArrowFile(Table):
    """Common base of Parquet and Arrow files: a schema, and parts of which some columns can be read."""

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path, tree)
        with self._readable():
            schema = self._open()
        self._paths = describe(self, schema)
        stored = (schema.metadata or {}).get(b"serendip")
        self.roles = json.loads(stored) if stored else None

    @abstractmethod
    def _open(self) -> pa.Schema:
        """Open the file."""

    @abstractmethod
    def _read(self, names: list[str], start: int, stop: int) -> tuple[pa.Table, int]:
        """Columns of at least these rows, and the number of the first row."""

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowNotImplementedError as error:
            wide = "64 bits" in str(error)
            hint = "; write such columns as 64-bit integers or as text" if wide else ""
            raise InputError(f"{self.name}: cannot be read: {_first_line(error)}{hint}") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            if "encrypt" in str(error).lower():
                raise InputError(f"{self.name}: is encrypted; write it without encryption") from error
            if not self._has_end():
                what = "truncated: its end is missing"
            else:
                what = f"damaged: {_first_line(error)}"
            raise InputError(
                f"{self.name}: this is not a readable {self.format} file, it is {what}; write or copy it again"
            ) from error

    def _has_end(self) -> bool:
        return True

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        if not names:
            return {}
        with self._readable():
            table, first = self._read(list(names), start, stop)
            table = table.slice(start - first, stop - start)
            return {name: _values(table, self._paths[name], self.name, name) for name in names}


class ParquetTable(_ArrowFile):
    """A Parquet file."""

    format = "Parquet"

    def _open(self) -> pa.Schema:
        metadata = pa.parquet.read_metadata(self.path)
        self.n_rows = metadata.num_rows
        self._leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        self._groups = np.cumsum(
            [0, *(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))]
        )
        return metadata.schema.to_arrow_schema()

    def _read(self, names: list[str], start: int, stop: int) -> tuple[pa.Table, int]:
        columns = [one for name in names for one in self._stored(self._paths[name])]
        first = int(np.searchsorted(self._groups, start, side="right")) - 1
        last = int(np.searchsorted(self._groups, stop, side="left"))
        with pa.parquet.ParquetFile(self.path) as file:
            if start == 0 and stop == self.n_rows:
                return file.read(columns=columns), 0
            return file.read_row_groups(list(range(first, last)), columns=columns), int(self._groups[first])

    def _stored(self, path: tuple[str, ...]) -> list[str]:
        """Names in the file of the fields read for a column; between fields there may be two names that only mark a list."""
        if len(path) == 1:
            return [path[0]]
        lists = r"(?:\.[^.]+\.[^.]+)*"
        pattern = re.compile((lists + r"\.").join(map(re.escape, path)) + lists)
        return [leaf for leaf in self._leaves if pattern.fullmatch(leaf)] or [path[0]]

    def _has_end(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-min(4, self.path.stat().st_size), 2)
            return file.read(4) in (b"PAR1", b"PARE")


class ArrowFile(_ArrowFile):
    """An Arrow file: Feather of both versions, IPC files and streams."""

    format = "Arrow"

    def _open(self) -> pa.Schema:
        with self.path.open("rb") as file:
            magic = file.read(4)
        self._old = magic == b"FEA1"
        self._stream = magic == b"\xff\xff\xff\xff"
        if self._old:
            table = pa.feather.read_table(self.path)
            self.n_rows = table.num_rows
            return table.schema
        with self._batches(None) as (schema, batches):
            # one column is enough to count rows, and the others stay packed
            with self._batches([0] if len(schema) else None) as (_, few):
                self.n_rows = sum(batch.num_rows for batch in few)
            del batches
            return schema

    @contextmanager
    def _batches(self, fields: list[int] | None) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        with pa.memory_map(str(self.path)) as source:
            if self._stream:
                with pa.ipc.open_stream(source, options=options) as stream:
                    yield stream.schema, iter(stream)
            else:
                with pa.ipc.open_file(source, options=options) as file:
                    yield file.schema, (file.get_batch(i) for i in range(file.num_record_batches))

    def _read(self, names: list[str], start: int, stop: int) -> tuple[pa.Table, int]:
        tops = list(dict.fromkeys(self._paths[name][0] for name in names))
        if self._old:
            return pa.feather.read_table(self.path, columns=tops), 0
        with self._batches(None) as (schema, _):
            fields = sorted(schema.get_field_index(top) for top in tops)
        kept: list[pa.RecordBatch] = []
        first = seen = 0
        with self._batches(fields) as (schema, batches):
            for batch in batches:
                if seen + batch.num_rows > start and seen < stop:
                    first = first if kept else seen
                    kept.append(batch)
                seen += batch.num_rows
                if seen >= stop:
                    break
            table = pa.Table.from_batches(kept, schema=None if kept else schema)
            # the values must outlive the mapping of the file
            return table, first

    def _has_end(self) -> bool:
        if self._old or self._stream:
            return True
        with self.path.open("rb") as file:
            file.seek(-min(6, self.path.stat().st_size), 2)
            return file.read(6) == b"ARROW1"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
