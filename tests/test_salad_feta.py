"""SALAD and FETA on made-up data and a simulation that is wrong in a known way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.feta import Feta, FetaConfig
from serendip.methods.salad import Salad, SaladConfig
from serendip.methods.simulation import EventsByMass

WINDOW = Window(1400.0, 1600.0)
FAST_FETA = {"steps": 2, "transport_steps": 3, "batch_size": 32, "members": 1, "oversample": 1.0}
FAST_SALAD = {"reweighting_members": 1, "reweighting_rounds": 2, "members": 1}


def make_events(
    n: int = 10_000, n_signal: int = 0, seed: int = 0, *, simulated: bool = False, weight: bool = False
) -> Events:
    """Drifting features; in the simulation the first is shifted, and narrower by a tenth, and the spectrum harder."""
    rng = np.random.default_rng([seed, simulated])
    power = 2 if simulated else 3
    m = 1000 * (1 - rng.random(n) * (1 - 2.5**-power)) ** (-1 / power)
    x = rng.normal(size=(n, 2))
    if simulated:
        x[:, 0] = 0.9 * x[:, 0] + 0.4
    x += 2.0 * np.log(m / 1500)[:, None]
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = np.concatenate([x, rng.normal([1.5, -2.0], 0.2, (n_signal, 2))])
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": np.repeat([0, 1], [n, n_signal])}
    columns["w"] = np.where(x[:, 1] > 2 * np.log(m / 1500), 3.0, 1.0)
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight="w" if weight else None)


def fitted(
    name: str, events: Events, splits=None, simulation: Events | None = None, seed: int = 0, **options
):
    simulation = make_events(seed=5, simulated=True) if simulation is None else simulation
    method, config, fast = {
        "salad": (Salad, SaladConfig, FAST_SALAD), "feta": (Feta, FetaConfig, FAST_FETA)
    }[name]  # fmt: skip
    made = method(config(**(fast | options)), seed=seed, simulation=simulation.without_label())
    return made.fit(events.without_label(), WINDOW, splits)


def two_sample_auc(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    x, y = np.concatenate([first, second]), np.repeat([1, 0], [len(first), len(second)])
    w = np.concatenate([np.full(len(first), weights.sum() / len(first)), weights])
    half = np.random.default_rng(0).random(len(x)) < 0.5
    trees = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=12, min_samples_leaf=100)
    trees.fit(x[half], y[half], w[half])
    return float(roc_auc_score(y[~half], trees.decision_function(x[~half]), sample_weight=w[~half]))


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(n_signal=100)


@pytest.fixture(scope="module")
def simulation() -> Events:
    return make_events(20_000, seed=5, simulated=True)


@pytest.fixture(scope="module", params=["salad", "feta"])
def method(request: pytest.FixtureRequest, events: Events, halves: np.ndarray, simulation: Events):
    options = {
        "salad": {"reweighting_members": 2, "reweighting_rounds": 15},
        "feta": {
            "steps": 200,
            "transport_steps": 100,
            "batch_size": 256,
            "oversample": 6.0,
        },
    }[request.param]
    return fitted(request.param, events, halves, simulation, members=4, **options)


def test_template_is_background_where_the_raw_simulation_is_not(method, simulation):
    real = make_events(60_000, seed=9)
    expected = real.x[WINDOW.contains(real.m)]
    raw = simulation.x[WINDOW.contains(simulation.m)]
    assert two_sample_auc(expected, raw, np.ones(len(raw))) > 0.58
    for model in (0, 1):
        template = method.template(model)
        # a template of half the data wanders by 0.01
        assert two_sample_auc(expected, template.x, template.weights) < 0.54


def test_events_that_no_model_saw_are_ranked_signal_first(events, halves, method):
    for model in (0, 1):
        test = events.select(halves[1 - model] & WINDOW.contains(events.m))
        assert roc_auc_score(test.labels, method.score(test, model)) > 0.9


def test_predicted_background_is_that_of_the_data_at_each_mass(method):
    rng = np.random.default_rng(0)
    for mass in (1200.0, 1500.0, 1800.0):
        x = method.predict_background(np.full(4000, mass), 0, rng)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(0), 2 * np.log(mass / 1500), atol=0.15)
        np.testing.assert_allclose(x.std(0), 1, atol=0.15)


def test_salad_weights_are_the_ratio_of_the_densities(events, halves, simulation):
    method = fitted(
        "salad", events, halves, simulation, reweighting_members=2, reweighting_rounds=20, match=False
    )
    for k in (0, 1):
        template = method.template(k)
        assert len(template.x) == np.count_nonzero(WINDOW.contains(simulation.m))
        inside = halves[k] & WINDOW.contains(events.m)
        assert template.weights.sum() == pytest.approx(np.count_nonzero(inside))
        # p_data / p_sim of the first feature, at mass 1500 GeV
        a = template.x[:, 0]
        exact = np.exp(-0.5 * a**2 + 0.5 * ((a - 0.4) / 0.9) ** 2)
        middle = np.abs(a) < 1.2
        ratio = template.weights[middle] / exact[middle]
        assert np.std(ratio) / np.mean(ratio) < 0.2
        expected = exact.sum() ** 2 / (exact**2).sum()
        assert method.effective_events[k] == pytest.approx(expected, rel=0.25)


def test_matched_simulation_has_the_tails_of_the_data():
    """Data reach further than a simulation of half the width: weights alone leave the tail empty."""
    rng = np.random.default_rng(0)
    columns = {
        name: values.copy() for name, values in make_events(6000, seed=5, simulated=True).columns.items()
    }
    columns["a"] = 2.0 * np.log(columns["m"] / 1500) + rng.uniform(-1, 1, 6000)
    narrow = Events(columns, mass="m", features=("a", "b"))
    tails = []
    for match in (True, False):
        template = fitted(
            "salad", make_events(6000), simulation=narrow, match=match, reweighting_rounds=15
        ).template()
        tails.append(np.average(template.x[:, 0] > 1.3, weights=template.weights))
    # a normal distribution has 9.7 % above 1.3
    assert tails[0] == pytest.approx(0.097, abs=0.04)
    assert tails[1] < 0.01


@pytest.mark.parametrize("name", ["salad", "feta"])
def test_weights_of_data_and_simulation_are_honoured(name):
    options = {
        "salad": {"reweighting_rounds": 20},
        "feta": {"steps": 100, "transport_steps": 40, "batch_size": 128},
    }
    data, simulation = make_events(6000), make_events(6000, seed=5, simulated=True)
    heavy_data, heavy_simulation = (
        Events(e.columns, mass="m", features=("a", "b"), weight="w") for e in (data, simulation)
    )
    inside = WINDOW.contains(data.m)
    # three quarters above zero wherever the data are weighted, whatever the simulation starts from
    for sample, simulated, share in (
        (heavy_data, simulation, 0.75),
        (data, heavy_simulation, 0.5),
    ):
        template = fitted(name, sample, simulation=simulated, **options[name]).template()
        assert template.weights.sum() == pytest.approx(sample.weights[inside].sum())
        found = np.average(template.x[:, 1] > 0, weights=template.weights)
        assert found == pytest.approx(share, abs=0.09)


@pytest.mark.parametrize("name", ["salad", "feta"])
def test_a_unit_of_the_weights_of_data_is_none(name):
    data, simulation = make_events(3000, weight=True), make_events(3000, seed=5, simulated=True)
    doubled = Events(
        data.columns | {"w": 2 * data["w"]}, mass="m", features=("a", "b"), label="truth", weight="w"
    )
    one, two = (fitted(name, sample, simulation=simulation).template() for sample in (data, doubled))
    np.testing.assert_allclose(two.x, one.x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two.weights, 2 * one.weights, rtol=1e-5)


@pytest.mark.parametrize("name", ["salad", "feta"])
def test_a_model_depends_on_the_events_of_its_split_only(name, events, halves):
    changed = {column: events[column].copy() for column in events.columns}
    changed["a"][halves[1]] += 1.0
    other = Events(changed, mass="m", features=("a", "b"))
    first, second, third = (
        fitted(name, e, halves, seed=s) for e, s in ((events, 0), (other, 0), (events, 1))
    )
    assert np.array_equal(first.score(events, 0), second.score(events, 0))
    assert np.array_equal(first.template(0).weights, second.template(0).weights)
    assert not np.array_equal(first.score(events, 1), second.score(events, 1))
    assert not np.array_equal(first.score(events, 0), third.score(events, 0))


@pytest.fixture(scope="module")
def plain():
    """Of each method: few events, simulation, and the scores of the shortest training."""
    events, simulation = make_events(3000), make_events(3000, seed=5, simulated=True)
    return {
        name: (events, simulation, fitted(name, events, simulation=simulation).score(events))
        for name in ("salad", "feta")
    }


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("salad", "match", False),
        ("salad", "reweighting_members", 2),
        ("salad", "reweighting_rounds", 4),
        ("salad", "sideband_gev", 150.0),
        ("salad", "members", 2),
        ("feta", "density", "maf"),
        ("feta", "steps", 4),
        ("feta", "batch_size", 64),
        ("feta", "transport_steps", 60),
        ("feta", "source", "events"),
        ("feta", "sideband_gev", 150.0),
        ("feta", "spectrum", "exppoly:4"),
        ("feta", "spectrum_range", 1.0),
        ("feta", "oversample", 2.0),
        ("feta", "classifier", "network"),
    ],
)
def test_every_option_changes_the_score(plain, name, option, value):
    events, simulation, before = plain[name]
    after = fitted(name, events, simulation=simulation, **{option: value}).score(events)
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", ["salad", "feta"])
def test_unusable_simulation_is_explained(name):
    events, simulation = make_events(2000), make_events(2000, seed=5, simulated=True)
    with pytest.raises(InputError, match="starts from simulated background"):
        {"salad": Salad, "feta": Feta}[name]()
    for wrong, message in (
        (
            simulation.select(~WINDOW.contains(simulation.m)),
            "too few simulated events: 0 in the signal region",
        ),
        (simulation.select(simulation.m > 1400), "too few simulated events: 0 in the lower sideband"),
        (Events(simulation.columns, mass="m", features=("b", "a")), "has the features b, a, the data a, b"),
        (
            Events({**simulation.columns, "w": -simulation["w"]}, mass="m", features=("a", "b"), weight="w"),
            "2000 of 2000 events have a negative weight",
        ),
    ):
        with pytest.raises(InputError, match=message):
            fitted(name, events, simulation=wrong)


def test_weights_that_leave_no_events_stop_salad():
    events, simulation = make_events(3000), make_events(3000, seed=5, simulated=True)
    weight = np.full(3000, 1e-9)
    weight[np.flatnonzero(WINDOW.contains(simulation.m))[:3]] = 1.0
    weight[~WINDOW.contains(simulation.m)] = 1.0
    few = Events({**simulation.columns, "w": weight}, mass="m", features=("a", "b"), weight="w")
    with pytest.raises(InputError, match=r"effective of .* simulated events in the window 1400-1600 GeV"):
        fitted("salad", events, simulation=few)


def test_simulated_events_are_drawn_near_the_mass_by_weight():
    rng = np.random.default_rng(0)
    m = rng.permutation(np.linspace(1000, 2000, 20_001))
    weights = np.where(np.arange(len(m)) % 2 == 0, 3.0, 1.0)
    masses = rng.uniform(990, 2010, 40_000)
    rows = EventsByMass(m, weights).draw(masses, rng)
    assert np.abs(m[rows] - masses).max() < 25
    assert np.mean(rows % 2 == 0) == pytest.approx(0.75, abs=0.01)
    assert np.count_nonzero(np.bincount(rows, minlength=len(m))) > 0.7 * len(m)
