"""From the scores of finished trainings to looks, and from looks to the global p-value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.registry import get_method
from serendip.runs.training import TaskResult
from serendip.search.calibration import read_calibration
from serendip.search.config import SearchConfig
from serendip.search.folds import tie_breaker
from serendip.search.results import Look as LookRecord
from serendip.search.results import LookFit
from serendip.statistics.closure import with_alternatives
from serendip.statistics.compound import group_sums
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
    window_bins,
)
from serendip.statistics.margin import expectation_margin
from serendip.statistics.orders import combine_orders
from serendip.statistics.pvalues import significance
from serendip.statistics.ranges import FitRange, given_range, window_range
from serendip.statistics.ranks import cut_efficiency, leave_one_out_rank
from serendip.statistics.template_count import count_look
from serendip.statistics.trials import GlobalResult, global_p_value
from serendip.statistics.weighting import FEWEST_RANKED, ratio_weights, signal_scale

__all__ = ["Look", "Measurement", "WindowFit", "measure", "prepare_window", "weight_scale"]

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
        Data outside the fit range, and the reason.
    """

    window: Window
    edges: NDArray[np.float64]
    inside: NDArray[np.bool_]
    counts: NDArray[np.float64]
    inclusive: SpectrumFit
    left_out: FitRange

    @cached_property
    def judged(self) -> SpectrumFit:
        """The fit with the predictions of other functions in the window, for warnings (:func:`~serendip.statistics.closure.with_alternatives`)."""
        return with_alternatives(self.inclusive, *window_bins(self.edges, self.window))

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
    """One number in which an excess could appear: a method and a window, with a working point if there is a cut."""

    method: str
    window_fit: WindowFit
    working_point: float | None
    result: LookResult

    def record(self) -> LookRecord:
        """The look as ``results.json`` has it."""
        inclusive, efficiency = self.window_fit.judged, self.result.spectrum
        fit = LookFit(
            function=inclusive.function,
            averaged=inclusive.averaged,
            n_parameters=inclusive.n_parameters,
            gof_p=inclusive.gof_p,
            effective_events=inclusive.effective_number,
            closure_error=0.0 if inclusive.closure is None else inclusive.closure.relative_error,
            turn_on_spread=inclusive.turn_on_spread,
            kink_weight=inclusive.kink_weight,
            rough_spread=inclusive.rough_spread,
            efficiency_order=efficiency.n_parameters - 1 if efficiency.offset is not None else 0,
            efficiency_gof_p=efficiency.gof_p if efficiency.offset is not None else None,
        )
        window, effective = self.window_fit.window, self.result.effective
        more = {"window": (window.low, window.high), "fit": fit, "effective_events": effective}
        margin = {"expectation_margin": expectation_margin(self.result)}
        return LookRecord.model_validate(vars(self.result) | more | margin)


@dataclass(frozen=True)
class Measurement:
    """All looks, the global p-value, and for each training the efficiency of every event's score.

    Attributes
    ----------
    looks, overall
        The looks and the global p-value.
    efficiency
        Background efficiency of every event's score in the first order of the folds, shape ``(n,)``.
    ranked
        Weights from the ranks of the scores in all orders, shape ``(n_orders, n)``; only of methods that count with them.
    """

    looks: tuple[Look, ...]
    overall: GlobalResult | None
    efficiency: Mapping[tuple[str, Window], NDArray[np.float64]]
    ranked: Mapping[tuple[str, Window], NDArray[np.float64]]

    def counts(self, look: Look) -> NDArray[np.float64]:
        """With which factor each event counts in a look, shape ``(n,)``: 1 or 0 for a cut, else the mean weight over the orders."""
        where = look.method, look.window_fit.window
        if look.working_point is None:
            return np.asarray(self.ranked[where].mean(axis=0))
        return np.asarray(self.efficiency[where] <= look.working_point, dtype=float)


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
    dead: Mapping[tuple[str, Window, float | None], str] | None = None,
) -> Measurement:
    """Weight or cut, fit, and count; with ``trials``, also the global p-value.

    Looks that are ``dead``, for the reason that is given (:func:`serendip.search.sight.dead_looks`), have no count and no p-value.

    The threshold of a fold comes from its own sideband events, never from its signal region (see
    :func:`~serendip.statistics.ranks.cut_efficiency`).
    """
    mass, weights, groups = events.m, events.weights, events.groups
    ties = tie_breaker(events.ids, config.seed)
    calibration, calibrated = read_calibration(config), _calibrated_looks(config)
    looks: list[Look] = []
    efficiencies: dict[tuple[str, Window], NDArray[np.float64]] = {}
    weightings: dict[tuple[str, Window], NDArray[np.float64]] = {}
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
                efficiency = cut_efficiency(score, counted, window_fit.sideband(mass), weights, ties, groups)
            efficiencies[method, window] = efficiency
            used = window_fit.in_range(mass)
            weighted = config.weighted(method)
            if weighted:
                reason = (dead or {}).get((method, window, None))
                ranked = _ranked(config, events, fold, window_fit, task, ties)
                weightings[method, window] = ranked
                result = _weighted_look(config, events, fold, window_fit, ranked, method, blinded=blinded)
                result = result if reason is None else result.without_sight(reason)
                looks.append(Look(method, window_fit, None, _with_reservations(config, method, result)))
            for working_point in points or config.working_points:
                common: dict[str, Any] = {
                    "working_point": working_point,
                    "combination": ("sequential" if weighted else config.combination) if trains else SINGLE,
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
                result = replace(_with_reservations(config, method, result), cross_check=weighted)
                looks.append(Look(method, window_fit, working_point, result))
    overall = None
    # references know the truth: neither a result of the search nor a part of its trials; nor is a dead look
    searched = [
        i
        for i, look in enumerate(looks)
        if not (get_method(look.method).uses_labels or look.result.cross_check) and look.result.dead is None
    ]
    if searched and trials and not blinded:
        rng = np.random.default_rng([config.seed, 0x70795])
        shared = _selected_events(
            config, events, fold, [looks[i] for i in searched], efficiencies, weightings
        )
        overall = global_p_value([looks[i].result for i in searched], config.toys, rng, shared)
        overall = replace(overall, best_look=searched[overall.best_look])
        if any(looks[i].result.calibration is not None for i in searched):
            overall = _not_below_bonferroni(overall)
    return Measurement(tuple(looks), overall, efficiencies, weightings)


def weight_scale(config: SearchConfig, events: Events, window_fit: WindowFit) -> tuple[float, float]:
    """The constant ``a`` of the weights (:func:`~serendip.statistics.weighting.signal_scale`), and the effective sideband events of a fold."""
    side, weights = window_fit.sideband(events.m), events.weights
    jumps = group_sums(weights[side], None if events.groups is None else events.groups[side])
    unit = (jumps**2).sum() / jumps.sum()
    expected = window_fit.inclusive.window(*window_bins(window_fit.edges, window_fit.window))[0] / unit
    beside = max(jumps.sum() / unit / config.folds, FEWEST_RANKED)
    return signal_scale(expected, config.folds, beside), float(beside)


def _ranked(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    window_fit: WindowFit,
    task: TaskResult,
    ties: NDArray[np.uint64],
) -> NDArray[np.float64]:
    """Weights of all events from the ranks of their scores, in each order of the folds, shape ``(n_orders, n)``."""
    side, weights = window_fit.sideband(events.m), events.weights
    scale, _ = weight_scale(config, events, window_fit)
    out = []
    for place, score in zip(config.positions, task.all_scores, strict=True):
        rank = leave_one_out_rank(score, fold, side, weights, ties, events.groups)
        out.append(ratio_weights(rank, place[fold], config.folds, scale))
    return np.array(out)


def _weighted_look(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    window_fit: WindowFit,
    ranked: NDArray[np.float64],
    method: str,
    *,
    blinded: bool,
) -> LookResult:
    """The look of a method whose events count with weights: one in each order of the folds, combined."""
    used = window_fit.in_range(events.m)
    orders = [
        analyse_look(
            events.m[used],
            place[fold[used]],
            weight[used] > 0,
            window_fit.window,
            window_fit.edges,
            window_fit.inclusive,
            combination="weighted",
            n_folds=config.folds,
            weights=None if events.weight is None else events.weights[used],
            groups=None if events.groups is None else events.groups[used],
            ranked=weight[used],
            blinded=blinded,
            method=method,
        )
        for place, weight in zip(config.positions, ranked, strict=True)
    ]
    return combine_orders(orders)


def _selected_events(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    looks: list[Look],
    efficiencies: Mapping[tuple[str, Window], NDArray[np.float64]],
    weightings: Mapping[tuple[str, Window], NDArray[np.float64]],
) -> LookEvents:
    """Selection of each look, or of each order of it, in the whole spectrum."""
    rows: list[NDArray[np.int64] | None] = []
    factors: list[NDArray[np.float64] | None] = []
    for look in looks:
        method, ranked = get_method(look.method), weightings.get((look.method, look.window_fit.window))
        if ranked is not None:
            for weight in ranked:
                rows.append(np.flatnonzero(weight))
                factors.append(weight[weight > 0])
            continue
        factors.append(None)
        if method.working_points == (1.0,) and config.counting == "fit":
            rows.append(None)
            continue
        assert look.working_point is not None
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
        tuple(factors),
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
    """Toys draw independent folds; only the calibration of each look includes more, so that its bound is kept."""
    bound = overall.bonferroni
    p, (low, high) = max(overall.p, bound), overall.p_interval_68
    return replace(
        overall,
        p=p,
        z=significance(np.log(p)),
        p_interval_68=(max(low, bound), max(high, bound)),
        trials=f"{overall.trials}, and not below Bonferroni over calibrated looks",
    )


def _with_reservations(config: SearchConfig, method: str, look: LookResult) -> LookResult:
    notes = _reservations(config, method)
    if not notes:
        return look
    return replace(look, warning="; ".join([*notes, *([look.warning] if look.warning else [])]))


def _reservations(config: SearchConfig, method: str) -> list[str]:
    """Warning that applies to every p-value of a method, whatever the data."""
    notes = [REFERENCE_WARNING] if get_method(method).uses_labels else []
    tuned = config.tuned
    # a comparison, and settings that were changed in Python, are not refused as parse_config does
    if tuned is not None and method in tuned.methods and (tuned.on == "all" or config.tuning_clash()):
        notes.append(TUNED_WARNING)
    return notes
