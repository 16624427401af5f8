"""Results of a null test: false-positive rates, the spread of the count, and checks on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serendip.events.events import Window
from serendip.search.null_experiment import SAME_DATA
from serendip.search.pseudo_data import rate_error
from serendip.statistics.calibration import NullDistribution, cross_calibrated
from serendip.statistics.pvalues import wilson_interval
from serendip.validate.base import Check, look_name

__all__ = ["column", "dispersion", "judge"]

Array = NDArray[np.float64]

_SUMMED = "kfold-summed"
_LEVELS = {
    "5 %": 0.05,
    "1 %": 0.01,
    "0.3 %": 0.003,
    "1 sigma": float(stats.norm.sf(1)),
    "2 sigma": float(stats.norm.sf(2)),
    "3 sigma": float(stats.norm.sf(3)),
}
_CHECKED = ("5 %", "1 %", "0.3 %")


def column(experiments: Sequence[dict[str, Any]], combination: str, i: int, name: str) -> Array:
    """One number of look ``i`` in all experiments, shape ``(n_experiments,)``."""
    return np.array([found["looks"][combination][i][name] for found in experiments], dtype=float)


def judge(
    experiments: list[dict[str, Any]], alarm: float, shared: float, window: Window
) -> tuple[list[dict[str, Any]], list[Check]]:
    """Rates of every look of every combination, and their meaning.

    Parameters
    ----------
    experiments
        As :func:`serendip.search.null_experiment.run_null_experiment` returns them.
    alarm
        A rate fails if it, or a larger one, has a smaller probability than this at the nominal level.
    shared
        Fraction of its events that a sample has in common with another one.
    window
        The signal region, for the names.

    Returns
    -------
    One JSON-able row for each combination, method and working point, and the checks.
    """
    rows, checks = [], []
    for combination in dict.fromkeys(name for found in experiments for name in found["looks"]):
        of_it = [found for found in experiments if combination in found["looks"]]
        for i, look in enumerate(of_it[0]["looks"][combination]):
            z, observed, expected, error, scale = (
                column(of_it, combination, i, name)
                for name in ("z", "observed", "expected", "expected_error", "scale")
            )
            naive = stats.norm.sf(z)
            p = cross_calibrated(z) if combination == _SUMMED else naive
            row = {
                "method": look["method"],
                "working_point": look["working_point"],
                "combination": combination,
                "n": len(p),
                **_rates(p, shared),
                "count": dispersion(observed / scale, expected / scale, error / scale),
                "p": sorted(float(f"{value:.4g}") for value in p),
            }
            if combination == _SUMMED:
                tail = NullDistribution(z).tail
                row["naive"] = _rates(naive, shared)
                row["line"] = tail and vars(tail) | {"inflation": list(tail.inflation)}
            rows.append(row)
            name = f"{look['method']}, {window}, {look_name(look['working_point'])}, {combination}"
            checks += _control(row, alarm, name) if combination == SAME_DATA else _checks(row, alarm, name)
    return rows, checks


def _rates(p: Array, shared: float) -> dict[str, Any]:
    """Fractions below the levels with their errors, and the Kolmogorov-Smirnov test of p against a uniform one."""
    n, rates = len(p), []
    for name, level in _LEVELS.items():
        k = int(np.count_nonzero(p < level))
        nominal = rate_error(level, n, shared)
        excess = (
            float(stats.norm.sf((k / n - level) / nominal))
            if shared
            else float(stats.binom.sf(k - 1, n, level))
        )
        rates.append(
            {
                "level": name,
                "nominal": level,
                "k": k,
                "rate": k / n,
                "error": rate_error(max(k / n, 1 / n), n, shared),
                "interval_68": list(wilson_interval(k, n)),
                "p_at_least": excess,
            }
        )
    # n as it would be if the samples were independent
    effective = max(2, round(n / (1 + (n - 1) * shared)))
    distance = float(stats.ks_1samp(p, stats.uniform.cdf, alternative="greater").statistic)
    return {
        "rates": rates,
        "ks": {"too_small": distance, "p": float(stats.ksone.sf(distance, effective))},
    }


def dispersion(observed: Array, expected: Array, error: Array) -> dict[str, float]:
    """Mean and variance of the count, relative to a Poisson one with the error of its expectation.

    Parameters
    ----------
    observed, expected, error
        In Poisson units, shape ``(n_experiments,)``.
    """
    n = len(observed)
    pull = (observed - expected) / np.sqrt(np.maximum(expected, 1e-9) + error**2)
    squared = (pull - pull.mean()) ** 2
    variance = float(squared.sum() / (n - 1))
    difference = observed - expected
    return {
        "mean_observed": float(observed.mean()),
        "mean_expected": float(expected.mean()),
        "mean_ratio": float(observed.mean() / max(expected.mean(), 1e-9)),
        "mean_ratio_error": float(difference.std(ddof=1) / np.sqrt(n) / max(expected.mean(), 1e-9)),
        "pull_mean": float(pull.mean()),
        "pull_mean_error": float(np.sqrt(variance / n)),
        "variance_ratio": variance,
        # from the fourth moment, so that it holds for few counts too
        "variance_ratio_error": float(squared.std(ddof=1) / np.sqrt(n)),
    }


def _checks(row: dict[str, Any], alarm: float, name: str) -> list[Check]:
    calibrated = row["combination"] == _SUMMED
    what = "calibrated p-values" if calibrated else "p-values"
    checks = [
        Check(
            f"false-positive rate at {rate['level']}, {name}",
            rate["p_at_least"] >= alarm,
            rate["rate"],
            rate["error"],
            f"not above {rate['nominal']:g} by more than chance (probability {alarm:g})",
            f"{what} of this search overstate the significance: {rate['k']} of {row['n']} samples without signal "
            f"(68 %: {rate['interval_68'][0]:.2g} to {rate['interval_68'][1]:.2g})",
        )
        for rate in row["rates"]
        if rate["level"] in _CHECKED
    ]
    checks.append(
        Check(
            f"p-values not too small, {name}",
            row["ks"]["p"] >= alarm,
            row["ks"]["too_small"],
            None,
            f"one-sided Kolmogorov-Smirnov distance with p of at least {alarm:g}",
            f"the {what} of background-only samples lie below a uniform distribution",
        )
    )
    if calibrated:
        count = row["count"]
        checks.append(
            Check(
                f"spread of the summed count, {name}",
                None,
                count["variance_ratio"],
                count["variance_ratio_error"],
                "1 for a Poisson count",
                "how much wider the sum over dependent folds is than it looks; the calibration takes it into account",
            )
        )
    return checks


def _control(row: dict[str, Any], alarm: float, name: str) -> list[Check]:
    (rate,) = (rate for rate in row["rates"] if rate["level"] == "5 %")
    return [
        Check(
            f"control: the test can fail, {name}",
            True if rate["p_at_least"] < alarm else None,
            rate["rate"],
            rate["error"],
            f"above {rate['nominal']:g} by more than chance (probability {alarm:g})",
            "training and testing on the same events must overstate the significance; if it is not, these experiments are too few, "
            "or the method hardly learns",
        )
    ]
