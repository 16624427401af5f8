"""HDF5 through h5py: plain columns, compound tables, and the tables of pandas and PyTables.

The layouts of pandas are read from their blocks, so neither pandas nor PyTables is needed, and nothing in
the file is unpickled. Tables packed with Blosc need the package hdf5plugin (``serendip[hdf]``).
"""

from __future__ import annotations

import json
import pickletools
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.table import Table, as_array, pick

__all__ = ["HdfTable"]

SLAB = 64 << 20


class HdfTable(Table):
    """One table of an HDF5 file."""

    format = "HDF5"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        # name: (dataset, position): a field of a compound table, a number of a column in a block, or None
        self._sources: dict[str, tuple[h5py.Dataset, Any]] = {}
        with self._readable():
            self._file = h5py.File(path, "r")
            tables = _tables(self._file)
            self.tree = pick(path, tree, sorted(tables), "table")
            {
                "frame": self._frame,
                "compound": self._compound,
                "matrix": self._matrix,
                "columns": self._columns,
            }[tables[self.tree]](self._file[self.tree])
        if self.n_rows == 0:
            raise InputError(f"{path.name}: the table '{self.tree}' has no rows")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, UnicodeError) as error:
            reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.path.name}: this is not a readable HDF5 file, it may be truncated or damaged "
                f"({reason}); write or copy it again"
            ) from error

    def _add(self, name: str, dataset: h5py.Dataset, position: Any, dtype: np.dtype[Any]) -> None:
        text = h5py.check_string_dtype(dtype) is not None or dtype.kind in "SU"
        if dtype.subdtype is not None or (dtype.kind == "O" and not text):
            self.unreadable[name] = (
                "has several values for each row or is no number; expected one number for each row"
            )
        elif dtype.kind in "biuf" or text:
            self.types[name] = "text" if text else str(dtype.newbyteorder("="))
            self._sources[name] = (dataset, position)
        else:
            self.unreadable[name] = f"has the type {dtype}; expected numbers or text"

    def _frame(self, group: h5py.Group) -> None:
        """Describe the "fixed" layout of pandas: columns in blocks of one type."""
        self.n_rows = len(group["axis1"])
        for i in range(int(group.attrs["nblocks"])):
            names, values = group[f"block{i}_items"], group[f"block{i}_values"]
            _need_filters(self.path, names)
            for position, name in enumerate(as_array(names[:])):
                if values.ndim == 2:
                    self._add(str(name), values, position, values.dtype)
                else:
                    self.unreadable[str(name)] = (
                        "is stored as Python objects; save the table with text columns left out"
                    )

    def _compound(self, dataset: h5py.Dataset) -> None:
        self.n_rows = len(dataset)
        for field in dataset.dtype.names:
            dtype = dataset.dtype[field]
            names = _block_names(dataset, field) if dtype.subdtype is not None else None
            if names is None:
                self._add(field, dataset, field, dtype)
            elif dtype.base.kind in "biuf":
                for position, name in enumerate(names):
                    self._add(name, dataset, (field, position), dtype.base)
        stored = dataset.attrs.get("serendip")
        self.roles = json.loads(stored) if stored else None

    def _matrix(self, dataset: h5py.Dataset) -> None:
        self.n_rows = len(dataset)
        for position in range(dataset.shape[1]):
            self._add(str(position), dataset, position, dataset.dtype)

    def _columns(self, group: h5py.Group) -> None:
        for name, item in group.items():
            if isinstance(item, h5py.Dataset) and item.ndim == 1:
                self._add(name, item, None, item.dtype)
            elif isinstance(item, h5py.Dataset):
                self.unreadable[name] = "has several values for each row; expected one number for each row"
        lengths = {name: len(dataset) for name, (dataset, _) in self._sources.items()}
        self.n_rows = max(set(lengths.values()), key=list(lengths.values()).count)
        for name, length in lengths.items():
            if length != self.n_rows:
                self.unreadable[name] = f"has {length} rows while most columns have {self.n_rows}"
                del self.types[name], self._sources[name]

    def load(
        self, names: Collection[str], start: int = 0, stop: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """See :meth:`Table.load`; read in slabs of rows, so that unused columns cost no memory."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        datasets: dict[str, list[str]] = {}
        for name in names:
            datasets.setdefault(self._sources[name][0].name, []).append(name)
        with self._readable():
            for path, wanted in datasets.items():
                dataset = self._file[path]
                _need_filters(self.path, dataset)
                row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=int))
                step = max(1, SLAB // row_bytes)
                if dataset.chunks:
                    step = -(-step // dataset.chunks[0]) * dataset.chunks[0]
                for low in range(start, max(stop, start + 1), step):
                    slab = dataset[low : min(low + step, stop)]
                    for name in wanted:
                        parts[name].append(_extract(slab, self._sources[name][1]))
        return {
            name: as_array(part[0] if len(part) == 1 else np.concatenate(part))
            for name, part in parts.items()
        }


def _extract(slab: NDArray[Any], position: Any) -> NDArray[Any]:
    if position is None:
        return slab
    if isinstance(position, tuple):
        return np.ascontiguousarray(slab[position[0]][:, position[1]])
    values = slab[position] if isinstance(position, str) else slab[:, position]
    return np.ascontiguousarray(values)


def _tables(file: h5py.File) -> dict[str, str]:
    """Path and layout of everything in the file that is a table."""
    found: dict[str, str] = {}
    matrices: dict[str, str] = {}

    def text(item: Any, name: str) -> str:
        value = item.attrs.get(name, b"")
        return value.decode() if isinstance(value, bytes) else str(value)

    def walk(group: h5py.Group) -> None:
        if text(group, "pandas_type") == "frame":
            found[group.name] = "frame"
            return
        plain = False
        for key in group:
            item = group.get(key)
            if isinstance(item, h5py.Group):
                if not key.startswith("_i_"):
                    walk(item)
            elif isinstance(item, h5py.Dataset) and item.dtype.names:
                found[item.name] = "compound"
            elif isinstance(item, h5py.Dataset) and item.ndim == 2:
                matrices[item.name] = "matrix"
            elif isinstance(item, h5py.Dataset) and item.ndim == 1:
                plain = True
        if plain:
            found[group.name] = "columns"

    walk(file)
    return found or matrices


def _block_names(dataset: h5py.Dataset, field: str) -> list[str] | None:
    """Column names in a block of the "table" layout of pandas.

    They are stored as a pickled list. Its strings are picked out of the listing of operations; nothing is
    run.
    """
    stored = dataset.attrs.get(f"{field}_kind")
    if stored is None:
        return None
    try:
        operations = list(pickletools.genops(bytes(stored)))
    except (ValueError, TypeError):
        return None
    names = [str(value) for operation, value, _ in operations if "UNICODE" in operation.name]
    if not names:
        names = [
            str(value) for operation, value, _ in operations if operation.name.startswith(("INT", "BININT"))
        ]
    return names if len(names) == dataset.dtype[field].shape[0] else None


def _need_filters(path: Path, dataset: h5py.Dataset) -> None:
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if h5py.h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401
        if not h5py.h5z.filter_avail(code):
            raise InputError(
                f"{path.name}: packed with the HDF5 filter '{name.decode()}', which is not installed; "
                "do: pip install 'serendip[hdf]'"
            )
