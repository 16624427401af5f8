r"""Evidence that may be looked at at any time: e-values of periods of data taking, and their running product.

An *e-value* is a number :math:`E \ge 0` whose mean under background alone is at most one, given all that came before. The product
:math:`W_t = \prod_{s \le t} E_s` is then a non-negative supermartingale, and Ville's inequality,
:math:`P(\exists t: W_t \ge 1/\alpha) \le \alpha`, makes :math:`p = \min(1, 1/\max_{s \le t} W_s)` a p-value at any time of stopping, also one that
depends on the data (Ramdas et al., arXiv:2210.01948). Means of e-values are e-values, whatever their dependence.

**One period.** Each event of a fold contributes a bet :math:`g \ge 0`, a function of the past and of the rank of its score among the sideband
events of its own fold (:func:`~serendip.statistics.ranks.leave_one_out_rank`). With events of the window :math:`W` and of the sidebands :math:`S`

.. math:: \ln E = \sum_{i \in W} \ln(1 + g_i) + \sum_{j \in S} \ln\bigl(1 - \kappa(m_j) g_j\bigr) - \tfrac12 B^2 \delta^2 - \eta B,

where :math:`\kappa` is the *transfer*: :math:`B = \sum_S \kappa(m_j) g_j` predicts the sum of the bets in the window without bias. With the inclusive spectrum
:math:`f(m)` it is the polynomial :math:`\kappa(m) = \sum_k c_k x^k`, :math:`x = \ln m`, with :math:`\int_S \kappa f x^k = \int_W f x^k`: exact for every efficiency that is a polynomial of
this degree, and of all such predictions the one with the smallest variance. Run through the scores of the fold from the largest to the smallest: events are a Poisson process, the bet of the next one is determined by those before it, and its mean gain is :math:`g (\int_W f - \int_S \kappa f) = 0`. So the mean of the two products is one: the error of a measured expectation is *accounted for by the bets of the sidebands*, without an approximation. The remaining error is :math:`\delta` of :math:`f`: for
a Gaussian error of relative size :math:`\delta` the third term keeps the mean at one. And no efficiency is exactly a polynomial. A deficit is the same in all periods, and would accumulate as evidence: the last term,
with :math:`\eta` = 3 %, keeps the mean below one for predictions that are too small by up to this fraction.

**Bets.** For a signal of density :math:`\rho` relative to the background, :math:`\rho' = (\rho - \eta)/(1 + \eta)` relative to the largest allowed background, and with sidebands that are :math:`1/\kappa_2` times as large as the window,
the likelihood ratio of the on/off problem gives the bet :math:`g = \rho' / (1 + \kappa_2 (1 + \rho'))`, with :math:`\kappa_2 = \int_S \kappa^2 f / \int_S \kappa f`. The size of a signal is unknown: each *horizon* is a separate bet on the weakest signal that could be claimed after a given amount of data, and the evidence is the mean over the horizons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.compound import jump_scale
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.weighting import LOOSEST_RANK, signal_scale

__all__ = [
    "HORIZONS",
    "MARGIN",
    "PeriodEvidence",
    "Transfer",
    "anytime_log_p",
    "average_log_e",
    "densities",
    "make_transfer",
    "period_evidence",
]

Array = NDArray[np.float64]

HORIZONS = (2.0, 6.0, 18.0, 54.0, 162.0)
"""Amount of data after which each bet is designed to claim its signal, in units of the data before the first test."""

MARGIN = 0.03
"""Relative error of the prediction that all periods may have in the same direction."""

_FOLDS, _GROWTH = 10, 1.5
_LARGEST_LOSS = 0.9
_FEWEST, _MOST, _ASKS = 2, 3, 2.0


@dataclass(frozen=True)
class Transfer:
    r"""Prediction for the window from sideband events.

    Attributes
    ----------
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    kappa
        Weight of an event in each bin in the prediction, shape ``(n_bins,)``; zero in the window and in gaps.
    noise
        :math:`\kappa_2`: variance of the prediction of a flat efficiency, relative to that of the count in the window.
    error
        Relative error of the prediction from that of the inclusive spectrum.
    ratio
        Events in the window relative to those outside it.
    """

    edges: Array
    kappa: Array
    noise: float
    error: float
    ratio: float

    def at(self, mass: Array) -> Array:
        r""":math:`\kappa` of events inside the edges, shape of ``mass``."""
        return np.asarray(self.kappa[np.searchsorted(self.edges, mass, side="right") - 1])


def make_transfer(inclusive: SpectrumFit, degree: int) -> Transfer:
    """Transfer from the sidebands to the window for efficiencies that are polynomials in ``ln m``.

    Parameters
    ----------
    inclusive
        Fit of all events with the window masked (:func:`~serendip.statistics.looks.fit_inclusive`).
    degree
        Largest power of ``ln m``.

    Raises
    ------
    InputError
        If there are no sidebands, or too few bins of them for the degree.
    """
    f, inside, side = inclusive.expected, inclusive.mask, inclusive.kept & (inclusive.expected > 0)
    if np.count_nonzero(side) <= degree or not f[inside].sum() > 0:
        raise InputError(
            f"evidence needs sidebands that predict the window: {np.count_nonzero(side)} bins outside it contain background, and "
            f"more than {degree} are needed"
        )
    x = 0.5 * np.log(inclusive.edges[1:] * inclusive.edges[:-1])
    x = (x - np.average(x[inside], weights=f[inside])) / np.ptp(x)
    powers = x[:, None] ** np.arange(degree + 1)
    moments = powers[side].T @ (f[side, None] * powers[side])
    kappa = np.where(side, powers @ np.linalg.solve(moments, f[inside] @ powers[inside]), 0.0)
    total = float(f[inside].sum())
    log_change = inclusive.jacobian / np.maximum(f, 1e-300)[:, None]
    gradient = (f[inside] @ log_change[inside] - (kappa * f)[side] @ log_change[side]) / total
    variance = float(gradient @ inclusive.coefficient_covariance @ gradient)
    return Transfer(
        inclusive.edges,
        kappa,
        float((kappa**2 * f).sum() / total),
        float(np.sqrt(max(variance, 0.0))),
        total / float(f[side].sum()),
    )


def densities(rank: Array, past: float, first: float, sideband: float, ratio: float) -> Array:
    r"""Density of signal over background at each rank, :math:`\rho = (a_h / \varepsilon) \min(1, n / n_h)^{3/2}` for each horizon.

    :math:`a_h` is that of the weakest signal that a weighted search of :math:`n_h` events could claim
    (:func:`~serendip.statistics.weighting.signal_scale`); the signal grows with the :math:`n` events of the training until then.

    Parameters
    ----------
    rank
        :func:`~serendip.statistics.ranks.leave_one_out_rank` of the fold, shape ``(n,)``.
    past, first
        (Effective) sideband events in the training period, and those before the first test.
    sideband
        (Effective) sideband events of the fold.
    ratio
        Events in the window relative to those outside it.

    Returns
    -------
    Shape ``(n_horizons, n)``; zero for ranks above 0.1 and where the rank is NaN.

    Raises
    ------
    InputError
        If the fold has too few sideband events for ranks.
    """
    used = rank < LOOSEST_RANK
    out = np.zeros((len(HORIZONS), len(rank)))
    for row, horizon in zip(out, HORIZONS, strict=True):
        reach = horizon * first
        scale = _scale(float(f"{reach * ratio:.2g}"), float(f"{sideband:.2g}"))
        row[used] = scale / rank[used] * min(past / reach, 1.0) ** _GROWTH
    return out


@dataclass(frozen=True)
class PeriodEvidence:
    """Evidence of one period in one window, for each horizon.

    Attributes
    ----------
    log_e
        Logarithm of the e-value, shape ``(n_horizons,)``.
    observed, expected
        Sum of the bets in the window, and the prediction of the sidebands, shape ``(n_horizons,)``.
    degree
        Of the efficiency as a polynomial in ``ln m``, shape ``(n_horizons,)``.
    lack
        By how much each further degree would change the prediction, and the variance of that, shape ``(n_horizons, n_degrees, 2)``.
    """

    log_e: Array
    observed: Array
    expected: Array
    degree: NDArray[np.int64]
    lack: Array


@lru_cache(maxsize=4096)
def _scale(background: float, sideband: float) -> float:
    """Scale of the weights for rounded numbers, which change little from period to period."""
    return signal_scale(background, _FOLDS, sideband)


def period_evidence(
    mass: Array,
    weights: Array,
    groups: NDArray[np.int64] | None,
    density: Array,
    window: Window,
    inclusive: SpectrumFit,
    lack: Array | None = None,
) -> PeriodEvidence:
    """Evidence of one period in one window.

    Parameters
    ----------
    mass, weights
        Mass in GeV and event weight of all events of the period inside the fitted range, shape ``(n,)``.
    groups
        Number of the group of every event, shape ``(n,)``, or None. A group bets as one event.
    density
        :func:`densities` of the events, shape ``(n_horizons, n)``.
    window, inclusive
        The window, and the fit of the period's spectrum without it.
    lack
        Sum of :attr:`PeriodEvidence.lack` over the periods before this one; None for the first.

    Raises
    ------
    InputError
        If there are no sidebands, or no event there has a non-zero weight.
    """
    inside = window.contains(mass)
    beside = inclusive.kept[np.searchsorted(inclusive.edges, mass, side="right") - 1]
    unit = jump_scale(weights[beside], None if groups is None else groups[beside])
    size = density * weights / unit
    if not np.any(size[:, beside] > 0):
        raise InputError(
            f"no event outside the window {window} has a non-zero weight, so there is no prediction for it: look at the event weights "
            "and the sidebands of this period"
        )
    transfers = [make_transfer(inclusive, degree) for degree in range(_FEWEST, _MOST + 1)]
    kappa = np.stack([transfer.at(mass[beside]) for transfer in transfers])
    known = np.zeros((len(size), _MOST - _FEWEST, 2)) if lack is None else lack
    group_in, group_out = (
        np.arange(np.count_nonzero(rows))
        if groups is None
        else np.unique(groups[rows], return_inverse=True)[1]
        for rows in (inside, beside)
    )
    log_e, observed, expected, degrees, more = [], [], [], [], []
    for rho, before in zip(size, known, strict=True):
        place = _enough(before)
        transfer = transfers[place]
        won = np.bincount(group_in, _bets(rho[inside], group_in, transfer))
        bet = _bets(rho[beside], group_out, transfer)
        lost = np.bincount(group_out, kappa[place] * bet)
        predicted = max(float(lost.sum()), 0.0)
        degrees.append(_FEWEST + place)
        observed.append(float(won.sum()))
        expected.append(predicted)
        unknown = 0.5 * (predicted * transfer.error) ** 2 + MARGIN * predicted
        log_e.append(float(np.log1p(won).sum() + np.log1p(-lost).sum() - unknown))
        changes = [np.bincount(group_out, step * bet) for step in np.diff(kappa, axis=0)]
        more.append([(change.sum(), (change**2).sum()) for change in changes])
    return PeriodEvidence(
        np.array(log_e), np.array(observed), np.array(expected), np.array(degrees), np.array(more)
    )


def _enough(lack: Array) -> int:
    """Steps from the lowest degree to one that is sufficient for the past."""
    for place, (change, variance) in enumerate(lack):
        if abs(change) <= _ASKS * np.sqrt(variance):
            return place
    return len(lack)


def _bets(density: Array, group: NDArray[np.int64], transfer: Transfer) -> Array:
    """Bet of each event for a density of signal over background; a group bets like one event of the summed density."""
    total = np.bincount(group, density)
    # the density relative to as much background as there may be
    surplus = np.maximum((total - MARGIN) / (1.0 + MARGIN), 0.0)
    largest = _LARGEST_LOSS / max(float(transfer.kappa.max()), 1e-300)
    bet = np.minimum(surplus / (1.0 + transfer.noise * (1.0 + surplus)), largest)
    return np.asarray(density * (bet / np.maximum(total, 1e-300))[group])


def average_log_e(log_e: Array, axis: int = 0) -> Array:
    """Logarithm of the mean of e-values: of methods, windows, horizons or orders of the folds; it is an e-value again.

    >>> round(float(np.exp(average_log_e(np.log([1.0, 9.0])))), 12)
    5.0
    """
    log_e = np.asarray(log_e, dtype=float)
    return np.asarray(logsumexp(log_e, axis=axis) - np.log(log_e.shape[axis]))


def anytime_log_p(log_w: Array) -> Array:
    """``ln p`` after each look from the running products, ``min(0, -max ln W)`` so far; along the last axis.

    >>> np.exp(anytime_log_p(np.log([0.5, 40.0, 10.0]))).round(12).tolist()
    [1.0, 0.025, 0.025]
    """
    log_w = np.asarray(log_w, dtype=float)
    return np.asarray(np.minimum(-np.maximum.accumulate(log_w, axis=-1), 0.0))
