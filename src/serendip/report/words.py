"""Numbers of a run as sentences that a physicist would write."""

from __future__ import annotations

import math
from dataclasses import dataclass

from serendip.report.load import (
    Closure,
    Correlation,
    GlobalResult,
    LearnedSignal,
    Look,
    Results,
    Run,
    SidebandExcess,
    Spectrum,
)
from serendip.statistics.pvalues import z_value

__all__ = [
    "GLOSSARY",
    "Note",
    "choice_sentence",
    "cut",
    "describe_look",
    "effective_sentence",
    "global_label",
    "headline",
    "interval",
    "notes",
    "number",
    "p_text",
    "percent",
    "reservation",
    "toys_exhausted",
    "trials_sentence",
    "verdict",
    "with_error",
    "z_text",
]

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NBSP = "\u00a0"
POOR_FIT = 0.01
VISIBLE_CLOSURE = 0.55
FEW_EXPECTED = 1.0
FEW_SIDEBAND = 20

GLOSSARY = {
    "look": "One test: one method, one mass window, one working point.",
    "window": "The mass range that is tested, also called signal region. The rest is the sideband.",
    "sideband": "Events outside the window. They fix the background expectation inside it.",
    "working point": "How hard the cut on the anomaly score is: the fraction ε_B of background that passes.",
    "anomaly score": "The output of a method; larger means less like the background.",
    "local p": "The probability that background alone gives an excess at least this large in this one look.",
    "global p": "The probability that background alone gives an excess at least this significant "
    "anywhere among all looks of this run.",
    "cannot see": "A cut that keeps no sideband event keeps no event at all: there is nothing to find for such a look.",
    "σ": "A p-value written as the distance from the mean of a Gaussian (one-sided): "
    "p = 0.0013 is 3 σ, p = 2.9 × 10⁻⁷ is 5 σ.",
    "trials": "How the step from the local to the global p-value was made.",
    "fold": "A part of the events, chosen by the id of each event. The score of an event comes from a model "
    "that never saw it.",
    "template": "Events that stand for background inside the window; the classifier compares data with them.",
    "closure": "A test where the answer is known: held-out sideband events must look like the template.",
    "AUC": "Area under the ROC curve of a classifier: 0.5 means that two samples cannot be told apart, "
    "1 means perfectly.",
    "goodness of fit": "The probability of a fit at least as bad as this one if the function were right. "
    "Below 0.01 the function does not describe the sidebands.",
    "SIC": "Significance improvement ε_S/√ε_B: the factor by which a cut on the score improves S/√B.",
    "distance correlation": "0 if score and mass are independent, up to 1 if one fixes the other.",
    "pull": "How many σ a bin lies above (+) or below (−) its expectation, from Poisson counting "
    "alone (arXiv:1111.2062).",
}


@dataclass(frozen=True)
class Note:
    """A caution: what was found and what it means for the reader."""

    title: str
    text: str


def p_text(p: float | None) -> str:
    """Write a p-value with two significant digits: ``0.31``, ``0.002``, ``3.1 × 10⁻⁶``; zero is what double precision cannot hold."""
    if p is None or not math.isfinite(p):
        return "–"
    if p <= 0:
        return f"<{NBSP}10⁻³⁰⁰"
    if p >= 0.00095:
        return f"{p:.2g}"
    digits, power = f"{p:.1e}".split("e")
    return f"{digits}{NBSP}×{NBSP}10{str(int(power)).translate(SUPERSCRIPTS)}"


def z_text(z: float | None) -> str:
    """Write a significance: ``4.5 σ``."""
    return (
        "–"
        if z is None or not math.isfinite(z)
        else f"{z:.1f}{NBSP}σ".replace("-0.0", "0.0").replace("-", "−")
    )


def number(value: float | None) -> str:
    """Write a count, with thin spaces from 10 000 on; weighted counts keep one decimal."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.1f}"
    return text.replace(",", "\u202f") if abs(value) >= 10_000 else text.replace(",", "")


def percent(fraction: float | None) -> str:
    """Write a fraction in per cent: 0.001 is ``0.1 %``; everything is no cut."""
    return "no cut" if fraction in (None, 1) else f"{100 * fraction:.3g}{NBSP}%"


def cut(working_point: float | None) -> str:
    """Write a working point: ``ε_B = 0.1 %`` or ``no cut``."""
    return percent(working_point) if working_point in (None, 1) else f"ε_B = {percent(working_point)}"


def with_error(value: float | None, error: float | None) -> str:
    """Write a value and its error, rounded as the Particle Data Group does: ``20.3 ± 2.1``."""
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.3g}"
    leading = error / 10.0 ** math.floor(math.log10(error))
    digits = 1 if 3.545 <= leading < 9.495 else 2
    decimals = max(0, digits - 1 - math.floor(math.log10(error) + (leading >= 9.495)))
    return f"{value:,.{decimals}f}{NBSP}±{NBSP}{error:,.{decimals}f}".replace(
        ",", "\u202f" if value >= 10_000 else ""
    )


def signal_share(signal: LearnedSignal) -> str:
    """Write how much of the window's events is signal, in per cent."""
    share = with_error(100 * signal.fraction, 100 * signal.fraction_error)
    return f"{share}{NBSP}% of the events in the window ({100 * signal.trained_fraction:.2g}{NBSP}% in its training)"


def interval(window: tuple[float, float], unit: str = "GeV") -> str:
    """Write a mass window to a per cent of its width: ``3300–3700 GeV``."""
    width = abs(window[1] - window[0])
    decimals = max(0, 2 - math.floor(math.log10(width))) if width > 0 else 0
    return f"{window[0]:.{decimals}f}–{window[1]:.{decimals}f} {unit}".strip()


def _cut(look: Look) -> str:
    return f"method {look.method}, {cut(look.working_point)}"


def toys_exhausted(overall: GlobalResult) -> int | None:
    """Return the number of toys if none of them was as extreme as the data, else None.

    Toys give p = (k + 1)/(N + 1): at k = 0 this is only an upper bound.
    """
    return overall.n_toys if overall.n_reached == 0 else None


def global_label(overall: GlobalResult) -> str:
    """Label of the line at the global p-value: ``global p = 0.02``, or ``<`` where toys give a bound only."""
    return f"global p {'=' if toys_exhausted(overall) is None else '<'} {p_text(overall.p)}"


def _looks(n: int) -> str:
    return "1 look" if n == 1 else f"{n} looks"


def describe_look(look: Look) -> str:
    """One look in a phrase: counts and local significance."""
    if look.dead is not None:
        return f"cannot see anything: {look.dead}"
    expected = with_error(look.expected, look.expected_error)
    if look.observed is None:
        return f"{expected} background events expected"
    # p = 1 is no distance from the background
    local = "no excess" if look.z_local is None else f"local {z_text(look.z_local)}"
    events = "event" if look.observed == 1 else "events"
    return f"{number(look.observed)} {events} observed, {expected} expected, {local} (p = {p_text(look.p_local)})"


def _sentence(text: str | None) -> str:
    return f"{text.rstrip('.')}." if text else ""


def choice_sentence(run: Run) -> str:
    """What the search chose from the size of the sample; empty if nothing."""
    chosen = run.manifest.chosen
    # a look without a cut has no use for them
    if chosen is None or all(look.working_point in (None, 1) for look in run.results.looks):
        return ""
    parts = []
    if chosen.folds is not None:
        parts.append(f"{chosen.folds} folds")
    if chosen.working_points is not None:
        parts.append(f"ε_B = {' and '.join(percent(point) for point in chosen.working_points)}")
    return (
        f"Chosen for {number(chosen.sideband_events)} sideband events: {', '.join(parts)}. "
        "--folds and --working-points set others."
    )


def _global_phrase(results: Results) -> str:
    overall, looks = results.overall, _looks(results.n_looks)
    if overall is None:
        return f"no global p-value was made ({looks})"
    n = toys_exhausted(overall)
    trials = f"; {overall.trials}" if overall.trials else ""
    if overall.z is None or not math.isfinite(overall.z):
        return f"global p = {p_text(overall.p)} ({looks}{trials})"
    if n is not None:
        return (
            f"global p < {p_text(overall.p)}, above {z_text(overall.z)} "
            f"({looks}; toys exhausted: none of {number(n)} was as extreme)"
        )
    return f"global {z_text(overall.z)} (p = {p_text(overall.p)}, {looks}{trials})"


def _is_excess(results: Results) -> bool:
    best = results.best
    p = results.overall.p if results.overall is not None else best.p_local if best is not None else None
    return p is not None and p < 0.05


def headline(results: Results, unit: str = "GeV") -> str:
    """Write the result of a run in one or two sentences."""
    best = results.best
    if not results.seeing:
        none = (
            "the only look cannot"
            if len(results.looks) == 1
            else f"none of the {len(results.looks)} looks can"
        )
        return f"Nothing was searched: {none} see anything."
    if results.blinded or best is None:
        look = results.seeing[0]
        more = (
            ""
            if len(results.looks) == 1
            else f" This is the first of {len(results.looks)} looks; the table has all."
        )
        return (
            "Blinded: nothing inside the tested windows has been counted. "
            f"At {interval(look.window, unit)} ({_cut(look)}) "
            f"{with_error(look.expected, look.expected_error)} background events are expected.{more}"
        )
    what = (
        f"at {interval(best.window, unit)} ({_cut(best)}): {describe_look(best)}, {_global_phrase(results)}."
    )
    if _is_excess(results):
        return f"The largest excess is {what}"
    return f"No significant excess: the most significant look is {what}"


def verdict(results: Results) -> str:
    """Say what the field's conventions make of the global significance."""
    best = results.best
    if not results.seeing:
        return f"This run says nothing about a signal. {_sentence(results.looks[0].dead)}"
    if results.blinded or best is None:
        return (
            "To open the windows, repeat the search command with --unblind. "
            "The time and the configuration are then recorded in manifest.json."
        )
    z = results.overall.z if results.overall is not None else best.z_local
    if best.z_local is None or z is None:
        return (
            "There is no excess in any look. p = 1 is the largest there is, whatever is expected: it does not say how well "
            "background describes the data."
        )
    scope = "Globally" if results.overall is not None else "Locally"
    if not _is_excess(results):
        dead = len(results.looks) - len(results.seeing)
        blind = f"; {_looks(dead)} could see nothing" if dead else ""
        return f"Background alone explains the data of this run{blind}."
    if results.overall is not None and toys_exhausted(results.overall) is not None and z < 5:
        bound = results.overall.bonferroni
        if bound is None or bound >= results.overall.p:
            return f"Globally this is more than {z_text(z)}; more toys are needed to say how much more."
        return (
            f"The toys alone say: globally more than {z_text(z)}. Counting every look as independent (Bonferroni) gives "
            f"at least {z_text(float(z_value(bound)))} (p ≤ {p_text(bound)}), as far as the local p-value can be trusted."
        )
    if z < 3:
        return f"{scope} this is {z_text(z)}: below 3 σ, which the field calls evidence."
    if z < 5:
        return f"{scope} this is {z_text(z)}: above 3 σ (evidence), not shown to reach 5 σ (observation)."
    return f"{scope} this is {z_text(z)}: above 5 σ, which the field calls an observation."


def trials_sentence(results: Results) -> str:
    """How the global p-value was made, its own uncertainty, and the cross-checks beside it."""
    overall = results.overall
    if overall is None:
        return ""
    parts = [f"Global p-value: {overall.trials}." if overall.trials else ""]
    if overall.p_interval_68 is not None and toys_exhausted(overall) is None and overall.p < 1:
        low, high = overall.p_interval_68
        parts.append(f"The finite number of toys leaves p between {p_text(low)} and {p_text(high)} (68 %).")
    checks = []
    if overall.gross_vitells is not None:
        checks.append(f"Gross–Vitells p = {p_text(overall.gross_vitells)}")
    if overall.bonferroni is not None:
        checks.append(f"Bonferroni ({_looks(results.n_looks)}) p ≤ {p_text(overall.bonferroni)}")
    if checks:
        parts.append(f"Cross-checks without these toys: {', '.join(checks)}.")
    return " ".join(part for part in parts if part)


def effective_sentence(run: Run) -> str:
    """What weighted or grouped events are worth in the most significant look, or the first; empty if all count alike."""
    look = run.results.best or run.results.looks[0]
    why = [what for key, what in (("weight", "weights"), ("group", "groups")) if run.config.get(key)]
    if not why or look.effective_events is None:
        return ""
    found = look.effective_events
    inside = "" if found.window is None else f"{found.window:.3g} in the window and "
    before = "" if look.fit is None or look.fit.effective_events is None else (
        f"; before the cut {look.fit.effective_events:.4g} beside the window"
    )  # fmt: skip
    return (
        f"Effective number of events, (Σw)²/Σw² with the {' and '.join(why)}, in {_name(look, run.diagnostics.unit)}: "
        f"{inside}{found.sideband:.3g} beside it{before}."
    )


def _name(look: Look, unit: str) -> str:
    return f"{look.method} at {interval(look.window, unit)}, {percent(look.working_point)}"


def _some(names: list[str]) -> str:
    shown = "; ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}; and {len(names) - 4} more"


def _poor_fits(look: Look, below: float = POOR_FIT) -> list[str]:
    """What of a look's background model the sidebands contradict."""
    if look.fit is None or look.dead is not None:
        return []
    parts = {"spectrum": look.fit.gof_p, "efficiency of the cut": look.fit.efficiency_gof_p}
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
    if best is None or not _is_excess(run.results):
        # a wrong background hides an excess as easily as it makes one
        chance = POOR_FIT / max(len(run.results.looks), 1)
        poor = [_name(look, run.diagnostics.unit) for look in run.results.looks if _poor_fits(look, chance)]
        return f"Not to be quoted as it stands: the fit is poor in {_some(poor)}." if poor else ""

    def same(record: Correlation | Closure) -> bool:
        return (record.method, record.window) == (best.method, best.window)

    reasons = []
    if poor := _poor_fits(best):
        reasons.append(f"the fit is poor ({', '.join(poor)})")
    if best.fit is not None and best.fit.turn_on_spread:
        reasons.append(
            f"functions with a turn-on expect {best.fit.turn_on_spread:.0%} more or less: the window lies on a turn-on, or on a "
            "peak whose flanks reach beyond it"
        )
    if any(same(record) and _knows_the_mass(record) for record in run.diagnostics.correlation):
        reasons.append("its score depends on the mass, so that the cut may make a bump out of background")
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
    after = "" if excess.look is None else f" after the cut of {_cut(results.looks[excess.look])}"
    overlaps = [
        (min(w[1], excess.high) - max(w[0], excess.low), w) for w in results.windows if w != excess.window
    ]
    most, tested = max(overlaps, default=(0.0, excess.window))
    own = (
        f" It lies in the tested window {interval(tested, unit)}, whose own look judges it."
        if most > 0
        else ""
    )
    # masks are given in the unit of the input
    scale = 1000.0 if run.config.get("unit") == "TeV" else 1.0
    mask = f"{excess.low / scale:.5g}:{excess.high / scale:.5g}"
    change = "lower" if excess.window_without < excess.window_expected else "raise"
    counts = (
        f"{number(excess.observed)} events, {with_error(excess.expected, excess.expected_error)} expected"
    )
    return Note(
        "An excess in the sidebands",
        f"The sidebands of {window} hold an excess at {interval((excess.low, excess.high), unit)}{after}: {counts}, "
        f"{z_text(excess.z_local)}, p = {p_text(excess.p)} with the places where it might have been.{own} If it is a known resonance, "
        f"mask it (--mask {mask}): that would {change} the expectation in the window from {number(excess.window_expected)} to "
        f"{number(excess.window_without)}.",
    )


def notes(run: Run) -> list[Note]:
    """Cautions that a careful reader would want to know before believing the result."""
    results, pictures, unit = run.results, run.diagnostics, run.diagnostics.unit
    found: list[Note] = []

    def add(title: str, names: list[str], text: str) -> None:
        if names:
            found.append(Note(title, f"{_some(names)}. {text}"))

    for reason in dict.fromkeys(look.dead for look in results.looks if look.dead):
        add(
            "Looks that cannot see anything",
            [_name(look, unit) for look in results.looks if look.dead == reason],
            f"{_sentence(reason)} They are no looks of the global p-value.",
        )
    found += [_beside(run, excess) for excess in results.sidebands]
    if any("kfold-summed" in look.combination for look in results.looks):
        found.append(
            Note(
                "Combination over-claims",
                "The folds were combined with kfold-summed. Its p-values are too small (10 to 40 times at "
                "3 σ in the worst case) unless they were calibrated with the full chain on pseudo-data. "
                "Use the combination 'sequential' for a result.",
            )
        )
    add(
        "Poor fit",
        [f"{_name(look, unit)} ({', '.join(poor)})" for look in results.looks if (poor := _poor_fits(look))],
        "The background function does not describe the sidebands; the expectation may be biased.",
    )
    add(
        "The template does not close",
        [
            f"{c.method} at {interval(c.window, unit)} (AUC {with_error(c.auc, c.auc_error)})"
            for c in pictures.closure
            if _does_not_close(c)
        ],
        "Held-out sideband events can be told from the template, so the classifier may have learnt "
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
        "In the sidebands the score is correlated with the mass, so that the cut changes the shape of the background. "
        "The fit follows a gentle change only: an excess here can be background. Leave out features that follow the "
        "mass (serendip inspect names them), or use a method that allows them.",
    )
    add(
        "Very few events expected",
        [
            f"{_name(look, unit)} ({with_error(look.expected, look.expected_error)})"
            for look in results.seeing
            if look.expected < FEW_EXPECTED
        ],
        "With less than one expected event the p-value moves in large steps and one event decides.",
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
    for text in dict.fromkeys(look.warning for look in results.looks if look.warning):
        names = [_name(look, unit) for look in results.looks if look.warning == text]
        found.append(Note("Note from the fit", f"{text.rstrip('.')} ({_some(names)})."))
    if sentence := effective_sentence(run):
        found.append(Note("Weighted events" if run.config.get("weight") else "Grouped events", sentence))
    toys = None if results.overall is None else toys_exhausted(results.overall)
    if toys is not None:
        found.append(
            Note(
                "Toys exhausted",
                f"None of the {number(toys)} toys was as extreme as the data, so the global p is a bound. "
                "More toys would say more.",
            )
        )
    return found
