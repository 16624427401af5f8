"""A fitted classifier as a folder: numbers in safetensors, facts in JSON. Opening it runs no code."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.io.models import read_model, write_model

__all__ = ["load_classifier", "save_classifier"]

# Where the class of each kind is: loaded when a file requires it.
_KINDS = {
    "trees": ("serendip.classify.trees", "TreeEnsemble"),
    "network": ("serendip.classify.networks", "NetworkEnsemble"),
    "nested": ("serendip.classify.nested", "NestedEnsemble"),
}


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
    write_model(Path(folder), facts, arrays, "classifier")


def load_classifier(folder: str | Path) -> Any:
    """Read the files of :func:`save_classifier`.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    facts, arrays = read_model(Path(folder), "classifier")
    kind = facts.get("kind")
    if kind not in _KINDS:
        raise InputError(f"{folder} holds a classifier of the unknown kind '{kind}'")
    module, name = _KINDS[kind]
    try:
        return getattr(import_module(module), name).from_arrays(facts, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, InputError) as error:
        raise InputError(f"{folder}: the classifier is damaged ({error})") from None
