r"""Evaluation of the options of a method without labels.

A method is trained on all but one fold and evaluated on that fold, in turn. With the held-out data of the window and the
template of the same model (:meth:`serendip.methods.base.Method.held_out`), scores of the models are pooled as template efficiencies, and the value of the options is

.. math:: V = \mathrm{ARGOS} - \max(0, A_\mathrm{control})

where :math:`A_\mathrm{control}` is the bracket of ARGOS (:mod:`serendip.classify.argos`) at the same cut for events outside the window compared with the model's expectation there: a mismodelled template differs from data too, in the window and outside it, and must not be rewarded for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.classify.argos import argos
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Method
from serendip.search.folds import cross_training_plan
from serendip.statistics.ranks import fraction_kept

__all__ = ["Judgement", "judge"]

_SALT = 0x7E57


@dataclass(frozen=True)
class Judgement:
    """The score of a tuning trial.

    Attributes
    ----------
    value
        ``argos - max(0, control)``.
    argos, error
        ARGOS of the window and its binomial error at the cut.
    eps_template, template
        Efficiency of the cut for the template, and the effective number of template events passing it.
    control
        The bracket of ARGOS at the same cut outside the window; 0 if the method has no control.
    """

    value: float
    argos: float
    error: float
    eps_template: float
    template: float
    control: float


def judge(
    make: Callable[[], Method], events: Events, window: Window, fold: NDArray[np.int64], *, seed: int
) -> Judgement:
    """Train and evaluate a method, each model on its held-out fold.

    Parameters
    ----------
    make
        Returns the untrained method.
    events
        Events without label.
    window
        The signal region.
    fold
        Fold of each event, shape ``(n,)``.
    seed
        Draws the templates.

    Raises
    ------
    InputError
        If the method has no template, or there are too few events.
    """
    n_folds = int(fold.max()) + 1
    plan = cross_training_plan(fold, n_folds, "kfold-bonferroni")
    method = make().fit(events, window, plan.splits)
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = []
    for f, model in plan.scores:
        rng = np.random.default_rng([seed, _SALT, f])
        held_out = method.held_out(events.select(fold == f), window, model, rng)
        if held_out is None:
            raise InputError(
                f"method '{method.name}' cannot be tuned: it has no background template to compare the data with"
            )
        samples = (held_out.data, held_out.template, held_out.control, held_out.control_template)
        scores = [None if sample is None else method.score(sample, model) for sample in samples]
        reference, w = scores[1], held_out.template.weights
        assert reference is not None
        # a template counts as much as the data of its fold, whatever its own weights are
        norms = (None, held_out.data.weights.sum(), None, _total(held_out.control))
        for kind, (sample, score, norm) in enumerate(zip(samples, scores, norms, strict=True)):
            if sample is not None and score is not None and len(score):
                weights = sample.weights if norm is None else sample.weights * (norm / sample.weights.sum())
                parts.append(
                    (
                        -np.log(fraction_kept(score, reference, w)),
                        weights,
                        np.full(len(score), kind, dtype=np.int64),
                    )
                )
    rank, weights, kinds = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    in_window = kinds <= 1
    point = argos(kinds[in_window] == 0, rank[in_window], weights[in_window])
    control = 0.0
    if (kinds == 3).any():
        eps = [
            float(weights[(kinds == kind) & (rank >= point.threshold)].sum() / weights[kinds == kind].sum())
            for kind in (2, 3)
        ]
        # too little of the control passes the cut to add to the template in the window
        control = (eps[0] - eps[1]) / np.sqrt(max(eps[1], point.eps_template))
    return Judgement(
        value=point.value - max(0.0, control),
        argos=point.value,
        error=point.error,
        eps_template=point.eps_template,
        template=point.template,
        control=float(control),
    )


def _total(events: Events | None) -> float | None:
    return None if events is None else float(events.weights.sum())
