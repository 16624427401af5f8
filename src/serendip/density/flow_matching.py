r"""Conditional flow matching (arXiv:2210.02747, used for resonant searches in arXiv:2410.20537).

A velocity field carries a standard normal :math:`\epsilon` at time 0 to the features :math:`z` at time 1
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
from copy import copy
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from serendip.density.base import TransformedDensity
from serendip.density.device import pick_device
from serendip.density.training import SplitSamples, train

__all__ = ["BatchedMLP", "FlowMatching"]

Array = NDArray[np.float64]

_TIME_CONDITIONS = 5
_REACH = 6.0
_ROWS = 8192
_VALIDATION_TIMES = 8


class BatchedMLP(nn.Module):
    """``models`` independent networks of one shape with SiLU units, evaluated by batched matrix products.

    The last layer starts at zero. Network ``k`` is initialised from seed ``(seed, k)``.
    """

    def __init__(self, models: int, sizes: list[int], seed: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
            scale = 0.0 if layer == len(sizes) - 2 else math.sqrt(1.5 / n_in)
            draws = [
                np.random.default_rng([seed, k, 2, layer]).standard_normal((n_in, n_out))
                for k in range(models)
            ]
            self.weights.append(torch.as_tensor(scale * np.stack(draws), dtype=torch.float32))
            self.biases.append(torch.zeros(models, 1, n_out))

    def forward(self, h: Tensor, only: slice = slice(None)) -> Tensor:
        """Map ``(k, n, sizes[0])`` to ``(k, n, sizes[-1])``, by all networks or by those of a slice."""
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(b[only], h, w[only])
            if i < last:
                h = functional.silu(h)
        return h


def divergence(layers: list[tuple[Tensor, Tensor]], h: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Output of one SiLU network and the sum of the derivatives of output j by input j, in forward mode.

    Parameters
    ----------
    layers
        Weights ``(n_in, n_out)`` and biases ``(1, n_out)``.
    h
        Inputs, shape ``(n, n_in)``; the first ``d`` are differentiated.
    inside
        Factors on these derivatives, shape ``(n, d)``.

    Returns
    -------
    output : Tensor
        Shape ``(n, d)``.
    trace : Tensor
        Shape ``(n,)``.
    """
    d = inside.shape[1]
    tangent: Tensor | None = None
    for w, b in layers[:-1]:
        a = torch.addmm(b, h, w)
        s = torch.sigmoid(a)
        slope = s * (1 + a * (1 - s))
        h = a * s
        # tangent[j] = d h / d input_j, shape (d, n, width)
        tangent = inside.T[:, :, None] * w[:d, None, :] if tangent is None else tangent @ w
        tangent = tangent * slope
    w, b = layers[-1]
    assert tangent is not None
    return torch.addmm(b, h, w), torch.einsum("jnh,hj->n", tangent, w)


class FlowMatching(TransformedDensity):
    """Conditional flow matching; the models of all splits train as one batched network.

    Parameters
    ----------
    hidden, layers
        Width and number of the hidden layers.
    frequencies
        The network sees the mass as sin and cos of 1, 2, 4, ... times the standardised ln m; this many of
        each. One is enough, and smoothest, to interpolate a masked window. More let a model that is trained on
        all masses keep a signal to the masses where it is, see :meth:`bridged`.
    steps, batch_size, learning_rate
        Training steps, events of each model in a step, peak learning rate of Adam.
    average
        Decay per step of the moving average of the weights.
    validation_fraction
        Part of each split's own events that is held out to choose the best averaged weights.
    ode_steps
        Midpoint steps from noise to features and back.
    precision
        Floating-point type of :meth:`log_prob` and :meth:`to_latent`; samples are made in float32.
    seed
        Everything random in the training follows from it.
    device
        For example ``"cpu"``; default: CUDA if there is one.
    """

    kind: ClassVar[str] = "flow-matching"

    def __init__(
        self,
        *,
        hidden: int = 96,
        layers: int = 3,
        frequencies: int = 1,
        steps: int = 2000,
        batch_size: int = 1024,
        learning_rate: float = 2e-3,
        average: float = 0.995,
        validation_fraction: float = 0.1,
        ode_steps: int = 16,
        precision: str = "float64",
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        super().__init__(
            seed=seed, hidden=hidden, layers=layers, frequencies=frequencies, steps=steps, batch_size=batch_size,
            learning_rate=learning_rate, average=average, validation_fraction=validation_fraction,
            ode_steps=ode_steps, precision=precision, device=device,
        )  # fmt: skip
        self.device = pick_device(device)
        self.ode_steps = ode_steps
        self.precision = {"float32": torch.float32, "float64": torch.float64}[precision]
        self.network: BatchedMLP | None = None
        self.validation_loss: list[float] = []
        self._bridge: tuple[float, float] | None = None

    def bridged(self, low: float, high: float) -> Self:
        r"""Return this density with all masses between ``low`` and ``high`` (GeV) interpolated from these two.

        .. math:: v(z, t, u) = (1 - a)\, v(z, t, u_\mathrm{low}) + a\, v(z, t, u_\mathrm{high}), \qquad
            a = \frac{u - u_\mathrm{low}}{u_\mathrm{high} - u_\mathrm{low}}

        What the model learnt at masses in between, a signal for example, is not used (arXiv:2410.20537, which
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

    def _train(self, samples: list[tuple[Array, Array, Array]]) -> None:
        o = self.options
        data = SplitSamples.make(
            samples, seed=self.seed, validation_fraction=o["validation_fraction"], device=self.device
        )
        network = self._build(len(samples), samples[0][0].shape[1])
        batches = data.batches(o["batch_size"])
        held_out = self._held_out(data)

        def batch_loss() -> Tensor:
            z, u, t, noise = next(batches)
            return _matching_loss(network, z, noise, t, u, o["frequencies"]).mean(1)

        def validation_loss() -> Tensor:
            values = [
                (_matching_loss(network, z, noise, t, u, o["frequencies"], only=slice(k, k + 1))[0] * w).sum()
                / w.sum()
                for k, (z, noise, t, u, w) in enumerate(held_out)
            ]
            return torch.stack(values)

        self.validation_loss = train(
            network, batch_loss, validation_loss, stacked=True, steps=o["steps"],
            learning_rate=o["learning_rate"], average=o["average"], name="flow-matching density",
        )  # fmt: skip

    def _held_out(self, data: SplitSamples) -> list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Held-out events of each model at fixed times and noise: the same dice at every evaluation."""
        out = []
        for rows, weight, rng in zip(data.validation, data.validation_weight, data.rngs, strict=True):
            repeat = np.repeat(rows, _VALIDATION_TIMES)
            t = (np.arange(len(repeat)) % _VALIDATION_TIMES + rng.random(len(repeat))) / _VALIDATION_TIMES
            noise = rng.standard_normal((len(repeat), data.z.shape[1]))
            numbers = [torch.as_tensor(a, dtype=torch.float32, device=self.device) for a in (
                noise, t, np.repeat(weight, _VALIDATION_TIMES))]  # fmt: skip
            index = torch.as_tensor(repeat, device=self.device)
            z, u = data.z[index], data.u[index]
            out.append((z[None], numbers[0][None], numbers[1][None], u[None], numbers[2]))
        return out

    def _latent_log_prob(self, z: Array, u: Array, split: int) -> Array:
        start, integral = self._integrate(
            z, u, split, backward=True, dtype=self.precision, with_divergence=True
        )
        log_normal = -0.5 * (start**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
        result: Array = log_normal - integral
        return result

    def _generate(self, noise: Array, u: Array, split: int) -> Array:
        return self._integrate(noise, u, split, backward=False, dtype=torch.float32)[0]

    def _encode(self, z: Array, u: Array, split: int) -> Array:
        return self._integrate(z, u, split, backward=True, dtype=self.precision)[0]

    def _integrate(
        self,
        z: Array,
        u: Array,
        split: int,
        *,
        backward: bool,
        dtype: torch.dtype,
        with_divergence: bool = False,
    ) -> tuple[Array, Array]:
        """End point of the flow and the integral of its divergence from time 0 to 1."""
        assert self.network is not None
        pairs = zip(self.network.weights, self.network.biases, strict=True)
        layers = [(w[split].detach().to(dtype), b[split].detach().to(dtype)) for w, b in pairs]
        field = _Field(layers, self.options["frequencies"], self._bridge_in_context(split))
        step = (-1.0 if backward else 1.0) / self.ode_steps
        first = 1.0 if backward else 0.0
        ends, integrals = [np.empty((0, z.shape[1]))], [np.empty(0)]
        with torch.no_grad():
            for low in range(0, len(z), _ROWS):
                at = torch.as_tensor(z[low : low + _ROWS], dtype=dtype, device=self.device)
                mass = torch.as_tensor(u[low : low + _ROWS], dtype=dtype, device=self.device)
                total = torch.zeros(len(at), dtype=dtype, device=self.device)
                for i in range(self.ode_steps):
                    t = first + i * step
                    half, _ = field(at, t, mass, with_divergence=False)
                    v, div = field(at + 0.5 * step * half, t + 0.5 * step, mass, with_divergence)
                    at = at + step * v
                    total = total + abs(step) * div
                ends.append(at.double().cpu().numpy())
                integrals.append(total.double().cpu().numpy())
        return np.concatenate(ends), np.concatenate(integrals)

    def _bridge_in_context(self, split: int) -> tuple[float, float] | None:
        if self._bridge is None:
            return None
        low, high = self.transforms[split].context(np.array(self._bridge))
        return float(low), float(high)

    def _tensors(self) -> dict[str, NDArray[Any]]:
        assert self.network is not None
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.network.state_dict().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        network = self._build(len(self.transforms), len(self.transforms[0].x_knots))
        network.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})


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
