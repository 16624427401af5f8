"""Text of command-line options to values."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.io.units import in_gev

__all__ = [
    "assign_option",
    "gather_settings",
    "is_settings",
    "parse_interval",
    "parse_masks",
    "parse_window",
    "settings_name",
    "split_names",
]


def parse_interval(text: str, unit: str = "GeV", *, option: str = "window") -> tuple[float, float]:
    """Two masses ``LO:HI`` in ``unit``, returned in GeV.

    Raises
    ------
    InputError
        If the text is not two finite numbers with 0 < LO < HI, or the unit is unknown.
    """
    scale = in_gev(unit)
    expected = (
        f"{option} '{text}' is not a mass interval: expected LO:HI in {unit} with 0 < LO < HI, e.g. 3300:3700"
    )
    parts = text.split(":")
    if len(parts) != 2:
        raise InputError(expected)
    try:
        low, high = (float(part) * scale for part in parts)
    except ValueError:
        raise InputError(expected) from None
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise InputError(expected)
    return low, high


def parse_masks(texts: Sequence[str] | None, unit: str = "GeV") -> list[tuple[float, float]]:
    """Values of ``--mask``, each ``LO:HI`` in ``unit`` or a list of these with commas, in GeV; raises as :func:`parse_interval`."""
    parts = [part.strip() for text in texts or () for part in text.split(",")]
    return [parse_interval(part, unit, option="mask") for part in parts if part]


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


def is_settings(files: Path | Sequence[Path]) -> bool:
    """Whether an input is a YAML file with all settings, and not a table of events.

    Raises
    ------
    InputError
        If there are other files beside it.
    """
    files = [files] if isinstance(files, Path) else files
    settings = [file for file in files if file.suffix.lower() in {".yaml", ".yml"}]
    if settings and len(files) > 1:
        raise InputError(
            f"{settings[0]}: a YAML file with settings stands alone; write the event files into it (file: [a.root, b.root])"
        )
    return bool(settings)


def settings_name(files: Sequence[Path], command: str) -> str:
    """Where settings come from, for messages: the YAML file, or the command with its flags."""
    return str(files[0]) if is_settings(files) else command


def gather_settings(
    files: Sequence[Path], flags: Mapping[str, Any], assignments: Sequence[str] | None = None
) -> dict[str, Any]:
    """Settings of a command: those of its YAML file, the flags that were given, and ``--set``, each over the one before.

    Parameters
    ----------
    files
        The YAML file, or the files of the table of events.
    flags
        All settings that have a flag, by name; None are those that were not given.
    assignments
        Texts ``METHOD.OPTION=VALUE``.

    Raises
    ------
    InputError
        If the file or an assignment cannot be read.
    """
    from serendip.search.config import load_config

    settings = load_config(files[0]) if is_settings(files) else {"file": [str(file) for file in files]}
    given = {name: value for name, value in flags.items() if value is not None}
    # a flag wins over the file, so a window there takes the place of a scan here, and the other way round
    if "scan" in given and "window" not in given:
        settings.pop("window", None)
    if "window" in given and "scan" not in given:
        settings = {
            key: value
            for key, value in settings.items()
            if key not in ("scan", "width", "signal_width", "step")
        }
    # the same for the two ways to say how wide the windows are
    for one, other in (("width", "signal_width"), ("signal_width", "width")):
        if one in given and other not in given:
            settings.pop(other, None)
    settings |= given
    for assignment in assignments or []:
        assign_option(settings, assignment)
    return settings


def split_names(text: str, known: Container[str]) -> list[str]:
    """Split at commas, except those inside a known name."""
    parts, out = text.split(","), []
    while parts:
        size = next((n for n in range(len(parts), 1, -1) if ",".join(parts[:n]).strip() in known), 1)
        out.append(",".join(parts[:size]).strip())
        parts = parts[size:]
    return out
