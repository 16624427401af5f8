"""False-positive rates of weighted events and of events that belong together.

Background-only experiments: about 30,000 events of a ``dijet-4`` spectrum, window 2500 to 2750 GeV. *look*: five folds, random scores,
thresholds of each fold, sequential count, cut at 1 %; *bump*: ``bump_hunt`` in the same window. Prints p-value rates and the median
effective number of events beside the window::

    python benchmarks/weighted_events.py --experiments 500 [--only NAME] [--statistic look]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.search.folds import assign_folds, tie_breaker
from serendip.statistics.bump import bump_hunt
from serendip.statistics.functions import get_family
from serendip.statistics.looks import analyse_look, fit_inclusive, fit_range, make_edges
from serendip.statistics.ranks import cut_efficiency

Array = NDArray[np.float64]

WINDOW = Window(2500.0, 2750.0)
LEVELS = (0.05, 0.01, 0.003)
EVENTS = 30_000
LOW, HIGH = 1500.0, 9000.0


@dataclass(frozen=True)
class Case:
    """Weights of events as a function of mass, or copies: how many, of which fraction, how far apart."""

    weight: Callable[[Array, np.random.Generator], Array] | None = None
    copies: int = 1
    fraction: float = 1.0
    smearing: float = 0.0


def lognormal(width: float) -> Case:
    return Case(lambda m, rng: rng.lognormal(0.0, width, len(m)))


def rare(fraction: float, weight: float) -> Case:
    return Case(lambda m, rng: np.where(rng.random(len(m)) < fraction, weight, 1.0))


def steps(*edges: float) -> Case:
    """Weights 100, 10 and 1 from low to high masses: a trigger is prescaled below each edge."""

    def weight(m: Array, rng: np.random.Generator) -> Array:
        return np.asarray(10.0 ** (2.0 - np.searchsorted(edges, m, side="right")))

    return Case(weight)


CASES = {
    "unit": Case(),
    "lognormal 0.5": lognormal(0.5),
    "lognormal 1": lognormal(1.0),
    "lognormal 1.5": lognormal(1.5),
    "lognormal 2": lognormal(2.0),
    "1 % weigh 100": rare(0.01, 100.0),
    "10 % weigh 10": rare(0.1, 10.0),
    "triggers 1/10/100 mixed": Case(lambda m, rng: 10.0 ** rng.choice(3, len(m), p=(0.7, 0.25, 0.05))),
    "prescale steps at 2200, 2500": steps(2200.0, 2500.0),
    "prescale steps at 2200, 3000": steps(2200.0, 3000.0),
    "every event twice": Case(copies=2),
    "a fifth doubled": Case(copies=2, fraction=0.2),
    "four near copies, 2 %": Case(copies=4, smearing=0.02),
}


def masses(n: int, rng: np.random.Generator) -> Array:
    grid = np.geomspace(LOW, HIGH, 8001)
    density = get_family("dijet:4").value(grid, np.array([0.0, 10.0, 5.0, 0.5]))
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    return np.asarray(np.interp(rng.random(n) * cumulative[-1], cumulative, grid))


def experiment(case: Case, statistic: str, rng: np.random.Generator) -> tuple[float, float]:
    """p-value, and effective number of (selected) events beside the window."""
    share = 1.0 + case.fraction * (case.copies - 1)
    m = masses(rng.poisson(EVENTS / share), rng)
    score = rng.normal(size=len(m))
    groups = None
    weights = None
    if case.copies > 1:
        groups = np.repeat(np.arange(len(m)), np.where(rng.random(len(m)) < case.fraction, case.copies, 1))
        groups = rng.permutation(groups)
        m = m[groups] * (1.0 + case.smearing * rng.normal(size=len(groups)))
        score = score[groups] + 3.0 * case.smearing * rng.normal(size=len(groups))
    elif case.weight is not None:
        weights = case.weight(m, rng)
        if weights.max() == 100.0 and np.all(weights[m > 3000.0] == 1.0):
            # a prescaled trigger keeps one event in so many
            kept = rng.random(len(m)) * weights < 1.0
            m, score, weights = m[kept], score[kept], weights[kept]
    if statistic == "bump":
        found = bump_hunt(m, WINDOW, background="exppoly", weights=weights, groups=groups)
        return found.p_local, found.effective.sideband
    edges = make_edges(fit_range(m, WINDOW), WINDOW)
    inclusive = fit_inclusive(m, WINDOW, edges, weights=weights, groups=groups)
    ids = np.arange(len(m))
    seed = int(rng.integers(1 << 30))
    fold = assign_folds(ids if groups is None else groups, 5, seed)
    use = (m >= edges[0]) & (m < edges[-1])
    m, score, fold, ids = m[use], score[use], fold[use], ids[use]
    w = np.ones(len(m)) if weights is None else weights[use]
    own = None if groups is None else groups[use]
    efficiency = cut_efficiency(score, fold, ~WINDOW.contains(m), w, tie_breaker(ids, seed), own)
    look = analyse_look(
        m, fold, efficiency <= 0.01, WINDOW, edges, inclusive, n_folds=5, weights=None if weights is None else w, groups=own
    )  # fmt: skip
    assert look.p_local is not None
    assert look.effective is not None
    return look.p_local, look.effective.sideband


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--only", default="")
    parser.add_argument("--statistic", choices=("look", "bump", "both"), default="both")
    options = parser.parse_args()
    print(
        "| events | statistic | effective | p < 0.05 | p < 0.01 | p < 0.003 | refused |\n|---|---|---|---|---|---|---|"
    )
    for name, case in CASES.items():
        if options.only not in name:
            continue
        for statistic in ("look", "bump") if options.statistic == "both" else (options.statistic,):
            rng = np.random.default_rng([2026, *name.encode()])
            results, refused = [], 0
            for _ in range(options.experiments):
                try:
                    results.append(experiment(case, statistic, rng))
                except InputError:
                    refused += 1
            found = np.array(results).reshape(-1, 2)
            rates = [f"{np.mean(found[:, 0] < level):.3f}" if len(found) else "–" for level in LEVELS]
            effective = f"{np.median(found[:, 1]):.3g}" if len(found) else "–"
            print(f"| {name} | {statistic} | {effective} | {' | '.join(rates)} | {refused} |", flush=True)


if __name__ == "__main__":
    main()
