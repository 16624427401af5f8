"""How the quality on unseen theories grows with the number of theories or families in the mixture, or of events of one theory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from serendip.study.context import Context, groups_of, joined, median_auc, steps_of
from serendip.study.questions.models import asked_events, equal_events, orders, single
from serendip.study.tasks import Task
from serendip.theories.merits import Merits

__all__ = ["answer", "curves", "stages"]

_KINDS = ("theories", "families", "single")
_Order = list[tuple[int, int, Task]]


def curves(context: Context, channel: str) -> dict[str, list[_Order]]:
    """Trainings of the curves of a channel: for each kind, each order, the steps as (theories, families, training).

    ``"theories"`` adds single points in random order; ``"families"`` adds all points of a family at once. In ``"single"`` every "order" is
    one theory with more and more events: as many as one, two, ... theories of a mixture have.
    """
    by_theory, by_family = orders(context, channel)
    families = context.families
    found: dict[str, list[_Order]] = {kind: [] for kind in _KINDS}
    for number, order in enumerate(by_theory):
        chosen = [order[:n] for n in steps_of(context.config, channel, len(order))]
        found["theories"].append([_step(context, channel, number, names) for names in chosen])
    for number, order in enumerate(by_family):
        kinds = list(dict.fromkeys(families[name] for name in order))
        chosen = [
            [name for name in order if families[name] in kinds[:n]]
            for n in steps_of(context.config, channel, len(kinds))
        ]
        found["families"].append([_step(context, channel, number, names) for names in chosen])
    for task in single(context, channel):
        found["single"].append(
            [(1, 1, task.model_copy(update={"events": n})) for n in _single_events(context, channel, task)]
        )
    return found


def _single_events(context: Context, channel: str, task: Task) -> list[int]:
    """Steps of a single theory: multiples of the events of a theory in a mixture as far as it has them, and the common number."""
    step = context.config.events_per_theory
    most = min(asked_events(context, channel), context.train_events(channel, task.theories[0]))
    return sorted({*range(step, int(most) + 1, step), equal_events(context, channel)})


def _step(context: Context, channel: str, number: int, names: list[str]) -> tuple[int, int, Task]:
    # the whole mixture has a training for each order too, the first of which already exist
    task = (
        context.whole(channel, number)
        if len(names) == len(context.training(channel))
        else context.task(channel, names, number)
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
        ``channels``: for each channel, kind and group: ``theories``, ``families`` and signal ``events`` in the mixture, ``auc`` (median
        over the tested theories) and ``si`` (median of the largest reliable SI), each of shape (orders, steps). ``joined``: for each kind
        and group the median and minimum TI over the channels at the same step, shape (orders, steps), and the ``steps``. For single
        theories an order is one of them and a step so many times the events of a theory in a mixture; rows may be of different length.
    """
    del progress
    rng = context.rng(0x5A7)
    found: dict[str, Any] = {
        "channels": {}, "joined": {}, "events_per_theory": context.config.events_per_theory
    }  # fmt: skip
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
                "events": [[_events(context, task) for *_, task in order] for order in ordered],
            }
            for group, names in groups_of(context.design).items():
                rows = [[merits[task.key + channel] for *_, task in order] for order in ordered]
                entry[group] = {
                    "auc": [[median_auc(found_here, names) for found_here in row] for row in rows],
                    "si": [[_median_si(found_here, names) for found_here in row] for row in rows],
                }
            found["channels"][channel][kind] = entry
    for kind in _KINDS:
        by_channel = {channel: kinds[kind] for channel, kinds in all_curves.items()}
        labels, pick = _steps(context, kind, by_channel)
        found["joined"][kind] = {"steps": labels}
        for group, names in groups_of(context.design).items():
            values: dict[str, list[list[float | None]]] = {"minimum": [], "median": []}
            for number in range(min(map(len, by_channel.values()))):
                row = []
                for step in range(len(labels)):
                    model = {c: merits[pick(o[number], step).key + c] for c, o in by_channel.items()}
                    row.append(joined(model, names, rng))
                for which, lists in values.items():
                    lists.append([None if ti is None else getattr(ti, which) for ti in row])
            found["joined"][kind][group] = values
    return found


def _steps(
    context: Context, kind: str, orders_of: Mapping[str, list[_Order]]
) -> tuple[list[str], Callable[[_Order, int], Task]]:
    """Names of the steps of a curve over the channels, and the training of an order of a channel at a step."""
    if kind == "single":
        numbers = sorted(
            {n for o in orders_of.values() for order in o for *_, task in order if (n := task.events)}
        )
        labels = [f"{n / context.config.events_per_theory:g}" for n in numbers]
        # a theory that has no more events stays where it is
        return labels, lambda order, step: [
            task for *_, task in order if (task.events or 0) <= max(numbers[step], order[0][2].events or 0)
        ][-1]
    channel, longest = max(((c, len(o[0])) for c, o in orders_of.items()), key=lambda pair: pair[1])
    labels = [str(n) for n in steps_of(context.config, channel, 10**9)[: longest - 1]]
    # a channel with fewer steps has reached all of its theories
    return [*labels, "all"], lambda order, step: order[min(step, len(order) - 1)][2]


def _events(context: Context, task: Task) -> int:
    """Signal events of a training."""
    most = context.config.events_per_theory if task.events is None else np.inf
    there = sum(min(context.train_events(task.channel, name), most) for name in task.theories)
    return int(there if task.events is None else min(there, task.events))


def _median_si(found: Mapping[str, Merits], names: tuple[str, ...]) -> float | None:
    points = [found[name].max_si(reliable=True) for name in names if name in found]
    values = [point.si for point in points if point is not None]
    return float(np.median(values)) if values else None
