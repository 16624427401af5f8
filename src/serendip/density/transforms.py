r"""The default preprocessing: every feature nearly normal, by splines through its quantiles.

:math:`q_j` is a monotonic rational-quadratic spline (arXiv:1906.04032) through weighted quantiles of the
training sample and the normal quantiles; beyond its outermost knots it goes on as a straight line. So it has
no edge: an event outside the training range gets a finite, low density, where the logit of the papers gives
NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from serendip.density.preprocessing import Preprocessing

__all__ = ["FeatureTransform"]

Array = NDArray[np.float64]

_KNOTS = 21


@dataclass(frozen=True, kw_only=True)
class FeatureTransform(Preprocessing):
    """Features to nearly standard normal numbers and back.

    Attributes
    ----------
    x_knots, z_knots, slopes
        The splines, shape ``(d, n_knots)``.
    """

    x_knots: Array
    z_knots: Array
    slopes: Array

    @classmethod
    def _fit_map(cls, x: Array, weight: Array, spikes: Array) -> dict[str, Array]:
        knots = [_quantile_knots(x[:, j], weight, j, spikes) for j in range(x.shape[1])]
        x_knots, z_knots = (np.stack([k[i] for k in knots]) for i in (0, 1))
        return {"x_knots": x_knots, "z_knots": z_knots, "slopes": _monotone_slopes(x_knots, z_knots)}

    def _map(self, x: Array) -> tuple[Array, Array]:
        return _spline_forward(x, self.x_knots, self.z_knots, self.slopes)

    def _unmap(self, q: Array) -> Array:
        return _spline_inverse(q, self.x_knots, self.z_knots, self.slopes)


def _quantile_knots(x: Array, weight: Array, feature: int, spikes: Array) -> tuple[Array, Array]:
    order = np.argsort(x, kind="stable")
    x, weight = x[order], weight[order]
    spread = x[-1] - x[0]
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
