r"""The weighted sample that a classifier between the Standard Model and a mixture of theories is trained on.

The signal is a mixture of N theories with weights :math:`w_i` (arXiv:2207.07631),

.. math:: p_S(x) = \frac{\sum_i w_i\, p_i(x)}{\sum_i w_i},

and background and mixture have the same total weight, in the training and in the validation events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from serendip.errors import InputError
from serendip.wording import counted

__all__ = ["SampleConfig", "TheorySample", "TrainingSample", "training_sample"]

Array = NDArray[np.float64]
Layout = Literal["flat", "objects"]

_FEWEST_EVENTS = 20


@dataclass(frozen=True, eq=False)
class TheorySample:
    """Encoded events of one theory.

    Attributes
    ----------
    name, family
        Of the theory; a family holds the same process at other masses.
    x
        Features, shape ``(n, n_features)``, or lists of objects, shape ``(n, n_objects, n_features)``.
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


class SampleConfig(BaseModel):
    """Training events of a mixture for all classifiers.

    Attributes
    ----------
    events_per_theory
        Events of each theory, drawn at random; a smaller sample is taken whole, with the same total weight.
    weights
        ``"theory"``: every theory counts the same (the paper). ``"family"``: every family does. Or the weight of each theory
        by name.
    validation_fraction
        Fraction of every sample used for early stopping.
    seed
        Of the draws, the split and the classifier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_per_theory: PositiveInt = 10_000
    weights: Literal["theory", "family"] | dict[str, PositiveFloat] = "theory"
    validation_fraction: float = Field(default=0.2, gt=0.0, lt=0.9)
    seed: NonNegativeInt = 1


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Result of :func:`training_sample`.

    Attributes
    ----------
    x
        Events, background first, shape ``(n, n_features)`` or ``(n, n_objects, n_features)``.
    target
        0 for background and 1 for the mixture, shape ``(n,)``.
    weight
        Shape ``(n,)``. Background and mixture each sum to one, among the held-out events and among the others.
    held_out
        True for the validation events, shape ``(n,)``.
    """

    x: NDArray[Any]
    target: Array
    weight: Array
    held_out: NDArray[np.bool_]


def training_sample(
    background: ArrayLike,
    theories: Sequence[TheorySample],
    config: SampleConfig,
    *,
    features: Sequence[str],
    background_weight: ArrayLike | None = None,
    background_group: NDArray[np.int64] | None = None,
    layout: Layout = "flat",
) -> TrainingSample:
    """Mix theories, weight them against background and hold events out.

    Parameters
    ----------
    background
        Encoded Standard Model events, shape ``(n, n_features)`` or ``(n, n_objects, n_features)``.
    theories
        The theories; one theory is the single-signal approach.
    config
        Options.
    features
        Names of the last axis.
    background_weight, background_group
        Event weights and groups, shape ``(n,)``, see :class:`TheorySample`.
    layout
        ``"flat"``: each event is one row of features; ``"objects"``: each event is a list of objects.

    Raises
    ------
    InputError
        If a sample has too few events, another shape, or weights that are negative or sum to zero; if a name is duplicated, or a weight is given for a theory that is not.
    """
    _check_names(theories, config)
    rng = np.random.default_rng([config.seed, 0x307])
    shares = _shares(theories, config.weights)
    standard = TheorySample(
        "background",
        "background",
        np.asarray(background),
        None if background_weight is None else np.asarray(background_weight, dtype=float),
        background_group,
    )
    samples = [(standard, 1.0), *((theory, shares[theory.name]) for theory in theories)]
    x, weight, held_out = [], [], []
    for number, (sample, share) in enumerate(samples):
        _check_events(sample, len(features), layout)
        w = _checked_weights(sample)
        if sample.x.shape[1:] != standard.x.shape[1:]:
            raise InputError(
                f"'{sample.name}' has lists of {sample.x.shape[1]} objects, but those of the background have "
                f"{standard.x.shape[1]}: encode all samples with the same max_objects"
            )
        rows = rng.permutation(len(w))[: None if number == 0 else config.events_per_theory]
        hold = _held_out(sample, rows, config.validation_fraction, rng)
        for part in (hold, ~hold):
            # every sample has the same share in training and validation, whatever its events weigh
            chosen = w[rows[part]]
            if not chosen.sum() > 0:
                raise InputError(f"'{sample.name}': the weights of its events sum to zero")
            w[rows[part]] = chosen * share / chosen.sum()
        x.append(sample.x[rows])
        weight.append(w[rows])
        held_out.append(hold)
    sizes = [len(rows) for rows in x]
    target = np.repeat([0.0, *[1.0] * len(theories)], sizes)
    return TrainingSample(np.concatenate(x), target, np.concatenate(weight), np.concatenate(held_out))


def _held_out(
    sample: TheorySample, rows: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """The validation rows: whole groups."""
    group = np.arange(len(rows)) if sample.group is None else np.asarray(sample.group)[rows]
    numbers, index = np.unique(group, return_inverse=True)
    if len(numbers) < 2:
        raise InputError(f"'{sample.name}': all events belong to one group, so that none can be held out")
    chosen = np.zeros(len(numbers), dtype=bool)
    n_held = min(max(1, round(fraction * len(numbers))), len(numbers) - 1)
    chosen[rng.permutation(len(numbers))[:n_held]] = True
    return np.asarray(chosen[index])


def _check_names(theories: Sequence[TheorySample], config: SampleConfig) -> None:
    if not theories:
        raise InputError("a mixture needs at least one theory")
    names = [theory.name for theory in theories]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"duplicate theories: {', '.join(twice)}")
    if isinstance(config.weights, Mapping):
        unknown = sorted(set(config.weights) - set(names))
        missing = sorted(set(names) - set(config.weights))
        if unknown or missing:
            raise InputError(
                f"weights must name every theory of the mixture; unknown: {', '.join(unknown) or 'none'}, missing: "
                f"{', '.join(missing) or 'none'}"
            )


def _shares(theories: Sequence[TheorySample], weights: str | Mapping[str, float]) -> dict[str, float]:
    """Share of each theory in the mixture; they sum to one."""
    if isinstance(weights, Mapping):
        raw = {theory.name: float(weights[theory.name]) for theory in theories}
    elif weights == "family":
        families = [theory.family for theory in theories]
        raw = {theory.name: 1.0 / families.count(theory.family) for theory in theories}
    else:
        raw = {theory.name: 1.0 for theory in theories}
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()}


def _check_events(sample: TheorySample, n_features: int, layout: Layout) -> None:
    x = np.asarray(sample.x)
    if x.ndim != (2 if layout == "flat" else 3):
        wanted = {"flat": "one row of features for each event", "objects": "a list of objects for each event"}
        raise InputError(
            f"'{sample.name}': events of shape {x.shape}, but this classifier takes {wanted[layout]}: "
            f"read_channel_samples(..., encoding='{layout}')"
        )
    if x.shape[-1] != n_features:
        raise InputError(f"'{sample.name}': events of shape {x.shape}, but {n_features} features are named")
    if len(x) < _FEWEST_EVENTS:
        raise InputError(
            f"'{sample.name}' has {counted(len(x), 'event')}, at least {_FEWEST_EVENTS} are needed to train"
        )
    if not np.isfinite(x).all():
        place = np.argwhere(~np.isfinite(x))[0]
        within = "" if layout == "flat" else f"object {place[1]}, "
        raise InputError(
            f"'{sample.name}': event {place[0]}, {within}feature {place[-1]} is {x[tuple(place)]}, not a finite number"
        )
    if sample.group is not None and np.shape(sample.group) != (len(x),):
        raise InputError(f"'{sample.name}': {np.shape(sample.group)} groups for {len(x)} events")


def _checked_weights(sample: TheorySample) -> Array:
    """A copy of the weights of a sample."""
    if sample.weight is None:
        return np.ones(len(sample.x))
    weight = np.array(sample.weight, dtype=float)
    if weight.shape != (len(sample.x),) or not np.isfinite(weight).all() or weight.min() < 0:
        raise InputError(
            f"'{sample.name}': weights must be one finite number for each event, and not negative"
        )
    return weight
