r"""Variational autoencoders (arXiv:1312.6114; as anomaly scores: 2105.14027, sections 4.2 and 4.4).

.. math:: L = (1-\beta)\, \frac{1}{d} \sum_j (z_j - \hat z_j)^2 + \beta\, D_\mathrm{KL}\!\left(q(\ell|z) \,\|\, N(0, \mathbf 1)\right)

with standardised columns z and latent numbers :math:`\ell \sim q = N(\mu(z), \sigma^2(z))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from serendip.density.mlp import BatchedMLP
from serendip.outliers.inputs import DataError, require_at_least, require_choice
from serendip.outliers.networks import NetworkScore, weighted_mean

__all__ = ["PlanarFlowVAE", "VariationalAutoencoder"]

_MEASURES = ("reconstruction", "radius")
_MAX_LOG_VARIANCE = 10.0


@dataclass(eq=False, repr=False)
class VariationalAutoencoder(NetworkScore):
    r"""Distance to the prior or error of reconstruction; higher = more anomalous.

    Event weights are used in the standardisation, the batches and the held-out loss.

    Parameters
    ----------
    latent
        Number of latent numbers.
    beta
        Weight of the Kullback-Leibler term, 0 to 1. With 1 the decoder is not trained and the encoder learns to map background to the fixed target :math:`\mu = 0`: the best of 140 models of arXiv:2105.14027.
    measure
        ``"radius"``: :math:`|\mu(z)|`; ``"reconstruction"``: mean squared error from :math:`\ell = \mu(z)`. Neither draws
        random numbers.
    hidden
        Widths of the layers of the encoder, which the decoder has in reverse order.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.NetworkScore`, whose attributes it has.
    """

    kind = "vae"

    latent: int = 13
    beta: float = 1.0
    _: KW_ONLY
    measure: Literal["reconstruction", "radius"] = "radius"
    hidden: tuple[int, ...] = (128, 64)

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_at_least(1, latent=self.latent, **{f"hidden[{i}]": v for i, v in enumerate(self.hidden)})
        require_choice(_MEASURES, measure=self.measure)
        if len(self.hidden) == 0:
            raise DataError("hidden needs at least one width")
        if not 0 <= self.beta <= 1:
            raise DataError(f"beta must be between 0 and 1, got {self.beta}")
        if self.beta == 1 and self.measure == "reconstruction":
            raise DataError("with beta=1 the decoder is not trained: use measure='radius', or a smaller beta")

    def _flows(self) -> int:
        return 0

    def _build(self, d: int, seed: int) -> _Network:
        return _Network(d, self.hidden, self.latent, self._flows(), seed)

    def _loss(self, z: Tensor, w: Tensor, noise: torch.Generator) -> Tensor:
        network: _Network = self._network
        mean, log_variance, flows = network.encode(z)
        draw = torch.randn(mean.shape, generator=noise, device=z.device)
        start = mean + draw * torch.exp(0.5 * log_variance)
        end, log_jacobian = network.flow(start, flows)
        if self._flows():
            divergence = 0.5 * (end.square() - log_variance - draw.square()).sum(-1) - log_jacobian
        else:
            divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)
        loss = self.beta * divergence
        if self.beta < 1:
            loss = loss + (1 - self.beta) * (network.decode(end) - z).square().mean(-1)
        return weighted_mean(loss, w)[None]

    def _network_score(self, z: Tensor) -> Tensor:
        network: _Network = self._network
        mean, _, flows = network.encode(z)
        end, _ = network.flow(mean, flows)
        if self.measure == "radius":
            return end.square().sum(-1).sqrt()
        return (network.decode(end) - z).square().mean(-1)


@dataclass(eq=False, repr=False)
class PlanarFlowVAE(VariationalAutoencoder):
    r"""Variational autoencoder whose posterior is bent by planar flows (arXiv:1505.05770); higher = more anomalous.

    .. math:: \ell' = \ell + \hat u \tanh(w \cdot \ell + b)

    in several layers, with u, w and b from the encoder and :math:`\hat u` such that each layer can be inverted.

    Parameters
    ----------
    latent, beta
        As in :class:`VariationalAutoencoder`.
    flows
        Planar layers.
    measure
        ``"reconstruction"`` (arXiv:2105.14027) or ``"radius"`` of the last layer, both from the mean of the posterior.
    hidden, steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`VariationalAutoencoder`.
    """

    kind = "planar-flow-vae"

    latent: int = 10
    beta: float = 0.01
    _: KW_ONLY
    flows: int = 6
    measure: Literal["reconstruction", "radius"] = "reconstruction"

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_at_least(1, flows=self.flows)

    def _flows(self) -> int:
        return self.flows


class _Network(nn.Module):
    """Encoder to mean, log-variance and planar flows; decoder."""

    def __init__(self, d: int, hidden: Sequence[int], latent: int, flows: int, seed: int) -> None:
        super().__init__()
        self.latent, self.flows = latent, flows
        outputs = 2 * latent + flows * (2 * latent + 1)
        self.encoder = BatchedMLP(1, [d, *hidden, outputs], seed)
        self.decoder = BatchedMLP(1, [latent, *reversed(hidden), d], seed + 1)
        # the last layers start at zero: without means of its own no event would reach the decoder
        start = np.random.default_rng([seed, 5]).standard_normal((hidden[-1], latent)) / np.sqrt(hidden[-1])
        with torch.no_grad():
            self.encoder.weights[-1][0, :, :latent] = torch.as_tensor(start, dtype=torch.float32)

    def encode(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-variance, shape ``(n, latent)``, and the numbers of the flows."""
        out = self.encoder(z[None])[0]
        mean, log_variance, flows = out.split([self.latent, self.latent, out.shape[-1] - 2 * self.latent], -1)
        return mean, log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE), flows

    def flow(self, start: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """End points and the sum of ln|det|, shapes ``(n, latent)`` and ``(n,)``."""
        end, log_jacobian = start, torch.zeros_like(start[:, 0])
        for layer in numbers.chunk(self.flows, -1) if self.flows else ():
            # an offset, since w = 0 at the start would leave u without gradient
            u, w, b = layer[:, : self.latent], layer[:, self.latent : -1] + 0.1, layer[:, -1]
            along = (u * w).sum(-1)
            bounded = functional.softplus(along) - 1
            u = u + ((bounded - along) / w.square().sum(-1).clamp_min(1e-6))[:, None] * w
            slope = torch.tanh((w * end).sum(-1) + b)
            log_jacobian = log_jacobian + torch.log1p((1 - slope.square()) * (u * w).sum(-1))
            end = end + u * slope[:, None]
        return end, log_jacobian

    def decode(self, latent: Tensor) -> Tensor:
        """Reconstruction, shape ``(n, d)``."""
        back: Tensor = self.decoder(latent[None])[0]
        return back
