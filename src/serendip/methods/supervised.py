"""Supervised reference: signal against background in the signal region, with the truth labels.

No search can do this. It shows the potential of the features with the same amount of signal to learn from.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from serendip.classify.build import ClassifierName
from serendip.classify.splits import fit_splits
from serendip.events.events import Events, Window
from serendip.methods.base import MethodConfig, Template, as_splits, require_events
from serendip.methods.classifier import ClassifierMethod

__all__ = ["Supervised", "SupervisedConfig"]


class SupervisedConfig(MethodConfig):
    """Options of :class:`Supervised`.

    Attributes
    ----------
    classifier
        ``"trees"`` or ``"network"``.
    members
        Classifiers that are averaged.
    validation_fraction
        Fraction of the sample that each of them uses for early stopping.
    min_events
        Fewest signal events, and fewest background events, of the sample of one model.
    """

    classifier: ClassifierName = "trees"
    members: PositiveInt = 20
    validation_fraction: float = Field(default=0.5, gt=0.0, lt=1.0)
    min_events: PositiveInt = 5


class Supervised(ClassifierMethod):
    """Signal against background in the signal region, both classes with the same total weight."""

    name = "supervised"
    title = "supervised reference: signal against background, with truth labels"
    uses_labels = True
    Config = SupervisedConfig
    config: SupervisedConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if a split has too few signal or background events in the window."""
        used = window.contains(events.m) & (events.weights > 0)
        for mask in as_splits(splits, len(events)):
            for kind, rows in (("signal", events.labels), ("background", ~events.labels)):
                require_events(mask & used & rows, self.config.min_events, f"{kind} sample", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train one classifier for each split on the labelled events of the window.

        Raises
        ------
        InputError
            If the events carry no label, or a split has too few signal or background events in the window.
        """
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        used = window.contains(events.m)
        self._masks = masks[:, used]
        self._x, self._signal, event_weights = events.x[used], events.labels[used], events.weights[used]
        self._weight = np.zeros(self._masks.shape)
        for k, mask in enumerate(self._masks):
            for rows in (mask & self._signal, mask & ~self._signal):
                self._weight[k, rows] = event_weights[rows] * (0.5 * mask.sum() / event_weights[rows].sum())
        self._classifiers = fit_splits(
            self.classifier(), self._x, self._signal, self._weight, self._masks,
            None if events.groups is None else events.groups[used],
        )  # fmt: skip
        return self

    def template(self, split: int = 0) -> Template:
        """Return the true background events that model ``split`` was trained on."""
        rows = self._masks[split] & ~self._signal
        return Template(x=self._x[rows], weights=self._weight[split, rows])
