"""Time of reading, of ``serendip inspect`` and of jagged expressions against the bare libraries.

``python benchmarks/reading.py [ROWS] [REPEATS]`` prints three tables. Both sides take turns, so that a busy machine slows both, and the
ratios are medians over the repeats.

* Reading: both open the file and load ten float64 columns. ``serendip.read`` also checks every value and makes the event ids;
  for a program that makes p-values it looks for events that depend on each other, too.
* Wide tables: 1,000 events with the branches of a NanoAOD (1,000 with one value for each event, 500 jagged) as TTree and as RNTuple,
  and a CSV of 2,000 columns. The bare library finds out which columns have one value for each event and loads them; ``inspect`` also
  looks at every value.
* Expressions of 300,000 events with three objects on average. awkward computes in the single precision of the file there, serendip in
  double precision.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import uproot

import serendip
from serendip.events.audit import audit
from serendip.events.expressions import evaluate
from serendip.events.jagged import Jagged

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


def seconds(function: Callable[[Any], Any], path: Any) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    function(path)
    return time.perf_counter() - start, time.process_time() - cpu


def through_serendip(path: Path) -> serendip.Events:
    return serendip.read(path, mass="mass", features=NAMES[1:])


def with_copies(path: Path) -> serendip.Events:
    return serendip.read(path, mass="mass", features=NAMES[1:], independent=True)


def wide_tree(path: Path) -> Any:
    tree = uproot.open(path)["Events"]
    flat = [branch.name for branch in tree.branches if type(branch.interpretation) is uproot.AsDtype]
    return tree.arrays(flat, library="np")


def wide_ntuple(path: Path) -> Any:
    ntuple = uproot.open(path)["Events"]
    flat = [name for name, kind in ntuple.typenames().items() if kind in ("float", "bool")]
    return ntuple.arrays(flat, library="np")


def wide_csv(path: Path) -> Any:
    table = pyarrow.csv.read_csv(path)
    return {name: table[name].to_numpy() for name in table.column_names}


WIDE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "NanoAOD TTree": ("tree.root", wide_tree),
    "NanoAOD RNTuple": ("ntuple.root", wide_ntuple),
    "CSV": ("wide.csv", wide_csv),
}


def write_wide(folder: Path) -> None:
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {f"HLT_path{i}": rng.random(1000) < 0.1 for i in range(950)}
    columns |= {f"MET_x{i}": rng.exponential(30, 1000).astype(np.float32) for i in range(50)}
    for group in range(25):
        counts = rng.poisson(3, 1000)
        for i in range(20):
            columns[f"Object{group}_x{i}"] = ak.unflatten(
                rng.normal(size=counts.sum()).astype(np.float32), counts
            )
    with uproot.recreate(folder / "tree.root") as file:
        file.mktree(
            "Events",
            {name: v.dtype if isinstance(v, np.ndarray) else "var * float32" for name, v in columns.items()},
        )
        file["Events"].extend(columns)
    with uproot.recreate(folder / "ntuple.root") as file:
        file.mkrntuple("Events", ak.Array(columns))
    values = rng.normal(size=(1000, 2000))
    header = ",".join(f"x{i}" for i in range(2000))
    np.savetxt(folder / "wide.csv", values, "%.5g", ",", header=header, comments="")


def paired(
    bare: Callable[[Any], Any], ours: Callable[[Any], Any], argument: Any, repeats: int
) -> tuple[float, float, float, float]:
    """Median seconds of both, and the medians of the ratios of time and of CPU time."""
    seconds(bare, argument), seconds(ours, argument)
    pairs = [(seconds(bare, argument), seconds(ours, argument)) for _ in range(repeats)]
    bare_s, own_s = (statistics.median(run[0] for run in runs) for runs in zip(*pairs, strict=True))
    wall, cpu = (statistics.median(own[i] / theirs[i] for theirs, own in pairs) for i in (0, 1))
    return bare_s, own_s, wall, cpu


def row(name: str, measured: tuple[float, float, float, float], limit: float | None) -> None:
    bare_s, own_s, wall, cpu = measured
    print(f"| {name} | {bare_s:.4f} | {own_s:.4f} | {wall:.2f} | {cpu:.2f} | {limit or '-'} |", flush=True)


def masses(lists: dict[str, ak.Array]) -> Any:
    chosen = {name: ak.pad_none(values, 2) for name, values in lists.items()}
    pt, eta, phi, m = (chosen[f"Muon_{part}"] for part in ("pt", "eta", "phi", "mass"))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(m**2 + px**2 + py**2 + pz**2)
    total = [v[:, 0] + v[:, 1] for v in (energy, px, py, pz)]
    return np.sqrt(np.maximum(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2, 0))


def numbers(values: Any) -> Any:
    return ak.to_numpy(ak.fill_none(values, np.nan))


EXPRESSIONS: dict[str, Callable[[dict[str, ak.Array]], Any]] = {
    "Muon_pt[:,0]": lambda a: numbers(ak.firsts(a["Muon_pt"])),
    "sum(Muon_pt)": lambda a: ak.to_numpy(ak.sum(a["Muon_pt"], axis=1)),
    "count(Muon_pt > 30)": lambda a: ak.to_numpy(ak.sum(a["Muon_pt"] > 30, axis=1)),
    "max(abs(Muon_eta))": lambda a: numbers(ak.max(abs(a["Muon_eta"]), axis=1)),
    "sum(Muon_pt[abs(Muon_eta) < 2])": lambda a: ak.to_numpy(ak.sum(a["Muon_pt"][abs(a["Muon_eta"]) < 2], axis=1)),
    "max(Muon_pt * cosh(Muon_eta))": lambda a: numbers(ak.max(a["Muon_pt"] * np.cosh(a["Muon_eta"]), axis=1)),
    "mass(Muon, 0, 1)": lambda a: numbers(masses(a)),
}  # fmt: skip


def expressions(repeats: int, events: int = 300_000) -> None:
    rng = np.random.default_rng(2)
    counts = rng.poisson(3, events)
    total = int(counts.sum())
    flat = {"pt": rng.exponential(30, total), "eta": rng.normal(0, 1.5, total),
            "phi": rng.uniform(-3.1, 3.1, total), "mass": np.full(total, 0.106)}  # fmt: skip
    lists = {f"Muon_{part}": ak.unflatten(v.astype(np.float32), counts) for part, v in flat.items()}
    exact = {name: ak.values_astype(values, np.float64) for name, values in lists.items()}
    ours = {name: Jagged.from_awkward(values) for name, values in lists.items()}
    print(
        "\n| expression | awkward (s) | serendip (s) | ratio | ratio of CPU time | limit |\n|---|---|---|---|---|---|"
    )
    for text, bare in EXPRESSIONS.items():
        np.testing.assert_allclose(np.asarray(bare(exact), float), evaluate(text, ours), rtol=1e-6, atol=1e-6)
        row(text, paired(lambda _, f=bare: f(lists), lambda _, t=text: evaluate(t, ours), None, repeats), 1.5)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    rng = np.random.default_rng(1)
    columns = {
        "mass": 1000 * (1 + rng.exponential(size=rows)),
        **{name: rng.normal(size=rows) for name in NAMES[1:]},
    }
    events = serendip.Events(columns=columns, mass="mass", features=tuple(NAMES[1:]))
    header = "| {} | bare library (s) | serendip (s) | ratio | ratio of CPU time | limit |\n|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        print(f"{rows} rows x {len(NAMES)} columns of float64, medians of {repeats}\n")
        print(header.format("format"))
        for name, (suffix, bare, limit) in FORMATS.items():
            path = Path(folder) / f"events.{suffix}"
            serendip.write(events, path)
            row(name, paired(bare, through_serendip, path, repeats), limit)
            if name == "Parquet":
                row("Parquet, copies of events looked for", paired(bare, with_copies, path, repeats), None)
        print("\n" + header.format("inspect"))
        write_wide(Path(folder))
        for name, (file, bare) in WIDE.items():
            row(name, paired(bare, audit, Path(folder) / file, repeats), 2)
    expressions(repeats)


if __name__ == "__main__":
    main()
