"""The files of one finished training in the run directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.statistics.template_count import TemplateCurves

__all__ = ["TaskResult"]

_ARRAYS = ("scores", "template", "template_weights", "signal", "signal_size", "more_scores")
_CURVES = "template_curves.npz"


@dataclass(frozen=True)
class TaskResult:
    """The result of one finished training.

    Attributes
    ----------
    scores
        Score of every event by a model that was not trained on it, shape ``(n,)``; NaN for a fold that is not tested.
    template, template_weights
        Background template of the last model in the signal region, shape ``(k, d)`` and ``(k,)``; empty if none.
    signal
        Events drawn from the signal that the last model learnt, mass and features, shape ``(k, 1 + d)``; empty if
        the method learns none.
    signal_size
        Fraction of signal in the window, its error, the fraction in training, the gain in ln L and the largest one where no
        signal is expected (NaN: not looked at), shape ``(5,)``; empty if none. Not among the facts, which anybody reads: it reveals the content of the window.
    facts
        JSON-able: method, window, timing, closure.
    efficiency, curves
        Template efficiency of every score, shape ``(n,)``, and that from templates of bootstrap samples, for template counting; None without.
    model
        Files of the last model by path, see :mod:`serendip.search.models`; None if it cannot be saved, and for a
        training that was read back.
    more_scores
        Scores in further orders of the folds, shape ``(n_orders - 1, n)``.
    """

    scores: NDArray[np.float64]
    template: NDArray[np.float32]
    template_weights: NDArray[np.float64]
    signal: NDArray[np.float64]
    signal_size: NDArray[np.float64]
    facts: dict[str, Any]
    model: dict[str, bytes] | None = None
    efficiency: NDArray[np.float64] | None = None
    curves: TemplateCurves | None = None
    more_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def all_scores(self) -> tuple[NDArray[np.float64], ...]:
        """Scores in all orders of the folds."""
        return (self.scores, *self.more_scores)

    def save(self, folder: Path) -> None:
        """Write the arrays and the model into a folder; the facts are left to the caller."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        if self.curves is not None and self.efficiency is not None:
            arrays = {"efficiency": self.efficiency} | self.curves.arrays()
            np.savez(folder / _CURVES, allow_pickle=False, **arrays)
        for name, content in (self.model or {}).items():
            path = folder / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> TaskResult:
        """Read the files of :meth:`save`; raises the errors of NumPy for damaged files."""
        stored = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        if (folder / _CURVES).exists():
            with np.load(folder / _CURVES, allow_pickle=False) as curves:
                arrays = dict(curves)
            stored |= {"efficiency": arrays.pop("efficiency"), "curves": TemplateCurves.from_arrays(arrays)}
        return cls(**stored, facts=facts)
