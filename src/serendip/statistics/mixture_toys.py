r"""Toys for :mod:`serendip.statistics.mixture`: Neyman intervals, limits with CLs, and a p-value over many signals.

With the densities fixed, an event enters the likelihood through its ln R alone. So a pseudo-experiment is a histogram of
ln R, and the expectation in its bins, :math:`b f_B + s f_S`, comes from events drawn from both densities. All
of them describe both shapes: an event drawn from either, :math:`N_B` and :math:`N_S` in total, represents :math:`1/(N_B + N_S R)` of background and R times that of signal (the balance heuristic), so that the background is
known even where none was drawn.

Toys redraw the constraints as well: B about the profiled background, and the measured spurious signal about the
profiled one. The densities are unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from serendip.errors import InputError
from serendip.statistics.mixture import MixtureLikelihood, maximise
from serendip.statistics.pvalues import toy_p_value, z_value

__all__ = ["BANDS", "Neyman", "Templates", "global_p", "neyman"]

Array = NDArray[np.float64]

BANDS = (0.02275, 0.15866, 0.5, 0.84134, 0.97725)
"""Quantiles of the expected upper limit: the median and 1 and 2 standard deviations about it."""

_LOWEST = -5.0
_STEP = 0.05
_POINTS = 14
_FAR = 9.5
_FRACTIONS = np.concatenate([[0.0], np.geomspace(1e-5, 0.5, 48)])


@dataclass(frozen=True, eq=False)
class Templates:
    """Expected distribution of ln R, in bins.

    Attributes
    ----------
    log_ratio
        ln R of each bin, shape ``(p,)``.
    background, signal
        Probability of each bin, shape ``(p,)``; each sums to one.
    normalisation, normalisation_error
        Integral of R p_B over the draws, and its error. It is 1 if both densities are normalised and sampled exactly as evaluated, which the shapes assume.
    """

    log_ratio: Array
    background: Array
    signal: Array
    normalisation: float
    normalisation_error: float

    @classmethod
    def from_draws(cls, background: Sequence[ArrayLike], signal: Sequence[ArrayLike]) -> Templates:
        """Make templates from ln R of events drawn from the two densities.

        Parameters
        ----------
        background, signal
            For each fold, ln R by its models of events drawn from its own p_B and p_S, shape ``(n,)``. All folds
            count the same.

        Raises
        ------
        InputError
            If a sample is empty or not finite.
        """
        logs, of_b, of_s, scales, variances = [], [], [], [], []
        for drawn_b, drawn_s in zip(background, signal, strict=True):
            b, s = (np.asarray(a, dtype=float) for a in (drawn_b, drawn_s))
            both = np.concatenate([b, s])
            if not len(b) or not len(s) or not np.isfinite(both).all():
                raise InputError("templates need events drawn from both densities, with finite ln R")
            log_scale, variance = _log_scale(b, s)
            ratio = np.exp(np.clip(both, -60, 60))
            share = 1.0 / (len(b) + len(s) * ratio) / len(background)
            logs.append(both)
            of_b.append(share)
            of_s.append(share * ratio)
            scales.append(-log_scale)
            variances.append(variance)
        log_ratio, w_b, w_s = (np.concatenate(a) for a in (logs, of_b, of_s))
        index = np.floor((np.maximum(log_ratio, _LOWEST) - _LOWEST) / _STEP).astype(np.int64)
        _, place = np.unique(index, return_inverse=True)
        f_b, f_s = (np.bincount(place, weights=w) for w in (w_b, w_s))
        normalisation = float(np.exp(np.mean(scales)))
        error = normalisation * float(np.sqrt(np.sum(variances))) / len(scales)
        return cls(np.log(f_s / f_b), f_b / f_b.sum(), f_s / f_s.sum(), normalisation, error)

    def expected(
        self,
        background: float,
        count: float = 0.0,
        *,
        constraint: float | None = None,
        spurious: float = 0.0,
        scale: float = 1.0,
    ) -> MixtureLikelihood:
        """Likelihood of exactly the expected events (the Asimov sample of arXiv:1007.1727).

        Parameters
        ----------
        background, count
            Background and signal events, in units of event weight.
        constraint
            Error of the expected background; None: it floats.
        spurious, scale
            As in :class:`~serendip.statistics.mixture.MixtureLikelihood`.
        """
        mean = background * self.background + count * self.signal
        known = None if constraint is None else (background, constraint)
        return MixtureLikelihood(self.log_ratio, mean, background=known, spurious=spurious, scale=scale)

    def draw(self, background: float, count: float, n: int, rng: np.random.Generator) -> Array:
        """Bin contents of ``n`` pseudo-experiments with these mean numbers of events, shape ``(n, p)``."""
        mean = background * self.background + count * self.signal
        return rng.poisson(mean, (n, len(mean))).astype(float)


def _log_scale(b: Array, s: Array) -> tuple[float, float]:
    """Correction to ln R that normalises both densities, and its variance.

    The acceptance ratio of Bennett (J. Comp. Phys. 22 (1976) 245): of all drawn events as many look like signal as were drawn
    from it.
    """
    both, odds = np.concatenate([b, s]), np.log(len(s) / len(b))

    def surplus(shift: float) -> float:
        return float(expit(both + shift + odds).sum() - len(s))

    shift = float(brentq(surplus, -100.0, 100.0))
    of_b, of_s = expit(b + shift + odds), expit(s + shift + odds)
    slope = (of_b * (1 - of_b)).sum() + (of_s * (1 - of_s)).sum()
    return shift, float((len(b) * of_b.var() + len(s) * of_s.var()) / slope**2)


@dataclass(frozen=True, eq=False)
class Neyman:
    """Tests of many signal strengths by toys. Numbers of events are in units of event weight.

    Attributes
    ----------
    count
        Tested mu, shape ``(m,)``; the first is 0.
    t
        Observed t_mu, shape ``(m,)``.
    p
        (k + 1)/(N + 1) with k of N toys at least as far from mu as the data, shape ``(m,)``.
    cls
        CLs with the one-sided statistic q~, from fractions of toys, shape ``(m,)``.
    p0, p0_interval
        p-value of no signal, and the 68 % interval of the corresponding fraction of toys. 0.5 if none is found.
    expected
        Quantiles :data:`BANDS` of the upper limit at 95 % CLs without signal, shape ``(5,)``. Background and spurious
        signal are those that fit the data best without signal: for the expectation before unblinding, use the likelihood of :meth:`Templates.expected`.
    toys
        N.
    """

    count: Array
    t: Array
    p: Array
    cls: Array
    p0: float
    p0_interval: tuple[float, float]
    expected: Array
    toys: int

    def interval(self, level: float) -> tuple[float, float]:
        """Outermost mu whose p exceeds ``1 - level``, between the tested ones by interpolation of p."""
        inside = np.flatnonzero(self.p > 1 - level)
        return (
            _interpolate(self.count, self.p, int(inside[0]) - 1, 1 - level) if inside[0] > 0 else 0.0,
            _interpolate(self.count, self.p, int(inside[-1]), 1 - level),
        )

    def upper_limit(self, level: float = 0.95) -> float:
        """Smallest mu whose CLs is not above ``1 - level``, by interpolation."""
        return _first_below(self.count, self.cls, 1 - level)

    def to_dict(self) -> dict[str, Any]:
        """Intervals, limits and the tested points as plain numbers."""
        return {
            "interval_68": list(self.interval(0.6827)),
            "interval_95": list(self.interval(0.95)),
            "upper_limit_95": self.upper_limit(),
            "p0": self.p0,
            "p0_interval_68": list(self.p0_interval),
            "z0": float(z_value(self.p0)),
            "toys": self.toys,
            "count": self.count.tolist(),
            "t": self.t.tolist(),
            "p": self.p.tolist(),
            "cls": self.cls.tolist(),
        }


def neyman(
    model: MixtureLikelihood,
    templates: Templates,
    n_toys: int,
    rng: np.random.Generator,
    *,
    count: ArrayLike | None = None,
) -> Neyman:
    """Test signal strengths with toys at each.

    Parameters
    ----------
    model
        Likelihood of the observed events, or of the expected ones (:meth:`Templates.expected`).
    templates
        Its expected distribution of ln R.
    n_toys
        Toys at each tested mu.
    rng
        Draws the toys.
    count
        mu to test, in units of event weight, rising. Default: from 0 to where the data and the expectation without
        signal exclude it by more than three standard deviations.

    Raises
    ------
    InputError
        If the largest ``count`` is not excluded at 95 %, so that an interval has no upper end.
    """
    best = model.fit()
    tested = _tested(model, templates) if count is None else np.asarray(count, dtype=float)
    tested = np.unique(np.concatenate([[0.0], tested, [best.count]]))
    s, b, _ = model.profile(tested)
    observed = model.t(tested)
    observed_q = np.where(tested >= best.count, observed, 0.0)
    m = len(tested)
    p, sb = np.empty(m), np.empty(m)
    toys_q: list[Array] = []
    q_without = np.empty((m, n_toys))
    for j in range(m):
        toys = _Toys.draw(model, templates, b[j], s[j], tested[j], n_toys, rng)
        t = toys.t(tested[j])
        q = np.where(toys.best <= tested[j] / model.scale, t, 0.0)
        p[j] = toy_p_value(int((t >= observed[j] - 1e-9).sum()), n_toys)[0]
        sb[j] = np.mean(q >= observed_q[j] - 1e-9)
        toys_q.append(np.sort(q))
        if j == 0:
            behind = int((t >= observed[0] - 1e-9).sum())
            for i in range(m):
                q_without[i] = np.where(toys.best <= tested[i] / model.scale, toys.t(tested[i]), 0.0)
    # the data count as one experiment without signal, so that the ratio is defined
    without = ((q_without >= observed_q[:, None] - 1e-9).sum(1) + 1) / (n_toys + 1)
    p0, p0_interval = toy_p_value(behind, n_toys)
    if best.count == 0:
        p0 = 0.5
    cls = np.minimum(sb / without, 1.0)
    if p[-1] > 0.05:
        raise InputError(
            f"{tested[-1]:g} signal events are not excluded at 95 % by {n_toys} toys: test larger numbers, use more toys, "
            "or accept that ln R does not separate signal from background well enough"
        )
    return Neyman(tested, observed, p, cls, p0, p0_interval, _limits(tested, toys_q, q_without), n_toys)


@dataclass(frozen=True, eq=False)
class _Toys:
    """Pseudo-experiments with their own constraints, and where their likelihood is largest; counts, not weights."""

    model: MixtureLikelihood
    ratio: Array
    counts: Array
    centre: Array
    offset: Array
    best: Array
    log_l: Array

    @classmethod
    def draw(
        cls,
        model: MixtureLikelihood,
        templates: Templates,
        b: float,
        s: float,
        mu: float,
        n: int,
        rng: np.random.Generator,
    ) -> _Toys:
        b, s, mu = b / model.scale, s / model.scale, mu / model.scale
        counts = templates.draw(b, s, n, rng)
        constrained = np.isfinite(model.expected_error)
        centre = rng.normal(b, model.expected_error, n) if constrained else np.zeros(n)
        offset = rng.normal(s - mu, model.spurious, n)
        ratio = np.exp(np.clip(templates.log_ratio, -60, 60))
        constraint = (centre, model.expected_error)
        free, _, log_l = maximise(counts, ratio, constraint, np.zeros(n), np.inf)
        best = free - offset
        low = best < 0
        if low.any():
            # the spurious signal that was measured exceeds all signal: the best mu is 0
            log_l[low] = maximise(
                counts[low], ratio, (centre[low], model.expected_error), offset[low], model.spurious
            )[2]
        return cls(model, ratio, counts, centre, offset, np.maximum(best, 0.0), log_l)

    def t(self, mu: float) -> Array:
        target = mu / self.model.scale + self.offset
        at = maximise(
            self.counts, self.ratio, (self.centre, self.model.expected_error), target, self.model.spurious
        )[2]
        return np.maximum(2.0 * (self.log_l - at), 0.0)


def _tested(model: MixtureLikelihood, templates: Templates) -> Array:
    """Around the best mu of the data, and of the expectation without signal, to where either is far away."""
    best = model.fit()
    b = model.expected if np.isfinite(model.expected_error) else best.background / model.scale
    error = None if np.isinf(model.expected_error) else model.expected_error * model.scale
    empty = templates.expected(
        b * model.scale, constraint=error, spurious=model.spurious * model.scale, scale=model.scale
    )
    parts = []
    for side in (model, empty):
        fit = side.fit()
        step = 3 * fit.error
        while float(side.t(fit.count + step)[0]) < _FAR:
            step *= 1.25
        parts.append(np.linspace(max(0.0, fit.count - 3.5 * fit.error), fit.count + step, _POINTS))
    return np.concatenate(parts)


def _interpolate(x: Array, y: Array, i: int, level: float) -> float:
    """Where y crosses ``level`` between points i and i + 1; x of the last point if it does not."""
    if i + 1 >= len(x):
        return float(x[-1])
    return float(x[i] + (x[i + 1] - x[i]) * (level - y[i]) / (y[i + 1] - y[i]))


def _limits(tested: Array, toys_q: list[Array], without: Array) -> Array:
    """Quantiles of the upper limit over the toys without signal."""
    n = without.shape[1]
    cls = np.empty_like(without)
    for j, q in enumerate(toys_q):
        own = np.sort(without[j])
        # fractions, not (k + 1)/(N + 1): a band is not a p-value, and the toy itself is among its own
        sb, b = (n - np.searchsorted(a, without[j] - 1e-9) for a in (q, own))
        cls[j] = np.minimum(sb / b, 1.0)
    return np.quantile([_first_below(tested, column, 0.05) for column in cls.T], BANDS)


def _first_below(x: Array, y: Array, level: float) -> float:
    below = np.flatnonzero(y <= level)
    return _interpolate(x, y, int(below[0]) - 1 if len(below) else len(x) - 1, level)


def global_p(
    observed: tuple[ArrayLike, ArrayLike],
    draws: tuple[ArrayLike, ArrayLike],
    n_toys: int,
    rng: np.random.Generator,
    *,
    background: tuple[float, float] | None = None,
    spurious: float = 0.0,
) -> tuple[float, float, tuple[float, float]]:
    """Test statistic of the best of many signals, and the p-value of no signal that allows for their number.

    Parameters
    ----------
    observed
        ln R of the data under each signal, shape ``(signals, n)``, and their weights, shape ``(n,)``.
    draws
        ln R of events that describe background, shape ``(signals, k)``, and the amount that each represents, shape ``(k,)``.
    n_toys, rng
        Toys without signal.
    background, spurious
        As in :class:`~serendip.statistics.mixture.MixtureLikelihood`.

    Returns
    -------
    Largest 2 [ln L - ln L(mu = 0)], p-value, and the 68 % interval of the corresponding fraction of toys.
    """
    table, w = (np.asarray(a, dtype=float) for a in observed)
    pool, share = (np.asarray(a, dtype=float) for a in draws)
    scale = float((w**2).sum() / w.sum())
    total = w.sum() / scale
    b, sigma = (total, np.inf) if background is None else (background[0] / scale, background[1] / scale)
    width = spurious / scale
    counts = rng.poisson(b * share / share.sum(), (n_toys, len(share))).astype(np.float32)
    centre = rng.normal(b, sigma, n_toys) if np.isfinite(sigma) else np.full(n_toys, b)
    offset = rng.normal(0.0, width, n_toys)
    best_data, best_toys = 0.0, np.zeros(n_toys)
    # draws are few compared with all toys together: their fluctuations must not look like a signal in all of those
    pool = pool - np.log(np.exp(np.clip(pool, -60, 60)) @ (share / share.sum()))[:, None]
    for one, drawn in zip(table, pool, strict=True):
        data = _gain((w / scale)[None], one, np.array([b]), sigma, np.zeros(1), width)
        best_data = max(best_data, float(data[0]))
        best_toys = np.maximum(best_toys, _gain(counts, drawn, centre, sigma, offset, width))
    p, interval = toy_p_value(int((best_toys >= best_data - 1e-9).sum()), n_toys)
    return best_data, p if best_data > 0 else 0.5, interval


def _gain(
    counts: NDArray[Any], log_ratio: Array, centre: Array, sigma: float, offset: Array, width: float
) -> Array:
    """2 ln L(best)/L(0) of each sample on a grid of signal fractions; data and toys are treated identically."""
    w = _FRACTIONS
    terms = np.log1p(w * np.expm1(np.clip(log_ratio, -60, 60))[:, None])
    shape = counts @ terms.astype(counts.dtype)
    n = counts.sum(1)[:, None]
    if np.isinf(sigma):
        total = n * np.ones(len(w))
        log_l = shape + 0.0
    else:
        # the best total at a fixed fraction solves a quadratic equation
        sigma = max(sigma, 1e-6 * float(centre.max()))
        part = (1 - w) / sigma
        half = 0.5 * (1 - part * centre[:, None] / sigma)
        total = (-half + np.sqrt(half**2 + part**2 * n)) / part**2
        log_l = shape + n * np.log(np.maximum(total, 1e-300)) - total
        log_l -= 0.5 * (((1 - w) * total - centre[:, None]) / sigma) ** 2
    if width == 0:
        return np.asarray(2 * (log_l.max(1) - log_l[:, 0]))
    excess = (w * total - offset[:, None]) / width
    free = (log_l - 0.5 * np.minimum(excess, 0.0) ** 2).max(1)
    return np.asarray(2 * (free - (log_l - 0.5 * excess**2).max(1)))
