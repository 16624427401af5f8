r"""Autoencoder (arXiv:1808.08979, 1808.08992): a baseline that looks for events unlike the bulk.

A network squeezes the standardised features z through a layer that is narrower than they are and is trained to give them back:

.. math:: s(x) = \frac{1}{d} \sum_j \left( z_j - \hat z_j(z) \right)^2

What is rare in training is given back badly. As with any outlier score, a signal inside the bulk of background is not
found, and the score depends on the choice of coordinates (arXiv:2209.06225).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from serendip.density import storage
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig, as_splits, require_events
from serendip.wording import counted

if TYPE_CHECKING:
    from serendip.density.autoencoder import AutoencoderNetworks

__all__ = ["Autoencoder", "AutoencoderConfig"]


class AutoencoderConfig(MethodConfig):
    """Options of :class:`Autoencoder`.

    Attributes
    ----------
    bottleneck
        Width of the narrowest layer; default: half the number of features.
    hidden
        Width of the two layers on either side of it.
    steps, batch_size
        Training steps and events of each model in a step. The weights that do best on a held-out tenth of the events
        are kept.
    min_events
        Fewest events of the sample of one model.
    """

    bottleneck: PositiveInt | None = None
    hidden: PositiveInt = 64
    steps: PositiveInt = 2000
    batch_size: PositiveInt = 512
    min_events: PositiveInt = 200


class Autoencoder(Method):
    """Error of reconstruction; the networks of all splits train as one batch."""

    name = "autoencoder"
    title = "Autoencoder: events that are reconstructed badly (baseline)"
    Config = AutoencoderConfig
    config: AutoencoderConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if a split has too few events, or the bottleneck is no bottleneck."""
        d = len(events.features)
        if self._bottleneck(d) >= d:
            raise InputError(
                f"an autoencoder with a bottleneck of {self._bottleneck(d)} learns nothing from {counted(d, 'feature')}: it needs fewer numbers in the middle than features"
            )
        for mask in as_splits(splits, len(events)):
            require_events(mask & (events.weights > 0), self.config.min_events, "sample", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train one network for each split, on all its events.

        Features are standardised with their weighted mean and spread.

        Parameters
        ----------
        events
            Signal region and sidebands; event weights are honoured.
        window
            Not used.
        splits
            Shape ``(n_models, n_events)``; default: one model that sees everything.

        Raises
        ------
        InputError
            If a split has too few events, a feature is constant or the training diverges.
        """
        from serendip.torch_device import limited_threads, pick_device

        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        config, weights, x = self.config, events.weights, events.x.astype(np.float64)
        samples = []
        groups: list[NDArray[np.int64] | None] = []
        self._centre, self._spread = np.empty((len(masks), x.shape[1])), np.empty((len(masks), x.shape[1]))
        for k, mask in enumerate(masks):
            use = mask & (weights > 0)
            w = weights[use] / weights[use].mean()
            self._centre[k] = np.average(x[use], axis=0, weights=w)
            self._spread[k] = np.sqrt(np.average((x[use] - self._centre[k]) ** 2, axis=0, weights=w))
            constant = np.flatnonzero(~(self._spread[k] > 1e-9 * np.abs(self._centre[k])))
            if len(constant):
                raise InputError(
                    f"feature '{events.features[constant[0]]}' is constant: there is nothing to learn from it"
                )
            samples.append((self._standardised(x[use], k), w))
            groups.append(None if events.groups is None else events.groups[use])
        network = self._build(len(masks), x.shape[1])
        with limited_threads(self.threads):
            network.fit(
                samples,
                seed=self.seed,
                steps=config.steps,
                batch_size=config.batch_size,
                device=pick_device(),
                groups=groups,
            )
        self._network = network
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Mean squared error of reconstruction of the standardised features, shape ``(n_events,)``."""
        from serendip.torch_device import limited_threads

        z = (events.x.astype(np.float64) - self._centre[split]) / self._spread[split]
        with limited_threads(self.threads):
            return self._network.errors(z, split)

    def save_model(self, folder: Path, split: int) -> None:
        """Write the standardisation and the network of model ``split``."""
        only = slice(split, split + 1)
        arrays = {"centre": self._centre[only], "spread": self._spread[only]}
        arrays |= {f"network.{name}": array for name, array in self._network.arrays(only).items()}
        storage.write(folder / "network", {"kind": "autoencoder"}, arrays)

    def load_model(self, folder: Path) -> None:
        """Read them as model 0."""
        _, arrays = storage.read(folder / "network")
        self._centre, self._spread = arrays.pop("centre"), arrays.pop("spread")
        self._network = self._build(1, self._centre.shape[1])
        self._network.restore({name.removeprefix("network."): array for name, array in arrays.items()})

    def _standardised(self, x: NDArray[np.float64], split: int) -> NDArray[np.float64]:
        """Features in units of their spread, kept within reach of the network; shape ``(n, d)``."""
        from serendip.density.autoencoder import REACH

        z: NDArray[np.float64] = np.clip((x - self._centre[split]) / self._spread[split], -REACH, REACH)
        return z

    def _build(self, models: int, d: int) -> AutoencoderNetworks:
        from serendip.density.autoencoder import AutoencoderNetworks

        return AutoencoderNetworks(models, d, [self.config.hidden] * 2, self._bottleneck(d), self.seed)

    def _bottleneck(self, d: int) -> int:
        return max(1, d // 2) if self.config.bottleneck is None else self.config.bottleneck
