"""The closure of a template is judged beside the window, on events that trained nothing."""

from __future__ import annotations

import numpy as np
import pytest
from samples import FEATURES, make_columns

from serendip.events.events import Events, Window
from serendip.methods.base import Method
from serendip.search.task import _closure

WINDOW = Window(3300.0, 3700.0)


class Asked(Method):
    """Predicts background exactly and keeps the masses it was asked for."""

    name, title = "asked", "for this test"

    def fit(self, events, window, splits=None):
        return self

    def score(self, events, split=0):
        return np.zeros(len(events))

    def predict_background(self, mass, split, rng):
        self.mass = mass
        return rng.normal(size=(len(mass), 3)) + 0.1 * np.log(mass / 3000)[:, None]


def test_closure_uses_events_within_a_width_of_the_window_that_trained_nothing():
    events = Events(make_columns(60_000), mass="mjj", features=FEATURES)
    held_out = np.arange(len(events)) % 3 == 0
    method = Asked()
    found = _closure(method, events, WINDOW, held_out, 0, np.random.default_rng(1))
    m = method.mass
    assert 2900 < m.min() < 2930
    assert 4070 < m.max() < 4100
    assert not WINDOW.contains(m).any()
    assert np.isin(m, events.m[held_out]).all()
    assert found["auc"] == pytest.approx(0.5, abs=4 * found["auc_error"])
    for feature in found["features"]:
        assert feature["observed"].sum() == pytest.approx(0.99 * found["n_events"], rel=0.01)
        assert feature["predicted"].sum() == pytest.approx(feature["observed"].sum(), rel=0.02)
