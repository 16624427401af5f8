r"""Bias: whether a background function that is not the true one looks like a signal, or hides one.

The sidebands are fitted with several functions. Each one that describes them is taken as the truth in turn: pseudo-spectra
are drawn from it, with signals of several strengths, and measured as the search would. The mean of the pull
:math:`(\hat\mu - \mu)/\sigma` must be small for every pair of functions (the matrix of CMS); its value times
:math:`\sigma` is the spurious signal of ATLAS.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from serendip.search.config import SearchConfig
from serendip.search.fields import Listed
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.functions import get_family
from serendip.statistics.many import fit_many
from serendip.statistics.model import Choice
from serendip.validate.base import Answer, Check, Work, answers
from serendip.validate.config import KindOptions
from serendip.validate.pictures import Picture, Series
from serendip.validate.spectra import Spectrum, spectra

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Does a wrong background function look like a signal?"

Array = NDArray[np.float64]
Estimator = Literal["count", "fit"]


class Options(KindOptions):
    """Options and thresholds.

    Attributes
    ----------
    truths
        Functions taken as the truth, if they describe the sidebands.
    fits
        Functions that are fitted; default: the background of the search.
    estimators
        ``"count"``: the window against a fit of its sidebands, as the search does, with the part of the peak that is in
        the window; ``"fit"``: a normal peak fitted with the background.
    strengths
        Injected signals, in standard deviations of the estimate without signal.
    choice
        How the order of the fitted function is chosen: ``"envelope"`` (as ``serendip fit``) or ``"lrt"``.
    share
        Share of the peak in the window.
    toys
        Pseudo-spectra of each kind.
    min_gof
        Least goodness-of-fit p-value of a function taken as the truth.
    max_pull
        Largest mean pull.
    """

    truths: Annotated[tuple[str, ...], Listed] = ("exppoly", "dijet", "altexp", "altpower")
    fits: Annotated[tuple[str, ...], Listed] = ()
    estimators: Annotated[tuple[Estimator, ...], Listed] = ("count", "fit")
    strengths: Annotated[tuple[float, ...], Listed] = (0.0, 2.0, 5.0)
    choice: Choice = "envelope"
    share: float = Field(default=0.8, gt=0.1, lt=0.99)
    toys: PositiveInt = 300
    min_gof: float = Field(default=0.05, ge=0.0, lt=1.0)
    max_pull: PositiveFloat = 0.2

    @field_validator("truths", "fits")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            get_family(name)
        return value


@answers("bias")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Measure pseudo-spectra of every function with every other."""
    fits = options.fits or (config.background,)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    cases = list(spectra(config, options.share))
    work.progress.start("bias", len(cases) * len(options.truths))
    for case in cases:
        for i, name in enumerate(options.truths):
            truth = case.refit(name)
            if truth is None or not truth.gof_p >= options.min_gof:
                p = "no minimum" if truth is None else f"goodness of fit p = {truth.gof_p:.2g}"
                left_out[f"{name}, {case.name}"] = f"does not describe the sidebands ({p})"
            else:
                rng = np.random.default_rng([config.seed, 0xB1A5, i])
                rows += [row for fit in fits for row in _cell(case, name, truth, fit, options, rng)]
            work.progress.advance(f"truth {name}, {case.name}")
    checks = [_check(row, options) for row in rows]
    if not rows:
        checks = [
            Check(
                "truth functions", None, None, None, f"goodness of fit p >= {options.min_gof:g}",
                "No function describes the sidebands, so that none can be taken as the truth: name others (bias.truths) or "
                "narrow the range of the fit (--range).",
            )
        ]  # fmt: skip
    return checks, {"rows": rows, "left_out": left_out}, [_picture(rows)] if rows else []


def estimate(
    case: Spectrum, data: Array, background: str, estimator: Estimator, choice: Choice = "envelope"
) -> tuple[Array, Array]:
    """Signal events and their error in many spectra, shapes ``(t,)``."""
    if estimator == "fit":
        found = case.model(background, choice).fit(data)
        return found.mu, found.mu_error
    fit = case.inclusive
    many = fit_many(data, fit.edges, get_family(background, case.sqrt_s), mask=fit.mask, choice=fit.choice)
    count = data[:, fit.mask].sum(axis=1)
    inside = case.shape.fractions(fit.edges)[fit.mask].sum()
    # the variance of the count: expected background plus observed signal
    variance = many.window + np.maximum(count - many.window, 0.0) + many.window_error**2
    return (count - many.window) / inside, np.sqrt(variance) / inside


def _cell(
    case: Spectrum, name: str, truth: SpectrumFit, fit: str, options: Options, rng: np.random.Generator
) -> list[dict[str, Any]]:
    rows = []
    for estimator in options.estimators:
        _, error = estimate(case, truth.expected[None] / truth.scale, fit, estimator, options.choice)
        unit = float(error[0])
        for strength in options.strengths:
            injected = strength * unit
            # signal in the sidebands lowers every count, whatever the function: not the question here
            toys = case.toys(truth, injected, options.toys, rng, contained=estimator == "count")
            mu, sigma = estimate(case, toys, fit, estimator, options.choice)
            pull = (mu - injected) / sigma
            rows.append(
                {
                    "window": case.name, "truth": name, "function": truth.function, "fit": fit,
                    "estimator": estimator, "strength": strength, "injected": injected,
                    "mean_mu": float(mu.mean()), "pull": float(pull.mean()),
                    "pull_error": float(pull.std(ddof=1) / np.sqrt(len(pull))), "width": float(pull.std(ddof=1)),
                    "toys": options.toys,
                }
            )  # fmt: skip
    return rows


def _check(row: dict[str, Any], options: Options) -> Check:
    allowed = options.max_pull + 2 * row["pull_error"]
    spurious = row["mean_mu"] - row["injected"]
    return Check(
        f"{row['window']}: truth {row['truth']}, fit {row['fit']}, {row['estimator']}, {row['strength']:g} sigma injected",
        bool(abs(row["pull"]) <= allowed),
        row["pull"],
        row["pull_error"],
        f"0 +- ({options.max_pull:g} + 2 errors)",
        f"On average the measured signal is off by {spurious:+.3g} events. Beyond the limit, the function that is fitted does not "
        "follow the one that made the spectrum.",
    )


def _picture(rows: list[dict[str, Any]]) -> Picture:
    series = []
    for key in dict.fromkeys((r["truth"], r["fit"], r["estimator"]) for r in rows):
        mine = [r for r in rows if (r["truth"], r["fit"], r["estimator"]) == key]
        series.append(
            Series(
                name=f"truth {key[0]}, fit {key[1]}, {key[2]}",
                x=tuple(r["strength"] for r in mine),
                y=tuple(r["pull"] for r in mine),
                error=tuple(r["pull_error"] for r in mine),
            )
        )
    return Picture(
        name="bias-pulls",
        title="Mean pull of the measured signal",
        caption="Zero is unbiased. One point for each window, pair of functions and injected signal.",
        x_label="injected signal [σ]",
        y_label="mean pull",
        series=tuple(series),
        level=0.0,
    )
