"""JSON files, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from serendip.io.files import atomic_write

__all__ = ["jsonable", "write_json"]


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(jsonable(content), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def jsonable(value: Any) -> Any:
    """Give the same content in what JSON has: arrays become lists, keys and paths text, NaN and infinity null."""
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
