"""Several trees side by side, as friends in ROOT: ``events+scores``, in one file or in several.

Entries belong together if their ids are equal; ``events+scores in order`` takes entry after entry. ROOT's friends
go by the order of the entries unless an index is built, and give events without a partner the values of the event
before. Here they are left out and counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions import split_expressions
from serendip.events.expressions.values import same_integers
from serendip.events.formats.sources import suffix_of
from serendip.events.formats.table import Table, as_array
from serendip.wording import counted

__all__ = ["Friends", "Joint", "joint_of"]

log = logging.getLogger(__name__)

# names of columns that identify an event
_IDS = {
    "run", "runnumber", "lumi", "luminosityblock", "lumiblock", "event", "eventnumber", "evt", "id", "eventid", "event_id",
    "eventid_lo", "eventid_hi",
}  # fmt: skip
_NUMBER_OF_EVENT = {"event", "eventnumber", "evt", "id", "eventid", "event_id"}
_PACKED = re.compile(r"\.(gz|zst|bz2)$", re.IGNORECASE)
_RULE = re.compile(r"\s+(?:(in order)|by\s+(.+))$")


@dataclass(frozen=True)
class Joint:
    """Which tables are joined and how: file (None: the one that is opened) and tree of each, and the rule.

    ``by`` names the id columns; an empty tuple leaves them to be found, None joins in the order of the entries.
    """

    tables: tuple[tuple[str | None, str | None], ...]
    by: tuple[str, ...] | None


def joint_of(tree: str | None, id: str | Sequence[str] | None = None) -> Joint | None:
    """Read ``A+B``, ``A+B by COL,COL`` or ``A+B in order``; None if it is the name of one tree.

    ``B`` may be a tree of the same file, another file or ``FILE:TREE``.

    Raises
    ------
    InputError
        If a name is missing.
    """
    if tree is None or "+" not in tree:
        return None
    rule = _RULE.search(tree)
    names = [name.strip() for name in (tree[: rule.start()] if rule else tree).split("+")]
    if not all(names[1:]):
        raise InputError(f"'{tree}' lacks the name of a tree; expected A+B, A+B by COL or A+B in order")
    by: tuple[str, ...] | None = ()
    if rule is not None:
        by = None if rule.group(1) else tuple(name.strip("`") for name in split_expressions(rule.group(2)))
    elif id is not None:
        given = split_expressions(id) if isinstance(id, str) else id
        by = tuple(name.strip().strip("`") for name in given)
    return Joint((_place(names[0]), *(_place(name) for name in names[1:])), by)


def _place(name: str) -> tuple[str | None, str | None]:
    file, _, tree = name.rpartition(":")
    if _is_file(file):
        return file, tree or None
    if _is_file(name):
        return name, None
    return None, name or None


def _is_file(name: str) -> bool:
    return suffix_of(_PACKED.sub("", name)) is not None


class Friends(Table):
    """The rows of the first table that have a partner in all others, with the columns of all.

    A column of another table whose name the tables before have already is called ``TABLE.COLUMN``.
    """

    def __init__(self, path: Path, joint: Joint, open_one: Callable[[Path, str | None], Table]) -> None:
        super().__init__(path)
        self._tables: list[Table] = []
        try:
            for file, tree in joint.tables:
                self._tables.append(open_one(path if file is None else _near(path, file), tree))
            first = self._tables[0]
            self.format, self.roles, self.units = first.format, first.roles, dict(first.units)
            self.types, self.jagged = dict(first.types), dict(first.jagged)
            self.unreadable, self.aliases = dict(first.unreadable), dict(first.aliases)
            labels = [_label(table) for table in self._tables]
            self.tree = "+".join(labels)
            # row of each table for each row of the result
            self._rows: list[NDArray[np.int64]] = [np.arange(first.n_rows)]
            # name here: (table, name there)
            self._sources = {name: (0, name) for name in (*first.types, *first.jagged)}
            for i in range(1, len(self._tables)):
                self._add(i, labels, joint.by)
            self.n_rows = len(self._rows[0])
        except BaseException:
            self.close()
            raise

    def _add(self, i: int, labels: Sequence[str], by: tuple[str, ...] | None) -> None:
        first, other = self._tables[0], self._tables[i]
        both = f"'{labels[0]}' and '{labels[i]}'"
        keys: tuple[str, ...] = ()
        if by is None:
            if first.n_rows != other.n_rows:
                raise InputError(
                    f"{self.name}: {both} have {first.n_rows} and {other.n_rows} entries, so they cannot be joined in order; name "
                    f"the columns that identify an event: '{labels[0]}+{labels[i]} by COL'"
                )
            partner = np.arange(first.n_rows)[self._rows[0]]
        else:
            keys = by or _found_keys(first, other)
            if not keys:
                raise InputError(
                    f"{self.name}: {both} share no column such as run or event that identifies an event; name it: "
                    f"'{labels[0]}+{labels[i]} by COL' (or --id COL), or write '{labels[0]}+{labels[i]} in order' if entry N of one "
                    "belongs to entry N of the other"
                )
            for table in (first, other):
                table.require(keys)
            partner = _partners(f"{self.name}: {both}", first, other, keys)[self._rows[0]]
        there = partner >= 0
        alone = int(np.count_nonzero(~there))
        unused = other.n_rows - len(np.unique(partner[there]))
        if alone == len(there):
            raise InputError(f"{self.name}: {both} have no event in common ({', '.join(keys)})")
        if alone:
            self.left_out[f"no partner in '{labels[i]}'"] = alone
        if alone or unused:
            log.warning(
                "%s: %s: %d events of the first have no partner and are left out, %d of the second are not used",
                self.name, both, alone, unused,
            )  # fmt: skip
        self._rows = [rows[there] for rows in self._rows] + [partner[there]]
        for name in (*other.types, *other.jagged, *other.unreadable):
            if name in keys:
                continue
            taken = name in self.names
            full = f"{labels[i]}.{name}" if taken else name
            if not taken:
                self.aliases[f"{labels[i]}.{name}"] = name
            if name in other.unreadable:
                self.unreadable[full] = other.unreadable[name]
                continue
            self._sources[full] = (i, name)
            if name in other.types:
                self.types[full] = other.types[name]
            else:
                self.jagged[full] = other.jagged[name]
        for short, name in other.aliases.items():
            if short not in self.names and (i, name) in self._sources.values():
                self.aliases.setdefault(short, name)

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        found: dict[str, Any] = {}
        for i, table in enumerate(self._tables):
            here = {name: self._sources[name][1] for name in names if self._sources[name][0] == i}
            rows = self._rows[i][start:stop]
            if not here or not len(rows):
                continue
            low, high = int(rows.min()), int(rows.max()) + 1
            values = table.load(list(here.values()), low, high)
            whole = len(rows) == high - low and bool(np.all(np.diff(rows) == 1))
            found |= {name: values[own] if whole else values[own][rows - low] for name, own in here.items()}
        return {name: found.get(name, np.empty(0)) for name in names}

    @property
    def size(self) -> int:
        """See :attr:`Table.size`."""
        return sum({table.path: table.size for table in self._tables}.values())

    @property
    def files(self) -> list[str]:
        """See :attr:`Table.files`."""
        return list(dict.fromkeys(name for table in self._tables for name in table.files))

    def place(self, row: int) -> str:
        """See :meth:`Table.place`; the row in the first table."""
        return self._tables[0].place(int(self._rows[0][row]))

    def close(self) -> None:
        """Close all files."""
        for table in self._tables:
            table.close()


def _near(path: Path, file: str) -> Path:
    """A file by its path, or in the folder of the first file."""
    given = Path(file).expanduser()
    return given if given.exists() or given.is_absolute() else path.parent / given


def _label(table: Table) -> str:
    return (table.tree or table.path.name.split(".")[0]).split(";")[0].split("/")[-1]


def _found_keys(first: Table, other: Table) -> tuple[str, ...]:
    shared = [name for name in first.types if name in other.types and name.lower() in _IDS]
    return tuple(shared) if any(name.lower() in _NUMBER_OF_EVENT for name in shared) else ()


def _partners(what: str, first: Table, other: Table, keys: Sequence[str]) -> NDArray[np.int64]:
    """Row of the other table for each row of the first, -1 where there is none."""
    ours, theirs = first.load(keys), other.load(keys)
    codes = np.zeros(first.n_rows + other.n_rows, dtype=np.int64)
    for key in keys:
        a, b = (_exact(what, key, values[key]) for values in (ours, theirs))
        if a.dtype.kind != b.dtype.kind and "U" in (a.dtype.kind, b.dtype.kind):
            raise InputError(f"{what}: the id '{key}' is a number in one and a text in the other")
        if a.dtype.kind != "U":
            a, b = same_integers(a, b)
        if a.dtype.kind + b.dtype.kind in ("iu", "ui"):
            a, b = a.astype(str), b.astype(str)
        code = np.unique(np.concatenate([a, b]), return_inverse=True)[1].ravel()
        codes = np.unique(codes * (int(code.max()) + 1) + code, return_inverse=True)[1].ravel()
    mine, known = codes[: first.n_rows], codes[first.n_rows :]
    row_of = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    row_of[known] = np.arange(len(known))
    again = np.flatnonzero(row_of[known] != np.arange(len(known)))
    if len(again):
        row = int(again[0])
        value = ":".join(str(theirs[key][row]) for key in keys)
        raise InputError(
            f"{what}: the id '{','.join(keys)}' is repeated in {counted(len(again), 'row')} of the second, first '{value}' in "
            f"{other.place(row)} and {other.place(int(row_of[known[row]]))}; each event needs one partner; add the run (by run,event) or "
            "remove the copies"
        )
    return row_of[mine]


def _exact(what: str, key: str, given: Any) -> NDArray[Any]:
    values: NDArray[Any] = as_array(given)
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and np.array_equal(values, np.trunc(values))):
            raise InputError(
                f"{what}: the id '{key}' has values that are not integers; expected whole numbers or texts"
            )
        return values.astype(np.int64)
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    return values if values.dtype.kind in "iu" else values.astype(str)
