"""Classifier ensembles with scikit-learn's interface, and their training on many splits of one sample."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serendip.classify.build import build_classifier
    from serendip.classify.nested import NestedEnsemble
    from serendip.classify.networks import NetworkEnsemble
    from serendip.classify.splits import SplitClassifiers, fit_splits
    from serendip.classify.trees import TreeEnsemble

__all__ = [
    "NestedEnsemble",
    "NetworkEnsemble",
    "SplitClassifiers",
    "TreeEnsemble",
    "build_classifier",
    "fit_splits",
]

# Resolved on first use: trees must not wait for torch.
_HOMES = {
    "NestedEnsemble": "serendip.classify.nested",
    "NetworkEnsemble": "serendip.classify.networks",
    "SplitClassifiers": "serendip.classify.splits",
    "TreeEnsemble": "serendip.classify.trees",
    "build_classifier": "serendip.classify.build",
    "fit_splits": "serendip.classify.splits",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'serendip.classify' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
