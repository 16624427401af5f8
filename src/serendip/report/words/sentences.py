"""The result of a run, its looks and its global p-value as sentences."""

from __future__ import annotations

import math

from serendip.report.load import Run
from serendip.report.words.numbers import (
    NBSP,
    counted,
    interval,
    number,
    p_text,
    percent,
    with_error,
    z_text,
)
from serendip.report.words.weighted import count_text, selection, short_selection
from serendip.search.diagnostic_records import LearnedSignal, Spectrum
from serendip.search.results import GlobalResult, Look, Results
from serendip.statistics.pvalues import z_value

__all__ = [
    "GLOSSARY", "bound_by_looks", "choice_sentence", "describe_look", "effective_sentence", "global_label", "headline", "is_excess", "left_out_sentence", "look_name",
    "method_and_cut", "sentence", "signal_share", "toys_exhausted", "trials_sentence", "verdict",
]  # fmt: skip

GLOSSARY = {
    "look": "One test: one method in one mass window, with a working point if events are cut.",
    "window": "The tested mass range, also called signal region. The rest is the sideband.",
    "sideband": "Events outside the window. They determine the background expectation inside it.",
    "working point": "Tightness of the cut on the anomaly score: the fraction ε_B of background that passes.",
    "weighted": "There is no cut: each event has a weight that increases with decreasing rank of its score and with the training sample of "
    "its fold. A count is then a sum of weights.",
    "rank": "The fraction of sideband events of the same fold whose score is higher.",
    "order": "The folds are trained and tested one after the other, in several orders. The result depends on "
    "which comes first, so their p-values are combined.",
    "cross-check": "An additional look for comparison, which does not enter the global p-value and is not a result.",
    "anomaly score": "The output of a method; larger means less like the background.",
    "local p": "The probability that background alone gives an excess at least this large in this one look.",
    "global p": "The probability that background alone gives an excess at least this significant "
    "anywhere among all looks of this run.",
    "dead look": "A cut that keeps no sideband event keeps no event at all: such a look cannot find anything.",
    "σ": "A p-value expressed as the distance from the mean of a Gaussian (one-sided): "
    "p = 0.0013 is 3 σ, p = 2.9 × 10⁻⁷ is 5 σ.",
    "trials": "How the global p-value was derived from the local ones.",
    "fold": "A part of the events, chosen by the id of each event. The score of an event comes from a model "
    "that was not trained on it.",
    "template": "Events that model the background inside the window; the classifier compares data with them.",
    "closure": "A test with a known answer: held-out sideband events must look like the template.",
    "AUC": "Area under the ROC curve of a classifier: 0.5 means that two samples cannot be told apart, "
    "1 means perfectly.",
    "goodness of fit": "The probability of a fit at least as bad as this one if the function were right. "
    "Below 0.01 the function does not describe the sidebands.",
    "SIC": "Significance improvement ε_S/√ε_B: the factor by which a cut on the score improves S/√B.",
    "σ_min": "The smallest S/√B from which the best cut on the score reaches 5 σ over known background (Asimov), for the score that was "
    "trained with the injected signal.",
    "regret": "σ_min over the smallest σ_min of all methods without labels on the same events: 1 is the best method.",
    "distance correlation": "0 if score and mass are independent, up to 1 if one fixes the other.",
    "effective number": "Events of equal weight with the same relative error, (Σw)²/Σw².",
    "pull": "How many σ a bin lies above (+) or below (−) its expectation, from Poisson counting "
    "alone (arXiv:1111.2062).",
}


def signal_share(signal: LearnedSignal) -> str:
    """Write how much of the window's events is signal, in per cent."""
    share = with_error(100 * signal.fraction, 100 * signal.fraction_error)
    text = f"{share}{NBSP}% of the events in the window ({100 * signal.trained_fraction:.2g}{NBSP}% in its training)"
    if signal.gain is None:
        return text
    beside = (
        "the same fit was not made in adjacent windows"
        if signal.floor_gain is None
        else f"in adjacent windows, where no signal is expected, by up to {signal.floor_gain:.1f}"
    )
    return f"{text}; it raises ln L by {signal.gain:.1f}, {beside}"


def method_and_cut(look: Look) -> str:
    """Method and working point of a look in a sentence."""
    return f"method {look.method}, {selection(look)}"


def toys_exhausted(overall: GlobalResult) -> int | None:
    """Return the number of toys if none of them was as extreme as the data, else None.

    Toys give p = (k + 1)/(N + 1): at k = 0 this is only an upper bound. A single look needs none.
    """
    if overall.n_looks == 1 and bound_by_looks(overall):
        return None
    return overall.n_toys if overall.n_reached == 0 else None


def bound_by_looks(overall: GlobalResult) -> bool:
    """Whether the global p is the number of looks times the smallest p, because toys are exhausted."""
    if overall.n_reached != 0 or overall.bonferroni is None:
        return False
    return overall.p <= overall.bonferroni * (1 + 1e-9)


def global_label(overall: GlobalResult) -> str:
    """Label of the line at the global p-value: ``global p = 0.02``, or ``<`` where toys give a bound only."""
    return f"global p {'=' if toys_exhausted(overall) is None else '<'} {p_text(overall.p)}"


def describe_look(look: Look) -> str:
    """One look in a phrase: counts and local significance."""
    if look.dead is not None:
        return f"cannot find anything: {look.dead}"
    expected = with_error(look.expected, look.expected_error)
    if look.observed is None:
        return (
            f"{expected} expected as the sum of weights"
            if look.weighted
            else f"{expected} background events expected"
        )
    # p = 1 is no distance from the background
    local = "no excess" if look.z_local is None else f"local {z_text(look.z_local)}"
    observed = (
        f"sum of weights {count_text(look.observed, look.expected_error, look)}"
        if look.weighted
        else counted(look.observed, "event")
    )
    return f"{observed} observed, {expected} expected, {local} (p = {p_text(look.p_local)})"


def sentence(text: str | None) -> str:
    """The text with a capital letter and one full stop at its end; empty for none."""
    if not text:
        return ""
    # a Greek symbol stays as it is
    first = text[0].upper() if text[0].isascii() else text[0]
    return f"{first}{text[1:].rstrip('.')}."


def left_out_sentence(record: Spectrum, unit: str) -> str:
    """Data excluded from the fit of a spectrum, and the reason; empty if there are none."""
    parts = []
    if record.left_out is not None:
        below = record.edges[0]
        names = []
        for side in record.left_out.sides:
            count = "all events" if side.n_events is None else counted(side.n_events, "event")
            where = f"below {below:.5g}" if side.edges[0] < below else f"above {record.edges[-1]:.5g}"
            names.append(f"{count} {where} {unit}")
        parts.append(f"Left out, in grey: {' and '.join(names)} ({record.left_out.reason}).")
    if record.masks:
        parts.append(f"Masked: {', '.join(interval(mask, unit) for mask in record.masks)}.")
    return "".join(f" {part}" for part in parts)


def choice_sentence(run: Run) -> str:
    """Settings that the search chose from the size of the sample; empty if none."""
    chosen = run.manifest.chosen
    # a look without a cut has no use for them
    if chosen is None or all(look.working_point in (None, 1) for look in run.results.looks):
        return ""
    parts = []
    if chosen.folds is not None:
        parts.append(counted(chosen.folds, "fold"))
    if chosen.working_points is not None:
        checks = " for the cross-checks" if any(look.cross_check for look in run.results.looks) else ""
        parts.append(f"ε_B = {' and '.join(percent(point) for point in chosen.working_points)}{checks}")
    return (
        f"Chosen for {number(chosen.sideband_events)} sideband events: {', '.join(parts)}. "
        "--folds and --working-points override them."
    )


def _global_phrase(results: Results) -> str:
    overall, looks = results.overall, counted(results.n_looks, "look")
    if overall is None:
        return f"no global p-value was made ({looks})"
    n = toys_exhausted(overall)
    own = overall.n_looks == 1 and bound_by_looks(overall)
    trials = f"; {overall.trials}" if overall.trials and not own else ""
    if overall.z is None or not math.isfinite(overall.z):
        return f"global p = {p_text(overall.p)} ({looks}{trials})"
    if n is not None:
        return (
            f"global p < {p_text(overall.p)}, above {z_text(overall.z)} "
            f"({looks}; toys exhausted: none of {number(n)} was as extreme{', Bonferroni' if bound_by_looks(overall) else ''})"
        )
    return f"global {z_text(overall.z)} (p = {p_text(overall.p)}, {looks}{trials})"


def is_excess(results: Results) -> bool:
    """Whether the most significant look deserves attention: p below 0.05, global if there is one."""
    best = results.best
    p = results.overall.p if results.overall is not None else best.p_local if best is not None else None
    return p is not None and p < 0.05


def headline(results: Results, unit: str = "GeV") -> str:
    """Write the result of a run in one or two sentences."""
    best = results.best
    if not results.seeing:
        none = (
            "the only look cannot"
            if len(results.claims) == 1
            else f"none of the {len(results.claims)} looks can"
        )
        return f"No search was possible: {none} find anything."
    if results.blinded or best is None:
        look = results.seeing[0]
        more = (
            ""
            if len(results.claims) == 1
            else f" This is the first of {len(results.claims)} looks; the table has all."
        )
        expected = with_error(look.expected, look.expected_error)
        expected = (
            f"background is expected to sum to a weight of {expected}"
            if look.weighted
            else f"{expected} background events are expected"
        )
        return (
            "Blinded: nothing inside the tested windows has been counted. "
            f"At {interval(look.window, unit)} ({method_and_cut(look)}) {expected}.{more}"
        )
    what = f"at {interval(best.window, unit)} ({method_and_cut(best)}): {describe_look(best)}, {_global_phrase(results)}."
    if is_excess(results):
        return f"The largest excess is {what}"
    return f"No significant excess: the most significant look is {what}"


def verdict(results: Results) -> str:
    """Interpret the global significance by the conventions of the field, and say how wrong the background would have to be."""
    best = results.best
    said = _significance_phrase(results)
    if results.blinded or best is None or best.expectation_margin is None or not is_excess(results):
        return said
    more = f"{100 * best.expectation_margin:.0f}{NBSP}%"
    return f"{said} With {more} more background than expected, local 3{NBSP}σ would be left."


def _significance_phrase(results: Results) -> str:
    best = results.best
    if not results.seeing:
        return f"This run has no sensitivity to a signal. {sentence(results.claims[0].dead)}"
    if results.blinded or best is None:
        return (
            "To open the windows, repeat the search command with --unblind. "
            "The time and the configuration are then recorded in manifest.json."
        )
    z = results.overall.z if results.overall is not None else best.z_local
    if best.z_local is None or z is None:
        return (
            "There is no excess in any look. p = 1 is the largest possible value, whatever the expectation: it does not measure how well "
            "background describes the data."
        )
    scope = "Globally" if results.overall is not None else "Locally"
    if not is_excess(results):
        dead = len(results.claims) - len(results.seeing)
        blind = f"; {counted(dead, 'look')} could not find anything" if dead else ""
        return f"Background alone explains the data of this run{blind}."
    if results.overall is not None and toys_exhausted(results.overall) is not None and z < 5:
        bound = results.overall.bonferroni
        if bound_by_looks(results.overall):
            return (
                f"Globally this is more than {z_text(z)}: the smallest p-value times the number of looks (Bonferroni), since none of the "
                "toys was as extreme."
            )
        if bound is None or bound >= results.overall.p:
            return f"Globally this is more than {z_text(z)}; more toys are needed for a better bound."
        return (
            f"From the toys alone: globally more than {z_text(z)}. Counting every look as independent (Bonferroni) gives "
            f"at least {z_text(float(z_value(bound)))} (p ≤ {p_text(bound)}), as far as the local p-value can be trusted."
        )
    if z < 3:
        return f"{scope} this is {z_text(z)}: below 3 σ, which the field calls evidence."
    if z < 5:
        return f"{scope} this is {z_text(z)}: above 3 σ (evidence), not shown to reach 5 σ (observation)."
    return f"{scope} this is {z_text(z)}: above 5 σ, which the field calls an observation."


def trials_sentence(results: Results) -> str:
    """How the global p-value was computed, its uncertainty, and its cross-checks."""
    overall = results.overall
    if overall is None:
        return ""
    if overall.n_looks == 1 and bound_by_looks(overall):
        return f"Global p-value: that of the only look; none of {number(overall.n_toys)} toys ({overall.trials}) reached it."
    parts = [f"Global p-value: {overall.trials}." if overall.trials else ""]
    if overall.p_interval_68 is not None and toys_exhausted(overall) is None and overall.p < 1:
        low, high = overall.p_interval_68
        parts.append(f"The finite number of toys leaves p between {p_text(low)} and {p_text(high)} (68 %).")
    checks = []
    if overall.gross_vitells is not None:
        checks.append(f"Gross–Vitells p = {p_text(overall.gross_vitells)}")
    if overall.bonferroni is not None:
        checks.append(f"Bonferroni ({counted(results.n_looks, 'look')}) p ≤ {p_text(overall.bonferroni)}")
    if checks:
        parts.append(f"Cross-checks without these toys: {', '.join(checks)}.")
    return " ".join(part for part in parts if part)


def effective_sentence(run: Run) -> str:
    """Effective number of weighted events in the most significant look, or the first; empty if all weights are equal."""
    look = run.results.best or run.results.claims[0]
    given = [what for key, what in (("weight", "weights"), ("group", "groups")) if run.config.get(key)]
    why = [*given, *(["ranks of the scores"] if look.weighted else [])]
    if not why or look.effective_events is None or look.dead is not None:
        return ""
    found = look.effective_events
    inside = "" if found.window is None else f"{found.window:.3g} in the window and "
    listed = " and ".join(part for part in (", ".join(why[:-1]), why[-1]) if part)
    known = look.fit is not None and look.fit.effective_events is not None and given
    before = (
        f"; for all events {look.fit.effective_events:.4g} outside the window" if look.fit and known else ""
    )
    return (
        f"Effective number of events, (Σw)²/Σw² with the {listed}, in {look_name(look, run.diagnostics.unit)}: "
        f"{inside}{found.sideband:.3g} outside{before}."
    )


def look_name(look: Look, unit: str) -> str:
    """A look as cautions name it: ``cwola at 3300–3700 GeV, 1 %``."""
    return f"{look.method} at {interval(look.window, unit)}, {short_selection(look)}"
