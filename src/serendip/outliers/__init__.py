"""Unsupervised scores: estimators that know background only, and their combinations.

All have ``fit(X, sample_weight=...)`` and ``score_samples(X)``, and **higher always means more anomalous**, the opposite sign of
scikit-learn's own ``score_samples``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serendip.outliers.autoencoder import Autoencoder
    from serendip.outliers.base import OutlierScore
    from serendip.outliers.combine import CombinedScore, RankMap, combine_ranks, flow_and_svdd
    from serendip.outliers.dagmm import Dagmm
    from serendip.outliers.flow import FlowLikelihood
    from serendip.outliers.gaussian_mixture import GaussianMixtureScore
    from serendip.outliers.isolation_forest import IsolationForestScore
    from serendip.outliers.kernel_density import KernelDensity
    from serendip.outliers.set_vae import DeepSetVAE
    from serendip.outliers.simple import Ht, Met, MetPlusHt, Multiplicity
    from serendip.outliers.svdd import DeepSVDD
    from serendip.outliers.vae import PlanarFlowVAE, VariationalAutoencoder

__all__ = [
    "KINDS",
    "Autoencoder",
    "CombinedScore",
    "Dagmm",
    "DeepSVDD",
    "DeepSetVAE",
    "FlowLikelihood",
    "GaussianMixtureScore",
    "Ht",
    "IsolationForestScore",
    "KernelDensity",
    "Met",
    "MetPlusHt",
    "Multiplicity",
    "OutlierScore",
    "PlanarFlowVAE",
    "RankMap",
    "VariationalAutoencoder",
    "combine_ranks",
    "flow_and_svdd",
    "load_score",
]

# Resolved on first use: simple scores must not wait for torch.
_HOMES = {
    "Autoencoder": "autoencoder",
    "CombinedScore": "combine",
    "Dagmm": "dagmm",
    "DeepSVDD": "svdd",
    "DeepSetVAE": "set_vae",
    "FlowLikelihood": "flow",
    "GaussianMixtureScore": "gaussian_mixture",
    "Ht": "simple",
    "IsolationForestScore": "isolation_forest",
    "KernelDensity": "kernel_density",
    "Met": "simple",
    "MetPlusHt": "simple",
    "Multiplicity": "simple",
    "OutlierScore": "base",
    "PlanarFlowVAE": "vae",
    "RankMap": "combine",
    "VariationalAutoencoder": "vae",
    "combine_ranks": "combine",
    "flow_and_svdd": "combine",
}

KINDS = {
    "autoencoder": "Autoencoder",
    "combined": "CombinedScore",
    "dagmm": "Dagmm",
    "deep-set-vae": "DeepSetVAE",
    "deep-svdd": "DeepSVDD",
    "flow-likelihood": "FlowLikelihood",
    "gaussian-mixture": "GaussianMixtureScore",
    "ht": "Ht",
    "isolation-forest": "IsolationForestScore",
    "kernel-density": "KernelDensity",
    "met": "Met",
    "met-plus-ht": "MetPlusHt",
    "multiplicity": "Multiplicity",
    "planar-flow-vae": "PlanarFlowVAE",
    "vae": "VariationalAutoencoder",
}
"""Names in files to names of classes."""


def load_score(folder: str | Path) -> OutlierScore:
    """Read a fitted score of any kind from the folder that its ``save`` wrote.

    Raises
    ------
    InputError
        If the folder holds no outlier score or is damaged.
    """
    from serendip.density import storage
    from serendip.errors import InputError

    facts, _ = storage.read(Path(folder))
    kind = facts.get("kind")
    if kind not in KINDS:
        raise InputError(
            f"{folder} holds '{kind}', which is not an outlier score; known are {', '.join(KINDS)}"
        )
    score: OutlierScore = __getattr__(KINDS[kind]).load(folder)
    return score


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"serendip.outliers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'serendip.outliers' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
