"""All unsupervised scores by name, with the options they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serendip import outliers
from serendip.errors import InputError
from serendip.outliers.base import OutlierScore

__all__ = ["SCORES", "ScoreEntry", "make_score"]


@dataclass(frozen=True)
class ScoreEntry:
    """One score.

    Attributes
    ----------
    title
        In tables and figures.
    make
        Gives the unfitted estimator for the names of the columns.
    objects
        It reads lists of objects and not flat features.
    simple
        It is a single number of an event and learns nothing.
    """

    title: str
    make: Callable[[Sequence[str]], OutlierScore]
    objects: bool = False
    simple: bool = False


SCORES: dict[str, ScoreEntry] = {
    "met": ScoreEntry("MET", outliers.Met, simple=True),
    "ht": ScoreEntry("HT", outliers.Ht, simple=True),
    "met-plus-ht": ScoreEntry("MET + HT", outliers.MetPlusHt, simple=True),
    "multiplicity": ScoreEntry("multiplicity", outliers.Multiplicity, simple=True),
    "isolation-forest": ScoreEntry("isolation forest", lambda _: outliers.IsolationForestScore()),
    "gaussian-mixture": ScoreEntry("Gaussian mixture", lambda _: outliers.GaussianMixtureScore()),
    "kde": ScoreEntry("KDE, 9 components", lambda _: outliers.KernelDensity(9)),
    "autoencoder": ScoreEntry("autoencoder", lambda _: outliers.Autoencoder()),
    "vae-radius": ScoreEntry("VAE, radius, β = 1", lambda _: outliers.VariationalAutoencoder()),
    "vae-reconstruction": ScoreEntry(
        "VAE, reconstruction, β = 0.01",
        lambda _: outliers.VariationalAutoencoder(beta=0.01, measure="reconstruction"),
    ),
    "planar-vae": ScoreEntry("planar-flow VAE", lambda _: outliers.PlanarFlowVAE()),
    "deepset-vae": ScoreEntry("DeepSet VAE, β = 1", lambda _: outliers.DeepSetVAE(), objects=True),
    "dagmm": ScoreEntry("DAGMM", lambda _: outliers.Dagmm()),
    "deep-svdd": ScoreEntry("deep SVDD, 63 members", lambda _: outliers.DeepSVDD()),
    "flow": ScoreEntry("spline flow", lambda _: outliers.FlowLikelihood()),
}
"""Scores by name."""


def make_score(name: str, features: Sequence[str]) -> OutlierScore:
    """Give an unfitted score.

    Parameters
    ----------
    name
        One of :data:`SCORES`.
    features
        Names of the columns it will be given.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if name not in SCORES:
        raise InputError(f"there is no score '{name}'; known: {', '.join(SCORES)}")
    return SCORES[name].make(features)
