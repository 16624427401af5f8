"""Unsupervised scores by name, with the options they are compared with; where their classes are, and which of them a file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serendip.errors import InputError
from serendip.io.json import read_json
from serendip.registry import Registry

if TYPE_CHECKING:
    from serendip.outliers.base import OutlierScore

__all__ = ["HOMES", "KINDS", "SCORES", "ScoreEntry", "find", "load_score"]

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


@dataclass(frozen=True)
class ScoreEntry:
    """A class of this package with the options that it is compared with.

    Attributes
    ----------
    title
        In tables and figures.
    name
        Of the class.
    options
        Of its constructor.
    objects
        It reads lists of objects and not flat features.
    simple
        It is a single number of an event and learns nothing.
    """

    title: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    objects: bool = False
    simple: bool = False

    def make(self, features: Sequence[str]) -> OutlierScore:
        """Give the unfitted score for columns of these names."""
        columns = {"columns": features} if self.simple else {}
        score: OutlierScore = find(self.name)(**columns, **self.options)
        return score


def find(name: str) -> Any:
    """Import a public name of ``serendip.outliers``."""
    return getattr(import_module(f"serendip.outliers.{HOMES[name]}"), name)


SCORES: Registry[ScoreEntry | type[OutlierScore]] = Registry(
    "score",
    {
        "met": ScoreEntry("MET", "Met", simple=True),
        "ht": ScoreEntry("HT", "Ht", simple=True),
        "met-plus-ht": ScoreEntry("MET + HT", "MetPlusHt", simple=True),
        "multiplicity": ScoreEntry("multiplicity", "Multiplicity", simple=True),
        "isolation-forest": ScoreEntry("isolation forest", "IsolationForestScore"),
        "gaussian-mixture": ScoreEntry("Gaussian mixture", "GaussianMixtureScore"),
        "kde": ScoreEntry("KDE, 9 components", "KernelDensity", {"dimensions": 9}),
        "autoencoder": ScoreEntry("autoencoder", "Autoencoder"),
        "vae-radius": ScoreEntry("VAE, radius, β = 1", "VariationalAutoencoder"),
        "vae-reconstruction": ScoreEntry(
            "VAE, reconstruction, β = 0.01",
            "VariationalAutoencoder",
            {"beta": 0.01, "measure": "reconstruction"},
        ),
        "planar-vae": ScoreEntry("planar-flow VAE", "PlanarFlowVAE"),
        "deepset-vae": ScoreEntry("DeepSet VAE, β = 1", "DeepSetVAE", objects=True),
        "dagmm": ScoreEntry("DAGMM", "Dagmm"),
        "deep-svdd": ScoreEntry("deep SVDD, 63 members", "DeepSVDD"),
        "flow": ScoreEntry("spline flow", "FlowLikelihood"),
    },
    "a subclass of serendip.outliers.OutlierScore",
    lambda found: isinstance(found, type) and issubclass(found, find("OutlierScore")),
)
"""All scores by name."""


def load_score(folder: str | Path) -> OutlierScore:
    """Read a fitted score of any kind from the folder that its ``save`` wrote.

    Raises
    ------
    InputError
        If the folder contains no outlier score or is damaged.
    """
    facts = read_json(Path(folder) / "density.json", missing="the folder contains no outlier score", schema=1)
    kind = str(facts.get("kind"))
    if kind in KINDS:
        found = find(KINDS[kind])
    elif kind in SCORES and kind not in SCORES.built_in:
        # another package names its score as it names its files
        found = SCORES[kind]
    else:
        raise InputError(
            f"{folder} holds '{kind}', which is not an outlier score; known are {', '.join(KINDS)}"
        )
    score: OutlierScore = found.load(folder)
    return score
