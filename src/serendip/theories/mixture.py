r"""One classifier between the Standard Model and a mixture of theories (MoT, arXiv:2207.07631).

The signal of the training is a mixture of N theories with weights :math:`w_i`,

.. math:: p_S(x) = \frac{\sum_i w_i\, p_i(x)}{\sum_i w_i},

and both classes have the same total weight, so that the score tends to :math:`\ln p_S(x)/p_\mathrm{SM}(x)`. With one
theory it is the single-signal approach (SSA). The classifier is LightGBM; it stops where the AUC of held-out events no longer rises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from serendip.errors import InputError
from serendip.events.files import atomic_write

if TYPE_CHECKING:
    from lightgbm import Booster

__all__ = ["PAPER", "BoostConfig", "MixtureClassifier", "MixtureConfig", "TheorySample", "train_mixture"]

Array = NDArray[np.float64]

_FEWEST_EVENTS = 20
_MODEL, _RECORD = "model.txt", "mixture.json"


@dataclass(frozen=True, eq=False)
class TheorySample:
    """Encoded events of one theory.

    Attributes
    ----------
    name, family
        Of the theory; a family holds the same process at other masses.
    x
        Features, shape ``(n, n_features)``.
    weight
        Event weights, shape ``(n,)``; None: all the same.
    group
        Events with the same number, shape ``(n,)``, share particles and never stand on both sides of a split (one generated
        event that was measured several times); None: every event on its own.
    fold
        Number in [0, 1) of each event, shape ``(n,)``, by which samples are split (:func:`~serendip.theories.split.hash_fold`); None: not
        known.
    """

    name: str
    family: str
    x: NDArray[Any]
    weight: Array | None = None
    group: NDArray[np.int64] | None = None
    fold: Array | None = None


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


class MixtureConfig(BaseModel):
    """Options of a training.

    Attributes
    ----------
    events_per_theory
        Events of each theory, drawn at random; a smaller sample is taken whole, with the same total weight.
    weights
        ``"theory"``: every theory counts the same (the paper). ``"family"``: every family does. Or the weight of each theory
        by name.
    validation_fraction
        Part of every sample that decides when to stop.
    boost
        Options of the classifier.
    seed
        Of the draws, the split and the classifier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_per_theory: PositiveInt = 10_000
    weights: Literal["theory", "family"] | dict[str, PositiveFloat] = "theory"
    validation_fraction: float = Field(default=0.2, gt=0.0, lt=0.9)
    boost: BoostConfig = BoostConfig()
    seed: NonNegativeInt = 1


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
        values = np.asarray(x)
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
        """Read what :meth:`save` wrote; InputError if it is not there or damaged."""
        try:
            model = (folder / _MODEL).read_text(encoding="utf-8")
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            return cls(
                model, tuple(record["features"]), tuple(record["theories"]), MixtureConfig(**record["config"]),
                int(record["rounds"]), float(record["validation_auc"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: holds no trained mixture ({error})") from None

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
        What is mixed; one theory is the single-signal approach.
    config
        Options.
    features
        Names of the columns.
    background_weight, background_group
        Event weights and groups, shape ``(n,)``, see :class:`TheorySample`.

    Raises
    ------
    InputError
        If a sample has too few events, another number of columns, or weights that are negative or add up to nothing; if a
        name is there twice, or a weight is given for a theory that is not.
    """
    _check(theories, config)
    rng = np.random.default_rng([config.seed, 0x307])
    shares = _shares(theories, config.weights)
    x, weight, held_out = [], [], []
    standard = TheorySample(
        "background", "background", np.asarray(background), _or_none(background_weight), background_group
    )
    samples = [(standard, 1.0)]
    samples += [(theory, shares[theory.name]) for theory in theories]
    for number, (sample, share) in enumerate(samples):
        w = _checked(sample, len(features))
        rows = rng.permutation(len(w))[: None if number == 0 else config.events_per_theory]
        hold = _held_out(sample, rows, config.validation_fraction, rng)
        for part in (hold, ~hold):
            # every sample has the same share in training and validation, whatever its events weigh
            chosen = w[rows[part]]
            if not chosen.sum() > 0:
                raise InputError(f"'{sample.name}': the weights of its events add up to nothing")
            w[rows[part]] = chosen * share / chosen.sum()
        x.append(sample.x[rows])
        weight.append(w[rows])
        held_out.append(hold)
    sizes = [len(rows) for rows in x]
    target = np.repeat([0.0, *[1.0] * len(theories)], sizes)
    return _boost(
        np.concatenate(x),
        target,
        np.concatenate(weight),
        np.concatenate(held_out),
        theories,
        config,
        features,
    )


def _held_out(
    sample: TheorySample, rows: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which of the rows decide when to stop: whole groups."""
    group = np.arange(len(rows)) if sample.group is None else np.asarray(sample.group)[rows]
    numbers, index = np.unique(group, return_inverse=True)
    if len(numbers) < 2:
        raise InputError(f"'{sample.name}': all events belong to one group, so that none can be held out")
    chosen = np.zeros(len(numbers), dtype=bool)
    n_held = min(max(1, round(fraction * len(numbers))), len(numbers) - 1)
    chosen[rng.permutation(len(numbers))[:n_held]] = True
    return np.asarray(chosen[index])


def _boost(
    x: NDArray[Any],
    target: Array,
    weight: Array,
    held_out: NDArray[np.bool_],
    theories: Sequence[TheorySample],
    config: MixtureConfig,
    features: Sequence[str],
) -> MixtureClassifier:
    lgb, boost = _lightgbm(), config.boost
    parameters = {
        "objective": "binary", "metric": "auc", "num_leaves": boost.leaves, "max_depth": boost.depth or -1,
        "learning_rate": boost.learning_rate, "min_data_in_leaf": boost.min_leaf, "max_bin": boost.bins,
        "num_threads": boost.threads, "seed": config.seed, "deterministic": True, "force_row_wise": True,
        "min_sum_hessian_in_leaf": 0.0, "verbosity": -1,
    }  # fmt: skip
    # weights of mean one, for which the defaults of LightGBM are made
    sets = [
        lgb.Dataset(x[part], target[part], weight=weight[part] / weight[part].mean(), free_raw_data=True)
        for part in (~held_out, held_out)
    ]
    sets[1].reference = sets[0]
    history: dict[str, dict[str, list[float]]] = {}
    booster = lgb.train(
        parameters,
        sets[0],
        num_boost_round=boost.rounds,
        valid_sets=[sets[1]],
        valid_names=["held out"],
        callbacks=[
            lgb.early_stopping(boost.patience, verbose=False),
            lgb.record_evaluation(history),
        ],
    )
    rounds = int(booster.best_iteration or booster.current_iteration())
    return MixtureClassifier(
        model=booster.model_to_string(num_iteration=rounds),
        features=tuple(features),
        theories=tuple(theory.name for theory in theories),
        config=config,
        rounds=rounds,
        validation_auc=float(history["held out"]["auc"][rounds - 1]),
    )


def _check(theories: Sequence[TheorySample], config: MixtureConfig) -> None:
    if not theories:
        raise InputError("a mixture needs at least one theory")
    names = [theory.name for theory in theories]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"theories are there twice: {', '.join(twice)}")
    if isinstance(config.weights, Mapping):
        unknown = sorted(set(config.weights) - set(names))
        missing = sorted(set(names) - set(config.weights))
        if unknown or missing:
            raise InputError(
                f"weights must name every theory of the mixture; unknown: {', '.join(unknown) or 'none'}, missing: "
                f"{', '.join(missing) or 'none'}"
            )


def _shares(theories: Sequence[TheorySample], weights: str | Mapping[str, float]) -> dict[str, float]:
    """Share of each theory in the mixture; they add up to one."""
    if isinstance(weights, Mapping):
        raw = {theory.name: float(weights[theory.name]) for theory in theories}
    elif weights == "family":
        families = [theory.family for theory in theories]
        raw = {theory.name: 1.0 / families.count(theory.family) for theory in theories}
    else:
        raw = {theory.name: 1.0 for theory in theories}
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()}


def _or_none(weight: ArrayLike | None) -> Array | None:
    return None if weight is None else np.asarray(weight, dtype=float)


def _checked(sample: TheorySample, n_features: int) -> Array:
    """Weights of a sample, checked together with its events."""
    x = np.asarray(sample.x)
    if x.ndim != 2 or x.shape[1] != n_features:
        raise InputError(f"'{sample.name}': events of shape {x.shape}, but {n_features} features are named")
    if len(x) < _FEWEST_EVENTS:
        raise InputError(
            f"'{sample.name}' has {len(x)} events, at least {_FEWEST_EVENTS} are needed to train"
        )
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise InputError(
            f"'{sample.name}': event {row}, feature {column} is {x[row, column]}, not a finite number"
        )
    if sample.group is not None and np.shape(sample.group) != (len(x),):
        raise InputError(f"'{sample.name}': {np.shape(sample.group)} groups for {len(x)} events")
    if sample.weight is None:
        return np.ones(len(x))
    weight = np.array(sample.weight, dtype=float)
    if weight.shape != (len(x),) or not np.isfinite(weight).all() or weight.min() < 0:
        raise InputError(
            f"'{sample.name}': weights must be one finite number for each event, and not negative"
        )
    return weight


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise InputError("training on mixtures needs LightGBM: pip install 'serendip[theories]'") from None
    return lightgbm
