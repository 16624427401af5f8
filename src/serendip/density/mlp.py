"""Small networks of one shape, evaluated together."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BatchedMLP", "divergence"]


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
        parameters = [*self.weights, *self.biases]
        if only != slice(None):
            parameters = [p[only] for p in parameters]
        if torch.is_autocast_enabled(h.device.type):
            dtype = torch.get_autocast_dtype(h.device.type)
            h, parameters = h.to(dtype), [p.to(dtype) for p in parameters]
        result: Tensor = _Layers.apply(h, *parameters)  # type: ignore[no-untyped-call]
        return result


class _Layers(torch.autograd.Function):
    """All layers as one operation with its own derivative: a fifth faster, in memory that is used in order."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        inputs, sums = [h], []
        with torch.autocast(h.device.type, enabled=False):
            for w, b in zip(weights[:-1], biases[:-1], strict=True):
                sums.append(torch.baddbmm(b, inputs[-1], w))
                inputs.append(functional.silu(sums[-1]))
            # the last product transposed: matrix libraries are slow where the last axis is as short as features are
            output = torch.baddbmm(biases[-1].mT, weights[-1].mT, inputs[-1].mT).mT
        ctx.save_for_backward(*weights, *inputs, *sums)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        layers = (len(ctx.saved_tensors) + 1) // 3
        weights, inputs = ctx.saved_tensors[:layers], ctx.saved_tensors[layers : 2 * layers]
        sums = ctx.saved_tensors[2 * layers :]
        by_weight, by_bias = [torch.bmm(g.mT, inputs[-1]).mT], [g.sum(1, keepdim=True)]
        for i in reversed(range(layers - 1)):
            g = torch.ops.aten.silu_backward(torch.bmm(g, weights[i + 1].mT), sums[i])
            by_weight.append(torch.bmm(inputs[i].mT, g))
            by_bias.append(g.sum(1, keepdim=True))
        first = torch.bmm(g, weights[0].mT) if ctx.needs_input_grad[0] else None
        return (first, *by_weight[::-1], *by_bias[::-1])


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
