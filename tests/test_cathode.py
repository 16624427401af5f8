"""CATHODE on made-up events: a signal is found, the template is background, every option has an effect."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.background import MassConfig, fit_masses
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.search.folds import cross_training_plan, event_folds
from serendip.search.task import BackgroundTask, Task, run_background, run_task

WINDOW = Window(1400.0, 1600.0)
FAST = {"steps": 150, "batch_size": 256, "members": 2}


def make_events(n: int = 8000, n_signal: int = 0, seed: int = 0, weight: str | None = None) -> Events:
    """Falling spectrum; both features drift with the mass; signal at 1500 GeV in a corner of them."""
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    x = rng.normal(size=(n, 2)) + 2.0 * np.log(m / 1500)[:, None]
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = np.concatenate([x, rng.normal([2.0, -2.0], 0.2, (n_signal, 2))])
    truth = np.repeat([0, 1], [n, n_signal])
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": truth, "w": np.where(x[:, 0] > 0, 3.0, 1.0)}
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight=weight)


def fitted(
    events: Events, splits: np.ndarray | None = None, seed: int = 0, known: object = None, **options: object
) -> Cathode:
    method = Cathode(CathodeConfig(**(FAST | options)), seed=seed, background=known)
    return method.fit(events.without_label(), WINDOW, splits)


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(n_signal=60)


@pytest.fixture(scope="module")
def method(events: Events, halves: np.ndarray) -> Cathode:
    return fitted(events, halves, steps=400, members=4)


def test_events_that_no_model_saw_are_ranked_signal_first(events, halves, method):
    inside = WINDOW.contains(events.m)
    for model in (0, 1):
        test = halves[1 - model] & inside
        scores = method.score(events.select(test), model)
        assert roc_auc_score(events.labels[test], scores) > 0.9


def test_template_is_background_in_the_window_and_not_in_the_sidebands(method):
    real = make_events(60_000, seed=9)
    inside = WINDOW.contains(real.m)
    expected = real.x[inside]
    lower = real.x[real.m < WINDOW.low]
    for model in (0, 1):
        x = method.template(model).x
        error = np.sqrt(1 / len(expected) + 5 / len(x) + 1 / 3000)
        assert np.all(np.abs(x.mean(0) - expected.mean(0)) < 4 * error)
        assert np.all(np.abs(x.mean(0) - lower.mean(0)) > 8 * error)
        assert np.all(np.abs(x.std(0) - expected.std(0)) < 4 * error)


def test_template_weights_sum_to_the_data_and_the_oversampling_counts(events, halves, method):
    for model in (0, 1):
        n = np.count_nonzero(halves[model] & WINDOW.contains(events.m))
        template = method.template(model)
        assert template.weights.sum() == pytest.approx(n)
        assert len(template.x) == 5 * n
    assert len(fitted(events, oversample=2).template().x) == 2 * np.count_nonzero(WINDOW.contains(events.m))


def test_masses_of_the_template_follow_the_sideband_spectrum():
    events = make_events(40_000)
    side = ~WINDOW.contains(events.m)

    def draw(weights):
        fit = fit_masses(events.m[side], weights, WINDOW, MassConfig())
        return fit.sample(20_000, WINDOW.low, WINDOW.high, np.random.default_rng(0))

    drawn = draw(np.ones(side.sum()))
    assert np.all(WINDOW.contains(drawn))
    # mean of a spectrum m^-5 in the window
    expected = (1400.0**-3 - 1600.0**-3) / 3 / ((1400.0**-4 - 1600.0**-4) / 4)
    assert drawn.mean() == pytest.approx(expected, abs=1.5)
    heavier = np.where(events.m > 1600, 3.0, 1.0)[side]
    assert draw(heavier).mean() > expected + 10


def test_predicted_background_follows_the_mass(method):
    rng = np.random.default_rng(0)
    for mass in (1200.0, 1500.0, 2000.0):
        x = method.predict_background(np.full(4000, mass), 0, rng)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(0), 2 * np.log(mass / 1500), atol=0.15)


def test_score_is_defined_far_outside_the_training_range(method):
    x = np.array([[0.0, 0.0], [1e6, -1e6], [-1e6, 3e30], [0.0, 0.0]], dtype=np.float32)
    columns = {"m": np.array([1500.0, 1500.0, 1e5, 0.5]), "a": x[:, 0], "b": x[:, 1]}
    scores = method.score(Events(columns, mass="m", features=("a", "b")))
    assert np.all(np.isfinite(scores))
    assert scores[0] == scores[3]


def test_a_model_depends_on_the_events_of_its_split_only(events, halves):
    changed = {name: events[name].copy() for name in events.columns}
    changed["a"][halves[1]] += 1.0
    other = Events(changed, mass="m", features=("a", "b"))
    first, second = fitted(events, halves, steps=50), fitted(other, halves, steps=50)
    assert np.array_equal(first.score(events, 0), second.score(events, 0))
    assert np.array_equal(first.template(0).x, second.template(0).x)
    assert not np.array_equal(first.score(events, 1), second.score(events, 1))


def test_same_seed_same_scores_and_another_seed_others(events):
    scores = [fitted(events, steps=30, seed=seed).score(events) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_weights_reach_density_and_classifier():
    weighted = make_events(weight="w")
    plain = make_events()
    with_weights, without = fitted(weighted), fitted(plain)
    inside = WINDOW.contains(weighted.m)
    template = with_weights.template()
    assert template.weights.sum() == pytest.approx(weighted.weights[inside].sum())
    # weight 3 for positive values of feature a: 3/4 of the template lies there, as of the weighted data
    assert np.mean(template.x[:, 0] > 0) == pytest.approx(0.75, abs=0.05)
    assert np.mean(without.template().x[:, 0] > 0) == pytest.approx(0.5, abs=0.05)
    # data and template agree: the score does not follow a; a classifier without weights would take the
    # template's excess of positive values for a lack in data
    scores = with_weights.score(weighted)[inside]
    right = weighted.x[inside, 0] > 0
    assert abs(scores[right].mean() - scores[~right].mean()) < 0.3


SHORT = {"steps": 30, "members": 1}


@pytest.fixture(scope="module")
def plain():
    """Few events, the density of a short training, and its scores."""
    events = make_events(3000)
    method = fitted(events, **SHORT)
    scores = method.score(events)
    assert np.array_equal(fitted(events, **SHORT, known=method.density).score(events), scores)
    return events, method.density, scores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", "flow-matching"),
        ("density_members", 2),
        ("select_by", "argos"),
        ("steps", 40),
        ("batch_size", 128),
        ("sideband_gev", 250.0),
        ("spectrum", "exppoly:4"),
        ("spectrum_range", 1.0),
        ("oversample", 3.0),
        ("classifier", "network"),
        ("members", 3),
    ],
)
def test_every_option_changes_the_score(plain, name, value):
    events, density, before = plain
    # what comes after the density needs no other one
    later = name in ("select_by", "spectrum", "spectrum_range", "oversample", "classifier", "members")
    after = fitted(events, **SHORT | {name: value}, known=density if later else None).score(events)
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


def test_sidebands_within_reach_only():
    events = make_events(4000)
    columns = {name: events[name].copy() for name in events.columns}
    columns["a"][(events.m < 1200) | (events.m > 1800)] = 50.0
    spoiled = Events(columns, mass="m", features=("a", "b"))
    near = [
        fitted(e, steps=30, sideband_gev=200.0, spectrum_range=1.0).template().x for e in (events, spoiled)
    ]
    assert np.array_equal(*near)
    assert fitted(spoiled, steps=30).template().x.max() > 20


def test_too_few_events_and_unknown_options_are_explained():
    events = make_events(2000)
    high = events.select(events.m > WINDOW.low)
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        fitted(high)
    with pytest.raises(InputError, match="signal region"):
        fitted(events, min_events=1000)
    # a scan asks before anything is trained
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        Cathode().check(high, WINDOW, np.ones((1, len(high)), dtype=bool))
    with pytest.raises(ValidationError):
        CathodeConfig(oversampel=3)
    with pytest.raises(ValidationError):
        CathodeConfig(density="kde")


def test_the_density_of_an_order_learns_beside_the_window_from_all_other_folds():
    events = make_events(n=4000).without_label()
    request = CathodeConfig(steps=20, batch_size=64).request(WINDOW)
    task = BackgroundTask("key", request, 4, "weighted", 1, 1, ((0, 1, 2, 3), (2, 3, 0, 1)))
    fold = event_folds(events, 4, 1)
    plan = cross_training_plan(fold, 4, "weighted", np.array(task.positions))
    at = np.zeros((1, 2)), np.array([1500.0])

    def log_prob(pair: tuple[int, int], changed: np.ndarray) -> float:
        x = np.where(changed, 3.0, 1.0)[:, None] * events.x
        other = Events({"m": events.m, "a": x[:, 0], "b": x[:, 1]}, mass="m", features=("a", "b"))
        density, facts = run_background(task, other)
        assert facts["n_models"] == 4
        return float(density.log_prob(*at, pair[1])[0])

    # of both orders, the model that scores fold 3: after all others, and after fold 2 alone
    for pairs in plan.orders:
        pair = next(pair for pair in pairs if pair[0] == 3)
        nothing = log_prob(pair, np.zeros(len(fold), dtype=bool))
        inside = WINDOW.contains(events.m)
        assert log_prob(pair, (fold == 3) | inside) == nothing
        for f in (0, 1, 2):
            assert log_prob(pair, (fold == f) & ~inside) != nothing


def test_strips_of_later_folds_train_and_their_windows_do_not():
    events = make_events(n=4000).without_label()
    fold, inside = event_folds(events, 4, 1), WINDOW.contains(events.m)
    task = Task("key", "cwola", {"members": 1}, WINDOW, 4, "sequential", 1, 1)

    def scores(changed: np.ndarray) -> np.ndarray:
        x = np.where(changed, 3.0, 1.0)[:, None] * events.x
        other = Events(
            {"m": events.m, "a": x[:, 0], "b": x[:, 1], "id": events.ids},
            mass="m",
            features=("a", "b"),
            id="id",
        )
        return run_task(task, other).scores[fold == 1]

    nothing = scores(np.zeros(len(fold), dtype=bool))
    np.testing.assert_array_equal(scores((fold > 1) & inside), nothing)
    assert (scores((fold == 2) & ~inside) != nothing).any()
    assert (scores((fold == 0) & inside) != nothing).any()
