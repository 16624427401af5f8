"""Rational-quadratic splines (arXiv:1906.04032) of zuko's flows, with fewer passes over memory.

Training and evaluation of spline flows spend most of their time in the many small tensors of their splines, and torch's softmax
of eight numbers costs ten times as much as their exponentials.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows
from zuko.flows import MAF
from zuko.transforms import MonotonicRQSTransform, Transform

__all__ = ["RationalQuadraticSpline", "spline_flow"]

_SLOPE = 1e-3


def spline_flow(features: int, context: int = 0, *, bins: int = 8, **options: Any) -> MAF:
    """An autoregressive or coupling spline flow, as ``zuko.flows.NSF`` makes it, with the same weights.

    Parameters
    ----------
    features, context
        Numbers of features and of conditions.
    bins
        Bins of each spline.
    **options
        As of ``zuko.flows.MAF``.
    """
    spline = partial(RationalQuadraticSpline, slope=_SLOPE)
    return MAF(features, context, univariate=spline, shapes=[(bins,), (bins,), (bins - 1,)], **options)


class RationalQuadraticSpline(MonotonicRQSTransform):  # type: ignore[misc]
    """The transformation of ``zuko.transforms.MonotonicRQSTransform``, which has the same arguments."""

    def __init__(
        self,
        widths: Tensor,
        heights: Tensor,
        derivatives: Tensor,
        bound: float = 5.0,
        slope: float = _SLOPE,
        **options: Any,
    ) -> None:
        Transform.__init__(self, **options)
        limit = -math.log(slope)

        def knots(free: Tensor) -> Tensor:
            # at most exp(limit / 2), so that no maximum need be subtracted
            end = torch.cumsum(torch.exp(free / (1.0 + free.abs() * (2.0 / limit))), dim=-1)
            return F.pad(end * (2.0 * bound / end[..., -1:]) - bound, (1, 0), value=-bound)

        self.horizontal, self.vertical = knots(widths), knots(heights)
        slopes = torch.exp(derivatives / (1.0 + derivatives.abs() / limit))
        self.derivatives = F.pad(slopes, (1, 1), value=1.0)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transformed values and ln|dy/dx|, shape of ``x``."""
        mask, x0, x1, y0, y1, d0, d1, s = self.bin(self.searchsorted(self.horizontal, x) - 1)
        z = mask * (x - x0) / (x1 - x0)
        rest = 1.0 - z
        both = z * rest
        curved = s + (d0 + d1 - 2.0 * s) * both
        y = y0 + (y1 - y0) * (s * z**2 + d0 * both) / curved
        jacobian = (s / curved) ** 2 * (2.0 * s * both + d0 * rest**2 + d1 * z**2)
        return torch.where(mask, y, x), mask * jacobian.log()
