r"""Autoencoder (arXiv:1808.08979, 1808.08992; "SimpleAE" of 2105.14027): events rare in training are reconstructed poorly.

.. math:: s(x) = \frac{1}{d} \sum_j \left( z_j - \hat z_j(z) \right)^2

with standardised columns z and a network :math:`\hat z` that is narrower in the middle than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from serendip.density.mlp import BatchedMLP
from serendip.density.samples import SplitSamples
from serendip.density.training import train
from serendip.outliers.base import Array
from serendip.outliers.inputs import DataError, require_at_least
from serendip.outliers.networks import NetworkScore
from serendip.torch_device import limited_threads, pick_device

__all__ = ["Autoencoder"]

_ROWS = 65536


@dataclass(eq=False, repr=False)
class Autoencoder(NetworkScore):
    """Error of reconstruction; higher = more anomalous.

    Event weights are used in the standardisation, the batches and the held-out loss. Values beyond ten spreads
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
            network: _Network = self._network
            return network.errors(
                self._standardiser.transform(x), self._standardiser.transform(x, reach=None)
            )

    def _build(self, d: int, seed: int) -> _Network:
        narrow = max(1, min(10, d // 2)) if self.bottleneck is None else self.bottleneck
        if narrow >= d:
            raise DataError(
                f"an autoencoder with a bottleneck of {narrow} learns nothing from {d} columns that vary (with 1 feature(s) "
                "there can be none): it needs fewer numbers in the middle than columns"
            )
        return _Network(d, self.hidden, narrow, seed)

    def _train(self, z: Array, weights: Array, seed: int) -> list[float]:
        network: _Network = self._network
        device = pick_device(self.device)
        data = SplitSamples.make(
            [(z, np.zeros(len(z)), weights)], seed=seed, validation_fraction=self.validation_fraction,
            device=device, groups=[self._groups],
        )  # fmt: skip
        network.to(device)
        batches = data.batches(self.batch_size, noise=False)
        held_out = data.z[torch.as_tensor(data.validation[0], device=device)][None]
        weight = torch.as_tensor(data.validation_weight[0], device=device)

        def batch_loss() -> Tensor:
            return network.error(next(batches)[0]).mean(1)

        def validation_loss() -> Tensor:
            return (network.error(held_out)[0] * weight).sum()[None] / weight.sum()

        return train(
            network, batch_loss, validation_loss, stacked=True, steps=self.steps, learning_rate=self.learning_rate,
            average=0.995, evaluations=self.evaluations, patience=self.patience, name=self.kind,
        )  # fmt: skip

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_at_least(1, **{f"hidden[{i}]": width for i, width in enumerate(self.hidden)})
        if len(self.hidden) == 0:
            raise DataError("hidden needs at least one width")
        if self.bottleneck is not None:
            require_at_least(1, bottleneck=self.bottleneck)


class _Network(nn.Module):
    """Encoder and decoder with SiLU units; tensors have shape ``(1, n, d)``."""

    def __init__(self, d: int, hidden: Sequence[int], bottleneck: int, seed: int) -> None:
        super().__init__()
        shapes = [[d, *hidden, bottleneck], [bottleneck, *reversed(hidden), d]]
        encoder, decoder = (BatchedMLP(1, sizes, seed) for sizes in shapes)
        self.parts = nn.ModuleList([encoder, decoder])
        # both last layers start at zero, and from there no gradient would reach either
        start = np.random.default_rng([seed, 0, 5]).standard_normal((1, hidden[-1], bottleneck))
        with torch.no_grad():
            encoder.weights[-1].copy_(torch.as_tensor(start / np.sqrt(hidden[-1])))

    def forward(self, z: Tensor) -> Tensor:
        encoder, decoder = self.parts
        back: Tensor = decoder(encoder(z))
        return back

    def error(self, z: Tensor) -> Tensor:
        """Mean squared error of reconstruction, shape ``(1, n)``."""
        error: Tensor = (self(z) - z).square().mean(-1)
        return error

    def errors(self, near: Array, z: Array) -> Array:
        """The same for ``z`` from the network input ``near``; shape ``(n,)``."""
        parameter = next(self.parameters())
        back = [np.empty((0, z.shape[1]))]
        with torch.no_grad():
            for low in range(0, len(z), _ROWS):
                rows = torch.as_tensor(
                    near[None, low : low + _ROWS], dtype=parameter.dtype, device=parameter.device
                )
                back.append(self(rows)[0].double().cpu().numpy())
        error: Array = ((z - np.concatenate(back)) ** 2).mean(axis=1)
        return error
