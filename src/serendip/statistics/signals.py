r"""Shapes of a resonance in mass, as bin integrals.

A shape is normalised over all masses, so that a signal strength counts every signal event, inside the fitted range or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.errors import InputError

__all__ = ["SignalShape", "double_crystal_ball", "gaussian", "parse_shape", "template_shape"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SignalShape:
    """A resonance.

    Attributes
    ----------
    name
        How it is written in results.
    mass, width
        Position and Gaussian core width in GeV; the width of a template is the half width that holds 68 %.
    cdf
        ``cdf(m, shift, stretch)``: share of the signal below ``m`` GeV if the mass scale is multiplied by ``1 + shift``
        and the width by ``1 + stretch``.
    relative_error
        Relative statistical error of the content of a bin with fraction ``f`` is ``relative_error / sqrt(f)``; zero for
        functions.
    """

    name: str
    mass: float
    width: float
    cdf: Callable[[Array, float, float], Array]
    relative_error: float = 0.0

    def fractions(self, edges: ArrayLike, shift: float = 0.0, stretch: float = 0.0) -> Array:
        """Share of the signal in each bin, shape ``(n_bins,)`` for edges in GeV of shape ``(n_bins + 1,)``."""
        return np.diff(self.cdf(np.asarray(edges, dtype=float), shift, stretch))

    def window(self, coverage: float = 0.8) -> tuple[float, float]:
        """Central interval in GeV that holds this share of the signal."""
        if not 0 < coverage < 1:
            msg = f"a share lies between 0 and 1, not {coverage}"
            raise ValueError(msg)
        grid = np.linspace(max(self.mass - 30 * self.width, 0.0), self.mass + 30 * self.width, 60_001)
        cumulative = self.cdf(grid, 0.0, 0.0)
        low, high = np.interp([0.5 * (1 - coverage), 0.5 * (1 + coverage)], cumulative, grid)
        return float(low), float(high)


def _check(mass: float, width: float) -> None:
    if not (np.isfinite(mass) and mass > 0 and np.isfinite(width) and width > 0):
        raise InputError(
            f"a resonance needs a positive mass and width in GeV, not {mass:g} and {width:g}; for example gauss:3500:0.03"
        )


def gaussian(mass: float, width: float) -> SignalShape:
    """Normal peak at ``mass`` with standard deviation ``width``, both in GeV.

    Raises
    ------
    InputError
        If one of them is not positive.
    """
    _check(mass, width)

    def cdf(m: Array, shift: float, stretch: float) -> Array:
        return np.asarray(stats.norm.cdf(m, mass * (1 + shift), width * (1 + stretch)))

    return SignalShape(f"gauss:{mass:g}:{width / mass:.4g}", mass, width, cdf)


def double_crystal_ball(
    mass: float, width: float, *, alpha_low: float, n_low: float, alpha_high: float, n_high: float
) -> SignalShape:
    r"""Normal core with a power-law tail on each side.

    With :math:`t = (m - m_0)/\sigma` the density is proportional to :math:`e^{-t^2/2}` for
    :math:`-\alpha_L < t < \alpha_H`, and to
    :math:`e^{-\alpha^2/2} [\tfrac{\alpha}{n} (\tfrac{n}{\alpha} - \alpha + |t|)]^{-n}` beyond.

    Parameters
    ----------
    mass, width
        Position and core width in GeV.
    alpha_low, n_low, alpha_high, n_high
        Where each tail starts, in core widths, and its power.

    Raises
    ------
    InputError
        If a number is not positive, or a power is not above one (the tail would not end).
    """
    _check(mass, width)
    for side, alpha, n in (("low", alpha_low, n_low), ("high", alpha_high, n_high)):
        if not (alpha > 0 and n > 1 and np.isfinite([alpha, n]).all()):
            raise InputError(
                f"the {side} tail of a Crystal Ball needs alpha > 0 and n > 1, not {alpha:g} and {n:g}"
            )

    def tail(t: Array, alpha: float, n: float) -> Array:
        """Integral of the tail from ``t <= -alpha`` to minus infinity."""
        base = np.maximum(alpha / n * (n / alpha - alpha - t), 1.0)
        return np.asarray(n / alpha / (n - 1) * np.exp(-0.5 * alpha**2) * base ** (1 - n))

    core = np.sqrt(2 * np.pi)
    low_area = tail(np.array(-alpha_low), alpha_low, n_low)
    middle = core * (stats.norm.cdf(alpha_high) - stats.norm.cdf(-alpha_low))
    total = low_area + middle + tail(np.array(-alpha_high), alpha_high, n_high)

    def cdf(m: Array, shift: float, stretch: float) -> Array:
        t = (m - mass * (1 + shift)) / (width * (1 + stretch))
        inside = low_area + core * (
            stats.norm.cdf(np.clip(t, -alpha_low, alpha_high)) - stats.norm.cdf(-alpha_low)
        )
        below = tail(np.minimum(t, -alpha_low), alpha_low, n_low)
        above = total - tail(np.minimum(-t, -alpha_high), alpha_high, n_high)
        return np.asarray(np.where(t < -alpha_low, below, np.where(t > alpha_high, above, inside)) / total)

    numbers = ":".join(f"{v:.4g}" for v in (width / mass, alpha_low, n_low, alpha_high, n_high))
    return SignalShape(f"dcb:{mass:g}:{numbers}", mass, width, cdf)


def template_shape(mass: ArrayLike, weights: ArrayLike | None = None, name: str = "template") -> SignalShape:
    """Shape of a sample of signal events.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    weights
        Event weights, shape ``(n,)``, not negative.
    name
        How it is written in results.

    Raises
    ------
    InputError
        If there are fewer than ten events with weight.
    """
    m = np.asarray(mass, dtype=float)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, dtype=float)
    if m.shape != w.shape or not np.isfinite(m).all() or not np.isfinite(w).all() or np.any(w < 0):
        raise InputError("signal events need finite masses and weights that are finite and not negative")
    m, w = m[w > 0], w[w > 0]
    if len(m) < 10:
        raise InputError(f"a signal template needs at least 10 events, not {len(m)}")
    order = np.argsort(m)
    m, w = m[order], w[order]
    below = np.concatenate([[0.0], np.cumsum(w)]) / w.sum()
    low, centre, high = np.interp([0.16, 0.5, 0.84], 0.5 * (below[1:] + below[:-1]), m)
    width = max(0.5 * (high - low), 1e-9 * centre)

    def cdf(x: Array, shift: float, stretch: float) -> Array:
        at = centre + (x / (1 + shift) - centre) / (1 + stretch)
        return np.asarray(below[np.searchsorted(m, at)])

    effective = w.sum() ** 2 / (w**2).sum()
    return SignalShape(name, float(centre), float(width), cdf, relative_error=float(effective**-0.5))


def parse_shape(text: str) -> SignalShape:
    """A shape from the command line.

    ``gauss:MASS:REL_WIDTH`` or ``dcb:MASS:REL_WIDTH:ALPHA_LOW:N_LOW:ALPHA_HIGH:N_HIGH``, the mass in GeV and the width
    relative to it.

    Raises
    ------
    InputError
        If it is none of these.
    """
    name, *parts = text.strip().lower().split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if name == "gauss" and len(numbers) == 2:
        return gaussian(numbers[0], numbers[0] * numbers[1])
    if name == "dcb" and len(numbers) == 6:
        mass, width, alpha_low, n_low, alpha_high, n_high = numbers
        return double_crystal_ball(
            mass, mass * width, alpha_low=alpha_low, n_low=n_low, alpha_high=alpha_high, n_high=n_high
        )
    raise InputError(
        f"'{text}' is no signal shape; expected gauss:MASS:REL_WIDTH, for example gauss:3500:0.03, or "
        "dcb:MASS:REL_WIDTH:ALPHA_LOW:N_LOW:ALPHA_HIGH:N_HIGH"
    )
