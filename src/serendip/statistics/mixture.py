r"""How many signal events there are, given two densities: the unbinned likelihood of a signal on top of a background.

With :math:`R_i = p_S(x_i)/p_B(x_i)` of every event, :math:`\mu` signal events, b background events and a
spurious signal :math:`\delta`,

.. math:: \ln L(\mu, b, \delta) = -(s + b) + \sum_i w_i \ln(b + s R_i) - \frac{(b - B)^2}{2\sigma_B^2}
    - \frac{\delta^2}{2\sigma_\delta^2}, \qquad s = \mu + \delta \ge 0

(extended likelihood: Barlow, NIM A297 (1990) 496). The constraint on b is the expectation :math:`B \pm \sigma_B`
of a fit of the mass spectrum outside the window. Without it b floats, the total carries no information, and at its maximum the rest is :math:`\sum_i w_i \ln[(1 - w) + w R_i]` with :math:`w = s/(s + b)`. The spurious signal is the apparent signal from an error of :math:`p_B`.

:math:`\mu \ge 0`, so the test statistic :math:`t_\mu = -2 \ln L(\mu)/L(\hat\mu)` has no chi-square distribution near the
boundary. With :math:`r = \mu/\sigma` it is

.. math:: P(t_\mu \le t) = \begin{cases} 2\Phi(\sqrt t) - 1 & t \le r^2 \\
    \Phi(\sqrt t) + \Phi\!\left(\frac{t + r^2}{2r}\right) - 1 & t > r^2 \end{cases}

(arXiv:1007.1727, eq. 40). An interval holds all :math:`\mu` with :math:`t_\mu` below the quantile of this distribution:
the ordering of Feldman and Cousins (physics/9711021). Far from 0 that is the usual drop of ln L by 0.5
(68 %) and 1.92 (95 %), at 0 one by 0.11 and 1.35. If only few events are sensitive use
:func:`serendip.statistics.mixture_toys.neyman`.

Weighted events count as ``w / scale`` with ``scale = sum(w^2)/sum(w)``, as in :mod:`serendip.statistics.fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2, norm

from serendip.errors import InputError
from serendip.statistics.pvalues import z_value

__all__ = [
    "MixtureFit",
    "MixtureLikelihood",
    "bounded_quantile",
    "maximise",
    "upper_limit",
]

Array = NDArray[np.float64]

_REACH = 60.0
_ROUNDS = 60
_NOTHING = 1e-6
_CELLS = 4_000_000


@dataclass(frozen=True)
class MixtureFit:
    """The best signal strength, in units of event weight.

    Attributes
    ----------
    count, error
        Signal events, not negative, and the error from the curvature of the profiled likelihood; at 0 the distance
        to where t is 1.
    fraction, fraction_error
        The same as a fraction of all events.
    background
        Background events at the maximum.
    gain
        ln L at the maximum less ln L without signal.
    p, z
        One-sided p-value of no signal, from half a chi-square; 0.5 if no signal is found.
    """

    count: float
    error: float
    fraction: float
    fraction_error: float
    background: float
    gain: float
    p: float
    z: float

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers."""
        return asdict(self)


class MixtureLikelihood:
    """ln L of the number of signal events, with ln R of every event fixed.

    Parameters
    ----------
    log_ratio
        ln p_S/p_B of each event, from models that were not trained on it, shape ``(n,)``.
    weights
        Event weights, not negative, shape ``(n,)``. Default: ones.
    background
        Expected background and its error, in units of event weight. Default: it floats.
    spurious
        Standard deviation of the spurious signal, in units of event weight.
    scale
        The divisor that makes a weight behave like a count. Default: ``sum(w^2)/sum(w)``; for the bins of a histogram
        it is that of the events in it.

    Raises
    ------
    InputError
        If there is no event, a number is not finite, or a weight or an error is negative.
    """

    def __init__(
        self,
        log_ratio: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        background: tuple[float, float] | None = None,
        spurious: float = 0.0,
        scale: float | None = None,
    ) -> None:
        ratio = np.asarray(log_ratio, dtype=float)
        w = np.ones(len(ratio)) if weights is None else np.asarray(weights, dtype=float)
        if w.shape != ratio.shape or ratio.ndim != 1:
            msg = f"weights {w.shape} for ln R {ratio.shape}"
            raise ValueError(msg)
        if not (np.isfinite(ratio).all() and np.isfinite(w).all() and (w >= 0).all() and (w > 0).any()):
            raise InputError(
                "the likelihood needs at least one event with positive weight, and finite ln R and weights; "
                "look at the features for extreme values (serendip inspect)"
            )
        if spurious < 0 or (background is not None and not (background[0] > 0 and background[1] >= 0)):
            raise InputError(
                f"the expected background must be positive and errors not negative, not {background} and {spurious}"
            )
        self.scale = float((w**2).sum() / w.sum()) if scale is None else scale
        self.log_ratio, self.counts = ratio, w / self.scale
        self.ratio = np.exp(np.clip(ratio, -_REACH, _REACH))
        expected, error = (0.0, np.inf) if background is None else background
        self.expected, self.expected_error = expected / self.scale, error / self.scale
        self.spurious = spurious / self.scale
        self.total = float(w.sum())
        self._free = _maximise(self, np.zeros(1), np.inf)

    def profile(self, count: ArrayLike) -> tuple[Array, Array, Array]:
        """Profile the likelihood over background and spurious signal.

        Parameters
        ----------
        count
            Signal events mu in units of event weight, shape ``(k,)``; not negative.

        Returns
        -------
        Signal plus spurious signal, background, and ln L less its maximum, shape ``(k,)`` each.
        """
        mu = np.atleast_1d(np.asarray(count, dtype=float)) / self.scale
        rows = max(1, _CELLS // len(self.ratio))
        parts = [_maximise(self, mu[i : i + rows], self.spurious) for i in range(0, len(mu), rows)]
        s, b, log_l = (np.concatenate([part[k] for part in parts]) for k in range(3))
        return s * self.scale, b * self.scale, np.minimum(log_l - self._free[2], 0.0)

    def t(self, count: ArrayLike) -> Array:
        """Test statistic -2 ln L(mu)/L(best), shape ``(k,)``."""
        return np.asarray(-2.0 * self.profile(count)[2])

    def fit(self) -> MixtureFit:
        """Return the best number of signal events and its asymptotic significance."""
        s, b = float(self._free[0][0]), float(self._free[1][0])
        q0 = float(self.t(0.0)[0])
        if q0 < _NOTHING:
            # the curvature at the boundary is that of an event with a large R, and there is none
            s = 0.0
            error = _crossing(lambda mu: float(self.t(mu)[0]) - 1.0, 0.0, 0.1 * self.scale)
        else:
            at = self._free
            information = float(_curvature(self.counts[None], self.ratio, at, self.expected_error)[0])
            error = float(np.sqrt(1.0 / information + self.spurious**2)) * self.scale
        log_p = norm.logsf(np.sqrt(q0)) if s > 0 else np.log(0.5)
        count, share = s * self.scale, self.total
        return MixtureFit(
            count=count, error=error, fraction=count / share, fraction_error=error / share, background=b * self.scale,
            gain=0.5 * q0, p=float(np.exp(log_p)), z=float(z_value(log_p=log_p)),
        )  # fmt: skip

    def interval(self, level: float) -> tuple[float, float]:
        """All mu whose t is below its asymptotic quantile; the lower end is 0 if 0 is among them.

        Parameters
        ----------
        level
            Confidence level, e.g. 0.95.
        """
        best = self.fit()

        def above(mu: float) -> float:
            return float(self.t(mu)[0]) - bounded_quantile(mu / best.error, level)

        low = 0.0 if above(0.0) <= 0 else float(brentq(above, 0.0, best.count))
        return low, _crossing(above, best.count, best.error)


def bounded_quantile(mu_over_sigma: float, level: float) -> float:
    """Quantile of t_mu for mu >= 0 (arXiv:1007.1727, eq. 40).

    >>> round(bounded_quantile(100.0, 0.95), 3), round(bounded_quantile(0.0, 0.95), 3)
    (3.841, 2.706)
    """
    r = max(float(mu_over_sigma), 1e-9)
    usual = float(chi2.ppf(level, 1))
    if usual <= r**2:
        return usual

    def missing(t: float) -> float:
        return float(ndtr(np.sqrt(t)) + ndtr((t + r**2) / (2 * r)) - 1 - level)

    # where both forms agree, the signs are due to rounding
    if missing(r**2) >= 0 or missing(usual) <= 0:
        return usual
    return float(brentq(missing, r**2, usual))


def upper_limit(likelihood: MixtureLikelihood, asimov: MixtureLikelihood, level: float = 0.95) -> float:
    """Upper limit on mu by asymptotic CLs with the statistic q~ (arXiv:1007.1727, eqs. 16, 64 and 65).

    Parameters
    ----------
    likelihood
        Of the observed events.
    asimov
        Of the expected events without signal, for example the bins of
        :meth:`serendip.statistics.mixture_toys.Templates.asimov`.
    level
        Confidence level.
    """
    best = likelihood.fit()

    def above(mu: float) -> float:
        q, expected = (float(side.t(mu)[0]) for side in (likelihood, asimov))
        if mu <= best.count:
            q = 0.0
        root, root_a = np.sqrt(q), np.sqrt(max(expected, 1e-12))
        if q <= expected:
            ratio = norm.sf(root) / norm.sf(root - root_a)
        else:
            ratio = norm.sf((q + expected) / (2 * root_a)) / norm.sf((q - expected) / (2 * root_a))
        return float(1 - level - ratio)

    return _crossing(above, best.count, best.error)


def _crossing(above: Callable[[float], float], start: float, step: float) -> float:
    """Where a function that is not positive at ``start`` becomes so; ln L falls with mu in the end."""
    low = start
    while above(low + step) <= 0:
        low, step = low + step, 2 * step
    return float(brentq(above, low, low + step))


def _maximise(model: MixtureLikelihood, target: Array, width: float) -> tuple[Array, Array, Array]:
    constraint = (np.full(len(target), model.expected), model.expected_error)
    return maximise(model.counts[None], model.ratio, constraint, target, width)


def maximise(
    counts: Array, ratio: Array, background: tuple[Array, float], target: Array, width: float
) -> tuple[Array, Array, Array]:
    r"""Maximise ln L over s >= 0 and b > 0 for many samples, with :math:`-(s - a)^2 / 2 v^2` added.

    ln L is concave in (s, b) jointly, so every maximum that is found is the global one.

    Parameters
    ----------
    counts
        Events of each sample with each R, shape ``(k, n)`` or ``(1, n)`` for one sample at all targets.
    ratio
        R, shape ``(n,)``.
    background
        Centre of the constraint on b for each sample, shape ``(k,)``, and its width; infinite: none.
    target, width
        a, shape ``(k,)``, and v. A width of 0 fixes s at a, an infinite one leaves it free.

    Returns
    -------
    s, b and ln L, shape ``(k,)`` each.
    """
    k = max(len(target), len(counts))
    total = np.broadcast_to(counts.sum(1), (k,))
    centre, sigma = background
    a = np.broadcast_to(target, (k,)).astype(float)
    b = np.maximum(total, 1e-3)
    if width == 0:
        s = a.copy()
        b = _best_background(counts, ratio, s, b, centre, sigma)
    else:
        s, b = _best_both(counts, ratio, b, centre, sigma, a, width)
    mean = b[:, None] + s[:, None] * ratio
    log_l = -(s + b) + (counts * np.log(mean)).sum(1)
    if np.isfinite(sigma) and sigma > 0:
        log_l = log_l - 0.5 * ((b - centre) / sigma) ** 2
    if np.isfinite(width) and width > 0:
        log_l = log_l - 0.5 * ((s - a) / width) ** 2
    return s, b, log_l


def _best_both(
    counts: Array, ratio: Array, b: Array, centre: Array, sigma: float, a: Array, width: float
) -> tuple[Array, Array]:
    """Newton steps in s between two bounds that close in; b follows. Finished samples are left alone."""
    pull = 0.0 if np.isinf(width) else 1.0 / width**2
    low, high = np.zeros(len(a)), counts.sum(1) + np.maximum(a, 0.0) + 1.0
    s, b = np.zeros(len(a)), b.copy()
    todo = np.arange(len(a))
    for _ in range(_ROUNDS):
        c = counts if len(counts) == 1 else counts[todo]
        now = s[todo]
        b[todo] = _best_background(c, ratio, now, b[todo], centre[todo], sigma)
        inverse = 1.0 / (b[todo, None] + now[:, None] * ratio)
        found = (c * ratio * inverse).sum(1) - 1.0
        slope = found - pull * (now - a[todo])
        bend = _curvature(c, ratio, (now, b[todo]), sigma, inverse)
        # where few events with large R decide, 1/(1 + found) is nearly a straight line in s
        step = slope / np.maximum(bend / np.maximum(1.0 + found, 1e-300) + pull, 1e-300)
        low[todo], high[todo] = np.where(slope > 0, now, low[todo]), np.where(slope > 0, high[todo], now)
        new = now + step
        new = np.where((new <= low[todo]) | (new >= high[todo]), 0.5 * (low[todo] + high[todo]), new)
        new = np.where((now == 0) & (slope <= 0), 0.0, new)
        s[todo] = new
        todo = todo[np.abs(new - now) > 1e-6 * (1.0 + now)]
        if not len(todo):
            break
    return s, _best_background(counts, ratio, s, b, centre, sigma)


def _best_background(counts: Array, ratio: Array, s: Array, b: Array, centre: Array, sigma: float) -> Array:
    """Maximise over b at fixed s; the derivative falls and is convex, so Newton's steps do not overshoot twice."""
    if sigma == 0:
        return np.broadcast_to(centre, s.shape).astype(float)
    pull = 0.0 if np.isinf(sigma) else 1.0 / sigma**2
    for _ in range(_ROUNDS):
        inverse = 1.0 / (b[:, None] + s[:, None] * ratio)
        slope = (counts * inverse).sum(1) - 1.0 - pull * (b - centre)
        bend = (counts * inverse**2).sum(1) + pull
        new = np.maximum(b + slope / np.maximum(bend, 1e-300), 0.1 * b)
        new = np.maximum(new, 1e-9)
        done = np.abs(new - b) <= 1e-8 * (1.0 + b)
        b = new
        if done.all():
            break
    return b


def _curvature(
    counts: Array, ratio: Array, at: tuple[Array, ...], sigma: float, inverse: Array | None = None
) -> Array:
    """-d2 ln L / ds2 with b profiled, shape ``(k,)``."""
    s, b = at[0], at[1]
    inverse = 1.0 / (b[:, None] + s[:, None] * ratio) if inverse is None else inverse
    square = counts * inverse**2
    ss, sb = (square * ratio**2).sum(1), (square * ratio).sum(1)
    if sigma == 0:
        return np.asarray(ss)
    bb = square.sum(1) + (0.0 if np.isinf(sigma) else 1.0 / sigma**2)
    return np.asarray(np.maximum(ss - sb**2 / bb, 0.0))
