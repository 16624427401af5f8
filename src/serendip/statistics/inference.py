r"""Discovery and intervals of a signal strength.

With :math:`\lambda(\mu) = -2\ln[L(\mu, \hat{\hat\theta}) / L(\hat\mu, \hat\theta)]` (arXiv:1007.1727):

* discovery, :math:`q_0 = \lambda(0)` if :math:`\hat\mu > 0`, else 0. The significance quoted is signed,
  :math:`Z = \mathrm{sign}(\hat\mu)\sqrt{\lambda(0)}`, so that p-values of background-only data are uniform over 0 ... 1;
* intervals, the values of :math:`\mu` with :math:`\lambda(\mu)` below the quantile of :math:`\chi^2_1` (what MINOS finds).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from serendip.statistics.fit import FitError
from serendip.statistics.model import BinnedModel, ModelFits
from serendip.statistics.pvalues import toy_p_value, z_value

__all__ = [
    "SignalFit",
    "discovery_z",
    "expected_z",
    "fit_signal",
    "interval",
    "likelihood_ratio",
    "toy_discovery",
]

Array = NDArray[np.float64]

_REACH = 60


@dataclass(frozen=True, eq=False)
class SignalFit:
    """A fitted signal.

    Attributes
    ----------
    mu, mu_error
        Signal strength and its symmetric error.
    interval_68, interval_95
        Likelihood intervals; the lower end may be negative.
    p, z
        One-sided p-value of background alone, asymptotic, and the signed significance.
    expected_z
        Median significance of signal strength one: Asimov data.
    background
        Name of the background function.
    nuisance
        Fitted nuisance parameters in standard deviations, by name.
    expected, background_counts
        Per bin with and without signal, in the units of the data, shape ``(n_bins,)``.
    """

    mu: float
    mu_error: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    p: float
    z: float
    expected_z: float
    background: str
    nuisance: dict[str, float]
    expected: Array
    background_counts: Array

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers for JSON."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
        }


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
        Coverage wanted.

    Raises
    ------
    FitError
        If an end is not found within sixty standard deviations.
    """
    best = model.fit(counts)
    threshold = float(stats.chi2.ppf(level, 1))
    low, high = (_crossing(model, counts, best, threshold, sign) for sign in (-1.0, 1.0))
    return low, high


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


def expected_z(model: BinnedModel, counts: ArrayLike, mu: float = 1.0) -> float:
    """Median significance that a signal of strength ``mu`` would have (Asimov data over the fitted background)."""
    background = model.fit(counts, 0.0)
    asimov = background.expected[0] + mu * model.signal * model.scale
    auxiliary = background.nuisance
    best = model.fit(asimov, member=background.member, auxiliary=auxiliary)
    return float(np.sqrt(likelihood_ratio(model, asimov, 0.0, best, auxiliary)[0]))


def fit_signal(model: BinnedModel, counts: ArrayLike) -> SignalFit:
    """Fit one data set.

    Parameters
    ----------
    model
        Signal and background.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.

    Raises
    ------
    FitError
        If there is no minimum, or the likelihood does not constrain the signal.
    """
    best = model.fit(counts)
    z = float(np.sign(best.mu[0]) * np.sqrt(likelihood_ratio(model, counts, 0.0, best)[0]))
    return SignalFit(
        mu=float(best.mu[0]),
        mu_error=float(best.mu_error[0]),
        interval_68=interval(model, counts, 0.6827),
        interval_95=interval(model, counts, 0.95),
        p=float(stats.norm.sf(z)),
        z=z,
        expected_z=expected_z(model, counts),
        background=model.members[int(best.member[0])][2],
        nuisance=dict(zip(model.nuisances, best.nuisance[0].tolist(), strict=True)),
        expected=best.expected[0],
        background_counts=best.background[0],
    )


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
