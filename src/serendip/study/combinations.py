"""All combinations of one training in each channel: how their total improvements are spread, and which is the best."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serendip.study.context import Context, groups_of
from serendip.study.tasks import Task
from serendip.theories.merits import Merits
from serendip.theories.merits.improvement import min_median_max

__all__ = ["combinations"]


def combinations(
    context: Context, tasks: Mapping[str, Sequence[Task]]
) -> dict[str, tuple[dict[str, Any], dict[str, Task]]]:
    """Join every training of a channel with every one of the others, as arXiv:2207.07631 does.

    Parameters
    ----------
    tasks
        Trainings by channel.

    Returns
    -------
    found
        For each group of theories quantiles (0, 16, 50, 84, 100 %) of the minimum, median and maximum TI over the combinations with
        their number, and the combination of the largest median. Theories without a reliable point in some combination do not count;
        groups without any are left out.
    """
    merits = {c: [context.outcome(task).merits for task in chosen] for c, chosen in tasks.items()}
    choices = list(itertools.product(*(range(len(chosen)) for chosen in tasks.values())))
    found = {}
    for group, theories in groups_of(context.design).items():
        # SI of each theory for each choice in each channel; -inf where there is none
        si = [np.array([[_safe_si(m, name) for name in theories] for m in merits[c]]) for c in tasks]
        ti = np.stack([np.max([si[c][i] for c, i in enumerate(choice)], axis=0) for choice in choices])
        measured = np.isfinite(ti).all(axis=0)
        if not measured.any():
            continue
        three = min_median_max(ti[:, measured])
        best = choices[int(np.argmax(three[1]))]
        spread = {
            "combinations": len(choices),
            "theories": int(np.count_nonzero(measured)),
            **{
                which: np.quantile(values, [0.0, 0.16, 0.5, 0.84, 1.0]).tolist()
                for which, values in zip(("minimum", "median", "maximum"), three, strict=True)
            },
        }
        found[group] = (spread, {c: tasks[c][i] for c, i in zip(tasks, best, strict=True)})
    return found


def _safe_si(merits: Mapping[str, Merits], name: str) -> float:
    found = merits.get(name)
    point = None if found is None else found.max_si(reliable=True)
    return -np.inf if point is None else point.si
