"""ANODE on events of known densities: the score is the ratio of the two densities, in the units of the features."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.anode import Anode, AnodeConfig

WINDOW = Window(1400.0, 1600.0)
FAST = {"steps": 120, "batch_size": 256, "window_steps": 80, "members": 2, "window_density": "maf"}
SCALE = 100.0


def background(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    return norm.logpdf(x / SCALE - 2.0 * np.log(m / 1500)[:, None]).sum(1) - 2 * np.log(SCALE)


class TrueBackground:
    """The density of ``make_events``, exactly, in place of a trained one."""

    def log_prob(self, x, m, split=0):
        return background(x, np.clip(m, 1000, 3000))


def make_events(n: int = 8000, n_signal: int = 0, seed: int = 0, weight: str | None = None) -> Events:
    """Falling spectrum; both features drift with the mass; signal at 1500 GeV in a corner of them."""
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    x = rng.normal(size=(n, 2)) + 2.0 * np.log(m / 1500)[:, None]
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = SCALE * np.concatenate([x, rng.normal([2.0, -2.0], 0.3, (n_signal, 2))])
    truth = np.repeat([0, 1], [n, n_signal])
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": truth, "w": np.where(x[:, 0] > 0, 3.0, 1.0)}
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight=weight)


def fitted(events, splits=None, *, seed=0, known=None, **options) -> Anode:
    method = Anode(AnodeConfig(**(FAST | options)), seed=seed, background=known)
    return method.fit(events.without_label(), WINDOW, splits)


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(12_000, 80)


@pytest.fixture(scope="module")
def method(events: Events, halves: np.ndarray) -> Anode:
    return fitted(events, halves, steps=300, window_steps=250, window_density="spline")


def test_events_that_no_model_saw_are_ranked_signal_first(events, halves, method):
    inside = WINDOW.contains(events.m)
    for model in (0, 1):
        test = halves[1 - model] & inside
        assert roc_auc_score(events.labels[test], method.score(events.select(test), model)) > 0.88


def test_score_is_the_ratio_of_two_densities_in_the_same_units(method):
    other = make_events(15_000, 200, seed=7)
    other = other.select(WINDOW.contains(other.m))
    share = 80 * 0.999 / (12_000 * 0.1092 + 80)
    log_signal = norm.logpdf(other.x / SCALE, [2.0, -2.0], 0.3).sum(1) - 2 * np.log(SCALE)
    truth = np.logaddexp(np.log(1 - share) + background(other.x, other.m), np.log(share) + log_signal)
    truth -= background(other.x, other.m)
    for model in (0, 1):
        score = method.score(other, model)
        # a forgotten Jacobian would shift the score by ln of a width, some 4.6; caution lowers it
        assert np.median(truth[~other.labels] - score[~other.labels]) == pytest.approx(0.2, abs=0.25)
        assert np.median(score[other.labels]) == pytest.approx(np.median(truth[other.labels]), abs=1.3)


def test_events_without_signal_have_scores_around_zero():
    empty = make_events(15_000, seed=3)
    score = fitted(empty, known=TrueBackground(), window_steps=150).score(make_events(5_000, seed=8))
    assert np.median(score) == pytest.approx(0.0, abs=0.2)


def test_the_score_is_what_members_agree_on(events, method):
    few = events.select(np.arange(len(events)) < 200)
    x, m = method._held(few, 1), np.full(len(few), 1500.0)
    inner = np.array([method.window_density.log_prob(x, m, j) for j in (2, 3)])
    expected = inner.mean(0) - np.abs(inner[0] - inner[1]) / np.sqrt(2) - method.density.log_prob(x, m, 1)
    np.testing.assert_allclose(method.score(few, 1), expected)


def test_score_depends_on_the_features_only_and_is_finite_far_away(method):
    at = np.array([[0.0, 0.0], [1e6, -1e6], [-1e6, 3e30], [0.0, 0.0]], dtype=np.float32)
    columns = {"m": np.array([1500.0, 1500.0, 1e5, 0.5]), "a": at[:, 0], "b": at[:, 1]}
    assert np.all(np.isfinite(method.score(Events(columns, mass="m", features=("a", "b")))))
    # a cut follows no drift of the background, and has no step at the edge of the window
    m = np.array([1100.0, 1399.9, 1400.1, 1500.0, 1599.9, 2500.0])
    score = method.score(Events({"m": m, "a": np.ones(6), "b": np.ones(6)}, mass="m", features=("a", "b")))
    np.testing.assert_array_equal(score, score[0])


def test_a_cut_keeps_as_much_background_in_the_window_as_beside_it(method):
    """Else sideband events are no measure for the ranks of a search: at the mass of each event 0.35 to 0.5 were kept."""
    other = make_events(60_000, seed=21)
    inside = WINDOW.contains(other.m)
    for model in (0, 1):
        score = method.score(other, model)
        for efficiency in (0.1, 0.05):
            cut = np.quantile(score[~inside], 1 - efficiency)
            assert np.mean(score[inside] >= cut) / efficiency == pytest.approx(1.0, abs=0.2)


def test_predicted_background_follows_the_mass(method):
    for mass in (1200.0, 1500.0, 2000.0):
        x = method.predict_background(np.full(4000, mass), 0, np.random.default_rng(0))
        np.testing.assert_allclose(x.mean(0) / SCALE, 2 * np.log(mass / 1500), atol=0.15)


def test_a_model_depends_on_the_events_of_its_split_only(events, halves):
    changed = {name: events[name].copy() for name in events.columns}
    changed["a"][halves[1]] += 50.0
    other = Events(changed, mass="m", features=("a", "b"))
    first, second = (fitted(e, halves, steps=20, window_steps=20) for e in (events, other))
    some = events.select(np.arange(len(events)) % 50 == 0)
    assert np.array_equal(first.score(some, 0), second.score(some, 0))
    assert not np.array_equal(first.score(some, 1), second.score(some, 1))


def test_same_seed_same_scores_and_another_seed_others():
    events = make_events(4000, 40)
    some = events.select(np.arange(len(events)) % 20 == 0)
    scores = [fitted(events, steps=20, window_steps=20, seed=seed).score(some) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_weights_reach_both_densities():
    weighted = make_events(weight="w")
    # data and sidebands are weighted alike, so that the score does not follow a
    inside = WINDOW.contains(weighted.m)
    right = weighted.x[inside, 0] > 0
    data = weighted.select(inside)
    score = fitted(weighted, steps=200, window_steps=150).score(data)
    assert abs(score[right].mean() - score[~right].mean()) < 0.35
    # of the window alone: weights 3 and 1 change the density by 3/2 and 1/2
    score = fitted(weighted, known=TrueBackground(), window_steps=150).score(data)
    step = np.median(score[right]) - np.median(score[~right])
    assert step == pytest.approx(np.log(3), abs=0.3)


@pytest.fixture(scope="module")
def plain():
    events = make_events(3000)
    some = events.select(np.arange(len(events)) % 10 == 0)
    method = fitted(events, steps=15, window_steps=15)
    scores = method.score(some)
    again = fitted(events, steps=15, window_steps=15, known=method.density)
    assert np.array_equal(again.score(some), scores)
    return events, some, method.density, scores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", "maf"),
        ("background", "shared"),
        ("steps", 20),
        ("batch_size", 128),
        ("sideband_gev", 250.0),
        ("window_density", "spline-coupling"),
        ("window_steps", 25),
        ("window_batch_size", 128),
        ("members", 1),
    ],
)
def test_every_option_changes_the_score(plain, name, value):
    events, some, density, before = plain
    # another density in the window needs no other one beside it
    known = density if name.startswith("window") else None
    after = fitted(events, **{"steps": 15, "window_steps": 15} | {name: value}, known=known).score(some)
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


def test_too_few_events_and_unknown_options_are_explained():
    events = make_events(3000)
    with pytest.raises(InputError, match="signal region"):
        fitted(events, min_events=1000)
    high = events.select(events.m > WINDOW.low)
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        Anode().check(high, WINDOW, np.ones((1, len(high)), dtype=bool))
    with pytest.raises(ValidationError):
        AnodeConfig(window_density="histogram")
