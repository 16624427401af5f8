"""Where in phase space two samples differ: the ratio of densities along each feature, and in regions.

Regions are found on one half of the events and measured on the other, so that a ratio is not large because its region was
chosen for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from serendip.validate.twosample import TwoSample, cross_validate, stratified_folds

__all__ = ["Profile", "Region", "find_regions", "ratio_profiles"]

Array = NDArray[np.float64]

_BINS = 12
_REGIONS = 8
_SMALLEST_REGION = 0.03


@dataclass(frozen=True)
class Profile:
    """Ratio of two samples along a feature.

    Attributes
    ----------
    feature
        Its name.
    edges
        Bin edges (quantiles of both samples together), shape ``(b + 1,)``.
    ratio, error
        Share of sample 1 in each bin over that of sample 0, and its standard error, shape ``(b,)``; NaN if one of them
        has nothing there.
    learned
        The same ratio by the classifier: mean of ``exp(score)`` over the events of sample 0, shape ``(b,)``.
    chi2, ndf, p
        Of the two histograms being one shape; with weights, errors are those of sums of weights.
    """

    feature: str
    edges: Array
    ratio: Array
    error: Array
    learned: Array
    chi2: float
    ndf: int
    p: float

    @property
    def largest(self) -> tuple[float, float]:
        """The ratio that is most significantly different from 1, and its error; ``(1, 0)`` if there is none."""
        pull = np.abs(self.ratio - 1) / self.error
        if not np.isfinite(pull).any():
            return 1.0, 0.0
        i = int(np.nanargmax(pull))
        return float(self.ratio[i]), float(self.error[i])


@dataclass(frozen=True)
class Region:
    """A box in phase space.

    Attributes
    ----------
    cuts
        ``(feature, low, high)`` for each feature that is cut on; None where there is no bound.
    share, reference_share
        Fraction of sample 1 and of sample 0 in it.
    ratio, error
        Their ratio and its standard error.
    z
        ``ln ratio`` over its error: significance of a difference in this region.
    """

    cuts: tuple[tuple[str, float | None, float | None], ...]
    share: float
    reference_share: float
    ratio: float
    error: float
    z: float

    def __str__(self) -> str:
        texts = []
        for name, low, high in self.cuts:
            if low is not None and high is not None:
                texts.append(f"{low:.4g} < {name} <= {high:.4g}")
            else:
                texts.append(f"{name} > {low:.4g}" if low is not None else f"{name} <= {high:.4g}")
        return " & ".join(texts) or "everywhere"


def _shares(y: NDArray[np.bool_], w: Array, rows: NDArray[Any], n: int) -> tuple[Array, Array, Array, Array]:
    """Fractions of samples 1 and 0 in each of ``n`` places, and their variances; ``rows`` is the place of each event."""
    out = []
    for kind in (True, False):
        here = y == kind
        total = w[here].sum()
        sums = np.bincount(rows[here], w[here], n) / total
        squares = np.bincount(rows[here], w[here] ** 2, n) / total**2
        # the total is a sum of the same events: (1 - 2 f) of the variance inside, f^2 of that of all
        out += [sums, squares * (1 - 2 * sums) + sums**2 * squares.sum()]
    return out[0], out[1], out[2], out[3]


def _ratio(f1: Array, v1: Array, f0: Array, v0: Array) -> tuple[Array, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((f1 > 0) & (f0 > 0), f1 / f0, np.nan)
        return ratio, ratio * np.sqrt(v1 / f1**2 + v0 / f0**2)


def ratio_profiles(sample: TwoSample, names: tuple[str, ...]) -> tuple[Profile, ...]:
    """Ratio of the samples along each feature."""
    y, w = sample.y, sample.weights
    found = []
    for i, name in enumerate(names):
        values = sample.x[:, i].astype(np.float64)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
        if len(edges) < 2:
            edges = np.array([edges[0], edges[0] + 1.0])
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        n = len(edges) - 1
        f1, v1, f0, v0 = _shares(y, w, place, n)
        ratio, error = _ratio(f1, v1, f0, v0)
        s1, s0 = (
            np.bincount(place[y == kind], w[y == kind] ** 2, n) / w[y == kind].sum() ** 2
            for kind in (True, False)
        )
        used = s1 + s0 > 0
        value = float(((f1 - f0)[used] ** 2 / (s1 + s0)[used]).sum())
        ndf = max(int(used.sum()) - 1, 0)
        below = np.bincount(place[~y], w[~y], n)
        summed = np.bincount(place[~y], (w * np.exp(np.clip(sample.score, -30, 30)))[~y], n)
        with np.errstate(divide="ignore", invalid="ignore"):
            learned = np.where(below > 0, summed / below, np.nan)
        p = float(chi2.sf(value, ndf)) if ndf else 1.0
        found.append(Profile(name, edges, ratio, error, learned, value, ndf, p))
    return tuple(found)


def find_regions(
    sample: TwoSample, names: tuple[str, ...], estimator: Any, rng: np.random.Generator
) -> tuple[Region, ...]:
    """Find regions of low and high ratio, ordered from the lowest ratio to the highest that the finding half saw.

    On one half of the events a classifier is trained and a decision tree is fitted to its cross-validated log-ratio; the
    ratio in each leaf is measured on the other half.
    """
    from sklearn.tree import DecisionTreeRegressor

    half = stratified_folds(sample.y, 2, rng)
    finding, measuring = half == 0, half == 1
    found = cross_validate(sample.x[finding], sample.y[finding], sample.weights[finding], estimator, 2, rng)
    smallest = max(25, round(_SMALLEST_REGION * len(found.y)))
    tree = DecisionTreeRegressor(
        max_leaf_nodes=_REGIONS, min_samples_leaf=smallest, random_state=int(rng.integers(2**31))
    )
    tree.fit(found.x, np.clip(found.score, -10, 10), sample_weight=found.weights)
    boxes = _boxes(tree.tree_, names)
    leaves = np.array(sorted(boxes))
    place = np.searchsorted(leaves, tree.apply(sample.x[measuring]))
    y, w = sample.y[measuring], sample.weights[measuring]
    f1, v1, f0, v0 = _shares(y, w, place, len(leaves))
    ratio, error = _ratio(f1, v1, f0, v0)
    order = np.argsort(tree.tree_.value[leaves, 0, 0], kind="stable")
    return tuple(
        Region(
            boxes[int(leaves[i])],
            float(f1[i]),
            float(f0[i]),
            float(ratio[i]),
            float(error[i]),
            float(np.log(ratio[i]) * ratio[i] / error[i]) if error[i] > 0 else float("nan"),
        )
        for i in order
    )


def _boxes(
    tree: Any, names: tuple[str, ...]
) -> dict[int, tuple[tuple[str, float | None, float | None], ...]]:
    """Bounds of each leaf of a decision tree, features in their order."""
    boxes: dict[int, tuple[tuple[str, float | None, float | None], ...]] = {}
    todo: list[tuple[int, dict[int, tuple[float | None, float | None]]]] = [(0, {})]
    while todo:
        node, bounds = todo.pop()
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left < 0:
            boxes[node] = tuple((names[i], *bounds[i]) for i in sorted(bounds))
            continue
        feature, cut = int(tree.feature[node]), float(tree.threshold[node])
        low, high = bounds.get(feature, (None, None))
        todo += [(left, bounds | {feature: (low, cut)}), (right, bounds | {feature: (cut, high)})]
    return boxes
