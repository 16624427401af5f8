"""One TTree or RNTuple of a ROOT file as a table."""

from __future__ import annotations

import json
import lzma
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from serendip.errors import InputError
from serendip.events.formats.root.branches import describe_tree
from serendip.events.formats.root.fields import Field, reason_of, to_column
from serendip.events.formats.root.ntuple import describe_ntuple
from serendip.events.formats.table import Table, pick
from serendip.events.jagged import concatenate

__all__ = ["RootTable"]

CHUNK = 200_000_000
# errors from reading beyond the end and decompressing wrong bytes
_DAMAGE = (zlib.error, lzma.LZMAError, EOFError, struct.error, IndexError)
_TREES = ("TTree", "TNtuple", "TNtupleD", "TChain")
_NTUPLES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")


class RootTable(Table):
    """One TTree or RNTuple of a ROOT file.

    Of equal names the last cycle is taken; ``name;1`` takes the first one.
    """

    format = "ROOT TTree"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        with self._readable("the file"):
            file = self._file = uproot.open(path, handler=uproot.MemmapSource)
            # The header knows the size: the end of a file can be missing without a reader noticing at once.
            missing = int(file.file.fEND) - path.stat().st_size
            if missing > 0:
                raise InputError(
                    f"{path.name}: truncated, the last {missing} bytes are missing; copy it again"
                )
            classes = file.classnames(recursive=True, cycle=tree is not None and ";" in tree)
        found = [name for name, kind in classes.items() if kind in (*_TREES, *_NTUPLES)]
        self.tree = pick(path, tree, sorted(found), "TTree or RNTuple")
        ntuple = classes[self.tree] in _NTUPLES
        if classes[self.tree] == "ROOT::Experimental::RNTuple":
            raise InputError(
                f"{path.name}: '{self.tree}' is an RNTuple in the layout of ROOT before 6.34, which was for trying out and is "
                "read by no later program; write it again with ROOT 6.34 or later, from its source"
            )
        with self._readable(f"'{self.tree}'"):
            self._tree = file[self.tree]
            self.n_rows = int(self._tree.num_entries)
            self.format = "ROOT RNTuple" if ntuple else "ROOT TTree"
            contents = describe_ntuple(self._tree) if ntuple else describe_tree(self._tree)
            if "serendip" in file:
                self.roles = json.loads(str(file["serendip"]))
        self._fields, self.unreadable, self.aliases = contents.fields, contents.unreadable, contents.short
        self.types = {name: field.kind for name, field in self._fields.items() if not field.depth}
        self.jagged = {name: field.type for name, field in self._fields.items() if field.depth}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _readable(self, what: str, field: Field | None = None) -> Iterator[None]:
        try:
            yield
        except (InputError, MemoryError):
            raise
        # A damaged file makes uproot fail wherever it then is: struct, zlib, index, key, assertion errors
        # and more.
        except Exception as error:
            if field is not None and not field.plain:
                advice = f"uproot cannot read the type {field.source.typename} here; write its numbers as branches of their own"
            elif isinstance(error, _DAMAGE) or type(error).__name__ == "DecompressionError":
                advice = "the file is truncated or damaged; write or copy it again"
            else:
                advice = (
                    "either the file is damaged or uproot does not know how it was written; if ROOT reads it, write the columns "
                    "to a new tree, else copy the file again"
                )
            raise InputError(
                f"{self.path.name}: {what} is not readable ({reason_of(error)}); {advice}"
            ) from error

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`; read in chunks, so that memory stays near the size of the result.

        Raises
        ------
        InputError
            Naming the tree and the column that cannot be read.
        """
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        found: dict[str, Any] = {}
        together: dict[int, list[str]] = {}
        for name in names:
            together.setdefault(id(self._fields[name].source), []).append(name)
        for group in together.values():
            found |= self._load_source(group, start, stop)
        return {name: found[name] for name in names}

    def _load_source(self, group: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Columns that are in one branch or field."""
        fields = [self._fields[name] for name in group]
        parts: dict[str, list[Any]] = {name: [] for name in group}
        row_bytes = sum(32 if f.depth or f.kind == "text" else np.dtype(f.kind).itemsize for f in fields)
        step = max(1, CHUNK // max(row_bytes, 1))
        with self._readable(f"column '{group[0]}' of '{self.tree}'", fields[0]):
            for low in range(start, max(stop, start + 1), step):
                array = self._read(fields[0], low, min(low + step, stop))
                for name, field in zip(group, fields, strict=True):
                    parts[name].append(to_column(array, field))
        return {name: concatenate(values) for name, values in parts.items()}

    def _read(self, field: Field, low: int, high: int) -> Any:
        """Entries of the source of a field, as NumPy where that is the direct way."""
        source, bounds = field.source, {"entry_start": low, "entry_stop": high, "array_cache": None}
        if self.format == "ROOT RNTuple":
            return source.array(**bounds)
        kind = field.interpretation or source.interpretation
        numbers = uproot.AsDtype | uproot.AsStrings | uproot.AsDouble32 | uproot.AsFloat16
        direct = isinstance(kind, numbers) and not isinstance(kind, uproot.AsStridedObjects)
        return source.array(kind, library="np" if direct else "ak", **bounds)
