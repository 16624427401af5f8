"""The page of a validation, from ``validation.json`` and the files of ``validation/`` only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serendip.errors import InputError
from serendip.report import words
from serendip.report.page import Page, Panel
from serendip.report.validation.plots import draw, interactive
from serendip.validate.base import Check, Validation, read_validations
from serendip.validate.engine import read_state
from serendip.validate.pictures import Picture
from serendip.validate.registry import KINDS

__all__ = ["PAGE", "Lights", "lights", "write_validation_page"]

PAGE = "validation.html"
COLOURS = {True: "green", None: "amber", False: "red"}
_WORDS = (
    "window",
    "sideband",
    "working point",
    "AUC",
    "template",
    "closure",
    "pull",
    "distance correlation",
    "σ",
)


@dataclass(frozen=True)
class Lights:
    """How many checks of one kind are green, amber and red."""

    kind: str
    question: str
    green: int
    amber: int
    red: int

    @property
    def colour(self) -> str:
        """The worst light."""
        return "red" if self.red else "amber" if self.amber or not self.green else "green"


def lights(folder: Path) -> tuple[Lights, ...]:
    """Traffic lights of all validations of a folder; empty if there are none.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    return tuple(_lights(found) for found in _ordered(folder))


def write_validation_page(folder: Path | str) -> Path:
    """Write ``validation.html`` and the figures of the validations of a folder; returns the path of the page.

    Raises
    ------
    InputError
        If nothing was validated, a file is damaged, or the folder cannot be written.
    """
    page = Page(Path(folder), "validation/figures")
    state, found = read_state(page.path), _ordered(page.path)
    if not found and not state.get("left_out"):
        raise InputError(f"{folder}: contains no validation; run 'serendip validate'")
    with page.writing("page"):
        return page.write(PAGE, _render(page, state, found))


def headline(found: list[Validation]) -> str:
    """Summarise the outcome in one sentence."""
    checks = [check for validation in found for check in validation.checks]
    failed = sum(check.passed is False for check in checks)
    undecided = sum(check.passed is None for check in checks)
    if not checks:
        return "No check was made."
    parts = [f"{failed} of {len(checks)} checks failed" if failed else f"None of {len(checks)} checks failed"]
    if undecided:
        parts.append(f"{undecided} {'is' if undecided == 1 else 'are'} undecided")
    return ", ".join(parts) + "."


def _ordered(folder: Path) -> list[Validation]:
    order = list(KINDS)
    found = read_validations(folder)
    return sorted(found, key=lambda one: order.index(one.kind) if one.kind in order else len(order))


def _lights(found: Validation) -> Lights:
    counts = [sum(check.passed is state for check in found.checks) for state in (True, None, False)]
    try:
        question = KINDS[found.kind].QUESTION
    # its package is no longer installed or broken, but its numbers are still there
    except InputError:
        question = ""
    return Lights(found.kind, question, *counts)


def _sorted_checks(found: Validation) -> list[Check]:
    """Red ones first."""
    return sorted(found.checks, key=lambda check: {False: 0, None: 1, True: 2}[check.passed])


def _panels(page: Page, found: Validation) -> list[Panel]:
    panels = []
    for content in found.facts.get("figures") or []:
        try:
            picture = Picture.model_validate(content)
        except ValidationError as error:
            raise InputError(
                f"{page.path / 'validation' / found.kind}.json: a figure is damaged ({error.errors()[0]['msg']}); delete the file "
                "and run again"
            ) from None
        if not picture.series:
            continue
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", picture.name).strip("-.")
        if not stem.startswith(found.kind):
            stem = f"{found.kind}-{stem}"
        files = page.static(stem, picture, lambda picture=picture: draw(picture))  # type: ignore[misc]
        panels.append(page.panel(interactive(picture), picture.title, picture.caption, files))
    return panels


def _value(check: Check) -> str:
    return words.with_error(check.value, check.error)


def _render(page: Page, state: dict[str, Any], found: list[Validation]) -> str:
    return page.render(
        "validation.html.j2",
        glossary={word: words.GLOSSARY[word] for word in _WORDS},
        helpers={"value": _value, "colours": COLOURS},
        name=page.path.resolve().name,
        state=state,
        config=state["config"],
        headline=headline(found),
        sections=[(one, _lights(one), _sorted_checks(one), _panels(page, one)) for one in found],
        left_out=state.get("left_out") or {},
        has_report=(page.path / "report.html").exists(),
    )
