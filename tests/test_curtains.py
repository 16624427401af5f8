"""CURTAINs on made-up events whose correlation turns with the mass: the template is background, the signal found."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.curtains import Curtains, CurtainsConfig

WINDOW = Window(1400.0, 1600.0)
FAST = {"steps": 2, "transport_steps": 2, "batch_size": 32, "members": 1, "oversample": 1.0}


def correlation(m: np.ndarray | float) -> np.ndarray:
    """From -0.5 at 1070 GeV to 0.5 at 2100 GeV."""
    return 0.5 * np.sin(np.clip(4.6 * np.log(np.asarray(m) / 1500), -np.pi / 2, np.pi / 2))


def make_events(n: int = 8_000, n_signal: int = 0, seed: int = 0, weight: str | None = None) -> Events:
    """Features shift and widen with the mass, and their correlation turns; signal in a corner."""
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 2.2**-2)) ** -0.5
    t = np.log(m / 1500)
    rho = correlation(m)
    x = rng.normal(size=(n, 2))
    x[:, 1] = rho * x[:, 0] + np.sqrt(1 - rho**2) * x[:, 1]
    heavy = np.concatenate([x[:, 0] > 0, np.ones(n_signal, dtype=bool)])
    x = x * np.exp(0.5 * t)[:, None] + 4.0 * t[:, None]
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = np.concatenate([x, rng.normal([2.0, -2.0], 0.2, (n_signal, 2))])
    truth = np.repeat([0, 1], [n, n_signal])
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": truth, "w": np.where(heavy, 3.0, 1.0)}
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight=weight)


def fitted(events: Events, splits: np.ndarray | None = None, seed: int = 0, **options: object) -> Curtains:
    options = FAST | options
    if options.get("loss") == "sinkhorn":
        del options["steps"]
    return Curtains(CurtainsConfig(**options), seed=seed).fit(events.without_label(), WINDOW, splits)


def two_sample_auc(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """AUC of trees between two samples, trained on one half and tested on the other."""
    x, y = np.concatenate([first, second]), np.repeat([1, 0], [len(first), len(second)])
    w = np.concatenate([np.full(len(first), weights.sum() / len(first)), weights])
    half = np.random.default_rng(0).random(len(x)) < 0.5
    trees = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=12, min_samples_leaf=100)
    trees.fit(x[half], y[half], w[half])
    return float(roc_auc_score(y[~half], trees.decision_function(x[~half]), sample_weight=w[~half]))


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(n_signal=60)


@pytest.fixture(scope="module")
def halves(events: Events) -> np.ndarray:
    first = np.arange(len(events)) % 2 == 0
    return np.stack([first, ~first])


@pytest.fixture(scope="module", params=["likelihood", "sinkhorn"])
def method(request: pytest.FixtureRequest, events: Events, halves: np.ndarray) -> Curtains:
    size = {"likelihood": 256, "sinkhorn": 512}[request.param]
    options = {"loss": request.param, "batch_size": size, "oversample": 4.0, "members": 4}
    return fitted(events, halves, steps=150, transport_steps=180, **options)


def test_template_is_background_where_untransported_strips_are_not(method):
    real = make_events(60_000, seed=9)
    expected = real.x[WINDOW.contains(real.m)]
    strips = real.x[((real.m >= 1200) & (real.m < 1400)) | ((real.m >= 1600) & (real.m < 1800))]
    untouched = two_sample_auc(expected, strips, np.ones(len(strips)))
    assert untouched > 0.6
    for model in (0, 1):
        template = method.template(model)
        closed = two_sample_auc(expected, template.x, template.weights)
        assert closed < 0.54


def test_events_that_no_model_saw_are_ranked_signal_first(events, halves, method):
    for model in (0, 1):
        test = events.select(halves[1 - model] & WINDOW.contains(events.m))
        assert roc_auc_score(test.labels, method.score(test, model)) > 0.9


def test_predicted_background_follows_the_mass_and_its_correlation(method):
    rng = np.random.default_rng(0)
    for mass in (1220.0, 1500.0, 1780.0):
        t = np.log(mass / 1500)
        x = method.predict_background(np.full(4000, mass), 0, rng)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(0), 4 * t, atol=0.2)
        np.testing.assert_allclose(x.std(0), np.exp(0.5 * t), atol=0.15)
        slack = {"likelihood": 0.2, "sinkhorn": 0.3}[method.config.loss]
        assert np.corrcoef(x.T)[0, 1] == pytest.approx(correlation(mass), abs=slack)


def test_weights_are_carried_with_their_events(halves):
    weighted = make_events(weight="w")
    splits = halves[:, : len(weighted)]
    method = fitted(weighted, splits, loss="sinkhorn", transport_steps=1, oversample=4.0)
    strips = ((weighted.m >= 1200) & (weighted.m < 1400)) | ((weighted.m >= 1600) & (weighted.m < 1800))
    for k in (0, 1):
        template = method.template(k)
        inside = splits[k] & WINDOW.contains(weighted.m)
        assert template.weights.sum() == pytest.approx(weighted.weights[inside].sum())
        # 3 : 1 within a strip, whatever its share
        assert len(np.unique(template.weights.round(9))) == 4
        low, high = np.sort(np.unique(template.weights.round(9)))[[0, -1]]
        assert high > 2.9 * low
        # without weights it would be a half
        expected = np.average(weighted.x[inside, 0] > 0, weights=weighted.weights[inside])
        assert expected > 0.68
        assert np.average(template.x[:, 0] > 0, weights=template.weights) == pytest.approx(expected, abs=0.09)
        assert np.count_nonzero(splits[k] & strips) == len(method._strips[k].z)
    zero = np.where(weighted["w"] > 1, 0.0, 1.0)
    half = Events({**weighted.columns, "w": zero}, mass="m", features=("a", "b"), weight="w")
    assert fitted(half, loss="sinkhorn").template().x[:, 0].mean() < -0.4


def test_a_model_depends_on_the_events_of_its_split_only(events, halves):
    changed = {name: events[name].copy() for name in events.columns}
    changed["a"][halves[1]] += 1.0
    other = Events(changed, mass="m", features=("a", "b"))
    first, second = fitted(events, halves), fitted(other, halves)
    assert np.array_equal(first.score(events, 0), second.score(events, 0))
    assert np.array_equal(first.template(0).x, second.template(0).x)
    assert not np.array_equal(first.score(events, 1), second.score(events, 1))


def test_same_seed_same_scores_and_another_seed_others(events):
    scores = [fitted(events, seed=seed).score(events) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "sinkhorn"),
        ("density", "maf"),
        ("steps", 4),
        ("batch_size", 64),
        ("sideband_gev", 150.0),
        ("strip_width", 0.5),
        ("transport_steps", 60),
        ("spectrum", "exppoly:4"),
        ("spectrum_range", 1.0),
        ("oversample", 2.0),
        ("classifier", "network"),
        ("members", 2),
    ],
)
def test_every_option_changes_the_score(name, value):
    events = make_events(3000)
    before, after = (fitted(events, **extra).score(events) for extra in ({}, {name: value}))
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


def test_density_is_asked_for_once_and_taken_if_given():
    likelihood, sinkhorn = (Curtains(CurtainsConfig(loss=loss)) for loss in ("likelihood", "sinkhorn"))
    assert sinkhorn.background_request(WINDOW) is None
    request = likelihood.background_request(WINDOW)
    assert (request.density, request.outside) == ("spline", WINDOW)
    events = make_events(2000)
    own = fitted(events)
    given = Curtains(CurtainsConfig(**FAST), background=own.density).fit(events.without_label(), WINDOW)
    assert given.density is own.density
    assert np.array_equal(given.template().x, own.template().x)


def test_too_few_events_and_wrong_options_are_explained():
    events = make_events(2000)
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        fitted(events.select(events.m > WINDOW.low))
    with pytest.raises(InputError, match="upper sideband of the window 1400-1600 GeV"):
        Curtains().check(
            events.select(events.m < 1600), WINDOW, np.ones((1, int((events.m < 1600).sum())), bool)
        )
    with pytest.raises(ValidationError):
        CurtainsConfig(density="flow-matching")


def test_options_that_would_do_nothing_are_refused():
    with pytest.raises(ValidationError, match="leave steps away"):
        CurtainsConfig(loss="sinkhorn", steps=50)
    with pytest.raises(ValidationError, match="leave density away"):
        CurtainsConfig(loss="sinkhorn", density="maf")
    with pytest.raises(ValidationError, match="background"):
        CurtainsConfig(background="shared")
    assert CurtainsConfig(**CurtainsConfig(loss="sinkhorn").model_dump()).loss == "sinkhorn"
