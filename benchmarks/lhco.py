"""LHC Olympics R&D events with injected signal: SIC of every method and the significance of the search.

    python benchmarks/lhco.py FEATURES.h5 --out FOLDER [--signal 250 120 0] [--repeats 5] [--methods ...]

FEATURES.h5 is a file in the layout of the LHC Olympics features (preset ``lhco``). For each number of signal events in the
window (3300-3700 GeV) and each injection (a random subset of the signal events, all background events) this
runs ``serendip search`` twice: sequentially (10 folds, its significance is quoted) and as 5-fold cross-training (its SIC is
quoted, since every event then has a score from a model trained on 80 % of the data). Finished searches are skipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serendip.events.read import read
from serendip.search.config import parse_config
from serendip.search.engine import run_search

WINDOW = (3300.0, 3700.0)
FEATURES = ("mj1", "delta_mj", "tau21_j1", "tau21_j2")


def inject(source: Path, target: Path, in_window: int, seed: int) -> Path:
    events = read(source, mass=None, preset="lhco")
    signal = np.flatnonzero(events.labels)
    share = np.mean((events.m[signal] >= WINDOW[0]) & (events.m[signal] < WINDOW[1]))
    chosen = np.random.default_rng(seed).choice(signal, round(in_window / share), replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(~events.labels), chosen]))
    sample = events.select(rows)
    columns = {name: sample[name] for name in FEATURES} | {
        "mjj": sample.m,
        "event": sample.ids,
        "truth": sample.labels,
    }
    pq.write_table(pa.table(columns), target)
    return target


def search(
    table: Path, out: Path, combination: str, folds: int, methods: list[str], jobs: int | None
) -> None:
    if (out / "results.json").exists():
        return
    settings = {
        "file": str(table),
        "mass": "mjj",
        "features": list(FEATURES),
        "id": "event",
        "label": "truth",
        "window": list(WINDOW),
        "method": methods,
        "combination": combination,
        "folds": folds,
    }
    run_search(parse_config(settings), out, unblind=True, jobs=jobs)


def collect(out: Path) -> dict[str, dict[str, float]]:
    results = json.loads((out / "results.json").read_text())
    diagnostics = json.loads((out / "diagnostics.json").read_text())
    found: dict[str, dict[str, float]] = {}
    for look in results["looks"]:
        found.setdefault(look["method"], {})[f"Z at {look['working_point']:g}"] = look["z_local"]
    for curve in (diagnostics["truth"] or {"roc": []})["roc"]:
        found[curve["method"]] |= {"max SIC": curve["max_sic"], "SIC at 0.01": curve["sic_at"]["0.01"][0]}
    for entry in diagnostics["closure"]:
        found[entry["method"]]["closure AUC"] = entry["auc"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--signal", type=int, nargs="+", default=[250, 120, 0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["supervised", "idealised", "cwola", "cathode"])
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for in_window in arguments.signal:
        label_free = [name for name in arguments.methods if name not in ("supervised", "idealised")]
        methods = arguments.methods if in_window else label_free
        rows: dict[tuple[str, str], list[float]] = {}
        for seed in range(arguments.repeats if in_window else 1):
            table = arguments.out / f"events-{in_window}-{seed}.parquet"
            if not table.exists():
                inject(arguments.file, table, in_window, seed)
            for name, combination, folds in (
                ("sequential", "sequential", 10),
                ("kfold", "kfold-bonferroni", 5),
            ):
                out = arguments.out / f"{name}-{in_window}-{seed}"
                search(table, out, combination, folds, methods, arguments.jobs)
                for method, numbers in collect(out).items():
                    for quantity, value in numbers.items():
                        if quantity.startswith("Z") == (name == "sequential"):
                            rows.setdefault((method, quantity), []).append(value)
        print(
            f"\n{in_window} signal events in the window, {arguments.repeats if in_window else 1} injections: median [min, max]"
        )
        for method in methods:
            print(f"  {method:12s}", end="")
            for quantity in ("max SIC", "SIC at 0.01", "Z at 0.01", "Z at 0.001", "closure AUC"):
                values = rows.get((method, quantity))
                if values:
                    print(
                        f"  {quantity}: {np.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]",
                        end="",
                    )
            print(flush=True)


if __name__ == "__main__":
    main()
