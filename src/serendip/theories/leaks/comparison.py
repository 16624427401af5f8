r"""Leak audit: differences between two samples that are artefacts, not physics.

A supervised classifier that is trained on samples of different origin learns first how they were made. Channel 1 of the
public Dark Machines files is an example: the signals have jets up to :math:`|\eta|` of about 4.9, the background stops at 2.8. The audit makes no use of this. It tests every single number of an event for

* an edge of the support that only one sample has (:func:`~serendip.theories.leaks.tests.support_edge`),
* a value that only one sample repeats, other numbers of digits, and repeated values in general,
* rules that only one sample obeys always or never: the order on the line, objects without mass.

Smooth differences, however large, are physics: they are listed with their AUC. Interior gaps, and an edge that a few stray events of
the same sample lie far beyond, are not looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.objects import ObjectEvents
from serendip.methods.figures_of_merit import max_sic, sic_curve
from serendip.statistics.pvalues import binomial_interval
from serendip.theories.leaks.features import ALWAYS, Feature, event_features, object_values, rules
from serendip.theories.leaks.report import EdgeLeak, FormLeak, LeakReport, Sample, Separation
from serendip.theories.leaks.tests import (
    MAX_DIGITS,
    fisher_log_p,
    point_mass,
    repeats,
    significant_digits,
    support_edge,
)
from serendip.theories.merits import BackgroundScores
from serendip.wording import counted

__all__ = ["EdgeLeak", "FormLeak", "LeakReport", "Separation", "audit"]

Array = NDArray[np.float64]
Features = Mapping[str, Feature]

MIN_EVENTS = 20
HINT = 1e-3
ONE_SIDED_95 = 0.90


def audit(
    background: ObjectEvents, signal: ObjectEvents, *, level: float = 0.01, min_background: float = 10
) -> LeakReport:
    """Find differences between two samples that are artefacts.

    Parameters
    ----------
    background, signal
        Samples in the same units. Either may be the one with the fault.
    level
        Global p-value (Bonferroni over all tests) below which a difference is called a leak.
    min_background
        Cuts of :class:`Separation` leave at least this many background events.

    Returns
    -------
    LeakReport
        Its text is for people, ``to_dict()`` for files.

    Raises
    ------
    InputError
        If a sample has fewer than 20 events or a value that is not finite, or the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"the level must be between 0 and 1, got {level}")
    for name, events in (("background", background), ("signal", signal)):
        _check(name, events)
    ours, theirs = event_features(background), event_features(signal)
    sizes = {"background": len(background), "signal": len(signal)}

    forms = _Forms()
    forms.rules(background, signal)
    forms.values(object_values(background), object_values(signal))
    edges = _edges(ours, theirs)
    tests = forms.tests + 4 * sum(1 for name in ours if len(ours[name].present) and len(theirs[name].present))
    log_level = math.log(level / tests)
    found, hints = _rank(edges, ours, theirs, sizes, tests, log_level)
    leaks = tuple(
        replace(leak, log10_p_global=_global(leak.log10_p * math.log(10), tests))
        for leak in sorted(forms.found, key=lambda leak: leak.log10_p)
        if leak.log10_p * math.log(10) < log_level
    )
    involved = {name for leak in found for name in (leak.feature, *leak.also)}
    return LeakReport(
        background_events=len(background),
        signal_events=len(signal),
        tests=tests,
        level=level,
        edges=found,
        forms=leaks,
        hints=hints,
        constant=tuple(_constant(ours, theirs)),
        separations=_separations(ours, theirs, involved, min_background),
    )


def _check(name: str, events: ObjectEvents) -> None:
    if len(events) < MIN_EVENTS:
        raise InputError(
            f"the {name} has {counted(len(events), 'event')}; an audit needs at least {MIN_EVENTS}"
        )
    for column in ("met", "met_phi", "pt", "eta", "phi"):
        values = getattr(events, column)
        if not np.isfinite(values).all():
            bad = int(np.argmin(np.isfinite(values)))
            row = (
                bad if len(values) == len(events) and column.startswith("met") else int(events.event_of[bad])
            )
            raise InputError(
                f"'{column}' of event {row} of the {name} (counted from 0) is {values[bad]}; an audit needs finite numbers"
            )
    if np.any(events.pt <= 0):
        bad = int(np.argmax(events.pt <= 0))
        raise InputError(
            f"an object of event {int(events.event_of[bad])} of the {name} (counted from 0) has pT = {events.pt[bad]:g} GeV; an "
            "audit needs positive numbers"
        )


@dataclass(frozen=True)
class _Edge:
    name: str
    side: Literal["upper", "lower"]
    stops: Sample
    edge: float
    expected: float
    log_p: float


def _edge(
    name: str, ours: Array, theirs: Array, side: Literal["upper", "lower"], stops: Sample
) -> _Edge | None:
    short, long = (ours, theirs) if stops == "background" else (theirs, ours)
    tested = support_edge(short, long, upper=side == "upper")
    if tested is None or tested.log_p == 0:
        return None
    return _Edge(name, side, stops, tested.edge, tested.expected, tested.log_p)


def _edges(ours: Features, theirs: Features) -> list[_Edge]:
    sides: tuple[Literal["upper", "lower"], ...] = ("upper", "lower")
    samples: tuple[Sample, ...] = ("background", "signal")
    tested = (
        _edge(name, ours[name].present, theirs[name].present, side, stops)
        for name in ours
        for side in sides
        for stops in samples
    )
    return [edge for edge in tested if edge is not None]


def _beyond(edge: _Edge, values: Array) -> NDArray[np.bool_]:
    return np.asarray(values > edge.edge if edge.side == "upper" else values < edge.edge)


def _rank(
    edges: list[_Edge],
    ours: Features,
    theirs: Features,
    sizes: Mapping[str, int],
    tests: int,
    log_level: float,
) -> tuple[tuple[EdgeLeak, ...], tuple[EdgeLeak, ...]]:
    def described(edge: _Edge) -> EdgeLeak:
        return _describe(edge, (theirs if edge.stops == "background" else ours)[edge.name], sizes, tests)

    # Of equal numbers the more specific one, which comes later, represents the others.
    order = {name: place for place, name in enumerate(ours)}
    waiting = [edge for edge in edges if edge.log_p < log_level]
    weak = [edge for edge in edges if log_level <= edge.log_p < math.log(HINT)]
    keep = {
        "background": np.ones(sizes["background"], dtype=bool),
        "signal": np.ones(sizes["signal"], dtype=bool),
    }

    def remains(edge: _Edge, limit: float) -> bool:
        b, s = ours[edge.name].values[keep["background"]], theirs[edge.name].values[keep["signal"]]
        again = _edge(edge.name, b[~np.isnan(b)], s[~np.isnan(s)], edge.side, edge.stops)
        return again is not None and again.log_p < limit

    found: list[EdgeLeak] = []
    while waiting:
        first = min(waiting, key=lambda edge: (-described(edge).si_limit, -order[edge.name]))
        long: Sample = "signal" if first.stops == "background" else "background"
        keep[long] &= ~_beyond(first, (theirs if long == "signal" else ours)[first.name].values)
        others = [edge for edge in waiting if edge is not first]
        # Without the events beyond, the same edge leaves nothing; another one is only weaker.
        waiting = [edge for edge in others if remains(edge, math.log(HINT))]
        also = dict.fromkeys(edge.name for edge in others if edge not in waiting and edge.name != first.name)
        found.append(replace(described(first), also=tuple(also)))
    hints = [described(edge) for edge in weak if not found or remains(edge, math.log(HINT))]
    return (
        tuple(sorted(found, key=lambda leak: -leak.si_limit)),
        tuple(sorted(hints, key=lambda leak: leak.log10_p)),
    )


def _describe(edge: _Edge, long: Feature, sizes: Mapping[str, int], tests: int) -> EdgeLeak:
    none_of = sizes[edge.stops]
    of = sizes["signal" if edge.stops == "background" else "background"]
    beyond = int(np.count_nonzero(_beyond(edge, long.values)))
    low, high = binomial_interval(beyond, of)
    limit = binomial_interval(0, none_of, ONE_SIDED_95)[1]
    at_least = binomial_interval(beyond, of, ONE_SIDED_95)[0]
    si = at_least / math.sqrt(limit) if edge.stops == "background" else (1 - limit) / math.sqrt(1 - at_least)
    objects = long.objects
    return EdgeLeak(
        feature=edge.name,
        quantity=long.quantity,
        side=edge.side,
        edge=edge.edge,
        stops=edge.stops,
        none_of=none_of,
        limit=limit,
        beyond=beyond,
        of=of,
        fraction=beyond / of,
        fraction_low=low,
        fraction_high=high,
        objects_beyond=None if objects is None else int(np.count_nonzero(_beyond(edge, objects))),
        objects=None if objects is None else len(objects),
        expected=edge.expected,
        si_limit=si,
        log10_p=edge.log_p / math.log(10),
        log10_p_global=_global(edge.log_p, tests),
    )


def _global(log_p: float, tests: int) -> float:
    return min(0.0, log_p + math.log(tests)) / math.log(10)


class _Forms:
    """Tests of how numbers are written and ordered."""

    def __init__(self) -> None:
        self.found: list[FormLeak] = []
        self.tests = 0

    def rules(self, background: ObjectEvents, signal: ObjectEvents) -> None:
        ours, theirs = rules(background), rules(signal)
        for name, (k_b, n_b) in ours.items():
            k_s, n_s = theirs[name]
            if not n_b or not n_s:
                continue
            # A rule has no exception; any other fraction may be physics.
            strict = {k_b / n_b, k_s / n_s} & ({1.0} if name.startswith(ALWAYS) else {0.0, 1.0})
            log_p = fisher_log_p(k_b, n_b, k_s, n_s) if strict else 0.0
            self._add("rule", name, (k_b, n_b, k_s, n_s), "holds", log_p)

    def values(self, background: Mapping[str, Array], signal: Mapping[str, Array]) -> None:
        for name, ours in background.items():
            theirs = signal[name]
            n_b, n_s = len(ours), len(theirs)
            if min(n_b, n_s) < MIN_EVENTS:
                continue
            value, k_b, k_s, log_p = point_mass(ours, theirs)
            self._add("point mass", name, (k_b, n_b, k_s, n_s), f"equal to {value:.9g}", log_p)
            k_b, k_s, n, log_p = repeats(ours, theirs)
            self._add("repeats", name, (k_b, n, k_s, n), "value that occurs before", log_p)
            self._digits(name, ours, theirs)

    def _digits(self, name: str, ours: Array, theirs: Array) -> None:
        digits_b, digits_s = significant_digits(ours), significant_digits(theirs)
        tried = []
        for most in range(1, MAX_DIGITS + 1):
            k_b, k_s = (int(np.count_nonzero(digits <= most)) for digits in (digits_b, digits_s))
            tried.append((fisher_log_p(k_b, len(ours), k_s, len(theirs)), most, k_b, k_s))
        log_p, most, k_b, k_s = min(tried)
        counts = (k_b, len(ours), k_s, len(theirs))
        self._add("digits", name, counts, f"at most {most} digits", min(0.0, log_p + math.log(MAX_DIGITS)))

    def _add(
        self,
        kind: Literal["point mass", "digits", "repeats", "rule"],
        name: str,
        counts: tuple[int, int, int, int],
        text: str,
        log_p: float,
    ) -> None:
        self.tests += 1
        log10_p = log_p / math.log(10)
        self.found.append(FormLeak(kind, name, *counts, text=text, log10_p=log10_p, log10_p_global=0.0))


def _constant(ours: Features, theirs: Features) -> Iterator[tuple[str, Sample, float]]:
    for name in ours:
        b, s = ours[name].present, theirs[name].present
        if len(b) < MIN_EVENTS or len(s) < MIN_EVENTS:
            continue
        b_constant, s_constant = bool(np.all(b == b[0])), bool(np.all(s == s[0]))
        if b_constant and not s_constant:
            yield name, "background", float(b[0])
        elif s_constant and not b_constant:
            yield name, "signal", float(s[0])


def _separations(
    ours: Features, theirs: Features, involved: set[str], min_background: float
) -> tuple[Separation, ...]:
    rows = [
        _separation(name, ours[name], theirs[name], name in involved, min_background)
        for name in ours
        if min(len(ours[name].present), len(theirs[name].present)) >= MIN_EVENTS
    ]
    return tuple(sorted(rows, key=lambda row: row.auc_error - abs(row.auc - 0.5)))


def _separation(
    name: str, ours: Feature, theirs: Feature, construction: bool, min_background: float
) -> Separation:
    b, s = ours.present, theirs.present
    merit = BackgroundScores(b).merits(s)
    labels = np.r_[np.zeros(len(b), dtype=bool), np.ones(len(s), dtype=bool)]
    values = np.r_[b, s]
    centre = float(np.median(b))
    texts = {
        ">= {0:.6g}": values,
        "<= {1:.6g}": -values,
        "outside {2:.6g} to {3:.6g}": np.abs(values - centre),
        "inside {3:.6g} to {2:.6g}": -np.abs(values - centre),
    }
    best, cut = None, ""
    for text, scores in texts.items():
        curve = sic_curve(labels, scores, min_background=min_background)
        if len(curve.sic) == 0:
            continue
        point = max_sic(curve)
        if best is None or point.sic > best.sic:
            at = point.threshold
            best, cut = point, f"{name} " + text.format(at, -at, centre - at, centre + at)
    n_b, n_s = len(ours.values), len(theirs.values)
    k_b = 0 if best is None else round(best.eps_b * len(b))
    k_s = 0 if best is None else round(best.eps_s * len(s))
    eps_s, eps_b = k_s / n_s, k_b / n_b
    return Separation(
        feature=name,
        auc=merit.auc,
        auc_error=merit.auc_error,
        cut=cut,
        eps_s=eps_s,
        eps_s_interval=binomial_interval(k_s, n_s),
        eps_b=eps_b,
        eps_b_interval=binomial_interval(k_b, n_b),
        si=eps_s / math.sqrt(eps_b) if eps_b > 0 else 0.0,
        construction=construction,
    )
