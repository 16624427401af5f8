r"""Harder versions of a sample: features that follow the mass, and features that know nothing.

The classic shifted set of the LHC Olympics (arXiv:2001.04990) adds a tenth of the mass to both jet masses,

.. math:: x \;\to\; x + c \, m,

which breaks every method that takes the background of the signal region to look like that of the sidebands. Noise
features (arXiv:2309.13111) cost methods that learn little from few events.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from serendip.errors import InputError
from serendip.events.events import Events
from serendip.search.folds import tie_breaker

__all__ = ["stress"]


def stress(
    events: Events,
    *,
    correlate: Mapping[str, float] | None = None,
    noise: int = 0,
    seed: int = 0,
    sample: str = "data",
) -> Events:
    """Correlate features with the mass and add noise features ``noise_1``, ``noise_2``, ...

    Parameters
    ----------
    events
        The sample; its mass, weights, labels and ids stay.
    correlate
        Coefficient of each feature to change, in units of the feature per GeV.
    noise
        Number of standard normal features to add. The numbers of an event follow from its id and the seed, so that
        any part of the sample in any order has the same ones.
    seed
        Seed of the noise.
    sample
        Name of the sample: equal ids in two samples (data and simulation) get different noise.

    Raises
    ------
    InputError
        If there is no feature of that name, a coefficient is zero or not finite, or a noise feature already exists.
    """
    columns = dict(events.columns)
    for name, coefficient in (correlate or {}).items():
        if name not in events.features:
            raise InputError(
                f"'{name}' cannot be correlated with the mass: it is not a feature (features: {', '.join(events.features)})"
            )
        if not math.isfinite(coefficient) or coefficient == 0:
            raise InputError(
                f"the coefficient {coefficient:g} of '{name}' must be a finite number other than 0"
            )
        columns[name] = np.asarray(columns[name], dtype=np.float64) + coefficient * events.m
    if noise < 0:
        raise InputError(f"{noise} noise features: the number cannot be negative")
    names = tuple(f"noise_{k}" for k in range(1, noise + 1))
    for k, name in enumerate(names):
        if name in columns:
            raise InputError(f"the table has a column '{name}' already: rename it, or add no noise")
        columns[name] = _normal(events, f"noise {seed} {sample} {k}")
    applied = {"correlate": dict(correlate or {}), "noise": noise}
    return replace(
        events,
        columns=columns,
        features=(*events.features, *names),
        provenance={**events.provenance, "stress": applied},
    )


def _normal(events: Events, salt: str) -> NDArray[np.float64]:
    """One standard normal number for each event, from a hash of its id, shape ``(n,)``."""
    number = int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "big")
    # the order of ties is a hash of id and seed with 64 random bits; 53 of them make a double between 0 and 1
    uniform = ((tie_breaker(events.ids, number) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(ndtri(uniform), dtype=np.float64)
