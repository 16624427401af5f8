"""Conditional density models p(x|m): the interface and common parts of all models.

Choose :class:`~serendip.density.flow_matching.FlowMatching` (default: fastest training and sampling) or one of
the normalizing flows in :mod:`serendip.density.flows` (density in one pass). All are used in the same way, and
the models of all splits train as one batch:

>>> density = FlowMatching(seed=1).fit(x, m, splits=splits)      # doctest: +SKIP
>>> density.sample(masses, split=2, rng=np.random.default_rng(0))  # doctest: +SKIP
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from serendip.density.logit import LogitTransform, StandardTransform
from serendip.density.preprocessing import Preprocessing
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.io.models import read_model, write_model

__all__ = ["ConditionalDensity", "TransformedDensity"]

Array = NDArray[np.float64]
Progress = Callable[[int, int, list[float]], None]
"""Called with step, number of steps and the held-out loss of every model."""

_PREPROCESSINGS: dict[str, type[Preprocessing]] = {
    "quantile": FeatureTransform,
    "logit": LogitTransform,
    "standardise": StandardTransform,
}

_MINIMUM_EVENTS = 50


@runtime_checkable
class ConditionalDensity(Protocol):
    """Densities p_k(x|m), one for each split of the training events."""

    def fit(
        self,
        x: NDArray[Any],
        m: NDArray[Any],
        *,
        weight: NDArray[Any] | None = None,
        splits: NDArray[np.bool_] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> Self:
        """Train model ``k`` on the events of row ``k`` of ``splits`` only; groups of events are held out together."""
        ...

    def log_prob(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Ln p(x|m) in the units of the features, shape ``(n,)``."""
        ...

    def sample(self, m: NDArray[Any], split: int = 0, *, rng: np.random.Generator) -> Array:
        """One draw of x for each mass, shape ``(len(m), d)``."""
        ...

    def to_latent(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Map x at m to standard normal numbers, shape ``(n, d)``."""
        ...

    def bridged(self, low: float, high: float) -> Self:
        """Return this density with all masses between ``low`` and ``high`` (GeV) interpolated from these two."""
        ...

    def arranged(self, splits: NDArray[np.int64]) -> Self:
        """Return a density whose model ``k`` is model ``splits[k]`` of this one."""
        ...

    def only(self, split: int) -> Self:
        """Return a density with model ``split`` alone, as model 0."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the model into ``folder``; :func:`serendip.density.load_density` reads it."""
        ...


class TransformedDensity(ABC):
    r"""A density model applied after a :class:`~serendip.density.preprocessing.Preprocessing` of the features.

    Subclasses model the transformed features z:

    .. math:: \ln p(x|m) = \ln p_z(z(x,m)|u(m)) + \ln\left|\det\frac{\partial z}{\partial x}\right|

    With an ensemble of E members per split, :math:`p_z` is the mean of E densities; split k has the models
    kE ... kE + E - 1, counted as ``model`` below.

    Subclasses set ``kind`` and write ``_train``, ``_latent_log_prob``, ``_generate``, ``_encode``,
    ``_tensors`` (the first axis of every array counts models) and ``_restore``.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        *,
        seed: int = 0,
        preprocessing: str = "quantile",
        mass_dependence: bool | None = None,
        ensemble: int = 1,
        **options: Any,
    ) -> None:
        if preprocessing not in _PREPROCESSINGS:
            raise InputError(
                f"there is no preprocessing '{preprocessing}'; choose one of: {', '.join(_PREPROCESSINGS)}"
            )
        if ensemble < 1:
            raise InputError(f"an ensemble has at least one member, not {ensemble}")
        self.seed, self.preprocessing, self.ensemble = seed, preprocessing, ensemble
        self.mass_dependence = mass_dependence
        self.options: dict[str, Any] = {
            "seed": seed,
            "preprocessing": preprocessing,
            "mass_dependence": mass_dependence,
            "ensemble": ensemble,
            **options,
        }
        self.transforms: list[Preprocessing] = []

    def fit(
        self,
        x: NDArray[Any],
        m: NDArray[Any],
        *,
        weight: NDArray[Any] | None = None,
        splits: NDArray[np.bool_] | None = None,
        groups: NDArray[np.int64] | None = None,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Train one model for each row of ``splits``.

        Parameters
        ----------
        x
            Features, shape ``(n, d)``.
        m
            Masses in GeV, shape ``(n,)``; positive.
        weight
            Event weights, shape ``(n,)``, not negative. Default: ones.
        splits
            Shape ``(k, n)``: model ``k`` uses only the events of row ``k``, in the preprocessing, the
            training and the choice of the best weights. Default: one model on all events.
        groups
            Events with the same number, shape ``(n,)``, are held out together; None: every event is its own.
        checkpoint
            Folder for the state of the training, written after every evaluation. The same call with the same
            folder continues from there and ends with the same numbers as without an interruption.
        progress
            Called with step, number of steps and the held-out loss of every model after every evaluation.

        Raises
        ------
        InputError
            If values are not finite, a mass is not positive, a weight is negative, a split has too few
            events, a feature is constant, the training diverges, or the checkpoint is not of this training.
        """
        x, m = _as_table(x, m)
        w = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
        splits = (
            np.ones((1, len(x)), dtype=bool)
            if splits is None
            else np.atleast_2d(np.asarray(splits, dtype=bool))
        )
        if w.shape != (len(x),) or splits.shape[1] != len(x):
            msg = f"weight {w.shape} and splits {splits.shape} do not belong to {len(x)} events"
            raise ValueError(msg)
        if not np.all(np.isfinite(w)) or np.any(w < 0):
            row = int(np.flatnonzero(~(np.isfinite(w) & (w >= 0)))[0])
            raise InputError(f"event weights must be finite and not negative; row {row} has {w[row]:g}")
        self.transforms = []
        self._groups: list[NDArray[np.int64] | None] = []
        samples = []
        for k, row_mask in enumerate(splits):
            use = row_mask & (w > 0)
            if np.count_nonzero(use) < _MINIMUM_EVENTS:
                raise InputError(
                    f"too few events to learn a density: split {k} has {np.count_nonzero(use)}, "
                    f"at least {_MINIMUM_EVENTS} are needed; use fewer folds or wider sidebands"
                )
            rng = np.random.default_rng([self.seed, k])
            transform = _PREPROCESSINGS[self.preprocessing].fit(
                x[use], m[use], w[use], rng, mass_dependence=self.mass_dependence
            )
            u = transform.context(m[use])
            z, _ = transform.forward(transform.dequantise(x[use], rng), u)
            self.transforms.append(transform)
            samples += [(z, u, w[use] / w[use].mean())] * self.ensemble
            self._groups += [None if groups is None else np.asarray(groups)[use]] * self.ensemble
        self._train(samples, checkpoint, progress)
        return self

    def log_prob(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Ln p(x|m) of model ``split`` in the units of the features, shape ``(n,)``, float64."""
        x, m = _as_table(x, m)
        u = self._transform(split).context(m)
        z, log_jacobian = self._transform(split).forward(x, u)
        members = [self._latent_log_prob(z, u, model) for model in self.members_of(split)]
        result: Array = logsumexp(members, axis=0) - np.log(self.ensemble) + log_jacobian
        return result

    def sample(self, m: NDArray[Any], split: int = 0, *, rng: np.random.Generator) -> Array:
        """Draw one x for each mass in GeV, shape ``(len(m), d)``; an equal share by each ensemble member."""
        m = np.asarray(m, dtype=np.float64)
        transform = self._transform(split)
        u = transform.context(m)
        z = rng.standard_normal((len(m), transform.n_features))
        members = self.members_of(split)
        # masses may be sorted: which member draws where is left to chance
        owner = rng.permutation(len(m)) % self.ensemble if self.ensemble > 1 else np.zeros(len(m), np.intp)
        for e, model in enumerate(members):
            own = owner == e
            z[own] = self._generate(z[own], u[own], model)
        return transform.inverse(z, u)

    def to_latent(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Map x at m to the space in which the model's density is a standard normal one, shape ``(n, d)``.

        Raises
        ------
        InputError
            If the density is the mean of an ensemble: every member has a latent space of its own.
        """
        if self.ensemble > 1:
            raise InputError(
                f"the mean of {self.ensemble} densities has no latent space of its own; use ensemble=1 for to_latent"
            )
        x, m = _as_table(x, m)
        u = self._transform(split).context(m)
        z, _ = self._transform(split).forward(x, u)
        return self._encode(z, u, split)

    def bridged(self, low: float, high: float) -> Self:
        """Return this density with all masses between ``low`` and ``high`` (GeV) interpolated from these two.

        Raises
        ------
        InputError
            If this kind of density cannot do it.
        """
        raise InputError(
            f"a density of kind '{self.kind}' cannot be interpolated between two masses; use flow-matching"
        )

    def arranged(self, splits: NDArray[np.int64]) -> Self:
        """Return a density whose model ``k`` is model ``splits[k]`` of this one, which may occur more than once."""
        other = type(self)(**self.options)
        other.transforms = [self._transform(int(split)) for split in splits]
        own = np.concatenate([np.array(self.members_of(int(split))) for split in splits])
        other._restore({name: array[own] for name, array in self._tensors().items()})
        return other

    def only(self, split: int) -> Self:
        """Return a density with model ``split`` alone, as model 0."""
        return self.arranged(np.array([split]))

    def save(self, folder: str | Path) -> None:
        """Write ``density.json`` (options) and ``density.safetensors`` (numbers) into ``folder``."""
        arrays = {
            f"transform.{k}.{n}": a for k, t in enumerate(self.transforms) for n, a in t.arrays().items()
        }
        facts = {"kind": self.kind, "options": self.options, "models": len(self.transforms)}
        write_model(Path(folder), facts, arrays | {f"model.{n}": a for n, a in self._tensors().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the files of :meth:`save`.

        Raises
        ------
        InputError
            If the folder contains no density model of this kind.
        """
        facts, arrays = read_model(Path(folder))
        if facts["kind"] != cls.kind:
            raise InputError(f"{folder} holds a density of kind '{facts['kind']}', not '{cls.kind}'")
        model = cls(**facts["options"])
        for k in range(facts["models"]):
            prefix = f"transform.{k}."
            parts = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            model.transforms.append(_PREPROCESSINGS[model.preprocessing](**parts))
        model._restore({n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")})
        return model

    def members_of(self, split: int) -> range:
        """Numbers of the models of one split, the members of its ensemble."""
        first = range(len(self.transforms))[split] * self.ensemble
        return range(first, first + self.ensemble)

    def _transform(self, split: int) -> Preprocessing:
        if not self.transforms:
            msg = "the density is not fitted yet: call fit first"
            raise RuntimeError(msg)
        return self.transforms[split]

    @abstractmethod
    def _train(
        self,
        samples: list[tuple[Array, Array, Array]],
        checkpoint: str | Path | None,
        progress: Progress | None,
    ) -> None: ...

    @abstractmethod
    def _latent_log_prob(self, z: Array, u: Array, model: int) -> Array: ...

    @abstractmethod
    def _generate(self, noise: Array, u: Array, model: int) -> Array: ...

    @abstractmethod
    def _encode(self, z: Array, u: Array, model: int) -> Array: ...

    @abstractmethod
    def _tensors(self) -> dict[str, NDArray[Any]]: ...

    @abstractmethod
    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None: ...


def _as_table(x: NDArray[Any], m: NDArray[Any]) -> tuple[Array, Array]:
    x, m = np.asarray(x, dtype=np.float64), np.asarray(m, dtype=np.float64)
    if x.ndim != 2 or m.shape != (len(x),):
        msg = f"expected features (n, d) and masses (n,), got {x.shape} and {m.shape}"
        raise ValueError(msg)
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"feature number {column + 1} is not finite in row {row} ({x[row, column]}); remove such events"
        )
    bad_mass = ~(np.isfinite(m) & (m > 0))
    if bad_mass.any():
        row = int(np.flatnonzero(bad_mass)[0])
        raise InputError(f"the mass must be a positive number; row {row} has {m[row]:g}")
    return x, m
