"""How the quality on unseen theories grows with the number of theories, and with the number of families, in the mixture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serendip.study.context import Context, groups_of, joined, median_auc, steps_of
from serendip.study.questions.models import orders
from serendip.study.tasks import Task
from serendip.theories.merits import Merits

__all__ = ["answer", "curves", "stages"]


def curves(context: Context, channel: str) -> dict[str, list[list[tuple[int, int, Task]]]]:
    """Trainings of the curves of a channel: for each kind, each order, the steps as (theories, families, training).

    ``"theories"`` adds single points in random order; ``"families"`` adds all points of a family at once.
    """
    by_theory, by_family = orders(context, channel)
    families = context.families
    found: dict[str, list[list[tuple[int, int, Task]]]] = {"theories": [], "families": []}
    for number, order in enumerate(by_theory):
        chosen = [order[:n] for n in steps_of(context.config, len(order))]
        found["theories"].append([_step(context, channel, number, names) for names in chosen])
    for number, order in enumerate(by_family):
        kinds = list(dict.fromkeys(families[name] for name in order))
        chosen = [
            [name for name in order if families[name] in kinds[:n]]
            for n in steps_of(context.config, len(kinds))
        ]
        found["families"].append([_step(context, channel, number, names) for names in chosen])
    return found


def _step(context: Context, channel: str, number: int, names: list[str]) -> tuple[int, int, Task]:
    # the whole mixture is the same for all orders; its repeats are there already
    whole = len(names) == len(context.training(channel))
    repeats = context.mixture(channel)
    task = (
        repeats[number % len(repeats)]
        if whole
        else Task(channel=channel, theories=tuple(sorted(names)), seed=context.seed(number))
    )
    return len(names), len({context.families[name] for name in names}), task


def stages(context: Context) -> Iterator[list[Task]]:
    """All trainings of the curves."""
    yield [
        task
        for channel in context.present
        for kind in curves(context, channel).values()
        for order in kind
        for *_, task in order
    ]


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Curves by channel, and over the channels.

    Returns
    -------
    numbers
        ``channels``: for each channel, kind and group: ``theories`` and ``families`` in the mixture, ``auc`` (median over the tested
        theories) and ``si`` (median of the largest reliable SI), each of shape (orders, steps). ``joined``: for each kind and group the
        median and minimum TI over the channels at the same step, shape (orders, steps), and the ``steps``.
    """
    del progress
    rng = context.rng(0x5A7)
    found: dict[str, Any] = {"channels": {}, "joined": {}}
    all_curves = {channel: curves(context, channel) for channel in context.present}
    merits = {
        task.key + channel: context.outcome(task).merits
        for channel, kinds in all_curves.items()
        for kind in kinds.values()
        for order in kind
        for *_, task in order
    }
    for channel, kinds in all_curves.items():
        found["channels"][channel] = {}
        for kind, ordered in kinds.items():
            entry: dict[str, Any] = {
                "theories": [[n for n, _, _ in order] for order in ordered],
                "families": [[k for _, k, _ in order] for order in ordered],
            }
            for group, names in groups_of(context.design).items():
                rows = [[merits[task.key + channel] for *_, task in order] for order in ordered]
                entry[group] = {
                    "auc": [[median_auc(found_here, names) for found_here in row] for row in rows],
                    "si": [[_median_si(found_here, names) for found_here in row] for row in rows],
                }
            found["channels"][channel][kind] = entry
    # a channel with fewer steps has reached all of its theories and stays there
    n_steps = {kind: max(len(k[kind][0]) for k in all_curves.values()) for kind in ("theories", "families")}
    for kind, steps in n_steps.items():
        found["joined"][kind] = {}
        for group, names in groups_of(context.design).items():
            values: dict[str, list[list[float | None]]] = {"minimum": [], "median": []}
            for number in range(context.config.orders):
                row = []
                for step in range(steps):
                    model = {
                        channel: merits[_at(kinds[kind][number], step).key + channel]
                        for channel, kinds in all_curves.items()
                    }
                    row.append(joined(model, names, rng))
                for which, lists in values.items():
                    lists.append([None if ti is None else getattr(ti, which) for ti in row])
            found["joined"][kind][group] = values
        labels = [*map(str, context.config.steps[: steps - 1]), "all"]
        found["joined"][kind]["steps"] = labels
    return found


def _at(order: list[tuple[int, int, Task]], step: int) -> Task:
    return order[min(step, len(order) - 1)][2]


def _median_si(found: Mapping[str, Merits], names: tuple[str, ...]) -> float | None:
    points = [found[name].max_si(reliable=True) for name in names if name in found]
    values = [point.si for point in points if point is not None]
    return float(np.median(values)) if values else None
