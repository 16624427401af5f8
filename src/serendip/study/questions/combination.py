"""The mixture together with each unsupervised score, on the ranks of background that trained neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serendip.outliers.combine import RULES
from serendip.outliers.registry import SCORES
from serendip.study.context import Context, summary
from serendip.study.questions.models import combined
from serendip.study.tasks import Task

__all__ = ["answer", "stages"]


def stages(context: Context) -> Iterator[list[Task]]:
    """The first mixture of each channel, and all unsupervised scores."""
    yield [
        task
        for channel in context.present
        for task in (
            context.mixture(channel)[0],
            *(context.outlier(channel, score) for score in context.config.outliers),
        )
    ]


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Total improvements of the mixture, and with each score by each rule.

    Returns
    -------
    numbers
        ``models``: summaries with ``score`` and ``rule`` (both None for the mixture alone).
    """
    del progress
    rng = context.rng(0xC0B)
    alone = {channel: context.mixture(channel)[0] for channel in context.present}
    models = [
        summary("MoT alone", "mixture", context.merits(alone), context.design, rng, score=None, rule=None)
    ]
    for score in context.config.outliers:
        for rule in RULES:
            found = {
                channel: combined(context, [task, context.outlier(channel, score)], rule)
                for channel, task in alone.items()
            }
            name = f"MoT {rule.upper()} {SCORES[score].title}"
            models.append(summary(name, "combination", found, context.design, rng, score=score, rule=rule))
    return {"models": models}
