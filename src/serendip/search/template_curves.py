"""The prediction of a method's template, and its dependence on the training data.

A classifier prefers regions where its template is too low, so that more background passes its cuts than predicted by the template. The size of the effect is found by repeating the training: a bootstrap sample of the sidebands gives another template and another classifier, and the *first* template after the cuts of that classifier is to the second one as the truth is to the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Method
from serendip.methods.template_method import TemplateMethod
from serendip.search.folds import Plan, tie_breaker
from serendip.statistics.looks import fit_inclusive, make_edges
from serendip.statistics.ranks import randomised_efficiency
from serendip.statistics.template_count import (
    GRID,
    TemplateCurves,
    selected_fraction,
)

__all__ = ["REPLICAS", "can_count", "template_curves"]

Array = NDArray[np.float64]

REPLICAS = 10
_CHUNK = 100_000
_WEIGHT = "bootstrap weight"
_STREAM = 0xB007


def can_count(method: type[Method]) -> bool:
    """Whether a method's template can predict counts: it is learnt as a whole, and known at every mass."""
    return issubclass(method, TemplateMethod) and method.predict_background is not Method.predict_background


def template_curves(
    method: TemplateMethod,
    events: Events,
    window: Window,
    plan: Plan,
    fold: NDArray[np.int64],
    scores: Array,
    *,
    bounds: tuple[float, float],
    draws: int,
    seed: int,
) -> tuple[Array, TemplateCurves]:
    """Template efficiency of every event, and that from trainings on bootstrap samples.

    Each of :data:`REPLICAS` bootstrap samples gives every event outside the window (and of the simulation, if the method starts
    from one) a Poisson weight with mean one; the method is retrained on it and the data of the window, with another seed.

    Parameters
    ----------
    method
        Fitted.
    events, window, plan, fold, scores
        The training sample, the folds, and the scores of the tested ones.
    bounds
        Mass range of the spectrum from which masses in the window are drawn, in GeV.
    draws
        Events to draw from the template of each tested fold; a quarter of it for each bootstrap sample.
    seed
        Everything random follows from it.

    Returns
    -------
    efficiency
        :func:`~serendip.statistics.ranks.randomised_efficiency`, shape ``(n,)``; NaN for events without score.
    curves
        For the tested folds.

    Raises
    ------
    InputError
        If a fold has no event within a width of the window.
    """
    m = events.m
    weights = None if events.weight is None else events.weights
    spectrum = fit_inclusive(m, window, make_edges(bounds, window), weights=weights, groups=events.groups)
    near = (m >= max(window.low - window.width, bounds[0])) & (m < min(window.high + window.width, bounds[1]))
    near &= ~window.contains(m)
    order = (tie_breaker(events.ids, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    folds = [f for f, _ in plan.scores]
    for f in folds:
        if not np.any(events.weights[(fold == f) & near] > 0):
            raise InputError(
                f"template counting tests the template outside the window {window}, where fold {f} has no event; "
                "use fewer folds or give more data"
            )
    few = max(draws // 4, 1)

    efficiency = np.full(len(events), np.nan)
    truth: list[tuple[Events, Events]] = []
    shape = (len(folds), len(GRID))
    sideband, held_out, squared = np.zeros((3, *shape))
    total = np.zeros(len(folds))
    samples = [events.select((fold == f) & near) for f in folds]
    for i, (f, model) in enumerate(plan.scores):
        rng = np.random.default_rng([seed, _STREAM, f])
        drawn = _draw(method, model, spectrum.sample(draws, window.low, window.high, rng), rng)
        beside = _draw_at(method, model, samples[i], draws, rng)
        reference = np.sort(_score(method, model, drawn))
        tested = fold == f
        efficiency[tested] = randomised_efficiency(scores[tested], order[tested], reference)
        rows = np.flatnonzero(tested & near)
        w, passed = events.weights[rows], efficiency[rows, None] <= GRID
        held_out[i], squared[i], total[i] = w @ passed, _squares(w, passed, events.groups, rows), w.sum()
        sideband[i] = selected_fraction(_score(method, model, beside), reference, beside.weights)
        truth.append((drawn.select(np.arange(few)), _draw_at(method, model, samples[i], few, rng)))

    inside = np.empty((REPLICAS, *shape))
    outside = np.empty((REPLICAS, 2, *shape))
    for b in range(REPLICAS):
        rng = np.random.default_rng([seed, _STREAM, 1 << 20, b])
        other = _retrained(method, events, window, plan.splits, rng)
        for i, (_, model) in enumerate(plan.scores):
            drawn = _draw(other, model, spectrum.sample(few, window.low, window.high, rng), rng)
            reference = np.sort(_score(other, model, drawn))
            inside[b, i] = selected_fraction(_score(other, model, truth[i][0]), reference)
            for j, beside in enumerate((_draw_at(other, model, samples[i], few, rng), truth[i][1])):
                outside[b, j, i] = selected_fraction(_score(other, model, beside), reference, beside.weights)
    curves = TemplateCurves(
        np.array(folds), inside, sideband, outside, held_out, squared, total, (draws, few)
    )
    return efficiency, curves


def _retrained(
    method: TemplateMethod,
    events: Events,
    window: Window,
    splits: NDArray[np.bool_],
    rng: np.random.Generator,
) -> TemplateMethod:
    simulation = method.simulation
    if simulation is not None:
        simulation = _weighted(simulation, rng.poisson(1.0, len(simulation)))
    # sufficient for the real sample means sufficient for this one
    config = method.config.model_copy(update={"min_events": 1})
    other = type(method)(config, seed=int(rng.integers(2**31)), threads=method.threads, simulation=simulation)
    member = np.arange(len(events))
    if events.groups is not None:
        # groups are drawn together
        member = np.unique(events.groups, return_inverse=True)[1]
    times = np.where(window.contains(events.m), 1, rng.poisson(1.0, len(events))[member])
    return other.fit(_weighted(events, times), window, splits)


def _squares(
    weights: Array, passed: NDArray[np.bool_], groups: NDArray[np.int64] | None, rows: NDArray[np.int64]
) -> Array:
    """Sums of squared weights of the events, or of the groups of events, that pass each cut."""
    if groups is None:
        return np.asarray(weights**2 @ passed)
    member = np.unique(groups[rows], return_inverse=True)[1]
    sums = sparse.coo_array((weights, (member, np.arange(len(weights))))).tocsr() @ passed.astype(float)
    return np.asarray((sums**2).sum(axis=0))


def _weighted(events: Events, times: NDArray[np.int64]) -> Events:
    columns: Mapping[str, NDArray[Any]] = {**events.columns, _WEIGHT: events.weights * times}
    return replace(events, columns=columns, weight=_WEIGHT)


def _draw(
    method: TemplateMethod,
    model: int,
    mass: Array,
    rng: np.random.Generator,
    weights: Array | None = None,
) -> Events:
    """Events of the template at these masses."""
    parts = []
    for first in range(0, len(mass), _CHUNK):
        x = method.predict_background(mass[first : first + _CHUNK], model, rng)
        assert x is not None
        parts.append(x)
    table = np.concatenate(parts)
    names = tuple(f"x{i}" for i in range(table.shape[1]))
    columns: dict[str, NDArray[Any]] = {"m": mass, "w": np.ones(len(mass)) if weights is None else weights}
    columns |= {name: table[:, i] for i, name in enumerate(names)}
    return Events(columns, mass="m", features=names, weight="w")


def _draw_at(method: TemplateMethod, model: int, sample: Events, n: int, rng: np.random.Generator) -> Events:
    """About ``n`` events of the template at the masses of a sample, with its weights."""
    copies = max(1, round(n / len(sample)))
    return _draw(method, model, np.tile(sample.m, copies), rng, np.tile(sample.weights, copies))


def _score(method: TemplateMethod, model: int, events: Events) -> Array:
    rows = np.arange(len(events))
    parts = [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]
    return np.concatenate([method.score(events.select(part), model) for part in parts])
