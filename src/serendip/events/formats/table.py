"""The common interface of all file formats: named columns that load on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions import suggest

__all__ = ["EMPTY", "TEXT", "Table", "as_array", "pick"]

TEXT = "text"
EMPTY = "empty"
"""Type of a column whose values are all missing, whatever they would have been; loads as NaN."""


class Table(ABC):
    """A table in a file, which a reader opens: ``Reader(path, tree)`` fills in the attributes, and :meth:`load` reads.

    Parameters
    ----------
    path
        The file.
    tree
        The table to take. Readers of formats that have several in one file look at it themselves and do not hand it on.

    Raises
    ------
    InputError
        If a table is asked for by name in a format that has one.

    Attributes
    ----------
    path
        The file, or the folder of a data set; of several files, a path whose last part is :attr:`name`.
    name
        Name of the table in messages.
    format
        ``"Parquet"``, ``"Arrow"``, ``"CSV"``, ``"HDF5"``, ``"NumPy"``, ``"ROOT TTree"``, ``"ROOT RNTuple"``.
    tree
        Name of the table inside the file, if the format has more than one.
    types
        Name and type of each column with one value for each row.
    jagged
        Name of each column with a list of numbers for each row, and the type of the numbers (``"float32"``,
        ``"list of float32"`` for lists of lists). Expressions make one value for each row of them.
    unreadable
        Name of each column that cannot, and why.
    units
        Units that a text table gives with the column names.
    aliases
        Other names of columns: those with the unit, ``m [GeV]``; the last part of a long name of ROOT.
    n_rows
        Number of rows.
    left_out
        Number of rows that were left out when tables were joined, by reason.
    roles
        Roles and provenance that ``serendip.write`` stored in the file, if any.
    """

    format = ""
    in_memory = False
    """True if the values are held anyway, so that opening the table again would read them again."""

    def __init__(self, path: Path, tree: str | None = None) -> None:
        self.path = path
        self.name = path.name
        if tree is not None:
            article = "an" if self.format[:1] in "AEIO" else "a"
            raise InputError(f"{self.name}: {article} {self.format} file holds one table; leave --tree out")
        self.units: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.tree: str | None = None
        self.types: dict[str, str] = {}
        self.jagged: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        self.n_rows = 0
        self.left_out: dict[str, int] = {}
        self.roles: Mapping[str, Any] | None = None

    @abstractmethod
    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Read columns of the rows ``start:stop``.

        Those of :attr:`types` come as arrays of shape ``(n,)``, text as object or ``U``; those of :attr:`jagged` as
        :class:`~serendip.events.jagged.Jagged`.
        """

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    @property
    def files(self) -> list[str]:
        """Names of the files that make the table."""
        return [self.name]

    def place(self, row: int) -> str:
        """Where a row is, for messages: ``row 3``, or ``row 3 of 'b.csv'`` if there are several files."""
        return f"row {row}"

    def close(self) -> None:  # noqa: B027 - only files that stay open need one
        """Close the file."""

    def require(self, names: Collection[str]) -> None:
        """Stop if a column is missing or cannot be read.

        Raises
        ------
        InputError
            Naming the file and the column.
        """
        for name in names:
            if name in self.unreadable:
                raise InputError(f"{self.name}: column '{name}' {self.unreadable[name]}")
            if name not in self.types and name not in self.jagged:
                raise InputError(f"{self.name}: there is no column '{name}'; {suggest(name, self.names)}")

    @property
    def names(self) -> set[str]:
        """Names of all columns, usable or not."""
        return {*self.types, *self.jagged, *self.unreadable}


def pick(path: Path, wanted: str | None, found: Sequence[str], what: str) -> str:
    """Choose one of the tables of a file, or stop with a message that lists them.

    Raises
    ------
    InputError
        If there is none, the wanted one is missing, or several and none is wanted.
    """
    if wanted is not None:
        for name in found:
            if name.strip("/") == wanted.strip("/"):
                return name
        if found:
            raise InputError(f"{path.name}: there is no {what} '{wanted}'; {suggest(wanted, found)}")
    if not found:
        raise InputError(f"{path.name}: there is no {what} in this file")
    if len(found) > 1:
        raise InputError(
            f"{path.name}: there are {len(found)} {what}s: {', '.join(found[:20])}; pick one with --tree "
            "NAME (tree=)"
        )
    return found[0]


def as_array(values: Any) -> NDArray[Any]:
    """Native byte order, texts as ``str`` instead of bytes, and long doubles as doubles."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype == object and any(isinstance(value, bytes) for value in array[:1]):
        return np.array(
            [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array], dtype=object
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.byteorder not in "=|":
        return array.astype(array.dtype.newbyteorder("="))
    return array
