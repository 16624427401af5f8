"""From ln R of events to the numbers of ``infer.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.stats import chi2

from serendip.search.infer.config import InferConfig
from serendip.statistics.mixture import MixtureLikelihood, upper_limit
from serendip.statistics.mixture_toys import BANDS, Templates, global_p, neyman
from serendip.statistics.pvalues import binomial_interval, toy_p_value, z_value

__all__ = ["Arrays", "family_results", "retrained", "scanned", "strength", "toy_summary"]

Array = NDArray[np.float64]

_CURVE = 81
_SIDES = ("below", "above")


@dataclass(frozen=True, eq=False)
class Arrays:
    """Ln R of everything that a measurement needs.

    Attributes
    ----------
    log_ratio, weights
        Of the tested events, shape ``(n,)``.
    halves
        ln R of the same events over the background of each half sample, shape ``(h, n)``.
    draws_background, draws_signal
        Of events drawn from the densities, shape ``(folds, k)``.
    control
        Of the events of each control window, with their weights.
    """

    log_ratio: Array
    weights: Array
    halves: Array
    draws_background: Array
    draws_signal: Array
    control: dict[str, tuple[Array, Array]]

    @classmethod
    def of(cls, arrays: dict[str, Array], weights: Array, tested: NDArray[np.bool_]) -> Self:
        """Read them from the stored arrays; ``weights`` are those of the tested events."""
        control = {side: (arrays[f"control_{side}"], arrays[f"control_{side}_weights"]) for side in _SIDES}
        return cls(
            arrays["log_ratio"][tested], weights, arrays["halves"][:, tested],
            arrays["draws_background"], arrays["draws_signal"], control,
        )  # fmt: skip


def strength(
    config: InferConfig,
    data: Arrays,
    constraint: tuple[float, float] | None,
    rng: np.random.Generator,
    *,
    background: float,
    blinded: bool = False,
) -> dict[str, Any]:
    """Signal strength with its statistical and its total error.

    Parameters
    ----------
    constraint
        Expected background and its error, or None if it floats.
    background
        Expected background in any case.
    blinded
        ``data`` are events drawn from the background: only the expectation for an experiment is returned.
    """
    statistical = MixtureLikelihood(data.log_ratio, data.weights, background=constraint)
    error = _systematic(data, statistical, constraint, background)
    sigma = error["measured"] if config.spurious == "measured" else float(config.spurious)
    templates = Templates.from_draws(list(data.draws_background), list(data.draws_signal))
    out: dict[str, Any] = {
        "spurious": error | {"sigma": sigma},
        "normalisation": [templates.normalisation, templates.normalisation_error],
    }
    known = None if constraint is None else constraint[1]
    for name, spurious in (("statistical", 0.0), ("total", sigma)):
        empty = templates.expected(background, constraint=known, spurious=spurious, scale=statistical.scale)
        model = MixtureLikelihood(data.log_ratio, data.weights, background=constraint, spurious=spurious)
        out[name] = {
            # without signal, and with nothing known of the data in the window
            "expected_upper_limit_95": neyman(empty, templates, config.toys, rng).expected.tolist(),
            "bands": list(BANDS),
        }
        if blinded:
            continue
        out[name] |= {
            "fit": model.fit().to_dict(),
            "interval_68": list(model.interval(0.6827)),
            "interval_95": list(model.interval(0.95)),
            "upper_limit_95": upper_limit(model, empty),
            "toys": neyman(model, templates, config.toys, rng).to_dict(),
        }
    if not blinded:
        end = 1.1 * max(out["total"]["interval_95"][1], out["total"]["toys"]["interval_95"][1])
        count = np.linspace(0.0, end, _CURVE)
        total = MixtureLikelihood(data.log_ratio, data.weights, background=constraint, spurious=sigma)
        out["curve"] = {
            "count": count.tolist(),
            "statistical": statistical.t(count).tolist(),
            "total": total.t(count).tolist(),
        }
        out["log_ratio"] = _histogram(data, templates, out["statistical"]["fit"])
    return out


def _systematic(
    data: Arrays, model: MixtureLikelihood, constraint: tuple[float, float] | None, background: float
) -> dict[str, Any]:
    """The spurious signal from errors of the learnt background.

    The half samples measure the effect of the statistics of the sidebands, the control windows the result where there is no signal.
    """
    nominal = model.fit().count
    halves = [MixtureLikelihood(r, data.weights, background=constraint).fit().count for r in data.halves]
    spread = float(np.sqrt(np.mean((np.array(halves) - nominal) ** 2))) if halves else 0.0
    control: list[dict[str, Any]] = []
    for side, (ratio, weights) in data.control.items():
        if len(ratio):
            found = MixtureLikelihood(ratio, weights).fit()
            control.append({
                "side": side, "events": len(ratio), "fraction": found.fraction, "fraction_error": found.fraction_error,
                "count": found.fraction * background, "z": found.z,
            })  # fmt: skip
    largest = float(max((entry["count"] for entry in control), default=0.0))
    return {
        "half_samples": spread,
        "half_counts": halves,
        "control": control,
        "measured": float(np.hypot(spread, largest)),
    }


def _histogram(data: Arrays, templates: Templates, fit: dict[str, float]) -> dict[str, Any]:
    """Observed and expected ln R."""
    high = float(max(np.quantile(data.log_ratio, 0.9999), np.quantile(data.draws_signal, 0.9), 2.0))
    edges = np.linspace(-8.0, high + 1.0, 46)

    def binned(values: Array, weights: Array) -> list[float]:
        # the ends of the axis include the values beyond
        counts = np.histogram(np.clip(values, edges[0], edges[-1] - 1e-9), edges, weights=weights)[0]
        return [float(value) for value in counts]

    return {
        "edges": edges.tolist(),
        "observed": binned(data.log_ratio, data.weights),
        "background": binned(templates.log_ratio, fit["background"] * templates.background),
        "signal": binned(templates.log_ratio, fit["count"] * templates.signal),
    }


def scanned(points: list[tuple[float, Array]], weights: Array) -> dict[str, Any]:
    """Likelihood of the held-out events with a signal trained at each fraction (arXiv:2506.00119).

    Between the points ln L is a spline in ln w, and without signal it is 0. The ends of the intervals are where it drops by
    0.5 and 1.92; None: not within the scanned fractions.

    Parameters
    ----------
    points
        Fraction, and ln R of the events by the signal that was trained with it, shape ``(n,)``.
    weights
        Their weights, shape ``(n,)``.
    """
    scale = float((weights**2).sum() / weights.sum())
    w = np.array([fraction for fraction, _ in points])
    gain = np.array([
        float((weights / scale) @ np.log1p(f * np.expm1(np.clip(ratio, -60, 60)))) for f, ratio in points
    ])  # fmt: skip
    fine = np.geomspace(w[0], w[-1], 1001)
    curve = CubicSpline(np.log(w), gain)(np.log(fine)) if len(w) > 2 else np.interp(fine, w, gain)
    best = int(np.argmax(curve))
    # between points that are all worse than no signal, the spline has no meaning
    found = bool(gain.max() > 0)
    top = float(curve[best]) if found else 0.0
    total = float(weights.sum())
    result: dict[str, Any] = {
        "fraction": w.tolist(), "gain": gain.tolist(), "best_fraction": float(fine[best]) if found else 0.0,
        "count": float(fine[best]) * total if found else 0.0, "best_gain": top,
    }  # fmt: skip
    for name, level in (("interval_68", 0.6827), ("interval_95", 0.95)):
        inside = np.flatnonzero(curve >= top - 0.5 * chi2.ppf(level, 1))
        holds_zero = top <= 0.5 * chi2.ppf(level, 1)
        low = 0.0 if holds_zero else float(fine[inside[0]]) * total if inside[0] > 0 else None
        high = (
            None
            if len(inside) and inside[-1] == len(fine) - 1
            else float(fine[inside[-1]]) * total
            if len(inside)
            else 0.0
        )
        result[name] = [low, high]
    return result


def toy_summary(
    log_ratio: Array, weights: Array, constraint: tuple[float, float] | None, count: float
) -> Array:
    """Count, error, 2 gain, and whether the 68 and 95 % intervals hold the true count, shape ``(5,)``."""
    model = MixtureLikelihood(log_ratio, weights, background=constraint)
    fit = model.fit()
    inside = [low <= count <= high for low, high in (model.interval(level) for level in (0.6827, 0.95))]
    return np.array([fit.count, fit.error, 2 * fit.gain, *inside], dtype=float)


def retrained(toys: Array, count: float, fit: dict[str, float]) -> dict[str, Any]:
    """Bias, coverage and significance from the pseudo-experiments with a relearnt signal."""
    n = len(toys)
    found = toys[:, 0]
    out: dict[str, Any] = {
        "toys": n, "true_count": count, "mean_count": float(found.mean()),
        "mean_count_error": float(found.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "spread": float(found.std(ddof=1)) if n > 1 else None, "mean_error": float(toys[:, 1].mean()),
        "coverage_68": float(toys[:, 3].mean()), "coverage_68_interval": list(binomial_interval(int(toys[:, 3].sum()), n)),
        "coverage_95": float(toys[:, 4].mean()), "coverage_95_interval": list(binomial_interval(int(toys[:, 4].sum()), n)),
        "counts": found.tolist(),
    }  # fmt: skip
    if count == 0:
        q0 = 2 * fit["gain"]
        p, interval = toy_p_value(int((toys[:, 2] >= q0 - 1e-9).sum()), n)
        p = p if fit["count"] > 0 else 0.5
        out |= {"p0": p, "z0": float(z_value(p)), "p0_interval_68": list(interval)}
    return out


def family_results(
    config: InferConfig,
    table: Array,
    draws: Array,
    weights: Array,
    grid: Array,
    constraint: tuple[float, float] | None,
    rng: np.random.Generator,
    *,
    arrays_at: Callable[[Array], Arrays],
    background: float,
    blinded: bool,
) -> tuple[dict[str, Any], Array]:
    """Signal strength and parameters of a simulated family.

    Parameters
    ----------
    table, draws
        ln R of the data and of events drawn from the background at each point of the grid, shapes ``(points, n)`` and
        ``(points, k)``.
    weights
        Of the data, shape ``(n,)``.
    grid
        Parameters of each point, shape ``(points, parameters)``.
    constraint, background, blinded
        As in :func:`strength`.
    arrays_at
        ln R of everything at one point of the parameters.

    Returns
    -------
    The results, and the best parameters.
    """
    models = [MixtureLikelihood(row, weights, background=constraint) for row in table]
    fits = [model.fit() for model in models]
    best = int(np.argmax([fit.gain for fit in fits]))
    out = strength(config, arrays_at(grid[best]), constraint, rng, background=background, blinded=blinded)
    sigma = out["spurious"]["sigma"]
    out["parameters"] = {"names": list(config.parameters), "points": grid.tolist()}
    if blinded:
        return out, grid[best]
    out["parameters"] |= {
        "best": grid[best].tolist(),
        "gain": [fit.gain for fit in fits],
        "count": [fit.count for fit in fits],
    }
    q0, p, interval = global_p(
        (table, weights),
        (draws, np.ones(draws.shape[1])),
        config.toys,
        rng,
        background=constraint,
        spurious=sigma,
    )
    out["global"] = {
        "q0": q0, "p": p, "z": float(z_value(p)), "p_interval_68": list(interval), "toys": config.toys,
        "points": len(grid),
    }  # fmt: skip
    if config.parameters:
        total = [MixtureLikelihood(row, weights, background=constraint, spurious=sigma) for row in table]
        end = 1.2 * max(
            out["total"]["interval_95"][1],
            *(fit.count + 2 * fit.error for fit in fits if fit.gain > fits[best].gain - 3),
        )
        count = np.linspace(0.0, end, _CURVE // 2)
        # ln L of all models is measured from the same origin: no signal and no spurious signal
        origin = [fit.gain for fit in fits]
        log_l = np.stack([0.5 * -model.t(count) for model in total]) + np.array(origin)[:, None]
        out["parameters"] |= {"counts": count.tolist(), "log_l": (log_l - log_l.max()).tolist()}
    return out, grid[best]
