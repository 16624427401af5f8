"""One background-only experiment of the whole chain: draw, train, score, cut, fit and combine, for several combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from serendip.events.events import Events
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.engine import plan_training
from serendip.search.folds import event_folds, tie_breaker
from serendip.search.measure import WindowFit, measure, prepare_window
from serendip.search.pseudo_data import ModelBackground, SampledBackground
from serendip.search.task import run_background, run_task
from serendip.statistics.looks import SINGLE, LookResult, analyse_look
from serendip.statistics.pvalues import z_value
from serendip.statistics.ranks import cut_efficiency

__all__ = ["SAME_DATA", "NullExperiment", "cross_trained", "run_null_experiment"]

SAME_DATA = "same-data"
"""Name of the control that scores every event with a model that was trained on it."""

_DRAW = 0x6E756C6C


@dataclass(frozen=True)
class NullExperiment:
    """The task of a worker.

    Attributes
    ----------
    number
        Number of the experiment; with the seed of the configuration it determines all random numbers.
    config
        The search, with one window in GeV.
    combinations
        How folds are combined; those that share trainings train once.
    same_data
        Whether to add the control :data:`SAME_DATA`.
    """

    number: int
    config: SearchConfig
    combinations: tuple[str, ...]
    same_data: bool


def run_null_experiment(
    job: NullExperiment, source: ModelBackground | SampledBackground, simulation: Events | None = None
) -> dict[str, Any]:
    """Run one experiment.

    Returns
    -------
    JSON-able: number of events, of those in the fitted range outside the window, and of each combination a list of looks (``method``,
    ``working_point``, ``observed``, ``expected``, ``expected_error``, ``z``). Nothing in it depends on the machine or the time.

    Raises
    ------
    InputError
        If a method cannot be trained on such a sample.
    """
    threadpool_limits(1)
    seed = job.config.seed
    config = job.config.model_copy(update={"seed": (seed + 1 + job.number) % 2**32, "calibration": None})
    events = source.draw(np.random.default_rng([seed, _DRAW, job.number]))
    (window,) = config.windows
    window_fit = prepare_window(events, window, config)
    content: dict[str, Any] = {
        "experiment": job.number,
        "events": len(events),
        "sideband_events": int(np.count_nonzero(window_fit.sideband(events.m))),
        "looks": {},
    }
    trained: dict[str, TaskResult] = {}
    for combination in job.combinations:
        one = config.model_copy(update={"combination": combination})
        looks = cross_trained(one, events, simulation, trained)
        content["looks"][combination] = [_row(look) for look in looks if not look.cross_check]
    if job.same_data:
        looks = _same_data(config, job.combinations, events, simulation)
        content["looks"][SAME_DATA] = [_row(look) for look in looks]
    return content


def cross_trained(
    config: SearchConfig, events: Events, simulation: Events | None, trained: dict[str, TaskResult]
) -> list[LookResult]:
    """Looks of a search in one window, trained in this process on one thread; nothing is written.

    Parameters
    ----------
    config
        The search.
    events, simulation
        As the search would read them.
    trained
        Finished trainings by their keys, which is added to: combinations that share trainings share them here.
    """
    (window,) = config.windows
    plan = plan_training(config, RunDirectory(Path()), events, simulation, 1)
    densities: dict[str, Any] = {}
    for task in plan.tasks:
        if task.key in trained:
            continue
        if (background := plan.backgrounds.get((task.method, task.window))) is not None:
            if background.key not in densities:
                densities[background.key] = run_background(background, events, simulation)[0]
            trained[task.key] = run_task(
                replace(task, background=densities[background.key]), events, simulation
            )
        else:
            trained[task.key] = run_task(task, events, simulation)
    found = measure(
        config,
        events,
        event_folds(events, config.folds, config.seed),
        [prepare_window(events, window, config)],
        {(task.method, task.window): trained[task.key] for task in plan.tasks},
        blinded=False,
        trials=False,
    )
    return [look.result for look in found.looks]


def _same_data(
    config: SearchConfig, combinations: Sequence[str], events: Events, simulation: Events | None
) -> list[LookResult]:
    """Train on all events, and rank and count the same events: which a search must not do."""
    (window,) = config.windows
    window_fit = prepare_window(events, window, config)
    ties, fold = tie_breaker(events.ids, config.seed), np.zeros(len(events), dtype=np.int64)
    used = window_fit.in_range(events.m)
    looks = []
    for name in config.method:
        cls, options = get_method(name), config.method_config(name)
        if not cls.trains:
            continue
        method = cls(
            options, seed=config.seed, simulation=simulation if cls.uses_simulation(options) else None
        )
        method.fit(events, window, np.ones((1, len(events)), dtype=bool))
        score = method.score(events)
        if "weighted" in combinations and cls.working_points is None:
            looks += _same_data_weighted(config, name, events, window_fit, score)
        if set(combinations) == {"weighted"} and cls.working_points is None:
            continue
        efficiency = cut_efficiency(
            score, fold, window_fit.sideband(events.m), events.weights, ties, events.groups
        )
        looks += [
            analyse_look(
                events.m[used],
                fold[used],
                efficiency[used] <= point,
                window,
                window_fit.edges,
                window_fit.inclusive,
                combination=SINGLE,
                n_folds=config.folds,
                weights=None if events.weight is None else events.weights[used],
                groups=None if events.groups is None else events.groups[used],
                method=name,
                working_point=point,
            )
            for point in cls.working_points or config.working_points
        ]
    return looks


def _same_data_weighted(
    config: SearchConfig, name: str, events: Events, window_fit: WindowFit, score: NDArray[np.float64]
) -> list[LookResult]:
    """The weighted look of scores that all orders of the folds share."""
    options = {key: value for key, value in config.options.items() if key == name}
    one = config.model_copy(update={"method": (name,), "options": options, "combination": "weighted"})
    none = np.empty((0, len(events.features)), np.float32), np.empty(0), np.empty((0, 0)), np.empty(0)
    more = np.tile(score, (len(one.positions) - 1, 1))
    tasks = {(name, window_fit.window): TaskResult(score, *none, {}, more_scores=more)}
    fold = event_folds(events, one.folds, one.seed)
    found = measure(one, events, fold, [window_fit], tasks, blinded=False, trials=False)
    return [look.result for look in found.looks if not look.result.cross_check]


def _row(look: LookResult) -> dict[str, Any]:
    names: Sequence[str] = ("method", "working_point", "observed", "expected", "expected_error")
    # counts of weighted events are Poisson-like in units of this
    row = {name: getattr(look, name) for name in names}
    # p = 1 has a place in the order of the experiments, the last one
    z = None if look.log_p_local is None else float(z_value(log_p=look.log_p_local))
    return row | {"z": z, "scale": look.spectrum.scale}
