"""Signal strength by generator-based inference against the truth, on labelled events with injected signal.

    python benchmarks/gbi.py FILE --out FOLDER [--preset lhco | --mass mjj --features mj1,... --label label]
        [--strengths 0 1 2 4] [--repeats 5] [--source learned simulation] [--combination kfold sequential]
        [--set ranode.members=3 ...] [--retrain 0] [--threads 1]

A strength is S/sqrt(B) in the window (3300-3700 GeV): each repeat has all background events and another random part of the
labelled signal. With ``--source simulation`` the density of the signal is learnt from signal events that are never injected.
Finished measurements are skipped, so the same call continues. The table is printed and written to
``FOLDER/gbi.md``: median of the measured number of signal events with its errors, its mean pull, how often the 68 and 95 %
intervals (by toys, with the total error) hold the truth, and the upper limit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serendip.cli.parsing import assign_option
from serendip.events.events import Events, Window
from serendip.events.read import read
from serendip.search.config import parse_settings
from serendip.search.infer import InferConfig, run_infer
from serendip.search.injection import inject
from serendip.statistics.pvalues import binomial_interval

WINDOW = Window(3300.0, 3700.0)


def prepare(source: Events, out: Path, strength: float, repeat: int) -> tuple[Path, Path, int]:
    """Write the events of one repeat and the signal that is left for a simulated density."""
    truth, inside = source.labels, WINDOW.contains(source.m)
    rng = np.random.default_rng(repeat)
    # half of the signal is for the density
    kept = truth & (rng.random(len(source)) < 0.5)
    rest = source.select(~kept)
    in_window = round(strength * np.sqrt(np.count_nonzero(~truth & inside)))
    data, template = out / f"events-{strength:g}-{repeat}.parquet", out / f"signal-{repeat}.parquet"
    for path, sample in ((data, rest), (template, source.select(kept))):
        if not path.exists():
            rows = sample.select(inject(rest, WINDOW, in_window, repeat, 1)) if path is data else sample
            columns = {name: rows[name] for name in rows.features} | {"mass": rows.m, "event": rows.ids}
            pq.write_table(pa.table(columns), path)
    return data, template, in_window


def measure(
    data: Path,
    template: Path,
    run: Path,
    source: str,
    arguments: argparse.Namespace,
    features: tuple[str, ...],
) -> dict[str, Any]:
    """Results of one measurement, made if they are not there."""
    if not (run / "infer.json").exists():
        settings: dict[str, Any] = {
            "file": str(data), "mass": "mass", "features": list(features), "id": "event", "window": [WINDOW.low, WINDOW.high],
            "toys": arguments.toys, "folds": arguments.folds,
        }  # fmt: skip
        for assignment in arguments.set:
            assign_option(settings, assignment)
        if source == "simulation":
            settings["signal"] = str(template)
        else:
            settings |= {
                "combination": source,
                "scan_points": arguments.scan_points,
                "retrain": arguments.retrain,
            }
        run_infer(parse_settings(InferConfig, settings, "gbi"), run, unblind=True, threads=arguments.threads)
    found: dict[str, Any] = json.loads((run / "infer.json").read_text())
    return found


def row(results: list[dict[str, Any]], truth: float) -> list[str]:
    """One line of the table."""
    n = len(results)
    # a sequential measurement counts the signal in the tested folds
    true = np.array([truth * r["tested_share"] for r in results])
    fits = [r["total"]["fit"] for r in results]
    count, error = (np.array([fit[key] for fit in fits]) for key in ("count", "error"))
    statistical = np.array([r["statistical"]["fit"]["error"] for r in results])
    pull = (count - true) / error
    scan = [r["scan"]["count"] for r in results if r["scan"]]
    cells = [
        f"{np.median(true):.0f}", f"{np.median(count):.0f} [{count.min():.0f}, {count.max():.0f}]",
        f"{np.median(statistical):.0f}", f"{np.median(error):.0f}", f"{pull.mean():+.2f} ± {pull.std(ddof=1) / np.sqrt(n):.2f}" if n > 1 else f"{pull[0]:+.2f}",
        f"{np.median(scan):.0f}" if scan else "–",
    ]  # fmt: skip
    for level in ("68", "95"):
        holds = sum(
            low <= t <= high
            for (low, high), t in zip(
                (r["total"]["toys"][f"interval_{level}"] for r in results), true, strict=True
            )
        )
        low, high = binomial_interval(holds, n)
        cells.append(f"{holds}/{n} [{low:.2f}, {high:.2f}]")
    cells.append(
        f"{np.median([r['statistical']['fit']['z'] for r in results]):.1f} / {np.median([f['z'] for f in fits]):.1f}"
    )
    cells.append(f"{np.median([r['total']['toys']['upper_limit_95'] for r in results]):.0f}")
    return cells


def main() -> None:
    """Run all measurements and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset")
    parser.add_argument("--mass")
    parser.add_argument("--features", default="")
    parser.add_argument("--label")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--source", nargs="+", default=["kfold", "sequential", "simulation"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--scan-points", type=int, default=6)
    parser.add_argument("--retrain", type=int, default=0)
    parser.add_argument("--toys", type=int, default=500)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    features = [name for name in arguments.features.split(",") if name]
    source = read(
        arguments.file, mass=arguments.mass, features=features, label=arguments.label, preset=arguments.preset
    )
    head = [
        "signal",
        "S/√B",
        "true S",
        "measured S [min, max]",
        "stat. error",
        "total error",
        "mean pull",
        "scanned w",
        "68 % holds",
        "95 % holds",
        "Z stat / total",
        "95 % limit",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind in arguments.source:
        for strength in arguments.strengths:
            results, truth = [], 0
            for repeat in range(arguments.repeats):
                data, template, truth = prepare(source, arguments.out, strength, repeat)
                run = arguments.out / f"{kind}-{strength:g}-{repeat}"
                results.append(measure(data, template, run, kind, arguments, source.features))
            lines.append("| " + " | ".join([kind, f"{strength:g}", *row(results, truth)]) + " |")
            print(lines[-1], flush=True)
    (arguments.out / "gbi.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
