"""The page of a study of mixtures of theories, from its ``results.json`` and its trainings only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import UndefinedError

from serendip.errors import InputError
from serendip.io.files import atomic_write, reading
from serendip.io.json import load_json
from serendip.report.page import Page
from serendip.report.theories import panels as theory_panels
from serendip.report.theories import tables as theory_tables
from serendip.report.theories import words as theory_words
from serendip.report.theories.claims import GROUPS, KINDS, claims
from serendip.report.theories.words import Guard
from serendip.study.config import QUESTIONS
from serendip.study.resonance.answer import INPUTS
from serendip.study.run import read_results
from serendip.theories.merits import MIN_BACKGROUND, ModelImprovement, read_improvements

__all__ = ["PAGE", "PUBLISHED", "is_study", "write_study_page"]

PAGE = "theories.html"
PUBLISHED = "DarkMachinesUnsupervisedChallenge_TotalImprovements.csv"
"""Name of the official table of total improvements; a copy is kept in the folder of the study."""
_KNOWN_BY = {"excess": ("null", "needed"), "resonant": ("rows",)}


def is_study(folder: Path | str) -> bool:
    """Whether the ``results.json`` of a folder is that of a study of theories."""
    try:
        found = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "answers" in found


def write_study_page(out: Path, published: Path | None = None) -> Path:
    """Write ``theories.html`` and the ``figures`` folder of a study of theories; returns the path of the page.

    Any subset of the questions will do. The page is self-contained.

    Parameters
    ----------
    out
        Folder of the study.
    published
        Total improvements of the Dark Machines challenge: the official table, or a folder with it. It is copied into ``out``, so that the
        page can be made again without it.

    Raises
    ------
    InputError
        If ``results.json`` or the table is missing or damaged, nothing was answered, or the folder cannot be written.
    """
    out = Path(out)
    results = read_results(out)
    if not results["answers"]:
        raise InputError(f"{out}: no question has an answer yet; run 'serendip theories study' again")
    page = Page(out)
    try:
        with page.writing("page"):
            text = _render(page, results, _published(out, published))
            # of groups and questions that this study no longer has
            page.clear(("ti-plane", "saturation-", "signals-", "families"))
            return page.write(PAGE, text)
    except (KeyError, TypeError, IndexError, UndefinedError) as error:
        raise InputError(
            f"{out / 'results.json'}: an answer was not written by this version ({type(error).__name__}: {error}); run the study again"
        ) from error


def _published(out: Path, given: Path | None) -> tuple[ModelImprovement, ...]:
    kept = out / PUBLISHED
    if given is not None:
        source = Path(given) / PUBLISHED if Path(given).is_dir() else Path(given)
        if not source.is_file():
            raise InputError(
                f"{source}: there is no table of total improvements; expected the official {PUBLISHED}"
            )
        table = read_improvements(source)
        if source.resolve() != kept.resolve():
            with atomic_write(kept) as temporary:
                shutil.copyfile(source, temporary)
        return table
    return read_improvements(kept) if kept.exists() else ()


def _guards(out: Path, results: Mapping[str, Any]) -> dict[str, list[Guard]]:
    """Background passing each cut, from the trainings; an estimate if they no longer exist."""
    found = {}
    config = results["config"]
    for channel, facts in results["channels"].items():
        behind: dict[float, list[float]] = {target: [] for target in config["targets"]}
        passed = dict.fromkeys(behind, 0)
        for path in sorted((out / "tasks" / channel).glob("*.json")):
            with reading(path, damaged="delete it and run the study again"):
                merits = load_json(path)["merits"]
                # the background is the same for all theories
                points = next(iter(merits.values()))["points"] if merits else []
                for point in points:
                    behind[point["target"]].append(point["background"])
                    passed[point["target"]] += bool(point["reliable"])
        found[channel] = [
            Guard(target, float(np.median(values)), passed[target], len(values))
            if values
            else Guard(target, facts["background_effective"] * config["test_fraction"] * target)
            for target, values in behind.items()
        ]
    return found


def _sizes(results: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Theories and families of each group of the design."""
    families, design = results["families"], results["design"]
    return {
        group: (len(design[group]), len({families[name] for name in design[group]}))
        for group in ("training", *GROUPS)
    }


def _render(page: Page, results: dict[str, Any], published: tuple[ModelImprovement, ...]) -> str:
    answers = results["answers"]
    models = (answers.get("models") or {}).get("models") or []
    families_of = results["families"]
    top, rest, dropped = (
        theory_panels.saturation(page, answers["saturation"], models)
        if "saturation" in answers
        else ([], [], 0)
    )
    scatter, lines = (
        theory_panels.families(page, answers["families"], families_of)
        if "families" in answers
        else (None, None)
    )
    judged = claims(answers)
    guards = _guards(page.path, results)
    channels = list(results["channels"])
    return page.render(
        "theories.html.j2",
        helpers={"t": theory_words, "tables": theory_tables},
        name=page.path.resolve().name,
        results=results,
        config=results["config"],
        answers={name: answers.get(name) for name in QUESTIONS},
        questions=QUESTIONS,
        groups=GROUPS,
        kinds=KINDS,
        sizes=_sizes(results),
        channels=channels,
        guards=guards,
        min_background=MIN_BACKGROUND,
        headline=theory_words.headline(answers, judged),
        claims=judged,
        notes=theory_words.notes(results, guards, dropped),
        published=len(published),
        planes=theory_panels.planes(page, models, published) if models else [],
        saturation=top,
        more_saturation=rest,
        signals=theory_panels.signals(page, models, families_of) if models else [],
        scatter=scatter,
        lines=lines,
        inputs=INPUTS,
        # answers in the format of another version are shown unchanged
        others={
            name: theory_tables.tree(answers[name])
            for name, keys in _KNOWN_BY.items()
            if name in answers and not all(key in answers[name] for key in keys)
        },
        glossary=theory_words.GLOSSARY,
    )
