"""Tables of the page of a study of theories, question by question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.outliers.combine import RULES
from serendip.outliers.registry import SCORES
from serendip.report.theories.claims import ALL, GROUPS, best, compare, of_kind, verdict_of
from serendip.report.theories.panels import band
from serendip.report.theories.words import WEIGHTS, Row, mean_row, models_of
from serendip.report.words import number, p_text, percent

__all__ = ["auc_steps", "combinations", "false_claims", "hardest", "needed", "tree", "weights_rows"]

Answers = Mapping[str, Any]


def weights_rows(answers: Answers) -> list[Row]:
    """Mean over the repeats for each kind of weight."""
    models = models_of(answers, "weights")
    rows = []
    for name, title in WEIGHTS.items():
        found = [model for model in models if model["name"] == name]
        rows += mean_row(found, "", f"{title}, mean of {len(found)}")
    return rows


def hardest(answers: Answers) -> list[tuple[str, str, str]]:
    """Learnt weights: for each channel the theories with the largest and the smallest."""
    rows = []
    for channel, weights in ((answers.get("weights") or {}).get("weights") or {}).items():
        order = sorted(weights, key=lambda name: -weights[name])
        texts = [
            ", ".join(f"{name} ({weights[name]:.2f})" for name in part) for part in (order[:5], order[:-6:-1])
        ]
        rows.append((channel, *texts))
    return rows


def combinations(answers: Answers, group: str) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Median TI by score (rows) and rule, True where it is above that of MoT alone by the rule of the claims; the best row first."""
    models = models_of(answers, "combination")
    alone = best(of_kind(models, "mixture"), group, "median")
    rows = []
    for score in dict.fromkeys(m["score"] for m in of_kind(models, "combination")):
        cells, largest = [], -math.inf
        for rule in RULES:
            level = best([m for m in models if (m["score"], m["rule"]) == (score, rule)], group, "median")
            above = (
                level is not None and alone is not None and verdict_of(*compare(level, alone)) == "confirmed"
            )
            cells.append(("–" if level is None else str(level), above))
            largest = max(largest, -math.inf if level is None else level.value)
        rows.append((largest, _title(score), cells))
    return [(title, cells) for _, title, cells in sorted(rows, key=lambda row: -row[0])]


def _title(score: str) -> str:
    """Title of a score, or its name if its package is no longer installed or broken."""
    try:
        return SCORES[score].title
    except InputError:
        return score


def auc_steps(
    answer: Mapping[str, Any], kind: str, group: str
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Median AUC of each channel at each step, with the 68 % of the orders."""
    channels = answer.get("channels") or {}
    steps = max((len(entry[kind][kind][0]) for entry in channels.values()), default=0)
    longest: Sequence[float] = next(
        (e[kind][kind][0] for e in channels.values() if len(e[kind][kind][0]) == steps), []
    )
    rows = []
    for channel, entry in channels.items():
        auc = entry[kind].get(group, {}).get("auc")
        if not auc:
            continue
        found = [band([row[i] for row in auc]) for i in range(len(auc[0]))]
        cells = ["–" if b is None else f"{b[0]:.3f} [{b[1]:.3f}, {b[2]:.3f}]" for b in found]
        # a channel with fewer theories has its last step at the end
        cells = [*cells[:-1], *[""] * (steps - len(cells)), cells[-1]]
        rows.append((f"{channel} ({entry[kind][kind][0][-1]})", cells))
    return [*(f"{n:g}" for n in longest[:-1]), ALL], rows


def false_claims(answer: Mapping[str, Any]) -> list[tuple[str, list[str], bool]]:
    """Rates of false claims: the cells of a row for each channel, region and level, True where the rate is above its level."""
    rows = []
    for channel, found in answer["null"].items():
        if "reason" in found:
            rows.append((channel, [found["reason"]], False))
            continue
        for rate in found["rates"]:
            region = "all regions" if rate["eps_b"] is None else f"ε_B = {percent(rate['eps_b'])}"
            expected = "–" if rate["expected"] is None else f"{rate['expected']:.3g}"
            interval = f"{rate['rate']:.3g} [{rate['low']:.3g}, {rate['high']:.3g}]"
            cells = [
                region,
                expected,
                p_text(rate["level"]),
                interval,
                f"{rate['found']} of {rate['tested']}",
            ]
            rows.append((channel, cells, rate["low"] > rate["level"]))
    return rows


def needed(
    answer: Mapping[str, Any],
) -> tuple[list[tuple[str, str]], list[tuple[str, list[tuple[str, bool]]]]]:
    """Signal events for an expected significance of 5: columns (channel, group), and a row for each score; True for the fewest."""
    columns = [(channel, group) for channel in answer["needed"] for group in GROUPS]
    names = list(dict.fromkeys(name for scores in answer["needed"].values() for name in scores))
    table = {
        name: [answer["needed"][channel].get(name, {}).get(group) for channel, group in columns]
        for name in names
    }
    kept = [i for i in range(len(columns)) if any(row[i] is not None for row in table.values())]
    fewest = {i: min(row[i] for row in table.values() if row[i] is not None) for i in kept}
    rows = [
        (
            name,
            [("–" if row[i] is None else number(float(f"{row[i]:.3g}")), row[i] == fewest[i]) for i in kept],
        )
        for name, row in table.items()
    ]
    return [columns[i] for i in kept], rows


def tree(content: Any, depth: int = 0) -> Any:
    """Sort an answer of any form for the page: ``("rows", names, rows)``, ``("list", pairs)`` or ``("text", words)``."""
    if isinstance(content, Mapping):
        pairs = [(str(key).replace("_", " "), tree(value, depth + 1)) for key, value in content.items()]
        return ("list", pairs)
    if isinstance(content, Sequence) and not isinstance(content, str):
        rows = list(content)
        if rows and all(isinstance(row, Mapping) for row in rows):
            names = list(dict.fromkeys(str(key) for row in rows for key in row))
            cells = [[_plain(row.get(name)) for name in names] for row in rows]
            return ("rows", [name.replace("_", " ") for name in names], cells)
    return ("text", _plain(content))


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value)) or "–"
    return str(value)
