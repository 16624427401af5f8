r"""Closure: a background estimate must predict sidebands that were not used for it.

Windows next to the signal region (:func:`~serendip.validate.regions.validation_regions`) take its place one after the
other. In each, every method is trained as in a search, and two predictions are compared with the data:

- the *template* with the events of the window: AUC of boosted trees between them, cross-validated, with its bootstrap
  error or, if that is larger, its spread over retrained permutations;
- the sum of weights, and the *count* after each cut, with the fitted expectation. Its pull is the significance of the mid-p-value

.. math:: p_\mathrm{mid} = \tfrac12 \left[ P(T \ge t) + P(T > t) \right]

with the error of the expectation and the law of a sum of weights (:class:`~serendip.statistics.compound.CompoundTail`), so that a good estimate has
pulls of mean 0 and width 1 also for few events. The pulls of one cut in all windows are tested together,
:math:`\sum z^2 \sim \chi^2`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import chi2

from serendip.classify import TreeEnsemble
from serendip.events.events import Window
from serendip.events.groups import one_of_each
from serendip.methods.background import background_density
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.search.config import SearchConfig
from serendip.search.measure import Look
from serendip.statistics.combination import in_order
from serendip.statistics.compound import CompoundTail
from serendip.statistics.pvalues import z_value
from serendip.validate.base import Answer, Check, Work, answers, look_name
from serendip.validate.config import RegionOptions
from serendip.validate.pictures import Picture, Series
from serendip.validate.regions import Searched, background_sample, facts_of, search_region, validation_regions
from serendip.validate.twosample import bootstrap_error, cross_validate, permutation_test

__all__ = ["QUESTION", "Options", "pull", "run"]

QUESTION = "Does the background estimate predict a sideband that was not used for it?"

_FOLDS = 5
_FEWEST = 100
_MOST = 20_000


class Options(RegionOptions):
    """Options and thresholds.

    Attributes
    ----------
    sample, per_side, gap
        As in :class:`~serendip.validate.config.RegionOptions`.
    max_auc
        Largest AUC that is harmless, whatever its error.
    errors
        An AUC passes up to ``max_auc`` plus so many of its standard errors.
    min_p
        Smallest p-value of the pulls of one cut.
    bootstraps, permutations
        Bootstraps and permutations for the error of an AUC.
    """

    max_auc: float = Field(default=0.52, ge=0.5, lt=1.0)
    errors: float = Field(default=2.0, ge=0.0)
    min_p: float = Field(default=0.01, gt=0.0, lt=1.0)
    bootstraps: int = Field(default=100, ge=20)
    permutations: int = Field(default=20, ge=5)


@answers("closure")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Predict windows without signal.

    Raises
    ------
    InputError
        If no window can be tested.
    """
    background = background_sample(config, options.sample)
    regions, left_out = validation_regions(config, background, per_side=options.per_side, gap=options.gap)
    searched = [search_region(region, work) for region in regions]
    methods = regions[0].config.method
    checks, facts = [], []
    for name in methods:
        for done in searched:
            found = _template_auc(done, name, options, work)
            facts.append({"method": name, "window": _bounds(done), **(found or {"auc": None, "error": None})})
            checks.append(_auc_check(name, done, found, options))
    pulls = []
    for name in methods:
        weighted: tuple[None, ...] = (None,) if config.weighted(name) else ()
        for point in (*weighted, *(get_method(name).working_points or config.working_points)):
            looks = [_look(done, name, point) for done in searched]
            values = [pull(look) for look in looks]
            pulls.append(
                {
                    "method": name,
                    "working_point": point,
                    "pulls": values,
                    "observed": [look.result.observed for look in looks],
                    "expected": [look.result.expected for look in looks],
                    "expected_error": [look.result.expected_error for look in looks],
                }
            )
            checks.append(_pull_check(name, point, values, config.combination, options))
    figures = [
        _auc_picture(methods, facts, options),
        *(
            _pull_picture(name, [entry for entry in pulls if entry["method"] == name], searched)
            for name in methods
        ),
    ]
    return checks, facts_of(background, regions, left_out) | {"auc": facts, "pulls": pulls}, figures


def pull(look: Look) -> float:
    """Significance of the count of a look by its mid-p-value: positive for more events than expected.

    Of weighted events it is that of the first order of the folds: the combination of orders is made for small p-values, and is no
    pull.
    """
    result = look.result.orders[0] if look.result.orders else look.result
    assert result.observed is not None
    scale, tail = result.spectrum.scale, result.tail or CompoundTail.of(())
    log_p = tail.log_p(result.observed / scale, result.expected / scale, result.expected_error / scale)
    return float(z_value(log_p=np.logaddexp(*log_p) - np.log(2.0)))


def _bounds(done: Searched) -> list[float]:
    return [done.region.window.low, done.region.window.high]


def _look(done: Searched, name: str, point: float | None) -> Look:
    (found,) = (look for look in done.measurement.looks if (look.method, look.working_point) == (name, point))
    return found


def _template(
    done: Searched, name: str, out: Path, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Background template of the method in the window; empty if it has none."""
    region = done.region
    (window,) = region.config.windows
    task = done.tasks[name, window]
    used = task.template_weights > 0
    if used.any():
        return task.template[used], task.template_weights[used]
    inside = window.contains(region.events.m) & (region.events.weights > 0)
    empty = np.empty((0, len(region.events.features)), np.float32), np.empty(0)
    asked = done.plan.backgrounds.get((name, window))
    if asked is None:
        return empty
    # a ratio of densities has no template; its background density predicts the features at these masses
    method = get_method(name)(
        region.config.method_config(name),
        seed=region.config.seed,
        simulation=region.simulation,
        background=RunDirectory(out).read_background(asked.key)[0],
    )
    density = background_density(method, region.events, window, np.ones((1, len(inside)), bool))
    rows = rng.permutation(np.flatnonzero(inside))[:_MOST]
    masses, weights = region.events.m[rows], region.events.weights[rows]
    last = region.config.folds - (2 if in_order(region.config.combination) else 1)
    return density.sample(masses, last, rng=rng).astype(np.float32), weights


def _template_auc(done: Searched, name: str, options: Options, work: Work) -> dict[str, Any] | None:
    """AUC between the template and the events of the window; None without a template or with too few events."""
    events, window = done.region.events, done.region.window
    rng = np.random.default_rng([done.region.config.seed, 0xC105, round(window.low)])
    template, template_weights = _template(done, name, work.out, rng)
    rows = one_of_each(np.flatnonzero(window.contains(events.m) & (events.weights > 0)), events.groups, rng)[
        :_MOST
    ]
    if min(len(template), len(rows)) < _FEWEST:
        return None
    trees = TreeEnsemble(members=1, random_state=0)
    sample = cross_validate(
        np.concatenate([events.x[rows], template]),
        np.repeat([True, False], [len(rows), len(template)]),
        np.concatenate([events.weights[rows], template_weights]),
        trees,
        _FOLDS,
        rng,
    )
    bootstrap = bootstrap_error(sample, options.bootstraps, rng)
    error = max(
        bootstrap, permutation_test(sample, trees, options.permutations, rng, jobs=work.jobs).deviation
    )
    return {"auc": sample.auc, "error": error, "n_events": len(rows), "n_template": len(template)}


def _auc_check(name: str, done: Searched, found: dict[str, Any] | None, options: Options) -> Check:
    title = f"{name}: template AUC, {done.region.window}"
    limit = f"at most {options.max_auc:g} + {options.errors:g} errors"
    if found is None:
        return Check(
            title,
            None,
            None,
            None,
            limit,
            f"Not decided: '{name}' does not predict the features of background in a window, or the window has fewer "
            f"than {_FEWEST} events.",
        )
    passed = bool(found["auc"] <= options.max_auc + options.errors * found["error"])
    return Check(
        title,
        passed,
        found["auc"],
        found["error"],
        limit,
        "A classifier that distinguishes the template from background would learn the errors of the template instead of a signal.",
    )


def _pull_check(
    name: str, point: float | None, pulls: list[float], combination: str, options: Options
) -> Check:
    n = len(pulls)
    p = float(chi2.sf(np.sum(np.square(pulls)), n))
    width = float(np.sqrt(np.mean(np.square(pulls))))
    passed: bool | None = p >= options.min_p
    meaning = (
        f"Counts of {n} windows without signal against their expectation (width {width:.2f}, p = {p:.2g}): a mean above 0 is "
        "background that looks like an excess, below 0 one that hides a signal; a width above 1 is an error that is too small."
    )
    if not passed and combination.startswith("kfold"):
        passed = None
        meaning += (
            f" Not decided: the counts of '{combination}' fluctuate more than a Poisson count; see 'null'."
        )
    return Check(
        f"{name}: pulls of the counts, {look_name(point)}",
        passed,
        float(np.mean(pulls)),
        float(1 / np.sqrt(n)),
        f"sum of squares of {n} pulls: p at least {options.min_p:g}",
        meaning,
    )


def _centre(window: list[float]) -> float:
    return 0.5 * (window[0] + window[1])


def _auc_picture(methods: tuple[str, ...], facts: list[dict[str, Any]], options: Options) -> Picture:
    series = []
    for name in methods:
        rows = [entry for entry in facts if entry["method"] == name and entry["auc"] is not None]
        if rows:
            series.append(
                Series(
                    name=name,
                    x=tuple(_centre(entry["window"]) for entry in rows),
                    y=tuple(entry["auc"] for entry in rows),
                    error=tuple(entry["error"] for entry in rows),
                )
            )
    return Picture(
        name="closure-auc",
        title="Template against data in windows without signal",
        caption=f"0.5: cannot be told apart. Above {options.max_auc:g} by more than {options.errors:g} errors: the template "
        "does not close.",
        x_label="centre of the window [GeV]",
        y_label="AUC",
        series=tuple(series),
        level=0.5,
    )


def _pull_picture(name: str, entries: list[dict[str, Any]], searched: list[Searched]) -> Picture:
    centres = tuple(Window(*_bounds(done)).centre for done in searched)
    return Picture(
        name=f"closure-pulls-{name}",
        title=f"Pulls of the counts, {name}",
        caption="Each point is a window without signal; error bars have length 1. Look for a drift with the mass and for "
        "points that are far from 0 in all cuts.",
        x_label="centre of the window [GeV]",
        y_label="pull [σ]",
        series=tuple(
            Series(
                name=look_name(entry["working_point"]),
                x=centres,
                y=tuple(entry["pulls"]),
                error=(1.0,) * len(centres),
            )
            for entry in entries
        ),
        level=0.0,
    )
