r"""Mahalanobis distance: a complete unsupervised score in one file, also usable as a search method.

.. math:: s(x) = \sqrt{(x - \mu)^T \Sigma^{-1} (x - \mu)}

with the weighted mean and covariance of the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serendip.methods.outlier import OutlierMethod
from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError

__all__ = ["Mahalanobis", "MahalanobisMethod"]


@dataclass(eq=False, repr=False)
class Mahalanobis(OutlierScore):
    """Distance from the mean of the background in units of its covariance; higher = more anomalous.

    Parameters
    ----------
    shrinkage
        Weight of the diagonal in the estimated covariance, above 0; it keeps the matrix invertible.
    """

    kind = "mahalanobis"  # the name of the entry point
    title = "Mahalanobis distance"

    shrinkage: float = 0.01

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        if not 0 < self.shrinkage <= 1:
            raise DataError(f"shrinkage must be above 0 and at most 1, got {self.shrinkage}")

    def _fit(self, x: Array, weights: Array) -> None:
        self._mean = np.average(x, axis=0, weights=weights)
        covariance = np.atleast_2d(np.cov(x, rowvar=False, aweights=weights))
        # a constant column has no spread, and any value will do
        diagonal = np.diag(np.maximum(np.diag(covariance), 1e-12))
        mixed = (1 - self.shrinkage) * covariance + self.shrinkage * diagonal
        self._inverse = np.linalg.inv(mixed)

    def _score(self, x: Array) -> Array:
        away = x - self._mean
        return np.sqrt(np.einsum("ni,ij,nj->n", away, self._inverse, away))

    def _state(self) -> tuple[Facts, Arrays]:
        return {}, {"mean": self._mean, "inverse": self._inverse}

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self._mean, self._inverse = arrays["mean"], arrays["inverse"]


class MahalanobisMethod(OutlierMethod):
    """The score as a search method; its options are those of the score."""

    name = "mahalanobis"
