"""Reservations and cautions about a result."""

from __future__ import annotations

from dataclasses import dataclass

from serendip.io.units import GEV
from serendip.report.load import Run
from serendip.report.words.numbers import counted, interval, number, p_text, percent, with_error, z_text
from serendip.report.words.sentences import (
    bound_by_looks,
    effective_sentence,
    is_excess,
    look_name,
    method_and_cut,
    sentence,
    toys_exhausted,
)
from serendip.search.diagnostic_records import Closure, Correlation, Spectrum
from serendip.search.results import Look, SidebandExcess

__all__ = ["VISIBLE_CLOSURE", "Note", "notes", "reservation"]

POOR_FIT = 0.01
VISIBLE_CLOSURE = 0.55
FEW_EXPECTED = 1.0
FEW_SIDEBAND = 20


@dataclass(frozen=True)
class Note:
    """A caution: a finding and its meaning for the reader."""

    title: str
    text: str


def _some(names: list[str]) -> str:
    shown = "; ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}; and {len(names) - 4} more"


def _poor_fits(look: Look, below: float = POOR_FIT) -> list[str]:
    """Parts of a look's background model in tension with the sidebands."""
    if look.fit is None or look.dead is not None:
        return []
    after = "mean weight against the mass" if look.weighted else "efficiency of the cut"
    parts = {"spectrum": look.fit.gof_p, after: look.fit.efficiency_gof_p}
    return [f"{part}: p = {p_text(p)}" for part, p in parts.items() if p is not None and p < below]


def _knows_the_mass(record: Correlation) -> bool:
    return record.distance_correlation > 2 * record.null_level


def _does_not_close(record: Closure) -> bool:
    return record.auc is not None and record.auc - 2 * (record.auc_error or 0.0) > VISIBLE_CLOSURE


def _sideband_events(spectrum: Spectrum) -> float | None:
    """Events outside the window; None where another blinded window hides some of them."""
    counts = [
        count
        for count, low in zip(spectrum.observed, spectrum.edges, strict=False)
        if not spectrum.window[0] <= low < spectrum.window[1]
    ]
    return None if None in counts else sum(count or 0.0 for count in counts)


def reservation(run: Run) -> str:
    """Why the result must not be quoted as it stands; empty if there is no reason."""
    best = run.results.best
    if best is None or not is_excess(run.results):
        # a wrong background hides an excess as easily as it makes one
        claims = run.results.claims
        chance = POOR_FIT / len(claims)
        poor = [look_name(look, run.diagnostics.unit) for look in claims if _poor_fits(look, chance)]
        return f"Not to be quoted as it stands: the fit is poor in {_some(poor)}." if poor else ""

    def same(record: Correlation | Closure) -> bool:
        return (record.method, record.window) == (best.method, best.window)

    reasons = []
    if poor := _poor_fits(best):
        reasons.append(f"the fit is poor ({', '.join(poor)})")
    if best.fit is not None and best.fit.turn_on_spread:
        reasons.append(
            f"functions with a turn-on expect {best.fit.turn_on_spread:.0%} more or less: the window lies on a turn-on, or on a "
            "peak whose tails extend beyond it"
        )
    if best.fit is not None and best.fit.rough_spread:
        reasons.append(
            f"functions that bend faster describe the sidebands better and expect {best.fit.rough_spread:.0%} more or less: the excess may "
            "be the top of a broad structure"
        )
    if best.fit is not None and best.fit.kink_weight:
        reasons.append(
            f"a kink of the spectrum in the window has {best.fit.kink_weight:.0%} of the weight in the average of background functions, "
            "and could explain the excess"
        )
    if any(same(record) and _knows_the_mass(record) for record in run.diagnostics.correlation):
        reasons.append(
            "its score depends on the mass, so that the selection may sculpt a bump out of background"
        )
    if any(same(record) and _does_not_close(record) for record in run.diagnostics.closure):
        reasons.append("its template does not close")
    if best.warning:
        reasons.append(best.warning.rstrip("."))
    if not reasons:
        return ""
    return f"Not to be quoted as it stands: {'; '.join(reasons)}."


def _beside(run: Run, excess: SidebandExcess) -> Note:
    """An excess in the sidebands, and the mask that keeps it out of the fit."""
    results, unit = run.results, run.diagnostics.unit
    window = interval(excess.window, unit)
    after = "" if excess.look is None else f" in the look of {method_and_cut(results.looks[excess.look])}"
    overlaps = [
        (min(w[1], excess.high) - max(w[0], excess.low), w) for w in results.windows if w != excess.window
    ]
    most, tested = max(overlaps, default=(0.0, excess.window))
    own = (
        f" It lies in the tested window {interval(tested, unit)}, which is tested by its own look."
        if most > 0
        else ""
    )
    # masks are given in the unit of the input
    scale = GEV[run.config.get("unit", "GeV")]
    mask = f"{excess.low / scale:.5g}:{excess.high / scale:.5g}"
    change = "lower" if excess.window_without < excess.window_expected else "raise"
    counts = (
        f"{counted(excess.observed, 'event')}, {with_error(excess.expected, excess.expected_error)} expected"
    )
    return Note(
        "An excess in the sidebands",
        f"The sidebands of {window} hold an excess at {interval((excess.low, excess.high), unit)}{after}: {counts}, "
        f"{z_text(excess.z_local)}, p = {p_text(excess.p)} after correcting for its possible positions.{own} If it is a known resonance, "
        f"mask it (--mask {mask}): that would {change} the expectation in the window from {number(excess.window_expected)} to "
        f"{number(excess.window_without)}.",
    )


def notes(run: Run) -> list[Note]:
    """Cautions about the result."""
    results, pictures, unit = run.results, run.diagnostics, run.diagnostics.unit
    found: list[Note] = []

    def add(title: str, names: list[str], text: str) -> None:
        if names:
            found.append(Note(title, f"{_some(names)}. {text}"))

    for reason in dict.fromkeys(look.dead for look in results.looks if look.dead):
        add(
            "Dead looks",
            [look_name(look, unit) for look in results.looks if look.dead == reason],
            f"{sentence(reason)} They do not enter the global p-value.",
        )
    found += [_beside(run, excess) for excess in results.sidebands]
    if any("kfold-summed" in look.combination for look in results.looks):
        found.append(
            Note(
                "Combination overstates the significance",
                "The folds were combined with kfold-summed. Its p-values are too small (10 to 40 times at "
                "3 σ in the worst case) unless they were calibrated with the full chain on pseudo-data. "
                "Use the combination 'weighted' or 'sequential' for a result.",
            )
        )
    add(
        "Poor fit",
        [
            f"{look_name(look, unit)} ({', '.join(poor)})"
            for look in results.looks
            if (poor := _poor_fits(look))
        ],
        "The background function does not describe the sidebands; the expectation may be biased.",
    )
    add(
        "The template does not close",
        [
            f"{c.method} at {interval(c.window, unit)} (AUC {with_error(c.auc, c.auc_error)})"
            for c in pictures.closure
            if _does_not_close(c)
        ],
        "Held-out sideband events can be distinguished from the template, so the classifier may have learnt "
        "the flaws of the template instead of a signal.",
    )
    add(
        "Score depends on the mass",
        [
            f"{c.method} at {interval(c.window, unit)} "
            f"({c.distance_correlation:.3f}, limit {c.null_level:.3f})"
            for c in pictures.correlation
            if _knows_the_mass(c)
        ],
        "In the sidebands the score is correlated with the mass, so that cuts and weights change the shape of the background. "
        "The fit describes only a gentle change: an excess here can be background. Remove features correlated with the "
        "mass (serendip inspect lists them), or use a method that allows them.",
    )
    add(
        "Very few events expected",
        [
            f"{look_name(look, unit)} ({with_error(look.expected, look.expected_error)})"
            for look in results.seeing
            if not look.weighted and look.expected < FEW_EXPECTED
        ],
        "With less than one expected event the p-value changes in large steps and depends on a single event.",
    )
    add(
        "Few sideband events after the cut",
        [
            f"{s.method} at {interval(s.window, unit)}, {percent(s.working_point)} ({number(n)})"
            for s in pictures.spectra
            if s.working_point is not None
            and (s.look is None or results.looks[s.look].dead is None)
            and (n := _sideband_events(s)) is not None
            and n < FEW_SIDEBAND
        ],
        "The expectation rests on few events; its error bar is large and the shape is hardly tested.",
    )
    add(
        "Few effective sideband events",
        [
            f"{look_name(look, unit)} ({look.effective_events.sideband:.2g})"
            for look in results.seeing
            if look.weighted and look.effective_events and look.effective_events.sideband < FEW_SIDEBAND
        ],
        "The weights outside the window are worth only that many effective events; the error of the expectation is large.",
    )
    for text in dict.fromkeys(look.warning for look in results.looks if look.warning):
        names = [look_name(look, unit) for look in results.looks if look.warning == text]
        found.append(Note("Note from the fit", f"{text.rstrip('.')} ({_some(names)})."))
    given = run.config.get("weight") or run.config.get("group")
    if given and (worth := effective_sentence(run)):
        found.append(Note("Weighted events" if run.config.get("weight") else "Grouped events", worth))
    toys = None if results.overall is None else toys_exhausted(results.overall)
    if toys is not None and results.overall is not None:
        bound = (
            "the global p is the smallest p-value times the number of looks (Bonferroni)."
            if bound_by_looks(results.overall)
            else "the global p is a bound. More toys would improve it."
        )
        found.append(
            Note("Toys exhausted", f"None of the {number(toys)} toys was as extreme as the data, so {bound}")
        )
    return found
