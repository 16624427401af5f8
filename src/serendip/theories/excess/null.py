"""How often the search for an excess finds one where there is none: pseudo-experiments from the simulation itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.statistics.pvalues import binomial_interval
from serendip.theories.excess.measure import Normalise, checked_simulation, excess
from serendip.theories.merits import MIN_BACKGROUND

__all__ = ["LEVELS", "NullRate", "NullRates", "null_rates"]

Array = NDArray[np.float64]

LEVELS = (0.05, 0.003)
"""p-values below which pseudo-experiments are counted."""


@dataclass(frozen=True)
class NullRate:
    """Pseudo-experiments with a p-value below ``level``.

    Attributes
    ----------
    eps_b
        Signal region with this local p-value; None: the global p-value.
    level
        Nominal rate.
    found, tested
        Pseudo-experiments below the level, and all in which the region was tested.
    rate, low, high
        Their ratio and its 95 % Clopper-Pearson interval.
    expected
        Mean expected number of events in the region; NaN for the global p-value.
    """

    eps_b: float | None
    level: float
    found: int
    tested: int
    rate: float
    low: float
    high: float
    expected: float


@dataclass(frozen=True)
class NullRates:
    """Result of :func:`null_rates`.

    Attributes
    ----------
    experiments, untested
        Pseudo-experiments, and those in which no region had enough simulation.
    n_data
        Mean number of pseudo-data events.
    rates
        For each level, of each region and of the global p-value.
    """

    experiments: int
    untested: int
    n_data: float
    rates: tuple[NullRate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; an expectation that is not one becomes None."""
        return {
            "experiments": self.experiments,
            "untested": self.untested,
            "n_data": self.n_data,
            "rates": [
                asdict(rate) | {"expected": None if rate.eps_b is None else rate.expected}
                for rate in self.rates
            ],
        }


def null_rates(
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    experiments: int = 200,
    n_data: float | None = None,
    eps_b: Sequence[float] = (1e-2, 1e-3),
    normalise: Normalise = "data",
    toys: int = 500,
    min_background: float = MIN_BACKGROUND,
    levels: Sequence[float] = LEVELS,
) -> NullRates:
    r"""Test pseudo-data from one half of the simulation against the other half.

    Every pseudo-experiment redraws the halves of the groups. Of a group of weight :math:`W_g` of the first half at most one event is
    taken, with probability :math:`\kappa W_g`, so that the pseudo-data are unweighted and independent of each other and of the
    second half: their distribution is the true one, not that of the finite first half. The largest number of events this gives
    is :math:`W / (2 \max_g W_g)`.

    Rates lie below their level where few events are expected, since counts are whole numbers. They know nothing of errors of the
    simulation, which data would show. All pseudo-experiments share one sample, so intervals are somewhat too short.

    Parameters
    ----------
    scores, weights, groups
        Simulation as in :func:`~serendip.theories.excess.measure.excess`.
    rng
        For everything random.
    experiments
        How many.
    n_data
        Mean number of pseudo-data events; default: the largest possible.
    eps_b, normalise, toys, min_background
        As in :func:`~serendip.theories.excess.measure.excess`; half of the simulation is used for each region.
    levels
        p-values.

    Raises
    ------
    InputError
        If an option is wrong, ``n_data`` is too large for the simulation, or nothing could be tested.
    """
    values, w, g = checked_simulation(scores, weights, groups)
    if experiments < 1:
        raise InputError(f"{experiments} pseudo-experiments: at least 1 is needed")
    if not levels or not all(0 < level < 1 for level in levels):
        raise InputError(f"levels must be p-values between 0 and 1, not {list(levels)}")
    _, index = np.unique(g, return_inverse=True)
    group_weight = np.bincount(index, w)
    most = float(0.5 * w.sum() / group_weight.max())
    wanted = most if n_data is None else float(n_data)
    if not 1 <= wanted <= most * (1 + 1e-9):
        raise InputError(
            f"{wanted:g} pseudo-data events were requested; half of this simulation gives from 1 to {most:.0f} without using an event twice"
        )
    rate = wanted / (0.5 * w.sum())
    order = np.argsort(index, kind="stable")
    end = np.cumsum(w[order])
    start_of = np.concatenate([[0.0], np.cumsum(group_weight)[:-1]])
    local: dict[float, list[float]] = {float(eps): [] for eps in eps_b}
    expected: dict[float, list[float]] = {float(eps): [] for eps in eps_b}
    overall: list[float] = []
    sizes: list[int] = []
    problem = ""
    for _ in range(experiments):
        first = rng.random(len(group_weight)) < 0.5
        taken = np.flatnonzero(first & (rng.random(len(first)) < rate * group_weight))
        inside = start_of[taken] + rng.random(len(taken)) * group_weight[taken]
        rows = order[np.minimum(np.searchsorted(end, inside, side="right"), len(w) - 1)]
        other = ~first[index]
        sizes.append(len(rows))
        try:
            found = excess(
                values[rows], values[other], rate * w[other], g[other], rng=rng, eps_b=eps_b, normalise=normalise,
                toys=toys, min_background=min_background,
            )  # fmt: skip
        except InputError as error:
            problem = str(error)
            continue
        overall.append(found.global_p)
        for region in found.regions:
            local[region.eps_b].append(region.p)
            expected[region.eps_b].append(region.expected)
    if not overall:
        raise InputError(f"no pseudo-experiment could be tested; the last one: {problem}")
    rates = []
    for level in levels:
        for eps in sorted(local, reverse=True):
            if local[eps]:
                rates.append(_rate(eps, level, local[eps], float(np.mean(expected[eps]))))
        rates.append(_rate(None, level, overall, float("nan")))
    return NullRates(experiments, experiments - len(overall), float(np.mean(sizes)), tuple(rates))


def _rate(eps: float | None, level: float, p: list[float], expected: float) -> NullRate:
    found, tested = sum(value < level for value in p), len(p)
    low, high = binomial_interval(found, tested, 0.95)
    return NullRate(eps, level, found, tested, found / tested, low, high, expected)
