"""Conditional density models p(x|m): the interface, and what all models share.

Choose :class:`~serendip.density.flow_matching.FlowMatching` (default: fastest training and sampling) or one of
the normalizing flows in :mod:`serendip.density.flows` (density in one pass). All are used in the same way, and
the models of all splits train as one batch:

>>> density = FlowMatching(seed=1).fit(x, m, splits=splits)      # doctest: +SKIP
>>> density.sample(masses, split=2, rng=np.random.default_rng(0))  # doctest: +SKIP
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serendip.density import storage
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError

__all__ = ["ConditionalDensity", "TransformedDensity"]

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

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
    ) -> Self:
        """Train model ``k`` on the events of row ``k`` of ``splits`` only."""
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

    def save(self, folder: str | Path) -> None:
        """Write the model into ``folder``; :func:`serendip.density.load_density` reads it."""
        ...


class TransformedDensity(ABC):
    r"""A density model behind a :class:`FeatureTransform`; subclasses model the transformed features z.

    .. math:: \ln p(x|m) = \ln p_z(z(x,m)|u(m)) + \ln\left|\det\frac{\partial z}{\partial x}\right|

    Subclasses set ``kind`` and write ``_train``, ``_latent_log_prob``, ``_generate``, ``_encode``,
    ``_tensors`` and ``_restore``.
    """

    kind: ClassVar[str]

    def __init__(self, *, seed: int = 0, **options: Any) -> None:
        self.seed = seed
        self.options: dict[str, Any] = {"seed": seed, **options}
        self.transforms: list[FeatureTransform] = []

    def fit(
        self,
        x: NDArray[Any],
        m: NDArray[Any],
        *,
        weight: NDArray[Any] | None = None,
        splits: NDArray[np.bool_] | None = None,
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

        Raises
        ------
        InputError
            If values are not finite, a mass is not positive, a weight is negative, a split has too few
            events, a feature is constant, or the training diverges.
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
        samples = []
        for k, row_mask in enumerate(splits):
            use = row_mask & (w > 0)
            if np.count_nonzero(use) < _MINIMUM_EVENTS:
                raise InputError(
                    f"too few events to learn a density: split {k} has {np.count_nonzero(use)}, "
                    f"at least {_MINIMUM_EVENTS} are needed; use fewer folds or wider sidebands"
                )
            rng = np.random.default_rng([self.seed, k])
            transform = FeatureTransform.fit(x[use], m[use], w[use], rng)
            u = transform.context(m[use])
            z, _ = transform.forward(transform.dequantise(x[use], rng), u)
            self.transforms.append(transform)
            samples.append((z, u, w[use] / w[use].mean()))
        self._train(samples)
        return self

    def log_prob(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Ln p(x|m) of model ``split`` in the units of the features, shape ``(n,)``, float64."""
        x, m = _as_table(x, m)
        u = self._transform(split).context(m)
        z, log_jacobian = self._transform(split).forward(x, u)
        return self._latent_log_prob(z, u, split) + log_jacobian

    def sample(self, m: NDArray[Any], split: int = 0, *, rng: np.random.Generator) -> Array:
        """Draw one x for each mass in GeV, shape ``(len(m), d)``."""
        m = np.asarray(m, dtype=np.float64)
        transform = self._transform(split)
        u = transform.context(m)
        noise = rng.standard_normal((len(m), len(transform.x_knots)))
        return transform.inverse(self._generate(noise, u, split), u)

    def to_latent(self, x: NDArray[Any], m: NDArray[Any], split: int = 0) -> Array:
        """Map x at m to the space in which the model's density is a standard normal one, shape ``(n, d)``."""
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

    def save(self, folder: str | Path) -> None:
        """Write ``density.json`` (options) and ``density.safetensors`` (numbers) into ``folder``."""
        arrays = {
            f"transform.{k}.{n}": a for k, t in enumerate(self.transforms) for n, a in t.arrays().items()
        }
        facts = {"kind": self.kind, "options": self.options, "models": len(self.transforms)}
        storage.write(Path(folder), facts, arrays | {f"model.{n}": a for n, a in self._tensors().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If the folder holds no density model of this kind.
        """
        facts, arrays = storage.read(Path(folder))
        if facts["kind"] != cls.kind:
            raise InputError(f"{folder} holds a density of kind '{facts['kind']}', not '{cls.kind}'")
        model = cls(**facts["options"])
        for k in range(facts["models"]):
            prefix = f"transform.{k}."
            parts = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            model.transforms.append(FeatureTransform(**parts))
        model._restore({n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")})
        return model

    def _transform(self, split: int) -> FeatureTransform:
        if not self.transforms:
            msg = "the density is not fitted yet: call fit first"
            raise RuntimeError(msg)
        return self.transforms[split]

    @abstractmethod
    def _train(self, samples: list[tuple[Array, Array, Array]]) -> None: ...

    @abstractmethod
    def _latent_log_prob(self, z: Array, u: Array, split: int) -> Array: ...

    @abstractmethod
    def _generate(self, noise: Array, u: Array, split: int) -> Array: ...

    @abstractmethod
    def _encode(self, z: Array, u: Array, split: int) -> Array: ...

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
