"""Arrays, and fitted models as a folder: numbers in safetensors, facts in JSON. Opening them runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from serendip.errors import InputError
from serendip.io.files import reading
from serendip.io.json import read_json

__all__ = ["Arrays", "read_arrays", "read_model", "require", "write_arrays", "write_model"]

Arrays = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name into a safetensors file."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_arrays(path: Path, *names: str, finite: bool = False) -> Arrays:
    """Read all arrays of a safetensors file.

    Raises
    ------
    InputError
        If the file is missing or damaged, one of ``names`` is not in it, or, where all must be ``finite``, a number is
        not.
    """
    with reading(path, missing="the folder contains no complete model"):
        try:
            arrays: Arrays = dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(str(error)) from None
        for name in names:
            if name not in arrays:
                raise ValueError(f"'{name}' is missing")
        for name, array in arrays.items():
            if finite and not np.isfinite(array).all():
                raise ValueError(f"'{name}' holds a number that is not finite")
    return arrays


def write_model(folder: Path, facts: Mapping[str, Any], arrays: Arrays, name: str = "density") -> None:
    """Write facts and numbers into two files of that ``name``, creating the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / f"{name}.safetensors", arrays)
    text = json.dumps({"schema": 1, **facts}, indent=1, sort_keys=True)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_model(folder: Path, name: str = "density") -> tuple[dict[str, Any], Arrays]:
    """Read the files of :func:`write_model`.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another version.
    """
    facts = read_json(folder / f"{name}.json", missing=f"the folder contains no {name}", schema=1)
    return facts, read_arrays(folder / f"{name}.safetensors")


def require(arrays: Arrays, name: str, kinds: str, ndim: int) -> NDArray[Any]:
    """An array of a file, if it exists and has the required kind of numbers and dimensions.

    Raises
    ------
    InputError
        If it is not.
    """
    array = arrays.get(name)
    if array is None or array.dtype.kind not in kinds or array.ndim != ndim:
        found = "missing" if array is None else f"{array.dtype} with {array.ndim} dimensions"
        raise InputError(f"'{name}' is {found}")
    return array
