"""Read every ROOT file below a folder as ``serendip inspect`` does: ``python benchmarks/root_files.py FOLDER [--list]``.

Each TTree and RNTuple of each file is looked over, and the values of every usable column are compared with what uproot gives for the
same branch on its own. Printed are the numbers of files, trees and columns, the reasons why columns cannot be used, the messages
for files and trees that cannot be, tracebacks and differences. With ``--list`` also which file each belongs to.

The files of docs/inputs.md are those below four public repositories: scikit-hep/scikit-hep-testdata, go-hep/hep,
scikit-hep/root_numpy and CoffeaTeam/coffea.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from serendip.cli.inspect import _cells, _findings
from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.formats import open_table
from serendip.events.formats.root import RootTable
from serendip.events.jagged import Jagged

MOST_VALUES = 2_000_000


def trees_of(path: Path) -> list[str]:
    """Trees of a file; empty if it cannot be opened."""
    try:
        with uproot.open(path) as file:
            kinds = file.classnames(recursive=True, cycle=False)
    except Exception:  # noqa: BLE001 - what serendip says of it is asked later
        return []
    return [
        name for name, kind in kinds.items() if kind.startswith(("TTree", "TNtuple")) or "RNTuple" in kind
    ]


def as_lists(values: Any) -> Any:
    """Values of a column in the form of awkward."""
    if isinstance(values, Jagged):
        return ak.unflatten(as_lists(values.content), values.counts)
    return values


def alone(table: RootTable, name: str) -> Any:
    """The column as uproot gives its branch or field alone, whole and without any choice of ours."""
    field = table._fields[name]
    if table.format == "ROOT RNTuple":
        array = table._tree[field.source.path].array()
    else:
        array = field.source.array(field.interpretation, library="ak")
    for part in field.path:
        array = array[part]
    return array


def same(ours: Any, theirs: Any) -> bool:
    """Equal values; what is missing there is NaN here."""
    if isinstance(ours, Jagged):
        ours, theirs = as_lists(ours), ak.from_regular(theirs, axis=None)
        if not ak.array_equal(ak.num(ours, axis=1), ak.num(theirs, axis=1)):
            return False
        ours, theirs = ak.flatten(ours, axis=None), ak.flatten(theirs, axis=None)
        ours, theirs = ak.to_numpy(ours), ak.to_numpy(theirs)
    elif isinstance(ours, np.ndarray) and ours.dtype.kind in "OUS":
        return [str(value) for value in ours] == [str(value) for value in ak.to_list(theirs)]
    elif ak.any(ak.is_none(theirs)):
        theirs = ak.to_numpy(ak.fill_none(theirs, np.nan))
    theirs = np.asarray(theirs)
    return bool(np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"))


def short(message: str) -> str:
    """A message without the names of file, branch and class."""
    message = re.sub(r"\b(class|type) .+?(?=;| that uproot|, packed| here)", r"\1 ...", message)
    message = re.sub(r"'[^']*'|\([^()]*(\([^()]*\)[^()]*)*\)", "...", message)
    return re.sub(r"\d+", "N", message).split(": ", 1)[-1].split(";")[0].removesuffix(" ...")


def main() -> None:
    folder, listed = Path(sys.argv[1]), "--list" in sys.argv
    logging.disable()
    counts: Counter[str] = Counter()
    reasons, errors, reading = Counter[str](), Counter[str](), Counter[str]()
    wrong: list[str] = []
    for path in sorted(folder.rglob("*.root")):
        counts["files"] += 1
        usable = False
        for tree in trees_of(path) or [None]:
            counts["trees"] += tree is not None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = audit(path, tree=tree)
                    [_cells(column) for column in found.columns], _findings(found)
                except InputError as error:
                    errors[short(str(error))] += 1
                    if listed:
                        print("error", path.relative_to(folder), tree, error)
                    continue
                except Exception:  # noqa: BLE001 - what is counted
                    counts["tracebacks"] += 1
                    wrong.append(f"{path.relative_to(folder)} {tree}: {traceback.format_exc(limit=-3)}")
                    continue
                usable = True
                counts["columns with one value"] += len(found.columns)
                counts["columns with lists"] += len(found.jagged)
                reasons.update(short(why) for why in found.unreadable.values())
                if listed:
                    for name, why in found.unreadable.items():
                        print("unusable", path.relative_to(folder), tree, name, why)
                table = open_table(path, tree)
                assert isinstance(table, RootTable)
                for name in [*(column.name for column in found.columns), *found.jagged]:
                    try:
                        ours = table.load([name])[name]
                    except InputError as error:
                        reading[short(str(error))] += 1
                        if listed:
                            print("unreadable", path.relative_to(folder), tree, name, error)
                        continue
                    except Exception:  # noqa: BLE001
                        counts["tracebacks"] += 1
                        wrong.append(
                            f"{path.relative_to(folder)} {tree} {name}: {traceback.format_exc(limit=-3)}"
                        )
                        continue
                    counts["columns compared"] += 1
                    if not same(ours, alone(table, name)):
                        counts["columns that differ from uproot"] += 1
                        wrong.append(f"{path.relative_to(folder)} {tree} {name}: differs")
                table.close()
        counts["files with a table"] += usable
    print("| what | number |\n|---|---|")
    for name in ("files", "files with a table", "trees", "columns with one value", "columns with lists", "columns compared",
                 "columns that differ from uproot", "tracebacks"):  # fmt: skip
        print(f"| {name} | {counts[name]} |")
    for title, table_ in (("columns not usable", reasons), ("columns that fail when they are read", reading), ("messages", errors)):  # fmt: skip
        print(f"\n| {title} | {sum(table_.values())} |\n|---|---|")
        for message, count in table_.most_common():
            print(f"| {message} | {count} |")
    print("\n".join(wrong))


if __name__ == "__main__":
    main()
