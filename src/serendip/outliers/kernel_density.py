r"""Kernel density estimate in principal components (arXiv:2105.14027, section 4.7).

.. math:: s(x) = -\ln \sum_i w_i \, N\!\left(P(x);\, P(x_i),\, h^2 \mathbf 1\right)

with the first D principal components :math:`P` of the standardised columns, each scaled to unit variance.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError, Standardiser, in_blocks, require_at_least, weighted_rows

__all__ = ["KernelDensity"]

_CANDIDATES = 12
_FOLDS = 5
_CV_EVENTS = 2000


@dataclass(eq=False, repr=False)
class KernelDensity(OutlierScore):
    r"""Minus the logarithm of a Gaussian kernel density; higher = more anomalous.

    Event weights are used in the components, the bandwidth and the density. The density is that of the
    components, so scores are comparable only between events, not between fits.

    Parameters
    ----------
    dimensions
        Principal components; at most the number of columns that vary.
    bandwidth
        Width of the kernel in units of the spread of a component; ``"silverman"``:
        :math:`(n_\mathrm{eff}(D+2)/4)^{-1/(D+4)}`; ``"cv"``: the best of 12 widths from a quarter of Silverman's to twice it, by
        five-fold likelihood on at most 2,000 events.
    max_events
        Kernels. Of more training events this many are drawn in proportion to their weights; the time of a score
        is proportional to it.
    random_state
        Seed of the folds and of the draw.

    Attributes
    ----------
    bandwidth_
        The width that is used.
    explained_variance_
        Part of the variance of the standardised columns that lies in the components.
    dropped_columns_
        Number of columns that are constant in the background and play no part.
    """

    kind = "kernel-density"

    dimensions: int = 5
    _: KW_ONLY
    bandwidth: float | Literal["silverman", "cv"] = "silverman"
    max_events: int = 20_000
    random_state: Any = 0

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        require_at_least(1, dimensions=self.dimensions)
        require_at_least(10, max_events=self.max_events)
        if self.bandwidth not in ("silverman", "cv"):
            _positive(self.bandwidth)

    def _fit(self, x: Array, weights: Array) -> None:
        rng = np.random.default_rng(self._seed())
        self._standardiser = Standardiser.fit(x, weights)
        self.dropped_columns_ = x.shape[1] - len(self._standardiser.kept)
        z = self._standardiser.transform(x, reach=None)
        values, vectors = np.linalg.eigh(
            np.cov(z, rowvar=False, aweights=weights, ddof=0).reshape(z.shape[1], -1)
        )
        # a component without variance is rounding
        d = min(self.dimensions, int(np.count_nonzero(values > 1e-9 * values[-1])))
        top = slice(-1, -d - 1, -1)
        self.explained_variance_ = float(values[top].sum() / values.sum())
        self._components = vectors[:, top] / np.sqrt(values[top])
        points = z @ self._components
        if len(points) > self.max_events:
            points, weights = points[weighted_rows(weights, rng, self.max_events)], np.ones(self.max_events)
        self._points, self._weights = points, weights / weights.sum()
        effective = 1.0 / np.sum(self._weights**2)
        silverman = float((effective * (d + 2) / 4) ** (-1 / (d + 4)))
        if self.bandwidth == "silverman":
            self.bandwidth_ = silverman
        elif self.bandwidth == "cv":
            self.bandwidth_ = _by_likelihood(points, self._weights, silverman, rng)
        else:
            self.bandwidth_ = _positive(self.bandwidth)

    def _score(self, x: Array) -> Array:
        points = self._standardiser.transform(x, reach=None) @ self._components
        log_w = np.log(self._weights)

        def log_density(part: Array) -> Array:
            return _log_density(_squared_distances(part, self._points), log_w, self.bandwidth_, part.shape[1])

        # a block of distances stays in the cache
        return -in_blocks(log_density, points, max(1, 400_000 // len(self._points)))

    def _state(self) -> tuple[Facts, Arrays]:
        facts = {
            "bandwidth": self.bandwidth_,
            "explained_variance": self.explained_variance_,
            "dropped_columns": self.dropped_columns_,
        }
        arrays = {"components": self._components, "points": self._points, "weights": self._weights}
        return facts, arrays | self._standardiser.arrays()

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.bandwidth_ = float(facts["bandwidth"])
        self.explained_variance_ = float(facts["explained_variance"])
        self.dropped_columns_ = int(facts["dropped_columns"])
        self._components, self._points, self._weights = (
            arrays[n] for n in ("components", "points", "weights")
        )
        self._standardiser = Standardiser.from_arrays(arrays)


def _positive(bandwidth: Any) -> float:
    if isinstance(bandwidth, str) or not 0 < bandwidth < np.inf:
        raise DataError(f"bandwidth must be a positive number, 'silverman' or 'cv', not {bandwidth!r}")
    return float(bandwidth)


def _by_likelihood(points: Array, weights: Array, start: float, rng: np.random.Generator) -> float:
    """Width with the largest weighted log-likelihood of events that are left out in turn."""
    rows = rng.permutation(len(points))[:_CV_EVENTS]
    points, weights = points[rows], weights[rows]
    fold = np.arange(len(points)) % _FOLDS
    widths = start * np.geomspace(0.25, 2.0, _CANDIDATES)
    total = np.zeros(_CANDIDATES)
    for f in range(_FOLDS):
        test, train = fold == f, fold != f
        squared = _squared_distances(points[test], points[train])
        log_w = np.log(weights[train] / weights[train].sum())
        for i, h in enumerate(widths):
            total[i] += np.sum(weights[test] * _log_density(squared, log_w, h, points.shape[1]))
    return float(widths[int(np.argmax(total))])


def _squared_distances(a: Array, b: Array) -> Array:
    """Shape ``(len(a), len(b))``."""
    squared: Array = a @ (-2.0 * b.T)
    squared += (a**2).sum(axis=1)[:, None]
    squared += (b**2).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)


def _log_density(squared: Array, log_w: Array, h: float, d: int) -> Array:
    # in place: this is where all the time goes
    exponent = squared * (-0.5 / h**2)
    exponent += log_w
    top = exponent.max(axis=1)
    exponent -= top[:, None]
    np.exp(exponent, out=exponent)
    total: Array = top + np.log(exponent.sum(axis=1)) - d * np.log(np.sqrt(2 * np.pi) * h)
    return total
