r"""Invertible maps of features from one distribution to another, conditional on masses.

A map :math:`T_k(z; c)` of coupling splines (arXiv:1906.04032) for each split k carries events z, in the nearly
normal space of :class:`~serendip.density.transforms.FeatureTransform`, to where another sample has them. It
starts as the identity and is trained in one of two ways:

* with a base density, *flows for flows* (arXiv:2211.02487): the events are as probable as possible where they
  arrive,

  .. math:: \ln p(z) = \ln\left|\det\frac{\partial T}{\partial z}\right| + \ln p_\mathrm{base}(T(z; c) \mid u_t)

* without, by the Sinkhorn divergence between events that were carried to the masses of others and these others
  (arXiv:2203.09470).

The models of all splits train as one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.density.base import ConditionalDensity, TransformedDensity
from serendip.density.batched import BatchedFlow
from serendip.density.device import pick_device
from serendip.density.flows import condition
from serendip.density.preprocessing import Preprocessing
from serendip.density.samples import SplitSamples
from serendip.density.sinkhorn import sinkhorn_divergence
from serendip.density.training import train
from serendip.errors import InputError

__all__ = ["LogDensity", "Sample", "Transport", "frozen_log_density"]

Array = NDArray[np.float64]
Sample = tuple[Array, Array, Array]
"""Features z ``(n, d)``, standardised masses u ``(n,)`` and weights ``(n,)`` of one split."""
LogDensity = Callable[[Tensor, Tensor, slice], Tensor]
"""Ln p(z|u) of the splits of a slice, shape ``(k, n)``, of z ``(k, n, d)`` and u ``(k, n)``; differentiable."""

_ROWS = 16384
_SINKHORN_BLOCK = 512
_SINKHORN_BLOCKS = 10


class Transport:
    """One map for each split.

    Parameters
    ----------
    between_masses
        True: from each mass to every other, ``c = (u_source, u_target - u_source)``. False: at one mass,
        ``c = u``, to the sample that the base density describes.
    transforms, bins, hidden, layers
        Number of coupling layers, bins of each spline, width and number of hidden layers.
    steps, batch_size, learning_rate, average, validation_fraction
        Of the training, as in :class:`~serendip.density.flows.SplineFlow`.
    blur
        Distance in z below which the Sinkhorn divergence does not tell events apart.
    seed
        Everything random in the training follows from it.
    device
        For example ``"cpu"``; default: CUDA if there is one.

    Attributes
    ----------
    validation_loss
        After ``fit``: the best loss of each map on its held-out events.
    gain
        After ``fit``: by how much this loss is below that of the identity, for each map. Where the difference is
        not larger than its statistical error the map is the identity, and its gain 0.
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
        blur: float = 0.3,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.between_masses = between_masses
        self.shape: dict[str, Any] = {
            "transforms": transforms, "bins": bins, "hidden_features": [hidden] * layers, "passes": 2
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
            What is carried. Events are drawn with probability proportional to their weight.
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
        models = range(len(samples))
        start = [p.detach().clone() for p in self.flow.stacked]
        identity = [self._held_out_loss(data, k, log_density)[0] for k in models]

        def batch_loss() -> Tensor:
            z, u, _, _ = next(batches)
            if log_density is None:
                return self._divergence(z, u, torch.ones_like(u))
            return -self._log_prob(z, u, u.roll(1, 1), log_density).mean(1)

        def validation_loss() -> Tensor:
            return torch.stack([_mean(*self._held_out_loss(data, k, log_density)) for k in models])

        self.validation_loss = train(
            self.flow, batch_loss, validation_loss, stacked=True, steps=self.steps,
            learning_rate=self.learning_rate, average=self.average, name="transport",
        )  # fmt: skip
        self.gain = []
        for k in models:
            trained, weight = self._held_out_loss(data, k, log_density)
            difference = identity[k] - trained
            gain = _mean(difference, weight)
            error = ((weight * (difference - gain)).square().sum().sqrt() / weight.sum()).item()
            self.gain.append(gain.item())
            # a map that gained nothing but noise would only add its own
            if self.gain[k] <= error:
                self.gain[k] = 0.0
                with torch.no_grad():
                    for p, first in zip(self.flow.stacked, start, strict=True):
                        p[k] = first[k]
        return self

    def apply(self, z: Array, u_source: Array, u_target: Array, split: int = 0) -> Array:
        """Carry events from their masses to others, shape ``(n, d)``."""
        return self._in_rows("to_noise", z, u_source, u_target, split)

    def invert(self, z: Array, u_source: Array, u_target: Array, split: int = 0) -> Array:
        """Undo :meth:`apply` with the same masses, shape ``(n, d)``."""
        return self._in_rows("from_noise", z, u_source, u_target, split)

    def _one(self, d: int) -> Any:
        import zuko

        return zuko.flows.NSF(d, 2 if self.between_masses else 1, **self.shape)

    def _condition(self, u_source: Tensor, u_target: Tensor) -> Tensor:
        return (
            torch.stack([u_source, u_target - u_source], dim=-1)
            if self.between_masses
            else u_source[..., None]
        )

    def _log_prob(
        self, z: Tensor, u: Tensor, partner: Tensor, log_density: LogDensity, only: slice = slice(None)
    ) -> Tensor:
        """Ln p(z) where the base density is taken at the arrival, shape ``(k, n)``."""
        target = partner if self.between_masses else u
        arrived, log_jacobian = self.flow.to_noise(z, self._condition(u, target), only)
        return log_jacobian + log_density(arrived, target, only)

    def _divergence(self, z: Tensor, u: Tensor, weight: Tensor, only: slice = slice(None)) -> Tensor:
        r"""Distance in (z, u) between carried events and those at their new masses, shape ``(k,)``.

        Samples x, x' are carried, y, y' are not, all independent, so that the noise of small samples cancels in

        .. math:: S(x, y) + S(x', y') - S(x, x') - S(y, y')

        (arXiv:1803.05573); S(x, y) alone is lower for a map that contracts the events.
        """
        n = z.shape[1] // 4
        x1, x2, y1, y2 = (slice(i * n, (i + 1) * n) for i in range(4))
        samples = [(torch.cat([z[:, y], u[:, y, None]], 2), weight[:, y]) for y in (y1, y2)]
        for x, masses in ((x1, y2), (x2, y1)):
            arrived, _ = self.flow.to_noise(z[:, x], self._condition(u[:, x], u[:, masses]), only)
            samples.append((torch.cat([arrived, u[:, masses, None]], 2), weight[:, x] * weight[:, masses]))
        (y, of_y), (other_y, of_other_y), (x_, of_x), (other_x, of_other_x) = samples
        return (
            sinkhorn_divergence(x_, y, of_x, of_y, blur=self.blur)
            + sinkhorn_divergence(other_x, other_y, of_other_x, of_other_y, blur=self.blur)
            - sinkhorn_divergence(x_, other_x, of_x, of_other_x, blur=self.blur)
            - sinkhorn_divergence(y, other_y, of_y, of_other_y, blur=self.blur)
        )

    def _held_out_loss(
        self, data: SplitSamples, k: int, log_density: LogDensity | None
    ) -> tuple[Tensor, Tensor]:
        """Loss and weight of each held-out event of model ``k``, for Sinkhorn of each block of them; shape ``(n,)``."""
        only, device = slice(k, k + 1), data.device
        rows = torch.as_tensor(data.validation[k], device=device)
        weight = torch.as_tensor(data.validation_weight[k], dtype=torch.float32, device=device)
        with torch.no_grad():
            if log_density is None:
                # blocks: the cost grows with the square, and their scatter gives the error
                size = min(max(len(rows) // 8, 32), _SINKHORN_BLOCK)
                blocks = zip(torch.split(rows, size), torch.split(weight, size), strict=True)
                losses = [
                    self._divergence(data.z[i][None], data.u[i][None], w[None], only)[0]
                    for i, w in blocks
                    if len(i) >= min(size, len(rows))
                ]
                loss = torch.stack(losses[:_SINKHORN_BLOCKS])
                return loss, torch.ones_like(loss)
            log_p = [
                self._log_prob(data.z[i][None], data.u[i][None], data.u[j][None], log_density, only)[0]
                for i, j in zip(torch.split(rows, _ROWS), torch.split(rows.roll(1), _ROWS), strict=True)
            ]
        return -torch.cat(log_p), weight

    def _in_rows(self, what: str, z: Array, u_source: Array, u_target: Array, split: int) -> Array:
        """Move events with one map, in pieces: memory stays bounded."""
        out = []
        with torch.no_grad():
            for low in range(0, max(len(z), 1), _ROWS):
                rows, source, target = (
                    torch.as_tensor(a[low : low + _ROWS], dtype=torch.float32, device=self.device)[None]
                    for a in (z, u_source, u_target)
                )
                found = getattr(self.flow, what)(
                    rows, self._condition(source, target), slice(split, split + 1)
                )
                out.append((found[0] if what == "to_noise" else found)[0].double().cpu().numpy())
        result: Array = np.concatenate(out)
        return result


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum()


def frozen_log_density(density: ConditionalDensity) -> tuple[LogDensity, list[Preprocessing]]:
    """Return ln p(z|u) of a trained normalizing flow, for :meth:`Transport.fit`, and what makes z and u of x and m.

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

    def log_density(z: Tensor, u: Tensor, only: slice) -> Tensor:
        if models > 1:
            return network.log_prob(z, condition(u), only)
        flat = network.log_prob(z.flatten(0, 1)[None], condition(u.flatten()[None]))
        return flat.view(u.shape)

    return log_density, density.transforms
