"""One training: a method in a window, or a density of background, with all folds.

Runs in a worker, independent of the run directory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import one_of_each
from serendip.methods.background import train_background
from serendip.methods.base import BackgroundRequest, Method
from serendip.methods.registry import get_method
from serendip.methods.template_method import TemplateMethod
from serendip.runs.memory import forget_peak_memory, peak_memory_gib
from serendip.runs.training import TaskResult
from serendip.search.folds import cross_training_plan, distinct, event_folds
from serendip.search.models import pack_model
from serendip.search.template_curves import template_curves
from serendip.statistics.looks import SINGLE, fit_range

__all__ = ["BackgroundTask", "Task", "held_out_scores", "run_background", "run_task"]

_TEMPLATE_ROWS = 20_000
_CLOSURE_EVENTS = (200, 500, 1000, 2000, 4000, 6000)
_CLOSURE_COPIES = 10


@dataclass(frozen=True)
class Task:
    """Input of a worker besides the events; ``template_draws`` requests a template count."""

    key: str
    method: str
    options: dict[str, Any]
    window: Window
    folds: int
    combination: str
    seed: int
    threads: int
    positions: tuple[tuple[int, ...], ...] | None = None
    background: ConditionalDensity | None = None
    bounds: tuple[float, float] | None = None
    template_draws: int | None = None


@dataclass(frozen=True)
class BackgroundTask:
    """A background density requested by one or more methods."""

    key: str
    request: BackgroundRequest
    folds: int
    combination: str
    seed: int
    threads: int
    positions: tuple[tuple[int, ...], ...] | None = None


def _places(task: Task | BackgroundTask) -> NDArray[np.int64] | None:
    return None if task.positions is None else np.array(task.positions)


def run_background(
    task: BackgroundTask, events: Events, simulation: Events | None = None
) -> tuple[ConditionalDensity, dict[str, Any]]:
    """Train the density on the events without their labels; also returns facts about the training.

    A density of the events outside one window is trained on all folds that its model does not score, one of all events on the training events of its model. Orders share the densities of equal training sets.
    """
    forget_peak_memory()
    started, cpu = time.perf_counter(), time.process_time()
    threadpool_limits(task.threads)
    fold = event_folds(events, task.folds, task.seed)
    window = task.request.outside
    inside = None if window is None else window.contains(events.m)
    plan = cross_training_plan(fold, task.folds, task.combination, _places(task), inside)
    splits, number = distinct(plan.splits if inside is None else plan.splits & ~inside)
    density = train_background(
        task.request, events.without_label(), splits, seed=task.seed, threads=task.threads
    ).arranged(number)
    facts = {
        "background": task.request.density,
        "options": dict(task.request.options),
        "n_models": len(splits),
        "threads": task.threads,
        "total_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_memory_gib": peak_memory_gib(),
    }
    return density, facts


def run_task(task: Task, events: Events, simulation: Events | None = None) -> TaskResult:
    """Train on the events without their labels (unless the method is a label-using reference) and score them.

    An event is only ever scored by a model whose training set does not contain it.
    """
    forget_peak_memory()
    started, cpu = time.perf_counter(), time.process_time()
    # more threads than cores make everything many times slower
    threadpool_limits(task.threads)
    method_class = get_method(task.method)
    if not method_class.uses_labels:
        events = events.without_label()
    fold, combination = event_folds(events, task.folds, task.seed), task.combination
    if not method_class.trains:
        fold, combination = np.zeros_like(fold), SINGLE
    inside = task.window.contains(events.m)
    plan = cross_training_plan(fold, task.folds, combination, _places(task), inside)
    config = method_class.Config(**task.options)
    method = method_class(
        config,
        seed=task.seed,
        threads=task.threads,
        simulation=simulation if method_class.uses_simulation(config) else None,
        background=task.background,
    )
    method.fit(events, task.window, plan.splits)
    trained = time.perf_counter()
    scores, *more_scores = (
        held_out_scores(method, task.window, events, fold, plan.splits, pairs) for pairs in plan.orders
    )
    last_fold, last_model = plan.scores[-1]
    bounds = task.bounds or fit_range(events.m, task.window)
    beside = (events.m >= bounds[0]) & (events.m < bounds[1]) & ~task.window.contains(events.m)
    files, model_facts = pack_model(
        method,
        last_model,
        events,
        task.window,
        seen=plan.splits[last_model],
        scores=scores,
        sideband=beside & (fold == last_fold),
    )
    rng = np.random.default_rng([task.seed, last_fold])
    template = _template(method, last_model, len(events.features), rng)
    closure = _closure(method, events, task.window, fold == last_fold, last_model, rng)
    efficiency, curves = None, None
    if task.template_draws is not None:
        assert isinstance(method, TemplateMethod)
        efficiency, curves = template_curves(
            method,
            events,
            task.window,
            plan,
            fold,
            scores,
            bounds=bounds,
            draws=task.template_draws,
            seed=task.seed,
        )
    facts = {
        "method": task.method,
        "window": [task.window.low, task.window.high],
        "n_models": len(plan.splits),
        "threads": task.threads,
        "train_s": trained - started,
        "total_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_memory_gib": peak_memory_gib(),
        "closure": closure,
    }
    signal = _signal(method, last_model, len(events.features))
    return TaskResult(
        scores, *template, *signal, facts | model_facts, files, efficiency, curves, np.array(more_scores)
    )


def held_out_scores(
    method: Method,
    window: Window,
    events: Events,
    fold: NDArray[np.int64],
    splits: NDArray[np.bool_],
    pairs: tuple[tuple[int, int], ...],
) -> NDArray[np.float64]:
    """Score of every event in one order of the folds, NaN in the fold that is not tested."""
    scores = np.full(len(events), np.nan)
    for f, model in pairs:
        held_out = fold == f
        if (held_out & splits[model]).any():
            msg = f"fold {f} would be scored by a model that saw it"
            raise AssertionError(msg)
        scores[held_out] = method.score(events.select(held_out), model)
        if not np.isfinite(scores[held_out]).all():
            raise InputError(
                f"method '{method.name}' gave {np.count_nonzero(~np.isfinite(scores[held_out]))} of "
                f"{np.count_nonzero(held_out)} events of fold {f} a score that is not a finite number, in the window "
                f"{window}; look at the features for extreme values (serendip inspect)"
            )
    return scores


def _template(
    method: Method, model: int, n_features: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    template = method.template(model)
    if template is None:
        return np.empty((0, n_features), np.float32), np.empty(0)
    rows = np.arange(len(template.x))
    if len(rows) > _TEMPLATE_ROWS:
        rows = np.sort(rng.choice(rows, _TEMPLATE_ROWS, replace=False))
    return template.x[rows].astype(np.float32), template.weights[rows].astype(np.float64)


def _signal(method: Method, model: int, n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mass and features of events drawn from the signal that a method learnt, shape ``(n, 1 + d)``, and its size."""
    signal = method.signal(model)
    if signal is None:
        return np.empty((0, 1 + n_features)), np.empty(0)
    floor = np.nan if signal.floor_gain is None else signal.floor_gain
    size = np.array([signal.fraction, signal.fraction_error, signal.trained_fraction, signal.gain, floor])
    return np.column_stack([signal.m, signal.x]), size


def _closure(
    method: Method,
    events: Events,
    window: Window,
    held_out: NDArray[np.bool_],
    model: int,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Held-out sideband events compared with the template at their masses."""
    near = (events.m > window.low - window.width) & (events.m < window.high + window.width)
    rows = np.flatnonzero(held_out & near & ~window.contains(events.m))
    if events.groups is not None:
        # a test of independent events
        rows = np.sort(one_of_each(rows, events.groups, rng))
    if len(rows) < _CLOSURE_EVENTS[0]:
        return None
    # a round number: in a blinded scan these events lie in the neighbouring windows, whose counts are secret
    n = max(size for size in _CLOSURE_EVENTS if size <= len(rows))
    rows = np.sort(rng.choice(rows, n, replace=False))
    # the histograms draw the prediction many times over, so that their pulls are those of the data
    predicted = method.predict_background(np.tile(events.m[rows], _CLOSURE_COPIES), model, rng)
    if predicted is None:
        return None
    from serendip.classify.separation import two_sample_auc

    observed, w = events.x[rows], events.weights[rows]
    auc, error = two_sample_auc(observed, w, predicted[: len(rows)], w, rng)
    copies = np.tile(w, _CLOSURE_COPIES) / _CLOSURE_COPIES
    features = []
    for i, name in enumerate(events.features):
        low, high = np.quantile(observed[:, i], [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, 31)
        features.append(
            {
                "name": name,
                "edges": edges,
                "observed": np.histogram(observed[:, i], edges, weights=w)[0],
                "predicted": np.histogram(predicted[:, i], edges, weights=copies)[0],
            }
        )
    return {"auc": auc, "auc_error": error, "n_events": len(rows), "features": features}
