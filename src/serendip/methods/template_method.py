r"""Methods that train a classifier between the data of the signal region and a background template.

Given the template of a method, the rest is the same for all of them:

.. math:: s(x) = \ln \frac{p(\mathrm{data}\mid x)}{p(\mathrm{template}\mid x)}
    \;\approx\; \ln \frac{p_\mathrm{SR}(x)}{p_B(x \mid m \in \mathrm{SR})}
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from serendip.classify.build import ClassifierName, SelectBy
from serendip.classify.splits import fit_splits
from serendip.events.events import Events, Window
from serendip.events.groups import with_own_groups
from serendip.methods.base import MethodConfig, Template, as_splits, require_events
from serendip.methods.classifier import ClassifierMethod

__all__ = ["ClassifierConfig", "TemplateMethod", "require_sidebands"]


class ClassifierConfig(MethodConfig):
    """Options of every method that ends in a classifier.

    Attributes
    ----------
    classifier
        ``"trees"`` or ``"network"``.
    members
        Classifiers that are averaged.
    select_by
        Early-stopping criterion on validation events: ``"loss"``, or ``"argos"``
        (:func:`serendip.classify.argos.argos`).
    validation_fraction
        Fraction of the sample that each classifier uses for early stopping. Less than half helps with many
        features, most of them without use (``docs/performance.md``).
    min_events
        Fewest events in the window, and in each sideband, of the sample of one model.
    """

    classifier: ClassifierName = "trees"
    members: PositiveInt = 20
    select_by: SelectBy = "loss"
    validation_fraction: float = Field(default=0.5, gt=0.0, lt=1.0)
    min_events: PositiveInt = 20


class TemplateMethod(ClassifierMethod):
    """Signal region against a template, which :meth:`make_templates` of the subclass provides."""

    config: ClassifierConfig

    @abstractmethod
    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Return one template for each row of ``splits``; its weights sum to the data of that row."""

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a sideband has too few events in a split."""
        require_sidebands(events, window, splits, self.config.min_events, self.reach_gev)

    @property
    def reach_gev(self) -> float | None:
        """How far from the window the sidebands reach in GeV; None: any distance."""
        reach: float | None = getattr(self.config, "sideband_gev", None)
        return reach

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Make the template and train the classifier, for each split; arguments and errors as in :meth:`.Method.fit`."""
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        self._templates = self.make_templates(events, window, masks)
        inside = window.contains(events.m)
        groups = None if events.groups is None else events.groups[inside]
        self._train_classifier(events.x[inside], events.weights[inside], masks[:, inside], groups)
        return self

    def template(self, split: int = 0) -> Template:
        """Return the template of model ``split``; its weights sum to the data in the signal region."""
        return self._templates[split]

    def _train_classifier(
        self,
        x: NDArray[np.float32],
        weights: NDArray[np.float64],
        masks: NDArray[np.bool_],
        groups: NDArray[np.int64] | None,
    ) -> None:
        """Train data (class 1) against the template of the same split (class 0), with equal total weights."""
        sizes = [len(template.x) for template in self._templates]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        drawn = owner == np.arange(len(sizes))[:, None]
        table = np.concatenate([x, *(template.x for template in self._templates)])
        all_weights = np.concatenate([weights, *(template.weights for template in self._templates)])
        is_data = np.arange(len(table)) < len(x)
        self._classifiers = fit_splits(
            self.classifier(), table, is_data, all_weights, np.concatenate([masks, drawn], axis=1),
            with_own_groups(groups, len(owner)),
        )  # fmt: skip


def sidebands_within(m: NDArray[np.float64], window: Window, reach_gev: float | None) -> NDArray[np.bool_]:
    """Mask of the masses outside the window and within reach of it, shape ``(n,)``."""
    outside = ~window.contains(m)
    if reach_gev is None:
        return outside
    return np.asarray(outside & (m >= window.low - reach_gev) & (m < window.high + reach_gev))


def require_sidebands(
    events: Events, window: Window, splits: NDArray[np.bool_], minimum: int, reach_gev: float | None = None
) -> None:
    """Stop if the window or a sideband has fewer than ``minimum`` events in a split.

    Raises
    ------
    InputError
        Naming the region.
    """
    m, used = events.m, events.weights > 0
    sidebands = sidebands_within(m, window, reach_gev)
    regions = {
        "signal region": window.contains(m),
        "lower sideband": sidebands & (m < window.low),
        "upper sideband": sidebands & (m >= window.high),
    }
    for mask in as_splits(splits, len(events)):
        for name, region in regions.items():
            require_events(mask & region & used, minimum, name, window)
