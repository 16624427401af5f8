r"""The preprocessing of the ANODE and CATHODE papers, without its edges, and the plainest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from serendip.density.preprocessing import Preprocessing

__all__ = ["EDGE", "LogitTransform", "StandardTransform"]

Array = NDArray[np.float64]

_MARGIN = 1e-3

EDGE = _MARGIN / (1 + 2 * _MARGIN)
"""Where the training range ends inside the widened one, which is (0, 1)."""


@dataclass(frozen=True, kw_only=True)
class LogitTransform(Preprocessing):
    r"""Logit of each feature's place in its training range, then mean 0 and width 1 (arXiv:2001.04990, 2109.00546).

    .. math:: q(x) = \ln\frac{r}{1-r}, \qquad
        r = \frac{x - x_\mathrm{min} + \delta}{x_\mathrm{max} - x_\mathrm{min} + 2\delta}, \qquad
        \delta = 10^{-3}\,(x_\mathrm{max} - x_\mathrm{min})

    The papers have δ = 0: the outermost training events become infinite and they, and all events outside, are
    dropped. Here the training range lies inside (0, 1), and beyond it q goes on as the straight line with the
    slope at its end, so that every event has a finite density: low, since an event outside by 1 % of the range is
    ten units of q away.

    Attributes
    ----------
    low, high
        The widened range of each feature, shape ``(d,)``.
    """

    uses_mass: ClassVar[bool] = False

    low: Array
    high: Array

    @classmethod
    def _fit_map(cls, x: Array, weight: Array, spikes: Array) -> dict[str, Array]:
        del weight, spikes
        low, high = x.min(axis=0), x.max(axis=0)
        margin = _MARGIN * (high - low)
        return {"low": low - margin, "high": high + margin}

    def _map(self, x: Array) -> tuple[Array, Array]:
        width = self.high - self.low
        r = (x - self.low) / width
        inside = np.clip(r, EDGE, 1 - EDGE)
        slope = 1 / (inside * (1 - inside))
        return np.log(inside / (1 - inside)) + slope * (r - inside), slope / width

    def _unmap(self, q: Array) -> Array:
        top = np.log((1 - EDGE) / EDGE)
        inside = np.clip(q, -top, top)
        r = 1 / (1 + np.exp(-inside))
        return self.low + (self.high - self.low) * (r + (q - inside) * r * (1 - r))


@dataclass(frozen=True, kw_only=True)
class StandardTransform(Preprocessing):
    """No change of shape: features only get mean 0 and width 1 at every mass."""

    @classmethod
    def _fit_map(cls, x: Array, weight: Array, spikes: Array) -> dict[str, Array]:
        del x, weight, spikes
        return {}

    def _map(self, x: Array) -> tuple[Array, Array]:
        return x, np.ones_like(x)

    def _unmap(self, q: Array) -> Array:
        return q.copy()
