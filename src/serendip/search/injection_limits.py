r"""Upper limits of searches whose efficiency depends on how much signal there is.

A weakly supervised selection finds a signal only if there is enough of it to learn from, so that the limit on a signal is
not one number divided by one efficiency. For each injected yield N, the selection trained with these N events gives

.. math:: N_\mathrm{UL}(N) = s_\mathrm{UL}(n, b, \sigma_b) / \varepsilon(N)

with the CLs upper limit :math:`s_\mathrm{UL}` on the selected signal and the efficiency :math:`\varepsilon(N)` of the
injected events. Every N with :math:`N_\mathrm{UL}(N) \le N` is excluded; the limit is the smallest such N. Observed limits
count the data without the injected events. Method: arXiv:2005.02983, arXiv:2412.03747.

Of weighted events n and b are sums of weights and :math:`\varepsilon` is the mean weight of an injected event. The sum counts in units of

.. math:: c = \frac{b\, c_b + s_\mathrm{UL}\, c_s}{b + s_\mathrm{UL}}, \qquad c_k = \frac{\sum w^2}{\sum w}

of background outside the window and of signal: at the limit it has the variance of a Poisson number, with more background-only variance than
there is, since signal is heavier. Several orders of the folds count with the mean of their sums and of their variances, which is at
least the variance of the mean. Both, and the shorter lower tail of a sum of unequal weights, lead to higher limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.statistics.combination import in_order
from serendip.statistics.limits import BANDS, upper_limit
from serendip.statistics.model import counting_data, counting_model

__all__ = ["InjectionLimit", "Rung", "injection_limits", "selected_limit"]

Array = NDArray[np.float64]

_SMALLEST_BACKGROUND = 1e-3
_ROUNDS, _CLOSE = 20, 1e-3


@dataclass(frozen=True)
class Rung:
    """One injected yield: medians over its repeats.

    Attributes
    ----------
    injected
        Signal events in the window before any cut.
    efficiency, efficiency_range
        Share of them that is selected, or their mean weight: median, and smallest and largest.
    observed, expected
        Upper limits on the signal in the window that this selection sets; ``expected`` at the
        :data:`~serendip.statistics.limits.BANDS`.
    """

    injected: float
    efficiency: float
    efficiency_range: tuple[float, float]
    observed: float | None
    expected: tuple[float, ...] | None


@dataclass(frozen=True)
class InjectionLimit:
    """The limit of one method in one window, with weighted events (no working point) or at one working point.

    Attributes
    ----------
    method, working_point, window
        The look.
    level
        Confidence level.
    observed, expected
        Limits on the signal events in the window before any cut; ``expected`` at the
        :data:`~serendip.statistics.limits.BANDS`. None: not even the largest injected yield is excluded.
    bounds
        True where the smallest injected yield is excluded already, so that the limit is smaller than quoted; observed
        first, then the bands.
    rungs
        The ladder of injected yields.
    """

    method: str
    working_point: float | None
    window: tuple[float, float]
    level: float
    observed: float | None
    expected: tuple[float | None, ...]
    bounds: tuple[bool, ...]
    rungs: tuple[Rung, ...]

    def to_dict(self) -> dict[str, Any]:
        """The limit as plain numbers for JSON."""
        return asdict(self) | {"bands": list(BANDS)}


def injection_limits(comparison: Mapping[str, Any], level: float = 0.95) -> list[InjectionLimit]:
    """Limits from a finished comparison, whose injections are the ladder.

    Parameters
    ----------
    comparison
        Content of ``compare.json``.
    level
        Confidence level.

    Raises
    ------
    InputError
        If fewer than two signal yields were injected, there is no look, or folds were trained on each other.
    """
    combination = comparison.get("config", {}).get("combination", "weighted")
    if not in_order(combination):
        raise InputError(
            f"a count over the folds of '{combination}' varies more than a Poisson number and gives no limit: repeat the comparison "
            "with --combination weighted or sequential"
        )
    yields = sorted({entry["injection"] for entry in comparison["entries"] if entry["injection"] > 0})
    if len(yields) < 2:
        raise InputError(
            "a limit needs a ladder of injected signals, at least two above zero: repeat the comparison with "
            "--injections 75,150,250,500"
        )
    out = []
    for method in dict.fromkeys(entry["method"] for entry in comparison["entries"]):
        entries = [e for e in comparison["entries"] if e["method"] == method and e["injection"] > 0]
        points = dict.fromkeys(look["working_point"] for entry in entries for look in entry["looks"])
        for point in points:
            rungs = tuple(_rung(entries, n, point, level) for n in yields)
            grid = [rung.injected for rung in rungs]
            curves = [[rung.observed for rung in rungs]]
            curves += [
                [None if r.expected is None else r.expected[i] for r in rungs] for i in range(len(BANDS))
            ]
            crossings = [_crossing(grid, curve) for curve in curves]
            low, high = comparison["window"]
            out.append(
                InjectionLimit(
                    method=method,
                    working_point=point,
                    window=(float(low), float(high)),
                    level=level,
                    observed=crossings[0][0],
                    expected=tuple(value for value, _ in crossings[1:]),
                    bounds=tuple(bound for _, bound in crossings),
                    rungs=rungs,
                )
            )
    if not out:
        raise InputError("the comparison contains no look: nothing was cut at a working point")
    return out


def _rung(entries: Sequence[Mapping[str, Any]], injected: float, point: float | None, level: float) -> Rung:
    found = []
    for entry in entries:
        looks = [look for look in entry["looks"] if look["working_point"] == point]
        if entry["injection"] != injected or not looks:
            continue
        (look,) = looks
        efficiency = look["true_signal"] / entry["signal_in_window"]
        found.append((efficiency, selected_limit(look, level) if efficiency > 0 else None))
    if not found:
        return Rung(float(injected), 0.0, (0.0, 0.0), None, None)
    efficiencies = np.array([value for value, _ in found])
    # a training that selects no signal excludes nothing
    observed = np.array([np.inf if u is None else u[0] / e for e, u in found])
    expected = np.array([[np.inf] * len(BANDS) if u is None else u[1:] / e for e, u in found])
    middle, bands = float(np.median(observed)), np.median(expected, axis=0)
    return Rung(
        float(injected),
        float(np.median(efficiencies)),
        (float(efficiencies.min()), float(efficiencies.max())),
        middle if np.isfinite(middle) else None,
        tuple(bands.tolist()) if np.isfinite(bands).all() else None,
    )


def selected_limit(look: Mapping[str, Any], level: float) -> Array:
    r"""Limits on the signal in the count of a look.

    Parameters
    ----------
    look
        As ``compare.json`` has it; ``scale`` is :math:`c_b`, and ``true_signal_variance`` the sum of squares :math:`\sum w^2` of the injected events.
    level
        Confidence level.

    Returns
    -------
    Shape ``(6,)``: observed, then at the :data:`~serendip.statistics.limits.BANDS`; in the units of the count.
    """
    own = look.get("scale", 1.0)
    of_signal = look.get("true_signal_variance", own * look["true_signal"]) / look["true_signal"]
    seen = max(look["observed"] - look["true_signal"], 0.0)
    unit, limits = own, np.zeros(1 + len(BANDS))
    for _ in range(_ROUNDS):
        background = max(look["expected"] / unit, _SMALLEST_BACKGROUND)
        error = max(look["expected_error"] / unit, 1e-3 * background)
        found = upper_limit(
            counting_model(background, error), counting_data(seen / unit, background, error), level=level
        )
        limits = unit * np.array([found.observed, *found.expected])
        signal = max(limits[0], limits[1 + BANDS.index(0)])
        mixed = (look["expected"] * own + signal * of_signal) / (look["expected"] + signal)
        if mixed <= unit * (1 + _CLOSE):
            break
        unit = mixed
    return limits


def _crossing(grid: Sequence[float], curve: Sequence[float | None]) -> tuple[float | None, bool]:
    """Smallest N with a limit of at most N, straight in ln N between rungs; and whether the first rung has it already."""
    distance = [
        np.inf if value is None else float(np.log(value / n)) for n, value in zip(grid, curve, strict=True)
    ]
    excluded = [i for i, d in enumerate(distance) if d <= 0]
    if not excluded:
        return None, False
    i = excluded[0]
    if i == 0:
        # a limit below the smallest injected yield is known only if the efficiency there were the same
        return float(grid[0]), True
    before, after = distance[i - 1], distance[i]
    if not np.isfinite(before):
        return float(grid[i]), False
    share = before / (before - after)
    return float(np.exp(np.log(grid[i - 1]) + share * np.log(grid[i] / grid[i - 1]))), False
