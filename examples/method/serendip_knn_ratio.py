r"""Density ratio from nearest neighbours: a complete search method in one file.

Among the k events nearest to x, from the window or a strip on either side of it, count the weight on either side:

.. math:: s(x) = \ln \frac{\sum_{i \in \mathrm{window}} w_i + w_0}{\sum_{i \in \mathrm{strips}} w_i + w_0}

with both totals scaled to be equal, and w_0 one event, so that the score is finite. Features must not depend on the mass,
as in CWoLa.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from sklearn.neighbors import KDTree

from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig, as_splits, require_events

__all__ = ["KnnRatio", "KnnRatioConfig"]


class KnnRatioConfig(MethodConfig):
    """Options: neighbours that are counted, and the width of each strip in widths of the window."""

    neighbours: PositiveInt = 100
    strip_width: PositiveFloat = 1.0


class KnnRatio(Method):
    """Weight of the window over weight of the strips among the nearest neighbours."""

    name = "knn-ratio"
    title = "Nearest neighbours: window against strips"
    Config = KnnRatioConfig
    config: KnnRatioConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or the strips hold fewer events than there are neighbours."""
        inside, strips = self._regions(events, window)
        for mask in as_splits(splits, len(events)):
            seen = mask & (events.weights > 0)
            require_events(seen & inside, self.config.neighbours, "signal region", window)
            require_events(seen & strips, self.config.neighbours, "strips", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Sort the events of each split into a tree; model k may use the events of row k only."""
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        inside, strips = self._regions(events, window)
        weights, x = events.weights, events.x
        self._models = []
        for mask in masks:
            rows = np.flatnonzero(mask & (inside | strips) & (weights > 0))
            centre, spread = x[rows].mean(axis=0), x[rows].std(axis=0)
            side = inside[rows]
            w = weights[rows].copy()
            w[~side] *= w[side].sum() / w[~side].sum()
            self._models.append((KDTree((x[rows] - centre) / spread), centre, spread, side, w))
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Log of the ratio of weights, shape ``(n_events,)``."""
        tree, centre, spread, side, w = self._models[split]
        near = tree.query((events.x - centre) / spread, self.config.neighbours, return_distance=False)
        signal = np.where(side[near], w[near], 0.0).sum(axis=1)
        other = np.where(side[near], 0.0, w[near]).sum(axis=1)
        return np.asarray(np.log((signal + w.mean()) / (other + w.mean())))

    def _regions(self, events: Events, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        width = self.config.strip_width * window.width
        inside = window.contains(events.m)
        strips = (events.m >= window.low - width) & (events.m < window.high + width) & ~inside
        return inside, strips
