r"""Fewer events: background of which heavy events stay, and theories that share a number of events evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["share_out", "thin"]

Array = NDArray[np.float64]

_FEWEST = 5  # below, a theory has no validation event left


def share_out(sizes: Sequence[int], total: int) -> int:
    r"""Most events :math:`m` of each theory so that a mixture has ``total``: the largest with :math:`\sum_i \min(n_i, m) \le` ``total``.

    Parameters
    ----------
    sizes
        Events :math:`n_i` that each theory has.
    total
        Total number of events. The mixture has less than one event per theory fewer, or all that there are.

    Raises
    ------
    InputError
        If a theory would have fewer than 5 events.
    """
    rising = np.sort(np.asarray(sizes, dtype=np.int64))
    before = np.append(0, np.cumsum(rising)[:-1])
    # with the i smallest theories taken whole, the others share the rest
    most = (total - before) // np.arange(len(rising), 0, -1)
    whole = most > rising
    found = int(rising[-1] if whole.all() else most[np.argmin(whole)])
    if found < _FEWEST:
        raise InputError(
            f"{total} signal events for {len(rising)} theories are fewer than {_FEWEST} of each; use a larger mini or events_per_theory"
        )
    return found


def thin(weights: Array, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    r"""Take about ``n`` events with probability :math:`\min(1, w/w_0)` and weight :math:`\max(w, w_0)`, which leaves all expectations unchanged.

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
