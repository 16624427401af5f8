"""The numbers of the figures in the report (``diagnostics.json``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.audit import distance_correlation
from serendip.events.events import Events, Window
from serendip.methods.figures_of_merit import max_sic, sic_at, sic_curve
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.diagnostic_records import (
    Closure,
    Correlation,
    Diagnostics,
    LearnedSignal,
    LeftOut,
    LeftOutSide,
    Roc,
    Scores,
    Selected,
    SelectedFeature,
    Spectrum,
    Truth,
)
from serendip.search.measure import Measurement, WindowFit
from serendip.search.spectrum_records import shown, spectrum_record, squares_in_bins
from serendip.search.weighted_diagnostics import weighted_looks
from serendip.statistics.compound import effective_number
from serendip.statistics.ranges import outer_edges

__all__ = ["diagnostics"]

_BINS = 30
_SIGNAL_SIZE = ("fraction", "fraction_error", "trained_fraction", "gain", "floor_gain")
_MIN_BACKGROUND = 20


def diagnostics(
    config: SearchConfig,
    events: Events,
    fold: NDArray[np.int64],
    measurement: Measurement,
    tasks: Mapping[tuple[str, Window], TaskResult],
    *,
    blinded: bool,
) -> Diagnostics:
    """Everything the report draws. Blinded: nothing that is counted in a window, except by expectation."""
    tested = {where: ~np.isnan(task.scores) for where, task in tasks.items()}
    return Diagnostics(
        schema_version=1,
        mass_name=events.mass,
        unit="GeV",
        features=events.features,
        spectra=_spectra(events, measurement, config.windows if blinded else ()),
        weighted=weighted_looks(config, events, measurement, blinded=blinded),
        scores=[
            _score_histogram(events, where, measurement, window_fit, tested[where], blinded=blinded)
            for where, window_fit in _window_fits(measurement).items()
        ],
        closure=[
            Closure(method=method, window=(window.low, window.high), **task.facts["closure"])
            for (method, window), task in tasks.items()
            if task.facts["closure"]
        ],
        selected=[] if blinded else _selected(events, measurement, tasks),
        correlation=[
            _correlation(config, events, where, measurement, window_fit, tested[where])
            for where, window_fit in _window_fits(measurement).items()
        ],
        truth=None if blinded or events.label is None else _truth(events, measurement, tested),
    )


def _window_fits(measurement: Measurement) -> dict[tuple[str, Window], WindowFit]:
    return {(look.method, look.window_fit.window): look.window_fit for look in measurement.looks}


def _left_out(events: Events, window_fit: WindowFit, hidden: Sequence[Window]) -> LeftOut | None:
    """Spectrum outside the range of a fit; no number of events on a side that touches a hidden window."""
    sides = []
    for edges in outer_edges(events.m, window_fit.edges):
        outside = (events.m >= edges[0]) & (events.m < edges[-1])
        counts = np.histogram(events.m[outside], edges, weights=events.weights[outside])[0]
        observed = shown(counts, edges, hidden)
        n_events = None if None in observed else np.count_nonzero(outside)
        sides.append(LeftOutSide(edges=edges, observed=observed, n_events=n_events))
    return LeftOut(reason=window_fit.left_out.reason, sides=sides) if sides else None


def _spectra(events: Events, measurement: Measurement, hidden: Sequence[Window]) -> list[Spectrum]:
    spectra = []
    uneven = events.weight is not None or events.groups is not None
    for window_fit in {fit.window: fit for fit in _window_fits(measurement).values()}.values():
        squares = squares_in_bins(events, window_fit, events.weights) if uneven else None
        left_out = _left_out(events, window_fit, hidden)
        spectra.append(
            spectrum_record(
                None,
                window_fit,
                window_fit.counts,
                window_fit.inclusive,
                hidden,
                squares=squares,
                left_out=left_out,
            )
        )
    for i, look in enumerate(measurement.looks):
        fit, squares = look.result.spectrum, None
        # the mean over orders is drawn with the errors of one: its own are unknown, since each trains on events that another tests
        if look.working_point is None:
            factors = measurement.ranked[look.method, look.window_fit.window]
        else:
            factors = measurement.counts(look)[None]
        if look.working_point is None or uneven:
            each = [squares_in_bins(events, look.window_fit, f * events.weights) for f in factors]
            squares = np.mean(each, axis=0)
        spectra.append(spectrum_record((i, look), look.window_fit, fit.counts, fit, hidden, squares=squares))
    return spectra


def _score_histogram(
    events: Events,
    where: tuple[str, Window],
    measurement: Measurement,
    window_fit: WindowFit,
    tested: NDArray[np.bool_],
    *,
    blinded: bool,
) -> Scores:
    method, window = where
    efficiency = measurement.efficiency[where]
    known = tested & ~np.isnan(efficiency)
    depth = np.full(len(events), np.nan)
    depth[known] = -np.log10(np.maximum(efficiency[known], 1e-12))
    inside, beside = window.contains(events.m), window_fit.sideband(events.m)
    # a blinded axis ends where the sidebands do
    reach = depth[beside] if blinded else depth
    edges = np.linspace(0, max(4.0, np.ceil(np.max(reach[~np.isnan(reach)], initial=0.0))), 21)

    def fractions(mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        rows = mask & known
        total = events.weights[rows].sum()
        if total <= 0:
            return None
        return np.asarray(np.histogram(depth[rows], edges, weights=events.weights[rows])[0] / total)

    show_truth = events.label is not None and not blinded
    return Scores(
        method=method,
        window=(window.low, window.high),
        edges=edges,
        sideband=fractions(beside),
        signal_region=None if blinded else fractions(inside),
        truth_signal=fractions(inside & events.labels) if show_truth else None,
        scale="minus log10 of background efficiency",
    )


def _selected(
    events: Events, measurement: Measurement, tasks: Mapping[tuple[str, Window], TaskResult]
) -> list[Selected]:
    out = []
    x = events.x
    for i, look in enumerate(measurement.looks):
        window = look.window_fit.window
        task = tasks[look.method, window]
        inside = window.contains(events.m)
        counted = measurement.counts(look) * events.weights
        chosen = inside & (counted > 0)
        truth = inside & events.labels if events.label is not None else np.zeros(len(events), bool)
        features = []
        if len(task.signal):
            edges = np.linspace(window.low, window.high, _BINS + 1)
            features.append(
                SelectedFeature(
                    name=events.mass,
                    edges=edges,
                    selected=_fractions(events.m[chosen], edges, counted[chosen]),
                    learned_signal=_fractions(task.signal[:, 0], edges),
                    truth_signal=_fractions(events.m[truth], edges, events.weights[truth]),
                )
            )
        for j, name in enumerate(events.features):
            edges = _feature_edges(x[inside, j] if inside.any() else x[:, j])
            features.append(
                SelectedFeature(
                    name=name,
                    edges=edges,
                    selected=_fractions(x[chosen, j], edges, counted[chosen]),
                    template=_fractions(task.template[:, j], edges, task.template_weights),
                    learned_signal=_fractions(task.signal[:, 1 + j], edges),
                    truth_signal=_fractions(x[truth, j], edges, events.weights[truth]),
                )
            )
        # runs of earlier versions end with the fraction in training
        size = dict(zip(_SIGNAL_SIZE, task.signal_size, strict=False))
        groups = None if events.groups is None else events.groups[chosen]
        out.append(
            Selected(
                look=i,
                method=look.method,
                window=(window.low, window.high),
                working_point=look.working_point,
                n=np.count_nonzero(chosen),
                effective=effective_number(counted[chosen], groups),
                learned_signal=LearnedSignal(**size) if size else None,
                features=features,
            )
        )
    return out


def _feature_edges(values: NDArray[np.float32]) -> NDArray[np.float64]:
    low, high = (float(q) for q in np.quantile(values, [0.002, 0.998]))
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)


def _fractions(
    values: NDArray[Any], edges: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64] | None:
    if weights is None:
        weights = np.ones(len(values))
    if len(values) == 0 or weights.sum() <= 0:
        return None
    return np.asarray(
        np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=weights)[0] / weights.sum()
    )


def _correlation(
    config: SearchConfig,
    events: Events,
    where: tuple[str, Window],
    measurement: Measurement,
    window_fit: WindowFit,
    tested: NDArray[np.bool_],
) -> Correlation:
    """Distance correlation of score and mass in the sidebands, with its 99 % limit under independence."""
    method, window = where
    rows = np.flatnonzero(tested & window_fit.sideband(events.m))
    rng = np.random.default_rng([config.seed, 0xDC])
    rows = rng.choice(rows, min(len(rows), 2000), replace=False)
    rank, mass = measurement.efficiency[where][rows], events.m[rows]
    correlation, limit = distance_correlation(rank, mass)
    return Correlation(
        method=method,
        window=(window.low, window.high),
        distance_correlation=correlation,
        null_level=limit,
    )


def _truth(
    events: Events, measurement: Measurement, tested: Mapping[tuple[str, Window], NDArray[np.bool_]]
) -> Truth:
    labels = events.labels
    cuts = {look.working_point for look in measurement.looks if look.working_point is not None}
    working_points = sorted(cuts, reverse=True)
    curves = []
    for (method, window), efficiency in measurement.efficiency.items():
        rows = window.contains(events.m) & tested[method, window]
        if not labels[rows].any() or labels[rows].all():
            continue
        curve = sic_curve(
            labels[rows], -efficiency[rows], events.weights[rows], min_background=_MIN_BACKGROUND
        )
        best = max_sic(curve)
        # a tight working point may leave fewer background events than a quoted SIC needs
        at = {str(point): sic_at(curve, point) for point in working_points if point >= curve.eps_b.min()}
        thin = np.unique(np.linspace(0, len(curve.eps_b) - 1, 300).astype(int))
        curves.append(
            Roc(
                method=method,
                window=(window.low, window.high),
                max_sic=best.sic,
                max_sic_error=best.error,
                min_background=_MIN_BACKGROUND,
                sic_at={name: (point.sic, point.error) for name, point in at.items()},
                eps_b=curve.eps_b[thin],
                sic=curve.sic[thin],
            )
        )
    in_windows = np.any([window.contains(events.m) for _, window in measurement.efficiency], axis=0)
    return Truth(signal_in_window=(labels & in_windows).sum(), roc=curves)
