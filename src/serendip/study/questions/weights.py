r"""Weights of the theories: all the same, the same for each family, or learnt by training where the mixture is worst.

The learnt weights begin with the mixture of equal weights and follow, round by round,

.. math:: w_i^{(k+1)} \propto w_i^{(k)} \left(1.05 - \varepsilon_{S,i}^{(k)}(\varepsilon_B)\right)

with the efficiency of theory :math:`i` on its own test events at the loosest cut: a theory that is found completely keeps a twentieth.
Held-out theories play no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serendip.study.context import Context, summary
from serendip.study.tasks import Task

__all__ = ["active", "answer", "stages"]

_FLOOR, _LEAST = 0.05, 1e-3


def active(context: Context, channel: str, rounds: int) -> dict[str, float]:
    """Weight of each training theory after some rounds; mean one, but for a smallest weight of 0.001."""
    names = context.training(channel)
    if not rounds:
        return dict.fromkeys(names, 1.0)
    before = active(context, channel, rounds - 1)
    merits = context.outcome(_round(context, channel, rounds - 1)[0]).merits
    target = max(context.config.targets)
    raw = {}
    for name in names:
        point = next(p for p in merits[name].points if p.target == target)
        raw[name] = before[name] * (1.0 + _FLOOR - point.eps_s)
    mean = sum(raw.values()) / len(raw)
    return {name: max(round(value / mean, 6), _LEAST) for name, value in raw.items()}


def _round(context: Context, channel: str, number: int) -> list[Task]:
    """Trainings with the weights of a round; number 0 has equal weights."""
    return _tasks(context, channel, active(context, channel, number) if number else "theory")


def _tasks(context: Context, channel: str, weights: Any) -> list[Task]:
    repeats = context.mixture(channel)
    if weights == "theory":
        return repeats
    return [task.model_copy(update={"weights": weights, "keep": False}) for task in repeats]


def stages(context: Context) -> Iterator[list[Task]]:
    """Equal weights first: the others are learnt from them, each round from the one before."""
    channels, last = list(context.present), context.config.active_rounds
    yield [task for c in channels for weights in ("theory", "family") for task in _tasks(context, c, weights)]
    for number in range(1, last + 1):
        # only the last round is compared, with all repeats
        yield [task for c in channels for task in _round(context, c, number)[: None if number == last else 1]]


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Total improvements by kind of weight and repeat.

    Returns
    -------
    numbers
        ``models``: summaries; ``weights``: the learnt weights by channel; ``rounds``: of learning.
    """
    del progress
    rng = context.rng(0x3E1)
    models = []
    rounds = context.config.active_rounds
    learnt = {channel: active(context, channel, rounds) for channel in context.present}
    for name in ("theory", "family", "active"):
        tasks = {c: _tasks(context, c, learnt[c] if name == "active" else name) for c in context.present}
        for i in range(context.config.repeats):
            chosen = {channel: trainings[i] for channel, trainings in tasks.items()}
            models.append(summary(name, "weights", context.merits(chosen), context.design, rng, repeat=i))
    return {"models": models, "weights": learnt, "rounds": rounds}
