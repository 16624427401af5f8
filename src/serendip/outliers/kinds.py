"""Where each outlier score is, and which of them a file holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serendip.errors import InputError

if TYPE_CHECKING:
    from serendip.outliers.base import OutlierScore

__all__ = ["HOMES", "KINDS", "find", "load_score"]

HOMES = {
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
"""Modules of the public names. They are resolved on first use: simple scores must not wait for torch."""

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


def find(name: str) -> Any:
    """Import a public name of ``serendip.outliers``."""
    return getattr(import_module(f"serendip.outliers.{HOMES[name]}"), name)


def load_score(folder: str | Path) -> OutlierScore:
    """Read a fitted score of any kind from the folder that its ``save`` wrote.

    Raises
    ------
    InputError
        If the folder holds no outlier score or is damaged.
    """
    from serendip.density import storage

    facts, _ = storage.read(Path(folder))
    kind = facts.get("kind")
    if kind not in KINDS:
        raise InputError(
            f"{folder} holds '{kind}', which is not an outlier score; known are {', '.join(KINDS)}"
        )
    score: OutlierScore = find(KINDS[kind]).load(folder)
    return score
