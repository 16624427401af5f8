"""Write events to Parquet, Arrow, CSV, HDF5, NumPy or ROOT."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events
from serendip.events.formats import format_of
from serendip.events.identity import ALONE
from serendip.io.files import atomic_write

__all__ = ["write"]

TABLE = "events"
_SUFFIXES = (
    ".parquet",
    ".pq",
    ".arrow",
    ".feather",
    ".csv",
    ".csv.gz",
    ".h5",
    ".hdf5",
    ".hdf",
    ".npz",
    ".root",
)


def write(events: Events, path: str | os.PathLike[str]) -> None:
    """Write a table of events; the format follows the suffix.

    The roles and the provenance are stored with it, so that :func:`serendip.read` needs no options for Parquet, Arrow,
    HDF5 and ROOT files made here; CSV and NumPy have no place for them. In ROOT files, characters of a column name that
    ROOT
    does not allow become ``_``. An existing file is replaced only when the new one is complete.

    Parameters
    ----------
    events
        Events to write, masses in GeV.
    path
        A name with ``.parquet``, ``.pq``, ``.arrow``, ``.feather``, ``.csv``, ``.csv.gz``, ``.h5``, ``.hdf5``, ``.hdf``,
        ``.npz`` or ``.root``.

    Raises
    ------
    InputError
        If the suffix is not known, the folder cannot be written, or the disk is full.

    Examples
    --------
    >>> events = serendip.read({"mjj": [2500.0, 3100.0], "tau21": [0.4, 0.7]}, mass="mjj", features=["tau21"])
    >>> serendip.write(events, "two.parquet")
    >>> serendip.read("two.parquet").features
    ('tau21',)
    """
    target = Path(path)
    if not target.name.lower().endswith(_SUFFIXES):
        raise InputError(
            f"'{target.name}': the format is not known; expected a name with {', '.join(_SUFFIXES)}"
        )
    name = format_of(target)
    columns = dict(events.columns)
    roles = {
        "mass": events.mass,
        "features": list(events.features),
        "weight": events.weight,
        "label": events.label,
        "id": events.id,
        "group": events.group or (ALONE if events.provenance.get("group") == ALONE else None),
        "provenance": dict(events.provenance),
    }
    with atomic_write(target) as temporary:
        if name == "Parquet":
            _parquet(columns, roles, temporary)
        elif name == "Arrow":
            _arrow(columns, roles, temporary)
        elif name == "NumPy":
            _numpy(columns, temporary)
        elif name == "CSV":
            _csv(columns, temporary, compressed=target.suffix == ".gz")
        elif name == "HDF5":
            _hdf(columns, roles, temporary)
        else:
            _root(columns, roles, temporary)


def _table(columns: dict[str, NDArray[Any]]) -> Any:
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _parquet(columns: dict[str, NDArray[Any]], roles: dict[str, Any], path: Path) -> None:
    import pyarrow.parquet as pq

    table = _table(columns)
    pq.write_table(table.replace_schema_metadata({"serendip": json.dumps(roles)}), path)


def _arrow(columns: dict[str, NDArray[Any]], roles: dict[str, Any], path: Path) -> None:
    import pyarrow.feather

    table = _table(columns).replace_schema_metadata({"serendip": json.dumps(roles)})
    pyarrow.feather.write_feather(table, path)


def _numpy(columns: dict[str, NDArray[Any]], path: Path) -> None:
    # np.savez takes names as keywords, which cannot be "file"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in columns.items():
            plain = values.astype(str) if values.dtype == object else values
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(plain), allow_pickle=False)


def _csv(columns: dict[str, NDArray[Any]], path: Path, *, compressed: bool) -> None:
    import pyarrow as pa
    import pyarrow.csv

    with pa.output_stream(path, compression="gzip" if compressed else None) as stream:
        pa.csv.write_csv(_table(columns), stream)


def _hdf(columns: dict[str, NDArray[Any]], roles: dict[str, Any], path: Path) -> None:
    import h5py

    # A compound table, because names such as "a/b" would become groups.
    columns = {
        name: np.char.encode(values.astype(str), "utf-8") if values.dtype.kind in "OU" else values
        for name, values in columns.items()
    }
    n = len(next(iter(columns.values())))
    rows = np.empty(n, dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    # Made in memory first: HDF5 does not survive a disk that is full.
    with h5py.File("events", "w", driver="core", backing_store=False) as file:
        options = {"chunks": True, "compression": "gzip", "compression_opts": 1, "shuffle": True}
        table = file.create_dataset(TABLE, data=rows, **options)
        table.attrs["serendip"] = json.dumps(roles)
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _root(columns: dict[str, NDArray[Any]], roles: dict[str, Any], path: Path) -> None:
    import uproot

    branches: dict[str, str] = {}
    for name in columns:
        branch = re.sub(r"\W", "_", name)
        while branch in branches.values():
            branch += "_"
        branches[name] = branch
    for name, values in columns.items():
        if values.dtype.kind not in "biuf":
            raise InputError(
                f"column '{name}' holds text, which cannot be written to ROOT here; use Parquet or HDF5"
            )
    renamed = {
        key: branches[value]
        if isinstance(value, str)
        else [branches[v] for v in value]
        if isinstance(value, list | tuple)
        else value
        for key, value in roles.items()
    }
    with uproot.recreate(path) as file:
        tree = file.mktree(TABLE, {branches[name]: values.dtype for name, values in columns.items()})
        tree.extend({branches[name]: np.ascontiguousarray(values) for name, values in columns.items()})
        file["serendip"] = json.dumps(renamed)
