"""How well boosted trees distinguish two samples: 0.5 if they are one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from serendip.classify.splits import fit_splits
from serendip.classify.trees import TreeEnsemble

__all__ = ["two_sample_auc"]


def two_sample_auc(
    first: NDArray[np.float32],
    first_weights: NDArray[np.float64],
    second: NDArray[np.float32],
    second_weights: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    members: int = 1,
) -> tuple[float, float]:
    r"""Cross-validated AUC of boosted trees between two samples, and its error; 0.5 = cannot be told apart.

    Each half is scored by trees trained on the other half, both samples with the same total weight. The error is that of the
    Mann-Whitney statistic without separation, :math:`\sqrt{(n_1 + n_2 + 1) / (12\, n_1 n_2)}`, with the effective numbers of events
    :math:`(\sum w)^2 / \sum w^2`.

    Parameters
    ----------
    first, second
        Features, shape ``(n1, d)`` and ``(n2, d)``.
    first_weights, second_weights
        Shape ``(n1,)`` and ``(n2,)``.
    rng
        Draws the halves.
    members
        Boosted trees that are averaged.
    """
    samples = ((first, first_weights), (second, second_weights))
    x = np.concatenate([part for part, _ in samples])
    y = np.repeat([1, 0], [len(part) for part, _ in samples])
    w = np.concatenate([values * (len(x) / 2 / values.sum()) for _, values in samples])
    half = rng.integers(0, 2, len(x)).astype(bool)
    fitted = fit_splits(TreeEnsemble(members=members, random_state=0), x, y, w, np.stack([half, ~half]))
    auc = 0.5 * sum(
        float(roc_auc_score(y[part], fitted.score(x[part], k), sample_weight=w[part]))
        for k, part in enumerate((~half, half))
    )
    n1, n2 = (values.sum() ** 2 / (values**2).sum() for _, values in samples)
    return auc, float(np.sqrt((n1 + n2 + 1) / (12 * n1 * n2)))
