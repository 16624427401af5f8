"""What CWoLa and the label-using references reach on LHC Olympics events, and what it costs.

    python benchmarks/classifiers.py FEATURES.h5 [--signal 250] [--injections 3] [--members 20]
                                     [--methods cwola,idealised,supervised] [--classifier network]

Window 3300-3700 GeV, all background events, signal thinned to the given number in the window, five folds; an
event is scored by the model that did not see its fold. The folds are pooled after their scores are turned
into background efficiencies within the fold ("raw": pooled as they are). "passed / expected": background in
the window above the threshold that keeps 1 % of the held-out strips beside it; 1 means no sculpting. Printed
is the median over the injections (lowest to highest).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip import Events, Window, read
from serendip.methods.figures_of_merit import max_sic, sic_at, sic_curve
from serendip.methods.registry import get_method
from serendip.statistics.ranks import fraction_kept

WINDOW = Window(3300.0, 3700.0)
STRIPS = Window(3100.0, 3900.0)
FOLDS = 5


def injected(events: Events, signal: int, rng: np.random.Generator) -> Events:
    """All background and a random part of the signal, of which ``signal`` events lie in the window."""
    inside = WINDOW.contains(events.m)
    in_window, elsewhere = (np.flatnonzero(events.labels & rows) for rows in (inside, ~inside))
    kept = [
        np.flatnonzero(~events.labels),
        rng.choice(in_window, signal, replace=False),
        rng.choice(elsewhere, round(len(elsewhere) * signal / len(in_window)), replace=False),
    ]
    return events.select(rng.permutation(np.concatenate(kept)))


def held_out(fitted: Any, events: Events, fold: NDArray[np.int64]) -> dict[str, float]:
    """Figures of the window's events, each scored by the model that did not see its fold."""
    truth = events.labels
    inside = WINDOW.contains(events.m)
    strips = STRIPS.contains(events.m) & ~inside & ~truth
    raw, pooled, passed, expected = np.zeros(len(events)), np.zeros(len(events)), 0, 0.0
    for k in range(FOLDS):
        rows = inside & (fold == k)
        raw[rows] = fitted.score(events.select(rows), k)
        background = raw[rows & ~truth]
        pooled[rows] = -np.log(fraction_kept(raw[rows], background))
        threshold = np.quantile(fitted.score(events.select(strips & (fold == k)), k), 0.99)
        passed, expected = passed + int((background >= threshold).sum()), expected + 0.01 * len(background)
    figures = {"passed / expected": passed / expected}
    if truth.any():
        curve = sic_curve(truth[inside], pooled[inside], min_background=20)
        best = max_sic(curve)
        figures |= {
            "max SIC": best.sic,
            "its error": best.error,
            "background left": best.background,
            "SIC at 1e-2": sic_at(curve, 1e-2).sic,
            "max SIC (raw)": max_sic(sic_curve(truth[inside], raw[inside], min_background=20)).sic,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--signal", type=int, default=250)
    parser.add_argument("--injections", type=int, default=3)
    parser.add_argument("--methods", default="cwola,idealised,supervised")
    parser.add_argument("--members", type=int, help="default: that of the method")
    parser.add_argument("--classifier", choices=["trees", "network"], default="trees")
    options = parser.parse_args()
    everything = read(options.file, mass=None, preset="lhco")
    for name in options.methods.split(","):
        method = get_method(name)
        given = {} if options.members is None else {"members": options.members}
        rows = []
        for seed in range(options.injections):
            rng = np.random.default_rng([seed, 1])
            events = injected(everything, options.signal, rng)
            fold = rng.integers(FOLDS, size=len(events))
            splits = np.stack([fold != k for k in range(FOLDS)])
            started = time.process_time()
            fitted = method(method.Config(classifier=options.classifier, **given), seed=seed).fit(
                events if method.uses_labels else events.without_label(), WINDOW, splits
            )
            seconds = time.process_time() - started
            rows.append(held_out(fitted, events, fold) | {"CPU s to fit": seconds})
        cells = [
            f"{key} {np.median([row[key] for row in rows]):.2f} "
            f"({min(row[key] for row in rows):.2f} to {max(row[key] for row in rows):.2f})"
            for key in rows[0]
        ]
        print(f"{name}: " + ", ".join(cells), flush=True)


if __name__ == "__main__":
    main()
