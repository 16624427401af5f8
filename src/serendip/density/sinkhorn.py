r"""Debiased Sinkhorn divergence between samples, differentiable (arXiv:1810.08278).

.. math:: S_\epsilon(\alpha, \beta) = \mathrm{OT}_\epsilon(\alpha, \beta)
    - \tfrac12 \mathrm{OT}_\epsilon(\alpha, \alpha) - \tfrac12 \mathrm{OT}_\epsilon(\beta, \beta)

with cost :math:`|x - y|^2 / 2` and :math:`\epsilon = \mathrm{blur}^2`. It is zero for equal samples only, and
:math:`|t|^2/2` between a sample and its translation by t, whatever the blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sinkhorn_divergence"]


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    blur: float = 0.1,
    scaling: float = 0.6,
) -> Tensor:
    """Divergence of each pair of samples, shape ``(k,)``.

    Parameters
    ----------
    x, y
        Samples, shapes ``(k, n, d)`` and ``(k, l, d)``.
    a, b
        Weights, shapes ``(k, n)`` and ``(k, l)``, not negative; each row counts as its part of the sum of its
        sample. Default: all equal.
    blur
        Distance below which points are not told apart.
    scaling
        Factor by which the length scale falls from one iteration to the next, from the extent of the samples
        to ``blur``.
    """
    log_a, log_b = _log_weights(a, x), _log_weights(b, y)
    # each sample moves in its own potential only; otherwise its gradient would count twice
    costs = [_cost(x, y.detach()), _cost(y, x.detach()), _cost(x, x.detach()), _cost(y, y.detach())]
    # the weights and the potential that each of the four updates looks at: the transport pairs x with y
    columns = [log_b, log_a, log_a, log_b]
    partner = [1, 0, 2, 3]
    extent = float(torch.cat([x, y], 1).detach().flatten(0, 1).std(0).norm()) * 4
    lengths = [max(extent, blur)]
    while lengths[-1] > blur:
        lengths.append(max(lengths[-1] * scaling, blur))
    with torch.no_grad():
        potentials = [torch.zeros(c.shape[:2], dtype=c.dtype, device=c.device) for c in costs]
        for length in [lengths[0], *lengths, blur]:
            new = [
                _softmin(c, potentials[p], w, length**2)
                for c, p, w in zip(costs, partner, columns, strict=True)
            ]
            potentials = [0.5 * (old + update) for old, update in zip(potentials, new, strict=True)]
    # at the optimum the gradient through the potentials vanishes: one last update carries that of the costs
    f, g, p, q = (
        _softmin(c, potentials[i], w, blur**2) for c, i, w in zip(costs, partner, columns, strict=True)
    )
    return (log_a.exp() * (f - p)).sum(1) + (log_b.exp() * (g - q)).sum(1)


def _cost(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None, :]
    return 0.5 * squares - x @ y.transpose(1, 2)


def _softmin(cost: Tensor, potential: Tensor, log_weight: Tensor, epsilon: float) -> Tensor:
    return -epsilon * torch.logsumexp(log_weight[:, None] + (potential[:, None] - cost) / epsilon, dim=2)


def _log_weights(weights: Tensor | None, x: Tensor) -> Tensor:
    if weights is None:
        weights = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    return (weights / weights.sum(1, keepdim=True)).log()
