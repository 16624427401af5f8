"""Coverage of the intervals of `serendip fit` with the spurious signal that it measures beside the signal.

    python benchmarks/spurious_signal.py [--experiments 300] [--case "expo, exp:1"]

A Gaussian on 20,000 events between 60 and 200 GeV: an exponential, the same with a wave that no function describes (3 % and a period
of 0.3 in ln m, with a random phase in every experiment), and the sum of two exponentials. Prints the table of docs/fits-and-limits.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from scipy import stats

from serendip.statistics.inference import likelihood_ratio, simplest
from serendip.statistics.model import BinnedModel
from serendip.statistics.signals import gaussian
from serendip.statistics.spurious import spurious_signal

EDGES = np.geomspace(60.0, 200.0, 61)
SHAPE = gaussian(110.0, 3.3)
THRESHOLDS = stats.chi2.ppf((0.6827, 0.95), 1)
EVENTS = 20_000
# (share, slope in GeV) of the exponentials, wave, functions
CASES = {
    "expo, exp:1": (((1.0, 40.0),), 0.0, "exp:1"),
    "expo, auto": (((1.0, 40.0),), 0.0, "auto"),
    "expo with wave, exp:1": (((1.0, 40.0),), 0.03, "exp:1"),
    "expo with wave, auto": (((1.0, 40.0),), 0.03, "auto"),
    "two expos, exp:1": (((0.7, 25.0), (0.3, 70.0)), 0.0, "exp:1"),
}


def truth(slopes: tuple[tuple[float, float], ...], wave: float, phase: float) -> np.ndarray:
    """Expected events in each bin."""
    parts = [share * -np.diff(np.exp(-(EDGES - EDGES[0]) / slope)) / slope for share, slope in slopes]
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    shape = np.sum(parts, axis=0) * (1.0 + wave * np.sin(2.0 * np.pi * np.log(centre) / 0.3 + phase))
    return EVENTS * shape / shape.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--case", choices=list(CASES), action="append")
    options = parser.parse_args()
    print(
        "| spectrum, background | signal | error added in | median error | without it, 68 / 95 % | with it, 68 / 95 % | p <= 0.05 without / with | time |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name in options.case or CASES:
        slopes, wave, background = CASES[name]
        for signal in (0.0, 100.0):
            rng = np.random.default_rng(11)
            started = time.perf_counter()
            added, ratios, excesses = [], [], []
            for _ in range(options.experiments):
                mean = truth(slopes, wave, rng.uniform(0.0, 2.0 * np.pi)) + signal * SHAPE.fractions(EDGES)
                y = rng.poisson(mean).astype(float)
                plain = simplest(BinnedModel.spectrum(EDGES, background, SHAPE, choice="envelope"), y)
                found = spurious_signal(plain, y, EDGES, SHAPE)
                added.append(found.events)
                for model in (plain, replace(plain, spurious=found.events)):
                    best = model.fit(y)
                    ratios.append(float(likelihood_ratio(model, y, signal, best)[0]))
                    z = np.sign(best.mu[0]) * np.sqrt(likelihood_ratio(model, y, 0.0, best)[0])
                    excesses.append(float(stats.norm.sf(z)) <= 0.05)
            seconds = (time.perf_counter() - started) / options.experiments
            hits = np.array(ratios).reshape(-1, 2, 1) <= THRESHOLDS
            low = np.array(excesses).reshape(-1, 2).mean(axis=0)
            cover = " | ".join(f"{a:.3f} / {b:.3f}" for a, b in hits.mean(axis=0))
            rates = f"{low[0]:.3f} / {low[1]:.3f}" if signal == 0 else "–"
            print(
                f"| {name} | {signal:g} | {np.mean(np.array(added) > 0):.2f} | {np.median(added):.0f} | {cover} | {rates} | {seconds:.2f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
