r"""Invertible preprocessing of features with exact Jacobians: and its common base.

Features :math:`x` with mass :math:`m` are transformed to mean 0 and width 1, so that a density model has to learn only the rest:

.. math:: z_j = \frac{q_j(x_j) - \mu_j(u)}{\sigma_j(u)}, \qquad u = \frac{\ln (m - m_0) - a}{b}

with :math:`m_0` a little below the lowest mass and a, b such that u is standardised: a falling spectrum with
its turn-on at low masses, where features change fastest, spreads evenly in u.

Choose the map :math:`q_j` of each feature:

* :class:`~serendip.density.transforms.FeatureTransform` (``"quantile"``): nearly normal whatever the feature;
* :class:`~serendip.density.logit.LogitTransform` (``"logit"``): the choice of the ANODE and CATHODE papers;
* :class:`~serendip.density.logit.StandardTransform` (``"standardise"``): none, :math:`q_j(x) = x`.

:math:`\mu_j` and :math:`\ln\sigma_j` are polynomials in :math:`u`: the leading mass dependence of
each feature is interpolated through a masked window by construction. The papers do not have it, so it is off
for ``"logit"``, where :math:`\mu_j` and :math:`\sigma_j` are mean and standard deviation. Outside the training
range :math:`u` is held at the nearest training mass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["Preprocessing"]

Array = NDArray[np.float64]

_SPIKE_FRACTION = 2e-3
_MEAN_TERMS = 4
_SCALE_TERMS = 3


@dataclass(frozen=True, kw_only=True)
class Preprocessing(ABC):
    """Features to standardised numbers and back.

    Values that hold more than 0.2 % of the sample each (an exact 0, integers) are *spikes*.
    :meth:`dequantise` spreads them over the cell between the midpoints to the neighbouring values, so that a
    density exists, and
    :meth:`inverse` puts every value inside such a cell back on the spike.

    Attributes
    ----------
    mass
        The numbers m_0 (GeV), a, b, and the lowest and highest u in training, shape ``(5,)``.
    mean
        Coefficients of 1, u, u², u³, shape ``(d, 4)``.
    log_scale
        Coefficients of 1, u, u², shape ``(d, 3)``.
    spikes
        One row per spike: feature number, value, low and high edge of its cell; shape ``(n_spikes, 4)``.
    """

    uses_mass: ClassVar[bool] = True

    mass: Array
    mean: Array
    log_scale: Array
    spikes: Array

    @classmethod
    def fit(
        cls,
        x: Array,
        m: Array,
        weight: Array,
        rng: np.random.Generator,
        *,
        mass_dependence: bool | None = None,
    ) -> Self:
        """Learn the transformation.

        Parameters
        ----------
        x, m, weight
            Features ``(n, d)``, masses ``(n,)`` in GeV and weights ``(n,)`` of the training sample.
        rng
            Spreads the spikes.
        mass_dependence
            Whether mean and scale follow the mass. Default: as the class says.

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
        _require_spread(x)
        spikes = _find_spikes(x)
        x = _spread(x, spikes, rng)
        learnt = cls._fit_map(x, weight, spikes)
        d = x.shape[1]
        mass = np.array([below, centre, scale, u.min(), u.max()])
        start = cls(
            mass=mass,
            mean=np.zeros((d, _MEAN_TERMS)),
            log_scale=np.zeros((d, _SCALE_TERMS)),
            spikes=spikes,
            **learnt,
        )
        z, _ = start._map(x)
        with_mass = cls.uses_mass if mass_dependence is None else mass_dependence
        mean, log_scale = (_fit_mass_dependence if with_mass else _fit_moments)(z, u, weight)
        return cls(mass=mass, mean=mean, log_scale=log_scale, spikes=spikes, **learnt)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.mean)

    def context(self, m: Array) -> Array:
        """Standardised ln(m - m_0), shape ``(n,)``, held at the ends of the training range."""
        below, centre, scale, low, high = self.mass
        clipped: Array = np.clip((np.log(np.maximum(m - below, 1e-300)) - centre) / scale, low, high)
        return clipped

    def dequantise(self, x: NDArray[Any], rng: np.random.Generator) -> Array:
        """``x`` with every spike spread evenly over its cell, shape ``(n, d)``."""
        return _spread(x, self.spikes, rng)

    def forward(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return ``z`` of shape ``(n, d)`` and ln|det dz/dx| of shape ``(n,)``."""
        z, derivative = self._map(x)
        mean, log_scale = self._mass_dependence(u)
        return (z - mean) * np.exp(-log_scale), np.log(derivative).sum(1) - log_scale.sum(1)

    def inverse(self, z: Array, u: Array) -> Array:
        """Return ``x`` of shape ``(n, d)``; values inside the cell of a spike become the spike."""
        mean, log_scale = self._mass_dependence(u)
        x = self._unmap(z * np.exp(log_scale) + mean)
        for feature, value, low, high in self.spikes:
            column = x[:, int(feature)]
            column[(column >= low) & (column < high)] = value
        return x

    def arrays(self) -> dict[str, Array]:
        """Everything learnt, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _mass_dependence(self, u: Array) -> tuple[Array, Array]:
        return _powers(u, _MEAN_TERMS) @ self.mean.T, _powers(u, _SCALE_TERMS) @ self.log_scale.T

    @classmethod
    @abstractmethod
    def _fit_map(cls, x: Array, weight: Array, spikes: Array) -> dict[str, Array]:
        """Arrays of the maps q, by the names of the subclass's fields."""

    @abstractmethod
    def _map(self, x: Array) -> tuple[Array, Array]:
        """Return q(x) and dq/dx > 0, both ``(n, d)``."""

    @abstractmethod
    def _unmap(self, q: Array) -> Array:
        """Invert q, in a new array of shape ``(n, d)``."""


def _require_spread(x: Array) -> None:
    constant = np.flatnonzero(np.ptp(x, axis=0) == 0)
    if len(constant):
        j = int(constant[0])
        raise InputError(
            f"feature number {j + 1} is constant ({x[0, j]:g}): there is nothing to learn from it"
        )


def _find_spikes(x: Array) -> Array:
    rows = []
    for j in range(x.shape[1]):
        values, counts = np.unique(x[:, j], return_counts=True)
        floor = 1e-6 * (np.subtract(*np.percentile(values, [84, 16])) + 1e-12)
        gaps = np.maximum(np.diff(values), floor)
        below = np.concatenate([gaps[:1], gaps])
        above = np.concatenate([gaps, gaps[-1:]])
        for i in np.flatnonzero(counts > max(_SPIKE_FRACTION * len(x), 2)):
            rows.append((j, values[i], values[i] - below[i] / 2, values[i] + above[i] / 2))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _spread(x: NDArray[Any], spikes: Array, rng: np.random.Generator) -> Array:
    x = np.array(x, dtype=np.float64)
    for feature, value, low, high in spikes:
        at = np.flatnonzero(x[:, int(feature)] == value)
        x[at, int(feature)] = rng.uniform(low, high, len(at))
    return x


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


def _fit_moments(z: Array, u: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation, independent of the mass."""
    del u
    mean, log_scale = (np.zeros((z.shape[1], terms)) for terms in (_MEAN_TERMS, _SCALE_TERMS))
    mean[:, 0] = np.average(z, axis=0, weights=weight)
    log_scale[:, 0] = 0.5 * np.log(np.average((z - mean[:, 0]) ** 2, axis=0, weights=weight))
    return mean, log_scale


def _least_squares(design: Array, target: Array) -> Array:
    return np.asarray(np.linalg.lstsq(design, target, rcond=None)[0].T, dtype=np.float64)


def _powers(u: Array, terms: int) -> Array:
    result: Array = np.vander(u, terms, increasing=True)
    return result
