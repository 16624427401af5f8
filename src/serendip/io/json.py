"""JSON files, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from serendip.io.files import atomic_write, reading

__all__ = ["jsonable", "load_json", "read_json", "write_json"]


def read_json(
    path: Path, *, missing: str = "", damaged: str = "", schema: int | None = None
) -> dict[str, Any]:
    """Read an object of JSON.

    Parameters
    ----------
    path
        The file.
    missing, damaged
        For the message, as of :func:`~serendip.io.files.reading`.
    schema
        Version that its ``schema`` must have; None: it need not have one.

    Raises
    ------
    InputError
        If it is missing, damaged, no object or of another version.
    """
    with reading(path, missing=missing, damaged=damaged):
        return load_json(path, schema)


def load_json(path: Path, schema: int | None = None) -> dict[str, Any]:
    """Read an object of JSON as :func:`read_json` does, but let errors through unchanged: for use inside of :func:`reading`."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise TypeError("an object with names is expected")
    if schema is not None and found.get("schema") != schema:
        raise ValueError(f"schema {found.get('schema')}; this version reads schema {schema}")
    return found


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(jsonable(content), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def jsonable(value: Any) -> Any:
    """Convert to JSON types: arrays become lists, keys and paths text, NaN and infinity null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
