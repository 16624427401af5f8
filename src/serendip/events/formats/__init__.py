"""File formats: one module for each, all behind :class:`serendip.events.formats.table.Table`; :data:`READERS` has them by suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.events.formats.sources import READERS, Source, find, format_of, reader_of
from serendip.events.formats.table import Table

__all__ = ["READERS", "Source", "format_of", "is_path", "open_table", "shown"]


def open_table(source: Source | Any, tree: str | None = None, id: str | Sequence[str] | None = None) -> Table:
    """Open a file, several files, or a table in memory, and look at the columns; nothing else is read yet.

    Parameters
    ----------
    source
        A file, a folder of files, a pattern such as ``"data/*.root"``, a list of these, or an object in memory: a
        dictionary of arrays, a structured array, a data frame (pandas, polars, Arrow) or an awkward array of records.
    tree
        The table to take if a ROOT or HDF5 file has several; ``A+B`` joins several, see
        :mod:`serendip.events.formats.friends`.
    id
        Columns that identify the event, for the join.

    Raises
    ------
    InputError
        If it is missing, empty, broken, not of the format of its suffix, or has several tables and ``tree`` is None.
    """
    if not is_path(source):
        from serendip.events.formats.memory import memory_table

        if tree is not None:
            raise InputError("a table in memory is one table; leave --tree out (tree=)")
        return _with_rows(memory_table(source))
    found = find(source)
    if found.single is not None:
        return _with_rows(_open(found.single, tree, id))
    from serendip.events.formats.several import SeveralFiles

    return SeveralFiles(found, lambda path: _open(path, tree, id))


def shown(source: Source | None) -> str:
    """Text for a source in messages and reports: the path, or the paths with commas; empty for None."""
    if source is None:
        return ""
    paths = [source] if isinstance(source, str | os.PathLike) else source
    return ", ".join(os.fspath(path) for path in paths)


def is_path(source: Any) -> bool:
    """Whether a source is a path or a list of paths, and no table in memory."""
    if isinstance(source, str | os.PathLike):
        return True
    return (
        isinstance(source, Sequence)
        and len(source) > 0
        and all(isinstance(one, str | os.PathLike) for one in source)
    )


def _with_rows(table: Table) -> Table:
    if table.n_rows == 0:
        table.close()
        inside = f" '{table.tree}'" if table.tree else ""
        raise InputError(f"{table.name}: the table{inside} has no rows")
    return table


def _open(path: Path, tree: str | None, id: str | Sequence[str] | None = None) -> Table:
    if tree is not None and "+" in tree:
        from serendip.events.formats.friends import Friends, joint_of

        joint = joint_of(tree, id)
        assert joint is not None
        return Friends(path, joint, lambda file, part: _with_rows(_open(file, part)))
    return reader_of(path)(path, tree)
