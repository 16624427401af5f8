"""Text of command-line options to values."""

from __future__ import annotations

import math
from typing import Any

from serendip.errors import InputError
from serendip.events.events import Window

__all__ = ["assign_option", "parse_interval", "parse_window"]

_GEV = {"GeV": 1.0, "TeV": 1000.0}


def parse_interval(text: str, unit: str = "GeV", *, option: str = "window") -> tuple[float, float]:
    """Two masses ``LO:HI`` in ``unit``, returned in GeV.

    Raises
    ------
    InputError
        If the text is not two finite numbers with 0 < LO < HI, or the unit is unknown.
    """
    if unit not in _GEV:
        raise InputError(f"the unit '{unit}' is not known; expected {' or '.join(_GEV)}")
    expected = (
        f"{option} '{text}' is not a mass interval: expected LO:HI in {unit} with 0 < LO < HI, e.g. 3300:3700"
    )
    parts = text.split(":")
    if len(parts) != 2:
        raise InputError(expected)
    try:
        low, high = (float(part) * _GEV[unit] for part in parts)
    except ValueError:
        raise InputError(expected) from None
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise InputError(expected)
    return low, high


def parse_window(text: str, unit: str = "GeV") -> Window:
    """``LO:HI`` in ``unit`` to a window in GeV; raises as :func:`parse_interval`."""
    return Window(*parse_interval(text, unit))


def assign_option(settings: dict[str, Any], assignment: str) -> None:
    """Put ``METHOD.OPTION=VALUE`` of the command line into the settings.

    Raises
    ------
    InputError
        If the text has another form.
    """
    import yaml

    key, equals, value = assignment.partition("=")
    method, dot, option = key.partition(".")
    if not (equals and dot and method and option):
        raise InputError(f"--set {assignment}: expected METHOD.OPTION=VALUE, e.g. cwola.members=4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {assignment}: the value '{value}' cannot be read") from None
    options = settings.get("options") or {}
    if not isinstance(options, dict) or not isinstance(options.get(method, {}), dict):
        raise InputError(
            f"--set {assignment}: options in the file must have the form 'options: {{METHOD: {{OPTION: VALUE}}}}'"
        )
    settings["options"] = options | {method: options.get(method, {}) | {option: parsed}}
