"""Is the global p-value true when looks share events? Searches of background by the statistics alone, without trainings.

``python benchmarks/global_p.py [CASE] [--experiments 500] [--toys 199] [--first 0]``

Each experiment draws a falling spectrum and scores, makes all looks (windows x methods x working points) and quotes the
global p-value twice: with toys of whole events, and with toys that draw each look by itself. Cases:

* ``correlated``: nine windows that overlap by half, three methods whose scores correlate to 0.9, two working points
* ``independent``: the same with independent scores, in the windows too
* ``copies``: one look, six times
* ``weighted``: as ``correlated``, without cuts: events count with weights from the ranks of their scores, in two orders of the folds,
  in which a look has scores of their own that correlate to 0.5
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats

from serendip.events.events import Window
from serendip.statistics.event_toys import LookEvents
from serendip.statistics.looks import LookResult, analyse_look, fit_inclusive, make_edges
from serendip.statistics.orders import combine_orders, fold_positions
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.trials import global_p_value
from serendip.statistics.weighting import ratio_weights, signal_scale

FOLDS, EVENTS, POINTS = 5, 15_000, (0.03, 0.01)
LOW, HIGH, POWER = 2200.0, 9000.0, 6.0
WINDOWS = tuple(Window(low, 1.1 * low) for low in 2900.0 * 1.1 ** (np.arange(9) / 2))


def weighted_experiment(toys: int, seed: int) -> tuple[float, float, float]:
    """The same without a cut."""
    rng = np.random.default_rng([seed, 78])
    n = rng.poisson(EVENTS)
    mass = (LOW**-POWER + rng.random(n) * (HIGH**-POWER - LOW**-POWER)) ** (-1 / POWER)
    fold, ties = rng.integers(0, FOLDS, n), rng.integers(0, 2**63, n).astype(np.uint64)
    common, places = rng.standard_normal(n), fold_positions(FOLDS, 2)
    fits = {}
    for window in WINDOWS:
        edges = make_edges((window.low / 1.25, window.high * 1.6), window)
        fits[window] = edges, fit_inclusive(mass, window, edges, "dijet:3")
    looks: list[LookResult] = []
    rows, factors = [], []
    for method in range(3):
        shared = 0.95 * common + np.sqrt(1 - 0.95**2) * rng.standard_normal(n)
        for window, (edges, inclusive) in fits.items():
            used = (mass >= edges[0]) & (mass < edges[-1])
            side = used & ~window.contains(mass)
            low, high = np.searchsorted(edges, [window.low, window.high])
            a = signal_scale(inclusive.window(low, high)[0], FOLDS, side.sum() / FOLDS)
            orders = []
            for place in places:
                score = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.standard_normal(n)
                rank = leave_one_out_rank(score, fold, side, np.ones(n), ties)
                ranked = np.where(used, ratio_weights(rank, place[fold], FOLDS, a), 0.0)
                orders.append(
                    analyse_look(
                        mass[used], place[fold[used]], ranked[used] > 0, window, edges, inclusive,
                        combination="weighted", n_folds=FOLDS, ranked=ranked[used], method=f"m{method}",
                    )
                )  # fmt: skip
                rows.append(np.flatnonzero(ranked))
                factors.append(ranked[ranked > 0])
            looks.append(combine_orders(orders))
    events = LookEvents(mass, fold, tuple(rows), None, None, tuple(factors))
    together = global_p_value(looks, toys, rng, events)
    return together.p, np.nan, min(look.p_local or 1.0 for look in looks)


def scores(case: str, n: int, rng: np.random.Generator):
    """Score of each event in each (method, window)."""
    common = rng.standard_normal(n)
    for method in range(6 if case == "copies" else 3):
        own = rng.standard_normal(n)
        for window in WINDOWS[:1] if case == "copies" else WINDOWS:
            if case == "independent":
                score = rng.standard_normal(n)
            elif case == "copies":
                score = common
            else:
                score = 0.95 * common + np.sqrt(1 - 0.95**2) * own
            yield f"m{method}", window, stats.norm.sf(score)


def experiment(case: str, toys: int, seed: int) -> tuple[float, float, float]:
    """Global p-value with whole events, the one with independent looks, and the smallest local one."""
    if case == "weighted":
        return weighted_experiment(toys, seed)
    rng = np.random.default_rng([seed, 77])
    n = rng.poisson(EVENTS)
    mass = (LOW**-POWER + rng.random(n) * (HIGH**-POWER - LOW**-POWER)) ** (-1 / POWER)
    fold = rng.integers(0, FOLDS, n)
    fits, looks, rows = {}, [], []
    for method, window, rank in scores(case, n, rng):
        if window not in fits:
            edges = make_edges((window.low / 1.25, window.high * 1.6), window)
            fits[window] = edges, fit_inclusive(mass, window, edges, "dijet:3")
        edges, inclusive = fits[window]
        for point in POINTS[:1] if case == "copies" else POINTS:
            chosen = rank < point
            looks.append(
                analyse_look(
                    mass, fold, chosen, window, edges, inclusive,
                    n_folds=FOLDS, method=method, working_point=point,
                )
            )  # fmt: skip
            rows.append(np.flatnonzero(chosen & (fold > 0)))
    together = global_p_value(looks, toys, rng, LookEvents(mass, fold, tuple(rows)))
    apart = global_p_value(looks, toys, rng)
    return together.p, apart.p, min(look.p_local or 1.0 for look in looks)


def line(name: str, p: np.ndarray) -> str:
    """Rates with their binomial errors, and the agreement with a uniform distribution."""
    parts = [f"{np.mean(p <= a):.3f} ± {np.sqrt(max(np.mean(p <= a), a) / len(p)):.3f}" for a in (0.05, 0.01)]
    # toys give p in steps; within a step it is as good as anywhere
    return f"| {name} | {' | '.join(parts)} | {np.mean(p <= 0.5):.2f} | {stats.kstest(p, 'uniform').pvalue:.2f} |"


def main() -> None:
    """Print the lines of one case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=("correlated", "independent", "copies", "weighted"))
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--toys", type=int, default=199)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    started = time.process_time()
    seeds = range(options.first, options.first + options.experiments)
    together, apart, local = np.array([experiment(options.case, options.toys, seed) for seed in seeds]).T
    print("| case | p ≤ 0.05 | p ≤ 0.01 | p ≤ 0.5 | uniform: KS p |")
    print(line(f"{options.case}, whole events", together))
    if options.case != "weighted":
        print(line(f"{options.case}, each look by itself", apart))
    print(line(f"{options.case}, smallest local p", local))
    print(f"{options.experiments} experiments, {(time.process_time() - started) / len(seeds):.2f} s each")


if __name__ == "__main__":
    main()
