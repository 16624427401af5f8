"""File formats: one module for each, all behind :class:`serendip.events.formats.table.Table`."""

from __future__ import annotations

import os
from pathlib import Path

from serendip.errors import InputError
from serendip.events.formats.table import Table

__all__ = ["SUFFIXES", "format_of", "open_table"]

SUFFIXES = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".csv": "CSV",
    ".csv.gz": "CSV",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".hdf": "HDF5",
    ".root": "ROOT",
}
_MAGIC = {b"PAR1": "Parquet", b"\x89HDF": "HDF5", b"root": "ROOT"}


def format_of(path: Path) -> str:
    """Format by the name of a file.

    Raises
    ------
    InputError
        If the suffix is not known.
    """
    for suffix, name in SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return name
    raise InputError(f"'{path.name}': the format is not known; expected a name with {', '.join(SUFFIXES)}")


def open_table(path: str | os.PathLike[str], tree: str | None = None) -> Table:
    """Open a file (or a folder of Parquet files) and look at its columns; nothing else is read yet.

    Raises
    ------
    InputError
        If it is missing, empty, broken, not what its suffix says, or has several tables and ``tree`` is None.
    """
    path = Path(path)
    name = "Parquet" if path.is_dir() else _checked_format(path)
    # Imported here because each format brings a library that takes a while to load.
    if name in ("Parquet", "CSV"):
        from serendip.events.formats.arrow import CsvTable, ParquetTable

        return ParquetTable(path, tree) if name == "Parquet" else CsvTable(path, tree)
    if name == "HDF5":
        from serendip.events.formats.hdf import HdfTable

        return HdfTable(path, tree)
    from serendip.events.formats.root import RootTable

    return RootTable(path, tree)


def _checked_format(path: Path) -> str:
    if not path.exists():
        raise InputError(f"there is no file '{path}'")
    name = format_of(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    if not magic:
        raise InputError(f"'{path.name}' is empty (0 bytes)")
    found = _MAGIC.get(magic)
    if found is not None and found != name:
        raise InputError(
            f"'{path.name}' is named as {name}, but its content is {found}; give it its true suffix"
        )
    if found is None and name != "CSV":
        raise InputError(f"'{path.name}' is named as {name}, but its content is not; expected a {name} file")
    return name
