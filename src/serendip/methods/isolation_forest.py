r"""Isolation forest (Liu, Ting and Zhou 2008): a baseline that looks for lonely events.

Random cuts separate an event from the rest of a small subsample; the fewer are needed, the lonelier it is:

.. math:: s(x) = 2^{-\langle h(x) \rangle / c(n)}

with the mean number of cuts :math:`\langle h \rangle` over the trees and its value :math:`c(n)` for an unsuccessful
search in a binary tree of n entries. Window and mass play no part, so a signal that sits where background is dense is
not found, however large it is: density ratios find over-densities, this finds low density.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig, as_splits, require_events

__all__ = ["IsolationForest", "IsolationForestConfig"]


class IsolationForestConfig(MethodConfig):
    """Options of :class:`IsolationForest`.

    Attributes
    ----------
    trees
        Trees that are averaged.
    subsample
        Events from which each tree is grown.
    min_events
        Fewest events of the sample of one model.
    """

    trees: PositiveInt = 200
    subsample: int = Field(default=256, ge=2)
    min_events: PositiveInt = 100


class IsolationForest(Method):
    """Loneliness of an event among all events of the split, whatever their mass."""

    name = "isolation-forest"
    title = "Isolation forest: lonely events (baseline)"
    Config = IsolationForestConfig
    config: IsolationForestConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if a split has too few events."""
        for mask in as_splits(splits, len(events)):
            require_events(mask & (events.weights > 0), self.config.min_events, "sample", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Grow one forest for each split.

        Parameters
        ----------
        events
            All events of a split are used; with unequal weights, events are drawn for the trees with
            probability proportional to the weight.
        window
            Not used: the forest knows no mass.
        splits
            Shape ``(n_models, n_events)``; default: one model that sees everything.

        Raises
        ------
        InputError
            If a split has too few events.
        """
        from sklearn.ensemble import IsolationForest as Forest

        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        x, weights = events.x, events.weights
        self._forests: list[Any] = []
        for k, mask in enumerate(masks):
            rows = np.flatnonzero(mask & (weights > 0))
            rng = np.random.default_rng([self.seed, k])
            if np.ptp(weights[rows]) > 0:
                # scikit-learn before 1.7 ignores weights when it draws the subsamples
                rows = rng.choice(rows, len(rows), p=weights[rows] / weights[rows].sum())
            forest = Forest(
                n_estimators=self.config.trees,
                max_samples=min(self.config.subsample, len(rows)),
                random_state=int(rng.integers(2**31)),
                n_jobs=1,
            )
            self._forests.append(forest.fit(x[rows]))
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Loneliness between 0 and 1, shape ``(n_events,)``."""
        if len(events) == 0:
            return np.empty(0)
        return np.asarray(-self._forests[split].score_samples(events.x), dtype=np.float64)
