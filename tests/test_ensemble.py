"""An ensemble of methods: one scale, fixed before the test events are seen, and a score that is worth the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods import background
from serendip.methods import ensemble as ensemble_module
from serendip.methods.base import Method, MethodConfig, Template
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.methods.cwola import Cwola, CwolaConfig
from serendip.methods.ensemble import EfficiencyMap, Ensemble, EnsembleConfig
from serendip.methods.registry import METHODS
from serendip.search.config import parse_config
from serendip.search.engine import run_search

WINDOW = Window(1400.0, 1600.0)
FAST = {"cathode": {"steps": 30, "batch_size": 128, "members": 1}, "cwola": {"members": 1},
        "lacathode": {"steps": 30, "batch_size": 128, "members": 1}}  # fmt: skip


def make_events(n: int = 4000, n_signal: int = 0, seed: int = 0, weight: str | None = None) -> Events:
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    x = rng.normal(size=(n, 2))
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = np.concatenate([x, rng.normal([1.5, -1.5], 0.3, (n_signal, 2))])
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": np.repeat([0, 1], [n, n_signal])}
    columns["w"] = np.where(x[:, 0] > 0, 3.0, 1.0)
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight=weight)


def build(*methods: str, seed: int = 0, options: dict | None = None, **arguments) -> Ensemble:
    chosen = {name: FAST.get(name, {}) for name in methods} if options is None else options
    return Ensemble(EnsembleConfig(methods=methods, options=chosen), seed=seed, **arguments)


class OneConfig(MethodConfig):
    power: float = 1.0


class One(Method):
    """Score: one feature. Learns nothing, but is treated as if it did."""

    title = "one feature"
    column = "a"
    Config = OneConfig

    def fit(self, events, window, splits=None):
        return self

    def score(self, events, split=0):
        return np.sign(events[self.column]) * np.abs(events[self.column]) ** self.config.power

    def template(self, split=0):
        return Template(np.full((1, 2), ord(self.column), np.float32), np.ones(1))

    def predict_background(self, mass, split, rng):
        return np.full((len(mass), 2), ord(self.column), np.float32)


class A(One):
    name = "a"


class B(One):
    name, column = "b", "b"


class Simulated(One):
    name, needs_simulation = "simulated", True


@pytest.fixture
def toys(monkeypatch):
    """Three little methods by name."""
    for cls in (A, B, Simulated):
        monkeypatch.setitem(METHODS.built_in, cls.name, cls)


# The map


@example(score=[-12.25, 1.0, 1.0, 3.032118637159008e-125], new=[0.0, 0.0], seed=0)
@example(score=[0.0, 6.99297237144072e-153], new=[-1.0, -2.0], seed=0)
@given(
    score=st.lists(st.floats(-50, 50), min_size=2, max_size=60),
    new=st.lists(st.floats(-80, 80), min_size=2, max_size=20),
    seed=st.integers(0, 100),
)
def test_the_map_never_swaps_two_events(score, new, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 5.0, len(score))
    rank = EfficiencyMap.fit(np.array(score), weights)
    grid = np.sort(np.array(new + score))
    y = rank(grid)
    assert np.all(np.isfinite(y))
    assert np.all(np.diff(y) >= 0)
    wide = np.diff(grid) > 1e-3
    assert np.all(np.diff(y)[wide] > 0)


def test_the_map_is_the_background_efficiency():
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=20_000)
    rank = EfficiencyMap.fit(rng.exponential(2.0, 20_000), weights)
    # P(score >= s) = exp(-s/2): the first two by counting, the last two beyond the highest of 20,000
    for s, tolerance in ((2.0, 0.02), (8.0, 0.1), (40.0, 0.35), (80.0, 0.35)):
        assert rank(np.array([s]))[0] == pytest.approx(s / 2 / np.log(10), rel=tolerance)
    # weights count: half of the events with three quarters of the weight
    two = EfficiencyMap.fit(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert two(np.array([0.0, 1.0])) == pytest.approx([0.0, -np.log10(0.75)])
    lowest = two(np.array([-1e9, -1.0, 0.0]))
    assert -0.3 < lowest[0] < lowest[1] < lowest[2] == 0


def test_a_classifier_that_saturates_keeps_the_order_beyond_its_last_block():
    rank = EfficiencyMap.fit(np.repeat([0.0, 1.0], [900, 100]), np.ones(1000))
    assert rank(np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0])
    assert np.all(np.diff(rank(np.array([1.0, 1.5, 2.0, 50.0]))) > 0.1)
    constant = EfficiencyMap.fit(np.zeros(100), np.ones(100))
    assert np.all(np.diff(constant(np.array([-1.0, 0.0, 1.0]))) > 0)


# The method


def test_an_ensemble_of_one_orders_events_as_the_method_itself():
    events = make_events(n_signal=50)
    half = np.arange(len(events)) % 2 == 0
    splits = np.stack([half, ~half])
    alone = Cwola(CwolaConfig(members=1), seed=3).fit(events.without_label(), WINDOW, splits)
    method = build("cwola", seed=3).fit(events.without_label(), WINDOW, splits)
    for k in (0, 1):
        first = np.unique(alone.score(events, k), return_inverse=True)[1]
        second = np.unique(method.score(events, k), return_inverse=True)[1]
        np.testing.assert_array_equal(first, second)


def test_the_score_of_an_event_does_not_depend_on_the_others_that_are_tested(toys):
    events = make_events(n_signal=50)
    half = np.arange(len(events)) % 2 == 0
    method = build("cwola", "cathode").fit(events.without_label(), WINDOW, half)
    scores = method.score(events)
    np.testing.assert_allclose(method.score(events.select(slice(5, 25))), scores[5:25], rtol=1e-6)
    columns = dict(events.columns) | {
        "a": np.where(half, events["a"], 9.0), "m": np.where(half, events.m, 1500.0)
    }  # fmt: skip
    other = Events(columns, mass="m", features=("a", "b"))
    again = build("cwola", "cathode").fit(other, WINDOW, half)
    np.testing.assert_array_equal(again.score(events.select(half)), method.score(events.select(half)))


def test_the_map_comes_from_sidebands_of_the_split_and_their_weights(toys):
    events = make_events(weight="w")
    # what is in the window must not matter
    columns = dict(events.columns) | {"a": np.where(WINDOW.contains(events.m), 3.0, events["a"])}
    events = replace(events, columns=columns)
    half = np.arange(len(events)) % 2 == 0
    method = build("a").fit(events.without_label(), WINDOW, half)
    use = half & ~WINDOW.contains(events.m)
    w = events.weights[use]
    for s in (0.0, 1.0, 2.0):
        efficiency = w[events["a"][use] >= s].sum() / w.sum()
        at = Events(
            {"m": np.array([1500.0]), "a": np.array([s]), "b": np.zeros(1)}, mass="m", features=("a", "b")
        )
        assert method.score(at)[0] == pytest.approx(-np.log10(efficiency), abs=0.01)


def test_scores_of_different_scale_weigh_the_same(toys):
    events = make_events(20_000)
    equal = build("a", "b").fit(events.without_label(), WINDOW)
    powers = build("a", "b", options={"a": {"power": 3.0}}).fit(events.without_label(), WINDOW)
    # the map is linear between its knots, which lie apart in the tail
    bulk = equal.score(events) < 2
    np.testing.assert_allclose(powers.score(events)[bulk], equal.score(events)[bulk], atol=0.02)


def test_complementary_methods_are_better_together(toys):
    """Each sees half of what a signal is: the mean is better than either."""
    events = make_events(20_000, n_signal=1000)
    half = np.arange(len(events)) % 2 == 0
    test = events.select(~half)
    auc = {}
    for names in (("a",), ("b",), ("a", "b")):
        method = build(*names).fit(events.without_label(), WINDOW, half)
        flipped = Events(dict(test.columns) | {"b": -test["b"]}, mass="m", features=("a", "b"))
        auc[names] = roc_auc_score(test.labels, method.score(flipped))
    assert auc["a", "b"] > max(auc["a",], auc["b",]) + 0.03


def test_real_methods_together_are_at_least_as_good_as_their_median():
    values = []
    for seed in (1, 2):
        events = make_events(n_signal=60, seed=seed)
        half = np.arange(len(events)) % 2 == 0
        test = make_events(3000, n_signal=500, seed=seed + 10)
        test = test.select(WINDOW.contains(test.m))
        method = build("cwola", "cathode", "lacathode", seed=seed).fit(events.without_label(), WINDOW, half)
        alone = [roc_auc_score(test.labels, c.score(test)) for c in method.components]
        values.append((roc_auc_score(test.labels, method.score(test)), np.median(alone)))
    together, median = np.mean(values, axis=0)
    assert together > 0.75
    assert together > median


def test_without_signal_a_cut_keeps_as_much_of_the_window_as_of_the_sidebands():
    events = make_events(12_000, seed=4)
    half = np.arange(len(events)) % 2 == 0
    splits = np.stack([half, ~half])
    method = build("cwola", "cathode", seed=1).fit(events, WINDOW, splits)
    kept = total = 0
    for k, seen in enumerate(splits):
        inside = WINDOW.contains(events.m)
        near = ~seen & ~inside & (np.abs(events.m - 1500) < 300)
        threshold = np.quantile(method.score(events.select(near), k), 0.9)
        scores = method.score(events.select(~seen & inside), k)
        kept, total = kept + int((scores > threshold).sum()), total + len(scores)
    assert kept / total == pytest.approx(0.1, abs=4 * np.sqrt(2 * 0.1 * 0.9 / total))


def test_seed_and_options_reach_the_methods():
    events = make_events(2500)
    first, same, other = (build("cwola", seed=s).fit(events, WINDOW).score(events) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3
    more = build("cwola", seed=1, options={"cwola": {"members": 2}}).fit(events, WINDOW).score(events)
    assert np.abs(first - more).max() > 1e-3


# The shared density


@pytest.fixture
def trainings(monkeypatch):
    """Requests that were trained."""
    found = []
    train = background.train_background

    def counted(request, *args, **kwargs):
        found.append(request)
        return train(request, *args, **kwargs)

    monkeypatch.setattr(background, "train_background", counted)
    monkeypatch.setattr(ensemble_module, "train_background", counted)
    return found


def test_equal_densities_are_trained_once(trainings):
    events = make_events(2500)
    method = build("cwola", "cathode", "lacathode")
    request = method.background_request(WINDOW)
    assert request == Cathode(CathodeConfig(**FAST["cathode"])).background_request(WINDOW)
    scores = method.fit(events, WINDOW).score(events)
    assert trainings == [request]
    # given by the engine: none is trained, and the score is the same
    density = background.train_background(request, events, np.ones((1, len(events)), bool), seed=0, threads=1)
    trainings.clear()
    given = build("cwola", "cathode", "lacathode", background=density).fit(events, WINDOW)
    assert trainings == []
    np.testing.assert_array_equal(given.score(events), scores)


def test_different_densities_are_trained_inside(trainings):
    events = make_events(2500)
    options = FAST | {"lacathode": FAST["lacathode"] | {"steps": 20}}
    method = build("cwola", "cathode", "lacathode", options=options)
    assert method.background_request(WINDOW) is None
    method.fit(events, WINDOW)
    assert [dict(request.options)["steps"] for request in trainings] == [30, 20]
    assert build("cwola").background_request(WINDOW) is None


def test_a_search_with_an_ensemble_shares_the_density_with_the_other_methods(tmp_path):
    from samples import FEATURES, write_table

    settings = {
        "file": str(write_table(tmp_path / "events.parquet", 5000, 60)), "mass": "mjj", "features": list(FEATURES),
        "id": "event", "window": [3300, 3700], "folds": 3, "toys": 100, "working_points": [0.05],
        "method": ["ensemble", "cathode"],
        "options": {"ensemble": {"methods": ["cwola", "cathode"]}, "cathode": FAST["cathode"]},
    }  # fmt: skip
    settings["options"]["ensemble"]["options"] = {n: FAST[n] for n in ("cwola", "cathode")}
    run = run_search(parse_config(settings), tmp_path / "run", unblind=True, jobs=1)
    assert [look["method"] for look in run.results["looks"] if not look["cross_check"]] == [
        "ensemble",
        "cathode",
    ]
    assert len(list((run.path / "tasks").glob("*"))) == 3


# Contract


def test_template_and_prediction_are_those_of_the_first_method(toys):
    events = make_events(1000)
    for names in (("a", "b"), ("b", "a")):
        method = build(*names).fit(events, WINDOW)
        assert method.template().x[0, 0] == ord(names[0])
        assert method.predict_background(np.ones(3), 0, np.random.default_rng(0))[2, 1] == ord(names[0])


def test_every_method_is_asked_before_anything_is_trained():
    events = make_events(2000)
    high = events.select(events.m > WINDOW.low)
    everything = np.ones((1, len(high)), dtype=bool)
    with pytest.raises(InputError, match="lower strip"):
        build("cwola").check(high, WINDOW, everything)
    with pytest.raises(InputError, match="lower sideband"):
        build("cathode").check(high, WINDOW, everything)


def test_too_few_events_for_the_map(toys):
    events = make_events(2000)
    few = events.select(WINDOW.contains(events.m) | (np.arange(2000) < 40))
    with pytest.raises(InputError, match="in the sidebands of the window"):
        build("a").fit(few, WINDOW)


def test_simulation_is_asked_for_and_passed_on(toys):
    config = EnsembleConfig(methods=("a", "simulated"))
    assert Ensemble.uses_simulation(config)
    assert not Ensemble.uses_simulation(EnsembleConfig(methods=("a", "b")))
    with pytest.raises(InputError, match=r"'simulated' starts from simulated background"):
        Ensemble(config)
    events = make_events(100)
    assert Ensemble(config, simulation=events).components[1].simulation is events


def test_a_saved_ensemble_scores_the_same(tmp_path):
    events = make_events(2500)
    half = np.arange(len(events)) % 2 == 0
    method = build("cwola", "lacathode").fit(events, WINDOW, np.stack([half, ~half]))
    method.save(tmp_path, 1, features=events.features, mass="m", window=WINDOW)
    loaded = Ensemble.load(tmp_path)
    np.testing.assert_allclose(loaded.score(events), method.score(events, 1), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": []}, "at least one method"),
        ({"methods": ["cwolla"]}, "unknown method 'cwolla'; did you mean 'cwola'"),
        ({"methods": ["cwola", "cwola"]}, "'cwola' is named 2 times"),
        ({"methods": ["ensemble"]}, "cannot contain an ensemble"),
        ({"methods": ["supervised"]}, "'supervised' uses the truth labels"),
        ({"methods": ["bump-hunt"]}, "'bump-hunt' makes no cut"),
        ({"methods": ["cwola"], "options": {"cathode": {}}}, "given for 'cathode', which is not among cwola"),
        ({"methods": ["cwola"], "options": {"cwola": {"membres": 2}}}, "options of 'cwola': membres"),
        ({"method": ["cwola"]}, "Extra inputs"),
    ],
)
def test_bad_ensembles_are_explained(settings, message):
    with pytest.raises(ValidationError, match=message):
        EnsembleConfig(**settings)


def test_the_command_line_explains_too(tmp_path):
    settings = {"file": "x", "mass": "m", "features": ["a"], "window": [1, 2], "method": ["ensemble"]}
    with pytest.raises(InputError, match="at least one method"):
        parse_config(settings | {"options": {"ensemble": {"methods": []}}})
