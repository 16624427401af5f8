"""From the scores of finished trainings to looks, and from looks to the global p-value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.registry import get_method
from serendip.search.calibration import read_calibration
from serendip.search.config import SearchConfig
from serendip.search.folds import background_efficiency, tie_breaker
from serendip.search.rundir import TaskResult
from serendip.statistics.event_toys import LookEvents
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.functions import get_family
from serendip.statistics.looks import (
    SINGLE,
    LookResult,
    analyse_look,
    calibrate_look,
    fit_inclusive,
    make_edges,
    tested_folds,
)
from serendip.statistics.pvalues import significance
from serendip.statistics.ranges import FitRange, given_range, window_range
from serendip.statistics.template_count import count_look
from serendip.statistics.trials import GlobalResult, global_p_value

__all__ = ["Look", "Measurement", "WindowFit", "measure", "prepare_window"]

_MIN_SIDEBAND_EVENTS = 200

REFERENCE_WARNING = "a reference that was trained with the truth labels, not a result of the search"
TUNED_WARNING = "options were chosen on the tested events: the p-value is too small"


@dataclass(frozen=True)
class WindowFit:
    """A window, its binning and the fit of the spectrum before any cut.

    Attributes
    ----------
    window
        The signal region.
    edges
        Bin edges in GeV; both edges of the window are among them.
    inside
        Mask of the bins in the window.
    counts
        Events (sum of weights) in each bin before any cut.
    inclusive
        Fit of these counts outside the window.
    left_out
        What the range leaves out of the data, and why.
    """

    window: Window
    edges: NDArray[np.float64]
    inside: NDArray[np.bool_]
    counts: NDArray[np.float64]
    inclusive: SpectrumFit
    left_out: FitRange

    def in_range(self, mass: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask of the events inside the fitted range."""
        return np.asarray((mass >= self.edges[0]) & (mass < self.edges[-1]))

    def sideband(self, mass: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask of the events inside the fitted range, outside the window and outside known resonances."""
        out = self.in_range(mass) & ~self.window.contains(mass)
        for low, high in self.inclusive.family.gaps:
            out &= (mass < low) | (mass >= high)
        return out


@dataclass(frozen=True)
class Look:
    """One number on which an excess could be seen: a method, a window, a working point."""

    method: str
    window_fit: WindowFit
    working_point: float
    result: LookResult

    def to_dict(self) -> dict[str, Any]:
        """The look as ``results.json`` has it."""
        inclusive, efficiency = self.window_fit.inclusive, self.result.spectrum
        fit = {
            "function": inclusive.function,
            "averaged": inclusive.averaged,
            "n_parameters": inclusive.n_parameters,
            "gof_p": inclusive.gof_p,
            "effective_events": inclusive.effective_number,
            "closure_error": 0.0 if inclusive.closure is None else inclusive.closure.relative_error,
            "turn_on_spread": inclusive.turn_on_spread,
            "efficiency_order": efficiency.n_parameters - 1 if efficiency.offset is not None else 0,
            "efficiency_gof_p": efficiency.gof_p if efficiency.offset is not None else None,
        }
        return self.result.to_dict() | {"fit": fit}


@dataclass(frozen=True)
class Measurement:
    """All looks, the global p-value, and for each training the background efficiency of every event's score."""

    looks: tuple[Look, ...]
    overall: GlobalResult | None
    efficiency: Mapping[tuple[str, Window], NDArray[np.float64]]

    def to_dict(self) -> dict[str, Any]:
        """``looks`` and ``global`` as ``results.json`` has them."""
        return {
            "looks": [look.to_dict() for look in self.looks],
            "global": None if self.overall is None else self.overall.to_dict(),
        }


def prepare_window(events: Events, window: Window, config: SearchConfig) -> WindowFit:
    """Check a window and fit the spectrum around it, before anything is trained.

    Raises
    ------
    InputError
        If the window lies outside the data, its sidebands hold too few events, or the calibration was
        not made for such a search.
    """
    mass, weights = events.m, events.weights
    low, high = float(mass.min()), float(mass.max())
    if window.high <= low or window.low >= high:
        raise InputError(
            f"window {window} lies outside the data, whose masses run from {low:g} to {high:g} GeV"
        )
    family = get_family(config.background, config.sqrt_s * 1000, config.masks)
    given = None if events.weight is None else weights
    found_range = (
        window_range(mass, window, family, weights=given)
        if config.mass_range is None
        else given_range(mass, *config.mass_range)
    )
    bounds = found_range.low, found_range.high
    if not bounds[0] < window.low < window.high < bounds[1]:
        raise InputError(
            f"window {window} needs a sideband on both sides, but the background can be fitted only from "
            f"{bounds[0]:g} to {bounds[1]:g} GeV; move the window inwards or give --range LO:HI"
        )
    edges = make_edges(bounds, window)
    inside = (edges[:-1] >= window.low) & (edges[1:] <= window.high)
    counts = np.histogram(mass, edges, weights=weights)[0]
    for side, bins in (("below", edges[1:] <= window.low), ("above", edges[:-1] >= window.high)):
        found = int(np.histogram(mass, edges)[0][bins].sum())
        if found < _MIN_SIDEBAND_EVENTS // 4:
            raise InputError(
                f"too few sideband events: {found} {side} the window {window} (range {bounds[0]:g}-{bounds[1]:g} GeV), "
                f"at least {_MIN_SIDEBAND_EVENTS // 4} are needed; move or narrow the window, or give more data"
            )
    found = int(np.histogram(mass, edges)[0][~inside].sum())
    if found < _MIN_SIDEBAND_EVENTS:
        raise InputError(
            f"too few sideband events: {found} around the window {window} (range {bounds[0]:g}-{bounds[1]:g} GeV), at least "
            f"{_MIN_SIDEBAND_EVENTS} are needed; widen --range or give more data"
        )
    if (calibration := read_calibration(config)) is not None:
        for method, points in _calibrated_looks(config).items():
            for point in points:
                calibration.check(config, method, window, point, found)
    inclusive = fit_inclusive(mass, window, edges, family, weights=given, groups=events.groups)
    return WindowFit(window, edges, inside, counts, inclusive, found_range)


def measure(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    windows: list[WindowFit],
    tasks: Mapping[tuple[str, Window], TaskResult],
    *,
    blinded: bool,
    trials: bool = True,
    dead: Mapping[tuple[str, Window, float], str] | None = None,
) -> Measurement:
    """Cut at the working points, fit, and count; with ``trials``, also the global p-value.

    Looks that are ``dead``, for the reason that is given (:func:`serendip.search.sight.dead_looks`), have no count and no p-value.

    The threshold of a fold comes from its own sideband events, never from its signal region (see
    :func:`~serendip.search.folds.background_efficiency`).
    """
    mass, weights, groups = events.m, events.weights, events.groups
    ties = tie_breaker(events.ids, config.seed)
    calibration, calibrated = read_calibration(config), _calibrated_looks(config)
    looks, efficiencies = [], {}
    for method in config.method:
        trains, points = get_method(method).trains, get_method(method).working_points
        counted = fold if trains else np.zeros_like(fold)
        for window_fit in windows:
            window = window_fit.window
            task = tasks[method, window]
            score = task.scores
            by_template = config.counting == "template"
            if by_template:
                efficiency = _known(task.efficiency)
            elif points == (1.0,):
                efficiency = np.ones(len(mass))
            else:
                efficiency = background_efficiency(
                    score, counted, window_fit.sideband(mass), weights, ties, groups
                )
            efficiencies[method, window] = efficiency
            used = window_fit.in_range(mass)
            for working_point in points or config.working_points:
                common: dict[str, Any] = {
                    "working_point": working_point,
                    "combination": config.combination if trains else SINGLE,
                    "n_folds": config.folds,
                    "weights": None if events.weight is None else weights[used],
                    "groups": None if groups is None else groups[used],
                    "blinded": blinded,
                    "method": method,
                }
                if by_template:
                    assert task.curves is not None
                    result = count_look(
                        mass[used],
                        counted[used],
                        efficiency[used],
                        window,
                        window_fit.inclusive,
                        task.curves,
                        **common,
                    )
                else:
                    result = analyse_look(
                        mass[used],
                        counted[used],
                        efficiency[used] <= working_point,
                        window,
                        window_fit.edges,
                        window_fit.inclusive,
                        **common,
                    )
                reason = (dead or {}).get((method, window, working_point))
                if reason is not None:
                    result = result.without_sight(reason)
                elif calibration is not None and working_point in calibrated.get(method, ()):
                    null = calibration.null(config, method, window, working_point)
                    result = calibrate_look(result, null, str(config.calibration))
                if notes := _reservations(config, method):
                    notes += [result.warning] if result.warning else []
                    result = replace(result, warning="; ".join(notes))
                looks.append(Look(method, window_fit, working_point, result))
    overall = None
    # references know the truth: neither a result of the search nor a part of its trials; nor is what can see nothing
    searched = [
        i
        for i, look in enumerate(looks)
        if not get_method(look.method).uses_labels and look.result.dead is None
    ]
    if searched and trials and not blinded:
        rng = np.random.default_rng([config.seed, 0x70795])
        shared = _selected_events(config, events, fold, [looks[i] for i in searched], efficiencies)
        overall = global_p_value([looks[i].result for i in searched], config.toys, rng, shared)
        overall = replace(overall, best_look=searched[overall.best_look])
        if any(looks[i].result.calibration is not None for i in searched):
            overall = _not_below_bonferroni(overall)
    return Measurement(tuple(looks), overall, efficiencies)


def _selected_events(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    looks: list[Look],
    efficiencies: Mapping[tuple[str, Window], NDArray[np.float64]],
) -> LookEvents:
    """What each look selects, in all of the spectrum."""
    rows: list[NDArray[np.int64] | None] = []
    for look in looks:
        method = get_method(look.method)
        if method.working_points == (1.0,) and config.counting == "fit":
            rows.append(None)
            continue
        chosen = efficiencies[look.method, look.window_fit.window] <= look.working_point
        if method.trains:
            chosen = chosen & np.isin(fold, tested_folds(config.combination, config.folds))
        rows.append(np.flatnonzero(chosen))
    return LookEvents(
        events.m.astype(float),
        fold,
        tuple(rows),
        None if events.weight is None else events.weights,
        None if events.groups is None else np.unique(events.groups, return_inverse=True)[1],
    )


def _known(efficiency: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if efficiency is None:
        raise InputError(
            "a training of this run has no template count: it was made with counting 'fit'; choose another folder"
        )
    return efficiency


def _calibrated_looks(config: SearchConfig) -> dict[str, tuple[float, ...]]:
    """Working points of the methods whose looks a calibration is about: those that train, without the truth."""
    methods = {name: get_method(name) for name in config.method}
    return {
        name: method.working_points or config.working_points
        for name, method in methods.items()
        if method.trains and not method.uses_labels
    }


def _not_below_bonferroni(overall: GlobalResult) -> GlobalResult:
    """Toys draw independent folds; only the calibration of each look knows of more, so that its bound is kept."""
    bound = overall.bonferroni
    p, (low, high) = max(overall.p, bound), overall.p_interval_68
    return replace(
        overall,
        p=p,
        z=significance(np.log(p)),
        p_interval_68=(max(low, bound), max(high, bound)),
        trials=f"{overall.trials}, and not below Bonferroni over calibrated looks",
    )


def _reservations(config: SearchConfig, method: str) -> list[str]:
    """What is wrong with every p-value of a method, whatever the data are."""
    notes = [REFERENCE_WARNING] if get_method(method).uses_labels else []
    tuned = config.tuned
    # a comparison, and settings that were changed in Python, are not refused as parse_config does
    if tuned is not None and method in tuned.methods and (tuned.on == "all" or config.tuning_clash()):
        notes.append(TUNED_WARNING)
    return notes
