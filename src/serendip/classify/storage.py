"""A fitted classifier as a folder: numbers in safetensors, facts in JSON. Opening it runs no code."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from serendip.errors import InputError

__all__ = ["Arrays", "load_classifier", "require", "save_classifier"]

_FACTS = "classifier.json"
_NUMBERS = "classifier.safetensors"

# Where the class of each kind is: loaded when a file asks for it.
_KINDS = {
    "trees": ("serendip.classify.trees", "TreeEnsemble"),
    "network": ("serendip.classify.networks", "NetworkEnsemble"),
    "nested": ("serendip.classify.nested", "NestedEnsemble"),
}

Arrays = dict[str, NDArray[Any]]


def save_classifier(folder: str | Path, estimator: Any) -> None:
    """Write a fitted TreeEnsemble or NetworkEnsemble into ``folder``, as two files.

    Raises
    ------
    InputError
        If it is something else, which could be stored as pickle only.
    """
    described = getattr(estimator, "to_arrays", None)
    if described is None:
        raise InputError(
            f"a classifier of type {type(estimator).__name__} cannot be stored: only TreeEnsemble and "
            "NetworkEnsemble have a file format that is safe to open"
        )
    facts, arrays = described()
    write_folder(Path(folder), facts, arrays)


def load_classifier(folder: str | Path) -> Any:
    """Read what :func:`save_classifier` wrote.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    facts, arrays = read_folder(Path(folder))
    kind = facts.get("kind")
    if kind not in _KINDS:
        raise InputError(f"{folder} holds a classifier of the unknown kind '{kind}'")
    module, name = _KINDS[kind]
    try:
        return getattr(import_module(module), name).from_arrays(facts, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, InputError) as error:
        raise InputError(f"{folder}: the classifier is damaged ({error})") from None


def write_folder(folder: Path, facts: dict[str, Any], arrays: Arrays) -> None:
    """Write facts and numbers, creating the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _NUMBERS)
    text = json.dumps({"schema": 1, **facts}, indent=1, sort_keys=True)
    (folder / _FACTS).write_text(text + "\n", encoding="utf-8")


def read_folder(folder: Path) -> tuple[dict[str, Any], Arrays]:
    """Read facts and numbers.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another version.
    """
    for name in (_FACTS, _NUMBERS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no classifier: {name} is missing")
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        arrays = dict(load_file(folder / _NUMBERS))
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: the classifier is damaged ({error})") from None
    if not isinstance(facts, dict) or facts.get("schema") != 1:
        raise InputError(f"{folder / _FACTS} is not a classifier in schema 1, which this version reads")
    return facts, arrays


def require(arrays: Arrays, name: str, kinds: str, ndim: int) -> NDArray[Any]:
    """An array of a file, if it is there and has the kind of numbers and the dimensions that it must have.

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
