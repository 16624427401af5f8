"""Contract check of unsupervised scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from sklearn.base import clone

from serendip.outliers.base import OutlierScore
from serendip.testing.base import need, refusal

__all__ = ["check_score"]

_NAMES = ("met", "j1_pt", "b1_pt", "n_j", "n_b")


def check_score(score: OutlierScore, features: Sequence[str] = _NAMES) -> None:
    """Check that a score keeps the contract of :class:`~serendip.outliers.base.OutlierScore`.

    Parameters
    ----------
    score
        Not fitted; give options that make it fast.
    features
        Names of the columns that it is given, at least two; default: five of those of the theories.

    Raises
    ------
    AssertionError
        Naming the promise that is broken:

        * the class has a ``kind``; scikit-learn can clone it;
        * scores are finite, one per event, higher far from the background, and independent of the other events scored;
        * events of weight zero are equivalent to absent ones; NaN and a wrong number of columns are refused;
        * the same ``random_state`` gives the same scores;
        * a saved and reloaded score gives the same numbers.
    """
    kind = type(score)
    need(isinstance(getattr(kind, "kind", None), str), "the class needs a kind: its name in files")
    rng = np.random.default_rng(1)
    d = len(features)
    background = pd.DataFrame(50 + rng.normal(size=(400, d)), columns=list(features))
    events = pd.DataFrame(50 + rng.normal(size=(60, d)), columns=list(features))
    far = events + 8.0
    weights = np.ones(len(background))
    fitted = clone(score).fit(background, sample_weight=weights)
    values = np.asarray(fitted.score_samples(events))
    need(values.shape == (len(events),), f"{len(values)} scores for {len(events)} events")
    need(np.isfinite(values).all(), "scores are not finite")
    need(
        np.median(fitted.score_samples(far)) > np.median(values),
        "events far away from the background score lower than background: higher must be more anomalous",
    )
    need(
        np.allclose(fitted.score_samples(events[::-1][:20]), values[::-1][:20], rtol=1e-4),
        "the score of an event depends on the events that are scored with it",
    )
    again = clone(score).fit(background, sample_weight=weights)
    need(
        np.allclose(again.score_samples(events), values, rtol=1e-6), "the same random_state gave other scores"
    )
    padded = pd.concat([background, far])
    light = np.concatenate([weights, np.zeros(len(far))])
    again = clone(score).fit(padded, sample_weight=light)
    need(
        np.allclose(again.score_samples(events), values, rtol=1e-6), "events of weight zero change the scores"
    )
    broken = events.copy()
    broken.iloc[3, 1] = np.nan
    with refusal("a value that is NaN"):
        fitted.score_samples(broken)
    with refusal("a table with fewer columns"):
        fitted.score_samples(events[list(features)[:-1]])
    with TemporaryDirectory() as folder:
        fitted.save(Path(folder) / "score")
        read = kind.load(Path(folder) / "score")
    need(np.allclose(read.score_samples(events), values, rtol=1e-6), "a saved score gives other numbers")
