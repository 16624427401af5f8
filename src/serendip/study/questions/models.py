"""Mixtures, single theories and unsupervised scores on theories that no training knows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serendip.outliers.combine import RULES, RankMap, combine_ranks
from serendip.outliers.registry import SCORES
from serendip.study.context import Context, groups_of, summary, ti_value
from serendip.study.design import random_orders
from serendip.study.tasks import Task
from serendip.theories.merits import BackgroundScores, Merits
from serendip.theories.merits.improvement import min_median_max

__all__ = ["answer", "combined", "mini", "orders", "single", "stages"]

_PAIR = ("flow", "deep-svdd")


def mini(context: Context, channel: str) -> list[Task]:
    """Mixtures of a few theories, one for each order."""
    return [
        Task(channel=channel, theories=tuple(sorted(order[: context.config.mini])), seed=context.seed(i))
        for i, order in enumerate(orders(context, channel)[0])
    ]


def single(context: Context, channel: str) -> list[Task]:
    """Trainings on one theory alone; families as different as there are."""
    names = context.training(channel)
    rng = context.rng(0x551)
    shuffled = [names[i] for i in rng.permutation(len(names))]
    seen: dict[str, int] = {}
    rank = []
    for name in shuffled:
        family = context.families[name]
        rank.append(seen.get(family, 0))
        seen[family] = rank[-1] + 1
    chosen = [name for _, name in sorted(zip(rank, shuffled, strict=True), key=lambda pair: pair[0])]
    return [
        Task(channel=channel, theories=(name,), seed=context.seed(0))
        for name in chosen[: context.config.single]
    ]


def network(context: Context, channel: str, kind: str) -> Task:
    """A set network on the whole mixture."""
    return Task(
        channel=channel, kind="network", score=kind, theories=context.training(channel), seed=context.seed(0)
    )


def orders(context: Context, channel: str) -> tuple[list[list[str]], list[list[str]]]:
    """Orders of the training theories of a channel, see :func:`~serendip.study.design.random_orders`."""
    rng = context.rng(0x0DE2 + list(context.present).index(channel))
    return random_orders(context.training(channel), context.families, context.config.orders, rng)


def stages(context: Context) -> Iterator[list[Task]]:
    """All trainings of the comparison."""
    tasks = []
    for channel in context.present:
        tasks += context.mixture(channel) + mini(context, channel) + single(context, channel)
        tasks += [network(context, channel, kind) for kind in context.config.networks]
        tasks += [context.outlier(channel, score) for score in context.config.outliers]
    yield tasks


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Total improvements of all models on held-out points and held-out families.

    Returns
    -------
    numbers
        ``models``: one summary each (:func:`~serendip.study.context.summary`); ``single_combinations``: quantiles of the TI of all
        combinations of single-theory trainings over the channels; ``best``: names of the best of each kind by median TI.
    """
    del progress
    rng = context.rng(0x30DE)
    channels = list(context.present)
    models = []
    for i in range(context.config.repeats):
        chosen = {channel: context.mixture(channel)[i] for channel in channels}
        models.append(summary(f"MoT {i + 1}", "mixture", context.merits(chosen), context.design, rng))
    for i in range(context.config.orders):
        chosen = {channel: mini(context, channel)[i] for channel in channels}
        models.append(
            summary(f"mini-MoT {i + 1}", "mini-mixture", context.merits(chosen), context.design, rng)
        )
    for kind in context.config.networks:
        chosen = {channel: network(context, channel, kind) for channel in channels}
        models.append(summary(f"MoT, {kind}", "network", context.merits(chosen), context.design, rng))
    alone, combinations = _single(context, rng)
    models += alone
    for score in context.config.outliers:
        chosen = {channel: context.outlier(channel, score) for channel in channels}
        entry = SCORES[score]
        group = "one variable" if entry.simple else "unsupervised"
        models.append(summary(entry.title, group, context.merits(chosen), context.design, rng))
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
    return {"models": models, "single_combinations": combinations, "best": best}


def combined(context: Context, tasks: list[Task], rule: Any) -> Mapping[str, Merits]:
    """Figures of merit of several scores of one channel, joined on the ranks of background that trained none of them."""
    parts = [context.scores(task) for task in tasks]
    maps = [RankMap.fit(part.rank, part.rank_weight) for part in parts]

    def rank(values: list[Any]) -> Any:
        return combine_ranks([to(v) for to, v in zip(maps, values, strict=True)], rule)

    reference = BackgroundScores(
        rank([part.test for part in parts]), parts[0].test_weight, parts[0].test_group
    )
    # theories of a training were tested on a part of their events only
    trained = {name for task in tasks for name in task.theories}
    return {
        name: reference.merits(rank([part.theories[name] for part in parts]), targets=context.config.targets)
        for name in parts[0].theories
        if name not in trained
    }


def _single(context: Context, rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The best combination of single-theory trainings of each group, and how all combinations are spread."""
    tasks = {channel: single(context, channel) for channel in context.present}
    found = {channel: [context.outcome(task).merits for task in chosen] for channel, chosen in tasks.items()}
    choices = list(itertools.product(*(range(len(chosen)) for chosen in tasks.values())))
    models, spread = [], {}
    for group, theories in groups_of(context.design).items():
        # SI of each theory for each choice in each channel; -inf where there is none
        si = [
            np.array([[_safe_si(merits, name) for name in theories] for merits in found[channel]])
            for channel in tasks
        ]
        ti = np.stack([np.max([si[c][i] for c, i in enumerate(choice)], axis=0) for choice in choices])
        measured = np.isfinite(ti).all(axis=0)
        if not measured.any():
            continue
        three = min_median_max(ti[:, measured])
        spread[group] = {
            "combinations": len(choices),
            "theories": int(np.count_nonzero(measured)),
            **{
                which: np.quantile(values, [0.0, 0.16, 0.5, 0.84, 1.0]).tolist()
                for which, values in zip(("minimum", "median", "maximum"), three, strict=True)
            },
        }
        best = choices[int(np.argmax(three[1]))]
        chosen = {channel: tasks[channel][i] for channel, i in zip(tasks, best, strict=True)}
        models.append(
            summary(
                f"best SSA ({group.replace('_', ' ')})",
                "single theory",
                context.merits(chosen),
                context.design,
                rng,
                theories={channel: task.theories[0] for channel, task in chosen.items()},
            )
        )
    for i in range(min(len(chosen) for chosen in tasks.values())):
        chosen = {channel: tasks[channel][i] for channel in tasks}
        models.append(
            summary(
                f"SSA {i + 1}",
                "single theory",
                context.merits(chosen),
                context.design,
                rng,
                theories={channel: task.theories[0] for channel, task in chosen.items()},
            )
        )
    return models, spread


def _safe_si(merits: Mapping[str, Merits], name: str) -> float:
    found = merits.get(name)
    point = None if found is None else found.max_si(reliable=True)
    return -np.inf if point is None else point.si
