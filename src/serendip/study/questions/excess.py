r"""The p-value of an excess after a cut on the score: how often background alone gives one, and how large a signal must be.

The p-value is that of :func:`serendip.theories.excess.measure.excess`. Its rate is measured with pseudo-experiments from the simulation. A
signal is as large as needed when the median expected significance in the better of the regions,

.. math:: Z = Z_A\left(S \varepsilon_S,\; B \varepsilon_B,\; \sqrt{\sigma_\mathrm{MC}^2 + (s B \varepsilon_B)^2}\right)

(:func:`~serendip.statistics.pvalues.asimov_z`), is 5, with the weighted background :math:`B` and a relative systematic :math:`s`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import brentq

from serendip.errors import InputError
from serendip.outliers.registry import SCORES
from serendip.statistics.pvalues import asimov_z
from serendip.study.context import Context, groups_of
from serendip.study.questions.combination import stages as trainings
from serendip.study.tasks import Scores, Task
from serendip.theories.excess import null_rates
from serendip.theories.merits import Merits

__all__ = ["answer", "needed", "stages"]

_DISCOVERY = 5.0


def stages(context: Context) -> Iterator[list[Task]]:
    """The first mixture of each channel, and all unsupervised scores."""
    yield from trainings(context)


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Rates of false claims by channel, and the signal that each score needs.

    Returns
    -------
    numbers
        ``null``: for each channel the result of :func:`~serendip.theories.excess.null.null_rates`, or ``reason`` why there is none.
        ``needed``: for each channel, score and group of theories the median over the theories of the number of selected signal events
        for an expected significance of 5, and for the mixture that of ``each`` theory. ``background``: events in the channel.
    """
    config = context.config
    regions = [target for target in config.targets if target >= 1e-3]
    found: dict[str, Any] = {"null": {}, "needed": {}, "background": {}, "systematic": config.systematic}
    for channel in context.present:
        progress.start(f"pseudo-experiments, channel {channel}", config.experiments)
        scores = context.scores(context.mixture(channel)[0])
        found["null"][channel] = _null(context, scores, regions)
        progress.advance(f"channel {channel}")
        background = float(scores.test_weight.sum() / context.config.test_fraction)
        found["background"][channel] = background
        tasks = {"MoT": context.mixture(channel)[0]}
        tasks |= {SCORES[score].title: context.outlier(channel, score) for score in config.outliers}
        entry: dict[str, Any] = {}
        for name, task in tasks.items():
            merits = context.outcome(task).merits
            signal = {
                group: {
                    theory: needed(merits[theory], background, config.systematic)
                    for theory in theories
                    if theory in merits
                }
                for group, theories in groups_of(context.design).items()
            }
            entry[name] = {
                group: _median([value for value in values.values() if value is not None])
                for group, values in signal.items()
            }
            if name == "MoT":
                entry[name]["each"] = {
                    theory: v for values in signal.values() for theory, v in values.items()
                }
        found["needed"][channel] = entry
    return found


def needed(merits: Merits, background: float, systematic: float) -> float | None:
    """Selected signal events for an expected significance of 5 in the best reliable region; None if none is.

    Parameters
    ----------
    merits
        Of the signal.
    background
        Events in the channel, without a cut on the score.
    systematic
        Relative error of the expectation.
    """
    sizes = []
    for point in merits.points:
        if not point.reliable or point.eps_s <= 0:
            continue
        b = background * point.target
        sigma = b * np.hypot(systematic, 1.0 / np.sqrt(point.background))
        # a bracket far above any count: significances of large signals grow without limit, but slowly where sigma is large
        high = 10.0 * (b + sigma + 10.0)
        while float(asimov_z(high, b, sigma)) < _DISCOVERY:
            high *= 10.0
        size = brentq(lambda s, b=b, sigma=sigma: float(asimov_z(s, b, sigma)) - _DISCOVERY, 0.0, high)
        sizes.append(size / point.eps_s)
    return float(min(sizes)) if sizes else None


def _null(context: Context, scores: Scores, regions: list[float]) -> dict[str, Any]:
    try:
        rates = null_rates(
            scores.test,
            scores.test_weight,
            scores.test_group,
            rng=context.rng(0xE8CE),
            experiments=context.config.experiments,
            eps_b=regions,
        )
    except InputError as error:
        return {"reason": str(error)}
    return rates.to_dict()


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
