"""The files of a source: one file, a folder, a pattern, or a list of these."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from serendip.errors import InputError
from serendip.events.formats.table import Table
from serendip.registry import Registry

__all__ = ["READERS", "Files", "Source", "find", "format_of", "reader_of", "suffix_of"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class _Format:
    name: str
    reader: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()


_HERE = "serendip.events.formats"
_FORMATS = (
    _Format("Parquet", f"{_HERE}.arrow:ParquetTable", ("parquet", "pq"), (b"PAR1", b"PARE")),
    _Format(
        "Arrow",
        f"{_HERE}.arrow:ArrowFile",
        ("arrow", "feather", "ipc"),
        (b"ARROW1"[:4], b"FEA1", b"\xff\xff\xff\xff"),
    ),
    _Format("CSV", f"{_HERE}.csv:CsvTable", ("csv", "tsv", "txt", "dat")),
    _Format("HDF5", f"{_HERE}.hdf:HdfTable", ("h5", "hdf5", "hdf"), (b"\x89HDF",)),
    _Format("NumPy", f"{_HERE}.npz:NumpyTable", ("npz", "npy"), (b"PK\x03\x04", b"\x93NUM")),
    _Format("ROOT", f"{_HERE}.root:RootTable", ("root",), (b"root",)),
)
_NAMES = {suffix: form.name for form in _FORMATS for suffix in form.suffixes}
_MAGIC = {magic: form.name for form in _FORMATS for magic in form.magic}
_PACKED = (".gz", ".zst", ".bz2")
# In a folder of tables, a text file of such a name is rather a log or a note.
_NOTES = (".txt", ".dat")

READERS: Registry[type[Table]] = Registry(
    "reader",
    # imported on first use, because each needs a library that takes a while to load
    {suffix: form.reader for form in _FORMATS for suffix in form.suffixes},
    "a subclass of serendip.events.formats.table.Table",
    lambda found: isinstance(found, type) and issubclass(found, Table),
)
"""Classes that read files by the suffix of their names, without its dot."""


@dataclass(frozen=True)
class Files:
    """Files of one table.

    Attributes
    ----------
    name
        Their common name in messages.
    paths
        In the order of their rows.
    keys
        For each file, the keys in the folder names of a partitioned data set: ``{"run": "2"}`` for ``run=2/a.parquet``.
    single
        The file if the source names just one.
    """

    name: str
    paths: tuple[Path, ...]
    keys: tuple[dict[str, str], ...] = field(default=())
    single: Path | None = None


def format_of(path: Path) -> str:
    """Format by the name of a file.

    Raises
    ------
    InputError
        If the suffix is not known, or the package that reads it is broken.
    """
    suffix = suffix_of(path.name)
    if suffix is None:
        packed = " or ".join(f"*.csv{suffix}" for suffix in _PACKED)
        raise InputError(
            f"'{path.name}': the format is not known; expected a name with {_suffixes()} ({packed} too)"
        )
    return _NAMES.get(suffix) or READERS[suffix].format


def suffix_of(name: str, others: Sequence[str] | None = None) -> str | None:
    """Give the entry of :data:`READERS` for a file of this name; None if there is none.

    Parameters
    ----------
    name
        Of the file.
    others
        The suffixes that other packages read; default: those that are installed.
    """
    name = name.lower()
    packed = next((end for end in _PACKED if name.endswith(end)), "")
    suffix = Path(name.removesuffix(packed)).suffix[1:]
    if _NAMES.get(suffix) == "CSV" or (suffix in _NAMES and not packed):
        return suffix
    known = READERS.others() if others is None else others
    return next((end for end in sorted(known, key=len)[::-1] if name.endswith(f".{end.lower()}")), None)


def _suffixes() -> str:
    return ", ".join(f".{suffix}" for suffix in READERS)


def find(source: Source) -> Files:
    """Files of a source, each once.

    Patterns and folders give files in the order of their names; a list keeps its order.

    Raises
    ------
    InputError
        If nothing is there, a file comes twice, or formats are mixed.
    """
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    groups = [_expand(one) for one in given]
    files = [file for group in groups for file in group]
    plain = len(given) == 1 and not Path(given[0]).is_dir()
    if plain and len(files) == 1:
        return Files(files[0][0].name, (files[0][0],), single=files[0][0])
    name = Path(given[0]).name if len(given) == 1 else f"{files[0][0].name} and {len(files) - 1} more"
    seen: dict[Path, Path] = {}
    for path, _ in files:
        real = path.resolve()
        if real in seen:
            raise InputError(
                f"{name}: the file '{path}' is given twice; its events would count twice; name it once"
            )
        seen[real] = path
    formats = {format_of(path): path for path, _ in reversed(files)}
    if len(formats) > 1:
        shown = ", ".join(f"{form} ('{path.name}')" for form, path in formats.items())
        raise InputError(
            f"{name}: mixes formats: {shown}; one table has files of one format; name those that you mean, "
            f"for example with the pattern '*{next(iter(formats.values())).suffix}'"
        )
    return Files(name, tuple(path for path, _ in files), tuple(keys for _, keys in files))


def _expand(source: str | os.PathLike[str]) -> list[tuple[Path, dict[str, str]]]:
    text = os.fspath(source)
    if "://" in text:
        raise InputError(f"'{text}' is not a local file; copy it here first, for example with xrdcp or curl")
    path = Path(text).expanduser()
    if path.is_dir():
        found = [(file, _partition(file, path)) for file in _tables_in(path)]
        if not found:
            raise InputError(f"'{path}' is a folder without event tables ({_suffixes()})")
        return found
    if path.exists():
        return [(path, {})]
    if glob.has_magic(text):
        names = sorted(glob.glob(os.fspath(path), recursive=True))  # noqa: PTH207 - patterns may be absolute
        if not names:
            raise InputError(f"no file matches '{text}'")
        return [(Path(name), {}) for name in names if not Path(name).is_dir()]
    file, colon, tree = text.rpartition(":")
    if colon and Path(file).expanduser().is_file():
        raise InputError(
            f"there is no file '{path}'; for the table '{tree}' of '{file}' write --tree {tree} (tree=)"
        )
    raise InputError(f"there is no file '{path}'")


def _tables_in(folder: Path) -> list[Path]:
    """Tables below a folder by name, without hidden ones and those that begin with ``_``."""
    inside = [file for file in sorted(folder.rglob("*")) if file.name[0] not in "._" and file.is_file()]
    inside = [file for file in inside if not any(part[0] in "._" for part in file.relative_to(folder).parts)]
    others = READERS.others()
    tables = [file for file in inside if suffix_of(file.name, others) is not None]
    sure = [file for file in tables if file.suffix.lower() not in _NOTES]
    return sure or tables


def _partition(file: Path, folder: Path) -> dict[str, str]:
    """Keys of a partitioned data set (``key=value`` folders, as Hive, Spark, DuckDB and polars write them)."""
    parts = [re.fullmatch(r"([^=]+)=(.*)", part) for part in file.relative_to(folder).parent.parts]
    return {unquote(part[1]): unquote(part[2]) for part in parts if part}


def reader_of(path: Path) -> type[Table]:
    """Class that reads a file whose name and content agree.

    Raises
    ------
    InputError
        If it is missing, empty, or not of the format of its name.
    """
    if not path.exists():
        raise InputError(f"there is no file '{path}'")
    name = format_of(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if name == "HDF5" and magic not in _MAGIC:
                magic = _after_user_block(file) or magic
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    if not magic:
        raise InputError(f"'{path.name}' is empty (0 bytes)")
    suffix, found = suffix_of(path.name), _MAGIC.get(magic)
    assert suffix is not None
    # a format of another package may be made of one of ours, and knows best what its files begin with
    if suffix in _NAMES:
        if found is not None and found != name:
            raise InputError(
                f"'{path.name}' is named as {name}, but its content is {found}; give it its true suffix"
            )
        if found is None and name != "CSV":
            raise InputError(
                f"'{path.name}' is named as {name}, but its content is not; expected a {name} file"
            )
    return READERS[suffix]


def _after_user_block(file: BinaryIO) -> bytes:
    """Signature of an HDF5 file that begins with a block of the user's own (512 bytes or twice that, and so on)."""
    size = file.seek(0, os.SEEK_END)
    offset = 512
    while offset < size:
        file.seek(offset)
        magic = file.read(4)
        if _MAGIC.get(magic) == "HDF5":
            return magic
        offset *= 2
    return b""
