"""Does the function describe the spectrum? Toys that repeat the fit and the choice of its order.

``SpectrumFit.gof_p`` answers the same question at once, with a scaled chi-square instead of toys; the two agree to the
accuracy of the table in ``docs/statistics.md``. Runs and cumulative residuals are sensitive to effects that the deviance, a sum of squares, misses: small residuals of one sign next to each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from serendip.errors import InputError
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.many import fit_many
from serendip.statistics.order import deviance
from serendip.statistics.pvalues import toy_p_value

__all__ = ["GoodnessOfFit", "ToyTest", "goodness_of_fit", "pulls"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ToyTest:
    """A statistic of the data against its distribution in toys.

    Attributes
    ----------
    value
        The statistic of the data.
    p
        ``(k + 1) / (n + 1)`` for ``k`` of ``n`` toys at least as extreme: small for a poor fit.
    p_interval_68
        Clopper-Pearson interval of ``k / n``.
    n_reached, n_toys
        ``k`` and ``n``.
    """

    value: float
    p: float
    p_interval_68: tuple[float, float]
    n_reached: int
    n_toys: int


@dataclass(frozen=True)
class GoodnessOfFit:
    """Three tests of one fit.

    Attributes
    ----------
    deviance
        Deviance against the saturated model: any misfit.
    runs
        Number of runs of residuals of one sign; few of them are a misfit (Wald and Wolfowitz).
    cumulative
        Largest sum of residuals up to any bin, in units of the root of all events (Kolmogorov and Smirnov): slow waves.
    moment_p
        ``gof_p`` of the fit, without toys.
    """

    deviance: ToyTest
    runs: ToyTest
    cumulative: ToyTest
    moment_p: float

    def to_dict(self) -> dict[str, Any]:
        """The tests as plain numbers for JSON."""
        return asdict(self) | {"moment_p": self.moment_p if np.isfinite(self.moment_p) else None}


def pulls(fit: SpectrumFit) -> Array:
    """Signed square root of each bin's deviance, NaN in masked bins, shape ``(n_bins,)``."""
    mu, n = fit.expected / fit.scale, fit.counts / fit.scale
    out = np.sign(n - mu) * np.sqrt(2.0 * special.kl_div(n, mu))
    return np.where(fit.kept, out, np.nan)


def goodness_of_fit(fit: SpectrumFit, n_toys: int, rng: np.random.Generator) -> GoodnessOfFit:
    r"""Compare a fit with fits of toys drawn from it.

    Every toy repeats the whole procedure: the choice of the order and the fit outside the mask. Toys are Poisson counts
    around the fitted expectation, so the p-values are those of a parametric bootstrap. With expected counts
    :math:`\mu_i` and observed :math:`n_i` the statistics are

    .. math::

        D = 2 \sum_i \mu_i - n_i + n_i \ln(n_i/\mu_i), \qquad
        R = 1 + \#\{i: \mathrm{sign}(n_i - \mu_i) \ne \mathrm{sign}(n_{i+1} - \mu_{i+1})\}, \qquad
        K = \max_k \Bigl|\sum_{i \le k} n_i - \mu_i\Bigr| \Big/ \sqrt{\textstyle\sum_i \mu_i}.

    Parameters
    ----------
    fit
        The fit of the data.
    n_toys
        Number of toys; p-values below ``1 / (n_toys + 1)`` cannot be distinguished.
    rng
        Random numbers.

    Raises
    ------
    FitError
        If a toy has no minimum.
    InputError
        If there are no toys, no events, or no more bins than parameters.
    """
    if n_toys < 1:
        raise InputError(f"a goodness of fit needs at least one toy, not {n_toys}")
    keep = fit.kept
    mean = fit.expected[keep] / fit.scale
    if not mean.sum() > 0:
        raise InputError("a goodness of fit needs at least one event")
    if fit.n_dof < 1:
        raise InputError(
            f"{int(keep.sum())} bins and {fit.n_parameters} parameters leave no degree of freedom; use more bins"
        )
    toys = np.zeros((n_toys, len(keep)))
    toys[:, keep] = rng.poisson(mean, (n_toys, len(mean)))
    refitted = fit_many(
        toys, fit.edges, fit.family, mask=fit.mask, offset=fit.offset, alpha=fit.alpha, choice=fit.choice
    )
    data = _statistics(fit.counts[None, keep] / fit.scale, mean[None])
    null = _statistics(toys[:, keep], refitted.expected[:, keep])
    # few runs are the misfit, not many
    runs = replace(_compare(-data[1], -null[1]), value=float(data[1][0]))
    return GoodnessOfFit(_compare(data[0], null[0]), runs, _compare(data[2], null[2]), fit.gof_p)


def _statistics(n: Array, mu: Array) -> tuple[Array, Array, Array]:
    """Deviance, runs and largest cumulative residual of each row."""
    mu = np.maximum(mu, 0.0)
    residual = n - mu
    positive = residual > 0
    runs = 1.0 + np.count_nonzero(positive[:, 1:] != positive[:, :-1], axis=1)
    total = np.sqrt(np.maximum(mu.sum(axis=1), 1e-300))
    return deviance(n, np.maximum(mu, 1e-300)), runs, np.abs(np.cumsum(residual, axis=1)).max(axis=1) / total


def _compare(value: Array, toys: Array) -> ToyTest:
    observed = float(value[0])
    # equal values of a discrete statistic differ by rounding only
    reached = int(np.count_nonzero(toys >= observed - 1e-6 * (1.0 + abs(observed))))
    p, interval = toy_p_value(reached, len(toys))
    return ToyTest(observed, p, interval, reached, len(toys))
