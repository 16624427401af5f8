"""Contribution of each position in the order of the folds to a weighted look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.search.diagnostic_records import Weighted
from serendip.statistics.pvalues import z_value

__all__ = ["Evidence", "evidence"]

Array = NDArray[np.float64]

_LOWEST = -2.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums of weights in the window by the place of the fold in the order.

    Attributes
    ----------
    place
        Folds trained before it, shape ``(n,)``.
    excess, error
        Observed minus expected, mean over the orders, and the error of a single order, shape ``(n,)``.
    z
        Significance in each order, shape ``(n_orders, n)``; a fold in which nothing counts has p = 1, which stands at -2.
    """

    place: NDArray[np.int64]
    excess: Array
    error: Array
    z: Array

    @property
    def mean_z(self) -> Array:
        """Mean significance over the orders, shape ``(n,)``."""
        return np.asarray(self.z.mean(axis=0))


def evidence(record: Weighted) -> Evidence | None:
    """Evidence by place; None while blinded."""
    if any(fold.observed is None or fold.p is None for order in record.orders for fold in order.folds):
        return None

    def table(name: str) -> Array:
        return np.array(
            [[getattr(fold, name) for fold in order.folds] for order in record.orders], dtype=float
        )

    observed, expected, error = table("observed"), table("expected"), table("expected_error")
    scale = np.array([[order.spectrum.scale] for order in record.orders])
    with np.errstate(divide="ignore"):
        log_p = np.log(table("p"))
    return Evidence(
        np.array([fold.fold for fold in record.orders[0].folds]),
        (observed - expected).mean(axis=0),
        np.sqrt(scale * expected + error**2).mean(axis=0),
        np.maximum(z_value(log_p=log_p), _LOWEST),
    )
