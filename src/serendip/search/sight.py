r"""Dead looks: sideband events that a cut needs, and settings chosen from the size of a sample.

The cut of a fold is placed with the sideband events of that fold (:func:`serendip.statistics.ranks.cut_efficiency`). With fewer
than :math:`1/\varepsilon_B` of them it keeps none, nor any event of the window, however large its score: the look is *dead*.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Events, Window
from serendip.methods.registry import get_method
from serendip.search.config import SearchConfig
from serendip.search.measure import WindowFit
from serendip.statistics.looks import tested_folds
from serendip.statistics.weighting import FEWEST_RANKED

__all__ = ["choose_by_size", "dead_looks", "warn_of_dead_looks"]

log = logging.getLogger(__name__)

# A cut keeps at least this many sideband events in all tested folds, so that their fit can measure a slope and not just one number,
# and in each fold, so that a fold that is small by chance is not dead
_SELECTED, _SELECTED_IN_FOLD = 20, 2
_POINTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_LOOSEST_PARTNER = 0.2
# The first model of a sequential search trains on one fold only, a tenth of which may lie in the window
_SIDEBAND_PER_FOLD, _FEWEST_FOLDS = 200, 4


def dead_looks(
    config: SearchConfig, events: Events, fold: NDArray[np.int64], windows: Sequence[WindowFit]
) -> dict[tuple[str, Window, float | None], str]:
    """Looks whose cut keeps no sideband event in the average fold, and why; nothing needs to be trained for that.

    Parameters
    ----------
    config
        The search.
    events, fold
        Events and their folds.
    windows
        As prepared.
    """
    if config.counting == "template":
        return {}
    dead: dict[tuple[str, Window, float | None], str] = {}
    for name in config.method:
        method = get_method(name)
        if method.working_points == (1.0,):
            continue
        folds = tested_folds(config.combination, config.folds) if method.trains else [0]
        for window_fit in windows:
            side = window_fit.sideband(events.m)
            if method.trains:
                n = float(np.mean([_size(events.weights[side & (fold == f)]) for f in folds]))
            else:
                n = _size(events.weights[side])
            if config.weighted(name) and n < FEWEST_RANKED:
                dead[name, window_fit.window, None] = (
                    f"weights from ranks need {FEWEST_RANKED} sideband events in each fold, and the {len(folds)} tested folds have "
                    f"{n:.3g} on average; use fewer folds or more data"
                )
            for point in method.working_points or config.working_points:
                # rounding must not make 1000 events too few for 0.001
                if n * point < 1 - 1e-9:
                    dead[name, window_fit.window, point] = _why(point, n, len(folds))
    return dead


def _size(weights: NDArray[np.float64]) -> float:
    """Effective number of events."""
    total = float(weights.sum())
    return total**2 / float((weights**2).sum()) if total > 0 else 0.0


def _why(point: float, n: float, n_folds: int) -> str:
    where = "in each fold" if n_folds > 1 else "in all"
    number = f"{n:.0f}" if n >= 10 else f"{n:.1f}"
    has = f"the {n_folds} tested folds have {number} on average" if n_folds > 1 else f"there are {number}"
    loosest = next((p for p in _POINTS if p * n >= _SELECTED_IN_FOLD), None)
    advice = f"a working point from {loosest:g}, fewer folds" if loosest else "fewer folds"
    return (
        f"ε_B = {point:g} needs {np.ceil(1 / point - 1e-9):.0f} sideband events {where}, and {has}, so that the cut keeps no event "
        f"at all; use {advice} or more data"
    )


def warn_of_dead_looks(dead: dict[tuple[str, Window, float | None], str], n_looks: int) -> None:
    """Log the dead looks before anything is trained."""
    for reason in dict.fromkeys(dead.values()):
        names = [
            f"{name} in {window}" + ("" if point is None else f", ε_B = {point:g}")
            for (name, window, point), why in dead.items()
            if why == reason
        ]
        more = "" if len(names) <= 3 else f" and {len(names) - 3} more"
        log.warning("%s%s cannot find anything: %s", "; ".join(names[:3]), more, reason)
    if dead and len(dead) == n_looks:
        log.warning("no look of this search can find anything: it will have no result")


def _tightest(n: float, tested: int) -> float:
    """The tightest cut that keeps enough of ``n`` sideband events in each of the ``tested`` folds."""
    for point in _POINTS:
        kept = np.floor(point * n + 1e-9)
        if kept >= _SELECTED_IN_FOLD and kept * tested >= _SELECTED:
            return point
    return _POINTS[-1]


def choose_by_size(
    config: SearchConfig, events: Events, windows: Sequence[WindowFit]
) -> tuple[SearchConfig, dict[str, Any] | None]:
    """Folds and working points that were not given, chosen from the number of sideband events.

    A fold gets 200 of those of the poorest window (4 to 10 folds). The tighter working point is the tightest of 0.001, 0.002,
    0.005, ... whose cut keeps 20 events of the richest window in all tested folds and two in each; the looser one is ten times as loose, up
    to 0.2, or as required by the window with the fewest. With 30,000 sideband events and more these are ten folds with 0.01 and 0.001.

    Parameters
    ----------
    config
        The search; given settings are kept.
    events
        The sample.
    windows
        As prepared.

    Returns
    -------
    config
        With the choice in it.
    choice
        The chosen settings and the number of events; None if there was nothing to choose.
    """
    given = config.model_fields_set
    # a calibration and a tuning were made for certain settings
    free = {"folds", "working_points"} - given
    if config.tuned is not None:
        free -= {"folds"}
    if config.counting == "template" or config.calibration is not None or not free:
        return config, None
    sizes = [_size(events.weights[window_fit.sideband(events.m)]) for window_fit in windows]
    folds, points = config.folds, config.working_points
    if "folds" in free:
        most = type(config).model_fields["folds"].default
        folds = int(np.clip(min(sizes) // _SIDEBAND_PER_FOLD, _FEWEST_FOLDS, most))
    if "working_points" in free:
        tested = len(tested_folds(config.combination, folds))
        tight = _tightest(max(sizes) / folds, tested)
        loose = max(min(round(10 * tight, 6), _LOOSEST_PARTNER), _tightest(min(sizes) / folds, tested))
        points = (loose, tight) if loose >= 2 * tight else (tight,)
    chosen = {"folds": folds, "working_points": points}
    chosen = {key: value for key, value in chosen.items() if key in free}
    record = {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}
    return config.model_copy(update=chosen), {"sideband_events": round(min(sizes)), **record}
