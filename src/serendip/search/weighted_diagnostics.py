"""The numbers of the figures of looks whose events are weighted by the ranks of their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Events
from serendip.search.config import SearchConfig
from serendip.search.diagnostic_records import HeavyEvent, OrderOfFolds, WeightCurve, Weighted, Weights
from serendip.search.measure import Look, Measurement, weight_scale
from serendip.search.spectrum_records import spectrum_record, squares_in_bins
from serendip.statistics.weighting import LOOSEST_RANK, ratio_weights

__all__ = ["HEAVIEST", "weighted_looks"]

HEAVIEST = 20
"""Events of the window in the table of those with the largest weights."""

_POINTS = 60
_CURVES = 5


def weighted_looks(
    config: SearchConfig, events: Events, measurement: Measurement, *, blinded: bool
) -> list[Weighted]:
    """For each weighted look that is not dead: its weights, its single orders, and (unblinded) its heaviest events."""
    return [
        Weighted(
            look=i,
            method=look.method,
            window=(look.window_fit.window.low, look.window_fit.window.high),
            weights=_weights(config, events, look),
            orders=_orders(config, events, measurement, i, blinded=blinded),
            heaviest=None if blinded else _heaviest(events, measurement, look),
        )
        for i, look in enumerate(measurement.looks)
        if look.working_point is None and look.result.dead is None
    ]


def _weights(config: SearchConfig, events: Events, look: Look) -> Weights:
    """The weight as a function of the rank, for folds at some places of the order."""
    scale, beside = weight_scale(config, events, look.window_fit)
    rank = np.geomspace(1.0 / beside, np.nextafter(LOOSEST_RANK, 0.0), _POINTS)
    places = np.unique(np.linspace(1, config.folds - 1, min(_CURVES, config.folds - 1)).round().astype(int))
    curves = [
        WeightCurve(place=place, weight=ratio_weights(rank, np.full(_POINTS, place), config.folds, scale))
        for place in places
    ]
    return Weights(scale=scale, loosest_rank=LOOSEST_RANK, n_folds=config.folds, rank=rank, curves=curves)


def _orders(
    config: SearchConfig, events: Events, measurement: Measurement, index: int, *, blinded: bool
) -> list[OrderOfFolds]:
    look = measurement.looks[index]
    hidden = config.windows if blinded else ()
    ranked = measurement.ranked[look.method, look.window_fit.window]
    records = []
    for order, (result, weight) in enumerate(
        zip(look.result.orders or (look.result,), ranked, strict=True), 1
    ):
        fit = result.spectrum
        squares = squares_in_bins(events, look.window_fit, weight * events.weights)
        spectrum = spectrum_record((index, look), look.window_fit, fit.counts, fit, hidden, squares=squares)
        of_order = {"order": order, "effective_events": result.effective, "spectrum": spectrum}
        records.append(OrderOfFolds.model_validate(vars(result) | of_order))
    return records


def _heaviest(events: Events, measurement: Measurement, look: Look) -> list[HeavyEvent]:
    """The events of the window with the largest weights."""
    counted = measurement.counts(look) * events.weights
    rows = np.flatnonzero(look.window_fit.window.contains(events.m) & (counted > 0))
    # equal weights are ordered by id, since the events are
    rows = rows[np.argsort(-counted[rows], kind="stable")[:HEAVIEST]]
    ids = {name: _plain(np.asarray(values)[rows]) for name, values in events.id_columns.items()}
    return [
        HeavyEvent(
            id={name: values[k] for name, values in ids.items()},
            mass=events.m[row],
            features=[float(events.columns[name][row]) for name in events.features],
            weight=counted[row],
            label=None if events.label is None else bool(events.labels[row]),
        )
        for k, row in enumerate(rows)
    ]


def _plain(values: NDArray[Any]) -> list[Any]:
    """Integers, or text."""
    return [int(v) if isinstance(v, int | np.integer) else str(v) for v in values.tolist()]
