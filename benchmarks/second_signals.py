"""Second signals beside a window: how often one is told where there is none, and how large one must be.

``python benchmarks/second_signals.py [--experiments 500]``

A falling spectrum, a window of 10 % at 3 TeV, and a Gaussian of 2 % at 3.7 TeV of so many events.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from serendip.events.events import Window
from serendip.statistics.binning import make_edges
from serendip.statistics.looks import fit_inclusive
from serendip.statistics.sidebands import sideband_excess

EVENTS, RANGE, POWER = 20_000, (2400.0, 5280.0), 5.0
WINDOW, MASS, WIDTH = Window(3000.0, 3300.0), 3700.0, 0.02


def experiment(rng: np.random.Generator, n_signal: int) -> tuple[bool, bool, float, float]:
    """Whether something is told, whether it holds the peak, and the pull of the window's expectation before and after."""
    low, high = RANGE
    n = rng.poisson(EVENTS)
    mass = (low**-POWER + rng.random(n) * (high**-POWER - low**-POWER)) ** (-1 / POWER)
    mass = np.concatenate([mass, rng.normal(MASS, WIDTH * MASS, rng.poisson(n_signal))])
    edges = make_edges(RANGE, WINDOW)
    fit = fit_inclusive(mass, WINDOW, edges, "exppoly")
    inside = (edges[:-1] >= WINDOW.low) & (edges[1:] <= WINDOW.high)
    found = sideband_excess(fit, inside)
    truth = EVENTS * (WINDOW.low**-POWER - WINDOW.high**-POWER) / (low**-POWER - high**-POWER)
    at = fit.expected[inside].sum()
    right = found is not None and found.low < MASS < found.high
    return found is not None, right, at / truth, (found.window_without if found else at) / truth


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=500)
    options = parser.parse_args()
    started = time.process_time()
    print("| events of the peak | something told | at the peak | expectation / truth | with the mask |")
    for n_signal in (0, 60, 120, 250, 500):
        rng = np.random.default_rng([n_signal, 9])
        told, right, before, after = np.array(
            [experiment(rng, n_signal) for _ in range(options.experiments)], dtype=float
        ).T
        print(
            f"| {n_signal} | {told.mean():.3f} | {right.mean():.3f} | {before.mean():.3f} | {after.mean():.3f} |",
            flush=True,
        )
    print(f"{options.experiments} experiments in each line, {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
