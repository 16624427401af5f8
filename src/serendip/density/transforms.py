r"""Invertible preprocessing of features with exact Jacobians.

:class:`FeatureTransform` carries features :math:`x` with mass :math:`m` to numbers that are close to a
standard normal distribution at every mass, so that a density model has to learn only what is left:

.. math:: z_j = \frac{q_j(x_j) - \mu_j(u)}{\sigma_j(u)}, \qquad u = \frac{\ln (m - m_0) - a}{b}

with :math:`m_0` a little below the lowest mass and a, b such that u is standardised: a falling spectrum with
its turn-on at low masses, where features change fastest, spreads evenly in u.

:math:`q_j` is a monotonic rational-quadratic spline (arXiv:1906.04032) through weighted quantiles of the
training sample and the normal quantiles; beyond its outermost knots it goes on as a straight line. So it has
no edge: an event outside the training range gets a finite, low density, where the logit of the papers gives
NaN.
:math:`\mu_j` and :math:`\ln\sigma_j` are polynomials in :math:`u`: the leading mass dependence of
each feature is interpolated through a masked window by construction. Outside the training range :math:`u` is
held at the nearest mass that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from serendip.errors import InputError

__all__ = ["FeatureTransform"]

Array = NDArray[np.float64]

_KNOTS = 21
_SPIKE_FRACTION = 2e-3
_MEAN_TERMS = 4
_SCALE_TERMS = 3


@dataclass(frozen=True)
class FeatureTransform:
    """Features to nearly standard normal numbers and back.

    Values that hold more than 0.2 % of the sample each (an exact 0, integers) are *spikes*.
    :meth:`dequantise` spreads them over the cell between the midpoints to the neighbouring values, so that a
    density exists, and
    :meth:`inverse` puts every value inside such a cell back on the spike.

    Attributes
    ----------
    mass
        The numbers m_0 (GeV), a, b, and the lowest and highest u in training, shape ``(5,)``.
    x_knots, z_knots, slopes
        The splines, shape ``(d, n_knots)``.
    mean
        Coefficients of 1, u, u², u³, shape ``(d, 4)``.
    log_scale
        Coefficients of 1, u, u², shape ``(d, 3)``.
    spikes
        One row per spike: feature number, value, low and high edge of its cell; shape ``(n_spikes, 4)``.
    """

    mass: Array
    x_knots: Array
    z_knots: Array
    slopes: Array
    mean: Array
    log_scale: Array
    spikes: Array

    @classmethod
    def fit(cls, x: Array, m: Array, weight: Array, rng: np.random.Generator) -> Self:
        """Learn the transformation.

        Parameters
        ----------
        x, m, weight
            Features ``(n, d)``, masses ``(n,)`` in GeV and weights ``(n,)`` of the training sample.
        rng
            Spreads the spikes.

        Raises
        ------
        InputError
            If a feature is constant.
        """
        lowest = m.min()
        below = lowest - 0.25 * (np.median(m) - lowest)
        log_m = np.log(m - below) if below < lowest else np.zeros(len(m))
        centre = np.average(log_m, weights=weight)
        scale = np.sqrt(np.average((log_m - centre) ** 2, weights=weight))
        # a sample at one single mass is legitimate for an unconditional density
        scale = scale if scale > 1e-9 else 1.0
        u = (log_m - centre) / scale
        spikes = _find_spikes(x)
        x = _spread(x, spikes, rng)
        knots = [_quantile_knots(x[:, j], weight, j, spikes) for j in range(x.shape[1])]
        x_knots = np.stack([k[0] for k in knots])
        z_knots = np.stack([k[1] for k in knots])
        slopes = _monotone_slopes(x_knots, z_knots)
        z, _ = _spline_forward(x, x_knots, z_knots, slopes)
        mean, log_scale = _fit_mass_dependence(z, u, weight)
        mass = np.array([below, centre, scale, u.min(), u.max()])
        return cls(mass, x_knots, z_knots, slopes, mean, log_scale, spikes)

    def context(self, m: Array) -> Array:
        """Standardised ln(m - m_0), shape ``(n,)``, held at the ends of the training range."""
        below, centre, scale, low, high = self.mass
        clipped: Array = np.clip((np.log(np.maximum(m - below, 1e-300)) - centre) / scale, low, high)
        return clipped

    def dequantise(self, x: Array, rng: np.random.Generator) -> Array:
        """``x`` with every spike spread evenly over its cell, shape ``(n, d)``."""
        return _spread(x, self.spikes, rng)

    def forward(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return ``z`` of shape ``(n, d)`` and ln|det dz/dx| of shape ``(n,)``."""
        z, derivative = _spline_forward(x, self.x_knots, self.z_knots, self.slopes)
        mean, log_scale = self._mass_dependence(u)
        return (z - mean) * np.exp(-log_scale), np.log(derivative).sum(1) - log_scale.sum(1)

    def inverse(self, z: Array, u: Array) -> Array:
        """Return ``x`` of shape ``(n, d)``; values inside the cell of a spike become the spike."""
        mean, log_scale = self._mass_dependence(u)
        x = _spline_inverse(z * np.exp(log_scale) + mean, self.x_knots, self.z_knots, self.slopes)
        for feature, value, low, high in self.spikes:
            column = x[:, int(feature)]
            column[(column >= low) & (column < high)] = value
        return x

    def arrays(self) -> dict[str, Array]:
        """Everything learnt, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _mass_dependence(self, u: Array) -> tuple[Array, Array]:
        return _powers(u, _MEAN_TERMS) @ self.mean.T, _powers(u, _SCALE_TERMS) @ self.log_scale.T


def _find_spikes(x: Array) -> Array:
    rows = []
    for j in range(x.shape[1]):
        values, counts = np.unique(x[:, j], return_counts=True)
        if len(values) == 1:
            continue
        floor = 1e-6 * (np.subtract(*np.percentile(values, [84, 16])) + 1e-12)
        gaps = np.maximum(np.diff(values), floor)
        below = np.concatenate([gaps[:1], gaps])
        above = np.concatenate([gaps, gaps[-1:]])
        for i in np.flatnonzero(counts > max(_SPIKE_FRACTION * len(x), 2)):
            rows.append((j, values[i], values[i] - below[i] / 2, values[i] + above[i] / 2))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _spread(x: Array, spikes: Array, rng: np.random.Generator) -> Array:
    x = np.array(x, dtype=np.float64)
    for feature, value, low, high in spikes:
        at = np.flatnonzero(x[:, int(feature)] == value)
        x[at, int(feature)] = rng.uniform(low, high, len(at))
    return x


def _quantile_knots(x: Array, weight: Array, feature: int, spikes: Array) -> tuple[Array, Array]:
    order = np.argsort(x, kind="stable")
    x, weight = x[order], weight[order]
    spread = x[-1] - x[0]
    if not spread > 0:
        raise InputError(
            f"feature number {feature + 1} is constant ({x[0]:g}): there is nothing to learn from it"
        )
    level = (np.cumsum(weight) - 0.5 * weight) / weight.sum()
    effective = weight.sum() ** 2 / (weight**2).sum()
    # at least 20 events beyond the outermost knots: an edge fixed by one event would be noise
    edge = ndtri(1 - np.clip(20 / effective, 1e-3, 0.1))
    z = np.linspace(-edge, edge, _KNOTS)
    # the edges of spikes become knots: the slope jumps there
    borders = np.unique(spikes[spikes[:, 0] == feature, 2:])
    for jump in ndtri(np.clip(np.interp(borders, x, level), 1e-6, 1 - 1e-6)):
        nearest = 1 + int(np.argmin(np.abs(z[1:-1] - jump)))
        if z[nearest - 1] + 1e-3 < jump < z[nearest + 1] - 1e-3:
            z[nearest] = jump
    knots = np.interp(ndtr(z), level, x)
    step = 1e-9 * spread
    return np.maximum.accumulate(knots - step * np.arange(_KNOTS)) + step * np.arange(1, _KNOTS + 1), z


def _monotone_slopes(x: Array, z: Array) -> Array:
    """Slopes at the knots: harmonic mean of the two neighbouring secants (Fritsch and Butland)."""
    width = np.diff(x, axis=1)
    secant = np.diff(z, axis=1) / width
    w1, w2 = 2 * width[:, 1:] + width[:, :-1], width[:, 1:] + 2 * width[:, :-1]
    inner = (w1 + w2) / (w1 / secant[:, :-1] + w2 / secant[:, 1:])
    return np.concatenate([secant[:, :1], inner, secant[:, -1:]], axis=1)


def _fit_mass_dependence(z: Array, u: Array, weight: Array) -> tuple[Array, Array]:
    root = np.sqrt(weight)[:, None]
    powers = _powers(u, _MEAN_TERMS)
    mean = _least_squares(powers * root, z * root)
    residual = z - powers @ mean.T
    order = np.array_split(np.argsort(u, kind="stable"), 12)
    spread = np.stack([np.sqrt(np.average(residual[i] ** 2, axis=0, weights=weight[i])) for i in order])
    centres = np.array([np.average(u[i], weights=weight[i]) for i in order])
    lines = _least_squares(_powers(centres, _SCALE_TERMS), np.log(spread + 1e-12))
    return mean, lines


def _least_squares(design: Array, target: Array) -> Array:
    return np.asarray(np.linalg.lstsq(design, target, rcond=None)[0].T, dtype=np.float64)


def _powers(u: Array, terms: int) -> Array:
    result: Array = np.vander(u, terms, increasing=True)
    return result


def _bins(value: Array, knots: Array) -> NDArray[np.intp]:
    index = np.stack(
        [np.searchsorted(knots[j], value[:, j], side="right") for j in range(len(knots))], axis=1
    )
    return np.clip(index - 1, 0, knots.shape[1] - 2)


def _gather(table: Array, index: NDArray[np.intp]) -> Array:
    return table[np.arange(len(table)), index]


def _spline_forward(x: Array, xk: Array, zk: Array, dk: Array) -> tuple[Array, Array]:
    i = _bins(x, xk)
    x0, width = _gather(xk, i), _gather(np.diff(xk, axis=1), i)
    z0, height = _gather(zk, i), _gather(np.diff(zk, axis=1), i)
    d0, d1 = _gather(dk, i), _gather(dk, i + 1)
    s = height / width
    xi = np.clip((x - x0) / width, 0.0, 1.0)
    mix = xi * (1 - xi)
    bottom = s + (d0 + d1 - 2 * s) * mix
    z = z0 + height * (s * xi**2 + d0 * mix) / bottom
    derivative = s**2 * (d1 * xi**2 + 2 * s * mix + d0 * (1 - xi) ** 2) / bottom**2
    # xi is clipped, so beyond the knots the derivative is the end slope: go on along it
    beyond = x - np.clip(x, xk[:, 0], xk[:, -1])
    return z + derivative * beyond, derivative


def _spline_inverse(z: Array, xk: Array, zk: Array, dk: Array) -> Array:
    inside = np.clip(z, zk[:, 0], zk[:, -1])
    i = _bins(inside, zk)
    x0, width = _gather(xk, i), _gather(np.diff(xk, axis=1), i)
    z0, height = _gather(zk, i), _gather(np.diff(zk, axis=1), i)
    d0, d1 = _gather(dk, i), _gather(dk, i + 1)
    s = height / width
    rise = inside - z0
    curve = d0 + d1 - 2 * s
    a = height * (s - d0) + rise * curve
    b = height * d0 - rise * curve
    c = -s * rise
    xi = 2 * c / (-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0)))
    x = x0 + width * xi
    slope = np.where(z < inside, dk[:, 0], dk[:, -1])
    return x + (z - inside) / slope
