r"""Deep autoencoding Gaussian mixture model (Zong et al., ICLR 2018; arXiv:2105.14027, section 4.11).

An autoencoder compresses the standardised columns z to c(z). With two measures of its error, the relative distance and the
cosine between z and its reconstruction, this makes features :math:`v`, of which a second network estimates the
probabilities :math:`\gamma_k(v)` of K Gaussians:

.. math:: E(v) = -\ln \sum_k \phi_k N(v; \mu_k, \Sigma_k), \qquad
    L = \frac{1}{d}\sum_j (z_j - \hat z_j)^2 + \lambda_1 \langle E \rangle + \lambda_2 \sum_{kj} \frac{1}{(\Sigma_k)_{jj}}

The means and covariances are moments weighted with :math:`\gamma_k`: of the batch while training, of all background afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from serendip.outliers.base import Array, Arrays, Facts
from serendip.outliers.inputs import DataError, require_at_least
from serendip.outliers.networks import NetworkScore, weighted_mean

__all__ = ["Dagmm"]

_FLOOR = 1e-4


@dataclass(eq=False, repr=False)
class Dagmm(NetworkScore):
    r"""Energy in a Gaussian mixture of the latent variables of an autoencoder; higher = more anomalous.

    Event weights are used everywhere.

    Parameters
    ----------
    latent
        Numbers to which the autoencoder compresses; the paper scans 10, 20 and 30.
    components
        Gaussians; 4 and 8 there.
    hidden
        Widths of the encoder, tanh units; the decoder has them in reverse order.
    estimation
        Width of the hidden layer that estimates the probabilities of the Gaussians, with dropout of one half.
    energy_weight, covariance_weight
        :math:`\lambda_1` and :math:`\lambda_2`.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.NetworkScore`, whose attributes it has.
    """

    kind = "dagmm"
    _minimum_events = 50

    latent: int = 10
    components: int = 4
    _: KW_ONLY
    hidden: tuple[int, ...] = (128, 64)
    estimation: int = 10
    energy_weight: float = 0.01
    covariance_weight: float = 0.001
    steps: int = 1000
    batch_size: int = 512

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_at_least(
            1, latent=self.latent, components=self.components, estimation=self.estimation,
            **{f"hidden[{i}]": v for i, v in enumerate(self.hidden)},
        )  # fmt: skip
        require_at_least(0, energy_weight=self.energy_weight, covariance_weight=self.covariance_weight)
        if len(self.hidden) == 0:
            raise DataError("hidden needs at least one width")

    def _build(self, d: int, seed: int) -> _Network:
        # the layers draw from torch's global state: borrow it and give it back
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _Network(d, self.hidden, self.latent, self.components, self.estimation)

    def _loss(self, z: Tensor, w: Tensor, noise: torch.Generator) -> Tensor:
        network: _Network = self._network
        features, error = network.features(z)
        # the held-out loss is taken without gradients, and so is dropout
        drop = noise if torch.is_grad_enabled() else None
        mixture = _moments(features, network.probabilities(features, drop), w)
        tightness = (1 / mixture[2].diagonal(dim1=-2, dim2=-1)).sum()
        energy = weighted_mean(_energy(features, *mixture), w)
        loss = weighted_mean(error, w) + self.energy_weight * energy + self.covariance_weight * tightness
        return loss[None]

    def _finish(self, z: Array, weights: Array) -> None:
        network: _Network = self._network
        features = self._evaluate(lambda part: network.features(part)[0], z)
        gamma = self._evaluate(network.probabilities, features)
        parts = _moments(*(torch.as_tensor(a) for a in (features, gamma, weights)))
        self._mixture = {
            name: a.numpy() for name, a in zip(("phi", "mean", "covariance"), parts, strict=True)
        }

    def _network_score(self, z: Tensor) -> Tensor:
        network: _Network = self._network
        mixture = (torch.as_tensor(self._mixture[n], device=z.device) for n in ("phi", "mean", "covariance"))
        return _energy(network.features(z)[0], *mixture)

    def _state(self) -> tuple[Facts, Arrays]:
        facts, arrays = super()._state()
        return facts, arrays | {f"mixture.{name}": a for name, a in self._mixture.items()}

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        super()._restore(facts, arrays)
        self._mixture = {name: arrays[f"mixture.{name}"] for name in ("phi", "mean", "covariance")}


class _Network(nn.Module):
    """Autoencoder and estimation network."""

    def __init__(self, d: int, hidden: Sequence[int], latent: int, components: int, estimation: int) -> None:
        super().__init__()
        self.encoder = _layers([d, *hidden, latent])
        self.decoder = _layers([latent, *reversed(hidden), d])
        self.first = nn.Linear(latent + 2, estimation)
        self.last = nn.Linear(estimation, components)

    def features(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the mixture, shape ``(n, latent + 2)``, and the reconstruction error, shape ``(n,)``."""
        code = self.encoder(z)
        back = self.decoder(code)
        size, size_back = (a.square().sum(-1).clamp_min(1e-12).sqrt() for a in (z, back))
        distance = (z - back).square().sum(-1).clamp_min(1e-12).sqrt() / size
        cosine = (z * back).sum(-1) / (size * size_back)
        return torch.cat([code, distance[:, None], cosine[:, None]], -1), (z - back).square().mean(-1)

    def probabilities(self, features: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Probabilities of the Gaussians, shape ``(n, components)``; with dropout if there is a generator."""
        h = torch.tanh(self.first(features))
        if noise is not None:
            h = h * 2 * (torch.rand(h.shape, generator=noise, device=h.device) < 0.5)
        return torch.softmax(self.last(h), -1)


def _layers(sizes: list[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for i in range(len(sizes) - 1):
        parts += [nn.Linear(sizes[i], sizes[i + 1]), nn.Tanh()]
    return nn.Sequential(*parts[:-1])


def _moments(features: Tensor, gamma: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fractions ``(K,)``, means ``(K, v)`` and covariances ``(K, v, v)`` of the Gaussians."""
    share = gamma * w[:, None]
    total = share.sum(0).clamp_min(1e-12)
    mean = share.T @ features / total[:, None]
    off = features[:, None] - mean
    covariance = torch.einsum("nk,nki,nkj->kij", share, off, off) / total[:, None, None]
    floor = _FLOOR * torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    return total / total.sum(), mean, covariance + floor


def _energy(features: Tensor, phi: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    root, failed = torch.linalg.cholesky_ex(covariance)
    # a diverging training is reported by its loss, in words
    root = torch.where(failed[:, None, None] > 0, torch.nan, root)
    off = (features[:, None] - mean).movedim(0, -1)
    white = torch.linalg.solve_triangular(root, off, upper=False)
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    norm = phi.clamp_min(1e-12).log() - log_det - 0.5 * features.shape[1] * math.log(2 * math.pi)
    return -torch.logsumexp(norm[:, None] - 0.5 * white.square().sum(1), dim=0)
