r"""Coverage: whether intervals and limits contain the true signal strength, and p-values fluctuate, at the nominal rate.

Pseudo-spectra are drawn from the function that fits the sidebands, with signals of several strengths, and everything is
repeated in each: choice of the function's order, fit, interval, limit.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt, field_validator
from scipy import stats

from serendip.search.config import SearchConfig
from serendip.search.fields import Listed
from serendip.statistics.inference import likelihood_ratio
from serendip.statistics.limits import cls_asymptotic
from serendip.statistics.many import fit_many
from serendip.statistics.model import Choice
from serendip.statistics.pvalues import count_p_value, wilson_interval
from serendip.validate.base import Answer, Check, Work, answers
from serendip.validate.config import KindOptions
from serendip.validate.curves import coverage_picture
from serendip.validate.spectra import Spectrum, spectra

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Do intervals have the correct coverage?"


class Options(KindOptions):
    """Options and thresholds.

    Attributes
    ----------
    strengths
        Injected signals, in standard deviations of the fitted signal without any.
    levels
        Confidence levels of the intervals.
    rates
        Nominal false-positive rates of the counting p-value.
    choice
        How the order of the fitted function is chosen: ``"envelope"`` (as ``serendip fit``) or ``"lrt"``.
    share
        Share of the peak in the window.
    toys
        Pseudo-spectra of each strength.
    errors
        Binomial standard errors by which a fraction may miss.
    slack
        Fraction by which it may miss besides.
    """

    strengths: Annotated[tuple[float, ...], Listed] = (0.0, 2.0, 5.0)
    levels: Annotated[tuple[float, ...], Listed] = (0.6827, 0.95)
    rates: Annotated[tuple[float, ...], Listed] = (0.05, 0.003)
    choice: Choice = "envelope"
    share: float = Field(default=0.8, gt=0.1, lt=0.99)
    toys: PositiveInt = 400
    errors: float = Field(default=3.0, gt=0.0)
    slack: float = Field(default=0.01, ge=0.0, lt=0.5)

    @field_validator("levels", "rates")
    @classmethod
    def _fractions(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < v < 1 for v in value):
            raise ValueError("each value lies between 0 and 1")
        return value


@answers("coverage")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Count how often the truth is inside."""
    cases = list(spectra(config, options.share))
    work.progress.start("coverage", len(cases))
    checks: list[Check] = []
    figures = []
    for case in cases:
        rng = np.random.default_rng([config.seed, 0xC0BE])
        found, held = _intervals(case, config.background, options, rng)
        checks += found
        figures.append(coverage_picture(case.name, held))
        checks += _false_positives(case, config.background, options, rng)
        work.progress.advance(case.name)
    return checks, {"toys": options.toys}, figures


def _fraction(
    name: str, hits: int, n: int, nominal: float, options: Options, *, at_least: bool, meaning: str
) -> Check:
    """Check of a fraction that must not be below (or above) a nominal one."""
    error = float(np.sqrt(nominal * (1 - nominal) / n))
    allowed = options.errors * error + options.slack * min(nominal, 1 - nominal)
    value = hits / n
    low, high = wilson_interval(hits, n)
    return Check(
        name,
        bool(value >= nominal - allowed if at_least else value <= nominal + allowed),
        value,
        0.5 * (high - low),
        f"at {'least' if at_least else 'most'} {nominal:.4g} {'-' if at_least else '+'} {allowed:.2g}",
        meaning,
    )


def _intervals(
    case: Spectrum, background: str, options: Options, rng: np.random.Generator
) -> tuple[list[Check], dict[str, list[tuple[float, float, float]]]]:
    """Checks, and for the figure strengths and fractions with their errors by level."""
    truth, model = case.inclusive, case.model(background, options.choice)
    unit = float(model.fit(truth.expected / truth.scale).mu_error[0])
    checks: list[Check] = []
    held: dict[str, list[tuple[float, float, float]]] = {}

    def add(what: str, strength: float, hits: int, level: float, meaning: str) -> None:
        name = f"{what}, {case.name}, {strength:g} sigma injected"
        check = _fraction(name, hits, options.toys, level, options, at_least=True, meaning=meaning)
        checks.append(check)
        held.setdefault(what, []).append((strength, check.value or 0.0, check.error or 0.0))

    for strength in options.strengths:
        injected = strength * unit
        data = case.toys(truth, injected, options.toys, rng)
        ratio = likelihood_ratio(model, data, injected, model.fit(data))
        for level in options.levels:
            add(
                f"{level:.1%} interval", strength, int(np.count_nonzero(ratio <= stats.chi2.ppf(level, 1))), level,
                "An interval that contains the true strength less often than nominal is too short.",
            )  # fmt: skip
        if injected > 0:
            excluded, _ = cls_asymptotic(model, data, injected)
            add(
                "95% CLs limit", strength, int(np.count_nonzero(excluded > 0.05)), 0.95,
                "A limit below the true strength more often than nominal excludes real signals.",
            )  # fmt: skip
    return checks, held


def _false_positives(
    case: Spectrum, background: str, options: Options, rng: np.random.Generator
) -> list[Check]:
    truth = case.inclusive
    data = case.toys(truth, 0.0, options.toys, rng)
    fits = fit_many(data, truth.edges, truth.family, mask=truth.mask, choice=truth.choice)
    p = count_p_value(data[:, truth.mask].sum(axis=1), fits.window, fits.window_error)
    return [
        _fraction(
            f"rate of p < {rate:g} without signal, {case.name}", int(np.count_nonzero(p < rate)), options.toys, rate,
            options, at_least=False, meaning="More small p-values than nominal mean false claims of signals.",
        )
        for rate in options.rates
    ]  # fmt: skip
