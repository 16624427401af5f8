"""LaCATHODE: latent space, no sculpting; and the density that methods and windows share."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from samples import write_table
from sklearn.metrics import roc_auc_score
from test_cathode import FAST, WINDOW, make_events
from test_search import config

from serendip.errors import InputError
from serendip.events.audit import distance_correlation
from serendip.events.events import Window
from serendip.methods import background as background_module
from serendip.methods import lacathode as lacathode_module
from serendip.methods.background import train_background
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.methods.lacathode import LaCathode
from serendip.search import task as task_module
from serendip.search.engine import run_search


@pytest.fixture(scope="module")
def method():
    events = make_events(n_signal=60)
    options = FAST | {"steps": 400, "members": 4}
    return LaCathode(CathodeConfig(**options)).fit(events.without_label(), WINDOW)


def test_background_is_standard_normal_at_every_mass(method):
    fresh = make_events(40_000, seed=7)
    z = method.to_latent(fresh)
    for low, high in ((1000, 1200), (1400, 1600), (2000, 3000)):
        here = z[(fresh.m >= low) & (fresh.m < high)]
        np.testing.assert_allclose(here.mean(0), 0, atol=0.15)
        np.testing.assert_allclose(here.std(0), 1, atol=0.12)


def test_signal_is_ranked_first_and_background_alike_at_all_masses(method):
    fresh = make_events(20_000, n_signal=100, seed=8)
    inside = WINDOW.contains(fresh.m)
    scores = method.score(fresh)
    assert roc_auc_score(fresh.labels[inside], scores[inside]) > 0.9
    side = np.flatnonzero(~fresh.labels)[:4000]
    rank = np.argsort(np.argsort(scores[side])) / len(side)
    assert distance_correlation(rank, fresh.m[side])[0] < 0.08
    # the features themselves drift with the mass
    assert distance_correlation(fresh.x[side, 0].astype(float), fresh.m[side])[0] > 0.3


def test_template_is_reported_in_the_features(method):
    real = make_events(60_000, seed=9)
    expected = real.x[WINDOW.contains(real.m)]
    np.testing.assert_allclose(method.template().x.mean(0), expected.mean(0), atol=0.1)


def test_weights_enter_the_classifier():
    """A density of the plain events, and data in which half of feature space counts three times."""
    events = make_events(6000)
    config = CathodeConfig(**FAST)
    every = np.ones((1, len(events)), dtype=bool)
    density = train_background(config.request(WINDOW), events, every, seed=0, threads=1)
    weighted = make_events(6000, weight="w")
    odds = []
    for sample in (events, weighted):
        scores = LaCathode(config, background=density).fit(sample.without_label(), WINDOW).score(events)
        right = (events["a"] > 0.2) & WINDOW.contains(events.m)
        left = (events["a"] < -0.2) & WINDOW.contains(events.m)
        odds.append(scores[right].mean() - scores[left].mean())
    assert odds[1] - odds[0] == pytest.approx(np.log(3), abs=0.4)


def test_a_classifier_learns_from_the_events_of_its_split_only(monkeypatch):
    events = make_events(2500).without_label()
    splits = np.arange(len(events)) % 2 == np.arange(2)[:, None]
    seen = {}

    def fit_splits(classifier, x, classes, weights, used, groups):
        seen.update(x=x, classes=classes, used=used)

    monkeypatch.setattr(lacathode_module, "fit_splits", fit_splits)
    method = LaCathode(CathodeConfig(**FAST | {"steps": 2, "oversample": 1.5})).fit(events, WINDOW, splits)
    assert (seen["used"].sum(axis=0) == 1).all()
    for k, mask in enumerate(splits):
        data = events.select(mask & WINDOW.contains(events.m))
        learnt = seen["x"][seen["used"][k] & seen["classes"]]
        np.testing.assert_array_equal(learnt, method.to_latent(data, k))
        others = np.count_nonzero(seen["used"][k] & ~seen["classes"])
        assert others == pytest.approx(method.config.oversample * len(data), abs=1)


def test_a_given_density_is_used_and_an_equal_one_trained_otherwise():
    events = make_events(3000).without_label()
    config = CathodeConfig(**FAST)
    every = np.ones((1, len(events)), dtype=bool)
    density = train_background(config.request(WINDOW), events, every, seed=5, threads=1)
    given = Cathode(config, seed=5, background=density).fit(events, WINDOW)
    own = Cathode(config, seed=5).fit(events, WINDOW)
    np.testing.assert_array_equal(given.score(events), own.score(events))
    assert given.density is density
    other = train_background(config.request(WINDOW), events, every, seed=6, threads=1)
    differs = Cathode(config, seed=5, background=other).fit(events, WINDOW)
    assert not np.array_equal(differs.score(events), own.score(events))


def test_shared_density_does_not_take_a_signal_for_background():
    """A signal of a fifth of the window's events: the shared template must not have it, the data do."""
    events = make_events(12_000, n_signal=500, seed=3)
    config = CathodeConfig(**FAST | {"background": "shared", "steps": 500})
    assert config.request(WINDOW) == config.request(Window(1000, 1200))
    method = Cathode(config).fit(events.without_label(), WINDOW)

    def in_corner(x):
        return float(np.mean((np.abs(x[:, 0] - 2) < 0.5) & (np.abs(x[:, 1] + 2) < 0.5)))

    inside = WINDOW.contains(events.m)
    truth = in_corner(events.x[inside & ~events.labels])
    assert in_corner(events.x[inside]) > truth + 0.15
    assert in_corner(method.template().x) < truth + 0.02
    assert roc_auc_score(events.labels[inside], method.score(events.select(inside))) > 0.95


def test_an_ensemble_of_densities_draws_templates_but_has_no_latent_space():
    events = make_events(3000).without_label()
    config = CathodeConfig(**FAST | {"density_members": 2})
    assert config.request(WINDOW) != CathodeConfig(**FAST).request(WINDOW)
    two = Cathode(config).fit(events, WINDOW)
    assert len(two.density.network.stacked[0]) == 2
    assert not np.array_equal(
        two.template().x, Cathode(CathodeConfig(**FAST)).fit(events, WINDOW).template().x
    )
    with pytest.raises(InputError, match="density_members must be 1"):
        LaCathode(config).fit(events, WINDOW)


def test_shared_needs_a_density_that_can_be_interpolated():
    with pytest.raises(ValidationError, match="flow-matching density, not one of kind 'maf'"):
        CathodeConfig(background="shared", density="maf")
    with pytest.raises(ValidationError, match="remove sideband_gev"):
        CathodeConfig(background="shared", sideband_gev=100)


def test_defaults_of_the_density_depend_on_how_it_is_used():
    chosen = {"density": "flow-matching"}
    for given, expected in (({}, ("spline", 1000)), (chosen, ("flow-matching", 2000)),
                            ({"background": "shared"}, ("flow-matching", 2000)),
                            (chosen | {"steps": 7}, ("flow-matching", 7))):  # fmt: skip
        found = CathodeConfig(**given)
        assert (found.density, found.steps) == expected
        assert CathodeConfig(**found.model_dump()) == found


def test_a_search_trains_each_distinct_density_once(tmp_path, monkeypatch):
    table = write_table(tmp_path / "events.parquet", 6000)
    trained = []

    def counted(request, *args, **options):
        trained.append(request)
        return train_background(request, *args, **options)

    monkeypatch.setattr(task_module, "train_background", counted)
    monkeypatch.setattr(background_module, "train_background", None)
    fast = FAST | {"steps": 60}
    two_methods = config(
        table, method=["cathode", "lacathode"], options={"cathode": fast, "lacathode": fast}, folds=2
    )
    run_search(two_methods, tmp_path / "run", jobs=1)
    assert len(trained) == 1
    shared = fast | {"background": "shared"}
    scan = config(
        table,
        window=None,
        scan=[2600, 3900],
        width=0.2,
        method=["cathode"],
        options={"cathode": shared},
        folds=2,
    )
    run_search(scan, tmp_path / "scan", jobs=1)
    assert len(trained) == 2
    assert trained[1].outside is None
    # finished windows need no density: nothing is trained for them again
    run_search(scan, tmp_path / "scan", jobs=1, unblind=True)
    assert len(trained) == 2
