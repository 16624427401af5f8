r"""Sculpting: a cut on the score must not make a structure in the mass spectrum of background.

Every method is trained in the signal region as in a search, and then asked about background: the sidebands of the data, or
all masses of labelled or simulated background. A score that depends smoothly on the mass is not a problem by itself, because
the search fits the efficiency of the cut, :math:`\exp(\text{polynomial in } \ln m)`, to the selected sideband
events. Structure that this fit cannot describe is sculpting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import norm

from serendip.events.audit import distance_correlation
from serendip.search.config import SearchConfig
from serendip.search.measure import Look
from serendip.search.merits import mass_shape
from serendip.validate.base import Answer, Check, Work, answers, look_name
from serendip.validate.closure import pull
from serendip.validate.config import KindOptions, Sample
from serendip.validate.pictures import Picture, Series
from serendip.validate.regions import (
    Background,
    Region,
    Searched,
    background_sample,
    search_region,
    without_references,
)

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Does a cut on the score change the mass spectrum of background?"

_CORRELATED = 2000
_PROFILE_BINS = 20


class Options(KindOptions):
    """Options and thresholds.

    Attributes
    ----------
    sample
        Background sample: ``"data"`` (outside all windows of the search), ``"label"``, ``"simulation"``, or ``"auto"``.
        The methods are also trained on labelled or simulated background.
    max_correlation
        Largest distance correlation of score and mass that is not a failure. Up to twice its 99 % limit for independent
        numbers it passes; in between it is undecided.
    min_p
        Smallest p-value of a mass shape, and of the fit of the efficiency.
    max_pull
        Largest pull of the count in the window, where it may be looked at.
    """

    sample: Sample = "auto"
    max_correlation: float = Field(default=0.3, gt=0.0, le=1.0)
    min_p: float = Field(default=0.01, gt=0.0, lt=1.0)
    max_pull: float = Field(default=3.0, gt=0.0)


@answers("sculpting")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Test for every method in every window how its cuts change the spectrum of background.

    Raises
    ------
    InputError
        If there is no background sample.
    """
    background = background_sample(config, options.sample)
    closed = background.hidden is not None
    own = without_references(config)
    region = Region(config.windows[0], background.events, background.simulation, own)
    done = search_region(region, work, blinded=closed)
    checks: list[Check] = []
    facts: list[dict[str, Any]] = []
    figures: list[Picture] = []
    for (name, window), efficiency in done.measurement.efficiency.items():
        task = done.tasks[name, window]
        where = f"{name}, {window}"
        looks = [
            look
            for look in done.measurement.looks
            if look.method == name and look.window_fit.window == window
        ]
        tested = ~np.isnan(task.scores) & looks[0].window_fit.in_range(background.events.m)
        for other in config.windows if closed else ():
            tested &= ~other.contains(background.events.m)
        entry: dict[str, Any] = {"method": name, "window": [window.low, window.high], "cuts": []}
        if looks[0].working_point != 1 or len(looks) > 1:
            check, numbers = _correlation(where, efficiency, background, done, tested, looks[0], options)
            checks.append(check)
            entry |= numbers
        for look in looks:
            if look.working_point == 1:
                continue
            if look.working_point is None:
                checks.append(_weighted_shape_check(where, look, options))
                entry["weighted"] = {
                    "efficiency_gof_p": _weighted_fit(look),
                    "pull": None if closed else pull(look),
                }
                if not closed:
                    checks.append(_count_check(where, look, options))
                continue
            selected = efficiency <= look.working_point
            shape = mass_shape(
                background.events.m[tested],
                selected[tested],
                look.window_fit.edges,
                background.events.weights[tested],
            )
            checks.append(_shape_check(where, look, shape, options))
            cut: dict[str, Any] = {
                "working_point": look.working_point,
                "mass_shape": shape,
                "efficiency_gof_p": look.result.spectrum.gof_p,
                "pull": None if closed else pull(look),
            }
            if not closed:
                checks.append(_count_check(where, look, options))
            entry["cuts"].append(cut)
        if any(look.working_point != 1 for look in looks):
            factors = {look.working_point: done.measurement.counts(look) for look in looks}
            figures.append(
                _profile(where, f"{name}-{window.low:g}-{window.high:g}", background, factors, tested)
            )
        facts.append(entry)
    return checks, background.facts() | {"results": facts}, figures


def _correlation(
    where: str,
    efficiency: NDArray[np.float64],
    background: Background,
    done: Searched,
    tested: NDArray[np.bool_],
    look: Look,
    options: Options,
) -> tuple[Check, dict[str, Any]]:
    rows = np.flatnonzero(tested & look.window_fit.sideband(background.events.m))
    rng = np.random.default_rng([done.region.config.seed, 0xDC])
    w = background.events.weights[rows]
    # a correlation has no weights: events are drawn by theirs
    equal = bool(np.all(w == w[0])) if len(w) else True
    size = min(len(rows), _CORRELATED)
    rows = rng.choice(rows, size, replace=not equal, p=None if equal else w / w.sum())
    value, null = distance_correlation(efficiency[rows], background.events.m[rows])
    passed = True if value <= 2 * null else None if value <= options.max_correlation else False
    note = (
        " Undecided: it does, but the fit of the efficiency may describe it; see the mass shapes."
        if passed is None
        else ""
    )
    check = Check(
        f"{where}: distance correlation of score and mass",
        passed,
        value,
        None,
        f"at most {2 * null:.3f} (twice the 99 % limit of independence); fails above {options.max_correlation:g}",
        f"A cut on a score correlated with the mass changes the shape of the spectrum.{note}",
    )
    return check, {"distance_correlation": value, "null_level": null, "n_correlated": size}


def _shape_check(where: str, look: Look, shape: dict[str, float] | None, options: Options) -> Check:
    title = f"{where}: mass shape after the cut, ε_B = {look.working_point:g}"
    limit = f"p at least {options.min_p:g}"
    # the prediction in the window was not fitted: it is tested where that may be looked at
    smooth = look.result.spectrum.gof_p
    followed = smooth >= options.min_p and (look.result.blinded or abs(pull(look)) <= options.max_pull)
    if shape is None:
        return Check(
            title, None, None, None, limit, "Not decided: too few selected events to compare shapes."
        )
    ratio, error = shape["chi2"] / shape["ndf"], float(np.sqrt(2 / shape["ndf"]))
    if shape["p"] >= options.min_p:
        passed, note = True, "No change is seen."
    elif followed:
        passed, note = (
            None,
            f"It changes, but smoothly: the fit of the efficiency describes it (p = {smooth:.2g}).",
        )
    else:
        passed, note = (
            False,
            f"It changes in a way that the fit of the efficiency does not describe (p = {smooth:.2g} in the sidebands).",
        )
    return Check(
        title,
        passed,
        ratio,
        error,
        f"chi2/ndf of selected against all background: {limit}; or undecided if the fit of the efficiency has such a p",
        f"A structure that the cut makes can look like a resonance (p = {shape['p']:.2g}). {note}",
    )


def _weighted_fit(look: Look) -> float:
    """Smallest p-value of the fits of the weighted sidebands, for as many orders of the folds as there are."""
    fits = [order.spectrum.gof_p for order in look.result.orders or (look.result,)]
    return min(1.0, len(fits) * min(fits))


def _weighted_shape_check(where: str, look: Look, options: Options) -> Check:
    p = _weighted_fit(look)
    return Check(
        f"{where}: shape of the weighted spectrum",
        p >= options.min_p,
        p,
        None,
        f"p of the fit of the sidebands at least {options.min_p:g}, in the worst order of the folds and corrected for their number",
        "A structure in the weights outside the window that the fit of their mean does not describe can also occur in the "
        "window too, and look like a resonance.",
    )


def _count_check(where: str, look: Look, options: Options) -> Check:
    result = look.result
    value = pull(look)
    return Check(
        f"{where}: background in the window, {look_name(look.working_point)}",
        bool(abs(value) <= options.max_pull),
        value,
        1.0,
        f"pull within ±{options.max_pull:g} (by chance outside: {2 * norm.sf(options.max_pull):.2g})",
        f"{result.observed:.4g} background events {'(sum of weights)' if look.working_point is None else 'pass the cut'}, {result.expected:.4g} ± {result.expected_error:.2g} are "
        "expected: a difference is a false excess, or hides a signal.",
    )


def _profile(
    where: str,
    name: str,
    background: Background,
    factors: Mapping[float | None, NDArray[np.float64]],
    tested: NDArray[np.bool_],
) -> Picture:
    """Fraction of background that passes each cut against the mass, over the working point; mean weight over its mean."""
    m, w = background.events.m[tested], background.events.weights[tested]
    edges = np.unique(np.quantile(m, np.linspace(0, 1, _PROFILE_BINS + 1)))
    total = np.histogram(m, edges, weights=w)[0]
    squared = np.histogram(m, edges, weights=w**2)[0]
    centres = 0.5 * (edges[1:] + edges[:-1])
    series = []
    for point, factor in factors.items():
        if point == 1:
            continue
        counts = w * factor[tested]
        passed = np.histogram(m, edges, weights=counts)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = passed / total
            effective = total**2 / squared
            if point is None:
                error = np.sqrt(np.histogram(m, edges, weights=counts**2)[0]) / total
            else:
                # Wilson's width, so that a bin without a selected event has an error
                error = np.sqrt(share * (1 - share) / effective + 0.25 / effective**2) / (1 + 1 / effective)
        usable = np.isfinite(share)
        norm = point or float(max(counts.sum() / w.sum(), 1e-300))
        series.append(
            Series(
                name=look_name(point),
                x=tuple(centres[usable]),
                y=tuple(share[usable] / norm),
                error=tuple(error[usable] / norm),
            )
        )
    return Picture(
        name=f"sculpting-{name}",
        title=f"Mean weight of background, {where}",
        caption="Fraction of background that passes a cut, divided by the working point; weighted: the mean weight, divided by that of "
        "all masses. A slope is followed by the fit of the "
        "efficiency; a bump near the window is not."
        + (" Masses in the windows of the search are left out." if background.hidden is not None else ""),
        x_label="mass [GeV]",
        y_label="efficiency / ε_B, weight / mean",
        series=tuple(series),
        level=1.0,
    )
