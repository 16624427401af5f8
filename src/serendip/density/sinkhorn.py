r"""Entropic optimal transport between samples, differentiable (arXiv:1810.08278).

.. math:: \mathrm{OT}_\epsilon(\alpha, \beta) = \min_\pi \int \tfrac12 |x - y|^2 \, d\pi
    + \epsilon\, \mathrm{KL}(\pi \,|\, \alpha \otimes \beta), \qquad \epsilon = \mathrm{blur}^2

The Sinkhorn divergence :math:`S_\epsilon(\alpha, \beta) = \mathrm{OT}_\epsilon(\alpha, \beta)
- \tfrac12 \mathrm{OT}_\epsilon(\alpha, \alpha) - \tfrac12 \mathrm{OT}_\epsilon(\beta, \beta)` is zero for equal samples
only, and :math:`|t|^2/2` between a sample and its translation by t, whatever the blur.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["transport_cost"]


def transport_cost(x: Tensor, y: Tensor, *, blur: float, scaling: float = 0.6) -> Tensor:
    """Cost of each pair of samples, shape ``(k,)``.

    Parameters
    ----------
    x, y
        Samples, shapes ``(k, n, d)`` and ``(k, l, d)``.
    blur
        Distance below which points are not distinguished.
    scaling
        Factor by which the length scale falls from one iteration to the next, from the extent of the samples
        to ``blur``.
    """
    extent = 4 * float(torch.cat([x, y], 1).detach().flatten(0, 1).std(0).norm())
    lengths = [max(extent, blur)]
    while lengths[-1] > blur:
        lengths.append(max(lengths[-1] * scaling, blur))
    with torch.no_grad():
        cost = _cost(x, y)
        back = cost.transpose(1, 2)
        f, g = (torch.zeros(s.shape[:2], dtype=s.dtype, device=s.device) for s in (x, y))
        for length in [*lengths, blur, blur]:
            f = _softmin(cost, g, length**2)
            g = _softmin(back, f, length**2)
    # at the optimum the gradient through the potentials vanishes: one last update carries that of the costs, for
    # each sample in its own potential only; otherwise it would count twice
    to_y = _softmin(_cost(x, y.detach()), g, blur**2)
    to_x = _softmin(_cost(y, x.detach()), f, blur**2)
    return to_y.mean(1) + to_x.mean(1)


def _cost(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None, :]
    return 0.5 * squares - x @ y.transpose(1, 2)


def _softmin(cost: Tensor, potential: Tensor, epsilon: float) -> Tensor:
    mean = torch.logsumexp((potential[:, None] - cost) / epsilon, dim=2) - math.log(cost.shape[2])
    return -epsilon * mean
