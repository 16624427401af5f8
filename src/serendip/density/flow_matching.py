r"""Conditional flow matching (arXiv:2210.02747, used for resonant searches in arXiv:2410.20537).

A velocity field transports a standard normal :math:`\epsilon` at time 0 to the features :math:`z` at time 1
along straight paths :math:`z_t = (1-t)\,\epsilon + t z`; it is found by regressing on :math:`z-\epsilon`. With
:math:`\sigma_t^2 = t^2 + (1-t)^2` it is written as

.. math:: v(z_t, t, u) = \frac{2t-1}{\sigma_t^2} z_t + \frac{1}{\sigma_t} F\!\left(\frac{z_t}{\sigma_t}, t, u\right)

whose first term is the exact answer for normal features, so that the network :math:`F` has a target of unit
variance at all times and starts as a good model. The density follows from the exact divergence,

.. math:: \ln p(z|u) = \ln N(z_0) - \int_0^1 \nabla\!\cdot v\,dt,

both integrals with the midpoint rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any, ClassVar, Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from serendip.density.mlp import BatchedMLP, divergence
from serendip.density.neural import CommonOptions, NeuralDensity, trained
from serendip.density.samples import Batches, SplitSamples

__all__ = ["BatchedMLP", "FlowMatching"]

Array = NDArray[np.float64]

_TIME_CONDITIONS = 5
_REACH = 6.0
_ROWS = 8192
_VALIDATION_TIMES = 8
_VALIDATION_PATHS = 16384
_VALIDATION_ROWS = 4096


class FlowMatching(NeuralDensity):
    """Conditional flow matching; the models of all splits train as one batched network.

    Parameters
    ----------
    hidden, layers
        Width and number of the hidden layers.
    frequencies
        The mass enters the network as sin and cos of 1, 2, 4, ... times the standardised ln m; this many of
        each. One is enough, and smoothest, to interpolate a masked window. More let a model that is trained on
        all masses keep a signal to the masses where it is, see :meth:`bridged`.
    ode_steps, sample_steps
        Midpoint steps for the density and the way to noise, and for samples. With 8 steps a sample ends within
        0.001 standard deviations (root mean square) of the result with 64, far below the error of the density.
    common
        Options of every density, see :class:`~serendip.density.neural.NeuralDensity`.
    """

    kind: ClassVar[str] = "flow-matching"

    network: BatchedMLP | None

    def __init__(
        self,
        *,
        hidden: int = 96,
        layers: int = 3,
        frequencies: int = 1,
        ode_steps: int = 16,
        sample_steps: int = 8,
        **common: Unpack[CommonOptions],
    ) -> None:
        common.setdefault("batch_size", 1024)
        own = {
            "hidden": hidden, "layers": layers, "frequencies": frequencies, "ode_steps": ode_steps,
            "sample_steps": sample_steps,
        }  # fmt: skip
        super().__init__(own, **common)
        self.ode_steps, self.sample_steps = ode_steps, sample_steps
        self._bridge: tuple[float, float] | None = None

    def bridged(self, low: float, high: float) -> Self:
        r"""Return this density with all masses between ``low`` and ``high`` (GeV) interpolated from these two.

        .. math:: v(z, t, u) = (1 - a)\, v(z, t, u_\mathrm{low}) + a\, v(z, t, u_\mathrm{high}), \qquad
            a = \frac{u - u_\mathrm{low}}{u_\mathrm{high} - u_\mathrm{low}}

        The velocity field learnt at masses in between, for example of a signal, is not used (arXiv:2410.20537, which
        interpolates inside the network).
        """
        other = copy(self)
        other._bridge = (low, high)
        return other

    def _build(self, models: int, d: int) -> BatchedMLP:
        conditions = 1 + 2 * self.options["frequencies"] + _TIME_CONDITIONS
        sizes = [d + conditions, *[self.options["hidden"]] * self.options["layers"], d]
        self.network = BatchedMLP(models, sizes, self.seed).to(self.device)
        return self.network

    def _losses(self, data: SplitSamples) -> tuple[Batches, Callable[[], Tensor], Callable[[], Tensor]]:
        frequencies, network = self.options["frequencies"], trained(self.network)
        batches = data.batches(self.options["batch_size"])
        held_out = self._held_out(data)

        def batch_loss() -> Tensor:
            z, u, t, noise = next(batches)
            return _matching_loss(network, z, noise, t, u, frequencies).mean(1)

        def validation_loss() -> Tensor:
            values = []
            for k, (z, noise, t, u, w) in enumerate(held_out):
                # in pieces that stay in the cache of a processor
                pieces = zip(
                    *(torch.split(a, _VALIDATION_ROWS, dim=1) for a in (z, noise, t, u)), strict=True
                )
                only = slice(k, k + 1)
                losses = [
                    _matching_loss(network, z_, noise_, t_, u_, frequencies, only=only)[0]
                    for z_, noise_, t_, u_ in pieces
                ]
                values.append((torch.cat(losses) * w).sum() / w.sum())
            return torch.stack(values)

        return batches, batch_loss, validation_loss

    def _held_out(self, data: SplitSamples) -> list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Held-out events of each model at fixed times and noise: the same dice at every evaluation."""
        out = []
        for rows, weight, rng in zip(data.validation, data.validation_weight, data.rngs, strict=True):
            times = min(max(_VALIDATION_PATHS // len(rows), 1), _VALIDATION_TIMES)
            repeat = np.repeat(rows, times)
            t = (np.arange(len(repeat)) % times + rng.random(len(repeat))) / times
            noise = rng.standard_normal((len(repeat), data.z.shape[1]))
            numbers = [torch.as_tensor(a, dtype=torch.float32, device=self.device) for a in (
                noise, t, np.repeat(weight, times))]  # fmt: skip
            index = torch.as_tensor(repeat, device=self.device)
            z, u = data.z[index], data.u[index]
            out.append((z[None], numbers[0][None], numbers[1][None], u[None], numbers[2]))
        return out

    def _latent_log_prob(self, z: Array, u: Array, model: int) -> Array:
        start, integral = self._integrate(
            z, u, model, backward=True, dtype=self.precision, with_divergence=True
        )
        log_normal = -0.5 * (start**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
        result: Array = log_normal - integral
        return result

    def _generate(self, noise: Array, u: Array, model: int) -> Array:
        return self._integrate(noise, u, model, backward=False, dtype=torch.float32)[0]

    def _encode(self, z: Array, u: Array, model: int) -> Array:
        return self._integrate(z, u, model, backward=True, dtype=self.precision)[0]

    def _integrate(
        self,
        z: Array,
        u: Array,
        model: int,
        *,
        backward: bool,
        dtype: torch.dtype,
        with_divergence: bool = False,
    ) -> tuple[Array, Array]:
        """End point of the flow and the integral of its divergence from time 0 to 1."""
        network = trained(self.network)
        pairs = zip(network.weights, network.biases, strict=True)
        layers = [(w[model].detach().to(dtype), b[model].detach().to(dtype)) for w, b in pairs]
        field = _Field(layers, self.options["frequencies"], self.bridge_of(model // self.ensemble))
        steps = self.ode_steps if backward else self.sample_steps
        step = (-1.0 if backward else 1.0) / steps
        first = 1.0 if backward else 0.0
        ends, integrals = [np.empty((0, z.shape[1]))], [np.empty(0)]
        with torch.no_grad():
            for low in range(0, len(z), _ROWS):
                at = torch.as_tensor(z[low : low + _ROWS], dtype=dtype, device=self.device)
                mass = torch.as_tensor(u[low : low + _ROWS], dtype=dtype, device=self.device)
                total = torch.zeros(len(at), dtype=dtype, device=self.device)
                for i in range(steps):
                    t = first + i * step
                    half, _ = field(at, t, mass, with_divergence=False)
                    v, div = field(at + 0.5 * step * half, t + 0.5 * step, mass, with_divergence)
                    at = at + step * v
                    total = total + abs(step) * div
                ends.append(at.double().cpu().numpy())
                integrals.append(total.double().cpu().numpy())
        return np.concatenate(ends), np.concatenate(integrals)

    def bridge_of(self, split: int) -> tuple[float, float] | None:
        """Ends of the bridged mass range, in the mass coordinate of the network of a split; None without a bridge."""
        if self._bridge is None:
            return None
        low, high = self.transforms[split].context(np.array(self._bridge))
        return float(low), float(high)

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors = super()._tensors()
        if self._bridge is not None:
            tensors["bridge"] = np.tile(self._bridge, (len(self.transforms) * self.ensemble, 1))
        return tensors

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        arrays = dict(arrays)
        if "bridge" in arrays:
            low, high = arrays.pop("bridge")[0]
            self._bridge = float(low), float(high)
        super()._restore(arrays)


def _inputs(z: Tensor, t: Tensor, u: Tensor, frequencies: int) -> Tensor:
    """Network inputs: features, smooth functions of the mass and five of the time."""
    angle = math.pi * t
    waves = [wave(2**k * u) for k in range(frequencies) for wave in (torch.sin, torch.cos)]
    parts = (
        u,
        *waves,
        t,
        torch.sin(angle),
        torch.cos(angle),
        torch.sin(2 * angle),
        torch.cos(2 * angle),
    )
    return torch.cat([z.clamp(-_REACH, _REACH), torch.stack(parts, dim=-1)], dim=-1)


def _matching_loss(
    network: BatchedMLP,
    z: Tensor,
    noise: Tensor,
    t: Tensor,
    u: Tensor,
    frequencies: int,
    *,
    only: slice = slice(None),
) -> Tensor:
    """Squared error of F, mean over features, shape ``(k, n)``."""
    variance = (t**2 + (1 - t) ** 2)[..., None]
    sigma = variance.sqrt()
    time = t[..., None]
    path = (1 - time) * noise + time * z
    target = sigma * (z - noise) - (2 * time - 1) / sigma * path
    predicted: Tensor = network(_inputs(path / sigma, t, u, frequencies), only)
    return (predicted - target).square().mean(-1)


class _Field:
    """The velocity field of one model, with its masses between ``ends`` interpolated from these two."""

    def __init__(
        self,
        layers: list[tuple[Tensor, Tensor]],
        frequencies: int,
        ends: tuple[float, float] | None = None,
    ) -> None:
        self.layers, self.frequencies, self.ends = layers, frequencies, ends

    def __call__(self, z: Tensor, t: float, u: Tensor, with_divergence: bool) -> tuple[Tensor, Tensor]:
        """Velocity ``(n, d)`` at time ``t`` and its divergence ``(n,)``."""
        if self.ends is None:
            return self._at(z, t, u, with_divergence)
        low, high = self.ends
        between = (u > low) & (u < high)
        v, div = self._at(z, t, torch.where(between, low, u), with_divergence)
        v_high, div_high = self._at(z, t, torch.where(between, high, u), with_divergence)
        share = ((u - low) / (high - low)).clamp(0.0, 1.0)
        return torch.lerp(v, v_high, share[:, None]), torch.lerp(div, div_high, share)

    def _at(self, z: Tensor, t: float, u: Tensor, with_divergence: bool) -> tuple[Tensor, Tensor]:
        variance = t**2 + (1 - t) ** 2
        sigma = math.sqrt(variance)
        drift = (2 * t - 1) / variance
        scaled = z / sigma
        h = _inputs(scaled, torch.full_like(u, t), u, self.frequencies)
        if with_divergence:
            inside = (scaled.abs() < _REACH).to(z.dtype)
            f, trace = divergence(self.layers, h, inside)
            return drift * z + f / sigma, z.shape[1] * drift + trace / variance
        for w, b in self.layers[:-1]:
            h = functional.silu(torch.addmm(b, h, w))
        w, b = self.layers[-1]
        return drift * z + torch.addmm(b, h, w) / sigma, torch.zeros_like(u)
