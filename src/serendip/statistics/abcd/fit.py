r"""Likelihood of an ABCD measurement: signal in all four regions, non-closure as a constrained parameter.

.. math:: L(\mu, b_B, b_C, b_D, \theta) = \prod_{i=A,B,C,D} \mathrm{Pois}(n_i \mid b_i + \mu s_i)\; N(\theta; 0, 1),
    \qquad b_A = (1 + \delta)^{\theta}\, \frac{b_B\, b_C}{b_D}

Tests and limits are the profile likelihood ratios of arXiv:1007.1727: :math:`q_0` for discovery, :math:`\tilde q_\mu` with CLs
for the limit. Without signal the four counts are a 2x2 table of independent variables, which has an exact p-value
(Fisher) that signal in B, C and D does not touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from iminuit import Minuit  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from serendip.errors import InputError
from serendip.statistics.abcd.regions import AbcdCounts
from serendip.statistics.fit import FitError
from serendip.statistics.pvalues import z_value

__all__ = ["AbcdFit", "AbcdLimit", "abcd_limit", "exact_log_p_value", "expected_z", "fit_abcd"]

Array = NDArray[np.float64]

_FLOOR = 1e-4
# an empty region has no background; its logarithm need not run away
_LOG_LIMITS = (-30.0, 60.0)
_MAX_EXACT = 2_000.0


@dataclass(frozen=True)
class AbcdFit:
    r"""Result of :func:`fit_abcd`. Counts are sums of weights.

    Attributes
    ----------
    mu, mu_interval
        Signal strength, not bounded from below, and where the profile deviance rises by ``quantile`` of chi-square at
        68 % (MINOS); an end that the counts leave open is None.
    background, theta
        :math:`b_A, b_B, b_C, b_D` and the non-closure :math:`\theta` at the best fit.
    background_only
        The same four for :math:`\mu = 0`.
    q0, z_asymptotic, p_asymptotic
        Discovery statistic, signed :math:`\pm\sqrt{q_0}` (negative for a deficit) and its one-sided p. They over-claim for
        few events: by a factor of ten for 3 events over B C D = 0 5 100.
    z, p
        From :func:`exact_log_p_value`, or the asymptotic ones where events are so many that there is none.
    """

    mu: float
    mu_interval: tuple[float | None, float | None]
    background: tuple[float, float, float, float]
    theta: float
    background_only: tuple[float, float, float, float]
    q0: float
    z_asymptotic: float
    p_asymptotic: float
    z: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class AbcdLimit:
    """Upper limit on the signal strength at confidence ``level`` (CLs).

    Attributes
    ----------
    observed
        From the counts; None while A is hidden.
    expected
        Without signal: median, with the 1 and 2 sigma quantiles around it, from low to high, shape ``(5,)``.
    """

    level: float
    observed: float | None
    expected: tuple[float, float, float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """The limit as plain numbers for JSON."""
        return {"level": self.level, "observed": self.observed, "expected": list(self.expected)}


@dataclass(frozen=True, eq=False)
class _Minimum:
    """Best fit: strength, background in units of weight, counts in Poisson units, non-closure, deviance."""

    mu: float
    background: Array
    expected: Array
    theta: float
    deviance: float


class _Likelihood:
    """Deviance of the four counts and its minima, for a fixed or a free strength.

    Coordinates are logarithms that keep A possible: of its background where mu >= 0, of its expectation otherwise; then of
    the backgrounds of B and C (and D, if mu is free); then theta. The other quantities follow from these.
    """

    def __init__(self, n: Array, signal: Array, scale: Array, closure: float, centre: float = 0.0) -> None:
        self.n, self.signal, self.scale = n / scale, signal / scale, scale
        self.log_kappa, self.centre = float(np.log1p(closure)), centre

    def point(self, u: Array, mu: float | None) -> tuple[float, Array, Array, Array]:
        """Strength, background (units of weight), expected counts and their derivatives ``(4, len(u))``."""
        first = np.exp(u[0])
        if mu is None:
            logs = np.array([u[1] + u[2] - u[3] + self.log_kappa * u[4], *u[1:4]])
            background = np.exp(logs)
            b = background / self.scale
            strength = (first - b[0]) / self.signal[0]
            by_mu = np.array([first, -b[0], -b[0], b[0], -b[0] * self.log_kappa]) / self.signal[0]
            jacobian = self.signal[:, None] * by_mu
            jacobian[0] = [first, 0.0, 0.0, 0.0, 0.0]
            jacobian[[1, 2, 3], [1, 2, 3]] += b[1:]
            expected = b + strength * self.signal
            expected[0] = first
            return strength, background, expected, jacobian
        a = first if mu >= 0 else first - mu * self.signal[0]
        log_a = np.log(a * self.scale[0])
        background = np.exp([log_a, u[1], u[2], u[1] + u[2] - log_a + self.log_kappa * u[3]])
        b = background / self.scale
        jacobian = np.zeros((4, 4))
        jacobian[[0, 1, 2], [0, 1, 2]] = first, b[1], b[2]
        jacobian[3] = b[3] * np.array([-first / a, 1.0, 1.0, self.log_kappa])
        expected = b + mu * self.signal
        if mu < 0:
            expected[0] = first
        return mu, background, expected, jacobian

    def deviance(self, expected: Array, theta: float) -> tuple[float, Array, Array]:
        """Deviance, its first derivatives by the expected counts, and the second ones (expected)."""
        # a signal that takes away more than there is: the logarithm is continued as a parabola
        safe = np.maximum(expected, _FLOOR)
        step = np.minimum(expected - _FLOOR, 0.0)
        stiff = (1.0 + self.n) / _FLOOR**2
        value = 2.0 * special.kl_div(self.n, safe) + 2.0 * (1.0 - self.n / _FLOOR) * step + stiff * step**2
        slope = 2.0 * (1.0 - self.n / safe) + 2.0 * stiff * step
        return (
            float(value.sum()) + (theta - self.centre) ** 2,
            slope,
            np.where(step < 0, 2.0 * stiff, 2.0 / safe),
        )

    def minimum(self, mu: float | None = None, start: _Minimum | None = None) -> _Minimum:
        """Best fit for this strength, or of the strength too."""
        background = np.maximum(self.n, 0.5) * self.scale if start is None else start.background
        first = background[1] * background[2] / background[3] / self.scale[0]
        theta = self.centre if start is None else start.theta
        if mu is None:
            logs = [max(self.n[0], 1e-9), *background[1:]]
        elif mu < 0:
            logs = [max(first + mu * self.signal[0], 0.5), *background[1:3]]
        else:
            logs = [first, *background[1:3]]
        u, distance = self._descend(np.array([*np.log(logs), theta]), mu)
        if distance < 1e-8:
            return self._at(u, mu)

        def value(v: Array) -> float:
            return self.deviance(self.point(v, mu)[2], v[-1])[0]

        def gradient(v: Array) -> Array:
            _, _, expected, jacobian = self.point(v, mu)
            out: Array = self.deviance(expected, v[-1])[1] @ jacobian
            out[-1] += 2.0 * (v[-1] - self.centre)
            return out

        for strategy in (0, 1, 2):
            minuit = Minuit(value, u, grad=gradient)
            minuit.errordef = Minuit.LEAST_SQUARES
            minuit.strategy, minuit.tol = strategy, 1e-4
            minuit.errors = [*(1.0 / np.sqrt(self.n[: len(u) - 1] + 1.0)), 1.0]
            minuit.limits = [*[_LOG_LIMITS] * (len(u) - 1), (-np.inf, np.inf)]
            minuit.fixed[len(u) - 1] = self.log_kappa == 0
            minuit.migrad(ncall=5000)
            if minuit.valid:
                return self._at(np.asarray(minuit.values), mu)
            u, distance = self._descend(np.asarray(minuit.values), mu)
        # Minuit gives up where a region is empty and its logarithm runs to the limit
        if distance < 1e-4:
            return self._at(u, mu)
        n = ", ".join(f"{count:g}" for count in self.n * self.scale)
        raise FitError(f"the ABCD likelihood of the counts {n} has no valid minimum")

    def _at(self, u: Array, mu: float | None) -> _Minimum:
        strength, background, expected, _ = self.point(u, mu)
        theta = float(u[-1])
        return _Minimum(float(strength), background, expected, theta, self.deviance(expected, theta)[0])

    def _descend(self, u: Array, mu: float | None) -> tuple[Array, float]:
        """Fisher scoring with damping; also returns the estimated distance in deviance to the minimum.

        Many times faster than Minuit, which stops early in the long valleys of tables with an almost empty D.
        """
        free = np.arange(len(u) - (self.log_kappa == 0))
        damping, distance = 1e-3, np.inf
        _, _, expected, jacobian = self.point(u, mu)
        value, slope, curvature = self.deviance(expected, u[-1])
        for _ in range(300):
            information = (jacobian * curvature[:, None]).T @ jacobian
            gradient = slope @ jacobian
            information[-1, -1] += 2.0
            gradient[-1] += 2.0 * (u[-1] - self.centre)
            information, gradient = information[np.ix_(free, free)], gradient[free]
            diagonal = np.diag(np.diag(information) + 1e-12)
            distance = 0.5 * float(gradient @ np.linalg.solve(information + 1e-9 * diagonal, gradient))
            if distance < 1e-9:
                break
            while damping < 1e12:
                trial = u.copy()
                step = np.linalg.solve(information + damping * diagonal, gradient)
                trial[free] -= step * min(1.0, 5.0 / np.abs(step).max())
                trial[:-1] = np.clip(trial[:-1], *_LOG_LIMITS)
                _, _, expected, new_jacobian = self.point(trial, mu)
                new, new_slope, new_curvature = self.deviance(expected, trial[-1])
                if new <= value:
                    break
                damping *= 5.0
            else:
                break
            u, jacobian, slope, curvature = trial, new_jacobian, new_slope, new_curvature
            damping = max(damping / 5.0, 1e-9)
            if value - new < 1e-12 * (1.0 + value):
                break
            value = new
        return u, distance


def _checked(counts: AbcdCounts, signal: ArrayLike, closure: float) -> Array:
    s = np.asarray(signal, dtype=float)
    if s.shape != (4,) or not np.all(np.isfinite(s)) or np.any(s < 0) or s[0] <= 0:
        raise InputError(
            f"the signal in A, B, C, D must be four numbers, not negative and some in A, not {s.tolist()}"
        )
    _check_closure(closure)
    # d ln(AD/BC)/d mu: a signal that raises B or C as much as A is not an excess
    n = np.array([max(counts.expected, counts.expected_error()), counts.b, counts.c, counts.d])
    relative = s / np.maximum(n, counts.scale)
    if relative[0] + relative[3] <= relative[1] + relative[2]:
        raise InputError(
            "this signal adds to B or C, relative to the background there, as much as to A: it makes no excess over "
            "B C / D and cannot be measured; choose cuts that keep the signal out of B and C"
        )
    return s


def _check_closure(closure: float) -> None:
    if closure == np.inf:
        raise InputError(
            "the closure test gave no uncertainty (infinite): without one there is no prediction; give it"
        )
    if not (np.isfinite(closure) and closure >= 0):
        raise InputError(f"the closure uncertainty is a relative error, zero or more, not {closure:g}")


def _likelihood(counts: AbcdCounts, signal: ArrayLike, closure: float) -> _Likelihood:
    s = _checked(counts, signal, closure)
    # hidden: the counts that are expected without signal
    n = np.array([counts.expected if counts.a is None else counts.a, counts.b, counts.c, counts.d])
    return _Likelihood(n, s, np.array(counts.scale), closure)


def fit_abcd(
    counts: AbcdCounts, signal: ArrayLike = (1.0, 0.0, 0.0, 0.0), *, closure: float = 0.0
) -> AbcdFit:
    """Fit signal strength and backgrounds, and test the hypothesis without signal.

    Parameters
    ----------
    counts
        The four regions, A counted.
    signal
        Expected signal in A, B, C, D for mu = 1, shape ``(4,)``, in units of weight. Default: mu is the number of
        signal events in A, and there are none elsewhere.
    closure
        Relative uncertainty of the prediction (:func:`serendip.statistics.abcd.closure`).

    Raises
    ------
    InputError
        If the signal makes no excess in A, or ``closure`` is negative.
    FitError
        If the likelihood has no valid minimum.
    """
    likelihood = _likelihood(counts, signal, closure)
    if counts.a is None:
        raise InputError(
            "region A is hidden: only the expected significance and limit are known before it is counted"
        )
    null = likelihood.minimum(0.0)
    best = likelihood.minimum(start=null)
    q0 = max(null.deviance - best.deviance, 0.0)
    z = float(np.copysign(np.sqrt(q0), best.mu))
    log_p = exact_log_p_value(counts, closure)
    log_p = float(stats.norm.logsf(z)) if log_p is None else log_p
    return AbcdFit(
        mu=best.mu,
        mu_interval=(_crossing(likelihood, best, -1.0), _crossing(likelihood, best, 1.0)),
        background=_four(best.background),
        theta=best.theta,
        background_only=_four(null.background),
        q0=q0,
        z_asymptotic=z,
        p_asymptotic=float(stats.norm.sf(z)),
        z=float(z_value(log_p=log_p)),
        p=float(np.exp(log_p)),
    )


def _four(values: Array) -> tuple[float, float, float, float]:
    a, b, c, d = (float(value) for value in values)
    return a, b, c, d


def _crossing(likelihood: _Likelihood, best: _Minimum, side: float) -> float | None:
    """Mu on one side of the best fit at which the profile deviance has risen by one; None if it does not."""

    def above(mu: float) -> float:
        return likelihood.minimum(mu, best).deviance - best.deviance - 1.0

    step = float(np.sqrt(max(likelihood.n[0], 1.0)) / likelihood.signal[0])
    near = best.mu
    for _ in range(60):
        far = near + side * step
        if above(far) > 0:
            return float(optimize.brentq(above, near, far, xtol=1e-4 * step, rtol=1e-6))
        near, step = far, 2.0 * step
    return None


def exact_log_p_value(counts: AbcdCounts, closure: float = 0.0) -> float | None:
    r"""``ln`` of the probability of at least :math:`n_A` events given the margins of the table, without signal.

    Given :math:`n_A + n_B` and :math:`n_A + n_C`, the count in A is hypergeometric (Fisher's exact test), for non-closure
    :math:`\kappa` non-central hypergeometric with this odds ratio; p is averaged over
    :math:`\ln\kappa \sim N(0, \ln(1+\delta))`. It holds for any number of events, and is the same whatever part of a
    signal falls into B, C and D. Scaled counts of weighted events are continued analytically.

    Returns
    -------
    ln p
        None for more than 2,000 events in A, expected or observed, where the asymptotic p is as good.
    """
    assert counts.a is not None
    _check_closure(closure)
    n = np.array([counts.a, counts.b, counts.c, counts.d]) / counts.scale
    a, b, c, d = (float(value) for value in n)
    expected = b * c / d
    if max(a, expected) > _MAX_EXACT:
        return None
    if a == 0:
        return 0.0
    s_a, s_b, s_c, s_d = counts.scale
    width = np.log1p(closure)
    # fine enough for the step that the tail is as a function of kappa
    step = min(0.1, 0.3 / max(width * np.sqrt(max(a, expected, 1.0)), 1e-9))
    theta = np.arange(-9.0, 9.0 + step, step) if width > 0 else np.zeros(1)
    log_odds = np.log(s_b * s_c / (s_a * s_d)) + width * theta
    furthest = max(a, expected * np.exp(log_odds.max()))
    high = np.floor(min(b, c, furthest + 20.0 * np.sqrt(furthest) + 100.0 - a))
    k = a + np.arange(min(-np.floor(min(a, d)), 0.0), max(high, 0.0) + 1.0)
    log_weight = -sum(special.gammaln(cell + 1.0) for cell in (k, a + b - k, a + c - k, d - a + k))
    inside = int(np.searchsorted(k, a))
    tails = np.empty(len(theta))
    for i, log_kappa in enumerate(log_odds):
        terms = log_weight + log_kappa * k
        tails[i] = _log_sum(terms[inside:]) - _log_sum(terms)
    prior = -0.5 * theta**2
    return min(_log_sum(prior + tails) - _log_sum(prior), 0.0)


def _log_sum(terms: Array) -> float:
    """``ln(sum(exp(terms)))``."""
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()))


def expected_z(counts: AbcdCounts, signal: ArrayLike, *, closure: float = 0.0) -> float:
    """Median significance of the signal at mu = 1 (Asimov), from B, C and D; the count in A is not used."""
    s = _checked(counts, signal, closure)
    b = np.array([counts.expected, counts.b, counts.c, counts.d])
    likelihood = _Likelihood(b + s, s, np.array(counts.scale), closure)
    gain = likelihood.minimum(0.0).deviance - likelihood.minimum(1.0).deviance
    return float(np.sqrt(max(gain, 0.0)))


def abcd_limit(
    counts: AbcdCounts,
    signal: ArrayLike = (1.0, 0.0, 0.0, 0.0),
    *,
    closure: float = 0.0,
    level: float = 0.95,
) -> AbcdLimit:
    r"""Upper limit on mu with CLs and :math:`\tilde q_\mu` (arXiv:1007.1727), asymptotic.

    Parameters
    ----------
    counts, signal, closure
        As for :func:`fit_abcd`.
    level
        Confidence level.

    Raises
    ------
    InputError
        If the signal makes no excess in A, ``closure`` is negative or ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, not {level:g}")
    observed = _likelihood(counts, signal, closure)
    null = observed.minimum(0.0)
    best = observed.minimum(start=null)
    if best.mu < 0:
        best = null
    scale = observed.scale
    asimov = _Likelihood(null.expected * scale, observed.signal * scale, scale, closure, null.theta)
    asimov_best = asimov.minimum(0.0, null)

    def roots(mu: float) -> tuple[float, float]:
        q = observed.minimum(mu, best).deviance - best.deviance if mu > best.mu else 0.0
        q_asimov = asimov.minimum(mu, asimov_best).deviance - asimov_best.deviance
        return float(np.sqrt(max(q, 0.0))), float(np.sqrt(max(q_asimov, 1e-300)))

    def log_cls(mu: float, shift: float | None) -> float:
        root, root_asimov = roots(mu)
        if shift is not None:
            return float(stats.norm.logsf(root_asimov - shift) - stats.norm.logcdf(shift))
        if root <= root_asimov:
            return float(stats.norm.logsf(root) - stats.norm.logcdf(root_asimov - root))
        signal_like = 0.5 * (root**2 + root_asimov**2) / root_asimov
        background_like = 0.5 * (root**2 - root_asimov**2) / root_asimov
        return float(stats.norm.logsf(signal_like) - stats.norm.logsf(background_like))

    step = float(np.sqrt(max(observed.n[0], 1.0)) / observed.signal[0])

    def crossing(shift: float | None) -> float:
        """Where CLs, falling with mu, becomes smaller than ``1 - level``."""
        near, far = 0.0, best.mu + step
        for _ in range(60):
            if log_cls(far, shift) < np.log1p(-level):
                low = near or 1e-9 * far
                return float(
                    optimize.brentq(lambda mu: log_cls(mu, shift) - np.log1p(-level), low, far, rtol=1e-6)
                )
            near, far = far, 2.0 * far
        raise FitError("no upper limit was found: the counts do not exclude any signal strength")

    low2, low1, median, high1, high2 = (crossing(shift) for shift in (-2.0, -1.0, 0.0, 1.0, 2.0))
    observed_limit = None if counts.a is None else crossing(None)
    return AbcdLimit(level, observed_limit, (low2, low1, median, high1, high2))
