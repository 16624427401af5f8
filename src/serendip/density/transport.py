r"""Invertible maps of features from one distribution to another, conditional on masses.

A map :math:`T_k(z; c)` of autoregressive splines (arXiv:1906.04032) for each split k transports events z, in the nearly
normal space of :class:`~serendip.density.transforms.FeatureTransform`, to where another sample has them. Coupling
layers would be no cheaper in this direction, and two of them do not reach the correlation of features that both put
in the same half. The map starts as the identity. Between masses the parameters :math:`\phi` of its splines are
proportional to the way,

.. math:: \phi = (t_\mathrm{target} - t_\mathrm{source})\, h(z, t_\mathrm{source}, t_\mathrm{target}), \qquad
    t = \ln m,

so an event that stays at its mass stays as it is, and h, which changes little with the mass, is learnt from few
events. The map is trained in one of two ways:

* with a base density, *flows for flows* (arXiv:2211.02487): the events are as probable as possible where they
  arrive,

  .. math:: \ln p(z) = \ln\left|\det\frac{\partial T}{\partial z}\right| + \ln p_\mathrm{base}(T(z; c) \mid m_t)

* without, by the Sinkhorn divergence between events transported to the masses of others and these others
  (arXiv:2203.09470), with the mass as one more feature.

The models of all splits train as one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serendip.density.base import ConditionalDensity, TransformedDensity
from serendip.density.batched import BatchedFlow
from serendip.density.flows import condition
from serendip.density.preprocessing import Preprocessing
from serendip.density.samples import SplitSamples
from serendip.density.sinkhorn import transport_cost
from serendip.density.training import train
from serendip.errors import InputError
from serendip.torch_device import pick_device

__all__ = ["LogDensity", "Sample", "Transport", "frozen_log_density"]

Array = NDArray[np.float64]
Sample = tuple[Array, Array, Array]
"""Features z ``(n, d)``, ln m ``(n,)`` and weights ``(n,)`` of one split."""
LogDensity = Callable[[Tensor, Tensor, slice], Tensor]
"""Ln p(z|m) of the splits of a slice, shape ``(k, n)``, of z ``(k, n, d)`` and ln m ``(k, n)``; differentiable."""

_ROWS = 16384
_HELD_OUT_BATCHES = 8
# Width of the masses in the cost, where features have width 1: an event is compared with those of nearly its mass.
_MASS_WIDTH = 3.0


class Transport:
    """One map for each split.

    Parameters
    ----------
    between_masses
        True: from each mass to every other, c = (t_source, t_target - t_source). False: at one mass, c = t, to
        the sample that the base density describes.
    transforms, bins, hidden, layers
        Number of autoregressive layers, bins of each spline, width and number of hidden layers.
    steps, batch_size, learning_rate, average, validation_fraction
        Of the training, as in :class:`~serendip.density.flows.SplineFlow`.
    blur
        Distance in z below which the Sinkhorn divergence does not distinguish events.
    seed
        Everything random in the training follows from it.
    device
        For example ``"cpu"``; default: CUDA if there is one.

    Attributes
    ----------
    validation_loss
        After ``fit``: the best loss of each map on its held-out events.
    gain
        After ``fit``: by how much this loss is below that of the identity, for each map; 0: it is the identity.
    """

    def __init__(
        self,
        *,
        between_masses: bool,
        transforms: int = 2,
        bins: int = 8,
        hidden: int = 32,
        layers: int = 2,
        steps: int = 300,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        average: float = 0.98,
        validation_fraction: float = 0.2,
        blur: float = 1.0,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.between_masses = between_masses
        self.shape: dict[str, Any] = {
            "transforms": transforms, "bins": bins, "hidden_features": [hidden] * layers, "activation": nn.SiLU
        }  # fmt: skip
        self.steps, self.batch_size, self.learning_rate = steps, batch_size, learning_rate
        self.average, self.validation_fraction, self.blur = average, validation_fraction, blur
        self.seed, self.device = seed, pick_device(device)
        self.validation_loss: list[float] = []
        self.gain: list[float] = []

    def fit(
        self,
        samples: list[Sample],
        log_density: LogDensity | None = None,
        groups: Sequence[NDArray[np.int64] | None] | None = None,
    ) -> Transport:
        """Train one map on each sample.

        Parameters
        ----------
        samples
            The training samples of the maps. Events are drawn with probability proportional to their weight.
        log_density
            The base density; None: Sinkhorn, for which ``between_masses`` must be true.
        groups
            For each sample, events with the same number, shape ``(n,)``, are held out together; None: every event is its own.

        Raises
        ------
        InputError
            If the training diverges.
        """
        if log_density is None and not self.between_masses:
            msg = "a map to another sample needs the density of that sample"
            raise TypeError(msg)
        d = samples[0][0].shape[1]
        self.flow = BatchedFlow(len(samples), lambda: self._one(d), self.seed, identity=True).to(self.device)
        data = SplitSamples.make(
            samples,
            seed=self.seed,
            validation_fraction=self.validation_fraction,
            device=self.device,
            groups=groups,
        )
        batches = data.batches(self.batch_size, noise=False)
        masses = [_mean_and_width(t, w) for _, t, w in samples]
        self._masses = torch.tensor(masses, dtype=torch.float32, device=self.device)
        held_out = [self._held_out(data, k, log_density is None) for k in range(len(samples))]
        start = [p.detach().clone() for p in self.flow.stacked]

        def batch_loss() -> Tensor:
            z, t, _, _ = next(batches)
            return self._loss(z, t, log_density)

        def validation_loss() -> Tensor:
            with torch.no_grad():
                losses = [
                    torch.stack(
                        [self._loss(z[None], t[None], log_density, slice(k, k + 1)) for z, t in parts]
                    )
                    for k, parts in enumerate(held_out)
                ]
            return torch.stack([loss.mean() for loss in losses])

        identity = validation_loss()
        self.validation_loss = train(
            self.flow, batch_loss, validation_loss, stacked=True, steps=self.steps,
            learning_rate=self.learning_rate, average=self.average, name="transport",
        )  # fmt: skip
        self.gain = [max(float(a) - b, 0.0) for a, b in zip(identity, self.validation_loss, strict=True)]
        with torch.no_grad():
            for k, gain in enumerate(self.gain):
                if gain == 0:
                    for p, first in zip(self.flow.stacked, start, strict=True):
                        p[k] = first[k]
        return self

    def apply(self, z: Array, source: Array, target: Array, split: int = 0) -> Array:
        """Transport events from their ln m to others, shape ``(n, d)``."""
        return self._in_rows("to_noise", z, source, target, split)

    def invert(self, z: Array, source: Array, target: Array, split: int = 0) -> Array:
        """Undo :meth:`apply` with the same masses, shape ``(n, d)``."""
        return self._in_rows("from_noise", z, source, target, split)

    def _one(self, d: int) -> Any:
        from serendip.density.splines import spline_flow

        flow: Any = spline_flow(d, 2 if self.between_masses else 1, **self.shape)
        if self.between_masses:
            for layer in flow.transform.transforms:
                layer.hyper = _Proportional(layer.hyper)
        return flow

    def _condition(self, source: Tensor, target: Tensor, only: slice) -> Tensor:
        mean, width = self._masses[only, :, None].unbind(1)
        source, target = (source - mean) / width, (target - mean) / width
        return torch.stack([source, target - source], dim=-1) if self.between_masses else source[..., None]

    def _loss(
        self, z: Tensor, t: Tensor, log_density: LogDensity | None, only: slice = slice(None)
    ) -> Tensor:
        """Loss of a batch of each model, shape ``(k,)``."""
        if log_density is None:
            return self._divergence(z, t, only)
        target = t.roll(1, 1) if self.between_masses else t
        arrived, log_jacobian = self.flow.to_noise(z, self._condition(t, target, only), only)
        return -(log_jacobian + log_density(arrived, target, only)).mean(1)

    def _divergence(self, z: Tensor, t: Tensor, only: slice) -> Tensor:
        r"""Distance in (z, t) between transported events and those at their new masses, shape ``(k,)``.

        Samples x, x' are transported, y, y' are not, all independent, so that the noise of small samples cancels in

        .. math:: S(x, y) + S(x', y') - S(x, x') - S(y, y')

        (arXiv:1803.05573); S(x, y) alone is lower for a map that contracts the events. The cost of each sample to
        itself would count as often with either sign, so transport costs can replace the divergences S.
        """
        n = z.shape[1] // 4
        x1, x2, y1, y2 = (slice(i * n, (i + 1) * n) for i in range(4))
        mass = (t * _MASS_WIDTH / self._masses[only, 1:])[..., None]
        carried = []
        for x, at in ((x1, y1), (x2, y2)):
            arrived, _ = self.flow.to_noise(z[:, x], self._condition(t[:, x], t[:, at], only), only)
            carried.append(torch.cat([arrived, mass[:, at]], 2))
        real = [torch.cat([z[:, y], mass[:, y]], 2) for y in (y1, y2)]
        firsts, seconds = [*carried, carried[0], real[0]], [*reversed(real), carried[1], real[1]]
        costs = transport_cost(torch.cat(firsts), torch.cat(seconds), blur=self.blur).view(4, -1)
        result: Tensor = costs[0] + costs[1] - costs[2] - costs[3]
        return result

    def _held_out(self, data: SplitSamples, k: int, in_batches: bool) -> list[tuple[Tensor, Tensor]]:
        """Features and masses of held-out events of model ``k``: in batches as those of the training, if their size matters."""
        rows, cumulative = data.validation[k], np.cumsum(data.validation_weight[k])
        n = max(_HELD_OUT_BATCHES * self.batch_size, len(rows))
        drawn = np.random.default_rng([self.seed, k, 8]).random(n) * cumulative[-1]
        index = torch.as_tensor(rows[np.searchsorted(cumulative, drawn)], device=data.device)
        size = self.batch_size if in_batches else min(n, _ROWS)
        return [(data.z[i], data.u[i]) for i in torch.split(index, size) if len(i) == size]

    def _in_rows(self, what: str, z: Array, source: Array, target: Array, split: int) -> Array:
        """Move events with one map, in pieces: memory stays bounded."""
        out = []
        with torch.no_grad():
            for low in range(0, max(len(z), 1), _ROWS):
                rows, start, end = (
                    torch.as_tensor(a[low : low + _ROWS], dtype=torch.float32, device=self.device)[None]
                    for a in (z, source, target)
                )
                only = slice(split, split + 1)
                found = getattr(self.flow, what)(rows, self._condition(start, end, only), only)
                out.append((found[0] if what == "to_noise" else found)[0].double().cpu().numpy())
        result: Array = np.concatenate(out)
        return result


class _Proportional(nn.Module):
    """A network times its last input, the distance in mass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.network(inputs) * inputs[..., -1:]
        return result


def _mean_and_width(t: Array, weight: Array) -> tuple[float, float]:
    mean = np.average(t, weights=weight)
    return float(mean), float(np.sqrt(np.average((t - mean) ** 2, weights=weight))) or 1.0


def frozen_log_density(density: ConditionalDensity) -> tuple[LogDensity, list[Preprocessing]]:
    """Return ln p(z|m) of a trained normalizing flow, for :meth:`Transport.fit`, and what makes z of x and m.

    A density of one model serves all splits.

    Raises
    ------
    InputError
        If the density is not one normalizing flow for each split: its log-density would be too slow inside a
        training.
    """
    network = getattr(density, "network", None)
    if not isinstance(density, TransformedDensity) or not isinstance(network, BatchedFlow):
        raise InputError(
            "a transport learns from the log-density of a normalizing flow; choose the density 'spline', "
            "'spline-coupling' or 'maf'"
        )
    if density.ensemble > 1:
        raise InputError("a transport learns from one density for each split; use ensemble=1")
    # a copy, so that the density itself stays trainable
    network = copy.deepcopy(network).requires_grad_(False)
    models = len(density.transforms)
    device = next(network.parameters()).device
    masses = torch.tensor(np.array([t.mass for t in density.transforms]), dtype=torch.float32, device=device)

    def log_density(z: Tensor, t: Tensor, only: slice) -> Tensor:
        below, centre, scale, low, high = masses[only if models > 1 else slice(None), :, None].unbind(1)
        u = (((t.exp() - below).clamp(min=1e-6).log() - centre) / scale).clamp(low, high)
        if models > 1:
            return network.log_prob(z, condition(u), only)
        flat = network.log_prob(z.flatten(0, 1)[None], condition(u.flatten()[None]))
        return flat.view(u.shape)

    return log_density, density.transforms
