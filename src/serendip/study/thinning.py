r"""Fewer events that stand for as much: light events are taken at random, heavy ones stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["thin"]

Array = NDArray[np.float64]


def thin(weights: Array, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    r"""Take about ``n`` events with probability :math:`\min(1, w/w_0)` and weight :math:`\max(w, w_0)`, which leaves all expectations as they are.

    Parameters
    ----------
    weights
        Shape ``(n_events,)``, not negative.
    n
        Expected number; all events with a weight, if there are no more.
    rng
        Chooses.

    Returns
    -------
    rows, weights
        Numbers of the events that are taken, rising, and their new weights.
    """
    used = np.flatnonzero(weights > 0)
    if len(used) <= n:
        return used, weights[used]
    w = np.sort(weights[used])[::-1]
    # with the k heaviest kept, w0 = (sum of the others) / (n - k); right where w0 lies between weights k and k + 1
    rest = w.sum() - np.concatenate([[0.0], np.cumsum(w)[: n - 1]])
    threshold = rest / (n - np.arange(n))
    k = int(np.argmax(threshold >= w[:n]))
    chosen = used[rng.random(len(used)) < weights[used] / threshold[k]]
    return chosen, np.maximum(weights[chosen], threshold[k])
