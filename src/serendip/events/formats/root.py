"""ROOT files through uproot: TTree and RNTuple with one value for each event."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from serendip.errors import InputError
from serendip.events.formats.table import Table, as_array, pick
from serendip.events.jagged import Jagged, concatenate

__all__ = ["RootTable"]

CHUNK = 200_000_000
FLATTEN = (
    "has a variable number of values for each event (jagged), but one number for each event is needed; "
    "flatten it "
    "first, for example the leading one: "
    "ak.to_numpy(ak.fill_none(ak.firsts(tree[NAME].array()), nan)), and write that column"
)
_NUMBERS = {
    "float": "float32", "double": "float64", "bool": "bool", "char": "int8", "std::byte": "uint8",
    **{f"std::{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"ROOT::RNTupleCardinality<std::uint{bits}_t>": f"uint{bits}" for bits in (32, 64)},
}  # fmt: skip


class RootTable(Table):
    """One TTree or RNTuple of a ROOT file."""

    format = "ROOT TTree"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path)
        with self._readable():
            file = self._file = uproot.open(path)
            # The header knows the size: the end of a file can be missing without a reader noticing at once.
            missing = int(file.file.fEND) - path.stat().st_size
            if missing > 0:
                raise InputError(
                    f"{path.name}: truncated, the last {missing} bytes are missing; copy it again"
                )
            classes = file.classnames(recursive=True, cycle=False)
            ntuples = [
                name
                for name, kind in classes.items()
                if kind in ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")
            ]
            trees = [
                name for name, kind in classes.items() if kind in ("TTree", "TNtuple", "TNtupleD", "TChain")
            ]
            self.tree = pick(path, tree, sorted(trees + ntuples), "TTree or RNTuple")
            self._tree = file[self.tree]
            self.n_rows = int(self._tree.num_entries)
            if self.tree in ntuples:
                self.format = "ROOT RNTuple"
                self._describe_ntuple()
            else:
                self._describe_tree()
            if "serendip" in classes:
                self.roles = json.loads(str(file["serendip"]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        # A damaged file makes uproot fail wherever it then is: struct, zlib, index, key, assertion errors
        # and more.
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"{self.path.name}: this is not a readable ROOT file, it may be truncated or damaged "
                f"({reason}); write or copy it again"
            ) from error

    def _describe_tree(self) -> None:
        for name, branch in self._tree.iteritems(recursive=True, full_paths=False):
            if branch.branches:
                continue
            kind = branch.interpretation
            if (
                isinstance(kind, uproot.AsDtype)
                and not isinstance(kind, uproot.AsArray)
                and not kind.to_dtype.shape
            ):
                self.types[name] = str(kind.to_dtype.newbyteorder("="))
            elif isinstance(kind, uproot.AsStrings):
                self.types[name] = "text"
            elif isinstance(kind, uproot.AsDtype) and kind.to_dtype.base.names is None:
                self.jagged[name] = str(kind.to_dtype.base.newbyteorder("="))
            elif (
                isinstance(kind, uproot.AsJagged)
                and isinstance(kind.content, uproot.AsDtype)
                and kind.content.to_dtype.base.names is None
            ):
                self.jagged[name] = str(kind.content.to_dtype.base.newbyteorder("="))
            else:
                self.unreadable[name] = FLATTEN.replace("NAME", repr(name))

    def _describe_ntuple(self) -> None:
        for name, kind in self._tree.typenames(full_paths=True).items():
            if "." in name or name.startswith("_collection"):
                continue
            if kind in _NUMBERS:
                self.types[name] = _NUMBERS[kind]
            elif kind == "std::string":
                self.types[name] = "text"
            else:
                self.unreadable[name] = FLATTEN.replace("NAME", repr(name))

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`; read in chunks, so that memory stays near the size of the result."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        flat = [name for name in names if name in self.types]
        lists = [name for name in names if name in self.jagged]
        row_bytes = sum(
            np.dtype(self.types[name]).itemsize if self.types[name] != "text" else 32 for name in flat
        ) + 32 * len(lists)
        step = max(1, CHUNK // max(1, row_bytes))
        parts: list[dict[str, Any]] = []
        with self._readable():
            for low in range(start, max(stop, start + 1), step):
                part: dict[str, Any] = {}
                bounds = {"entry_start": low, "entry_stop": min(low + step, stop)}
                if flat:
                    chunk = self._tree.arrays(flat, library="np", **bounds)
                    part.update((name, as_array(chunk[name])) for name in flat)
                if lists:
                    chunk = self._tree.arrays(lists, library="ak", **bounds)
                    part.update((name, Jagged.from_awkward(chunk[name])) for name in lists)
                parts.append(part)
        return {name: concatenate([part.pop(name) for part in parts]) for name in names}
