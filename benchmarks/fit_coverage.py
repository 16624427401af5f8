"""Coverage of the intervals of `serendip fit` with few background events under the signal.

    python benchmarks/fit_coverage.py [--experiments 500] [--toys 500] [--case expo_B1]

A Gaussian on an exponential between 110 and 160 GeV, background fitted in every experiment. `likelihood` is the interval of the
likelihood ratio with the quantile of chi-square, `serendip` what `serendip fit` quotes: the construction of Feldman and Cousins below
15 events under the signal in the fit of background alone. Prints the table of docs/fits-and-limits.md.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats

from serendip.statistics.feldman_cousins import bounded_ratio, critical_values
from serendip.statistics.inference import likelihood_ratio, simplest
from serendip.statistics.model import BinnedModel
from serendip.statistics.signal_fit import FEW_EVENTS
from serendip.statistics.signals import gaussian

EDGES = np.linspace(110.0, 160.0, 51)
LEVELS = (0.6827, 0.95)
# slope in GeV, events, mass and width of the signal in GeV, background
CASES = {
    "expo_B1": (12.0, 30, 145.0, 2.0, ("exppoly:1",)),
    "expo_B3": (15.0, 60, 140.0, 2.0, ("exppoly:2",)),
    "expo_B10": (25.0, 80, 130.0, 2.0, ("exppoly:1",)),
    "expo_B30": (25.0, 500, 130.0, 2.0, ("exppoly:2",)),
    "expo_B3 auto": (15.0, 60, 140.0, 2.0, ("auto",)),
    "expo_B10 auto": (25.0, 80, 130.0, 2.0, ("auto",)),
    "expo_B30 auto": (25.0, 500, 130.0, 2.0, ("auto",)),
}


def covered(model: BinnedModel, y: np.ndarray, mu: float, toys: int, rng: np.random.Generator) -> np.ndarray:
    """Whether each interval holds ``mu``: likelihood, then serendip, shape (2, n_levels)."""
    model = simplest(model, y)
    best = model.fit(y)
    ratio = float(likelihood_ratio(model, y, mu, best)[0])
    likelihood = ratio <= stats.chi2.ppf(LEVELS, 1)
    if model.events_under_signal(model.fit(y, 0.0).background[0]) >= FEW_EVENTS:
        return np.stack([likelihood, likelihood])
    limits = critical_values(model, y, mu, LEVELS, toys, rng)
    return np.stack([likelihood, float(bounded_ratio(model, y, mu)[0]) <= limits])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--toys", type=int, default=500)
    parser.add_argument("--case", choices=list(CASES), action="append")
    options = parser.parse_args()
    print(
        "| case, background | events under the signal | signal | likelihood 68 / 95 % | serendip 68 / 95 % | time |\n|---|---|---|---|---|---|"
    )
    for name in options.case or CASES:
        slope, n, mass, width, background = CASES[name]
        part = -np.diff(np.exp(-(EDGES - EDGES[0]) / slope))
        truth = n * part / part.sum()
        shape = gaussian(mass, width)
        model = BinnedModel.spectrum(EDGES, background, shape, choice="envelope")
        under = model.events_under_signal(truth)
        for strength in (0.0, 2.0 * np.sqrt(under)):
            started = time.perf_counter()
            rng = np.random.default_rng(7)
            mean = truth + strength * shape.fractions(EDGES)
            hits = np.array(
                [
                    covered(model, rng.poisson(mean).astype(float), strength, options.toys, rng)
                    for _ in range(options.experiments)
                ]
            ).mean(axis=0)
            numbers = " | ".join(f"{a:.3f} / {b:.3f}" for a, b in hits)
            seconds = (time.perf_counter() - started) / options.experiments
            print(
                f"| {name}, {background[0]} | {under:.1f} | {strength:.1f} | {numbers} | {seconds:.2f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
