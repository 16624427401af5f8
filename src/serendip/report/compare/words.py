"""A comparison in words and tables."""

from __future__ import annotations

import numpy as np

from serendip.report.words import VISIBLE_CLOSURE, Note, interval, number, percent
from serendip.search.compare.results import Comparison, FiveSigma, Spread, SummaryRow

__all__ = ["CLAIMS", "cautions", "claims", "injected", "markdown", "stressed", "table", "winners"]

CLAIMS = "Signal events in the window (S/√B) at which half of the injections reach 5 σ, local."

_EXCESS = 3.0
_SCULPTED = 0.001


def injected(found: Comparison, injection: int) -> str:
    """Amount of signal: in the window, in total, and S/√B."""
    sample = found.sample
    outside = round(injection * (sample.signal - sample.signal_in_window) / sample.signal_in_window)
    if injection == 0:
        return "no signal"
    return (
        f"{number(injection)} signal events in the window ({number(injection + outside)} in total), "
        f"S/√B = {found.strength(injection):.2g}"
    )


def spread(value: Spread | None, digits: int = 3) -> str:
    """Median and range: ``8.5 [7.1, 8.9]``."""
    if value is None:
        return "–"
    texts = [f"{v:.{digits}g}".replace("-", "−") for v in (value.median, value.min, value.max)]
    return texts[0] if value.n == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _template(row: SummaryRow) -> str:
    names = ("closure_auc", "truth_auc")
    return " / ".join(f"{row.values[n].median:.3f}" if n in row.values else "–" for n in names)


def _time(row: SummaryRow) -> str:
    own, shared = row.values.get("own_s"), row.values.get("background_s")
    return ("–" if own is None else f"{own.median:.3g}") + (
        "" if shared is None else f" + {shared.median:.3g}"
    )


def table(found: Comparison) -> tuple[list[str], list[tuple[int, list[list[str]]]]]:
    """Header, and the rows of each injection: methods that were left out are marked."""
    points, looks = found.working_points, _looks(found)
    header = ["method", "σ_min", "regret", "max SIC"]
    header += [f"SIC at {percent(p)}" for p in points]
    header += [f"Z {title}" for title in looks.values()]
    header += ["AUC", "template AUC", "dist. corr."]
    header += [f"χ²/ndf at {percent(p)}" for p in points]
    header += ["s"]
    blocks = []
    for injection in found.injections:
        rows = []
        for row in found.at(injection):
            v = row.values
            method = found.facts(row.method)
            rows.append(
                [
                    row.method + (" (labels)" if method.uses_labels else ""),
                    spread(v.get("sigma_min"), 2),
                    spread(v.get("regret"), 2),
                    spread(v.get("max_sic"), 2),
                    *(spread(v.get(f"sic@{p:g}"), 2) for p in points),
                    *(spread(v.get(name), 2) for name in looks),
                    spread(v.get("auc")),
                    _template(row),
                    spread(v.get("distance_correlation"), 2),
                    *(spread(v.get(f"chi2_ndf@{p:g}"), 2) for p in points),
                    _time(row),
                ]
            )
        rows += [
            [f"{entry.method}: left out", *["–"] * (len(header) - 1)]
            for entry in found.left_out
            if entry.injection == injection and entry.method not in {r.method for r in found.at(injection)}
        ]
        blocks.append((injection, rows))
    return header, blocks


def _looks(found: Comparison) -> dict[str, str]:
    """Quantities that are a Z, and how they are called: of weighted events, of methods with cuts of their own, of cuts."""
    points = found.working_points
    own = sorted({p for m in found.methods for p in m.working_points} - set(points), reverse=True)
    looks = {"z_weighted": "weighted"} if any(m.weighted for m in found.methods) else {}
    return looks | {f"z@{p:g}": "no cut" if p == 1 else f"at {percent(p)}" for p in (*own, *points)}


def claims(found: Comparison) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of the table of signals that reach 5 sigma; None if there is nothing to report."""
    if not found.five_sigma:
        return None
    looks = _looks(found)
    rows = []
    for method in found.methods:
        own = {entry.quantity: entry for entry in found.five_sigma if entry.method == method.name}
        if own:
            texts = [_claim(own[name]) if name in own else "–" for name in looks]
            rows.append([method.name + (" (labels)" if method.uses_labels else ""), *texts])
    return ["method", *looks.values()], rows


def _claim(entry: FiveSigma) -> str:
    return f"{entry.bound or ''} {number(round(entry.signal))} ({entry.s_over_sqrt_b:.2g})".lstrip()


def legend(found: Comparison) -> list[str]:
    """Meaning of the columns of the table."""
    repeats = max(row.repeats for row in found.summary)
    share = 100 * found.sample.signal_share_in_window
    over = (
        "One repeat."
        if repeats == 1
        else f"Median over {repeats} repeats, smallest and largest value in brackets."
    )
    amounts = (
        f"{over} Signal events are counted in the window; the rest of the signal is injected in proportion "
        f"({share:.3g} % of it lies in the window)."
    )
    seen = [entry.trained_fraction for entry in found.entries if entry.trained_fraction is not None]
    trained = f" by models trained on {100 * float(np.mean(seen)):.0f} % of the data" if seen else ""
    rule, weighted = found.config["combination"], any(method.weighted for method in found.methods)
    orders = f" in {found.config['orders']} orders" if weighted else ""
    cuts = " Z at a working point is that of a cut in the first order, a cross-check." if weighted else ""
    columns = (
        f"SIC = ε_S/√ε_B of events in the window, scored{trained}, with at least {found.min_background} background events left. "
        "σ_min: smallest S/√B from which the best such cut reaches 5 σ over known background (Asimov), with this training; below the "
        "injected S/√B a search is sensitive to it. Regret: σ_min over that of the best method without labels on the same events. "
        f"Z: local significance of the search, {rule}, {found.config['folds']} folds{orders}; 0 where there is "
        f"no excess.{cuts} AUC: signal against background in the window. Template AUC: held-out sideband against template / true "
        "background of the window against template; 0.5 = cannot be told apart. Dist. corr.: score and mass in the sidebands. "
        "χ²/ndf: mass spectrum of selected against all background. s: own + shared seconds on one thread."
    )
    return [amounts, columns]


def stressed(found: Comparison) -> str:
    """How the sample was made harder; empty if it was not."""
    parts = [f"{name} + {value:g}·{found.mass_name}" for name, value in found.config["correlate"].items()]
    if found.config["noise"]:
        parts.append(f"{found.config['noise']} features of pure noise")
    return ", ".join(parts)


def winners(found: Comparison) -> list[str]:
    """Which signals reach 5 sigma, which method without labels has the smallest sigma_min at each injection, and which are within its range."""
    lines = []
    free = [
        entry
        for entry in found.five_sigma
        if entry.quantity == "z_weighted" and not found.facts(entry.method).uses_labels
    ]
    if free:
        free.sort(key=lambda entry: (entry.bound == "above", entry.signal))
        lines.append(
            "Half of the injections reach 5 σ (local, weighted events): "
            + "; ".join(f"{entry.method} {_reach(entry)}" for entry in free)
            + "."
        )
    for injection in reversed([n for n in found.injections if n > 0]):
        rows = [
            row
            for row in found.at(injection)
            if "sigma_min" in row.values and not found.facts(row.method).uses_labels
        ]
        if not rows:
            continue
        rows.sort(key=lambda row: row.values["sigma_min"].median)
        best = rows[0].values["sigma_min"]
        near = [row.method for row in rows[1:] if row.values["sigma_min"].min <= best.max]
        lines.append(
            f"{injected(found, injection)}: {rows[0].method} has the smallest σ_min of the methods without labels, "
            f"{spread(best, 2)} (max SIC {spread(rows[0].values['max_sic'], 2)})"
            + (f"; the range of {', '.join(near)} overlaps it" if near else "")
            + "."
        )
    return lines


def _reach(entry: FiveSigma) -> str:
    """From where on, in a sentence."""
    amount = f"{number(round(entry.signal))} signal events (S/√B = {entry.s_over_sqrt_b:.2g})"
    return {"above": f"beyond {amount}", "below": f"below {amount}", None: f"from {amount} on"}[entry.bound]


def cautions(found: Comparison) -> list[Note]:
    """Caveats to a ranking of methods."""
    notes = []

    def add(title: str, names: list[str], text: str) -> None:
        if names:
            notes.append(Note(title, f"{'; '.join(dict.fromkeys(names))}. {text}"))

    free = [row for row in found.summary if not found.facts(row.method).uses_labels]
    add(
        "An excess without signal",
        [
            f"{row.method} ({name.removeprefix('z@').removeprefix('z_')}: Z up to {value.max:.1f})"
            for row in free
            if row.injection == 0
            for name, value in row.values.items()
            if name.startswith("z") and value.max >= _EXCESS
        ],
        "These looks find a signal where there is none; their Z at other injections is too large.",
    )
    add(
        "The template is not the background of the window",
        [
            f"{row.method} (AUC {row.values['truth_auc'].median:.3f})"
            for row in free
            if row.injection == min(found.injections)
            and "truth_auc" in row.values
            and row.values["truth_auc"].median > VISIBLE_CLOSURE
        ],
        "A classifier distinguishes them, so that it learns the flaws of the template in addition to the signal, or instead of it.",
    )
    tests = max(1, sum(look.mass_shape is not None for entry in found.entries for look in entry.looks))
    add(
        "The cut changes the mass spectrum of background",
        [
            f"{entry.method} at ε_B = {percent(look.working_point)}"
            for entry in found.entries
            for look in entry.looks
            if look.mass_shape is not None
            and look.working_point is not None
            and look.mass_shape.p * tests < _SCULPTED
        ],
        "The fit of the search follows a gentle change only.",
    )
    repeats = max(row.repeats for row in found.summary)
    if repeats < 3:
        notes.append(
            Note(
                "Few repeats",
                f"Ranges of {repeats} repeat{'s' * (repeats > 1)} say little about statistical fluctuations.",
            )
        )
    return notes


def _claims_table(found: Comparison) -> list[str]:
    content = claims(found)
    if content is None:
        return []
    header, rows = content
    lines = [CLAIMS, "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def markdown(found: Comparison) -> str:
    """Table for documentation."""
    header, blocks = table(found)
    header = [header[0], "signal in window (S/√B)", *header[1:]]
    stress = stressed(found)
    sample = (
        f"Window {interval(found.window, found.unit)}; features {', '.join(found.features)}; "
        f"{number(found.sample.background)} background events, {number(found.sample.background_in_window)} of them in the "
        f"window.{f' Stress: {stress}.' if stress else ''}"
    )
    lines = [
        sample,
        "",
        *_claims_table(found),
        *(part for text in legend(found) for part in (text, "")),
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]
    for injection, rows in blocks:
        amount = f"{injection} ({found.strength(injection):.2g})"
        lines += [f"| {' | '.join([row[0], amount, *row[1:]])} |" for row in rows]
    if found.left_out:
        lines += ["", "Left out:", ""]
        lines += [
            f"- {entry.method}{'' if entry.injection is None else f' at {entry.injection} signal events'}: {entry.reason}"
            for entry in found.left_out
        ]
    return "\n".join(lines) + "\n"
