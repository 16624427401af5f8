"""A fitted model as a folder: numbers in safetensors, facts in JSON. Opening it runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from serendip.errors import InputError

__all__ = ["read", "write"]

_FACTS = "density.json"
_NUMBERS = "density.safetensors"


def write(folder: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write both files, creating the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _NUMBERS)
    (folder / _FACTS).write_text(json.dumps({"schema": 1, **facts}, indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read both files.

    Raises
    ------
    InputError
        If they are missing, damaged or of another version.
    """
    for name in (_FACTS, _NUMBERS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no density model: {name} is missing")
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text())
        arrays = dict(load_file(folder / _NUMBERS))
        schema = facts.get("schema")
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise InputError(f"the model in {folder} is damaged ({error})") from None
    if schema != 1:
        raise InputError(f"{folder / _FACTS} has schema {schema}; this version reads schema 1")
    return facts, arrays
