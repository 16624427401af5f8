"""Interpolation or not: every theory is tested with its point left out, and with its whole family left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from serendip.study.context import Context, joined
from serendip.study.design import fold_of
from serendip.study.tasks import Task
from serendip.theories.merits import Merits

__all__ = ["answer", "stages"]

_WAYS = ("point", "family")


def _folds(context: Context, way: str) -> dict[str, int]:
    rng = context.rng(0xFA31 if way == "family" else 0x9013)
    return fold_of(context.families, context.config.folds, rng, whole_families=way == "family")


def _tasks(context: Context, way: str, channel: str) -> dict[int, Task]:
    """Training of each fold: all theories of the channel that are not in it."""
    folds = _folds(context, way)
    return {
        fold: Task(
            channel=channel,
            theories=tuple(sorted(name for name in context.present[channel] if folds[name] != fold)),
            seed=context.seed(0),
        )
        for fold in range(context.config.folds)
    }


def _everything(context: Context, channel: str) -> Task:
    return Task(channel=channel, theories=tuple(sorted(context.present[channel])), seed=context.seed(0))


def stages(context: Context) -> Iterator[list[Task]]:
    """One training with everything, and one for each fold of points and of families."""
    yield [
        task
        for channel in context.present
        for task in (
            _everything(context, channel),
            *(task for way in _WAYS for task in _tasks(context, way, channel).values()),
        )
    ]


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Compare a theory that is in the mixture (other events), whose siblings are, and whose family is not.

    Only theories with siblings count where their point is left out: families with two points or more. The bootstrap over families
    gives the errors of the medians of the ratios.

    Returns
    -------
    numbers
        ``channels``: for each channel the median AUC and SI of the three ways. ``ti``: over the channels. ``ratio``: median over theories of
        TI (family left out) / TI (point left out), its error, and the theories that lose most.
    """
    del progress
    rng = context.rng(0xFA3)
    sizes: dict[str, int] = {}
    for family in context.families.values():
        sizes[family] = sizes.get(family, 0) + 1
    names = [name for name, family in sorted(context.families.items()) if sizes[family] > 1]
    ways: dict[str, dict[str, dict[str, Merits]]] = {"trained": {}, **{way: {} for way in _WAYS}}
    for channel in context.present:
        inside = context.outcome(_everything(context, channel)).merits
        ways["trained"][channel] = {name: inside[name] for name in names if name in inside}
        for way in _WAYS:
            folds = _folds(context, way)
            found: dict[str, Merits] = {}
            for fold, task in _tasks(context, way, channel).items():
                merits = context.outcome(task).merits
                found |= {name: merits[name] for name in names if folds[name] == fold and name in merits}
            ways[way][channel] = found
    answer: dict[str, Any] = {"theories": len(names), "channels": {}, "ti": {}}
    for channel in context.present:
        answer["channels"][channel] = {
            way: {
                "auc": float(np.median([m.auc for m in found[channel].values()])),
                "theories": len(found[channel]),
            }
            for way, found in ways.items()
            if found[channel]
        }
    values: dict[str, dict[str, float]] = {}
    for way, model in ways.items():
        ti = joined(model, names, rng)
        answer["ti"][way] = None if ti is None else ti.to_dict()
        values[way] = {} if ti is None else {entry.signal: entry.value for entry in ti.signals}
    both = [name for name in names if all(values[way].get(name, 0.0) > 0 for way in _WAYS)]
    if both:
        ratio = {name: values["family"][name] / values["point"][name] for name in both}
        by_family: dict[str, list[float]] = {}
        for name in both:
            by_family.setdefault(context.families[name], []).append(ratio[name])
        kinds = list(by_family.values())
        toys = [
            np.median(np.concatenate([kinds[i] for i in rng.integers(len(kinds), size=len(kinds))]))
            for _ in range(1000)
        ]
        order = sorted(ratio, key=lambda name: ratio[name])
        answer["ratio"] = {
            "median": float(np.median(list(ratio.values()))),
            "error": float(np.std(toys, ddof=1)),
            "theories": len(both),
            "families": len(kinds),
            "lowest": {name: ratio[name] for name in order[:5]},
            "each": ratio,
        }
    return answer
