"""CATHODE on LHC Olympics R&D events: time, memory and SIC of one window and of a scan.

    python benchmarks/cathode.py FEATURES.h5 [--signal 250] [--seeds 0 1 2] [--folds 5] [--reference] [--scan]

FEATURES.h5 is a file in the layout of the LHC Olympics features (preset ``lhco``). All background events and a random
subset of the signal with the given number of events in the window 3300-3700 GeV are searched with ``--folds`` folds, on all
cores of this process. Printed for every configuration and injection: wall and CPU seconds of the density, of drawing the
template and of the classifiers, all folds; peak memory; the AUC of a classifier between the template of the
last model and the true background in the window (0.5 is perfect); SIC.

``--reference`` adds the density of the CATHODE paper: an affine autoregressive flow of 15 blocks on logit-transformed
features, 100 epochs in batches of 256. ``--scan`` times ``serendip search`` with a shared background on one window
and on nine.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from lhco import FEATURES, inject

from serendip.classify.separation import two_sample_auc
from serendip.density import make_density
from serendip.events.events import Window
from serendip.events.read import read
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.methods.figures_of_merit import max_sic, sic_at, sic_curve
from serendip.runs.executor import available_cores
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.search.folds import assign_folds, cross_training_plan, tie_breaker
from serendip.statistics.ranks import cut_efficiency
from serendip.torch_device import limited_threads

WINDOW = Window(3300.0, 3700.0)
PAPER = {
    "transforms": 15, "hidden": 128, "layers": 1, "learning_rate": 1e-4, "batch_size": 256, "epochs": 100,
    "preprocessing": "logit",
}  # fmt: skip
FOLDS = 5


class Clock:
    """Wall and CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    def __call__(self, stage: str, call: Any, *args: Any) -> Any:
        """Call and remember how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = call(*args)
        self.seconds[stage] = (time.perf_counter() - wall, time.process_time() - cpu)
        return result


class TimedCathode(Cathode):
    """CATHODE with a clock on each stage."""

    clock: Clock

    def draw_templates(self, *args: Any) -> Any:
        """See Cathode."""
        return self.clock("template", super().draw_templates, *args)

    def _train_classifier(self, *args: Any) -> None:
        self.clock("classifier", super()._train_classifier, *args)


def one_window(table: Path, kind: str, options: dict[str, Any], seed: int, folds: int) -> None:
    events = read(table, mass="mjj", features=FEATURES, id="event", label="truth")
    events = events.select(np.argsort(events.ids, kind="stable"))
    hidden = events.without_label()
    fold = assign_folds(events.ids, folds, seed)
    plan = cross_training_plan(fold, folds, "kfold-bonferroni")
    clock, threads = Clock(), available_cores()
    outside = ~WINDOW.contains(events.m)
    density = make_density(kind, seed=seed, **options)
    with limited_threads(threads):
        clock(
            "density",
            lambda: density.fit(events.x[outside], events.m[outside], splits=plan.splits[:, outside]),
        )
    method = TimedCathode(CathodeConfig(), seed=seed, threads=threads, background=density)
    method.clock = clock
    method.fit(hidden, WINDOW, plan.splits)
    scores = np.full(len(events), np.nan)

    def score_all() -> None:
        for f, model in plan.scores:
            scores[fold == f] = method.score(hidden.select(fold == f), model)

    clock("scoring", score_all)
    ties = tie_breaker(events.ids, seed)
    efficiency = cut_efficiency(scores, fold, outside, events.weights, ties)
    inside = ~outside
    curve = sic_curve(events.labels[inside], -efficiency[inside])
    best, loose = max_sic(curve), sic_at(curve, 1e-2)
    background = events.x[inside & ~events.labels]
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(method.template(folds - 1).x)[: len(background)]
    auc, error = two_sample_auc(
        background, np.ones(len(background)), drawn, np.ones(len(drawn)), rng, members=3
    )
    wall = sum(seconds[0] for seconds in clock.seconds.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stages = ", ".join(f"{name} {w:.1f} ({c:.1f})" for name, (w, c) in clock.seconds.items())
    print(f"{kind}, injection {seed}: wall {wall:.0f} s; stages, wall (CPU): {stages}; peak {peak:.2f} GB")
    print(
        f"  template AUC {auc:.4f} +- {error:.4f}; max SIC {best.sic:.2f} +- {best.error:.2f} at eps_B {best.eps_b:.2g}; "
        f"SIC at 1e-2: {loose.sic:.2f} +- {loose.error:.2f}",
        flush=True,
    )


def scan(table: Path) -> None:
    common = {
        "file": str(table), "mass": "mjj", "features": list(FEATURES), "id": "event", "method": ["cathode"],
        "combination": "kfold-bonferroni", "folds": FOLDS, "toys": 100,
    }  # fmt: skip
    shared = {"options": {"cathode": {"background": "shared"}}}
    runs = {
        "one window": {"window": [WINDOW.low, WINDOW.high]},
        "one window, shared background": {"window": [WINDOW.low, WINDOW.high]} | shared,
        "nine windows, shared background": {"scan": [2500, 5900], "width": 0.1} | shared,
    }
    first = None
    for name, settings in runs.items():
        config = parse_config(common | settings)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run_search(config, Path(folder) / "run")
            took = time.perf_counter() - start
        first = first or took
        print(f"{name} ({len(config.windows)}): {took:.0f} s, {took / first:.2f} x one window", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--signal", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--scan", action="store_true")
    arguments = parser.parse_args()
    defaults = CathodeConfig()
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            table = inject(arguments.file, Path(folder) / f"{seed}.parquet", arguments.signal, seed)
            options = {"steps": defaults.steps, "batch_size": defaults.batch_size}
            one_window(table, defaults.density, options, seed, arguments.folds)
            if arguments.reference:
                one_window(table, "maf", PAPER, seed, arguments.folds)
        if arguments.scan:
            scan(inject(arguments.file, Path(folder) / "scan.parquet", arguments.signal, 0))


if __name__ == "__main__":
    main()
