r"""Outlier scores as search methods: baselines that look for events unlike the others.

Any unsupervised score of :mod:`serendip.outliers` that reads flat features: it is trained on all events of a split,
whatever their mass, and its score is used like that of any other method. Window and mass play no part, so a signal in
the bulk of the background is not found, however large it is: density ratios find over-densities, these find low density.
What is rare depends on the choice of coordinates (arXiv:2209.06225).
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, create_model, model_validator

from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig, as_splits, require_events
from serendip.outliers.base import OutlierScore
from serendip.outliers.registry import SCORES, load_score

__all__ = [
    "Autoencoder",
    "Dagmm",
    "DeepSvdd",
    "FlowLikelihood",
    "GaussianMixture",
    "IsolationForest",
    "KernelDensity",
    "OutlierConfig",
    "OutlierMethod",
    "PlanarVae",
    "VaeRadius",
    "VaeReconstruction",
]

_SET_BY_THE_SEARCH = {"random_state", "threads", "device"}


class OutlierConfig(MethodConfig):
    """Options of an :class:`OutlierMethod`, in addition to the parameters of its score.

    Attributes
    ----------
    min_events
        Fewest events of the sample of one model.
    """

    min_events: PositiveInt = 100
    score: ClassVar[str]

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self.unfitted().check_options()
        return self

    def unfitted(self) -> OutlierScore:
        """The score with these options."""
        made: OutlierScore = SCORES[self.score].make(()).set_params(**self.model_dump(exclude={"min_events"}))
        return made


@cache
def _config(name: str) -> type[OutlierConfig]:
    """The parameters of a score, with its defaults, as options of a search method."""
    score = SCORES[name].make(())
    hints, defaults = get_type_hints(type(score)), score.get_params()
    fields: dict[str, Any] = {
        field.name: (hints[field.name], defaults[field.name])
        for field in dataclasses.fields(score)
        if field.name not in _SET_BY_THE_SEARCH
    }
    made = create_model(f"{type(score).__name__}Config", __base__=OutlierConfig, **fields)
    made.score = name
    return made


class _Options:
    """The configuration class of a method, made on request: some scores import torch."""

    def __get__(self, instance: object, owner: type[OutlierMethod]) -> type[OutlierConfig]:
        return _config(owner.name)


class OutlierMethod(Method):
    """An outlier score, trained for each split on all its events; higher = rarer.

    Subclasses set ``name`` to one of :data:`serendip.outliers.registry.SCORES`.
    """

    by_name_only = True
    Config = _Options()
    config: OutlierConfig

    def __init_subclass__(cls) -> None:
        cls.title = f"Outlier score (baseline): {SCORES[cls.name].title}"

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if a split has too few events."""
        for mask in as_splits(splits, len(events)):
            require_events(mask & (events.weights > 0), self.config.min_events, "sample", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train one score for each split.

        Parameters
        ----------
        events
            All events of a split are used; event weights are used as in the score.
        window
            Not used.
        splits
            Shape ``(n_models, n_events)``; default: one model trained on everything.

        Raises
        ------
        InputError
            If a split has too few events, or an option is not valid for these features.
        """
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        self._scores: list[OutlierScore] = []
        for k, mask in enumerate(masks):
            rows = np.flatnonzero(mask & (events.weights > 0))
            groups = None if events.groups is None else events.groups[rows]
            self._scores.append(
                self._unfitted(k).fit(events.x[rows], sample_weight=events.weights[rows], groups=groups)
            )
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Outlier score, shape ``(n_events,)``."""
        return self._scores[split].score_samples(events.x) if len(events) else np.empty(0)

    def save_model(self, folder: Path, split: int) -> None:
        """Write the score of model ``split``."""
        self._scores[split].save(folder / "score")

    def load_model(self, folder: Path) -> None:
        """Read it as model 0."""
        self._scores = [load_score(folder / "score")]

    def _unfitted(self, split: int) -> OutlierScore:
        score = self.config.unfitted()
        seed = int(np.random.default_rng([self.seed, split]).integers(2**31))
        known = score.get_params()
        given = {"random_state": seed, "threads": self.threads}
        made: OutlierScore = score.set_params(**{name: v for name, v in given.items() if name in known})
        return made


class Autoencoder(OutlierMethod):
    """Error of reconstruction (arXiv:1808.08979, 1808.08992)."""

    name = "autoencoder"
    by_name_only = False


class Dagmm(OutlierMethod):
    """Energy in a Gaussian mixture of the latent variables of an autoencoder."""

    name = "dagmm"


class DeepSvdd(OutlierMethod):
    """Distance to a fixed target of networks that send background there (arXiv:2106.10164)."""

    name = "deep-svdd"


class FlowLikelihood(OutlierMethod):
    """Minus the log-likelihood of a normalizing flow."""

    name = "flow"


class GaussianMixture(OutlierMethod):
    """Minus the log-density of a Gaussian mixture."""

    name = "gaussian-mixture"


class IsolationForest(OutlierMethod):
    """Number of random cuts that separate an event from the others (Liu, Ting and Zhou 2008)."""

    name = "isolation-forest"
    by_name_only = False


class KernelDensity(OutlierMethod):
    """Minus the logarithm of a kernel density of principal components."""

    name = "kde"


class PlanarVae(OutlierMethod):
    """Variational autoencoder with planar flows."""

    name = "planar-vae"


class VaeRadius(OutlierMethod):
    """Distance to the prior in the latent space of a variational autoencoder (arXiv:2105.14027)."""

    name = "vae-radius"


class VaeReconstruction(OutlierMethod):
    """Error of reconstruction of a variational autoencoder."""

    name = "vae-reconstruction"
