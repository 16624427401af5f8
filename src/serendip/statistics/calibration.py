r"""p-values from a measured null distribution: background-only experiments of the whole chain.

Counts of folds that share training data are not independent, so the sum over all folds is not a Poisson count and its naive significance not a standard normal variable. Experiments that repeat the whole chain on background measure its distribution instead. With :math:`k` of :math:`N` experiments at or above the observation,

.. math:: p = \frac{k + 1}{N + 1},

which holds whatever the distribution is. Beyond the largest experiment this is only a bound. There the upper half of
the null distribution is described by a normal one, :math:`Z_\mathrm{cal} = a Z + b`, if a test of its tail allows that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from serendip.errors import InputError
from serendip.statistics.pvalues import toy_p_value, z_value

__all__ = ["CalibratedP", "NullDistribution", "TailFit", "cross_calibrated", "fit_upper_half"]

Array = NDArray[np.float64]

_MIN_EXPERIMENTS = 20
_MIN_FOR_TAIL = 100
_TAIL_ALARM = 0.05
_TAIL_TOYS = 199


@dataclass(frozen=True)
class TailFit:
    r"""The line :math:`Z_\mathrm{cal} = a Z + b` that makes the upper half of a null distribution standard normal.

    Attributes
    ----------
    slope, intercept
        ``a`` and ``b``; ``1 / a**2`` is the inflation of the variance.
    covariance
        Of slope and intercept, shape ``(2, 2)``.
    statistic
        Upper-tail Anderson-Darling distance of the values above the median from the normal distribution.
    p
        Its p-value by toys that repeat the fit; small: the tail is not that of a normal distribution.
    """

    slope: float
    intercept: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    statistic: float
    p: float

    @property
    def inflation(self) -> tuple[float, float]:
        """Variance of the naive significance under the null, and its error."""
        return self.slope**-2, 2.0 * self.slope**-3 * float(np.sqrt(self.covariance[0][0]))

    def line(self, z: float) -> tuple[float, float]:
        """Calibrated significance and its error from the finite number of experiments."""
        gradient = np.array([z, 1.0])
        return self.slope * z + self.intercept, float(
            np.sqrt(gradient @ np.array(self.covariance) @ gradient)
        )


@dataclass(frozen=True)
class CalibratedP:
    """A p-value by a null distribution.

    Attributes
    ----------
    p, z
        Calibrated p-value and its significance.
    z_interval_68
        From the finite number of experiments: that of ``k / N`` (without upper end if ``k = 0``), or that of the
        line for an extrapolation.
    z_naive
        Significance before the calibration.
    n_reached, n_experiments
        ``k`` and ``N``.
    extrapolated
        True if no experiment reached the observation and ``p`` is that of the line.
    """

    p: float
    z: float
    z_interval_68: tuple[float, float]
    z_naive: float
    n_reached: int
    n_experiments: int
    extrapolated: bool


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """Naive significances of background-only experiments.

    Parameters
    ----------
    z
        Signed, shape ``(n_experiments,)``.

    Raises
    ------
    InputError
        If there are fewer than 20, or one is not a number.
    """

    z: Array

    def __post_init__(self) -> None:
        z = np.asarray(self.z, dtype=float)
        if z.ndim != 1 or len(z) < _MIN_EXPERIMENTS or np.isnan(z).any():
            raise InputError(
                f"a calibration needs the significances of at least {_MIN_EXPERIMENTS} experiments, all numbers; "
                f"found {np.count_nonzero(~np.isnan(z))} of {z.size}"
            )
        object.__setattr__(self, "z", z)

    @cached_property
    def tail(self) -> TailFit | None:
        """The line for the tail; None with fewer than 100 experiments, or if their tail is not a normal one (p < 0.05)."""
        if len(self.z) < _MIN_FOR_TAIL:
            return None
        fit = fit_upper_half(self.z)
        return None if fit is None or fit.p < _TAIL_ALARM else fit

    def p_value(self, z: float) -> CalibratedP:
        r"""Calibrated p-value of an observed naive significance.

        If no experiment reached it and :attr:`tail` exists,

        .. math:: Z_\mathrm{cal} \to \frac{a Z + b}{\sqrt{1 + \sigma^2(a Z + b)}},

        the significance of a prediction by a line with error :math:`\sigma`. It is at most the naive one and at
        least that of ``1/(N + 1)``.
        """
        n = len(self.z)
        # equal counts give equal significances up to rounding; a tie counts as reached
        reached = int(np.count_nonzero(self.z >= z - 1e-9 * max(1.0, abs(z))))
        p, interval = toy_p_value(reached, n)
        low, high = (float(z_value(edge)) for edge in reversed(interval))
        found = float(z_value(p))
        if reached or self.tail is None:
            return CalibratedP(p, found, (low, high), z, reached, n, extrapolated=False)
        value, error = self.tail.line(z)
        value = max(min(value / float(np.sqrt(1.0 + error**2)), z), found)
        return CalibratedP(
            p=float(stats.norm.sf(value)), z=value, z_interval_68=(value - error, value + error),
            z_naive=z, n_reached=0, n_experiments=n, extrapolated=True,
        )  # fmt: skip


def fit_upper_half(z: ArrayLike) -> TailFit | None:
    r"""Maximum likelihood of a normal distribution for the values above the median; of those below only the number counts.

    Values below the median carry no information about excesses, and counts near zero give p = 1 there. In
    :math:`a = 1/\sigma` and :math:`b = -\mu/\sigma` the likelihood of the censored sample,

    .. math:: \ln L = \sum_{z_i \ge c} \left[\ln a - \tfrac12 (a z_i + b)^2\right] + n_{<c} \ln \Phi(a c + b),

    is concave (Olsen, Econometrica 46 (1978) 1211), and Newton's method finds its maximum. The distance from the normal
    distribution, with :math:`u` the fraction of its upper part below a value, is

    .. math:: A_U^2 = \frac{n}{2} - 2 \sum_i u_i - \sum_i \left(2 - \frac{2 i - 1}{n}\right) \ln (1 - u_i)

    (Sinclair, Spurr, Ahmad, Commun. Stat. 19 (1990) 3677).

    Parameters
    ----------
    z
        Significances, shape ``(n,)``.

    Returns
    -------
    None if the values above the median do not differ.
    """
    values = np.asarray(z, dtype=float)
    line = _upper_line(values)
    if line is None:
        return None
    (slope, intercept), covariance, statistic = line
    toys = _statistics_of_normal_samples(len(values))
    p, _ = toy_p_value(int(np.count_nonzero(toys >= statistic)), len(toys))
    return TailFit(
        slope=float(slope),
        intercept=float(intercept),
        covariance=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        statistic=statistic,
        p=p,
    )


@lru_cache(maxsize=32)
def _statistics_of_normal_samples(n: int) -> Array:
    """The distance of normal samples from their own fits; neither mean nor width of the samples matters."""
    rng = np.random.default_rng([n, 0xA4D])
    lines = (_upper_line(rng.standard_normal(n)) for _ in range(_TAIL_TOYS))
    return np.array([line[2] for line in lines if line is not None])


def _upper_line(values: Array) -> tuple[Array, Array, float] | None:
    """Slope and intercept, their covariance, and the distance."""
    cut = float(np.median(values))
    upper = np.sort(values[values >= cut])
    n, below = len(upper), len(values) - len(upper)
    # rounding apart, equal counts have equal significances
    if not np.ptp(upper) > 1e-9 * max(1.0, abs(cut)):
        return None
    # in units of the sample, so that steps and precision do not depend on its scale
    unit = float(np.sqrt(np.mean((upper - cut) ** 2)))
    x = (upper - cut) / unit
    theta, hessian = np.array([1.0, 0.0]), np.eye(2)
    edge = np.array([0.0, 1.0])
    for _ in range(100):
        a, b = theta
        residual = a * x + b
        mills = float(np.exp(-0.5 * b**2 - special.log_ndtr(b))) / np.sqrt(2 * np.pi)
        gradient = np.array([n / a - residual @ x, -residual.sum()]) + below * mills * edge
        hessian = np.array([[n / a**2 + x @ x, x.sum()], [x.sum(), float(n)]])
        hessian += below * mills * (mills + b) * np.outer(edge, edge)
        step = np.linalg.solve(hessian, gradient)
        # a must stay positive; the likelihood is concave, so that a shorter step still climbs
        theta = theta + step * min(1.0, 0.5 * a / max(abs(step[0]), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    log_above = special.log_ndtr(-(theta[0] * x + theta[1])) - special.log_ndtr(-theta[1])
    i = np.arange(1, n + 1)
    u = -np.expm1(log_above)
    statistic = float(n / 2 - 2 * u.sum() - ((2 - (2 * i - 1) / n) * log_above).sum())
    back = np.array([[1 / unit, 0.0], [-cut / unit, 1.0]])
    return back @ theta, back @ np.linalg.inv(hessian) @ back.T, statistic


def cross_calibrated(z: ArrayLike, groups: int = 5) -> Array:
    """p-values of experiments, each calibrated by the experiments of the other groups: the quality of a calibration.

    Parameters
    ----------
    z
        Naive significances, shape ``(n,)``.
    groups
        Experiment ``i`` is in group ``i mod groups``.

    Returns
    -------
    Shape ``(n,)``.
    """
    values = np.asarray(z, dtype=float)
    group = np.arange(len(values)) % groups
    out = np.empty(len(values))
    for g in range(groups):
        null = NullDistribution(values[group != g])
        out[group == g] = [null.p_value(float(value)).p for value in values[group == g]]
    return out
