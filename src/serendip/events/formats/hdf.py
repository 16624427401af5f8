"""HDF5 through h5py: plain arrays, compound tables, and the tables of pandas and PyTables.

The layouts of pandas are read from their blocks, so neither pandas nor PyTables is needed, and nothing in
the file is unpickled. Tables packed with Blosc need the package hdf5plugin (``serendip[hdf]``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.arrays import Position, beside, extract
from serendip.events.formats.hdf_pandas import Frame, describe_fixed, describe_table, layout_of
from serendip.events.formats.table import Table, as_array, pick
from serendip.events.jagged import Jagged, concatenate

__all__ = ["HdfTable"]

SLAB = 64 << 20
TIME = "is a time (an HDF5 time type); expected numbers or text"


class HdfTable(Table):
    """One table of an HDF5 file."""

    format = "HDF5"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        # name: data set and the way to the column in it
        self._sources: dict[str, tuple[h5py.Dataset, Position]] = {}
        # name: data set of the different values, for a column that is stored as their numbers
        self._levels: dict[str, h5py.Dataset] = {}
        with self._readable():
            self._file = h5py.File(path, "r")
        with self._readable():
            tables = _tables(self._file)
            if tree is not None and (alone := _alone(self._file, tree)) is not None:
                tables.setdefault(alone, "arrays")
            self.tree = pick(path, tree, sorted(tables), "table")
            layout, item = tables[self.tree], self._file[self.tree]
            if layout == "arrays":
                self._arrays(
                    {self.tree.split("/")[-1]: item}
                    if isinstance(item, h5py.Dataset)
                    else dict(_members(item))
                )
            else:
                for dataset in [item] if layout == "table" else item.values():
                    _need_filters(self.path, dataset)
                self._frame(describe_fixed(item) if layout == "fixed" else describe_table(item))
            stored = item.attrs.get("serendip")
            self.roles = json.loads(stored) if stored else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            self._give_up()
            raise
        except OSError as error:
            self._give_up()
            raise InputError(f"{self.name}: {_why(str(error))}") from error
        except (RuntimeError, KeyError, ValueError, TypeError, UnicodeError, AttributeError) as error:
            self._give_up()
            reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.name}: this is not a readable HDF5 file: its content does not fit together, or in a way that is "
                f"not known here ({reason}); write it again, for example as Parquet"
            ) from error

    def _give_up(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _frame(self, frame: Frame) -> None:
        """Take over a table of pandas."""
        self.n_rows, self.types, self.unreadable = frame.n_rows, frame.types, frame.unreadable
        self._sources, self._levels, self.aliases = frame.sources, frame.levels, frame.aliases

    def _arrays(self, datasets: Mapping[str, h5py.Dataset]) -> None:
        """Describe arrays side by side, or a single one."""
        plain: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        times: list[str] = []
        ragged: dict[str, str] = {}
        self._partial: dict[str, np.dtype[Any]] = {}
        for name, dataset in datasets.items():
            if dataset.shape is None:
                self.unreadable[name] = "is empty"
                continue
            dtype, lost = _dtype(dataset)
            times += [one if len(datasets) == 1 else f"{name}.{one}" for one in lost]
            if dtype is None:
                self.unreadable[name] = TIME
                continue
            if lost:
                self._partial[dataset.name] = dtype
            inner = h5py.check_vlen_dtype(dtype)
            if inner is not None and len(dataset.shape) == 1 and np.dtype(inner).kind in "biuf":
                ragged[name] = str(np.dtype(inner).newbyteorder("="))
                plain[name] = dataset.shape, np.dtype(bool)
            else:
                plain[name] = dataset.shape, _without_objects(dtype)
        described = beside(plain)
        self.types, self.jagged, self.n_rows = described.types, described.jagged, described.n_rows
        self.unreadable |= described.unreadable | dict.fromkeys(times, TIME)
        self._sources = {name: (datasets[array], way) for name, (array, way) in described.columns.items()}
        for name, kind in ragged.items():
            # of another length than the others, it is unreadable already
            if self.types.pop(name, None) is not None:
                self.jagged[name] = kind

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`; read in slabs of rows, so that unused columns cost no memory."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        parts: dict[str, list[Any]] = {name: [] for name in names}
        datasets: dict[str, list[str]] = {}
        for name in names:
            datasets.setdefault(self._sources[name][0].name, []).append(name)
        with self._readable():
            for path, wanted in datasets.items():
                dataset = self._file[path]
                _need_filters(self.path, dataset)
                row_bytes = dataset.id.get_type().get_size() * int(np.prod(dataset.shape[1:], dtype=int))
                step = max(1, SLAB // max(row_bytes, 1))
                if dataset.chunks:
                    step = -(-step // dataset.chunks[0]) * dataset.chunks[0]
                for low in range(start, max(stop, start + 1), step):
                    slab = self._slab(dataset, low, min(low + step, stop))
                    for name in wanted:
                        parts[name].append(self._column(slab, name))
        return {name: concatenate(part) for name, part in parts.items()}

    def _slab(self, dataset: h5py.Dataset, low: int, high: int) -> NDArray[Any]:
        partial = getattr(self, "_partial", {}).get(dataset.name)
        if partial is None:
            return np.asarray(dataset[low:high])
        # h5py does not support the whole type, but reads the fields that it supports
        values = np.empty((high - low, *dataset.shape[1:]), dtype=partial)
        space = dataset.id.get_space()
        space.select_hyperslab((low, *(0 for _ in dataset.shape[1:])), values.shape)
        memory = h5py.h5s.create_simple(values.shape)
        dataset.id.read(memory, space, values, h5py.h5t.py_create(partial, logical=True))
        return values

    def _column(self, slab: NDArray[Any], name: str) -> Any:
        if name in self.jagged and slab.dtype == object:
            counts = np.array([len(values) for values in slab], dtype=np.int64)
            content = np.concatenate([*slab, np.empty(0, self.jagged[name])]).astype(self.jagged[name])
            return Jagged.of(counts, content)
        values = extract(slab, self._sources[name][1])
        if name not in self._levels:
            return values
        levels = as_array(self._levels[name][:])
        missing = values < 0
        if not missing.any():
            return levels[values]
        if levels.dtype.kind in "OSU":
            return np.where(missing, None, levels[values].astype(object))
        return np.where(missing, np.nan, levels[values])


def _why(reason: str) -> str:
    """Distinguish a damaged file from one that cannot be opened for another reason."""
    first = reason.splitlines()[0] if reason else "no reason given"
    if "unable to lock" in reason:
        return (
            f"is locked ({first}): a program may be writing it; wait until it is closed, or set the environment "
            "variable HDF5_USE_FILE_LOCKING=FALSE if the file system does not support locks"
        )
    if "already open for write" in reason or "consistency flags" in reason:
        return "was not closed by the program that writes it; close it there, or do: h5clear -s FILE"
    if "truncated" in reason:
        return f"truncated: its end is missing ({first}); copy it again"
    return f"this is not a readable HDF5 file, it may be damaged ({first}); write or copy it again"


def _members(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Arrays of a group; links that lead nowhere are none."""
    for key in group:
        item = group.get(key)
        if isinstance(item, h5py.Dataset) and not (_is_compound(item) or item.shape == ()):
            yield key, item


def _is_compound(dataset: h5py.Dataset) -> bool:
    try:
        return bool(dataset.dtype.names)
    except TypeError:
        return isinstance(dataset.id.get_type(), h5py.h5t.TypeCompoundID)


def _tables(file: h5py.File) -> dict[str, str]:
    """Path and layout of everything in the file that is a table; arrays with several values for each row only if they are all."""
    found: dict[str, str] = {}
    matrices: dict[str, str] = {}

    def walk(group: h5py.Group) -> None:
        pandas = layout_of(group)
        if pandas is not None:
            found[f"{group.name}/table" if pandas == "table" else group.name] = pandas
            return
        arrays = dict(_members(group))
        if any(item.ndim == 1 for item in arrays.values()):
            found[group.name] = "arrays"
        elif len(arrays) == 1:
            matrices[next(iter(arrays.values())).name] = "arrays"
        elif arrays:
            matrices[group.name] = "arrays"
        for key in group:
            item = group.get(key)
            if isinstance(item, h5py.Group):
                if not key.startswith("_i_"):
                    walk(item)
            elif isinstance(item, h5py.Dataset) and _is_compound(item):
                found[item.name] = "arrays"

    walk(file)
    return found or matrices


def _alone(file: h5py.File, tree: str) -> str | None:
    """Path of an array that is requested although it is part of a table."""
    item = file.get(tree)
    return (
        str(item.name)
        if isinstance(item, h5py.Dataset) and item.ndim > 0 and layout_of(item.parent) is None
        else None
    )


def _dtype(dataset: h5py.Dataset) -> tuple[np.dtype[Any] | None, list[str]]:
    """Type of an array, and the fields that have none in NumPy."""
    try:
        return dataset.dtype, []
    except TypeError:
        kind = dataset.id.get_type()
        if not isinstance(kind, h5py.h5t.TypeCompoundID):
            return None, []
    known, lost = [], []
    for i in range(kind.get_nmembers()):
        name = kind.get_member_name(i).decode()
        try:
            known.append((name, kind.get_member_type(i).dtype))
        except TypeError:
            lost.append(name)
    return np.dtype(known), lost


def _without_objects(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type with texts as such, which h5py reads as objects."""
    if h5py.check_string_dtype(dtype) is not None:
        return np.dtype("S1")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_without_objects(base), shape))
    if dtype.names:
        return np.dtype([(name, _without_objects(dtype[name])) for name in dtype.names])
    return dtype


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
