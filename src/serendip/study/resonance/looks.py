"""Cuts in pseudo-data: cuts on a fixed score, and the excess due to the signal for any score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.audit import distance_correlation
from serendip.events.events import Events
from serendip.methods.figures_of_merit import SicPoint, max_sic, sic_at, sic_curve
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.search.compare import CompareConfig
from serendip.search.engine import read_events
from serendip.search.folds import event_folds, tie_breaker
from serendip.search.injection import inject
from serendip.search.measure import prepare_window
from serendip.search.merits import mass_shape
from serendip.statistics.looks import SINGLE, LookResult, analyse_look
from serendip.statistics.ranks import cut_efficiency

__all__ = ["added_excess", "cut_entries", "with_added_excess"]

_CORRELATED = 2000

Array = NDArray[np.float64]


def cut_entries(config: CompareConfig, score: str) -> list[dict[str, Any]]:
    """Cut on a column of the table, which is fixed beforehand: nothing is trained, and all events are tested.

    Parameters
    ----------
    config
        The comparison: file, window, injections, repeats, working points.
    score
        Column; higher is more signal-like.

    Returns
    -------
    One entry for each injection and repeat, with those keys of the entries of ``compare.json`` that make sense without a training, and
    ``added`` (:func:`added_excess`) in each look.
    """
    events = read_events(config)
    entries = []
    for injection in config.injections:
        for repeat in range(config.repeats):
            cell, part = _cell(config, events, injection, repeat)
            entries.append({"injection": injection, "repeat": repeat, **_entry(cell, part, score)})
    return entries


def with_added_excess(
    config: CompareConfig, entries: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Add :func:`added_excess` to the looks of a finished comparison.

    Parameters
    ----------
    config, folder
        The comparison and its folder, which holds the scores.
    entries
        Those of ``compare.json``.
    """
    events, run = read_events(config), RunDirectory(folder)
    out = []
    for entry in entries:
        cell, part = _cell(config, events, entry["injection"], entry["repeat"])
        method = get_method(entry["method"])
        scores = run.read_task(entry["task"]).scores
        fold = event_folds(part, cell.folds, cell.seed)
        added = added_excess(
            cell,
            part,
            scores,
            fold if method.trains else np.zeros_like(fold),
            cell.combination if method.trains else SINGLE,
            [look["working_point"] for look in entry["looks"]],
        )
        looks = [{**look, "added": value} for look, value in zip(entry["looks"], added, strict=True)]
        out.append({**entry, "looks": looks})
    return out


def added_excess(
    config: CompareConfig,
    events: Events,
    scores: Array,
    fold: NDArray[np.int64],
    combination: str,
    working_points: Sequence[float],
) -> list[float]:
    r"""How much the signal adds to the excess, with the same scores of the same background.

    .. math:: \Delta = (n - b)_\text{with signal} - (n - b)_\text{without}

    with the number :math:`n` of selected events in the window and the expectation :math:`b` of the search; thresholds and fits are repeated without the signal. Fluctuations of the background cancel, while signal in the sidebands, which raises the threshold and the
    expectation, counts.

    Parameters
    ----------
    config
        The search, with one window.
    events, scores, fold
        Background and injected signal, labelled; shape ``(n,)``.
    combination
        As in :func:`~serendip.statistics.looks.analyse_look`.
    working_points
        Background efficiencies; 1 keeps all.

    Returns
    -------
    One number for each working point; 0 without signal.
    """
    if not events.labels.any():
        return [0.0 for _ in working_points]
    excesses = []
    for rows in (np.ones(len(events), dtype=bool), ~events.labels):
        looks = _looks(config, events.select(rows), scores[rows], fold[rows], combination, working_points)[0]
        excesses.append([float(look.observed or 0.0) - look.expected for look in looks])
    return [one - other for one, other in zip(*excesses, strict=True)]


def _cell(config: CompareConfig, events: Events, injection: int, repeat: int) -> tuple[CompareConfig, Events]:
    """Events and seed of one injection of one repeat, as a comparison has them."""
    (window,) = config.windows
    rows = inject(events, window, injection, repeat, config.seed)
    seed = (config.seed + repeat) % 2**32
    return config.model_copy(update={"seed": seed}), events.select(rows)


def _looks(
    config: CompareConfig,
    events: Events,
    scores: Array,
    fold: NDArray[np.int64],
    combination: str,
    working_points: Sequence[float],
) -> tuple[list[LookResult], Array, Array]:
    """Looks, background efficiency of each event, and bin edges."""
    (window,) = config.windows
    fit = prepare_window(events, window, config)
    mass, weights = events.m, events.weights
    used = fit.in_range(mass)
    if tuple(working_points) == (1.0,):
        efficiency = np.ones(len(mass))
    else:
        ties = tie_breaker(events.ids, config.seed)
        efficiency = cut_efficiency(scores, fold, fit.sideband(mass), weights, ties, events.groups)
    looks = [
        analyse_look(
            mass[used],
            fold[used],
            efficiency[used] <= point,
            window,
            fit.edges,
            fit.inclusive,
            combination=combination,
            n_folds=config.folds,
            weights=None if events.weight is None else weights[used],
            groups=None if events.groups is None else events.groups[used],
            working_point=point,
        )
        for point in working_points
    ]
    return looks, efficiency, fit.edges


def _entry(config: CompareConfig, events: Events, score: str) -> dict[str, Any]:
    (window,) = config.windows
    mass, truth, weights = events.m, events.labels, events.weights
    values = np.asarray(events[score], dtype=np.float64)
    fold = np.zeros(len(events), dtype=np.int64)
    found, efficiency, edges = _looks(config, events, values, fold, SINGLE, config.working_points)
    added = added_excess(config, events, values, fold, SINGLE, config.working_points)
    inside, background = window.contains(mass), ~truth & (mass >= edges[0]) & (mass < edges[-1])
    looks = []
    for point, look, extra in zip(config.working_points, found, added, strict=True):
        selected = efficiency <= point
        looks.append(
            {
                "working_point": point,
                "observed": look.observed,
                "expected": look.expected,
                "expected_error": look.expected_error,
                "z_local": look.z_local,
                "added": extra,
                "true_signal": float(weights[inside & truth & selected].sum()),
                "mass_shape": mass_shape(mass[background], selected[background], edges, weights[background]),
            }
        )
    rng = np.random.default_rng([config.seed, 0xC0])
    rows = np.flatnonzero(~inside & (mass >= edges[0]) & (mass < edges[-1]))
    rows = rng.choice(rows, min(len(rows), _CORRELATED), replace=False)
    correlation, limit = distance_correlation(values[rows], mass[rows])
    return {
        **_sic(truth[inside], values[inside], weights[inside], config),
        "looks": looks,
        "distance_correlation": correlation,
        "distance_correlation_null": limit,
    }


def _sic(truth: NDArray[np.bool_], values: Array, weights: Array, config: CompareConfig) -> dict[str, Any]:
    nothing: dict[str, Any] = {"max_sic": None, "sic_at": []}
    if not truth.any():
        return nothing
    curve = sic_curve(truth, values, weights, min_background=config.min_background)
    if len(curve.sic) == 0:
        return nothing
    at = []
    for point in config.working_points:
        try:
            at.append({"working_point": point, **_point(sic_at(curve, point))})
        except InputError:
            continue  # too few background events are left
    return {"max_sic": _point(max_sic(curve)), "sic_at": at}


def _point(point: SicPoint) -> dict[str, float]:
    return {"sic": point.sic, "error": point.error, "eps_s": point.eps_s, "eps_b": point.eps_b}
