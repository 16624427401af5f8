"""Several files of one format as one table: rows one after the other, types that fit all parts."""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.events.formats.join import common_type, join
from serendip.events.formats.sources import Files
from serendip.events.formats.table import EMPTY, TEXT, Table
from serendip.events.formats.text_layout import is_number
from serendip.wording import counted

__all__ = ["SeveralFiles"]

log = logging.getLogger(__name__)

# Errors of many files are listed up to this number.
SHOWN = 5
_DEFAULT_KEY = "__HIVE_DEFAULT_PARTITION__"
_SAME_ROLES = ("mass", "features", "weight", "label", "id", "group")


@dataclass
class _Part:
    path: Path
    types: Mapping[str, str]
    jagged: Mapping[str, str]
    unreadable: Mapping[str, str]
    n_rows: int
    # a table that stays in memory anyway is not read a second time
    table: Table | None


class SeveralFiles(Table):
    """Files of one format and with the same columns."""

    def __init__(self, files: Files, open_one: Callable[[Path], Table]) -> None:
        """Look at every file.

        Raises
        ------
        InputError
            Naming each file that cannot be used, or if none has rows.
        """
        super().__init__(files.paths[0].parent / files.name)
        self._open = open_one
        self._parts: list[_Part] = []
        self._keys: list[dict[str, str]] = []
        stored: list[Mapping[str, Any] | None] = []
        aliases: list[dict[str, str]] = []
        empty, errors = [], []
        for path, keys in zip(files.paths, files.keys, strict=True):
            try:
                table = open_one(path)
            except InputError as error:
                errors.append(str(error))
                continue
            if table.n_rows == 0:
                table.close()
                empty.append(path.name)
                continue
            self.format, self.tree = table.format, table.tree
            self._parts.append(
                _Part(
                    path,
                    table.types,
                    table.jagged,
                    table.unreadable,
                    table.n_rows,
                    table if table.in_memory else None,
                )
            )
            self._keys.append(keys)
            stored.append(table.roles)
            self.units |= table.units
            for reason, count in table.left_out.items():
                self.left_out[reason] = self.left_out.get(reason, 0) + count
            aliases.append(table.aliases)
            table.close()
        if errors:
            more = f"\nand {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
            raise InputError(
                f"{self.name}: {len(errors)} of {len(files.paths)} files cannot be used:\n"
                + "\n".join(errors[:SHOWN])
                + more
                if len(files.paths) > 1
                else errors[0]
            )
        if not self._parts:
            raise InputError(
                f"{self.name}: no rows in any of {counted(len(empty), 'file')}, first '{empty[0]}'"
            )
        if empty:
            log.warning("%s: %s without rows, first '%s'", self.name, counted(len(empty), "file"), empty[0])
        self._starts = np.concatenate([[0], np.cumsum([part.n_rows for part in self._parts])])
        self.n_rows = int(self._starts[-1])
        self._size = sum(path.stat().st_size for path in files.paths)
        self._names = _short_names([part.path for part in self._parts])
        self._describe()
        self.aliases = {
            short: name
            for short, name in aliases[0].items()
            if all(other.get(short) == name for other in aliases) and short not in self.names
        }
        first = stored[0]
        if first is not None and all(
            one is not None and all(one.get(key) == first.get(key) for key in _SAME_ROLES) for one in stored
        ):
            self.roles = first

    @property
    def size(self) -> int:
        """See :attr:`Table.size`."""
        return self._size

    @property
    def files(self) -> list[str]:
        """See :attr:`Table.files`."""
        return list(self._names)

    def place(self, row: int) -> str:
        """See :meth:`Table.place`."""
        part = bisect_right(self._starts, row) - 1
        return f"row {row - int(self._starts[part])} of '{self._names[part]}'"

    def _describe(self) -> None:
        columns = [(*part.types, *part.jagged, *part.unreadable) for part in self._parts]
        for name in dict.fromkeys(name for names in columns for name in names):
            flat = [part.types.get(name) for part in self._parts]
            lists = [part.jagged.get(name) for part in self._parts]
            bad = next((i for i, part in enumerate(self._parts) if name in part.unreadable), None)
            lacking = [i for i, names in enumerate(columns) if name not in names]
            if bad is not None:
                self.unreadable[name] = f"{self._parts[bad].unreadable[name]} ('{self._names[bad]}')"
            elif lacking:
                self.unreadable[name] = (
                    f"is missing in some files: the part '{self._names[lacking[0]]}' has no column '{name}', other parts "
                    f"have ({len(lacking)} of {len(self._parts)} lack it); all parts of a table need the same columns"
                )
            elif all(kind is not None for kind in flat):
                self._add(self.types, name, [str(kind) for kind in flat])
            elif all(kind is not None for kind in lists):
                self._add(self.jagged, name, [str(kind) for kind in lists])
            else:
                one, many = flat.index(None), lists.index(None)
                self.unreadable[name] = (
                    f"has a list for each row in '{self._names[one]}' and one value in '{self._names[many]}'; "
                    "all parts of a table need the same columns"
                )
        # A key that is stored in the files too has its true type and value there.
        self._constants: dict[str, list[Any]] = {}
        for key in dict.fromkeys(key for keys in self._keys for key in keys):
            if key not in self.names:
                self._constants[key] = _typed([keys.get(key) for keys in self._keys])
                self.types[key] = (
                    TEXT
                    if _is_text(self._constants[key])
                    else str(np.result_type(*(np.asarray(value).dtype for value in self._constants[key])))
                )

    def _add(self, types: dict[str, str], name: str, kinds: Sequence[str]) -> None:
        distinct = list(dict.fromkeys(kind for kind in kinds if kind != EMPTY)) or [EMPTY]
        if len(distinct) == 1:
            types[name] = distinct[0]
            return
        try:
            dtypes = [np.dtype(kind) for kind in distinct]
        except TypeError:
            a, b = (kinds.index(kind) for kind in distinct[:2])
            self.unreadable[name] = (
                f"is {distinct[0]} in '{self._names[a]}' and {distinct[1]} in '{self._names[b]}'; "
                "all parts of a table need the same columns"
            )
            return
        types[name] = str(common_type(dtypes))

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`; one file after the other."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        stored = [name for name in names if name not in self._constants]
        parts: list[dict[str, Any]] = []
        used: list[str] = []
        for i, part in enumerate(self._parts):
            low, high = max(start - int(self._starts[i]), 0), min(stop - int(self._starts[i]), part.n_rows)
            if high <= low:
                continue
            table = part.table or self._open(part.path)
            try:
                values = table.load(stored, low, high)
            finally:
                table.close()
            values |= {
                key: np.full(high - low, self._constants[key][i]) for key in names if key in self._constants
            }
            parts.append(values)
            used.append(self._names[i])
        return {name: join(self.name, name, [part.pop(name) for part in parts], used) for name in names}


def _typed(values: Sequence[str | None]) -> list[Any]:
    """Keys of a partition as whole numbers, floats or text, whichever fits all."""
    given = [None if value == _DEFAULT_KEY else value for value in values]
    texts = [value for value in given if value is not None]
    if all(re.fullmatch(r"[+-]?\d+", text) for text in texts) and len(texts) == len(given):
        return [int(text) for text in texts]
    if texts and all(is_number(text) for text in texts):
        return [np.nan if value is None else float(value) for value in given]
    return given


def _is_text(values: Sequence[Any]) -> bool:
    return any(value is None or isinstance(value, str) for value in values)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names of files; with as many folders as needed to distinguish them."""
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        return [str(Path(path.parent.name) / path.name) for path in paths]
    return names
