"""Weights that are learned from the window of past folds, against the fixed rule.

    python benchmarks/learned_weights.py OUT/NAME-*.npz ...

repeats the statistics of chains that ``weighted_chains.py`` has trained. Columns: the rule ``ln(1 + (a/rank) growth)`` with its ``a``, with a third and
three times of it; ``a`` the most likely one for the events of the window in the folds before, with a log-normal prior of width one around
the fixed one; and the ratio itself from their numbers in nine bins of the rank, over a prior worth two events per bin. All are known before a fold is
tested, so all p-values are valid.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from weighted_chains import again, z

from serendip.search import measure
from serendip.statistics.binning import window_bins
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.weighting import LOOSEST_RANK, ratio_weights

SMALLEST, BINS, PRIOR_EVENTS = 1e-4, 9, 2.0
RULES: dict[str, Any] = {"a": 1.0, "a/3": 1 / 3, "3a": 3.0, "a learned": "scale", "ratio learned": "ratio"}


def growth(position: Any, n_folds: int) -> Any:
    """How the signal's density grows with the training, as in the fixed rule."""
    return np.expm1(ratio_weights(np.full(np.size(position), 0.05), np.ravel(position), n_folds, 0.05))


def learned_scale(rank: Any, grown: Any, per_fold: float, all_grown: float, scale: float) -> float:
    """Most likely constant of Poisson events with the density ``B (1 + a growth / rank)``."""
    tried = np.log(scale) + np.linspace(-2.0, 3.0, 41)
    log_l = [
        np.log1p(a / rank * grown).sum() - per_fold * a * all_grown * np.log(LOOSEST_RANK / SMALLEST)
        for a in np.exp(tried)
    ]
    return float(np.exp(tried[np.argmax(log_l - 0.5 * (tried - np.log(scale)) ** 2)]))


def learned_ratio(rank: Any, per_fold: float, n_past: int, all_grown: float, scale: float) -> Any:
    """Signal over background in bins of the rank, for the last fold; a function of the rank."""
    edges = np.geomspace(SMALLEST, LOOSEST_RANK, BINS + 1)
    middle = np.sqrt(edges[:-1] * edges[1:])
    edges[0] = 0.0
    background = per_fold * np.diff(edges)
    excess = np.maximum(np.histogram(rank, edges)[0] - n_past * background, 0.0)
    ratio = (excess + PRIOR_EVENTS) / (background * all_grown + PRIOR_EVENTS * middle / scale)
    return lambda r: np.exp(np.interp(np.log(np.maximum(r, SMALLEST)), np.log(middle), np.log(ratio)))


def weights_of(rule: Any) -> Any:
    def ranked(config: Any, events: Any, fold: Any, window_fit: Any, task: Any, ties: Any) -> Any:
        side, inside = window_fit.sideband(events.m), window_fit.window.contains(events.m)
        scale, _ = measure.weight_scale(config, events, window_fit)
        bins = window_bins(window_fit.edges, window_fit.window)
        n, per_fold = config.folds, window_fit.inclusive.window(*bins)[0] / config.folds
        out = []
        for place, score in zip(config.positions, task.all_scores, strict=True):
            rank = leave_one_out_rank(score, fold, side, events.weights, ties, events.groups)
            position = place[fold]
            if isinstance(rule, float):
                out.append(ratio_weights(rank, position, n, rule * scale))
                continue
            weight, used = np.zeros(len(rank)), (rank < LOOSEST_RANK) & (position > 0)
            for f in range(1, n):
                past, now = inside & used & (position < f), used & (position == f)
                grown = float(growth(np.arange(1, f), n).sum())
                if rule == "scale":
                    own = learned_scale(rank[past], growth(position[past], n), per_fold, grown, scale)
                    weight[now] = ratio_weights(rank[now], position[now], n, own)
                else:
                    ratio = learned_ratio(rank[past], per_fold, f - 1, grown, scale)
                    weight[now] = np.log1p(ratio(rank[now]) * growth(f, n))
            out.append(weight)
        return np.array(out)

    return ranked


def main() -> None:
    """Print a line for each chain, and the means."""
    threadpool_limits(1)
    rows = []
    print(f"| chain | {' | '.join(RULES)} |\n{'|---' * (len(RULES) + 1)}|")
    for name in sys.argv[1:]:
        row = []
        for rule in RULES.values():
            measure._ranked = weights_of(rule)  # type: ignore[assignment]
            row.append(z(again(Path(name))[0].looks[0]))
        rows.append(row)
        print(f"| {Path(name).stem} | {' | '.join(f'{value:.2f}' for value in row)} |", flush=True)
    print(f"| mean | {' | '.join(f'{value:.2f}' for value in np.mean(rows, axis=0))} |")


if __name__ == "__main__":
    main()
