"""Contract check of file readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.formats.table import Table
from serendip.testing.base import need, refusal

__all__ = ["check_reader", "reader_table"]

_N = 120


def reader_table(n: int = _N) -> dict[str, NDArray[Any]]:
    """Generate columns of several types: doubles, with missing values, small integers, and integers beyond the precision of a double."""
    rng = np.random.default_rng(5)
    return {
        "mjj": 1000 + rng.exponential(300, n),
        "x": np.where(np.arange(n) % 10 == 3, np.nan, rng.normal(size=n)),
        "n": rng.integers(-5, 9, n),
        "event": rng.integers(2**53 + 1, 2**62, n),
    }


def check_reader(
    reader: type[Table],
    write: Callable[[Mapping[str, NDArray[Any]], Path], None],
    suffix: str,
    *,
    empty: bool = True,
) -> None:
    """Check that a reader keeps the contract of :class:`~serendip.events.formats.table.Table`.

    Parameters
    ----------
    reader
        The class.
    write
        Writes columns of equal lengths, by name, to a file of the format; NaN is a missing value.
    suffix
        Of the name of the file, with its dot.
    empty
        Whether ``write`` can write a table without rows.

    Raises
    ------
    AssertionError
        Naming the promise that is broken:

        * the class has a ``format``;
        * types, values and missing values (NaN) are those that were written, integers beyond 2^53 included;
        * ``load`` returns the requested columns, in the requested order, and the requested rows;
        * an unknown column is refused with an :class:`~serendip.errors.InputError`, and so is a truncated file, unless what is left of it is read;
        * a table without rows has ``n_rows = 0``.
    """
    need(bool(reader.format), "the class needs a format: its name in messages")
    table = reader_table()
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write(table, path)
        opened = reader(path)
        need(opened.n_rows == _N, f"n_rows is {opened.n_rows} for {_N} rows")
        for name, values in table.items():
            need(name in opened.types, f"there is no column '{name}' among the types")
            wanted = str(values.dtype)
            need(opened.types[name] == wanted, f"the type of '{name}' is {opened.types[name]}, not {wanted}")
        everything = opened.load(list(table))
        need(list(everything) == list(table), "load gives other columns than were asked for")
        for name, values in table.items():
            need(
                np.array_equal(np.asarray(everything[name]), values, equal_nan=True),
                f"the values of '{name}' are not those that were written",
            )
        part = opened.load(["event", "mjj"], 30, 77)
        need(list(part) == ["event", "mjj"], "load gives columns in another order than they were asked for")
        need(np.array_equal(part["event"], table["event"][30:77]), "load(..., 30, 77) gives other rows")
        with refusal("a column that is not there"):
            opened.load(["no_such_column"])
        opened.close()
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with refusal("half a file", needed=False):
            reader(path).load(["mjj"])
        if empty:
            path = Path(folder) / f"b{suffix}"
            write({name: values[:0] for name, values in table.items()}, path)
            opened = reader(path)
            need(opened.n_rows == 0, f"n_rows is {opened.n_rows} for a table without rows")
            opened.close()
