"""Rates and power of an ABCD measurement whose variables depend on each other, and what the closure costs where they do not.

    python benchmarks/abcd_closure.py [EXPERIMENTS]

Background-only experiments. For each situation: how often p < 0.05 and p < 0.01 if the prediction B C / D is believed, and with the
closure uncertainty that :func:`serendip.statistics.abcd.closure` measures outside A (experiments without an answer count as
none); the median uncertainty; and the median significance of a signal that is added to A, with both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.abcd import AbcdCounts, abcd_counts, closure, exact_log_p_value
from serendip.statistics.pvalues import z_value

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[Any, ...]]


def normal(n: float, rho: float = 0.0) -> Draw:
    """Two normal variables with a correlation."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, e = rng.normal(size=(2, rng.poisson(n)))
        return x, rho * x + np.sqrt(1 - rho**2) * e

    return draw


def common_tail(n: float, fraction: float) -> Draw:
    """A fraction of the events has one cause for large x and y."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, y, first, second = rng.normal(size=(4, rng.poisson(n)))
        common, cause = rng.random(len(x)) < fraction, rng.normal(1.2, 0.8, len(x))
        return np.where(common, cause + 0.3 * first, x), np.where(common, cause + 0.3 * second, y)

    return draw


def two_backgrounds(n: float, fraction: float, shift: float) -> Draw:
    """Each independent, the second with larger x and larger y."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, y = rng.normal(size=(2, rng.poisson(n)))
        second = shift * (rng.random(len(x)) < fraction)
        return x + second, y + second

    return draw


def tail_copula(n: float, theta: float) -> Draw:
    """Clayton's copula turned round: a dependence of the upper tails."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        size = rng.poisson(n)
        u = (1 + rng.exponential(size=(2, size)) / rng.gamma(1 / theta, 1, size)) ** (-1 / theta)
        return tuple(stats.norm.isf(u))

    return draw


def width_of_y(n: float, slope: float) -> Draw:
    """The spread of y changes with x."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, y = rng.normal(size=(2, rng.poisson(n)))
        return x, y * (1 + slope * np.tanh(x))

    return draw


def weighted(n: float, sigma: float) -> Draw:
    """Independent, with lognormal weights."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, y, e = rng.normal(size=(3, rng.poisson(n)))
        return x, y, np.exp(sigma * e)

    return draw


def copies(n: float) -> Draw:
    """Independent, every event twice, with groups."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        x, y = rng.normal(size=(2, rng.poisson(n / 2)))
        return np.tile(x, 2), np.tile(y, 2), None, np.tile(np.arange(len(x)), 2)

    return draw


# name, events, cut on x, cut on y, signal in A
SITUATIONS: list[tuple[str, Draw, float, float]] = [
    ("independent, A 10", normal(20_000), 2.0, 2.0),
    ("independent, A 100", normal(50_000), 1.7, 1.7),
    ("independent, A 1.5", normal(3_000), 2.0, 2.0),
    ("independent, A 300, loose cuts", normal(20_000), 1.3, 1.0),
    ("correlation 0.02", normal(20_000, 0.02), 2.0, 2.0),
    ("correlation 0.05", normal(20_000, 0.05), 2.0, 2.0),
    ("correlation 0.05, A 120", normal(50_000, 0.05), 1.7, 1.7),
    ("correlation 0.1", normal(20_000, 0.1), 2.0, 2.0),
    ("correlation -0.1", normal(20_000, -0.1), 2.0, 2.0),
    ("common tail, 0.3 %", common_tail(20_000, 0.003), 2.0, 2.0),
    ("common tail, 0.3 %, A 130", common_tail(50_000, 0.003), 1.7, 1.7),
    ("common tail, 0.3 %, loose cuts", common_tail(20_000, 0.003), 1.3, 1.0),
    ("common tail, 0.6 %", common_tail(20_000, 0.006), 2.0, 2.0),
    ("two backgrounds, 30 % at +0.5", two_backgrounds(20_000, 0.3, 0.5), 2.0, 2.0),
    ("two backgrounds, 1 % at +1.5", two_backgrounds(20_000, 0.01, 1.5), 2.0, 2.0),
    ("tail copula, theta 0.05", tail_copula(20_000, 0.05), 2.0, 2.0),
    ("width of y by 5 % with x", width_of_y(20_000, 0.05), 2.0, 2.0),
    ("width of y by 20 % with x", width_of_y(20_000, 0.2), 2.0, 2.0),
    ("lognormal weights, sigma 1", weighted(20_000, 1.0), 2.0, 2.0),
    ("every event twice, groups", copies(40_000), 2.0, 2.0),
]


def main() -> None:
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(
        "| situation | A / (BC/D) | closure 0: p < 0.05 | p < 0.01 | measured: p < 0.05 | p < 0.01 | no answer | closure | "
        "signal: Z with 0 | Z measured |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, draw, cut_x, cut_y in SITUATIONS:
        rng = np.random.default_rng(sum(name.encode()))
        ratio, blind, p, used, z_blind, z = [], [], [], [], [], []
        refused = 0
        for _ in range(experiments):
            x, y, weights, groups = (*draw(rng), None, None)[:4]
            n = abcd_counts(x, y, cut_x, cut_y, weights=weights, groups=groups)
            ratio.append((n.a or 0.0, n.expected))
            blind.append(np.exp(_log_p(n, 0.0)))
            # five times the statistical error of the background alone
            size = n.scale[0]
            signal = size * 5 * np.sqrt(n.expected / size + (n.expected_error() / size) ** 2)
            more = AbcdCounts((n.a or 0.0) + size * rng.poisson(signal / size), n.b, n.c, n.d, n.scale)
            z_blind.append(float(z_value(log_p=_log_p(more, 0.0))))
            try:
                found = closure(x, y, cut_x, cut_y, weights=weights, groups=groups)
            except InputError:
                refused += 1
                continue
            if found.refusal is not None:
                refused += 1
                continue
            used.append(found.uncertainty)
            p.append(np.exp(_log_p(n, found.uncertainty)))
            z.append(float(z_value(log_p=_log_p(more, found.uncertainty))))
        a, b = np.array(ratio).sum(axis=0)
        rates = [sum(value < level for value in values) for values in (blind, p) for level in (0.05, 0.01)]
        shown = " | ".join(f"{rate / experiments:.3f}" for rate in rates)
        middle = [np.median(values) if values else np.nan for values in (used, z_blind, z)]
        print(
            f"| {name} | {a / b:.2f} | {shown} | {refused / experiments:.2f} | {100 * middle[0]:.0f} % | {middle[1]:.1f} | "
            f"{middle[2]:.1f} |",
            flush=True,
        )


def _log_p(counts: AbcdCounts, delta: float) -> float:
    log_p = exact_log_p_value(counts, delta)
    assert log_p is not None
    return log_p


if __name__ == "__main__":
    main()
