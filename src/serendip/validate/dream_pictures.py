"""The figures of a comparison of two samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.validate.dream import Dream
from serendip.validate.importance import Ranking
from serendip.validate.pictures import Picture, Series

__all__ = ["dream_pictures"]


def _bars(name: str, title: str, caption: str, label: str, ranking: Ranking) -> Picture:
    return Picture(
        name=name,
        title=title,
        caption=caption,
        x_label="feature",
        y_label=label,
        series=(
            Series(name=label, x=tuple(range(len(ranking.features))), y=ranking.values, error=ranking.errors),
        ),
        level=0.0,
        categories=ranking.features,
    )


def dream_pictures(dream: Dream, names: tuple[str, ...]) -> list[Picture]:
    """Everything that is drawn of a comparison of two samples; ``names`` are the features in their order."""
    y, w = dream.sample.y, dream.sample.weights
    low, high = (float(q) for q in np.quantile(dream.sample.score, [0.001, 0.999]))
    edges = np.linspace(low, high, 41)
    if not np.all(np.diff(edges) > 0):
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, 41)
    score = np.clip(dream.sample.score, edges[0], edges[-1])
    shares = [
        np.histogram(score[y == kind], edges, weights=w[y == kind])[0] / w[y == kind].sum()
        for kind in (True, False)
    ]
    null = np.histogram(dream.null.aucs, bins=min(20, max(5, dream.null.n // 5)))
    regions = [region for region in dream.regions if np.isfinite(region.ratio)]
    pictures = [
        Picture(
            name="simulation-null",
            title="AUC of permuted samples",
            caption=f"AUC if the sample labels are random. Observed: {dream.sample.auc:.4f}, p = {dream.null.p:.2g}; "
            f"with unlimited training events {dream.auc:.4f} ± {dream.error:.4f}.",
            x_label="AUC",
            y_label="permutations",
            series=(
                Series(name="permutations", x=tuple(null[1]), y=tuple(map(float, null[0])), style="steps"),
                Series(
                    name="observed",
                    x=(dream.sample.auc, dream.sample.auc),
                    y=(0.0, float(null[0].max())),
                    style="line",
                ),
            ),
        ),
        Picture(
            name="simulation-score",
            title="Log-odds of the classifier",
            caption="Logarithm of the ratio of densities of both samples at each event, from a classifier that was not trained on it. "
            "Tails on one side only are regions that one sample does not describe.",
            x_label="ln (first / second)",
            y_label="fraction of events / bin",
            series=tuple(
                Series(name=name, x=tuple(edges), y=tuple(share), style="steps")
                for name, share in zip(("first sample", "second sample"), shares, strict=True)
            ),
        ),
        _bars(
            "simulation-importance",
            "Features by permutation importance",
            "AUC that is lost if the feature of held-out events is shuffled; errors from the folds.",
            "lost AUC",
            dream.importance,
        ),
        Picture(
            name="simulation-regions",
            title="Ratio in regions of phase space",
            caption="Regions were found on one half of the events, from low to high ratio, and measured on the other half: "
            + "; ".join(f"{i + 1}: {region}" for i, region in enumerate(regions)),
            x_label="region",
            y_label="first / second",
            series=(
                Series(
                    name="measured ratio",
                    x=tuple(range(len(regions))),
                    y=tuple(region.ratio for region in regions),
                    error=tuple(region.error for region in regions),
                ),
            ),
            level=1.0,
            categories=tuple(str(i + 1) for i in range(len(regions))),
        ),
    ]
    if dream.derivatives is not None:
        pictures.insert(
            3,
            _bars(
                "simulation-derivatives",
                "Features by input derivatives",
                "Mean size of the derivative of the log-ratio of densities (networks), times the standard deviation of the feature; "
                "errors from the folds. Noise alone gives positive numbers, so compare the features with each other.",
                "derivative",
                dream.derivatives,
            ),
        )
    for i in (names.index(name) for name in dream.importance.features):
        profile = dream.profiles[i]
        centres = tuple(0.5 * (profile.edges[1:] + profile.edges[:-1]))
        pictures.append(
            Picture(
                name=f"simulation-profile-{i + 1}",
                title=f"Ratio along {profile.feature}",
                caption="Points: share of the first sample over that of the second in bins of equal size. Line: the ratio that "
                "the classifier has learnt.",
                x_label=profile.feature,
                y_label="first / second",
                series=(
                    Series(
                        name="measured", x=centres, y=_numbers(profile.ratio), error=_numbers(profile.error)
                    ),
                    Series(name="classifier", x=centres, y=_numbers(profile.learned), style="line"),
                ),
                level=1.0,
            )
        )
    return pictures


def _numbers(values: NDArray[Any]) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
