"""Maps of CURTAINs: what they carry strip events to, in the window and in outer bands.

Four features, the correlation of the first two is 0.09 at 3 TeV and changes with the mass, as 0.8 tanh(0.113 + 3 TURN ln m / 3 TeV).
For each loss and seed, with events that no map has seen: their correlation after they were carried from the lower and from the
upper strip into the window 2800-3200 GeV, and the true one; the AUC of boosted trees between true events of the window and
carried ones, those at which mean and width of the features follow the mass but no map is applied, and the strips as they are;
carried ones and those without a map against the outer bands 2000-2400 and 3600-4000 GeV; seconds of density and of map.

    python benchmarks/curtains.py [--turn 1.0] [--seeds 3] [--events 20000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from serendip.classify.separation import two_sample_auc
from serendip.events.events import Events, Window
from serendip.methods.background import background_density
from serendip.methods.curtains import Curtains, CurtainsConfig

WINDOW = Window(2800.0, 3200.0)
OUTER = (Window(2000.0, 2400.0), Window(3600.0, 4000.0))


def make(n: int, seed: int, turn: float) -> Events:
    """Draw events of a falling spectrum from 2 to 5 TeV."""
    rng = np.random.default_rng(seed)
    m = 2000 * (1 - rng.random(n) * (1 - 2.5**-4)) ** -0.25
    t = np.log(m / 3000)
    rho = 0.8 * np.tanh(0.113 + 3 * turn * t)
    x = rng.normal(size=(n, 4))
    x[:, 1] = rho * x[:, 0] + np.sqrt(1 - rho**2) * x[:, 1]
    x[:, :2] = x[:, :2] * np.exp(0.5 * t)[:, None] + 2 * t[:, None]
    columns = {"m": m} | {f"x{i}": x[:, i] for i in range(4)}
    return Events(columns, mass="m", features=tuple(f"x{i}" for i in range(4)))


def correlation(x: np.ndarray, m: np.ndarray) -> float:
    """Of the first two features, their drift with the mass taken out."""
    t = np.log(m / 3000)[:, None]
    return float(np.corrcoef(((x[:, :2] - 2 * t) / np.exp(0.5 * t)).T)[0, 1])


def auc(x: np.ndarray, weights: np.ndarray, truth: np.ndarray) -> float:
    """How well trees tell events from true ones."""
    rng = np.random.default_rng(0)
    return two_sample_auc(x.astype(np.float32), weights, truth, np.ones(len(truth)), rng)[0]


def measure(loss: str, seed: int, turn: float, n: int) -> str:
    """One line of the table."""
    events, truth = make(n, seed, turn), make(200_000, 1000 + seed, turn)
    splits = np.ones((1, n), dtype=bool)
    method = Curtains(CurtainsConfig(loss=loss), seed=seed)
    start = time.perf_counter()
    if loss == "likelihood":
        method.background = background_density(method, events, WINDOW, splits)
    base = time.perf_counter() - start
    method.make_templates(events, WINDOW, splits)
    top = time.perf_counter() - start - base

    fresh = make(200_000, 2000 + seed, turn)
    strips = method._beside(fresh, WINDOW, np.ones(len(fresh), dtype=bool), 0, WINDOW.width)
    method._strips[0], transform = strips, method._transforms[0]
    rows, source = np.arange(len(strips.z)), np.exp(strips.log_m)
    rng = np.random.default_rng(seed)

    def target(window: Window) -> tuple[np.ndarray, np.ndarray]:
        inside = window.contains(truth.m)
        return truth.x[inside], rng.choice(truth.m[inside], len(rows))

    window, mass = target(WINDOW)
    carried = method._to_masses(rows, mass, 0)
    still = transform.inverse(strips.z, transform.context(mass))
    untouched = transform.inverse(strips.z, transform.context(source))
    sides = [correlation(carried[side], mass[side]) for side in (source < 3000, source > 3000)]
    true = correlation(window, truth.m[WINDOW.contains(truth.m)])
    aucs = [auc(x, strips.weights, window) for x in (carried, still, untouched)]
    outer = []
    for band in OUTER:
        there, mass = target(band)
        outer += [auc(x, strips.weights, there) for x in (
            method._to_masses(rows, mass, 0), transform.inverse(strips.z, transform.context(mass)))]  # fmt: skip
    numbers = [*sides, true, *aucs, *outer]
    return f"{loss:10} {seed:4} " + " ".join(f"{v:7.3f}" for v in numbers) + f" {base:5.1f} + {top:4.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turn", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    names = "lower upper true AUC no-map strips outer- no-map outer+ no-map"
    print("loss       seed " + " ".join(f"{name:>7}" for name in names.split()) + " seconds")
    for loss in ("likelihood", "sinkhorn"):
        for seed in range(options.seeds):
            print(measure(loss, seed, options.turn, options.events), flush=True)


if __name__ == "__main__":
    main()
