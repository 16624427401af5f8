"""Contract check of validations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from serendip.testing.base import FEATURES, WINDOW, need, write_events

__all__ = ["check_validation"]


def check_validation(
    validation: ModuleType, options: Mapping[str, Any] | None = None, **settings: Any
) -> None:
    """Check a validation on a small search without a signal.

    Parameters
    ----------
    validation
        The module.
    options
        Of its ``Options``.
    **settings
        Of the search, besides the events; default: the inclusive bump hunt, which trains nothing.

    Raises
    ------
    AssertionError
        Naming the promise that is broken:

        * the module has ``QUESTION``, ``Options`` with a default for everything, which refuse unknown options, and ``run``;
        * every check has a name, a limit and a meaning in words, and values of the right types;
        * facts are JSON-able and figures are those of :mod:`serendip.validate.pictures`;
        * the same search gives the same values again.
    """
    from serendip.runs.progress import LogProgress
    from serendip.validate.config import ValidateConfig
    from serendip.validate.pictures import Picture
    from serendip.validate.registry import is_kind

    need(is_kind(validation), "a validation is a module with QUESTION, Options (a pydantic model) and run")
    need(validation.QUESTION.endswith("?"), "QUESTION is one sentence that ends in a question mark")
    validation.Options()
    try:
        validation.Options.model_validate({"no_such_option": 1})
    except ValidationError:
        pass
    else:
        need(False, "Options accept an unknown option; derive them from KindOptions")
    with TemporaryDirectory() as folder:
        events = write_events(Path(folder))
        given = {
            "mass": "mjj",
            "features": FEATURES,
            "window": (WINDOW.low, WINDOW.high),
            "method": ["bump-hunt"],
            "toys": 100,
        }
        config = ValidateConfig(file=str(events), **(given | settings))
        chosen = validation.Options(**(options or {}))
        first, again = (
            validation.run(config, chosen, Path(folder) / name, jobs=1, progress=LogProgress())
            for name in ("first", "again")
        )
    need(len(first.checks) > 0, "there is no check")
    for check in first.checks:
        need(
            check.passed in (True, False, None),
            f"'{check.name}': passed is {check.passed!r}, not True, False or None",
        )
        need(
            all((check.name, check.limit, check.meaning)),
            f"'{check.name}': name, limit and meaning are words",
        )
        need(
            all(number is None or isinstance(number, float) for number in (check.value, check.error)),
            f"'{check.name}': value and error are floats or None",
        )
    try:
        json.dumps(first.facts)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"facts cannot be written as JSON: {error}") from error
    for figure in first.facts["figures"]:
        Picture.model_validate(figure)
    need(first.checks == again.checks, "the same search gave other values")
