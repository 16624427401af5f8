"""Unsupervised scores: estimators that know background only, and their combinations.

All have ``fit(X, sample_weight=...)`` and ``score_samples(X)``, and **higher always means more anomalous**, the opposite sign of
scikit-learn's own ``score_samples``. Which to choose:

* published as the best (arXiv:2207.07631): :func:`flow_and_svdd`, both :class:`FlowLikelihood` and :class:`DeepSVDD`
* events are lists of objects of any length: :class:`DeepSetVAE`
* few columns, and no network: :class:`KernelDensity`, :class:`GaussianMixtureScore`; many columns in seconds: :class:`IsolationForestScore`
* the scores of the literature for comparison: :class:`Autoencoder`, :class:`VariationalAutoencoder`, :class:`PlanarFlowVAE`, :class:`Dagmm`
* single variables, to compare with: :class:`Met`, :class:`Ht`, :class:`MetPlusHt`, :class:`Multiplicity`; MET alone was
  as good as all of the above in our study
* several scores: :class:`CombinedScore`, on the scale of their background ranks (:class:`RankMap`)

For a resonance in a mass spectrum use :mod:`serendip.methods`, which compare the window with its sidebands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serendip.outliers.registry import HOMES, KINDS, find, load_score

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


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return find(name)
    raise AttributeError(f"module 'serendip.outliers' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
