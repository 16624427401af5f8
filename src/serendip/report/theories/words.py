"""The sentences and tables of the page of a study of theories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serendip.report import words
from serendip.report.theories.claims import (
    GROUPS,
    KINDS,
    NEEDED,
    WHICH,
    Claim,
    Level,
    average,
    best,
    compare,
    of_kind,
    single_theories,
    ti_of,
    titles_of,
    verdict_of,
)
from serendip.report.theories.panels import best_names
from serendip.report.words import Note, with_error
from serendip.study.resonance.answer import INPUTS
from serendip.wording import counted, noun

__all__ = [
    "GLOSSARY",
    "WEIGHTS",
    "Guard",
    "Row",
    "auc_table",
    "headline",
    "mean_row",
    "model_table",
    "models_of",
    "notes",
    "open_answers",
    "summary_rows",
]

Answers = Mapping[str, Any]
Model = Mapping[str, Any]
_FEW_FAMILIES = 5
WEIGHTS = {
    "theory": "every theory the same (the paper)",
    "family": "every family the same",
    "active": "learnt: more for the theories with the worst results",
}

GLOSSARY = {
    "MoT": "Mixture of theories: one classifier between the Standard Model and many theories at once.",
    "mini-MoT": "The same with a few theories, drawn at random for each training, with as many signal events as SSA.",
    "at equal numbers": "Trained on as many signal events as SSA and mini-MoT.",
    "MoT network": "A network on sets of objects in place of boosted trees, trained on the whole mixture.",
    "SSA": "Single-signal approach: the classifier is trained on one theory, a different one in each channel.",
    "unsupervised": "Scores trained on background only.",
    "one variable": "A single number of the event, such as the missing transverse momentum (MET).",
    "SI": "Significance improvement ε_S/√ε_B: the factor by which a cut on the score improves S/√B.",
    "TI": "Total improvement of a theory: its largest SI over the background efficiencies and channels, reliable points only.",
    "minimum, median, maximum TI": "Over the tested theories.",
    "held-out points": "Theories not used in any training, while other points of the same family are in the mixtures.",
    "held-out families": "Theories of families without any point in the trainings.",
    "reliable": "At least ten background events (effective number) are expected to pass the cut.",
    "effective events": "(Σw)²/Σw²: as many events of equal weight would have the same error.",
    "AUC": words.GLOSSARY["AUC"],
}


@dataclass(frozen=True)
class Row:
    """A row of a table of total improvements: three cells for each group; ``best`` is emphasised."""

    kind: str
    name: str
    cells: tuple[str, ...]
    best: bool = False


@dataclass(frozen=True)
class Guard:
    """Background passing the cuts of one channel at one background efficiency.

    Attributes
    ----------
    target
        Background efficiency.
    background
        Median over the trainings of the effective background events expected to pass the cut.
    reliable, trainings
        Trainings in which the point is reliable, of how many; None: unknown, because the trainings are missing.
    """

    target: float
    background: float
    reliable: int | None = None
    trainings: int | None = None


def models_of(answers: Answers, question: str = "models") -> list[Model]:
    """Summaries of the models of a question; empty if it was not asked."""
    return list((answers.get(question) or {}).get("models") or [])


def _cells(levels: Mapping[tuple[str, str], Level | None]) -> tuple[str, ...]:
    return tuple(
        "–" if levels[group, which] is None else str(levels[group, which])
        for group in GROUPS
        for which in WHICH
    )


def _of_model(model: Model) -> tuple[str, ...]:
    levels = {}
    for group in GROUPS:
        ti = ti_of(model, group)
        for which in WHICH:
            levels[group, which] = (
                None if ti is None else Level(model["name"], ti[which], ti[f"{which}_error"])
            )
    return _cells(levels)


def mean_row(models: Sequence[Model], kind: str, name: str) -> list[Row]:
    """Mean over trainings as a row; none without models."""
    if not models:
        return []
    found = {(group, which): average(models, group, which, name) for group in GROUPS for which in WHICH}
    return [Row(kind, name, _cells(found))]


def summary_rows(answers: Answers) -> list[Row]:
    """MoT, mini-MoT, SSA and unsupervised scores in a few rows."""
    models = models_of(answers)
    mixtures, minis = of_kind(models, "mixture"), of_kind(models, "mini-mixture")
    chosen, alone = single_theories(models)
    equal = of_kind(models, "equal mixture")
    rows = mean_row(mixtures, "MoT", f"mean of {len(mixtures)}")
    rows += mean_row(equal, KINDS["equal mixture"], f"mean of {len(equal)}")
    rows += mean_row(minis, "mini-MoT", f"mean of {len(minis)}")
    rows += [Row("", model["name"], _of_model(model)) for model in of_kind(models, "network")]
    rows += mean_row(alone, "SSA", f"mean of {len(alone)}")
    for kind, candidates in (
        ("SSA", [*chosen, *alone]),
        ("unsupervised", of_kind(models, "unsupervised")),
        ("one variable", of_kind(models, "one variable")),
    ):
        names = {group: best(candidates, group, "median") for group in GROUPS}
        for name in dict.fromkeys(level.name for level in names.values() if level is not None):
            model = next(model for model in candidates if model["name"] == name)
            where = [title for group, title in GROUPS.items() if names[group] and names[group].name == name]  # type: ignore[union-attr]
            text = name if len(where) == len(GROUPS) else f"{name}, best for {where[0]}"
            rows.append(Row(_prefix(kind, text), text, _of_model(model)))
    return rows


def _prefix(kind: str, name: str) -> str:
    return "" if kind.split(maxsplit=1)[0] in name else kind


def model_table(answers: Answers) -> list[Row]:
    """All models; within each kind those of the largest median TI first, the best of each group emphasised."""
    models = models_of(answers)
    marked = set().union(*(best_names(models, group) for group in GROUPS)) if models else set()
    rows: list[Row] = []
    for kind, title in titles_of(models).items():
        found = sorted(
            of_kind(models, kind),
            key=lambda model: [
                -(ti[which] if (ti := ti_of(model, group)) is not None else -math.inf)
                for group in reversed(GROUPS)
                for which in ("median",)
            ],
        )
        rows += [Row(_prefix(title, m["name"]), m["name"], _of_model(m), m["name"] in marked) for m in found]
    return rows


def auc_table(answers: Answers, channels: Sequence[str]) -> list[Row]:
    """Median AUC of each model by group and channel, in the order of :func:`model_table`."""
    models = {model["name"]: model for model in models_of(answers)}
    rows = []
    for row in model_table(answers):
        auc = [
            models[row.name]["groups"].get(group, {}).get("auc", {}).get(channel)
            for group in GROUPS
            for channel in channels
        ]
        rows.append(Row(row.kind, row.name, tuple("–" if v is None else f"{v:.3f}" for v in auc), row.best))
    return rows


def headline(answers: Answers, found: Sequence[Claim]) -> list[str]:
    """Summarise the outcome: MoT, the comparison at equal numbers of signal events, and how many claims hold."""
    lines = []
    models = models_of(answers)
    chosen, alone = single_theories(models)
    for group, title in GROUPS.items():
        mot = average(of_kind(models, "mixture"), group, "median", "MoT")
        if mot is None:
            continue
        low, high = (
            average(of_kind(models, "mixture"), group, which, "") for which in ("minimum", "maximum")
        )
        other = best(of_kind(models, "unsupervised", "one variable"), group, "median")
        lines.append(
            f"{title.capitalize()}: MoT has a median total improvement of {mot} (minimum {low}, maximum {high})"
            + ("." if other is None else f"; the best unsupervised score {other} ({other.name}).")
        )
        equal = [
            ("MoT", average(of_kind(models, "equal mixture"), group, "median", "")),
            ("mini-MoT", average(of_kind(models, "mini-mixture"), group, "median", "")),
            (f"mean of {len(alone)} SSA", average(alone, group, "median", "")),
            ("the best SSA", best([*chosen, *alone], group, "median")),
        ]
        parts = [f"{text} {level}" for text, level in equal if level is not None]
        if parts:
            lines.append(f"{title.capitalize()}, at equal numbers of signal events: {', '.join(parts)}.")
    for group, title in GROUPS.items():
        verdicts = [
            finding.verdict for claim in found for finding in claim.findings if finding.group == group
        ]
        if verdicts:
            counts = [f"{verdicts.count(v)} {v}" for v in ("confirmed", "not confirmed", "undecided")]
            lines.append(f"Claims of the paper on {title}: {', '.join(counts)}.")
    return lines


def open_answers(answers: Answers) -> list[tuple[str, str]]:
    """Answers to the open questions of the paper, one sentence each."""
    found = []
    ratio = (answers.get("families") or {}).get("ratio")
    if ratio:
        judged = verdict_of(1 - ratio["median"], ratio["error"])
        text = {
            "confirmed": "so part of it is interpolation",
            "not confirmed": "so the family is not needed",
            "undecided": "so nothing is lost within the errors",
        }[judged]
        found.append(
            (
                "Is it interpolation?",
                (
                    f"With its whole family left out a theory keeps {with_error(ratio['median'], ratio['error'])} of the TI it has with only "
                    f"its point left out (median of {ratio['theories']} theories in {ratio['families']} families), {text}."
                ),
            )
        )
    models = models_of(answers, "weights")
    equal = [model for model in models if model["name"] == "theory"]
    for name in ("family", "active"):
        other = [model for model in models if model["name"] == name]
        parts = []
        for group, title in GROUPS.items():
            new, old = (average(part, group, "median", "") for part in (other, equal))
            if new and old:
                parts.append(f"{_change(new, old)} on {title}")
        if parts:
            found.append((f"Weights: {WEIGHTS[name]}?", f"The median TI changes by {', '.join(parts)}."))
    mixed = models_of(answers, "combination")
    alone, joined = of_kind(mixed, "mixture"), of_kind(mixed, "combination")
    for group, title in GROUPS.items():
        first, second = best(alone, group, "median"), best(joined, group, "median")
        if first and second:
            found.append(
                (
                    f"Together with an unsupervised score, {title}?",
                    (
                        f"The best of {len(joined)} combinations, {second.name}, has a median TI of {second}, the same MoT alone {first}: "
                        f"{_change(second, first)}. The best of many is chosen on the tested theories, which favours it."
                    ),
                )
            )
    return found + _excess(answers.get("excess") or {}) + _resonance(answers.get("resonant") or {})


def _excess(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    rates = [rate for entry in (answer.get("null") or {}).values() for rate in entry.get("rates", ())]
    if rates:
        above = sum(rate["low"] > rate["level"] for rate in rates)
        text = f"{above or 'None'} of {len(rates)} rates of false claims {'is' if above < 2 else 'are'} above the level of p."
        found.append(("Is the p-value of an excess correct?", text))
    for group, title in GROUPS.items():
        parts = []
        for channel, scores in (answer.get("needed") or {}).items():
            values = {
                name: entry.get(group) for name, entry in scores.items() if entry.get(group) is not None
            }
            mot = values.pop("MoT", None)
            if mot is not None and values:
                name = min(values, key=lambda key: values[key])
                parts.append(
                    f"{mot:.3g} with MoT and {values[name]:.3g} with {name} (the best score) in channel {channel}"
                )
        if parts:
            found.append((f"Signal events needed for 5 σ, {title}?", f"{'; '.join(parts)}."))
    return found


def _resonance(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [row for row in answer.get("rows", ()) if row.get("ratio") and row.get("better")]
    parts = []
    for inputs in ("features+score", "features+flat"):
        mine = [row for row in rows if row["inputs"] == inputs]
        if mine:
            row = max(mine, key=lambda row: row["s_over_sqrt_b"])
            parts.append(
                f"with {INPUTS[inputs]} the largest SIC is {row['ratio'][0]:.2f} times that with plain features alone (S/√B = "
                f"{row['s_over_sqrt_b']:.3g}; {row['ratio'][1]:.2f} to {row['ratio'][2]:.2f}, larger in {row['better'][0]} of "
                f"{row['better'][1]} repeats)"
            )
    text = "; ".join(parts)
    return (
        [("Does the score help a search for a resonance?", f"{text[0].upper()}{text[1:]}.")] if text else []
    )


def _change(new: Level, old: Level) -> str:
    difference, error = compare(new, old)
    sign = "+" if difference >= 0 else "−"
    apart = abs(difference) > NEEDED * error
    return f"{sign}{with_error(abs(difference), error)}" + ("" if apart else " (within the errors)")


def notes(results: Mapping[str, Any], guards: Mapping[str, Sequence[Guard]], dropped: int) -> list[Note]:
    """Caveats to the numbers."""
    found = [Note(title, f"{text[0].upper()}{text[1:]}.") for title, text in results.get("notes", ())]
    answers, design = results["answers"], results["design"]
    for channel, rows in guards.items():
        bad = [
            row for row in rows if (row.reliable == 0 if row.reliable is not None else row.background < 10)
        ]
        some = [row for row in rows if row.reliable and row.trainings and row.reliable < row.trainings]
        if len(bad) == len(rows) and rows:
            found.append(
                Note(
                    f"Channel {channel} has no reliable point",
                    "No cut is passed by ten effective background events; the channel is excluded from all TIs.",
                )
            )
        elif bad:
            cuts = ", ".join(words.percent(row.target) for row in bad)
            found.append(
                Note(
                    f"Channel {channel}",
                    f"ε_B = {cuts} is excluded from all TIs: too little background passes the cut. More simulated background would include it.",
                )
            )
        for row in some:
            found.append(
                Note(
                    f"Channel {channel}",
                    f"ε_B = {words.percent(row.target)} is reliable in {row.reliable} of {row.trainings} trainings only, so that models are "
                    "not all compared at the same cuts.",
                )
            )
    for group, title in GROUPS.items():
        counts = [
            (len(ti["signals"]), m["name"]) for m in models_of(answers) if (ti := ti_of(m, group)) is not None
        ]
        if counts and min(counts)[0] < max(counts)[0]:
            found.append(
                Note(
                    f"Not all models cover all {title}",
                    f"Between {min(counts)[0]} ({min(counts)[1]}) and {max(counts)[0]} theories have a reliable point; minimum and median are "
                    "over those.",
                )
            )
    families = {
        results["families"][name] for name in design["held_out_families"] if name in results["families"]
    }
    if 0 < len(families) < _FEW_FAMILIES:
        found.append(
            Note(
                "Few families are held out",
                f"{len(families)} ({', '.join(sorted(families))}): another choice may give another answer.",
            )
        )
    mixtures = of_kind(models_of(answers), "mixture")
    if len(mixtures) == 1:
        found.append(
            Note("One training of MoT", "The scatter between trainings is not known and in no error.")
        )
    if dropped:
        found.append(
            Note(
                "Saturation",
                f"{counted(dropped, 'step of a curve has', 'steps of curves have')} an order without a number and "
                f"{noun(dropped, 'is', 'are')} not drawn.",
            )
        )
    return found
