r"""Weights of the theories: all the same, the same for each family, or more for what is hard to find.

The learnt weights come from the mixture of equal weights,

.. math:: w_i \propto 1.05 - \varepsilon_{S,i}(\varepsilon_B = 10^{-2})

with the efficiency of theory :math:`i` on its own test events: a theory that is found completely still counts a twentieth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serendip.study.context import Context, summary
from serendip.study.tasks import Task

__all__ = ["answer", "difficulty", "stages"]

_FLOOR = 0.05


def difficulty(context: Context, channel: str) -> dict[str, float]:
    """Weight of each training theory from how well the mixture of equal weights finds it; mean one."""
    merits = context.outcome(context.mixture(channel)[0]).merits
    target = max(context.config.targets)
    raw = {}
    for name in context.training(channel):
        point = next(p for p in merits[name].points if p.target == target)
        raw[name] = 1.0 + _FLOOR - point.eps_s
    mean = sum(raw.values()) / len(raw)
    return {name: round(value / mean, 6) for name, value in raw.items()}


def _tasks(context: Context, channel: str, weights: str) -> list[Task]:
    repeats = context.mixture(channel)
    if weights == "theory":
        return repeats
    found: Any = difficulty(context, channel) if weights == "difficulty" else weights
    return [task.model_copy(update={"weights": found, "keep": False}) for task in repeats]


def stages(context: Context) -> Iterator[list[Task]]:
    """Equal weights first: the others are learnt from them."""
    channels = list(context.present)
    yield [task for channel in channels for task in _tasks(context, channel, "theory")]
    yield [
        task
        for channel in channels
        for weights in ("family", "difficulty")
        for task in _tasks(context, channel, weights)
    ]


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Total improvements by kind of weight and repeat.

    Returns
    -------
    numbers
        ``models``: summaries; ``weights``: the learnt weights by channel.
    """
    del progress
    rng = context.rng(0x3E1)
    models = []
    for weights in ("theory", "family", "difficulty"):
        for i in range(context.config.repeats):
            chosen = {channel: _tasks(context, channel, weights)[i] for channel in context.present}
            models.append(summary(weights, "weights", context.merits(chosen), context.design, rng, repeat=i))
    return {
        "models": models,
        "weights": {channel: difficulty(context, channel) for channel in context.present},
    }
