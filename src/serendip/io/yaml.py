"""YAML files of settings, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serendip.io.files import atomic_write, reading

__all__ = ["read_yaml", "write_yaml"]


def read_yaml(path: Path, *, missing: str = "", damaged: str = "") -> dict[str, Any]:
    """Read settings; arguments and errors are those of :func:`~serendip.io.files.reading`."""
    with reading(path, missing=missing, damaged=damaged):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"no YAML: {error}") from None
        if not isinstance(found, dict):
            raise TypeError("expected lines of the form 'key: value', for example 'mass: mjj'")
        return found


def write_yaml(path: Path, settings: Mapping[str, Any], note: str = "") -> None:
    """Write settings in their order, below a ``note`` of comment lines."""
    with atomic_write(path) as temporary:
        temporary.write_text(note + yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
