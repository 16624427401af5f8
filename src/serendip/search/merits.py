r"""Performance of one method on one injection, measured with the truth labels.

Efficiencies are those of events in the window; each event is scored by a model that was not trained on it, and scores of
different models are made comparable by the sideband events of their fold before they are pooled. With several orders of
the folds, each event has the score of the model that saw most of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from serendip.classify.separation import two_sample_auc
from serendip.errors import InputError
from serendip.events.audit import distance_correlation
from serendip.events.events import Events
from serendip.events.groups import one_of_each
from serendip.methods.figures_of_merit import (
    SicCurve,
    SicPoint,
    max_sic,
    sic_at,
    sic_curve,
    smallest_strength,
)
from serendip.methods.registry import get_method
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.folds import cross_training_plan, event_folds
from serendip.search.measure import Look, Measurement, measure, prepare_window
from serendip.search.sight import dead_looks
from serendip.statistics.combination import in_order
from serendip.statistics.compound import effective_number, group_sums
from serendip.statistics.ranks import pooled_efficiency

__all__ = ["best_trained", "mass_shape", "merits"]

_CURVE_POINTS = 120
_CORRELATION_EVENTS = 2000
_FEWEST_PER_BIN = 5.0


def merits(
    config: SearchConfig, events: Events, result: TaskResult, *, min_background: int = 26
) -> dict[str, Any]:
    """Measure the one method of ``config`` in its one window.

    Parameters
    ----------
    config
        The search, with one method and one window.
    events
        Background and injected signal, labelled.
    result
        The finished training.
    min_background
        Background events that a quoted SIC leaves at least.

    Returns
    -------
    JSON-able: the entry of ``compare.json`` without its name and costs.
    """
    (name,), (window,) = config.method, config.windows
    fold = event_folds(events, config.folds, config.seed)
    window_fit = prepare_window(events, window, config)
    dead = dead_looks(config, events, fold, [window_fit])
    measurement = measure(
        config, events, fold, [window_fit], {(name, window): result}, blinded=False, trials=False
    )
    counted = fold if get_method(name).trains else np.zeros_like(fold)
    scores, seen = best_trained(config, fold, result)
    tested, inside, truth, w = (
        ~np.isnan(scores),
        window.contains(events.m),
        events.labels,
        events.weights,
    )
    sideband = window_fit.sideband(events.m)
    efficiency = pooled_efficiency(scores, counted, sideband, w)
    rows = inside & tested
    signal, background = w[inside & truth].sum(), w[inside & ~truth]
    rng = np.random.default_rng([config.seed, 0xC0])
    correlated = np.flatnonzero(sideband & tested)
    correlated = rng.choice(correlated, min(len(correlated), _CORRELATION_EVENTS), replace=False)
    correlation, limit = distance_correlation(efficiency[correlated], events.m[correlated])
    # cuts are made in the first order of the folds
    spectrum = window_fit.in_range(events.m) & ~np.isnan(result.scores) & ~truth
    return {
        "signal_in_window": int(np.count_nonzero(inside & truth)),
        "signal_total": int(np.count_nonzero(truth)),
        "background_in_window": len(background),
        # equal weights of any size leave S/sqrt(B) as it is
        "s_over_sqrt_b": float(signal / np.sqrt((background**2).sum())),
        **_roc(
            truth[rows],
            -efficiency[rows],
            w[rows],
            get_method(name).working_points or config.working_points,
            min_background,
            effective_number(background),
        ),
        "trained_fraction": float(seen[rows].mean()) if get_method(name).trains else None,
        "looks": [
            _look(look, dead.get((name, window, look.working_point)))
            | _signal_and_variance(_counts(measurement, look) * (w * inside), truth, events.groups)
            | {
                "mass_shape": None
                if look.working_point is None
                else mass_shape(
                    events.m[spectrum],
                    (measurement.counts(look) > 0)[spectrum],
                    window_fit.edges,
                    w[spectrum],
                ),
            }
            for look in measurement.looks
        ],
        "template": _template(config, events, result, fold, rng),
        "distance_correlation": correlation,
        "distance_correlation_null": limit,
    }


def best_trained(
    config: SearchConfig, fold: NDArray[np.int64], result: TaskResult
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score of each event by the model that saw most of the data, but not the event, and the fraction of the folds that it saw.

    Parameters
    ----------
    config
        The search, with one method.
    fold
        Fold of each event, shape ``(n,)``.
    result
        The finished training.

    Returns
    -------
    Both of shape ``(n,)``; the score is NaN where no order tests the fold.
    """
    (name,) = config.method
    if not (get_method(name).trains and in_order(config.combination)):
        return result.scores, np.full(len(fold), 1.0 - 1.0 / config.folds)
    place = config.positions[:, fold]
    last = place.argmax(axis=0)
    return np.stack(result.all_scores)[last, np.arange(len(fold))], place.max(axis=0) / config.folds


def mass_shape(
    mass: NDArray[np.float64],
    selected: NDArray[np.bool_],
    edges: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> dict[str, float] | None:
    r"""Does a cut change the mass spectrum of background? Selected events against all events.

    .. math:: \chi^2 = \sum_i \frac{(n_i - \varepsilon N_i)^2}{\varepsilon (1 - \varepsilon) \sum_{j \in i} w_j^2},
        \qquad \varepsilon = \frac{\sum n_i}{\sum N_i}

    with :math:`N_i` and :math:`n_i` the sums of weights before and after the cut; one degree of freedom less than
    bins, since :math:`\varepsilon` is that of the sample. Neighbouring bins are joined until five selected events are
    expected in each.

    Parameters
    ----------
    mass, selected, weights
        Background events, shape ``(n,)``.
    edges
        Bin edges in GeV.

    Returns
    -------
    ``chi2``, ``ndf`` and ``p``; None if all or none are selected or fewer than two bins are left.
    """
    total, squared, kept = (
        np.histogram(mass[rows], edges, weights=values[rows])[0]
        for rows, values in ((slice(None), weights), (slice(None), weights**2), (selected, weights))
    )
    share = kept.sum() / total.sum() if total.sum() > 0 else 0.0
    if not 0 < share < 1:
        return None
    effective = np.divide(total**2, squared, out=np.zeros_like(total), where=squared > 0)
    group, expected, groups = 0, 0.0, []
    for events in share * effective:
        if expected >= _FEWEST_PER_BIN:
            group, expected = group + 1, 0.0
        groups.append(group)
        expected += events
    if expected < _FEWEST_PER_BIN and group > 0:
        groups = [min(g, group - 1) for g in groups]
    total, squared, kept = (np.bincount(groups, values) for values in (total, squared, kept))
    ndf = len(total) - 1
    if ndf < 1:
        return None
    value = float(((kept - share * total) ** 2 / (share * (1 - share) * squared)).sum())
    return {"chi2": value, "ndf": ndf, "p": float(chi2.sf(value, ndf))}


def _roc(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    weights: NDArray[np.float64],
    working_points: tuple[float, ...],
    min_background: int,
    background: float,
) -> dict[str, Any]:
    """SIC and AUC in the window, and the smallest signal for 5 sigma over so much background; None without signal."""
    nothing: dict[str, Any] = {
        "auc": None,
        "max_sic": None,
        "sigma_min": None,
        "sic_at": [],
        "sic_curve": None,
    }
    if weights[truth].sum() <= 0 or weights[~truth].sum() <= 0:
        return nothing
    from sklearn.metrics import roc_auc_score

    auc = float(roc_auc_score(truth, score, sample_weight=weights))
    curve = sic_curve(truth, score, weights, min_background=min_background)
    if len(curve.sic) == 0:
        return nothing | {"auc": auc}
    at = []
    for point in working_points:
        try:
            at.append({"working_point": point, **_point(sic_at(curve, point))})
        except InputError:
            continue  # too few background events are left, or the scores are too coarse
    return {
        "auc": auc,
        "max_sic": _point(max_sic(curve)) | {"min_background": min_background},
        "sigma_min": _strength(curve, background),
        "sic_at": at,
        "sic_curve": _thinned(curve),
    }


def _point(point: SicPoint) -> dict[str, float]:
    return {
        "sic": point.sic,
        "error": point.error,
        "eps_s": point.eps_s,
        "eps_b": point.eps_b,
        "background": point.background,
    }


def _strength(curve: SicCurve, background: float) -> dict[str, float]:
    strength, point = smallest_strength(curve, background)
    return {"s_over_sqrt_b": strength, "eps_s": point.eps_s, "eps_b": point.eps_b}


def _thinned(curve: SicCurve) -> dict[str, list[float]]:
    """Thresholds at equal steps of ln ε_B, with five digits."""
    wanted = np.geomspace(curve.eps_b[0], curve.eps_b[-1], _CURVE_POINTS)
    rows = np.unique(np.clip(np.searchsorted(curve.eps_b, wanted * (1 + 1e-9), side="right") - 1, 0, None))
    columns = {"eps_b": curve.eps_b, "eps_s": curve.eps_s, "sic": curve.sic, "error": curve.error}
    return {name: [float(f"{value:.5g}") for value in values[rows]] for name, values in columns.items()}


def _look(look: Look, dead: str | None) -> dict[str, Any]:
    kept = ("working_point", "observed", "expected", "expected_error", "p_local", "z_local", "combination")
    found = {key: getattr(look.result, key) for key in kept}
    # a cut that cannot select anything gives no measurement
    found |= {"p_local": None, "z_local": None} if dead else {}
    return found | {"scale": look.result.spectrum.scale, "warning": dead or look.result.warning}


def _signal_and_variance(
    counts: NDArray[np.float64], truth: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> dict[str, float]:
    """Contribution of the signal to the count of a look, and variances: sums of squares over events or groups, means over orders.

    The variance of a mean over orders is at most the mean of their variances, whatever their dependence. Squares of the mean
    weights of events would be too small: trained on each other, the folds of different orders are not independent.
    """
    of_signal = None if groups is None else groups[truth]
    signal = [group_sums(row[truth], of_signal) for row in counts]
    return {
        "true_signal": float(np.mean([jumps.sum() for jumps in signal])),
        "true_signal_variance": float(np.mean([(jumps**2).sum() for jumps in signal])),
        "variance": float(np.mean([(group_sums(row, groups) ** 2).sum() for row in counts])),
    }


def _counts(measurement: Measurement, look: Look) -> NDArray[np.float64]:
    """With which factor each event counts in each order, shape ``(n_orders, n)``."""
    if look.working_point is None:
        return measurement.ranked[look.method, look.window_fit.window]
    return measurement.counts(look)[None]


def _template(
    config: SearchConfig,
    events: Events,
    result: TaskResult,
    fold: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, float | None]:
    """Closure in held-out sidebands, and the template against the true background of the window."""
    (name,), (window,) = config.method, config.windows
    closure = result.facts.get("closure")
    found: dict[str, float | None] = {
        "closure_auc": closure["auc"] if closure else None,
        "closure_error": closure["auc_error"] if closure else None,
        "truth_auc": None,
        "truth_error": None,
    }
    rows = window.contains(events.m) & ~events.labels & (events.weights > 0)
    if get_method(name).uses_labels:
        # the template of a reference is true background: only held-out events are a test
        plan = cross_training_plan(fold, config.folds, config.combination)
        rows &= fold == plan.scores[-1][0]
    if events.groups is not None:
        chosen = one_of_each(np.flatnonzero(rows), events.groups, np.random.default_rng([config.seed, 0x6F]))
        rows = np.isin(np.arange(len(events)), chosen)
    used = result.template_weights > 0
    if min(np.count_nonzero(rows), np.count_nonzero(used)) >= 50:
        found["truth_auc"], found["truth_error"] = two_sample_auc(
            events.x[rows], events.weights[rows], result.template[used], result.template_weights[used], rng
        )
    return found
