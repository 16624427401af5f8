r"""Counts of weighted events, and of events that belong together: the generalised Poisson law.

A *jump* is the contribution of one independent unit to a count: the weight of an event, or the sum of the weights of all selected
members of a group (copies, several candidates of one event, one generated event used many times). Without groups and
with equal weights all jumps are equal, and a count is a Poisson number of them. In general it is compound Poisson: with
:math:`\lambda` jumps expected its mean is :math:`\lambda \langle w \rangle` and its variance :math:`\lambda \langle w^2 \rangle`. A count
divided by :math:`s = \sum w^2 / \sum w` has the mean and the variance of a Poisson number (Bohm and Zech, arXiv:1309.1287), but not its
tail: few heavy jumps make large sums much more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from serendip.errors import InputError
from serendip.events.weights import explain_negative_weights, one_each
from serendip.statistics.pvalues import count_log_p_value

__all__ = ["CompoundTail", "bin_noise", "effective_number", "event_weights", "group_sums", "jump_scale"]

Array = NDArray[np.float64]

_EQUAL = 1e-9  # relative spread of jumps that are the same up to rounding
_VALUES = 192
_FEW = 16
_POINTS_PER_SIGMA = 400.0
_MOST_POINTS = 1 << 16
_GRID = 8192
_LEAST = 1e-13
_NEGLIGIBLE = -30.0  # logarithm of probabilities negligible in any tail
_VANISHED = 40.0  # minus the logarithm of probabilities negligible for the smallest p-value of many
_MANY = 60.0  # jumps of the largest size; sums of more are not put on a lattice
_MOST_TIMES = 100_000
_POISSON = 1e12  # side events beyond which the expectation counts as known


def event_weights(weights: ArrayLike | None, n: int) -> Array:
    """Weights of ``n`` events, ones by default; InputError if one is negative or not finite."""
    w = one_each(weights, n)
    if not np.all(np.isfinite(w)):
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(w))} of {n} event weights are not finite; leave these events out (--where)"
        )
    if np.any(w < 0):
        raise InputError(explain_negative_weights(w))
    return w


def group_sums(weights: ArrayLike, groups: NDArray[Any] | None = None) -> Array:
    """Jumps of a count: the weights of events, or their sums over groups; zeros are left out.

    Parameters
    ----------
    weights
        Weights of the counted events, shape ``(n,)``.
    groups
        Number of the group of each of them, shape ``(n,)``; None: every event is its own.
    """
    w = np.asarray(weights, dtype=float)
    if groups is not None and len(w):
        w = np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], w)
    return w[w > 0]


def effective_number(weights: ArrayLike, groups: NDArray[Any] | None = None) -> float:
    """Events of equal weight with the same relative error, ``(sum W)^2 / sum W^2`` over groups; 0 without events."""
    jumps = group_sums(weights, groups)
    return float(jumps.sum() ** 2 / (jumps**2).sum()) if len(jumps) else 0.0


def jump_scale(weights: ArrayLike, groups: NDArray[Any] | None = None) -> float:
    """``sum W^2 / sum W`` over groups: a count divided by it varies like a Poisson number; 1 without events."""
    jumps = group_sums(weights, groups)
    return float((jumps**2).sum() / jumps.sum()) if len(jumps) else 1.0


def bin_sums(mass: Array, edges: Array, weights: Array) -> Array:
    """Sum of the weights in each bin, which no event of another bin changes by its rounding, shape ``(n_bins,)``."""
    place = np.searchsorted(edges, mass, side="right") - 1
    return np.bincount(place, weights, len(edges) - 1).astype(float)


def bin_noise(mass: Array, edges: Array, weights: Array, groups: NDArray[Any] | None = None) -> Array | None:
    """``sum_g W_gi W_gj`` over groups, the covariance of the sums of weights in bins, shape ``(n_bins, n_bins)``.

    None if all events are independent with equal weights: then the counts are sufficient.

    Parameters
    ----------
    mass, weights, groups
        Of the counted events, shape ``(n,)``.
    edges
        Bin edges, shape ``(n_bins + 1,)``.
    """
    if groups is None and (not len(weights) or np.ptp(weights) <= _EQUAL * weights.max()):
        return None
    n_bins = len(edges) - 1
    place = np.searchsorted(edges, mass, side="right") - 1
    if groups is None:
        return np.diag(np.bincount(place, weights**2, n_bins))
    group = np.unique(groups, return_inverse=True)[1]
    sums = sparse.coo_array((weights, (group, place)), shape=(int(group.max(initial=0)) + 1, n_bins)).tocsr()
    return np.asarray((sums.T @ sums).toarray())


@dataclass(frozen=True)
class CompoundTail:
    r"""Tail of a sum of jumps whose expectation was itself measured.

    Equal weights are the on/off problem: the tail of a Poisson number whose mean has the density :math:`\Gamma(m+1, \tau)` with
    :math:`m = (b/\sigma)^2` and :math:`\tau = b/\sigma^2` (Linnemann, physics/0312059). With weights it is an on/off problem for each size: the expected frequency of jumps of one size is known from those outside the window, and the largest are few. With :math:`K` jumps outside it, fractions :math:`s_v` of the sizes :math:`v` and :math:`\tau = K \langle w \rangle / b`, the mean of each size has the density :math:`\Gamma(K s_v, \tau)`. The part of :math:`\sigma` beyond their fluctuations, :math:`1/m_c = (\sigma/b)^2 - \langle w^2 \rangle / (K \langle w \rangle^2)`, is common to all sizes, and the sum has the
    characteristic function

    .. math:: \phi_T(t) = \Bigl[1 + \frac{K}{m_c} \sum_v s_v \ln\Bigl(1 + \frac{1 - e^{itv}}{\tau}\Bigr)\Bigr]^{-(m_c+1)}
              \Bigl[1 + \frac{1 - \phi_w(t)}{\tau}\Bigr]^{-1},

    :math:`\phi_w` that of one jump. Where :math:`\sigma` is smaller than these fluctuations, :math:`K` is the number that gives it. With a law of the
    sizes that were known exactly (:math:`K \to \infty`, :math:`\tau \to \infty`) far tails of ranks are too light: 6.1 sigma instead of the exact 5.7.

    Sizes are those of the jumps outside the window *and* of those in it: under background alone a large jump in the window could as well have been outside it. The expected number of jumps comes from the side alone; if jumps in the window are
    lighter, as where weights depend on the mass, it is so many more of all jumps that their sum is the expected one. Jumps of one size
    give exactly :func:`~serendip.statistics.pvalues.count_p_value`.

    Attributes
    ----------
    value, share
        Sizes and their probabilities, shape ``(n_values,)``; one size: jumps are equal.
    mean
        Mean size by which the expected number of jumps is found.
    number
        Number of jumps outside the window, from which the frequency of each size is known; effective ones where some count more.
    """

    value: Array
    share: Array
    mean: float
    number: float

    @classmethod
    def of(
        cls, side: ArrayLike, inside: ArrayLike = (), unit: float = 1.0, share: ArrayLike | None = None
    ) -> CompoundTail:
        """From jumps outside and in the window, of any number; without jumps outside it all of them are used.

        Sizes are merged to 192: neighbours that contribute little to the number, the sum and the sum of squares, which the tail cannot distinguish.

        Parameters
        ----------
        side, inside
            Jumps, shapes ``(n,)`` and ``(m,)``.
        unit
            The unit of sums.
        share
            Relative weight of each jump outside the window for the law inside, shape ``(n,)``; default: equal.
        """
        off, on = (np.asarray(a, dtype=float) for a in (side, inside))
        often = np.ones(len(off)) if share is None else np.asarray(share, dtype=float)
        often, off, on = often[off > 0], off[off > 0] / unit, on[on > 0] / unit
        sizes, chance = np.concatenate([off, on]), np.concatenate([often, np.ones(len(on))])
        order = np.argsort(sizes, kind="stable")
        sizes, chance = sizes[order], chance[order]
        if not len(sizes):
            return cls(np.ones(1), np.ones(1), 1.0, 1.0)
        if sizes[-1] - sizes[0] <= _EQUAL * sizes[-1]:
            size = float(sizes.mean())
            size = 1.0 if abs(size - 1.0) < _EQUAL else size
            return cls(np.array([size]), np.ones(1), size, float(len(sizes)))
        if len(off):
            mean = min(float(np.average(off, weights=often)), float(np.average(sizes, weights=chance)))
        else:
            mean = float((sizes**2).sum() / sizes.sum())
        part = sum(np.cumsum(chance * sizes**k) / np.sum(chance * sizes**k) for k in (0, 1, 2)) / 3.0
        place = np.minimum((part * _VALUES).astype(int), _VALUES - 1)
        number, total = np.bincount(place, chance), np.bincount(place, chance * sizes)
        used = number > 0
        known = often if len(off) else chance
        effective = float(known.sum() ** 2 / (known**2).sum())
        return cls(total[used] / number[used], number[used] / chance.sum(), mean, effective)

    @property
    def alike(self) -> bool:
        """Whether all jumps have one size."""
        return len(self.value) == 1

    def log_p(
        self, observed: ArrayLike, expected: ArrayLike, sigma: ArrayLike, *, deep: bool | None = None
    ) -> tuple[Array, Array]:
        """``ln P(T >= observed)`` and ``ln P(T > observed)``; arguments broadcast.

        Parameters
        ----------
        observed, expected, sigma
            Sum of weights, its expectation and the error of that. ``expected = 0`` with ``sigma > 0`` means an empty side measurement in which one jump would correspond to ``sigma``.
        deep
            Whether far tails are needed; default: for up to 16 sums.

        Notes
        -----
        For far tails sums are exponentially tilted before their characteristic function is inverted by FFT, which keeps the
        relative accuracy in the far tail, and smeared by 1/400 of their standard deviation, of which four times are given away towards larger p. Others (toys) share
        one grid of 8192 values, without tilt, so that p ends at 1e-13.
        """
        t, b, s = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (observed, expected, sigma)))
        size = float(self.value[0]) if self.alike else self.mean
        at_least = count_log_p_value(t / size, b / size, s / size)
        above = count_log_p_value(t / size + 1.0, b / size, s / size)
        use = b > 0
        if self.alike or not np.any(use):
            return at_least, above
        law = self._measured(b[use], s[use])
        if deep if deep is not None else np.count_nonzero(use) <= _FEW:
            pairs = [self._tail(float(one), *each) for one, *each in zip(t[use], *law, strict=True)]
            at_least[use], above[use] = np.array(pairs).T
        else:
            at_least[use], above[use] = self._tails(t[use], *law)
        nothing = use & (t <= 0)
        at_least[nothing] = 0.0
        jumps, common, tau = (v[nothing[use]] for v in law)
        none = -(common + 1.0) * np.log1p(jumps * np.log1p(1.0 / tau) / common) - np.log1p(1.0 / tau)
        above[nothing] = np.log(-np.expm1(none))
        return at_least, above

    def _measured(self, b: Array, s: Array) -> tuple[Array, Array, Array]:
        """``K``, ``m_c`` and ``tau`` of expectations and their errors."""
        spread = float(self.share @ self.value**2) / float(self.share @ self.value) ** 2
        relative = (s / b) ** 2
        jumps = np.maximum(self.number, spread / np.maximum(relative, spread / _POISSON))
        rest = relative - spread / jumps
        common = 1.0 / np.maximum(rest, np.maximum(_EQUAL * relative, 1.0 / _POISSON))
        return jumps, common, jumps * self.mean / b

    def _log_generating(
        self, z: float, jumps: float, common: float, tau: float
    ) -> tuple[float, float, float]:
        """``ln E[exp(z T)]`` and its first two derivatives; NaN where it diverges."""
        rise = np.expm1(z * self.value)
        if not float(rise[-1]) < tau:
            return np.nan, np.nan, np.nan
        grown = (rise + 1.0) / tau
        own = grown * self.value / (1.0 - rise / tau)
        outer = 1.0 + jumps / common * float(self.share @ np.log1p(-rise / tau))
        if not outer > 0:
            return np.nan, np.nan, np.nan
        first = jumps * float(self.share @ own) / outer
        second = jumps * float(self.share @ (own * self.value + own**2)) / outer
        one = 1.0 - float(rise @ self.share) / tau
        more, bend = (float(grown * self.share @ self.value**k) / one for k in (1, 2))
        grow = 1.0 + 1.0 / common
        return (
            -(common + 1.0) * float(np.log(outer)) - float(np.log(one)),
            grow * first + more,
            grow * (second + first**2 / common) + bend + more**2,
        )

    def _tilt(self, t: float, jumps: float, common: float, tau: float) -> float:
        """The non-negative tilt under which the mean of the sum is ``t``."""
        low, high = 0.0, 1.0 / float(self.value[-1])
        if self._log_generating(0.0, jumps, common, tau)[1] >= t:
            return 0.0
        while self._log_generating(high, jumps, common, tau)[1] < t:  # false where the mean is infinite, too
            low, high = high, 2.0 * high
        for _ in range(50):
            middle = 0.5 * (low + high)
            if self._log_generating(middle, jumps, common, tau)[1] < t:
                low = middle
            else:
                high = middle
        return low

    def _tails(self, t: Array, jumps: Array, common: Array, tau: Array) -> tuple[Array, Array]:
        """Logarithms of many tails on one grid."""
        first, second = self.share @ self.value, self.share @ self.value**2
        grow, one = 1.0 + 1.0 / common, jumps * first / tau
        mean = grow * one + first / tau
        sigma = np.sqrt(
            grow * (jumps * second / tau * (1.0 + 1.0 / tau) + one**2 / common)
            + second / tau
            + (first / tau) ** 2
        )
        low = float((mean - 12.0 * sigma).min())
        span = float(np.maximum(mean + 12.0 * sigma, t).max()) + 3.0 * float(self.value[-1]) - low
        smear = step = span / _GRID
        frequency = 2.0 * np.pi / span * np.arange(_GRID // 2 + 1)
        lattice = _on_lattice(self.value / step, self.share, _GRID)
        fall = lattice.sum() - np.conj(np.fft.rfft(lattice))
        blur = 0.5 * (frequency * smear) ** 2
        # no characteristic function is larger than this one
        least = 0.5 * (jumps * np.log1p(2.0 / tau)).min() * np.maximum(fall.real, 0.0)
        ends = np.array([common.min(), np.clip(0.2, common.min(), common.max()), common.max()])[:, None]
        alive = ((ends + 1.0) * np.log1p(least / ends)).min(axis=0) + blur < _VANISHED
        fall, shift = fall[alive], 1j * frequency[alive] * low + blur[alive]
        nodes, mix = _between(tau)
        logs = np.array([node * self._log_rate(step, _GRID, 0.0, node)[alive] for node in nodes])
        at_least, above = np.empty(len(t)), np.empty(len(t))
        for rows in np.array_split(np.arange(len(t)), max(1, len(t) // 256)):
            phi = np.zeros((len(rows), len(alive)), dtype=complex)
            per, all_alike = 1.0 / tau[rows, None], common[rows, None]
            rate = jumps[rows, None] * per * (mix[rows] @ logs)
            phi[:, alive] = np.exp(
                -(all_alike + 1.0) * np.log1p(rate / all_alike) - np.log1p(fall * per) - shift
            )
            density = np.maximum(np.fft.irfft(np.conj(phi), _GRID), 0.0)
            beyond = np.cumsum(density[:, ::-1], axis=1)[:, ::-1]
            for out, edge in ((at_least, -3.0 * smear), (above, 3.0 * smear)):
                place = np.clip(np.ceil((t[rows] + edge - low) / step), 0, _GRID - 1).astype(int)
                out[rows] = np.log(np.clip(beyond[np.arange(len(rows)), place], _LEAST, 1.0))
        return at_least, above

    def _log_rate(self, step: float, n: int, theta: float, tau: float) -> Array:
        r"""``sum_v s_v ln[1 + (1 - exp((theta + i omega) v)) / tau]`` at the ``n / 2 + 1`` frequencies of a lattice of ``n`` points.

        With :math:`q = e^{\theta v} / (1 + \tau)` the logarithm is :math:`\ln(1 + 1/\tau) - \sum_k q^k e^{ik\omega v} / k`: jumps of k-fold size, k times as rarely.
        """
        log_q = theta * self.value - np.log1p(tau)
        times = np.clip(np.ceil(_NEGLIGIBLE / log_q), 1, _MOST_TIMES).astype(int)
        which = np.repeat(np.arange(len(times)), times)
        k = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times) + 1
        chance = self.share[which] * np.exp(k * log_q[which]) / k
        lattice = np.conj(np.fft.rfft(_on_lattice(k * self.value[which] / step, chance, n)))
        return np.asarray(np.log1p(1.0 / tau) - lattice)

    def _frequencies(
        self, theta: float, jumps: float, common: float, tau: float, span: float, n: int, smear: float
    ) -> int:
        """How many frequencies of a lattice of ``n`` points matter.

        With sizes of all kinds the characteristic function is zero beyond a few inverse standard deviations; if they are multiples of
        one number it comes back at its inverse. Sizes on the lattice, from a single transform, decide between the two.
        """
        rate = jumps * self._log_rate(span / n, n, theta, tau)
        below = np.abs(1.0 + rate / common) / np.abs(1.0 + rate[0].real / common)
        frequency = 2.0 * np.pi / span * np.arange(n // 2 + 1)
        log_size = -(common + 1.0) * np.log(below) - 0.5 * (frequency * smear) ** 2
        alive = log_size > _NEGLIGIBLE
        first = int(np.argmin(alive)) if not alive.all() else len(alive)
        most = int(np.count_nonzero(frequency * smear < 7.0))
        return most if alive[first:].any() else min(2 * first + 1, most)

    def _tail(self, t: float, jumps: float, common: float, tau: float) -> tuple[float, float]:
        if not t > 0:
            return 0.0, 0.0
        theta = self._tilt(t, jumps, common, tau)
        log_norm, mean, variance = self._log_generating(theta, jumps, common, tau)
        sigma = float(np.sqrt(variance))
        low = mean - 12.0 * sigma
        # a jump that hardly ever occurs may be larger than many standard deviations
        span = 24.0 * sigma + 3.0 * float(self.value[-1])
        smear = sigma / _POINTS_PER_SIGMA
        n = int(min(2 ** np.ceil(np.log2(span / smear)), _MOST_POINTS))
        smear = max(smear, span / n)
        frequency = 2.0 * np.pi / span * np.arange(n // 2 + 1)
        shift = 1j * frequency * low + 0.5 * (frequency * smear) ** 2 + log_norm
        if mean < _MANY * float(self.value[-1]):
            rate = self._log_rate(span / n, n, theta, tau)
            once = np.conj(
                np.fft.rfft(_on_lattice(self.value * n / span, self.share * np.exp(theta * self.value), n))
            )
        else:
            # many jumps would notice that they are not where the lattice puts them, and their sum has few frequencies
            used = self._frequencies(theta, jumps, common, tau, span, n, smear)
            turned = np.exp(np.multiply.outer(theta + 1j * frequency[:used], self.value))
            rate, once = np.log1p((1.0 - turned) / tau) @ self.share, turned @ self.share
            shift = shift[:used]
        phi = np.zeros(n // 2 + 1, dtype=complex)
        outer = (common + 1.0) * np.log1p(jumps * rate / common)
        phi[: len(rate)] = np.exp(-outer - np.log1p((1.0 - once) / tau) - shift)
        density = np.maximum(np.fft.irfft(np.conj(phi), n), 0.0)
        x = low + span / n * np.arange(n)
        out = []
        for edge in (t - 4.0 * smear, t + 4.0 * smear):
            kept = x >= edge
            total = float(density[kept] @ np.exp(-theta * (x[kept] - t)))
            out.append(float(min(np.log(max(total, 1e-300)) + log_norm - theta * t, 0.0)))
        return out[0], out[1]


def _on_lattice(place: Array, chance: Array, n: int) -> Array:
    """Shared out between the two nearest of ``n`` points, in a circle, so that their mean stays, shape ``(n,)``."""
    lower = np.floor(place).astype(int)
    upper = place - lower
    lattice = np.bincount(lower % n, chance * (1.0 - upper), n)
    return np.asarray(lattice + np.bincount((lower + 1) % n, chance * upper, n))


def _between(tau: Array) -> tuple[Array, Array]:
    """Chebyshev nodes in the logarithm and the matrix that interpolates from them to every value, shape ``(n, n_nodes)``."""
    low, high = np.log(tau.min()), np.log(tau.max())
    count = int(min(np.ceil(6 + 3 * (high - low)), 40))
    if len(tau) <= count or high - low < _EQUAL:
        nodes, which = np.unique(tau, return_inverse=True)
        return nodes, np.eye(len(nodes))[which]
    angle = (np.arange(count) + 0.5) * np.pi / count
    x, at = np.cos(angle), (2.0 * np.log(tau) - low - high) / (high - low)
    gap = at[:, None] - x
    gap[gap == 0] = 1e-300
    part = (-1.0) ** np.arange(count) * np.sin(angle) / gap
    return np.exp(0.5 * (low + high + (high - low) * x)), part / part.sum(axis=1, keepdims=True)
