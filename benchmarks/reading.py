"""Time of ``serendip.read`` against the bare libraries: ``python benchmarks/reading.py [ROWS] [REPEATS]``.

Both sides open the file and load ten float64 columns; they take turns, so that a busy machine slows both.
The ratios are
medians over the repeats. ``serendip.read`` also checks every value and makes the event ids.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import uproot

import serendip

NAMES = ["mass", *(f"x{i}" for i in range(9))]


def parquet(path: Path) -> dict[str, Any]:
    table = pyarrow.parquet.read_table(path, columns=NAMES)
    return {name: table[name].to_numpy() for name in NAMES}


def csv(path: Path) -> dict[str, Any]:
    table = pyarrow.csv.read_csv(path)
    return {name: table[name].to_numpy() for name in NAMES}


def root(path: Path) -> Any:
    return uproot.open(path)["events"].arrays(NAMES, library="np")


def hdf5(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        rows = file["events"][:]
        return {name: np.ascontiguousarray(rows[name]) for name in NAMES}


FORMATS: dict[str, tuple[str, Callable[[Path], Any], float | None]] = {
    "Parquet": ("parquet", parquet, 1.3),
    "ROOT TTree": ("root", root, 1.3),
    "HDF5": ("h5", hdf5, None),
    "CSV": ("csv", csv, None),
}


def seconds(function: Callable[[Path], Any], path: Path) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    function(path)
    return time.perf_counter() - start, time.process_time() - cpu


def through_serendip(path: Path) -> serendip.Events:
    return serendip.read(path, mass="mass", features=NAMES[1:])


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    rng = np.random.default_rng(1)
    columns = {
        "mass": 1000 * (1 + rng.exponential(size=rows)),
        **{name: rng.normal(size=rows) for name in NAMES[1:]},
    }
    events = serendip.Events(columns=columns, mass="mass", features=tuple(NAMES[1:]))
    print(f"{rows} rows x {len(NAMES)} columns of float64, medians of {repeats}\n")
    print(
        "| format | bare library (s) | serendip (s) | ratio | ratio of CPU time | limit "
        "|\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, bare, limit) in FORMATS.items():
            path = Path(folder) / f"events.{suffix}"
            serendip.write(events, path)
            seconds(bare, path), seconds(through_serendip, path)
            pairs = [(seconds(bare, path), seconds(through_serendip, path)) for _ in range(repeats)]
            bare_s, own_s = (statistics.median(run[0] for run in runs) for runs in zip(*pairs, strict=True))
            wall, cpu = (statistics.median(own[i] / theirs[i] for theirs, own in pairs) for i in (0, 1))
            print(
                f"| {name} | {bare_s:.3f} | {own_s:.3f} | {wall:.2f} | {cpu:.2f} | {limit or '-'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
