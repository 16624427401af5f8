r"""Weights of events from the ranks of their scores: a search without a cut.

A cut gives every event and every fold the same weight. Here each event of fold :math:`f` counts with the logarithm of a likelihood ratio,

.. math:: w = \ln\bigl(1 + \rho_f(\varepsilon)\bigr), \qquad
          \rho_f(\varepsilon) = \frac{a}{\varepsilon} \Bigl(\frac{f}{k - 1}\Bigr)^{3/2} \quad (\varepsilon < 0.1, \text{ else } 0),

the Neyman-Pearson weight for a signal whose density in the rank :math:`\varepsilon` of the score falls like its inverse and grows with the
training. The rank of an event is that among the sideband events of its own fold, so that its weight depends on the past (which made
the score) and on events that know nothing of the window: given the past, the sum of the weights in the window is compound Poisson.

:math:`a` is that of the weakest signal that could be claimed: with known background its Asimov significance is 5 sigma,

.. math:: 25 = 2 \sum_{f=1}^{k-1} b_f \int_{1/n}^{0.1} \bigl[(1 + \rho_f) \ln(1 + \rho_f) - \rho_f\bigr] \, d\varepsilon

with :math:`b_f` background events of the window and :math:`n` sideband events in fold :math:`f`: fixed before anything is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from serendip.errors import InputError
from serendip.statistics.compound import CompoundTail, group_sums

__all__ = ["FEWEST_RANKED", "LOOSEST_RANK", "law_in_window", "ratio_weights", "signal_scale"]

Array = NDArray[np.float64]

LOOSEST_RANK = 0.1
"""Events with a larger rank count nothing."""
FEWEST_RANKED = 50
"""Sideband events that a fold needs on average: five of them count."""

_GROWTH, _CLAIM = 1.5, 5.0
_SMALLEST, _LARGEST = 1e-12, 1e3
_POINTS = 400
# Smallest effective fraction of the sideband events that represent those in the window.
_KEPT = 0.25
_EVEN = 1e-9


def signal_scale(background: float, n_folds: int, sideband: float) -> float:
    """The constant ``a``: the weakest signal that could be claimed with known background.

    Parameters
    ----------
    background
        (Effective) background events expected in the window, in total over all folds.
    n_folds
        Number of folds, the untested first one included.
    sideband
        (Effective) sideband events of one fold; the smallest rank is its inverse.

    Raises
    ------
    InputError
        If a fold has too few sideband events for ranks.
    """
    if not sideband >= FEWEST_RANKED:
        raise InputError(
            f"the ranks of a weighted search need {FEWEST_RANKED} sideband events in each fold, and there are {sideband:.3g}; use "
            "fewer folds, a wider range or more data"
        )
    rank = np.geomspace(1.0 / sideband, LOOSEST_RANK, _POINTS)
    growth = (np.arange(1, n_folds)[:, None] / (n_folds - 1)) ** _GROWTH
    per_fold = background / n_folds

    def too_much(log_a: float) -> float:
        ratio = np.exp(log_a) / rank * growth
        information = np.trapezoid((1.0 + ratio) * np.log1p(ratio) - ratio, rank, axis=1).sum()
        return float(2.0 * per_fold * information - _CLAIM**2)

    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    if too_much(high) < 0:
        return _LARGEST
    return float(np.exp(optimize.brentq(too_much, low, high)))


def ratio_weights(rank: Array, position: NDArray[Any], n_folds: int, scale: float) -> Array:
    r"""Weights :math:`\ln(1 + \rho_f(\varepsilon))` of events; zero in the first fold and where the rank is NaN.

    Parameters
    ----------
    rank
        :func:`~serendip.statistics.ranks.leave_one_out_rank`, shape ``(n,)``.
    position
        Place of each event's fold in the order, shape ``(n,)``: 0 for the one that is never tested.
    n_folds
        Number of folds.
    scale
        :func:`signal_scale`.
    """
    used = (rank < LOOSEST_RANK) & (position > 0)
    out = np.zeros(len(rank))
    growth = (position[used] / (n_folds - 1)) ** _GROWTH
    out[used] = np.log1p(scale / rank[used] * growth)
    return out


def law_in_window(
    mass: Array,
    weights: Array,
    ranked: Array,
    groups: NDArray[Any] | None,
    side: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    *,
    centre: float,
    unit: float,
) -> CompoundTail:
    r"""Law of the sum of weights in the window under background alone.

    The weights of a score correlated with the mass have a different distribution in the window and outside. The jumps outside are weighted by :math:`e^{\lambda \ln m}`, with :math:`\lambda` such that their mean :math:`\ln m` is that of the window: a linear change with :math:`\ln m` is then accounted for. Events of the window do not enter, since the ranks of a signal are small, unless events have their own weights and one has a larger weight than any outside the window: it could as well have been there.

    Parameters
    ----------
    mass, weights, ranked
        Mass in GeV, event weight, and weight from the rank, shape ``(n,)``.
    groups
        Number of the group of every event, shape ``(n,)``, or None.
    side, inside
        Counted events outside the window, and in it (none while blinded), shape ``(n,)``.
    centre
        Mean ``ln m`` expected in the window.
    unit
        The unit of sums.
    """
    jumps = weights[side] * ranked[side]
    place = np.log(mass[side])
    if groups is not None and len(jumps):
        member = np.unique(groups[side], return_inverse=True)[1]
        total = np.bincount(member, jumps).astype(float)
        place, jumps = np.bincount(member, jumps * place) / np.maximum(total, 1e-300), total
    place, jumps = place[jumps > 0], jumps[jumps > 0]
    own, others = weights[side], weights[inside]
    even = not len(own) or np.ptp(np.concatenate([own, others])) <= _EVEN * own.max()
    seen = np.empty(0)
    if not even:
        seen = group_sums(others * ranked[inside], None if groups is None else groups[inside])
        seen = seen[seen > jumps.max(initial=0.0)]
    return CompoundTail.of(jumps, seen, unit, _tilted(place - centre))


def _tilted(distance: Array) -> Array:
    """How often each jump counts so that the mean distance vanishes, or comes as near as a quarter of the events allows."""
    flat = np.ones(len(distance))
    spread = float(distance.std()) if len(distance) else 0.0
    if not spread > 0:
        return flat

    def often(tilt: float) -> Array:
        logs = tilt * distance / spread
        return np.asarray(np.exp(logs - logs.max()))

    def good(tilt: float) -> bool:
        q = often(tilt)
        return bool(q.sum() ** 2 > _KEPT * len(q) * (q**2).sum())

    sign = -1.0 if distance.mean() > 0 else 1.0
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        short = sign * float(often(sign * middle) @ distance) < 0
        low, high = (middle, high) if short and good(sign * middle) else (low, middle)
    return often(sign * low)
