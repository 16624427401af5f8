"""Time of reading wide text tables and data sets of many files against pyarrow: ``python benchmarks/table_files.py [REPEATS]``.

Both sides take turns; the ratios are medians of CPU time. Serendip also finds the layout of a text table, checks
every value, and makes the event ids.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

import serendip
from serendip.events.formats import open_table

COLUMNS = [f"x{i}" for i in range(10)]
WIDE = [f"c{i}" for i in range(2000)]


def write(folder: Path) -> None:
    rng = np.random.default_rng(1)
    pa.csv.write_csv(pa.table({name: 1 + rng.random(1500) for name in WIDE}), folder / "wide.csv")
    (folder / "parts").mkdir()
    for i in range(60):
        part = {name: 1 + rng.random(20_000) for name in COLUMNS}
        pa.parquet.write_table(pa.table(part), folder / f"parts/{i:02d}.parquet")
    pairs = 1 + rng.random((500_000, 2))
    for name, form in (("aligned", "{:12.5f} {:9.4f}\n"), ("single", "{:.5f} {:.4f}\n")):
        (folder / f"{name}.txt").write_text("x y\n" + "".join(form.format(a, b) for a, b in pairs))


def dataset(path: Path) -> dict[str, Any]:
    table = pyarrow.dataset.dataset(path).to_table(columns=COLUMNS)
    return {name: table[name].to_numpy() for name in COLUMNS}


def blanks(path: Path) -> Any:
    # pyarrow takes one blank between values and none before them
    options = pa.csv.ParseOptions(delimiter=" ")
    return pa.csv.read_csv(path.with_name("single.txt"), parse_options=options)


CASES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "text, 2,000 columns x 1,500 rows: look at the columns": ("wide.csv", pa.csv.read_csv, open_table),
    "the same: read three columns": (
        "wide.csv",
        pa.csv.read_csv,
        lambda path: serendip.read(path, mass="c0", features=["c1", "c2"]),
    ),
    "60 Parquet files of 20,000 rows, ten columns": (
        "parts",
        dataset,
        lambda path: serendip.read(path, mass="x0", features=COLUMNS[1:]),
    ),
    "aligned text, 2 columns x 500,000 rows; pyarrow: one blank between values": (
        "aligned.txt",
        blanks,
        open_table,
    ),
}


def cpu(function: Callable[[Path], Any], path: Path) -> float:
    start = time.process_time()
    function(path)
    return time.process_time() - start


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print("| what | pyarrow (s) | serendip (s) | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        for what, (file, bare, own) in CASES.items():
            path = Path(name) / file
            cpu(bare, path), cpu(own, path)
            pairs = [(cpu(bare, path), cpu(own, path)) for _ in range(repeats)]
            theirs, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
            print(
                f"| {what} | {theirs:.3f} | {ours:.3f} | {statistics.median(b / a for a, b in pairs):.2f} |"
            )


if __name__ == "__main__":
    main()
