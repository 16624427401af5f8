"""NumPy files: ``.npy`` and ``.npz`` with plain and structured arrays. Nothing is unpickled."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from serendip.errors import InputError
from serendip.events.formats.arrays import beside, extract
from serendip.events.formats.table import Table

__all__ = ["NumpyTable"]

# errors of the libraries for a truncated or overwritten file
_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# name of the array of a file with one
_ALONE = "0"


class NumpyTable(Table):
    """The arrays of a NumPy file side by side."""

    format = "NumPy"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path, tree)
        with self._readable():
            arrays = {name: self._header(name) for name in self._arrays()}
        described = beside(arrays)
        self.types, self.jagged = described.types, described.jagged
        self.unreadable = described.unreadable
        self._columns, self.n_rows = described.columns, described.n_rows

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.name}: this is not a readable NumPy file, it may be truncated or damaged ({reason}); "
                "write or copy it again"
            ) from error

    def _arrays(self) -> list[str]:
        if not zipfile.is_zipfile(self.path):
            with self.path.open("rb") as file:
                # the list of the arrays of an archive is at its end
                if file.read(2) == b"PK":
                    raise ValueError("its end is missing")
            return [_ALONE]
        with zipfile.ZipFile(self.path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

    @contextmanager
    def _file(self, name: str) -> Iterator[BinaryIO]:
        if name == _ALONE:
            with self.path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as member:
            yield cast("BinaryIO", member)

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        with self._file(name) as file:
            version = npy.read_magic(file)
            shape, _, dtype = (
                npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
            )
            if name == _ALONE and file.tell() + dtype.itemsize * math.prod(shape) > self.path.stat().st_size:
                raise ValueError("its end is missing")
            return shape, dtype

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`; only the arrays that are needed are unpacked."""
        self.require(names)
        found: dict[str, Any] = {}
        with self._readable():
            for array in dict.fromkeys(self._columns[name][0] for name in names):
                if array == _ALONE:
                    # pages of other columns and rows stay on disk
                    values = np.load(self.path, mmap_mode="r", allow_pickle=False)
                else:
                    with self._file(array) as file:
                        values = npy.read_array(file, allow_pickle=False)
                for name in names:
                    if self._columns[name][0] == array:
                        # a copy, because the file is closed
                        found[name] = extract(np.array(values[start:stop]), self._columns[name][1])
        return {name: found[name] for name in names}
