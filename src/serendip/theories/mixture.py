r"""One classifier between the Standard Model and a mixture of theories (MoT, arXiv:2207.07631).

The signal of the training is a mixture of N theories with weights :math:`w_i`,

.. math:: p_S(x) = \frac{\sum_i w_i\, p_i(x)}{\sum_i w_i},

and both classes have the same total weight, so that the score tends to :math:`\ln p_S(x)/p_\mathrm{SM}(x)`. With one
theory it is the single-signal approach (SSA). The classifier is LightGBM; it stops where the AUC of held-out events no longer rises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from serendip.errors import InputError
from serendip.io.files import atomic_write, reading
from serendip.io.json import load_json
from serendip.theories.training_sample import SampleConfig, TheorySample, TrainingSample, training_sample

if TYPE_CHECKING:
    from lightgbm import Booster

__all__ = ["PAPER", "BoostConfig", "MixtureClassifier", "MixtureConfig", "TheorySample", "train_mixture"]

Array = NDArray[np.float64]

_MODEL, _RECORD = "model.txt", "mixture.json"
_LEAST_HESSIAN = 1e-3


class BoostConfig(BaseModel):
    """Options of LightGBM; the defaults are faster than those of the paper (:data:`PAPER`).

    Attributes
    ----------
    rounds
        Most trees.
    leaves, depth
        Of a tree; depth 0: not limited.
    learning_rate
        Step of each tree.
    min_leaf
        Fewest events in a leaf.
    bins
        Histogram bins of a feature.
    patience
        Trees without a better AUC before it stops.
    threads
        0: as many as LightGBM finds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: PositiveInt = 1000
    leaves: int = Field(default=63, ge=2)
    depth: NonNegativeInt = 0
    learning_rate: PositiveFloat = 0.1
    min_leaf: PositiveInt = 20
    bins: int = Field(default=127, ge=8, le=1023)
    patience: PositiveInt = 25
    threads: NonNegativeInt = 1


PAPER = BoostConfig(rounds=5000, leaves=500, depth=15, learning_rate=0.01, bins=255, patience=100)
"""Settings of arXiv:2207.07631; patience and bins are not given there."""


class MixtureConfig(SampleConfig):
    """Options of a training.

    Attributes
    ----------
    boost
        Options of the classifier.
    events_per_theory, weights, validation_fraction, seed
        As in :class:`~serendip.theories.training_sample.SampleConfig`.
    """

    boost: BoostConfig = BoostConfig()


@dataclass(frozen=True, eq=False)
class MixtureClassifier:
    """A trained classifier.

    Attributes
    ----------
    model
        LightGBM model as text.
    features
        Names of the columns of ``x``.
    theories
        Names of the theories in the mixture.
    config
        How it was trained.
    rounds
        Trees that are used.
    validation_auc
        AUC of the held-out events (the mixture against background) at that number of trees.
    """

    model: str
    features: tuple[str, ...]
    theories: tuple[str, ...]
    config: MixtureConfig
    rounds: int
    validation_auc: float

    def score(self, x: ArrayLike) -> Array:
        """Log-odds of the mixture against the Standard Model, shape ``(n,)``; higher is more signal-like.

        Raises
        ------
        InputError
            If the number of columns is another one.
        """
        values = _single(x)
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise InputError(
                f"events of shape {values.shape} cannot be scored: the classifier was trained on {len(self.features)} features"
            )
        threads = self.config.boost.threads
        return np.asarray(self._booster().predict(values, raw_score=True, num_threads=threads), dtype=float)

    def gains(self) -> dict[str, float]:
        """Total gain of the splits on each feature, the largest first."""
        gains = self._booster().feature_importance("gain")
        order = np.argsort(-gains, kind="stable")
        return {self.features[i]: float(gains[i]) for i in order}

    def save(self, folder: Path) -> None:
        """Write ``model.txt`` (LightGBM) and ``mixture.json``; the folder is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "schema": 1, "features": list(self.features), "theories": list(self.theories),
            "config": self.config.model_dump(mode="json"), "rounds": self.rounds, "validation_auc": self.validation_auc,
        }  # fmt: skip
        with atomic_write(folder / _MODEL) as temporary:
            temporary.write_text(self.model, encoding="utf-8")
        with atomic_write(folder / _RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> MixtureClassifier:
        """Read the files of :meth:`save`; InputError if it is not there or damaged."""
        with reading(folder, missing="expected a trained mixture", damaged="expected a trained mixture"):
            model = (folder / _MODEL).read_text(encoding="utf-8")
            record = load_json(folder / _RECORD)
            return cls(
                model, tuple(record["features"]), tuple(record["theories"]), MixtureConfig(**record["config"]),
                int(record["rounds"]), float(record["validation_auc"]),
            )  # fmt: skip

    def _booster(self) -> Booster:
        booster: Booster = _lightgbm().Booster(model_str=self.model)
        return booster


def train_mixture(
    background: ArrayLike,
    theories: Sequence[TheorySample],
    config: MixtureConfig,
    *,
    features: Sequence[str],
    background_weight: ArrayLike | None = None,
    background_group: NDArray[np.int64] | None = None,
) -> MixtureClassifier:
    """Train a classifier between background and a mixture of theories.

    Parameters
    ----------
    background
        Encoded Standard Model events, shape ``(n, n_features)``.
    theories
        The theories; one theory is the single-signal approach.
    config
        Options.
    features
        Names of the columns.
    background_weight, background_group
        Event weights and groups, shape ``(n,)``, see :class:`TheorySample`.

    Raises
    ------
    InputError
        If a sample has too few events, another number of columns, or weights that are negative or sum to zero; if a name is duplicated, or a weight is given for a theory that is not.
    """
    sample = training_sample(
        background,
        theories,
        config,
        features=features,
        background_weight=background_weight,
        background_group=background_group,
    )
    return _boost(sample, theories, config, features)


def _boost(
    sample: TrainingSample,
    theories: Sequence[TheorySample],
    config: MixtureConfig,
    features: Sequence[str],
) -> MixtureClassifier:
    lgb, boost = _lightgbm(), config.boost
    parameters = {
        "objective": "binary", "metric": "auc", "num_leaves": boost.leaves, "max_depth": boost.depth or -1,
        "learning_rate": boost.learning_rate, "min_data_in_leaf": boost.min_leaf, "max_bin": boost.bins,
        "num_threads": boost.threads, "seed": config.seed, "deterministic": True, "force_row_wise": True,
        "verbosity": -1,
    }  # fmt: skip
    # weights of mean one, for which the defaults of LightGBM are made
    x = _single(sample.x)
    sets = [
        lgb.Dataset(
            x[part],
            sample.target[part],
            weight=sample.weight[part] / sample.weight[part].mean(),
            free_raw_data=True,
        )
        for part in (~sample.held_out, sample.held_out)
    ]
    sets[1].reference = sets[0]
    history: dict[str, dict[str, list[float]]] = {}

    def grow(least_hessian: float) -> Booster:
        history.clear()
        booster: Booster = lgb.train(
            parameters | {"min_sum_hessian_in_leaf": least_hessian},
            sets[0],
            num_boost_round=boost.rounds,
            valid_sets=[sets[1]],
            valid_names=["held out"],
            callbacks=[
                lgb.early_stopping(boost.patience, verbose=False),
                lgb.record_evaluation(history),
            ],
        )
        return booster

    try:
        booster = grow(0.0)
    except lgb.basic.LightGBMError:
        # LightGBM estimates numbers of events from sums of second derivatives. Where the classes are far apart these
        # vanish, and rounding passes for events that a leaf does not have: use more.
        booster = grow(_LEAST_HESSIAN)
    rounds = int(booster.best_iteration or booster.current_iteration())
    return MixtureClassifier(
        model=booster.model_to_string(num_iteration=rounds),
        features=tuple(features),
        theories=tuple(theory.name for theory in theories),
        config=config,
        rounds=rounds,
        validation_auc=float(history["held out"]["auc"][rounds - 1]),
    )


def _single(x: ArrayLike) -> Array:
    """Features rounded to single precision, as encoded, but stored as doubles.

    LightGBM compares its input with thresholds that may be values of the training sample: 0.7 in single and in double
    precision would go to different sides.
    """
    return np.asarray(x, dtype=np.float32).astype(np.float64)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise InputError("training on mixtures needs LightGBM: pip install 'serendip[theories]'") from None
    return lightgbm
