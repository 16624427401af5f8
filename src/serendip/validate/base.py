"""What every validation returns: checks with a value, a limit and a sentence that says what they mean.

A kind of validation is a module of this package with a class ``Options`` (pydantic, thresholds included) and a function
``run(config, options, out, *, jobs, progress) -> Validation``; :mod:`serendip.validate.registry` names them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.search.rundir import write_json

__all__ = ["Check", "Validation", "look_name", "read_validations", "write_validation"]


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
        What was looked at, e.g. ``"template AUC, 3000-3300 GeV"``.
    passed
        None if it could not be decided (``meaning`` says why).
    value, error
        The number, and its standard error if it has one.
    limit
        The condition in words and numbers, e.g. ``"0.5 +- (0.02 + 2 errors)"``.
    meaning
        One sentence for a physicist: what a failure would mean.
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
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            checks = tuple(Check(**check) for check in content["checks"])
            found.append(Validation(content["kind"], checks, content["facts"], content["seconds"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: not the outcome of a validation ({error}); delete it and run again"
            ) from None
    return found
