"""One look at several orders of the folds: which events train and which are tested is then no lottery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serendip.statistics.combination import cauchy_log_p
from serendip.statistics.look_result import EffectiveEvents, FoldCount, LookResult
from serendip.statistics.pvalues import significance

__all__ = ["combine_orders", "fold_positions"]

Array = NDArray[np.float64]


def fold_positions(n_folds: int, n_orders: int, *, keep_first: bool = False) -> NDArray[np.int64]:
    """Place of each fold in each order, shape ``(n_orders, n_folds)``: the folds in a circle, begun at equal distances.

    Parameters
    ----------
    n_folds, n_orders
        Numbers of folds and of orders; there are at most as many orders as folds.
    keep_first
        Whether fold 0 is first in all orders, and thus never tested; the others go round.
    """
    fold = np.arange(n_folds)
    if keep_first:
        shift = np.arange(n_orders)[:, None] * (n_folds - 1) // n_orders
        return np.where(fold == 0, 0, (fold - 1 + shift) % (n_folds - 1) + 1)
    return np.asarray((fold + np.arange(n_orders)[:, None] * n_folds // n_orders) % n_folds)


def combine_orders(looks: Sequence[LookResult]) -> LookResult:
    """The look whose p-value is the Cauchy combination of those of single orders, and whose counts are their means.

    Parameters
    ----------
    looks
        The same look in each order; they are kept in ``orders``.
    """
    first = looks[0]
    if len(looks) == 1:
        return first

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    known = [look.log_p_local for look in looks if look.log_p_local is not None]
    seen = len(known) == len(looks)
    log_p = float(cauchy_log_p(np.array(known))) if seen else None
    spectrum = replace(
        first.spectrum,
        **{
            name: np.mean([getattr(look.spectrum, name) for look in looks], axis=0)
            for name in ("counts", "expected", "expected_error")
        },
        scale=mean([look.spectrum.scale for look in looks]),
    )
    effective = [look.effective for look in looks if look.effective is not None]
    windows = [e.window for e in effective if e.window is not None]
    notes = [note for look in looks if look.warning for note in look.warning.split("; ")]
    return replace(
        first,
        observed=mean([look.observed or 0.0 for look in looks]) if seen else None,
        expected=mean([look.expected for look in looks]),
        expected_error=mean([look.expected_error for look in looks]),
        shape_error=mean([look.shape_error for look in looks]),
        p_local=None if log_p is None else float(np.exp(log_p)),
        log_p_local=log_p,
        z_local=None if log_p is None else significance(log_p),
        folds=tuple(_fold([look.folds[i] for look in looks]) for i in range(len(first.folds))),
        spectrum=spectrum,
        warning="; ".join(dict.fromkeys(notes)) or None,
        effective=EffectiveEvents(
            mean(windows) if windows else None, mean([e.sideband for e in effective])
        ) if effective else None,
        tail=None,
        orders=tuple(looks),
    )  # fmt: skip


def _fold(counts: Sequence[FoldCount]) -> FoldCount:
    """Means over the folds at one place of the orders."""
    observed = [count.observed for count in counts if count.observed is not None]
    p = [count.p for count in counts if count.p is not None]
    log_p = cauchy_log_p(np.log(np.maximum(p, 1e-300))) if len(p) == len(counts) else None
    return FoldCount(
        counts[0].fold,
        float(np.mean(observed)) if len(observed) == len(counts) else None,
        float(np.mean([count.expected for count in counts])),
        float(np.mean([count.expected_error for count in counts])),
        None if log_p is None else float(np.exp(log_p)),
    )
