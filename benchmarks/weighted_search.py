"""Is the p-value of the weighted search true: toys of the statistics, without any training.

    python benchmarks/weighted_search.py toys [CASE ...] [--toys 2000] [--events 30000] [--folds 10] [--seed 1] [--function exppoly:3]
    python benchmarks/weighted_search.py tail [--toys 10000000]
    python benchmarks/weighted_search.py limits [--toys 4000]

``toys`` draws spectra of background alone with scores of several kinds, ranks, weights and fits them as a search does, and counts how
often p falls below 0.05 ... 1e-4. ``tail`` compares the law of a sum of weights with ranks drawn one by one. ``limits`` counts how often a
95 % limit on the signal in such a sum holds the truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from serendip.errors import SerendipError
from serendip.events.events import Window
from serendip.search.injection_limits import selected_limit
from serendip.statistics.compound import CompoundTail
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import binomial_interval, z_value
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.weighting import LOOSEST_RANK, ratio_weights, signal_scale

WINDOW, RANGE = Window(3300.0, 3700.0), (2640.0, 5920.0)
KNOWN = 1e12
LEVELS = (0.05, 0.01, 0.003, 1e-3, 1e-4)


def falling(rng: np.random.Generator, n: int) -> Any:
    """Masses that follow m^-7."""
    low, high = RANGE
    return (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)


def near(m: Any) -> Any:
    return np.exp(-0.5 * (np.log(m / 3500.0) / 0.15) ** 2)


def independent(rng: np.random.Generator, m: Any, position: Any) -> Any:
    return rng.random(len(m))


def follows(rng: np.random.Generator, m: Any, position: Any) -> Any:
    """Twice as many events pass a tight cut near the window as far from it, and more in late folds than in early ones."""
    return rng.exponential(size=len(m)) * (1.0 + 0.12 * near(m) * position / position.max())


def rises(rng: np.random.Generator, m: Any, position: Any) -> Any:
    return rng.exponential(size=len(m)) + 2.0 * np.log(m / 3500.0)


def discrete(rng: np.random.Generator, m: Any, position: Any) -> Any:
    return np.floor(12.0 * rng.random(len(m)) ** 2)


def heavy(rng: np.random.Generator, m: Any, position: Any) -> Any:
    return rng.standard_cauchy(len(m)) * (1.0 + 0.3 * near(m))


def spiked(rng: np.random.Generator, m: Any, position: Any) -> Any:
    """A twentieth of all events has the largest score."""
    u = rng.random(len(m))
    return np.where(u > 0.95, 1.0, u)


Score = Callable[[np.random.Generator, Any, Any], Any]
CASES: dict[str, tuple[Score, float]] = {
    "independent": (independent, 0.0),
    "follows the mass": (follows, 0.0),
    "rises with the mass": (rises, 0.0),
    "discrete": (discrete, 0.0),
    "heavy-tailed": (heavy, 0.0),
    "spiked": (spiked, 0.0),
    "weights over three decades": (independent, 1.2),
    "follows, weights over three decades": (follows, 1.2),
}


def one(
    rng: np.random.Generator, score: Score, spread: float, events: int, folds: int, function: str
) -> tuple[float, float]:
    """Logarithm of p, and the relative error of the expectation."""
    m = falling(rng, rng.poisson(events))
    weights = np.exp(spread * rng.standard_normal(len(m))) if spread else None
    w = np.ones(len(m)) if weights is None else weights
    position = rng.integers(0, folds, len(m))
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(m, WINDOW, edges, function, weights=weights)
    value = np.where(position > 0, score(rng, m, position), np.nan)
    side = ~WINDOW.contains(m)
    rank = leave_one_out_rank(value, position, side, w, rng.integers(0, 2**63, len(m)).astype(np.uint64))
    bins = inclusive.window(*np.searchsorted(edges, [WINDOW.low, WINDOW.high]))[0]
    effective = w[side].sum() ** 2 / (w[side] ** 2).sum()
    scale = signal_scale(bins * w[side].sum() / (w[side] ** 2).sum(), folds, effective / folds)
    ranked = ratio_weights(rank, position, folds, scale)
    look = analyse_look(
        m, position, ranked > 0, WINDOW, edges, inclusive, combination="weighted", n_folds=folds, weights=weights, ranked=ranked
    )  # fmt: skip
    assert look.log_p_local is not None
    return look.log_p_local, look.expected_error / look.expected


def toys(names: list[str], given: argparse.Namespace) -> None:
    print(
        f"| score | events | toys | error of b | mean Z, sd | {' | '.join(f'p < {level:g}' for level in LEVELS)} | refused | ms |"
    )
    print("|---" * (7 + len(LEVELS)) + "|")
    for name in names:
        score, spread = CASES[name]
        rng = np.random.default_rng([given.seed, list(CASES).index(name)])
        found, refused, started = [], 0, time.perf_counter()
        for _ in range(given.toys):
            try:
                found.append(one(rng, score, spread, given.events, given.folds, given.function))
            except SerendipError:
                refused += 1
        log_p, error = np.array(found).T
        z = z_value(log_p=log_p)
        rates = []
        for level in LEVELS:
            k = int((log_p < np.log(level)).sum())
            low, high = binomial_interval(k, len(log_p))
            rates.append(f"{k / len(log_p):.4f} [{low:.4f}, {high:.4f}]")
        spent = 1000 * (time.perf_counter() - started) / given.toys
        print(
            f"| {name} | {given.events} | {len(log_p)} | {error.mean():.3f} | {z.mean():+.2f}, {z.std():.2f} | {' | '.join(rates)} | {refused} | {spent:.0f} |",
            flush=True,
        )


def tail(n: int) -> None:
    """Weights from ranks where window and sideband have the same scores: geometric numbers of events between two of the sideband."""
    rng = np.random.default_rng(3)
    print("| folds, sideband events, ratio | p, toys | Z of the law | p, law | p, weights known |")
    print("|---" * 5 + "|")
    for folds, beside, ratio in ((3, 100, 0.5), (5, 500, 0.2), (9, 1000, 0.2)):
        rank = np.arange(1, int(LOOSEST_RANK * beside)) / beside
        scale = signal_scale(ratio * beside * (folds + 1), folds + 1, beside)
        sums, weights = np.zeros(n), []
        for place in range(1, folds + 1):
            weights.append(ratio_weights(rank, np.full(len(rank), place), folds + 1, scale))
            for weight in weights[-1]:
                sums += weight * (rng.geometric(1.0 / (1.0 + ratio), n) - 1)
        sums.sort()
        side = np.concatenate(weights)
        unit = float((side**2).sum() / side.sum())
        law = CompoundTail.of(side, (), unit)
        expected, error = ratio * side.sum() / unit, ratio * np.sqrt((side**2).sum()) / unit
        for p in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
            if p * n < 20:
                continue
            value = sums[int(n * (1.0 - p))] / unit
            found, known = (
                float(one.log_p(value, expected, error)[0]) for one in (law, replace(law, number=KNOWN))
            )
            low, high = binomial_interval(int(p * n), n)
            print(
                f"| {folds}, {beside}, {ratio:g} | {p:g} [{low:.3g}, {high:.3g}] | {float(z_value(log_p=found)):.2f} | {np.exp(found):.3g} | {np.exp(known):.3g} |",
                flush=True,
            )


def limits(n: int) -> None:
    """Half of the signal has ranks below a tenth, distributed like their inverse; the mean weight of signal is known."""
    rng = np.random.default_rng(1)
    folds = 10
    print(
        "| background, its error | weight squared of signal over background | limit at T = b | signal: coverage |"
    )
    print("|---|---|---|---|")
    for background, side in ((12_000, 6000), (600, 300)):
        a = signal_scale(background, folds, side)

        def weights(rank: Any, a: float = a) -> Any:
            return ratio_weights(rank, rng.integers(1, folds, len(rank)), folds, a)

        beside = weights(rng.uniform(1 / side, LOOSEST_RANK, 400_000))
        signal = weights(np.exp(rng.uniform(np.log(1 / side), np.log(LOOSEST_RANK), 400_000)))
        of_beside, of_signal = (float((w**2).sum() / w.sum()) for w in (beside, signal))
        number = background * (1 - 1 / folds) * LOOSEST_RANK
        expected, mean = number * beside.mean(), 0.5 * (1 - 1 / folds) * signal.mean()
        for relative in (0.02, 0.08):
            error = relative * expected
            width = np.sqrt(expected * of_beside + error**2)
            look = {
                "expected_error": error,
                "true_signal": 1.0,
                "true_signal_variance": of_signal,
                "scale": of_beside,
            }
            low, high = max(expected - 4 * width, 0.0), expected + 6 * np.sqrt(background) * mean + 5 * width
            total, fitted = (
                np.geomspace(max(low, 0.3 * expected), high, 12),
                expected + error * np.array([-3.0, 0.0, 3.0]),
            )
            table = [
                [selected_limit(look | {"observed": t + 1.0, "expected": b}, 0.95)[0] / mean for b in fitted]
                for t in total
            ]
            limit = RegularGridInterpolator(
                (total, fitted), np.array(table), bounds_error=False, fill_value=None
            )
            texts = []
            for strength in (0.5, 1.0, 2.0, 4.0):
                true = strength * np.sqrt(background)
                sums = np.zeros(n)
                for jumps, events in ((beside, number), (signal, 0.5 * (1 - 1 / folds) * true)):
                    some = rng.poisson(events, n)
                    sums += np.bincount(np.repeat(np.arange(n), some), rng.choice(jumps, some.sum()), n)
                found = limit(
                    np.stack([sums, expected + error * np.clip(rng.standard_normal(n), -3, 3)], axis=1)
                )
                texts.append(f"{true:.0f}: {np.mean(found >= true):.3f}")
            print(
                f"| {background}, {relative:.0%} | {of_signal / of_beside:.1f} | {float(limit([[expected, expected]])[0]):.0f} | {', '.join(texts)} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["toys", "tail", "limits"])
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--toys", type=int, default=None)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--function", default="exppoly:3")
    given = parser.parse_args()
    if given.kind == "tail":
        tail(given.toys or 10_000_000)
        return
    if given.kind == "limits":
        limits(given.toys or 4000)
        return
    given.toys = given.toys or 2000
    toys(given.cases or list(CASES), given)


if __name__ == "__main__":
    main()
