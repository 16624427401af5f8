"""Common base of all unsupervised scores: the interface, the checks of the input, and files.

An outlier score is trained on background only and measures how unlike that background a new event is:

>>> score = KernelDensity(dimensions=4).fit(background)        # doctest: +SKIP
>>> anomaly = score.score_samples(events)                      # doctest: +SKIP

Here **higher always means more anomalous**. The ``score_samples`` of scikit-learn's own density models and outlier
detectors has the opposite sign.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from serendip.classify.inputs import checked_weights
from serendip.errors import InputError
from serendip.io.models import read_model, write_model
from serendip.outliers.inputs import DataError, require_finite

__all__ = ["OutlierScore"]

Array = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]


class OutlierScore(BaseEstimator, ABC):  # type: ignore[misc]
    """An estimator that is fitted on background and scores events; higher = more anomalous.

    Subclasses set ``kind`` and write ``_fit``, ``_score``, ``_state`` and ``_restore``.

    Attributes
    ----------
    kind
        Name in files; of a score that a package adds, also its name on the command line.
    title
        In tables and figures; default: ``kind``.
    objects
        It reads lists of objects and not flat features.
    simple
        It is a single number of an event and learns nothing.
    n_features_in_
        Number of columns in ``fit``.

    Notes
    -----
    While ``_fit`` runs, ``_groups`` holds the groups of its events, shape ``(n,)``, or None.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    objects: ClassVar[bool] = False
    simple: ClassVar[bool] = False
    _groups: NDArray[np.int64] | None
    _minimum_events: ClassVar[int] = 5

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.kind

    @classmethod
    def make(cls, features: Sequence[str]) -> Self:
        """Give the unfitted score with its defaults for columns of these names; override it to use them."""
        del features
        return cls()

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train on background.

        Parameters
        ----------
        X
            Background events, shape ``(n, d)``; finite.
        y
            Not used; scikit-learn's tools pass it.
        sample_weight
            Event weights, shape ``(n,)``, not negative. Only their ratios matter. Events of weight zero are left out.
        groups
            Whole numbers, shape ``(n,)``: events with the same one belong together, and a score that holds out events to choose its
            weights holds them out together. Default: every event by itself.

        Raises
        ------
        InputError
            If a value is not finite, a weight is negative, there are too few events, or an option is not valid.
        """
        del y
        self.check_options()
        values = self._checked(X, reset=True)
        try:
            weights = checked_weights(sample_weight, values)
        except ValueError as error:
            raise DataError(str(error)) from None
        used = weights > 0
        if np.count_nonzero(used) < self._minimum_events:
            raise DataError(
                f"{type(self).__name__} needs at least {self._minimum_events} background events with a weight above "
                f"zero, got {np.count_nonzero(used)} (n_samples = {len(values)})"
            )
        self._groups = None if groups is None else np.asarray(groups, dtype=np.int64)[used]
        try:
            self._fit(values[used], weights[used])
        finally:
            del self._groups
        return self

    def check_options(self) -> None:
        """Stop if an option is not valid; subclasses override it.

        Raises
        ------
        InputError
            Naming the option, its value and the allowed values.
        """

    def score_samples(self, X: ArrayLike) -> Array:
        """Anomaly score of each event, shape ``(n,)``; higher = more anomalous.

        Parameters
        ----------
        X
            Events, shape ``(n, d)``, with the columns of ``fit``; finite.

        Raises
        ------
        InputError
            If a value is not finite or there is another number of columns.
        """
        check_is_fitted(self)
        return self._score(self._checked(X, reset=False))

    def save(self, folder: str | Path) -> None:
        """Write the fitted score into ``folder``: numbers in safetensors, facts in JSON.

        :func:`serendip.outliers.load_score` reads it. Nothing is pickled, so opening it runs no code.

        Raises
        ------
        InputError
            If ``random_state`` is a generator, which has no number that could be written.
        """
        check_is_fitted(self)
        parameters = self._parameters_to_store()
        if not isinstance(parameters.get("random_state", 0), int | None):
            raise InputError("a score with a generator as random_state cannot be stored; use an integer")
        facts, arrays = self._state()
        names = getattr(self, "feature_names_in_", None)
        write_model(
            Path(folder),
            {
                "kind": self.kind,
                "parameters": parameters,
                "n_features": int(self.n_features_in_),
                "feature_names": None if names is None else [str(name) for name in names],
                "fitted": facts,
            },
            arrays,
        )
        self._save_parts(Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the files of :meth:`save`.

        Raises
        ------
        InputError
            If the folder does not hold a score of this kind or is damaged.
        """
        facts, arrays = read_model(Path(folder))
        if facts.get("kind") != cls.kind:
            raise InputError(
                f"{folder} holds '{facts.get('kind')}', not an outlier score of kind '{cls.kind}'"
            )
        try:
            score = cls(**{name: _as_given(value) for name, value in facts["parameters"].items()})
            score.n_features_in_ = int(facts["n_features"])
            if facts["feature_names"] is not None:
                score.feature_names_in_ = np.array(facts["feature_names"], dtype=object)
            score._restore(facts["fitted"], arrays)
            score._load_parts(Path(folder))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise InputError(f"the outlier score in {folder} is damaged ({error})") from None
        return score

    def _checked(self, X: ArrayLike, *, reset: bool) -> Array:
        try:
            values: Array = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
        except ValueError as error:
            raise DataError(str(error)) from None
        require_finite(values, getattr(self, "feature_names_in_", None))
        return values

    def _seed(self) -> int:
        """One integer from ``random_state``."""
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _parameters_to_store(self) -> Facts:
        parameters: Facts = self.get_params(deep=False)
        return {name: int(v) if isinstance(v, np.integer) else v for name, v in parameters.items()}

    def _save_parts(self, folder: Path) -> None:
        """Write parts that have files of their own."""

    def _load_parts(self, folder: Path) -> None:
        """Read parts that have files of their own."""

    @abstractmethod
    def _fit(self, x: Array, weights: Array) -> None:
        """Learn from finite events with positive weights of mean 1."""

    @abstractmethod
    def _score(self, x: Array) -> Array: ...

    @abstractmethod
    def _state(self) -> tuple[Facts, Arrays]:
        """Everything learnt, as JSON-able facts and arrays."""

    @abstractmethod
    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        """Undo :meth:`_state`."""


def _as_given(value: Any) -> Any:
    """JSON has no tuples, and options are never lists."""
    return tuple(_as_given(v) for v in value) if isinstance(value, list) else value
