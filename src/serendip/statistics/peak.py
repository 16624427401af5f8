"""A resonance whose mass or width is fitted together with its strength."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.statistics.signals import SignalShape

__all__ = ["FLOATS", "Peak"]

Array = NDArray[np.float64]

FLOATS = ("mass", "width")
"""The parameters of a peak that can float."""

# derivatives are differences over this part of a width; the width itself stays within a factor e^3
_DIFFERENCE = 1e-4
_MOST = 3.0


@dataclass(frozen=True, eq=False)
class Peak:
    """A resonance on bins, and its floating parameters.

    The fitted parameters are the mass in units of the width of :attr:`shape`, from its mass, and the logarithm of the width
    relative to that of :attr:`shape`.

    Attributes
    ----------
    shape
        Where the fit starts.
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    events
        Signal events over all masses for signal strength one, in Poisson units.
    floats
        Of :data:`FLOATS`, in this order.
    """

    shape: SignalShape
    edges: Array
    events: float
    floats: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [name for name in self.floats if name not in FLOATS]
        if wrong or list(self.floats) != [name for name in FLOATS if name in self.floats]:
            raise InputError(f"'{','.join(self.floats)}' cannot float; expected mass, width or mass,width")
        if self.floats and self.shape.sample is not None:
            raise InputError(
                "mass and width of a simulated signal do not float: its histogram has steps; describe it by a shape (gauss:..., "
                "dcb:...), or give --scale-error and --resolution-error"
            )

    def signal(self, offsets: Array, bins: NDArray[np.bool_] | slice) -> tuple[Array, Array]:
        """Expected signal, shape ``(n_bins, t)``, and its derivatives by the parameters, ``(n_bins, t, f)``.

        Parameters
        ----------
        offsets
            Parameters, shape ``(t, f)``.
        bins
            Which of the bins.
        """
        slopes = []
        for j in range(len(self.floats)):
            step = np.zeros(len(self.floats))
            step[j] = _DIFFERENCE
            up, down = self._counts(offsets + step), self._counts(offsets - step)
            slopes.append(((up - down) / (2 * _DIFFERENCE))[bins])
        return self._counts(offsets)[bins], np.stack(slopes, axis=-1)

    def _counts(self, offsets: Array) -> Array:
        shift, stretch = np.zeros(len(offsets)), np.zeros(len(offsets))
        for name, column in zip(self.floats, offsets.T, strict=True):
            if name == "mass":
                shift = column * self.shape.width / self.shape.mass
            else:
                stretch = np.expm1(np.clip(column, -_MOST, _MOST))
        return self.events * np.diff(self.shape.cdf(self.edges[:, None], shift, stretch), axis=0)

    def values(self, offsets: Array) -> Array:
        """Mass and width in GeV, as far as they float, shape ``(t, f)``."""
        out = np.empty_like(offsets)
        for j, name in enumerate(self.floats):
            if name == "mass":
                out[:, j] = self.shape.mass + self.shape.width * offsets[:, j]
            else:
                out[:, j] = self.shape.width * np.exp(np.clip(offsets[:, j], -_MOST, _MOST))
        return out

    def errors(self, offsets: Array, errors: Array) -> Array:
        """Errors in GeV of mass and width from those of the parameters, shape ``(t, f)``."""
        size = [
            self.shape.width if name == "mass" else values
            for name, values in zip(self.floats, self.values(offsets).T, strict=True)
        ]
        return np.asarray(errors * np.stack(np.broadcast_arrays(*size, np.zeros(len(offsets)))[:-1], axis=-1))

    def moved(self, mass: float | None = None, width: float | None = None) -> Peak:
        """The peak started elsewhere, in GeV."""
        return replace(self, shape=self.shape.moved(mass, width))
