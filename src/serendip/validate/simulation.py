"""Does the simulation look like the data? A classifier between two samples, see :mod:`serendip.validate.dream`.

Sample 1 is the input of the search, sample 0 its simulation. Both may be simulations.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import norm

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.formats import shown
from serendip.search.config import SearchConfig
from serendip.search.engine import read_events, read_simulation
from serendip.validate.base import Answer, Check, Work, answers
from serendip.validate.dream import Dream, DreamOptions, compare_samples
from serendip.validate.dream_pictures import dream_pictures

__all__ = ["NEEDS_WINDOW", "QUESTION", "Options", "run"]

QUESTION = "Does the simulation look like the data (or another simulation)?"
NEEDS_WINDOW = False


class Options(DreamOptions):
    """Options and thresholds, besides those of :class:`~serendip.validate.dream.DreamOptions`.

    Attributes
    ----------
    region
        ``"outside"`` (default): events outside all windows of the search, which stay closed; ``"all"``: all events. Without a
        window all are used.
    mass
        Compare the mass as well as the features.
    min_p
        Smallest p-value of the AUC; of each feature and region after division by their number.
    max_auc, max_ratio
        An AUC up to ``max_auc``, or a ratio between ``1 / max_ratio`` and ``max_ratio``, is harmless: if significant, it is
        undecided instead of a failure.
    """

    region: Literal["outside", "all"] = "outside"
    mass: bool = False
    min_p: float = Field(default=0.01, gt=0.0, lt=1.0)
    max_auc: float = Field(default=0.52, ge=0.5, lt=1.0)
    max_ratio: float = Field(default=1.2, ge=1.0)


@answers("simulation")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Compare the events of a search with its simulation.

    Raises
    ------
    InputError
        If there is no simulation, or the samples cannot be compared.
    """
    simulation = read_simulation(config)
    if simulation is None:
        raise InputError(
            "'simulation' compares two samples: give the second one with the same columns (--simulation FILE)"
        )
    events = read_events(config).without_label()
    closed = config.windows if options.region == "outside" else ()
    work.progress.start("simulation: classifiers between the samples", 1)
    names = events.features + ((events.mass,) if options.mass else ())
    (x1, w1), (x0, w0) = (_table(sample, closed, mass=options.mass) for sample in (events, simulation))
    dream = compare_samples(
        x1, x0, names, first_weights=w1, second_weights=w0, options=options, seed=config.seed, jobs=work.jobs
    )
    work.progress.advance("simulation")
    checks = (_auc_check(dream, options), *_feature_checks(dream, options), *_region_checks(dream, options))
    facts = {
        "sample": shown(config.file),
        "reference": shown(config.simulation),
        "closed": [[window.low, window.high] for window in closed],
        "n_events": [int(np.count_nonzero(dream.sample.y)), int(np.count_nonzero(~dream.sample.y))],
        "auc": dream.auc,
        "auc_error": dream.error,
        "auc_measured": dream.curve.auc,
        "auc_half_of_training": dream.curve.half,
        "p": dream.null.p,
        "p_interval_68": list(dream.null.p_interval_68),
        "permutations": dream.null.n,
        "null_auc_mean": float(dream.null.aucs.mean()),
        "null_auc_deviation": dream.null.deviation,
        "derivatives": None if dream.derivatives is None else vars(dream.derivatives),
        "importance": vars(dream.importance),
        "profiles": [vars(profile) for profile in dream.profiles],
        "regions": [vars(region) | {"text": str(region)} for region in dream.regions],
    }
    return checks, facts, dream_pictures(dream, names)


def _table(
    events: Events, closed: tuple[Window, ...], *, mass: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    open_ = np.ones(len(events), dtype=bool)
    for window in closed:
        open_ &= ~window.contains(events.m)
    x = np.column_stack([events.x, events.m]).astype(np.float32) if mass else events.x
    return x[open_], events.weights[open_]


def _auc_check(dream: Dream, options: Options) -> Check:
    auc, p = dream.auc, dream.null.p
    passed: bool | None = True
    note = "No difference is found."
    if p < options.min_p:
        passed = None if auc <= options.max_auc else False
        note = (
            "Undecided: the samples differ, but by less than the tolerance."
            if passed is None
            else f"Worst described: {', '.join(dream.importance.features[:3])}."
        )
    elif 1 / (dream.null.n + 1) >= options.min_p:
        passed, note = (
            None,
            f"Not decided: {dream.null.n} permutations cannot give a p-value below {options.min_p:g}.",
        )
    return Check(
        "AUC of a classifier between the samples",
        passed,
        auc,
        dream.error,
        f"p at least {options.min_p:g}, or undecided up to {options.max_auc:g}",
        f"A classifier that distinguishes them will mistake errors of the simulation for a signal (p = {p:.2g}). {note}",
    )


def _decide(ratio: float, error: float, *, significant: bool, options: Options) -> bool | None:
    """Fail if a significant ratio is not harmless, by more than its error."""
    if not significant:
        return True
    excess = abs(np.log(ratio)) - error / ratio
    return False if excess > np.log(options.max_ratio) else None


def _feature_checks(dream: Dream, options: Options) -> list[Check]:
    checks = []
    for profile in dream.profiles:
        ratio, error = profile.largest
        significant = profile.p * len(dream.profiles) < options.min_p
        checks.append(
            Check(
                f"{profile.feature}: shape",
                _decide(ratio, error, significant=significant, options=options),
                ratio,
                error,
                f"p times {len(dream.profiles)} features at least {options.min_p:g}, or undecided within a factor of "
                f"{options.max_ratio:g}",
                f"Ratio of the samples where it differs most significantly from 1; chi2/ndf = {profile.chi2:.1f}/{profile.ndf} "
                f"along the feature, p = {profile.p:.2g}.",
            )
        )
    return checks


def _region_checks(dream: Dream, options: Options) -> list[Check]:
    n = len(dream.regions)
    threshold = float(norm.isf(0.5 * options.min_p / n))
    chosen = (
        {"lowest": dream.regions[0], "highest": dream.regions[-1]} if n > 1 else {"only": dream.regions[0]}
    )
    checks = []
    for which, region in chosen.items():
        title = f"region of the {which} ratio: {region}"
        limit = (
            f"within {threshold:.2f} errors of 1 ({options.min_p:g} / {n} regions), or undecided within a factor of "
            f"{options.max_ratio:g}"
        )
        if not np.isfinite(region.z):
            checks.append(
                Check(
                    title,
                    None,
                    None,
                    None,
                    limit,
                    "Not decided: one of the samples has no event there to measure with.",
                )
            )
            continue
        checks.append(
            Check(
                title,
                _decide(region.ratio, region.error, significant=abs(region.z) > threshold, options=options),
                region.ratio,
                region.error,
                limit,
                f"Found on one half of the events, measured on the other: {100 * region.share:.2g} % of the first sample, "
                f"{100 * region.reference_share:.2g} % of the second ({region.z:+.1f} errors). Here the description is worst.",
            )
        )
    return checks
