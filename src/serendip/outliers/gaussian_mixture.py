r"""Gaussian mixture: minus the logarithm of a sum of normal densities of the standardised columns."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import (
    DataError,
    Standardiser,
    in_blocks,
    require_at_least,
    require_choice,
    weighted_rows,
)

__all__ = ["GaussianMixtureScore"]

_COVARIANCES = ("full", "tied", "diag", "spherical")


@dataclass(eq=False, repr=False)
class GaussianMixtureScore(OutlierScore):
    """Minus the log-density of a Gaussian mixture (scikit-learn's EM); higher = more anomalous.

    EM does not support weights: rows are repeated or left out in proportion to them (systematic resampling), so weights are respected on average. Rare huge weights are better thinned beforehand.

    Parameters
    ----------
    components
        Gaussians.
    covariance
        ``"full"``, ``"tied"``, ``"diag"`` or ``"spherical"``.
    regularisation
        Added to the variances, in units of the variance of a column: zero-padded columns have Gaussians of
        almost no width.
    max_iter
        Steps of EM.
    random_state
        Seed of the start and of the resampling.

    Attributes
    ----------
    converged_
        Whether EM came to rest within ``max_iter`` steps.
    dropped_columns_
        Number of columns that are constant in the background and play no part.
    """

    kind = "gaussian-mixture"

    components: int = 8
    _: KW_ONLY
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    regularisation: float = 1e-3
    max_iter: int = 200
    random_state: Any = 0

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        require_at_least(1, components=self.components, max_iter=self.max_iter)
        require_at_least(0, regularisation=self.regularisation)
        require_choice(_COVARIANCES, covariance=self.covariance)

    def _fit(self, x: Array, weights: Array) -> None:
        from sklearn.exceptions import ConvergenceWarning

        if self.components > len(x):
            raise DataError(
                f"{self.components} components need at least as many events, got n_samples = {len(x)}"
            )
        seed = self._seed()
        self._standardiser = Standardiser.fit(x, weights)
        self.dropped_columns_ = x.shape[1] - len(self._standardiser.kept)
        z = self._standardiser.transform(x, reach=None)
        self._mixture = self._empty(seed)
        rows = weighted_rows(weights, np.random.default_rng(seed))
        with warnings.catch_warnings():
            # told by converged_
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                self._mixture.fit(z[rows])
            except ValueError as error:
                raise DataError(
                    f"the Gaussian mixture cannot be fitted ({error}); use a larger regularisation or fewer components"
                ) from None
        self.converged_ = bool(self._mixture.converged_)

    def _score(self, x: Array) -> Array:
        return -in_blocks(self._mixture.score_samples, self._standardiser.transform(x, reach=None))

    def _state(self) -> tuple[Facts, Arrays]:
        names = ("weights_", "means_", "covariances_", "precisions_cholesky_")
        arrays = {name: np.asarray(getattr(self._mixture, name)) for name in names}
        return {"converged": self.converged_, "dropped_columns": self.dropped_columns_}, (
            arrays | self._standardiser.arrays()
        )

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.converged_, self.dropped_columns_ = bool(facts["converged"]), int(facts["dropped_columns"])
        self._standardiser = Standardiser.from_arrays(arrays)
        self._mixture = self._empty(0)
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            setattr(self._mixture, name, arrays[name])

    def _empty(self, seed: int) -> Any:
        from sklearn.mixture import GaussianMixture

        return GaussianMixture(
            self.components,
            covariance_type=self.covariance,
            reg_covar=self.regularisation,
            max_iter=self.max_iter,
            random_state=seed,
        )
