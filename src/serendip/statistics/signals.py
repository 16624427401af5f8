r"""Shapes of a resonance in mass, as bin integrals.

A shape is normalised over all masses, so that a signal strength counts every signal event, inside the fitted range or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from serendip.errors import InputError
from serendip.events.weights import WeightSum, signed_weights, weight_sum

__all__ = ["SignalShape", "double_crystal_ball", "gaussian", "parse_shape", "template_shape", "voigt"]

Array = NDArray[np.float64]

# a sum of weights of both signs may come out below zero by this many of its errors
_FLUCTUATION = 3.0
_FEWEST_EVENTS = 10
# Nodes over the resolution. The sum is wrong by exp(-pi Gamma / (sigma * spacing)), so the natural width has to be some part of
# the resolution.
_NODES = np.linspace(-8.0, 8.0, 161)
_NARROWEST = 0.3


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
        and the width by ``1 + stretch``; the three broadcast.
    relative_error
        Relative statistical error of the content of a bin with fraction ``f`` is ``relative_error / sqrt(f)``; zero for
        functions.
    sample
        Weights of the simulated events of a template.
    squares
        Squared relative error of the signal below ``m`` GeV, if there are weights of both signs: a bin's content may then be
        negative.
    """

    name: str
    mass: float
    width: float
    cdf: Callable[[Array, Any, Any], Array]
    relative_error: float = 0.0
    sample: WeightSum | None = None
    squares: Callable[[Array], Array] | None = None

    def fractions(self, edges: ArrayLike, shift: float = 0.0, stretch: float = 0.0) -> Array:
        """Share of the signal in each bin, shape ``(n_bins,)`` for edges in GeV of shape ``(n_bins + 1,)``.

        Bins in which negative weights prevail are one with their neighbours: see :meth:`negative_bins`.
        """
        shares = np.diff(self.cdf(np.asarray(edges, dtype=float), shift, stretch))
        return shares if self.squares is None else _pooled(shares)

    def negative_bins(self, edges: ArrayLike) -> int:
        """Number of bins in which negative weights prevail.

        A signal adds events, so the content of such a bin is shared with that of its nearest neighbours on both sides, as far as
        the sum is positive. The sum of all bins stays.

        Parameters
        ----------
        edges
            In GeV, shape ``(n_bins + 1,)``.

        Raises
        ------
        InputError
            If a bin is further below zero than the statistics of the simulation explain.
        """
        if self.squares is None:
            return 0
        grid = np.asarray(edges, dtype=float)
        shares, errors = np.diff(self.cdf(grid, 0.0, 0.0)), np.sqrt(np.diff(self.squares(grid)))
        # as much as the largest fluctuation of so many bins
        allowed = _FLUCTUATION + np.sqrt(2.0 * np.log(len(shares)))
        for i in np.flatnonzero(shares < -allowed * errors):
            raise InputError(
                f"{self.name}: between {grid[i]:g} and {grid[i + 1]:g} GeV the sum of the weights is {shares[i]:.3g} +- {errors[i]:.2g} "
                "of the signal; a signal adds events, so check the weight and its sign, or subtract no other process from it"
            )
        return int(np.count_nonzero(shares < 0))

    def moved(self, mass: float | None = None, width: float | None = None) -> SignalShape:
        """The same shape at another mass or with another core width, in GeV.

        Raises
        ------
        InputError
            If one of them is not positive.
        """
        new_mass, new_width = self.mass if mass is None else mass, self.width if width is None else width
        _check(new_mass, new_width)
        shift, stretch = new_mass / self.mass, new_width / self.width

        def cdf(m: Array, further_shift: Any, further_stretch: Any) -> Array:
            return self.cdf(m, shift * (1 + further_shift) - 1, stretch * (1 + further_stretch) - 1)

        kind, _, _, *rest = f"{self.name}::".split(":")
        name = ":".join(
            [kind, f"{new_mass:g}", f"{new_width / new_mass:.4g}", *[part for part in rest if part]]
        )
        return replace(
            self, name=name if ":" in self.name else self.name, mass=new_mass, width=new_width, cdf=cdf
        )

    def window(self, coverage: float = 0.8) -> tuple[float, float]:
        """Central interval in GeV that holds this share of the signal."""
        if not 0 < coverage < 1:
            msg = f"a share lies between 0 and 1, not {coverage}"
            raise ValueError(msg)
        grid = np.linspace(max(self.mass - 30 * self.width, 0.0), self.mass + 30 * self.width, 60_001)
        cumulative = self.cdf(grid, 0.0, 0.0)
        low, high = np.interp([0.5 * (1 - coverage), 0.5 * (1 + coverage)], cumulative, grid)
        return float(low), float(high)


def _pooled(shares: Array) -> Array:
    """Negative bins averaged with their neighbours until no average is negative; the sum stays."""
    out = shares.copy()
    while (negative := np.flatnonzero(out < -1e-15)).size:
        low = high = int(negative[0])
        while out[low : high + 1].sum() < 0 and (low > 0 or high < len(out) - 1):
            low, high = max(low - 1, 0), min(high + 1, len(out) - 1)
        out[low : high + 1] = max(out[low : high + 1].mean(), 0.0)
    return np.maximum(out, 0.0)


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

    def cdf(m: Array, shift: Any, stretch: Any) -> Array:
        return np.asarray(special.ndtr((m - mass * (1 + shift)) / (width * (1 + stretch))))

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

    def cdf(m: Array, shift: Any, stretch: Any) -> Array:
        t = (m - mass * (1 + shift)) / (width * (1 + stretch))
        inside = low_area + core * (
            stats.norm.cdf(np.clip(t, -alpha_low, alpha_high)) - stats.norm.cdf(-alpha_low)
        )
        below = tail(np.minimum(t, -alpha_low), alpha_low, n_low)
        above = total - tail(np.minimum(-t, -alpha_high), alpha_high, n_high)
        return np.asarray(np.where(t < -alpha_low, below, np.where(t > alpha_high, above, inside)) / total)

    numbers = ":".join(f"{v:.4g}" for v in (width / mass, alpha_low, n_low, alpha_high, n_high))
    return SignalShape(f"dcb:{mass:g}:{numbers}", mass, width, cdf)


def voigt(mass: float, width: float, natural: float) -> SignalShape:
    r"""Breit-Wigner (Cauchy) peak of full natural width :math:`\Gamma`, smeared by a normal resolution, all in GeV.

    The share below m is :math:`\int \phi(u)\,[\tfrac12 + \tfrac1\pi \arctan(2 (m - m_0 - \sigma u)/\Gamma)]\,du`. If the width
    floats, it is the resolution; the natural width stays.

    Parameters
    ----------
    mass
        Position.
    width
        Resolution :math:`\sigma`.
    natural
        Natural width :math:`\Gamma`, at least 0.3 of the resolution.

    Raises
    ------
    InputError
        If a number is not positive, or the natural width too small for its shape to matter.
    """
    _check(mass, width)
    if not (np.isfinite(natural) and natural >= _NARROWEST * width):
        raise InputError(
            f"a natural width of {natural:g} GeV cannot be resolved with a resolution of {width:g} GeV; take a Gaussian (gauss:MASS:REL_WIDTH)"
        )
    weights = np.exp(-0.5 * _NODES**2)
    weights /= weights.sum()

    def cdf(m: Array, shift: Any, stretch: Any) -> Array:
        distance, sigma = m - mass * (1 + shift), width * (1 + stretch)
        terms = (
            w * np.arctan(2.0 * (distance - sigma * u) / natural)
            for u, w in zip(_NODES, weights, strict=True)
        )
        return np.asarray(0.5 + sum(terms) / np.pi)

    return SignalShape(f"voigt:{mass:g}:{width / mass:.4g}:{natural / mass:.4g}", mass, width, cdf)


def template_shape(mass: ArrayLike, weights: ArrayLike | None = None, name: str = "template") -> SignalShape:
    """Shape of a sample of signal events.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    weights
        Event weights, shape ``(n,)``. Some may be negative (simulation at next-to-leading order); errors are from their squares.
    name
        How it is written in results.

    Raises
    ------
    InputError
        If there are fewer than ten effective events, or the sum of the weights is not positive.
    """
    m = np.asarray(mass, dtype=float)
    if not np.isfinite(m).all():
        raise InputError(f"{name}: the masses of the signal must be finite")
    w = signed_weights(weights, len(m), f"the signal events of {name}")
    m, w = m[w != 0], w[w != 0]
    found = weight_sum(w)
    if found.effective < _FEWEST_EVENTS:
        worth = "" if found.effective == len(m) else f" ({found.effective:.3g} effective events)"
        raise InputError(f"a signal template needs at least {_FEWEST_EVENTS} events, not {len(m)}{worth}")
    order = np.argsort(m)
    m, w = m[order], w[order] / w.sum()
    below = np.concatenate([[0.0], np.cumsum(w)])
    # with weights of both signs the sum goes up and down: quantiles are in the middle between its envelopes
    rising = 0.5 * (np.maximum.accumulate(below) + np.minimum.accumulate(below[::-1])[::-1])
    low, centre, high = np.interp([0.16, 0.5, 0.84], 0.5 * (rising[1:] + rising[:-1]), m)
    width = max(0.5 * (high - low), 1e-9 * centre)

    def cdf(x: Array, shift: Any, stretch: Any) -> Array:
        at = centre + (x - centre * (1 + shift)) / (1 + stretch)
        return np.asarray(below[np.searchsorted(m, at)])

    squares = np.concatenate([[0.0], np.cumsum(w**2)])
    return SignalShape(
        name, float(centre), float(width), cdf, relative_error=float(found.effective**-0.5), sample=found,
        squares=(lambda x: np.asarray(squares[np.searchsorted(m, x)])) if found.n_negative else None,
    )  # fmt: skip


def parse_shape(text: str) -> SignalShape:
    """A shape from the command line.

    ``gauss:MASS:REL_WIDTH``, ``voigt:MASS:REL_WIDTH:REL_NATURAL_WIDTH`` or ``dcb:MASS:REL_WIDTH:ALPHA_LOW:N_LOW:ALPHA_HIGH:N_HIGH``, the mass in GeV and the width
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
    if name == "voigt" and len(numbers) == 3:
        return voigt(numbers[0], numbers[0] * numbers[1], numbers[0] * numbers[2])
    if name == "dcb" and len(numbers) == 6:
        mass, width, alpha_low, n_low, alpha_high, n_high = numbers
        return double_crystal_ball(
            mass, mass * width, alpha_low=alpha_low, n_low=n_low, alpha_high=alpha_high, n_high=n_high
        )
    raise InputError(
        f"'{text}' is not a signal shape; expected gauss:MASS:REL_WIDTH, for example gauss:3500:0.03, "
        "voigt:MASS:REL_WIDTH:REL_NATURAL_WIDTH or "
        "dcb:MASS:REL_WIDTH:ALPHA_LOW:N_LOW:ALPHA_HIGH:N_HIGH"
    )
