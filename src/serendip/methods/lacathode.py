r"""LaCATHODE (arXiv:2210.14924): CATHODE in the latent space of its density.

The density that CATHODE learns in the sidebands also maps events to numbers :math:`z` that are standard normal for
background at *every* mass:

.. math:: z = f(x; m), \qquad p_B(z \mid m) = N(z; 0, 1)

So the template is a set of normal numbers, no mass has to be drawn, and the classifier looks the same at
every mass: a cut on it does not sculpt the mass spectrum, and it needs no extrapolation outside the window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serendip.classify.splits import fit_splits
from serendip.density import load_density
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import with_own_groups
from serendip.methods.background import background_density
from serendip.methods.base import as_splits
from serendip.methods.cathode import Cathode, CathodeConfig

__all__ = ["LaCathode"]


class LaCathode(Cathode):
    """Signal region against normal numbers, in the latent space of the background density."""

    name = "lacathode"
    title = "LaCATHODE: CATHODE in the latent space, where background does not depend on the mass"
    Config = CathodeConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a sideband has too few events in a split, or the density is an ensemble."""
        if self.config.density_members != 1:
            raise InputError(
                "lacathode maps events with one density: density_members must be 1 (cathode takes more)"
            )
        super().check(events, window, splits)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Learn the background, map the data of the window to z and train the classifier, for each split.

        Raises
        ------
        InputError
            If a split has too few events in the window or in one of the sidebands.
        """
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        self.density = background_density(self, events, window, masks)
        self._templates = self.draw_templates(events, window, masks)
        inside = window.contains(events.m)
        tables, classes, weights, owners = [], [], [], []
        groups: list[NDArray[np.int64]] = []
        for k, mask in enumerate(masks):
            data = events.select(mask & inside & (events.weights > 0))
            n = max(1, round(self.config.oversample * len(data)))
            normal = np.random.default_rng([self.seed, k, 4]).standard_normal((n, len(events.features)))
            tables += [self.to_latent(data, k), normal.astype(np.float32)]
            classes += [np.ones(len(data), bool), np.zeros(n, bool)]
            weights += [data.weights, np.full(n, data.weights.sum() / n)]
            owners.append(np.full(len(data) + n, k))
            if (own := with_own_groups(data.groups, n)) is not None:
                # masks keep the splits apart, so that numbers may come again
                groups.append(own)
        used = np.concatenate(owners) == np.arange(len(masks))[:, None]
        self._classifiers = fit_splits(
            self.classifier(), np.concatenate(tables), np.concatenate(classes), np.concatenate(weights), used,
            np.concatenate(groups) if groups else None,
        )  # fmt: skip
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Log-odds of data against normal numbers at the latent position of each event, shape ``(n_events,)``."""
        return self._classifiers.score(self.to_latent(events, split), split)

    def save_model(self, folder: Path, split: int) -> None:
        """Write the density, which maps events to z, and the classifier of model ``split``."""
        super().save_model(folder, split)
        self.density.only(split).save(folder / "density")

    def load_model(self, folder: Path) -> None:
        """Read the density and the classifier as model 0."""
        super().load_model(folder)
        self.density = load_density(folder / "density")

    def to_latent(self, events: Events, split: int = 0) -> NDArray[np.float32]:
        """Map events to z by the density of model ``split``, shape ``(n_events, d)``."""
        from serendip.torch_device import limited_threads

        with limited_threads(self.threads):
            return self.density.to_latent(events.x, events.m, split).astype(np.float32)
