r"""Discovery and intervals of a signal strength.

With :math:`\lambda(\mu) = -2\ln[L(\mu, \hat{\hat\theta}) / L(\hat\mu, \hat\theta)]` (arXiv:1007.1727):

* discovery, :math:`q_0 = \lambda(0)` if :math:`\hat\mu > 0`, else 0. The significance quoted is signed,
  :math:`Z = \mathrm{sign}(\hat\mu)\sqrt{\lambda(0)}`, so that p-values of background-only data are uniform over 0 ... 1;
* intervals, the values of :math:`\mu` with :math:`\lambda(\mu)` below the quantile of :math:`\chi^2_1` (as in MINOS).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from serendip.statistics.fit import FitError, deviance
from serendip.statistics.model import BinnedModel, ModelFits
from serendip.statistics.order import choose_order
from serendip.statistics.pvalues import toy_p_value, z_value

__all__ = [
    "discovery_z",
    "expected_z",
    "interval",
    "likelihood_ratio",
    "near_best",
    "simplest",
    "toy_discovery",
]

Array = NDArray[np.float64]

_REACH = 60

# Expected significances below the one are mu / error, those above the other mean nothing.
_LINEAR = 0.03
_OVERWHELMING = 40.0


def likelihood_ratio(
    model: BinnedModel, counts: ArrayLike, mu: ArrayLike, best: ModelFits, auxiliary: Array | None = None
) -> Array:
    """``-2 ln [L(mu) / L(best)]`` of many data sets, shape ``(t,)``; not below zero.

    Parameters
    ----------
    model
        The model.
    counts
        Data sets, shape ``(t, n_bins)`` or ``(n_bins,)``.
    mu
        Tested signal strength, a number or shape ``(t,)``.
    best
        Their fits with the signal strength free.
    auxiliary
        Auxiliary measurements, shape ``(t, k)``.
    """
    member = None if model.choice == "envelope" else best.member
    fixed = model.fit(counts, mu, member=member, auxiliary=auxiliary)
    return np.maximum(fixed.deviance - best.deviance, 0.0)


def discovery_z(model: BinnedModel, counts: ArrayLike, auxiliary: Array | None = None) -> Array:
    """Signed significance of a signal in many data sets, shape ``(t,)``."""
    best = model.fit(counts, auxiliary=auxiliary)
    ratio = likelihood_ratio(model, counts, 0.0, best, auxiliary)
    return np.asarray(np.sign(best.mu) * np.sqrt(ratio))


def interval(model: BinnedModel, counts: ArrayLike, level: float = 0.6827) -> tuple[float, float]:
    r"""Values of the signal strength with :math:`\lambda(\mu)` below the ``level`` quantile of chi-square with one degree.

    Parameters
    ----------
    model
        The model.
    counts
        One data set, shape ``(n_bins,)``.
    level
        Requested coverage.

    Raises
    ------
    FitError
        If an end is not found within sixty standard deviations.
    """
    threshold = float(stats.chi2.ppf(level, 1))
    model, best = near_best(model, counts, threshold)
    low, high = (_crossing(model, counts, best, threshold, sign) for sign in (-1.0, 1.0))
    return low, high


def near_best(model: BinnedModel, counts: ArrayLike, threshold: float) -> tuple[BinnedModel, ModelFits]:
    """The model with those backgrounds that reach the threshold of one data set at some signal strength, and its best fit.

    A background of an envelope whose best fit is worse than the best of all by more than the threshold is never within it.
    """
    if model.choice != "envelope" or len(model.members) == 1:
        return model, model.fit(counts)
    each = model.fit_each(counts)
    deviances = np.array([fit.deviance[0] for fit in each])
    near = np.flatnonzero(deviances <= deviances.min() + threshold)
    best = each[int(np.argmin(deviances))]
    return model.restricted(near), replace(best, member=np.searchsorted(near, best.member))


def simplest(model: BinnedModel, counts: ArrayLike) -> BinnedModel:
    """The model with the backgrounds of each family up to one order above the one that tests choose for one data set.

    Larger ones describe nothing in these data, and each would be fitted again at every strength and in every toy.

    Parameters
    ----------
    model
        Signal and background; without an envelope it stays as it is.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    """
    if model.choice != "envelope" or len(model.members) == 1:
        return model
    fits = model.fit_each(counts)
    kept: list[int] = []
    for design in sorted({d for d, _, _ in model.members}):
        index = [k for k, (d, _, _) in enumerate(model.members) if d == design]
        sizes = [model.members[k][1] for k in index]
        deviances = [fits[k].deviance - p for k, p in zip(index, sizes, strict=True)]
        kept += index[: int(choose_order(deviances, sizes, model.alpha)[0]) + 2]
    return model.restricted(kept)


def _crossing(model: BinnedModel, counts: ArrayLike, best: ModelFits, threshold: float, sign: float) -> float:
    def excess(distance: float) -> float:
        mu = best.mu[0] + sign * distance
        return float(likelihood_ratio(model, counts, mu, best)[0]) - threshold

    step = float(best.mu_error[0])
    near, far = 0.0, step * np.sqrt(threshold)
    while excess(far) < 0:
        near, far = far, 1.6 * far
        if far > _REACH * step:
            raise FitError(
                "the likelihood of the signal strength does not fall off: the bins do not constrain this signal"
            )
    root = optimize.brentq(excess, near, far, xtol=1e-4 * step, rtol=1e-6)
    return float(best.mu[0] + sign * root)


def expected_z(model: BinnedModel, counts: ArrayLike, mu: float = 1.0) -> float | None:
    """Median significance that a signal of strength ``mu`` would have (Asimov data over the fitted background).

    None if the signal is some 40 standard deviations or more.
    """
    background = model.fit(counts, 0.0)
    auxiliary = background.nuisance
    # a polynomial may be negative in empty bins
    null = np.maximum(background.expected[0], 0.0)

    def fitted(asimov: Array) -> ModelFits:
        return model.fit(asimov, member=background.member, auxiliary=auxiliary)

    linear = mu / float(fitted(null).mu_error[0])
    if abs(linear) < _LINEAR:
        return linear
    asimov = null + mu * model.signal * model.scale
    # with the background known, which no fit surpasses
    most = np.sqrt(deviance(asimov[model.keep], null[model.keep]) / model.scale)
    if most > _OVERWHELMING:
        return None
    return float(np.sqrt(likelihood_ratio(model, asimov, 0.0, fitted(asimov), auxiliary)[0]))


def toy_discovery(
    model: BinnedModel, counts: ArrayLike, n_toys: int, rng: np.random.Generator
) -> tuple[float, float, tuple[float, float]]:
    """p-value and significance of an excess from background-only toys, choice of the background included.

    Needed below about ten events, where the asymptotic form fails.

    Returns
    -------
    p, z
        ``(k + 1) / (n + 1)`` and its significance.
    interval
        68 % Clopper-Pearson interval of ``k / n``.
    """
    observed = float(discovery_z(model, counts)[0])
    null = model.fit(counts, 0.0)
    toys = model.sample(null.expected[0], n_toys, rng)
    auxiliary = null.nuisance[0] + rng.standard_normal((n_toys, null.nuisance.shape[1]))
    reached = discovery_z(model, toys, auxiliary) >= observed - 1e-9
    p, p_interval = toy_p_value(int(np.count_nonzero(reached)), n_toys)
    return p, float(z_value(p)), p_interval
