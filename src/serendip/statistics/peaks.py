r"""A peak anywhere in a spectrum: a Gaussian of any mass and width on any of the background functions.

For a peak of shape :math:`s` the significance is :math:`Z = \sqrt{q_0}`, :math:`q_0 = \min_k [D_k(0) + 2 p_k] - \min_k [D_k(\hat s)
+ 2 p_k]` with the deviances :math:`D_k` of every background function :math:`k` with :math:`p_k` parameters (discrete profiling,
arXiv:1408.6865): a peak that another background explains as well has none.

Thousands of toys are searched by the score test, :math:`Z = U/\sqrt{V}` with :math:`U = \sum_i s_i (n_i/\mu_i - 1)` and its
variance after the background's parameters, :math:`V = \sum_i s_i^2/\mu_i - h^T I^{-1} h`, :math:`h = \sum_i s_i J_i/\mu_i`. The few best
candidates of each toy are then fitted as those of the data are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from serendip.errors import InputError
from serendip.statistics.design import BackgroundFamily, Design
from serendip.statistics.many import MemberFits, fit_members
from serendip.statistics.minimise import add_wall
from serendip.statistics.order import deviance
from serendip.statistics.scoring import fisher_scoring

__all__ = [
    "REFINED",
    "Candidates",
    "PeakFits",
    "background_fits",
    "best_z",
    "candidates",
    "fit_peaks",
    "screen_peaks",
]

Array = NDArray[np.float64]
Rows = NDArray[np.int_]

_PENALTY = 2.0
_STEPS_PER_SIGMA = 2.0
# The widest Gaussian: at half of its height it spans 0.3 of the bins, and 19 % of its mass. Anything wider is not a resonance.
_WIDEST, _WIDEST_IN_MASS = 1.0 / 8.0, 0.08
# Bins of a scan are about a per cent of the mass wide, where two nodes integrate to 1e-6.
_NODES = 2
REFINED = 4
"""Candidates of each toy that are fitted."""
_ROWS = 4_000
# A significance is known to 0.01 then, or is beyond all doubt.
_TOLERANCE, _MAX_STEPS = 1e-3, 50
# Lower bound of an expectation, for both value and slope: a slope that belongs to another value points nowhere.
_LEAST = 1e-100


@dataclass(frozen=True, eq=False)
class Candidates:
    """Gaussian peaks on a binning.

    Masses and standard deviations in GeV, shape ``(k,)``, shares of the bins, ``(k, n_bins)``, and numbers of the widths, ``(k,)``.
    """

    mass: Array
    sigma: Array
    share: Array
    width: Rows


@dataclass(frozen=True, eq=False)
class PeakFits:
    """Fits of pairs of a spectrum and a peak, shape ``(r,)``.

    ``z`` is the significance (zero for a deficit), ``signal`` the fitted events of the peak in all masses and ``signal_error`` their
    error, ``background`` the expectation without the peak, shape ``(r, n_bins)``, ``member`` the function of the background,
    ``deviance`` that of the fit with the peak, and ``n_parameters`` those of the background.
    """

    z: Array
    signal: Array
    signal_error: Array
    background: Array
    member: NDArray[np.int_]
    deviance: Array
    n_parameters: NDArray[np.int_]


def candidates(edges: Array, keep: NDArray[np.bool_] | None = None, narrowest: float = 1.0) -> Candidates:
    """Gaussians of a scan, in steps of half of a standard deviation, which is ``narrowest`` bins to an eighth of the range.

    Parameters
    ----------
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    keep
        False for bins that are left out, shape ``(n_bins,)``. Peaks of which a third is hidden are not tried.
    narrowest
        Smallest standard deviation in bins.

    Raises
    ------
    InputError
        If there is no room for any.
    """
    n_bins = len(edges) - 1
    used = np.ones(n_bins, dtype=bool) if keep is None else keep
    bins = np.arange(n_bins + 1)
    mass, sigma, number = [], [], []
    n_widths = int(np.floor(2.0 * np.log2(max(_WIDEST * n_bins / narrowest, 1.0)))) + 1
    for k in range(n_widths):
        width = narrowest * 2.0 ** (0.5 * k)
        place = np.arange(width, n_bins - width + 1e-9, width / _STEPS_PER_SIGMA)
        centre = np.interp(place, bins, edges)
        mass.append(centre)
        number.append(np.full(len(centre), k))
        sigma.append(width * np.interp(place, bins[:-1] + 0.5, np.diff(edges)))
    m, s = np.concatenate(mass), np.concatenate(sigma)
    share = np.diff(special.ndtr((edges - m[:, None]) / s[:, None]), axis=1)
    seen = ((share * used).sum(axis=1) > 2.0 / 3.0) & (s <= np.maximum(_WIDEST_IN_MASS * m, s.min()))
    if not seen.any():
        raise InputError(f"{n_bins} bins leave no room for a peak; use a wider range or more bins")
    return Candidates(m[seen], s[seen], share[seen], np.concatenate(number)[seen])


def background_fits(
    counts: Array, edges: Array, family: BackgroundFamily, keep: NDArray[np.bool_] | None = None
) -> list[MemberFits]:
    """Fits of spectra without a peak by all functions; ``counts`` of shape ``(t, n_bins)``."""
    used = np.ones(counts.shape[1], dtype=bool) if keep is None else keep
    return fit_members(counts[:, used].T, edges, family, used, int(used.sum()) - 1, n_nodes=_NODES)


def screen_peaks(
    counts: Array, null: list[MemberFits], peaks: Candidates, keep: NDArray[np.bool_] | None = None
) -> Array:
    """Signed significance of every peak in many spectra by the score test about the best function, shape ``(t, k)``."""
    used = np.ones(counts.shape[1], dtype=bool) if keep is None else keep
    n, share = counts[:, used].T, peaks.share[:, used]
    best = np.argmin([m.deviance + _PENALTY * m.n_parameters for m in null], axis=0)
    out = np.empty((len(counts), len(share)))
    for k in np.unique(best):
        rows = np.flatnonzero(best == k)
        member = null[k]
        design = member.design.bins(used)
        mu, jacobian = design.expected(member.theta[rows])
        mu = np.maximum(mu, 1e-9)
        slope = share @ (n[:, rows] / mu - 1.0)
        own = (share**2) @ (1.0 / mu)
        scaled = (jacobian / mu[..., None]).transpose(1, 0, 2)
        information = scaled.transpose(0, 2, 1) @ jacobian.transpose(1, 0, 2) + np.diag(design.prior)
        add_wall(design, member.theta[rows], n[:, rows].sum(axis=0), None, information)
        cross = share @ scaled
        solved = np.linalg.solve(information, cross.transpose(0, 2, 1))
        known = np.einsum("tkp,tpk->tk", cross, solved)
        variance = np.maximum(own.T - known, 1e-3 * own.T)
        out[rows] = slope.T / np.sqrt(variance)
    return out


def fit_peaks(
    counts: Array,
    null: list[MemberFits],
    peaks: Candidates,
    rows: Rows,
    which: Rows,
    keep: NDArray[np.bool_] | None = None,
) -> PeakFits:
    """Fit peak ``which[i]`` on spectrum ``rows[i]``, over every background function.

    Parameters
    ----------
    counts
        Poisson-like counts, shape ``(t, n_bins)``.
    null
        :func:`background_fits` of them.
    peaks
        The candidates.
    rows, which
        Indices of spectra and candidates, shape ``(r,)``.
    keep
        False for bins that are left out, shape ``(n_bins,)``.
    """
    used = np.ones(counts.shape[1], dtype=bool) if keep is None else keep
    n, share = counts[rows][:, used].T, peaks.share[which]
    without = np.min([m.deviance[rows] + _PENALTY * m.n_parameters for m in null], axis=0)
    lowest = np.full(len(rows), np.inf)
    signal, error = np.zeros(len(rows)), np.zeros(len(rows))
    member, n_parameters = np.zeros(len(rows), dtype=int), np.zeros(len(rows), dtype=int)
    background = np.zeros((len(rows), counts.shape[1]))
    for k, m in enumerate(null):
        objective = _PeakObjective(n, m.design.bins(used), share[:, used].T)
        start = objective.start(m.theta[rows])
        longest = np.append(np.full(m.n_parameters, 5.0), max(float(n.sum(axis=0).max()), 1.0))
        params, _ = fisher_scoring(
            objective,
            start,
            objective.slack,
            longest_step=longest,
            tolerance=_TOLERANCE,
            max_steps=_MAX_STEPS,
        )
        value = objective.deviance(params) + _PENALTY * m.n_parameters
        better = np.flatnonzero(value < lowest)
        lowest[better], signal[better] = value[better], params[better, -1]
        error[better] = objective.error(params)[better]
        member[better], n_parameters[better] = k, m.n_parameters
        background[better] = m.design.counts(params[better, :-1]).T
    z = np.where(signal > 0, np.sqrt(np.maximum(without - lowest, 0.0)), 0.0)
    return PeakFits(z, signal, error, background, member, lowest - _PENALTY * n_parameters, n_parameters)


class _PeakObjective:
    """Penalised deviance of spectra under a background and a peak of its own each; the last parameter is the peak's size."""

    def __init__(self, counts: Array, design: Design, share: Array) -> None:
        self.counts, self.design, self.share = counts, design, share
        self.total = counts.sum(axis=0)
        self.slack = 1e-12 * (1.0 + self.total)
        self.prior = np.append(design.prior, 0.0)

    def start(self, theta: Array) -> Array:
        """The background without peak, and a step towards the peak that cannot end below zero."""
        mu = np.maximum(self.design.counts(theta), 1e-9)
        slope = (self.share * (self.counts / mu - 1.0)).sum(axis=0)
        size = slope / (self.share**2 / mu).sum(axis=0)
        return np.concatenate([theta, np.maximum(size, 0.0)[:, None]], axis=1)

    def _expected(self, params: Array, rows: Rows) -> tuple[Array, Array]:
        mu, jacobian = self.design.expected(params[:, :-1])
        share = self.share[:, rows]
        return np.maximum(mu + share * params[:, -1], _LEAST), np.concatenate(
            [jacobian, share[..., None]], axis=2
        )

    def deviance(self, params: Array, rows: Rows | None = None) -> Array:
        """Deviance; infinite where the expectation is not positive."""
        every = np.arange(len(params)) if rows is None else rows
        mu = self.design.counts(params[:, :-1]) + self.share[:, every] * params[:, -1]
        value = deviance(self.counts[:, every], np.maximum(mu, _LEAST), axis=0)
        return np.asarray(np.where((mu > 0).all(axis=0), value, np.inf))

    def value(self, params: Array, rows: Rows) -> Array:
        """With the prior, shape ``(len(rows),)``."""
        excess, wall = self.design.too_bent(params[:, :-1], self.total[rows])
        return np.asarray(self.deviance(params, rows) + params**2 @ self.prior + wall * excess**2)

    def slope(self, params: Array, rows: Rows) -> tuple[Array, Array]:
        """Half the gradient and the Fisher information."""
        mu, jacobian = self._expected(params, rows)
        scaled = (jacobian / mu[..., None]).transpose(1, 0, 2)
        gradient = np.einsum("tnp,nt->tp", scaled, mu - self.counts[:, rows]) + self.prior * params
        information = scaled.transpose(0, 2, 1) @ jacobian.transpose(1, 0, 2) + np.diag(self.prior)
        add_wall(self.design, params, self.total[rows], gradient, information)
        return gradient, information

    def error(self, params: Array) -> Array:
        """Error of the peak's size, shape ``(n,)``."""
        _, information = self.slope(params, np.arange(len(params)))
        return np.asarray(np.sqrt(np.maximum(np.linalg.inv(information)[:, -1, -1], 0.0)))


def best_z(
    counts: Array,
    edges: Array,
    family: BackgroundFamily,
    peaks: Candidates,
    keep: NDArray[np.bool_] | None = None,
) -> Array:
    """Largest significance of each spectrum, the best few candidates fitted; shape ``(t,)``.

    Parameters
    ----------
    counts
        Poisson-like counts, shape ``(t, n_bins)``.
    edges, family, peaks, keep
        As above.
    """
    null = background_fits(counts, edges, family, keep)
    z = screen_peaks(counts, null, peaks, keep)
    n_best = min(REFINED, z.shape[1])
    which = np.argpartition(-z, n_best - 1, axis=1)[:, :n_best].ravel()
    rows = np.repeat(np.arange(len(counts)), n_best)
    out = np.empty(len(rows))
    for first in range(0, len(rows), _ROWS):
        part = slice(first, first + _ROWS)
        out[part] = fit_peaks(counts, null, peaks, rows[part], which[part], keep).z
    return np.asarray(out.reshape(-1, n_best).max(axis=1))
