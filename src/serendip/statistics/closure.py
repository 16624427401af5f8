r"""Closure in shifted windows: how well the fit predicts neighbouring windows of the same width.

Each shifted window is masked together with the real one, and its count :math:`n_j` compared with the prediction
:math:`b_j \pm \sigma_j`. If the pulls are larger than they should be, the functions miss the spectrum by more than their error (a *spurious signal*), and the relative error

.. math:: \tau^2 = \frac{\sum_j (n_j - b_j)^2 - (b_j + \sigma_j^2)}{\sum_j b_j^2}

is added to the prediction in the real window.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import linalg, stats

from serendip.statistics.design import BackgroundFamily
from serendip.statistics.fit import Closure, FitError, SpectrumFit, fit_spectrum
from serendip.statistics.functions import AUTO_DEGREES, get_family, rougher
from serendip.statistics.many import fit_many

__all__ = ["shifted_windows", "with_alternatives", "with_closure"]

Array = NDArray[np.float64]

_MOST_PER_SIDE = 5
# p-value of the pulls below which the prediction is widened: one sound spectrum in ten pays for it.
_WIDENED = 0.1
_FEWEST_EVENTS = 5.0
# Functions whose AIC is larger by less are taken into account.
_SAME_AIC = 10.0
# Number of parameters from which a polynomial describes unspecified structure.
_WAVY = 6
# Parameters below which a function cannot rise and fall.
_PLAIN = 5
# Decrease of the AIC and difference of the predictions required for a warning on faster functions.
_BETTER, _APART = 2.0, 0.5


def shifted_windows(mask: NDArray[np.bool_], low: int, high: int) -> NDArray[np.int_]:
    """Neighbouring windows with the number of bins of the window ``low <= i < high``, without bins of the mask.

    Each leaves half of its width between it and the end of the range, so that it is interpolated as the window is.

    Returns
    -------
    windows
        First bin and one past the last, shape ``(k, 2)``.
    """
    width = high - low
    side = max(2, -(-width // 2))
    out = []
    for first, step in ((high, 1), (low - width, -1)):
        start, found = first, 0
        while found < _MOST_PER_SIDE and side <= start and start + width + side <= len(mask):
            if not mask[start : start + width].any():
                out.append((start, start + width))
                found += 1
            start += step * width
    return np.array(sorted(out), dtype=int).reshape(-1, 2)


def with_closure(fit: SpectrumFit, low: int, high: int) -> SpectrumFit:
    """The fit with its closure, and with the error that it calls for in the bins ``low <= i < high``."""
    windows = shifted_windows(~fit.kept, low, high)
    if len(windows) < 2:
        return fit
    bins = np.arange(len(fit.mask))
    inside = (bins >= windows[:, :1]) & (bins < windows[:, 1:])
    try:
        others = fit_many(
            np.broadcast_to(fit.counts, inside.shape), fit.edges, fit.family, mask=inside | fit.mask, window=inside,
            offset=fit.offset, scale=fit.scale, alpha=fit.alpha, choice=fit.choice,
        )  # fmt: skip
    except FitError:
        return fit
    n = np.where(inside, fit.counts, 0.0).sum(axis=1) / fit.scale
    b, sigma = np.maximum(others.window, 0.0) / fit.scale, others.window_error / fit.scale
    usable = b > _FEWEST_EVENTS
    if usable.sum() < 2:
        return fit
    n, b, sigma = n[usable], b[usable], sigma[usable]
    variance = b + sigma**2
    pulls = (n - b) / np.sqrt(variance)
    p = float(stats.chi2.sf((pulls**2).sum(), len(pulls)))
    excess = float(((n - b) ** 2 - variance).sum() / (b**2).sum())
    tau = float(np.sqrt(max(excess, 0.0))) if p < _WIDENED else 0.0
    found = replace(fit, closure=Closure(tuple(float(pull) for pull in pulls), p, tau))
    if not tau:
        return found
    return _widened(found, low, high, tau)


def with_alternatives(fit: SpectrumFit, low: int, high: int) -> SpectrumFit:
    r"""The fit with the predictions of alternative functions for the bins ``low <= i < high``: warnings, on which no number depends.

    ``turn_on_spread``: a smooth function and a turn-on may describe the sidebands equally well and differ in the window, if it lies on the rise.
    Where the AIC of ``turn-on`` is not larger by 10 than that of the smooth functions, or these need a polynomial of degree five or more,
    and the predictions :math:`b`, :math:`b'` differ by more than their errors, it is :math:`|b' - b| / b`. It is not converted to an error: the
    flanks of a peak that is wider than the window look the same, and would hide it. Named functions of fewer than five parameters are
    not compared: where these describe the sidebands there is no turn-on in them.

    ``rough_spread``: the same for ``auto`` with more degrees (:func:`~serendip.statistics.functions.rougher`), where its AIC is smaller by
    more than 2 and its prediction differs by more than half of the errors: there is a structure that bends faster than ``auto`` may,
    such as a broad hump whose top is in the window. It may as well be a peak wider than the window.
    """
    return replace(
        fit, turn_on_spread=_turn_on_spread(fit, low, high), rough_spread=_rough_spread(fit, low, high)
    )


def _turn_on_spread(fit: SpectrumFit, low: int, high: int) -> float:
    if not fit.family.alternatives and fit.n_parameters < _PLAIN:
        return 0.0
    other = _refitted(fit, get_family("turn-on", 2.0 * float(fit.edges[-1])), ~fit.kept)
    if other is None or (_aic(other) - _aic(fit) > _SAME_AIC and fit.n_parameters < _WAVY):
        return 0.0
    return _spread(fit, other, low, high, 1.0)


def _rough_spread(fit: SpectrumFit, low: int, high: int) -> float:
    if _most_gain(fit) < _BETTER + 1e-6:
        return 0.0
    family = rougher(get_family("auto", gaps=fit.family.gaps))
    assert family is not None
    other = _refitted(fit, family, fit.mask)
    if other is None or not _aic(fit) - _aic(other) > _BETTER:
        return 0.0
    return _spread(fit, other, low, high, _APART)


def _refitted(fit: SpectrumFit, family: BackgroundFamily, mask: NDArray[np.bool_]) -> SpectrumFit | None:
    try:
        return fit_spectrum(
            fit.counts, fit.edges, family, mask=mask, scale=fit.scale, alpha=fit.alpha, choice="average"
        )
    except FitError:
        return None


def _aic(fit: SpectrumFit) -> float:
    return fit.deviance + 2.0 * fit.n_parameters


def _spread(fit: SpectrumFit, other: SpectrumFit, low: int, high: int, least: float) -> float:
    """Relative difference in the window; zero where it is not ``least`` times the errors."""
    (b, sigma), (b_other, sigma_other) = fit.window(low, high), other.window(low, high)
    if not (abs(b_other - b) > least * np.hypot(sigma, sigma_other) and b > 0):
        return 0.0
    return float(abs(b_other - b) / b)


def _most_gain(fit: SpectrumFit) -> float:
    r"""How much smaller the AIC of polynomials in the exponent may be, without a fit of them.

    Times :math:`e^{\sum_k c_k T_k}` the fitted function has a deviance smaller by the squared projection of the pulls
    :math:`(n - \mu) / \sqrt\mu` on :math:`\sqrt\mu\, T_k`, to first order in :math:`c`.
    """
    keep, centre = fit.kept, 0.5 * (fit.edges[1:] + fit.edges[:-1])
    mu = np.maximum(fit.expected[keep] / fit.scale, 1e-9)
    pull, most = (fit.counts[keep] / fit.scale - mu) / np.sqrt(mu), -np.inf
    for x in (centre, np.log(centre)):
        u = 2.0 * (x - x[0]) / (x[-1] - x[0]) - 1.0
        q, _ = np.linalg.qr(np.sqrt(mu)[:, None] * chebyshev.chebvander(u, AUTO_DEGREES[-1])[keep])
        gain = np.cumsum((pull @ q) ** 2)[AUTO_DEGREES[0] :] - 2.0 * (np.array(AUTO_DEGREES) + 1.0)
        most = max(most, float(gain.max()))
    return most + 2.0 * fit.n_parameters


def _widened(fit: SpectrumFit, low: int, high: int, relative: float) -> SpectrumFit:
    """One more direction: the expectation of the whole window goes up or down by a relative error."""
    bins = np.arange(len(fit.mask))
    window = (bins >= low) & (bins < high)
    jacobian = np.hstack([fit.jacobian, np.where(window, fit.expected, 0.0)[:, None]])
    covariance = linalg.block_diag(fit.coefficient_covariance, np.array([[relative**2]]))
    error = np.where(window, np.hypot(fit.expected_error, relative * fit.expected), fit.expected_error)
    return replace(fit, jacobian=jacobian, coefficient_covariance=covariance, expected_error=error)
