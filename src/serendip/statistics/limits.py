r"""Upper limits on a signal strength: CLs with the test statistic :math:`\tilde q_\mu` (arXiv:1007.1727, physics/9902006).

.. math:: \tilde q_\mu = \begin{cases}
    -2\ln L(\mu)/L(0) & \hat\mu < 0\\ -2\ln L(\mu)/L(\hat\mu) & 0 \le \hat\mu \le \mu\\ 0 & \hat\mu > \mu
    \end{cases}, \qquad \mathrm{CL_s} = \frac{p_\mu}{1 - p_b}

The limit is the strength with CLs = 1 - level. Asymptotic distributions by default; toys for few events.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from serendip.errors import InputError
from serendip.statistics.fit import FitError
from serendip.statistics.inference import likelihood_ratio
from serendip.statistics.model import BinnedModel, ModelFits

__all__ = ["BANDS", "ClsPoint", "UpperLimit", "cls_asymptotic", "cls_toys", "q_tilde", "upper_limit"]

Array = NDArray[np.float64]

_NO_LIMIT = "no upper limit was found: CLs does not fall; the data do not constrain this signal"

BANDS = (-2, -1, 0, 1, 2)
"""Quantiles of background-only data, in standard deviations, for which expected limits are quoted."""


@dataclass(frozen=True)
class ClsPoint:
    """CLs of one tested signal strength, from toys.

    Attributes
    ----------
    mu
        The tested signal strength.
    observed
        CLs of the data.
    expected
        CLs at the :data:`BANDS` of background-only data.
    error
        Standard error of ``observed`` from the number of toys.
    """

    mu: float
    observed: float
    expected: tuple[float, ...]
    error: float


@dataclass(frozen=True)
class UpperLimit:
    """An upper limit on the signal strength.

    Attributes
    ----------
    observed
        The limit.
    expected
        Limits at the :data:`BANDS` of background-only data; the third is the median.
    level
        Confidence level.
    method
        ``"asymptotic"`` or ``"toys, n=N"``.
    """

    observed: float
    expected: tuple[float, ...]
    level: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """The limit as plain numbers for JSON."""
        return asdict(self) | {"expected": list(self.expected), "bands": list(BANDS)}


def q_tilde(
    model: BinnedModel,
    counts: ArrayLike,
    mu: float,
    best: ModelFits | None = None,
    auxiliary: Array | None = None,
) -> Array:
    r"""Test statistic :math:`\tilde q_\mu` of many data sets, shape ``(t,)``.

    Parameters
    ----------
    model, counts, auxiliary
        As in :func:`~serendip.statistics.inference.likelihood_ratio`.
    mu
        Tested signal strength.
    best
        Their fits with the signal strength free, if they are known.
    """
    if best is None:
        best = model.fit(counts, auxiliary=auxiliary)
    q = likelihood_ratio(model, counts, mu, best, auxiliary)
    below = best.mu < 0
    if below.any():
        q = np.where(below, q - likelihood_ratio(model, counts, 0.0, best, auxiliary), q)
    return np.where(best.mu > mu, 0.0, np.maximum(q, 0.0))


class _Asymptotic:
    """Asymptotic CLs of many data sets; the fits that do not depend on the tested strength are made once."""

    def __init__(self, model: BinnedModel, counts: ArrayLike) -> None:
        self.model, self.counts = model, counts
        self.best = model.fit(counts)
        member = None if model.choice == "envelope" else self.best.member
        null = model.fit(counts, 0.0, member=member)
        # background-only Asimov data, with the parameters that fit the data
        self.asimov, self.auxiliary = null.expected, null.nuisance
        self.asimov_best = model.fit(self.asimov, member=member, auxiliary=self.auxiliary)

    def at(self, mu: float) -> tuple[Array, Array]:
        """CLs of each data set, shape ``(t,)``, and expected at the bands, ``(t, 5)``."""
        if not mu > 0:
            msg = f"CLs is tested at signal strengths above zero, not {mu}"
            raise ValueError(msg)
        root, root_a = np.sqrt(q_tilde(self.model, self.counts, mu, self.best)), self.sensitivity(mu)
        # beyond the boundary (mu-hat < 0) the statistic is linear in mu-hat, not quadratic
        t = np.where(root <= root_a, root - root_a, (root**2 - root_a**2) / (2 * root_a))
        # ratio of tails through logarithms: both can underflow
        observed = np.exp(stats.norm.logsf(t + root_a) - stats.norm.logsf(t))
        n = np.array(BANDS)
        expected = np.exp(stats.norm.logsf(root_a[:, None] - n) - stats.norm.logsf(-n))
        return observed, expected

    def sensitivity(self, mu: float) -> Array:
        """Root of the test statistic of the background-only Asimov data, shape ``(t,)``."""
        ratio = likelihood_ratio(self.model, self.asimov, mu, self.asimov_best, self.auxiliary)
        return np.asarray(np.sqrt(np.maximum(ratio, 1e-24)))


def cls_asymptotic(model: BinnedModel, counts: ArrayLike, mu: float) -> tuple[Array, Array]:
    r"""CLs of many data sets from the asymptotic distributions of :math:`\tilde q_\mu`.

    Parameters
    ----------
    model, counts
        As in :func:`~serendip.statistics.inference.likelihood_ratio`.
    mu
        Tested signal strength, above zero.

    Returns
    -------
    observed
        Shape ``(t,)``.
    expected
        At the :data:`BANDS` of background-only data, shape ``(t, 5)``.
    """
    return _Asymptotic(model, counts).at(mu)


def cls_toys(
    model: BinnedModel, counts: ArrayLike, mu: float, n_toys: int, rng: np.random.Generator
) -> ClsPoint:
    r"""CLs from toys with and without signal; nuisance parameters as fitted to the data, auxiliary data redrawn.

    Parameters
    ----------
    model
        The model.
    counts
        One data set, shape ``(n_bins,)``.
    mu
        Tested signal strength, above zero.
    n_toys
        Toys of each kind.
    rng
        Source of randomness.
    """
    observed = float(q_tilde(model, counts, mu)[0])
    statistic = []
    for strength in (mu, 0.0):
        truth = model.fit(counts, strength)
        toys = model.sample(truth.expected[0], n_toys, rng)
        auxiliary = truth.nuisance[0] + rng.standard_normal((n_toys, truth.nuisance.shape[1]))
        statistic.append(q_tilde(model, toys, mu, auxiliary=auxiliary))
    with_signal, without = (np.sort(values) for values in statistic)

    def tails(q: float) -> tuple[float, float]:
        slack = 1e-9 * (1 + q)
        return tuple(
            (n_toys - int(np.searchsorted(v, q - slack)) + 1) / (n_toys + 1) for v in (with_signal, without)
        )  # type: ignore[return-value]

    p_signal, p_background = tails(observed)
    error = float(
        p_signal
        / p_background
        * np.sqrt((1 - p_signal) / (p_signal * n_toys) + (1 - p_background) / (p_background * n_toys))
    )
    # a larger statistic is less signal-like: the quantile +n of the limit is the quantile -n of the statistic
    quantiles = np.quantile(without, stats.norm.cdf([-n for n in BANDS]), method="inverted_cdf")
    expected = []
    for q in quantiles:
        a, b = tails(float(q))
        expected.append(min(1.0, a / b))
    return ClsPoint(mu, min(1.0, p_signal / p_background), tuple(expected), error)


def upper_limit(
    model: BinnedModel,
    counts: ArrayLike,
    *,
    level: float = 0.95,
    n_toys: int | None = None,
    rng: np.random.Generator | None = None,
) -> UpperLimit:
    """Upper limit on the signal strength, observed and expected.

    Parameters
    ----------
    model
        Signal and background.
    counts
        One data set, shape ``(n_bins,)``.
    level
        Confidence level.
    n_toys
        Use so many toys at each tested strength; default: asymptotic. Advisable below about ten expected events.
    rng
        Source of randomness for toys.

    Raises
    ------
    InputError
        If the level is not between 0 and 1, or there are too few toys for it.
    FitError
        If no limit is found.
    """
    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, not {level:g}")
    alpha = 1 - level
    asymptotic = _Asymptotic(model, counts)
    scale = float(asymptotic.asimov_best.mu_error[0])
    observed = _observed_limit(asymptotic, alpha, 2 * scale + max(0.0, float(asymptotic.best.mu[0])))
    expected = _expected_limits(asymptotic, alpha, scale)
    if n_toys is None:
        return UpperLimit(observed, expected, level, "asymptotic")
    if n_toys < 10 / alpha:
        raise InputError(
            f"{n_toys} toys are too few for a {level:.0%} limit; at least {10 / alpha:.0f} are needed"
        )
    rng = np.random.default_rng(0) if rng is None else rng
    grid = np.geomspace(0.35 * min(observed, expected[0]), 2.2 * max(observed, expected[-1]), 14)
    points = [cls_toys(model, counts, float(mu), n_toys, rng) for mu in grid]
    return UpperLimit(
        _toy_crossing(grid, [p.observed for p in points], alpha),
        tuple(_toy_crossing(grid, [p.expected[i] for p in points], alpha) for i in range(len(BANDS))),
        level,
        f"toys, n={n_toys}",
    )


def _observed_limit(asymptotic: _Asymptotic, alpha: float, guess: float) -> float:
    def cls(mu: float) -> float:
        return float(asymptotic.at(mu)[0][0])

    low, high = 0.0, guess
    while cls(high) > alpha:
        low, high = high, 1.7 * high
        if high > 1e6 * guess:
            raise FitError(_NO_LIMIT)
    low = max(low, 1e-3 * high)
    while cls(low) < alpha:
        low *= 0.1
    return float(optimize.toms748(lambda mu: np.log(cls(mu) / alpha), low, high, rtol=1e-4, xtol=1e-6 * low))


def _expected_limits(asymptotic: _Asymptotic, alpha: float, scale: float) -> tuple[float, ...]:
    r"""Strengths at which :math:`\sqrt{q_\mu}` of the Asimov data has the value of each band, almost proportional to the strength.

    With :math:`\Phi(n - \sqrt q) / \Phi(n) = \alpha` at the band :math:`n`, it is :math:`n + \Phi^{-1}(1 - \alpha \Phi(n))`.
    """
    bands = np.array(BANDS)
    wanted = bands + stats.norm.isf(alpha * stats.norm.cdf(bands))
    out, guess = [], scale * float(wanted[0])
    for i, root in enumerate(wanted):
        guess *= float(root / wanted[i - 1]) if i else 1.0
        start = float(np.log(guess))
        x, found = optimize.newton(
            lambda x, root=root: float(np.log(asymptotic.sensitivity(float(np.exp(x)))[0] / root)),
            start, x1=start + 0.03, tol=1e-5, maxiter=40, full_output=True, disp=False,
        )  # fmt: skip
        if not (found.converged and np.isfinite(x)):
            raise FitError(_NO_LIMIT)
        guess = float(np.exp(x))
        out.append(guess)
    return tuple(out)


def _toy_crossing(grid: Array, values: list[float], alpha: float) -> float:
    """Where CLs of toys last leaves ``alpha``: straight in ln CLs between tested strengths.

    Raises
    ------
    FitError
        If the tested strengths do not bracket the limit.
    """
    cls = np.log(np.maximum(values, 1e-300))
    above = np.flatnonzero(cls > np.log(alpha))
    if not len(above) or above[-1] == len(grid) - 1:
        raise FitError("the toys do not bracket the upper limit; use more toys, or the asymptotic limit")
    i = int(above[-1])
    share = (cls[i] - np.log(alpha)) / (cls[i] - cls[i + 1])
    return float(np.exp(np.log(grid[i]) + share * np.log(grid[i + 1] / grid[i])))
