"""Idealised anomaly detector: data against a perfect background template (arXiv:2109.00546, 2309.13111).

The performance of CATHODE or CWoLa if their template were true background. The template comes from the truth
labels of the same finite sample. An event must not stand in both classes: its fluctuations would cancel, and the classifier would learn only the signal, like a supervised one. So each member draws a random part
of the events as data, signal and background as they come, and takes the background among the others as its
template.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from serendip.classify.build import ClassifierName
from serendip.classify.splits import fit_splits
from serendip.events.events import Events, Window
from serendip.events.groups import group_numbers
from serendip.methods.base import MethodConfig, Template, as_splits, require_events
from serendip.methods.classifier import ClassifierMethod

__all__ = ["Idealised", "IdealisedConfig"]


class IdealisedConfig(MethodConfig):
    """Options of :class:`Idealised`.

    Attributes
    ----------
    classifier
        ``"trees"`` or ``"network"``.
    members
        Draws of data and template, each with one classifier; their scores are averaged.
    data_fraction
        Part of the events that a member takes as data.
    validation_fraction
        Fraction of its sample that each classifier uses for early stopping.
    min_events
        Fewest events of data, and of template, of one member.
    """

    classifier: ClassifierName = "trees"
    members: PositiveInt = 20
    data_fraction: float = Field(default=0.5, gt=0, lt=1)
    validation_fraction: float = Field(default=0.5, gt=0.0, lt=1.0)
    min_events: PositiveInt = 20


class Idealised(ClassifierMethod):
    """Data against true background in the signal region, both with the same total weight.

    Attributes
    ----------
    drawn
        After ``fit``: events in the window that each member took as data (first half of the columns) and as
        template (second half), shape ``(n_models * members, 2 * n_in_window)``.
    """

    name = "idealised"
    title = "idealised anomaly detector: data against true background, with truth labels"
    uses_labels = True
    Config = IdealisedConfig
    config: IdealisedConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window has too few events of one class for the two halves of a member."""
        used = window.contains(events.m) & (events.weights > 0)
        share = self.config.data_fraction
        for mask in as_splits(splits, len(events)):
            for kind, rows, part in (("data", used, share), ("template", used & ~events.labels, 1 - share)):
                needed = math.ceil(self.config.min_events / part)
                require_events(mask & rows, needed, f"{kind} sample", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train all members for each split on the events of the window.

        Raises
        ------
        InputError
            If the events carry no label, or a split has too few events in the window.
        """
        splits = as_splits(splits, len(events))
        self.check(events, window, splits)
        used = window.contains(events.m)
        self._masks = splits[:, used]
        self._x, event_weights = events.x[used], events.weights[used]
        self._background, self._event_weights = ~events.labels[used], event_weights
        n, members = len(self._x), self.config.members
        # a group is data or template as a whole
        groups = None if events.groups is None else group_numbers(events.groups[used])
        n_groups = 0 if groups is None else int(groups.max(initial=-1)) + 1
        # Each event stands in the table twice, as data and as template; a member uses it at most once.
        masks = np.zeros((len(self._masks) * members, 2 * n), dtype=bool)
        weights = np.zeros(masks.shape)
        for k, mask in enumerate(self._masks):
            rng = np.random.default_rng([self.seed, k])
            for row in range(k * members, (k + 1) * members):
                drawn = rng.random(n) if groups is None else rng.random(n_groups)[groups]
                as_data = drawn < self.config.data_fraction
                masks[row] = np.concatenate([mask & as_data, mask & ~as_data & self._background])
                for kind, part in (("data", slice(0, n)), ("template", slice(n, 2 * n))):
                    rows = masks[row, part] & (event_weights > 0)
                    require_events(rows, self.config.min_events, f"{kind} of one member", window)
                    weights[row, part] = np.where(rows, event_weights / event_weights[rows].mean(), 0.0)
                    weights[row, part] *= n / rows.sum()
        self.drawn = masks
        is_data = np.repeat([True, False], n)
        x = np.concatenate([self._x, self._x])
        self._classifiers = fit_splits(
            self.classifier(), x, is_data, weights, masks, None if groups is None else np.tile(groups, 2)
        )
        return self

    def classifier(self) -> Any:
        """Return the untrained classifier of one member; override it to use any scikit-learn estimator."""
        return self._ensemble(1)

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Mean log-odds of data against template over the members, shape ``(n_events,)``."""
        members = self.config.members
        rows = range(split * members, (split + 1) * members)
        return np.asarray(np.mean([self._classifiers.score(events.x, row) for row in rows], axis=0))

    def save_model(self, folder: Path, split: int) -> None:
        """Write the classifiers of all members of model ``split``."""
        members = self.config.members
        self._classifiers.save(folder / "classifier", *range(split * members, (split + 1) * members))

    def template(self, split: int = 0) -> Template:
        """Return all true background events in the training sample of model ``split``."""
        rows = self._masks[split] & self._background
        return Template(x=self._x[rows], weights=self._event_weights[rows])
