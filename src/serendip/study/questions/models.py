"""Mixtures, single theories and unsupervised scores on held-out theories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.outliers.combine import RULES, SVDD_RULES, RankMap, combine_ranks
from serendip.outliers.registry import SCORES
from serendip.study.combinations import combinations
from serendip.study.context import Context, groups_of, summary, ti_value
from serendip.study.design import random_orders
from serendip.study.tasks import Task
from serendip.theories.merits import BackgroundScores, Merits

__all__ = [
    "answer",
    "asked_events",
    "combined",
    "equal",
    "equal_events",
    "mini",
    "orders",
    "single",
    "single_names",
    "stages",
]

_PAIR = ("flow", "deep-svdd")


def mini(context: Context, channel: str) -> list[Task]:
    """Mixtures of a few theories, one for each order, with as many signal events as a single theory."""
    return [
        context.task(channel, names, i, equal_events(context, channel))
        for i, names in enumerate(_few(context, channel))
    ]


def equal(context: Context, channel: str) -> list[Task]:
    """Mixtures of all theories with as many signal events as a single theory, one for each repeat."""
    events, names = equal_events(context, channel), context.training(channel)
    return [context.task(channel, names, i, events) for i in range(context.config.repeats)]


def single(context: Context, channel: str) -> list[Task]:
    """Trainings on one theory alone."""
    events = equal_events(context, channel)
    return [context.task(channel, (name,), 0, events) for name in single_names(context, channel)]


def single_names(context: Context, channel: str) -> list[str]:
    """Theories with their own training: those of the options, or families as different as there are, of no small samples.

    Raises
    ------
    InputError
        If a theory of the options cannot train in the channel.
    """
    names, wanted = context.training(channel), context.config.of("single", channel)
    if not isinstance(wanted, int):
        if missing := [name for name in wanted if name not in names]:
            raise InputError(
                f"single: {', '.join(missing)} cannot train in channel {channel}: not among the samples, held out, or fewer than "
                f"{context.config.min_events} events there"
            )
        return list(wanted)
    rng = context.rng(0x551)
    shuffled = [names[i] for i in rng.permutation(len(names))]
    middle = np.median([context.train_events(channel, name) for name in names])
    seen: dict[str, int] = {}
    rank: dict[str, tuple[bool, int]] = {}
    for name in shuffled:
        few = context.train_events(channel, name) < min(middle, asked_events(context, channel))
        family = context.families[name]
        rank[name] = (few, seen.get(family, 0))
        seen[family] = seen.get(family, 0) + 1
    return sorted(shuffled, key=lambda name: rank[name])[:wanted]


def asked_events(context: Context, channel: str) -> int:
    """Signal events that a single theory is to be trained on."""
    return int(context.config.of("mini", channel)) * context.config.events_per_theory


def equal_events(context: Context, channel: str) -> int:
    """Signal events at which single theories and mixtures are compared: the requested ones, or those of the smallest training."""
    groups = [(name,) for name in single_names(context, channel)] + _few(context, channel)
    sizes = [sum(context.train_events(channel, name) for name in group) for group in groups]
    return int(min(asked_events(context, channel), *sizes))


def _few(context: Context, channel: str) -> list[tuple[str, ...]]:
    n = context.config.of("mini", channel)
    return [tuple(sorted(order[:n])) for order in orders(context, channel)[0]]


def network(context: Context, channel: str, kind: str) -> Task:
    """A set network on the whole mixture."""
    task = context.task(channel, context.training(channel), 0)
    return task.model_copy(update={"kind": "network", "score": kind})


def orders(context: Context, channel: str) -> tuple[list[list[str]], list[list[str]]]:
    """Orders of the training theories of a channel, see :func:`~serendip.study.design.random_orders`."""
    rng = context.rng(0x0DE2 + list(context.present).index(channel))
    return random_orders(context.training(channel), context.families, context.config.orders, rng)


def stages(context: Context) -> Iterator[list[Task]]:
    """All trainings of the comparison."""
    tasks = []
    for channel in context.present:
        tasks += context.mixture(channel) + equal(context, channel)
        tasks += mini(context, channel) + single(context, channel)
        tasks += [network(context, channel, kind) for kind in context.config.networks]
        tasks += [context.outlier(channel, score) for score in context.config.outliers]
    yield tasks


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Total improvements of all models on held-out points and held-out families.

    Returns
    -------
    numbers
        ``models``: one summary each (:func:`~serendip.study.context.summary`); ``combinations``: for each kind and group quantiles of
        the TI of all combinations of trainings over the channels (:func:`~serendip.study.combinations.combinations`); ``best``: names
        of the best of each kind by median TI; ``events``: signal events of the trainings that are compared at equal numbers, by channel.
    """
    del progress
    rng = context.rng(0x30DE)
    channels = list(context.present)
    models = []
    spread: dict[str, Any] = {}

    def add(name: str, kind: str, chosen: dict[str, Task], **facts: Any) -> None:
        models.append(summary(name, kind, context.merits(chosen), context.design, rng, **facts))

    for name, kind, trainings in (
        ("MoT", "mixture", context.mixture),
        ("MoT at equal numbers", "equal mixture", partial(equal, context)),
        ("mini-MoT", "mini-mixture", partial(mini, context)),
        ("SSA", "single theory", partial(single, context)),
    ):
        tasks = {channel: trainings(channel) for channel in channels}
        joined = combinations(context, tasks)
        spread[kind] = {group: found for group, (found, _) in joined.items()}
        alone = kind == "single theory"
        for group, (_, chosen) in joined.items() if alone else ():
            add(f"best SSA ({group.replace('_', ' ')})", kind, chosen, theories=_names(chosen))
        for i in range(min(map(len, tasks.values()))):
            chosen = {channel: tasks[channel][i] for channel in channels}
            add(f"{name} {i + 1}", kind, chosen, **({"theories": _names(chosen)} if alone else {}))
    for network_kind in context.config.networks:
        chosen = {channel: network(context, channel, network_kind) for channel in channels}
        add(f"MoT, {network_kind}", "network", chosen)
    for score in context.config.outliers:
        chosen = {channel: context.outlier(channel, score) for channel in channels}
        entry = SCORES[score]
        group = "one variable" if entry.simple else "unsupervised"
        add(entry.title, group, chosen)
    if set(_PAIR) <= set(context.config.outliers):
        pair = {c: [context.outlier(c, score) for score in _PAIR] for c in channels}
        for rule in RULES:
            found = {channel: combined(context, tasks, rule) for channel, tasks in pair.items()}
            name = f"flow {rule.upper()} deep SVDD"
            models.append(summary(name, "unsupervised", found, context.design, rng))
    best: dict[str, dict[str, str]] = {}
    for group in groups_of(context.design):
        # the last one of each kind in rising order
        rising = sorted(models, key=lambda model: ti_value(model, group))
        best[group] = {model["kind"]: model["name"] for model in rising}
    events = {
        channel: {"asked": asked_events(context, channel), "used": equal_events(context, channel)}
        for channel in channels
    }
    return {"models": models, "combinations": spread, "best": best, "events": events}


def combined(context: Context, tasks: list[Task], rule: Any) -> Mapping[str, Merits]:
    """Figures of merit of several scores of one channel, joined on the ranks of background that trained none of them.

    The members of a deep SVDD ensemble are joined by the same rule (arXiv:2106.10164).
    """
    parts = [context.scores(task, SVDD_RULES[rule] if task.score == "deep-svdd" else "") for task in tasks]
    maps = [RankMap.fit(part.rank, part.rank_weight) for part in parts]

    def rank(values: list[Any]) -> Any:
        return combine_ranks([to(v) for to, v in zip(maps, values, strict=True)], rule)

    reference = BackgroundScores(
        rank([part.test for part in parts]), parts[0].test_weight, parts[0].test_group
    )
    # theories of a training were tested on a part of their events only
    trained = {name for task in tasks for name in task.theories}
    return {
        name: reference.merits(
            rank([part.theories[name] for part in parts]),
            parts[0].theory_weights[name],
            targets=context.config.targets,
        )
        for name in parts[0].theories
        if name not in trained
    }


def _names(chosen: Mapping[str, Task]) -> dict[str, str]:
    return {channel: task.theories[0] for channel, task in chosen.items()}
