"""How much of the significance of a wide resonance do windows keep? Pseudo-experiments of a count without a cut.

``python benchmarks/wide_signals.py [--experiments 500]``

A Gaussian of relative width sigma/m on a falling spectrum, of a size that a fit of its exact shape on a known background
would give 5 sigma. The window of the scan that is nearest to it is counted against the fit of its sidebands (exppoly, orders
averaged), from 1/1.25 of its lower to 1.6 of its upper edge or in the whole range of the data.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats

from serendip.search.config import SearchConfig
from serendip.statistics.binning import make_edges, window_bins
from serendip.statistics.functions import get_family
from serendip.statistics.many import fit_many
from serendip.statistics.pvalues import count_log_p_value, z_value

EVENTS, LOW, HIGH, POWER = 60_000, 1500.0, 12_000.0, 5.0
MASS, IDEAL = 3500.0, 5.0


def spectrum(rng: np.random.Generator, n: int) -> np.ndarray:
    """Masses of background."""
    return (LOW**-POWER + rng.random(n) * (HIGH**-POWER - LOW**-POWER)) ** (-1 / POWER)


def ideal_yield(mass: float, sigma: float) -> float:
    """Signal events that give IDEAL sigma if shape and background are known: sqrt(sum s^2/b)."""
    edges = np.linspace(LOW, HIGH, 4001)
    b = EVENTS * -np.diff(edges**-POWER) / (LOW**-POWER - HIGH**-POWER)
    s = np.diff(stats.norm.cdf(edges, mass, sigma * mass))
    return float(IDEAL / np.sqrt((s**2 / b).sum()))


def kept(windows, width: float, near: bool, experiments: int, seed: int) -> tuple[float, float, float]:
    """Median significance over the ideal one, its error, and the fraction of the signal in the window."""
    rng = np.random.default_rng([seed, 5])
    centres = np.array([window.centre for window in windows])
    at = MASS * np.exp(rng.uniform(-0.1, 0.1, experiments))
    nearest = np.abs(np.log(at[:, None] / centres)).argmin(axis=1)
    z, inside = np.zeros(experiments), np.zeros(experiments)
    for i in np.unique(nearest):
        window, rows = windows[i], np.flatnonzero(nearest == i)
        span = (window.low / 1.25, window.high * 1.6) if near else (LOW, HIGH)
        edges = make_edges((max(span[0], LOW), min(span[1], HIGH)), window)
        low, high = window_bins(edges, window)
        mask = np.zeros(len(edges) - 1, dtype=bool)
        mask[low:high] = True
        counts = []
        for row in rows:
            signal = rng.normal(at[row], width * at[row], rng.poisson(ideal_yield(at[row], width)))
            inside[row] = window.contains(signal).mean()
            masses = np.concatenate([spectrum(rng, rng.poisson(EVENTS)), signal])
            counts.append(np.histogram(masses, edges)[0])
        n = np.array(counts, dtype=float)
        fits = fit_many(n, edges, get_family("exppoly"), mask=mask, choice="average")
        z[rows] = z_value(log_p=count_log_p_value(n[:, mask].sum(axis=1), fits.window, fits.window_error))
    ratio = z / IDEAL
    return float(np.median(ratio)), float(1.25 * ratio.std() / np.sqrt(experiments)), float(inside.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=500)
    options = parser.parse_args()
    started = time.process_time()
    common = {"file": "x", "mass": "m", "features": ("a",), "scan": (1800, 8000)}
    print("| sigma/m | window | signal inside | kept, range near the window | kept, whole range |")
    for width in (0.03, 0.05, 0.08, 0.15):
        for config in (SearchConfig(**common, width=0.1), SearchConfig(**common, signal_width=width)):
            cells = []
            for near in (True, False):
                value, error, held = kept(config.windows, width, near, options.experiments, 1)
                cells.append(f"{value:.2f} ± {error:.2f}")
            size = config.windows[0].high / config.windows[0].low - 1
            name = (
                "--width 0.1"
                if config.signal_width is None
                else f"--signal-width {width:g}: {100 * size:.0f} %"
            )
            print(f"| {100 * width:g} % | {name} | {held:.2f} | {' | '.join(cells)} |", flush=True)
    print(f"{options.experiments} experiments in each number, {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
