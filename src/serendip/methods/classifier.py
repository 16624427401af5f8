"""Common base of methods whose score is that of a classifier for each split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.classify.build import build_classifier
from serendip.classify.splits import SplitClassifiers
from serendip.events.events import Events
from serendip.methods.base import Method

__all__ = ["ClassifierMethod"]


class ClassifierMethod(Method):
    """A method whose ``fit`` trains classifiers; its options set their kind, their number and the validation fraction."""

    config: Any
    _classifiers: SplitClassifiers

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Log-odds of the first class of the method against the second, shape ``(n_events,)``."""
        return self._classifiers.score(events.x, split)

    def save_model(self, folder: Path, split: int) -> None:
        """Write the classifier of model ``split``."""
        self._classifiers.save(folder / "classifier", split)

    def load_model(self, folder: Path) -> None:
        """Read the classifier as model 0."""
        self._classifiers = SplitClassifiers.load(folder / "classifier")

    def classifier(self) -> Any:
        """Return the untrained classifier; override it to use any other scikit-learn estimator."""
        return self._ensemble(self.config.members)

    def _ensemble(self, members: int) -> Any:
        config = self.config
        return build_classifier(
            config.classifier,
            members=members,
            seed=self.seed,
            threads=self.threads,
            select_by=getattr(config, "select_by", "loss"),
            validation_fraction=config.validation_fraction,
        )
