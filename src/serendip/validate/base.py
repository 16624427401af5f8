"""The result of a validation: checks with a value, a limit and a sentence on their meaning.

A kind of validation is a module with one sentence ``QUESTION``, a class ``Options`` (pydantic, thresholds included; all have defaults) and a
function ``run``, which :func:`answers` makes a :class:`Run`. It may set ``NEEDS_WINDOW = False`` if it works without a signal region.
:mod:`serendip.validate.registry` names the kinds of this package; others name theirs in the entry-point group ``serendip.validations``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from serendip.io.files import reading
from serendip.io.json import load_json, write_json
from serendip.runs.progress import LogProgress, Progress
from serendip.search.config import SearchConfig
from serendip.validate.pictures import Picture

__all__ = [
    "Answer",
    "Check",
    "Run",
    "Validation",
    "Work",
    "answers",
    "look_name",
    "read_validations",
    "write_validation",
]

Options_contra = TypeVar("Options_contra", contravariant=True)


def look_name(working_point: float | None) -> str:
    """How a look selects events, for people: ``weighted``, ``no cut`` or ``ε_B = 0.01``."""
    if working_point is None:
        return "weighted"
    return "no cut" if working_point == 1 else f"ε_B = {working_point:g}"


@dataclass(frozen=True)
class Check:
    """One question with a yes or a no.

    Attributes
    ----------
    name
        The tested quantity, e.g. ``"template AUC, 3000-3300 GeV"``.
    passed
        None if it is undecided (``meaning`` gives the reason).
    value, error
        The number, and its standard error if it has one.
    limit
        The condition in words and numbers, e.g. ``"0.5 +- (0.02 + 2 errors)"``.
    meaning
        One sentence for a physicist: the meaning of a failure.
    """

    name: str
    passed: bool | None
    value: float | None
    error: float | None
    limit: str
    meaning: str


@dataclass(frozen=True)
class Validation:
    """The outcome of one kind of validation.

    Attributes
    ----------
    kind
        Its name on the command line.
    checks
        All questions.
    facts
        Numbers behind the figures, JSON-able.
    seconds
        Wall time.
    """

    kind: str
    checks: tuple[Check, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)


@dataclass(frozen=True)
class Work:
    """Where and how a kind does its work.

    Attributes
    ----------
    out
        The folder of the validation; trainings are kept in ``OUT/tasks``, and those of a search of the same data are used.
    jobs
        Worker processes; default: one for each core.
    progress
        Receives progress messages.
    """

    out: Path
    jobs: int | None
    progress: Progress


Answer = tuple[Iterable[Check], dict[str, Any], Iterable[Picture]]
"""Checks, the numbers behind the figures, and the figures."""


class Run(Protocol[Options_contra]):
    """Function that runs a kind of validation."""

    def __call__(
        self,
        config: SearchConfig,
        options: Options_contra,
        out: Path,
        *,
        jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Validation:
        """Answer the questions of the kind.

        Parameters
        ----------
        config
            The search.
        options
            Of the kind: the settings of the test, and thresholds.
        out, jobs, progress
            As in :class:`Work`.

        Raises
        ------
        InputError
            If the kind cannot be run on this search.
        """
        ...


def answers(
    kind: str,
) -> Callable[[Callable[[SearchConfig, Options_contra, Work], Answer]], Run[Options_contra]]:
    """Make a function with the answer of a kind its :class:`Run`."""

    def made(answer: Callable[[SearchConfig, Options_contra, Work], Answer]) -> Run[Options_contra]:
        def run(
            config: SearchConfig,
            options: Options_contra,
            out: Path,
            *,
            jobs: int | None = None,
            progress: Progress | None = None,
        ) -> Validation:
            started = time.perf_counter()
            checks, facts, figures = answer(config, options, Work(Path(out), jobs, progress or LogProgress()))
            facts = facts | {"figures": [figure.model_dump(mode="json") for figure in figures]}
            return Validation(kind, tuple(checks), facts, time.perf_counter() - started)

        run.__doc__ = answer.__doc__
        return run

    return made


def write_validation(out: Path, validation: Validation) -> Path:
    """Write ``OUT/validation/KIND.json`` and return its path."""
    path = out / "validation" / f"{validation.kind}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": 1} | asdict(validation))
    return path


def read_validations(out: Path) -> list[Validation]:
    """All validations of a folder, in the order of their names.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    found = []
    for path in sorted((out / "validation").glob("*.json")):
        with reading(path, damaged="delete it and run again"):
            content = load_json(path)
            checks = tuple(Check(**check) for check in content["checks"])
            found.append(Validation(content["kind"], checks, content["facts"], content["seconds"]))
    return found
