"""Tests of the claims of arXiv:2207.07631 in a study of mixtures of theories, by a common rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from serendip.report.words import with_error

__all__ = [
    "ALL",
    "GROUPS",
    "KINDS",
    "LARGEST_CHANGE",
    "NEEDED",
    "WHICH",
    "Claim",
    "Finding",
    "Level",
    "Verdict",
    "average",
    "best",
    "claims",
    "compare",
    "of_kind",
    "paired",
    "single_theories",
    "ti_of",
    "titles_of",
    "verdict_of",
]

Verdict = Literal["confirmed", "not confirmed", "undecided"]
Model = Mapping[str, Any]

GROUPS = {"held_out_points": "held-out points", "held_out_families": "held-out families"}
"""The two groups of theories held out from all trainings."""
KINDS = {
    "mixture": "MoT",
    "equal mixture": "MoT at equal numbers",
    "mini-mixture": "mini-MoT",
    "network": "MoT network",
    "single theory": "SSA",
    "unsupervised": "unsupervised",
    "one variable": "one variable",
}
"""Kinds of models, in the order of the page."""
WHICH = ("minimum", "median", "maximum")
NEEDED = 2.0
"""A difference is one if it is larger than this many errors."""
LARGEST_CHANGE = 0.2
"""Two models are equal if they differ by less than this part of the first, errors included."""
ALL = "all"
_BEST = "best SSA"
_ABOUT = 10


@dataclass(frozen=True)
class Level:
    """Minimum, median or maximum TI of a model, or the mean of several trainings of it.

    Attributes
    ----------
    name
        Of the model.
    value, error
        The error has the finite samples and, of several trainings, the scatter of their mean.
    trainings
        How many.
    """

    name: str
    value: float
    error: float
    trainings: int = 1

    def __str__(self) -> str:
        return with_error(self.value, self.error)


@dataclass(frozen=True)
class Finding:
    """One claim in one group of theories: the verdict, and its numbers in a sentence."""

    group: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Claim:
    """A claim, its criterion, and the finding in each group."""

    title: str
    rule: str
    findings: tuple[Finding, ...]


def ti_of(model: Model, group: str) -> Mapping[str, Any] | None:
    """Total improvement of a model for a group of theories; None if it has none."""
    found: Mapping[str, Any] | None = model["groups"].get(group, {}).get("ti")
    return found


def of_kind(models: Iterable[Model], *kinds: str) -> list[Model]:
    """Models of some kinds, in their order."""
    return [model for model in models if model["kind"] in kinds]


def titles_of(models: Iterable[Model]) -> dict[str, str]:
    """Titles of the existing kinds: the known ones in their order, then any other by its own name."""
    present = dict.fromkeys(model["kind"] for model in models)
    known = {kind: title for kind, title in KINDS.items() if kind in present}
    return known | {kind: kind for kind in present if kind not in known}


def single_theories(models: Iterable[Model]) -> tuple[list[Model], list[Model]]:
    """Combinations of single-theory trainings that were chosen for being the best ones, and those that were not chosen."""
    alone = of_kind(models, "single theory")
    chosen = [model for model in alone if model["name"].startswith(_BEST)]
    return chosen, [model for model in alone if model not in chosen]


def best(models: Iterable[Model], group: str, which: str) -> Level | None:
    """Model with the largest value; None if no model has one."""
    found = [(model, ti) for model in models if (ti := ti_of(model, group)) is not None]
    if not found:
        return None
    model, ti = max(found, key=lambda pair: pair[1][which])
    return Level(model["name"], ti[which], ti[f"{which}_error"])


def average(models: Sequence[Model], group: str, which: str, name: str) -> Level | None:
    r"""Mean over trainings of the same kind.

    .. math:: \sigma^2 = \bar\sigma_\mathrm{samples}^2 + s^2 / n

    The test events are the same for all trainings, so that their error does not fall with the number n of trainings; s is the
    standard deviation of different trainings.
    """
    found = [ti for model in models if (ti := ti_of(model, group)) is not None]
    if not found:
        return None
    values = np.array([ti[which] for ti in found])
    samples = float(np.mean([ti[f"{which}_error"] for ti in found]))
    scatter = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Level(name, float(values.mean()), math.hypot(samples, scatter), len(found))


def compare(first: Level, second: Level) -> tuple[float, float]:
    """Difference and its error. Both share test events, which makes the error an upper limit for similar models."""
    return first.value - second.value, math.hypot(first.error, second.error)


def verdict_of(difference: float, error: float) -> Verdict:
    """Test whether a difference is positive."""
    if difference > NEEDED * error:
        return "confirmed"
    return "not confirmed" if difference < -NEEDED * error else "undecided"


def _equal(difference: float, error: float, scale: float) -> Verdict:
    """Test whether a difference is small."""
    if abs(difference) + NEEDED * error < LARGEST_CHANGE * scale:
        return "confirmed"
    return "not confirmed" if abs(difference) > NEEDED * error else "undecided"


def paired(first: Sequence[Model], second: Model, group: str) -> tuple[int, int, float]:
    """Theory by theory: how often the mean of the first is larger, of how many, and the two-sided p-value of the sign test.

    Theories with equal values do not count.
    """
    values: dict[str, list[float]] = {}
    for model in first:
        ti = ti_of(model, group)
        for entry in () if ti is None else ti["signals"]:
            values.setdefault(entry["signal"], []).append(entry["value"])
    other = ti_of(second, group)
    pairs = [
        (float(np.mean(values[entry["signal"]])), entry["value"])
        for entry in (() if other is None else other["signals"])
        if entry["signal"] in values
    ]
    larger, different = sum(a > b for a, b in pairs), sum(a != b for a, b in pairs)
    p = float(stats.binomtest(larger, different, 0.5).pvalue) if different else 1.0
    return larger, different, p


def claims(answers: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Test the claims that the answers of a study allow; empty without the questions ``models`` and ``saturation``."""
    found = []
    models = (answers.get("models") or {}).get("models") or []
    mixtures, minis = of_kind(models, "mixture"), of_kind(models, "mini-mixture")
    chosen, alone = single_theories(models)
    others = of_kind(models, "unsupervised", "one variable")
    larger = f"the difference is larger than {NEEDED:g} errors"

    def add(title: str, rule: str, judge: Callable[[str], Finding | None]) -> None:
        findings = [finding for group in GROUPS if (finding := judge(group)) is not None]
        if findings:
            found.append(Claim(title, rule, tuple(findings)))

    def mot(group: str, which: str) -> Level | None:
        return average(mixtures, group, which, "MoT")

    def against(
        which: str, other: Callable[[str], Level | None], sign: int = 1, of: Sequence[Model] = mixtures
    ) -> Any:
        def judge(group: str) -> Finding | None:
            first, second = average(of, group, which, "MoT"), other(group)
            if first is None or second is None:
                return None
            difference, error = compare(first, second)
            pairs = _pairs(models, of, second, group) if which == "median" else ""
            kind = KINDS[of[0]["kind"]]
            text = (
                f"{which} TI of {kind} {first}, {second.name} {second}: {_sigmas(difference, error)}{pairs}."
            )
            return Finding(group, verdict_of(sign * difference, error), text)

        return judge

    equal = of_kind(models, "equal mixture")
    for title, trained in (("a mini-MoT", minis), ("MoT", equal)):
        add(
            f"at equal numbers of signal events {title} beats training on a single theory (SSA)",
            f"median TI above the mean of the SSA that were not chosen, and {larger}",
            against(
                "median",
                lambda g: average(alone, g, "median", f"mean of {len(alone)} SSA") if alone else None,
                of=trained,
            ),
        )
        add(
            f"at equal numbers of signal events {title} beats even the best SSA",
            f"median TI; the best of all combinations is chosen on the tested theories themselves, which favours it; {larger}",
            against("median", lambda g: best([*chosen, *alone], g, "median"), of=trained),
        )
    for which, what in (("median", "median"), ("minimum", "minimum")):
        add(
            f"MoT beats unsupervised scores in {what} TI",
            f"against the one with the largest {what} TI, which is chosen on the tested theories; {larger}",
            against(which, lambda g, w=which: best(others, g, w)),  # type: ignore[misc]
        )
    add(
        "MoT does not beat unsupervised scores in maximum TI",
        f"an unsupervised score has a larger maximum TI, and {larger}",
        against("maximum", lambda g: best(others, g, "maximum"), -1),
    )

    def mini(group: str) -> Finding | None:
        first = mot(group, "median")
        second = average(minis, group, "median", "mini-MoT") if minis else None
        if first is None or second is None:
            return None
        difference, error = compare(first, second)
        text = f"median TI of MoT {first}, mini-MoT {second}: {_sigmas(difference, error)}, {_relative(difference, error, first)}."
        return Finding(group, _equal(difference, error, first.value), text)

    add(
        "a mini-MoT is as good as MoT",
        f"the median TI differ by less than {LARGEST_CHANGE:.0%} of that of MoT, {NEEDED:g} errors included",
        mini,
    )
    curve = ((answers.get("saturation") or {}).get("joined") or {}).get("theories") or {}
    add(
        f"the gain saturates at about {_ABOUT} theories",
        f"from there to all theories the median TI changes by less than {LARGEST_CHANGE:.0%}, {NEEDED:g} errors of the orders included",
        lambda group: _saturated(curve, group),
    )
    return tuple(found)


def _saturated(curve: Mapping[str, Any], group: str) -> Finding | None:
    values = curve.get(group, {}).get("median")
    steps = [(float(label), i) for i, label in enumerate(curve.get("steps", ())) if label != ALL]
    if not values or not steps:
        return None
    number, place = min(steps, key=lambda step: abs(math.log(step[0] / _ABOUT)))
    here, there, start = (
        _column(values, i, name) for i, name in ((place, f"{number:g}"), (-1, ALL), (0, ""))
    )
    if here is None or there is None or start is None:
        return None
    difference, error = compare(there, here)
    text = f"median TI with {number:g} theories {here}, with all {there}: {_sigmas(difference, error)}, {_relative(difference, error, there)}"
    if place:
        text += f"; with {steps[0][0]:g} it is {start}"
    return Finding(group, _equal(difference, error, there.value), text + ".")


def _column(values: Sequence[Sequence[float | None]], i: int, name: str) -> Level | None:
    # orders that end with the same training are one
    found = np.unique([row[i] for row in values if row[i] is not None])
    if len(found) < 2:
        return None
    return Level(
        name, float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found)), trainings=len(found)
    )


def _sigmas(difference: float, error: float) -> str:
    text = f"difference {with_error(difference, error)}".replace(" -", " −")
    return f"{text} ({abs(difference) / error:.1f} errors)" if error > 0 else text


def _relative(difference: float, error: float, scale: Level) -> str:
    if scale.value <= 0:
        return "no relative change of zero"
    relative = with_error(100 * difference / scale.value, 100 * error / scale.value)
    return f"({relative}) % of it".replace("(-", "(−")


def _pairs(models: Sequence[Model], mixtures: Sequence[Model], other: Level, group: str) -> str:
    found = [model for model in models if model["name"] == other.name]
    if not found:
        return ""
    larger, n, p = paired(mixtures, found[0], group)
    return f"; larger for {larger} of {n} theories (sign test p = {p:.2g})" if n else ""
