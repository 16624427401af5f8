r"""Autoencoder (arXiv:1808.08979, 1808.08992; "SimpleAE" of 2105.14027): what is rare in training is given back badly.

.. math:: s(x) = \frac{1}{d} \sum_j \left( z_j - \hat z_j(z) \right)^2

with standardised columns z. The networks are those of the search method of the same name
(:class:`serendip.density.autoencoder.AutoencoderNetworks`), which trains one for each fold.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from serendip.density.autoencoder import AutoencoderNetworks
from serendip.outliers.base import Array
from serendip.outliers.inputs import DataError, require_at_least
from serendip.outliers.networks import NetworkScore
from serendip.torch_device import limited_threads, pick_device

__all__ = ["Autoencoder"]


@dataclass(eq=False, repr=False)
class Autoencoder(NetworkScore):
    """Error of reconstruction; higher = more anomalous.

    Event weights are honoured in the standardisation, the batches and the held-out loss. Values beyond ten spreads
    enter the network as ten but count in full in the error.

    Parameters
    ----------
    hidden
        Widths of the layers of the encoder, which the decoder has in reverse order; arXiv:2105.14027 has (200, 200, 20).
    bottleneck
        Width of the layer in the middle (10 there); default: 10, or half the columns if there are fewer than 20.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.NetworkScore`, whose attributes it has.
    """

    kind = "autoencoder"

    hidden: tuple[int, ...] = (200, 200, 20)
    bottleneck: int | None = None
    _: KW_ONLY
    learning_rate: float = 2e-3

    def _score(self, x: Array) -> Array:
        with limited_threads(self.threads):
            network: AutoencoderNetworks = self._network
            return network.errors(self._standardiser.transform(x, reach=None))

    def _build(self, d: int, seed: int) -> AutoencoderNetworks:
        narrow = max(1, min(10, d // 2)) if self.bottleneck is None else self.bottleneck
        if narrow >= d:
            raise DataError(
                f"an autoencoder with a bottleneck of {narrow} learns nothing from {d} columns that vary (with 1 feature(s) "
                "there can be none): it needs fewer numbers in the middle than columns"
            )
        return AutoencoderNetworks(1, d, self.hidden, narrow, seed)

    def _train(self, z: Array, weights: Array, seed: int) -> list[float]:
        network: AutoencoderNetworks = self._network
        return network.fit(
            [(z, weights)], seed=seed, steps=self.steps, batch_size=self.batch_size,
            device=pick_device(self.device), learning_rate=self.learning_rate,
            validation_fraction=self.validation_fraction, evaluations=self.evaluations, patience=self.patience,
        )  # fmt: skip

    def _check_options(self) -> None:
        super()._check_options()
        require_at_least(1, **{f"hidden[{i}]": width for i, width in enumerate(self.hidden)})
        if len(self.hidden) == 0:
            raise DataError("hidden needs at least one width")
        if self.bottleneck is not None:
            require_at_least(1, bottleneck=self.bottleneck)
