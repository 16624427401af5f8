"""ARGOS: its identity with SIC, its error, ties, weights, and the models that it selects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from serendip.classify import NetworkEnsemble, build_classifier
from serendip.classify.boosting import boost
from serendip.classify.rounds import minus_argos
from serendip.errors import InputError
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.methods.cwola import Cwola, CwolaConfig
from serendip.methods.figures_of_merit import argos, max_sic, sic_curve


def blobs(n_data, n_template, fraction, rng, shift=2.0):
    """Scores of data (``fraction`` of them signal, shifted) and of a perfect template; best first."""
    signal = np.arange(n_data) < round(fraction * n_data)
    scores = np.concatenate([rng.normal(size=n_data) + shift * signal, rng.normal(size=n_template)])
    is_data = np.arange(n_data + n_template) < n_data
    return is_data, scores, np.concatenate([signal, np.zeros(n_template, bool)])


@pytest.mark.parametrize("fraction", [0.02, 0.2])
def test_perfect_template_gives_f_times_sic_minus_root_background_efficiency(fraction):
    # quantiles instead of random numbers: the template is then the background of the data, exactly
    n_s = 40_000
    n_b = round(n_s * (1 - fraction) / fraction)
    signal, background = norm.ppf((np.arange(n_s) + 0.5) / n_s, 2), norm.ppf((np.arange(n_b) + 0.5) / n_b)
    scores = np.concatenate([signal, background, background])
    is_data = np.repeat([True, True, False], [n_s, n_b, n_b])
    found = argos(is_data, scores)
    labels = np.repeat([True, False], [n_s, n_b])
    curve = sic_curve(labels, scores[: n_s + n_b], min_background=20)
    expected = fraction * (curve.sic - np.sqrt(curve.eps_b))
    assert found.value == pytest.approx(expected.max(), rel=1e-4)
    best = max_sic(curve)
    assert found.value <= fraction * best.sic
    assert found.eps_template == pytest.approx(curve.eps_b[np.argmax(expected)], rel=1e-2)


def test_error_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(1)
    threshold, values, errors = 1.5, [], []
    for _ in range(600):
        is_data, scores, _ = blobs(2000, 3000, 0.05, rng)
        point = argos(is_data, (scores >= threshold).astype(float))
        values.append(point.value)
        errors.append(point.error)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.1)
    e_b, e_s = norm.sf(1.5), norm.sf(-0.5)
    assert np.mean(values) == pytest.approx(
        0.05 * (e_s / np.sqrt(e_b) - np.sqrt(e_b)), abs=4 * np.std(values) / np.sqrt(600)
    )


def test_without_signal_the_maximum_is_one_and_a_half_errors():
    rng = np.random.default_rng(2)
    is_data = np.arange(3900) < 1300
    points = [argos(is_data, rng.random(3900)) for _ in range(200)]
    assert np.median([point.value / point.error for point in points]) == pytest.approx(1.5, abs=0.25)
    assert np.quantile([point.value / point.error for point in points], 0.95) < 3.2


def test_ties_are_kept_together_and_order_does_not_matter():
    is_data = np.array([True] * 30 + [False] * 30)
    assert argos(is_data, np.zeros(60)).value == 0.0
    scores = np.where(is_data, 1.0, 0.0)
    scores[30:50] = 1.0  # 30 data and 20 template events at one score
    point = argos(is_data, scores)
    assert (point.eps_data, point.template) == (1.0, 20.0)
    assert point.eps_template == pytest.approx(2 / 3)
    assert argos(is_data[::-1], scores[::-1]) == point


def test_minimum_number_of_template_events_is_effective():
    is_data = np.repeat([True, False], [100, 100])
    scores = np.concatenate([np.full(100, 2.0), np.linspace(0, 1, 100)])
    assert argos(is_data, scores).template == 20
    assert argos(is_data, scores, min_template=5).template == 5
    heavy = np.where(np.arange(200) == 199, 5.0, 1.0)  # the first template event in the tail
    # (5 + 28)^2 / (25 + 28) is the first effective number above 20
    assert argos(is_data, scores, heavy).eps_template == pytest.approx(33 / 104)
    with pytest.raises(InputError, match="20 template events passing its cut, there are 10 in total"):
        argos(is_data[:110], scores[:110])


def test_weight_two_is_two_events_and_scale_does_not_matter():
    rng = np.random.default_rng(3)
    is_data, scores, _ = blobs(400, 400, 0.2, rng)
    double = rng.random(800) < 0.3
    weighted = argos(is_data, scores, np.where(double, 2.0, 1.0), min_template=0)
    repeated = np.concatenate([np.arange(800), np.flatnonzero(double)])
    assert argos(is_data[repeated], scores[repeated], min_template=0).value == pytest.approx(weighted.value)
    scaled = argos(is_data, scores, np.where(double, 2.0, 1.0) * np.where(is_data, 7.0, 0.1), min_template=0)
    assert scaled.value == pytest.approx(weighted.value)


@pytest.mark.parametrize(
    ("scores", "is_data", "message"),
    [([0.0, np.nan], [1, 0], "event 1 is not finite"), ([0.0, 1.0], [1, 1], "needs data and template")],
)
def test_unusable_input_is_told(scores, is_data, message):
    with pytest.raises(InputError, match=message):
        argos(is_data, scores)


# selection by ARGOS


def mixture(n, rng, fraction=0.03):
    """Template (class 0) and data (class 1), of which a part is a narrow blob."""
    y = np.arange(n) % 2
    signal = (y == 1) & (rng.random(n) < fraction)
    return np.where(signal[:, None], rng.normal(2.0, 0.2, (n, 3)), rng.normal(size=(n, 3))), y, signal


def test_number_of_trees_is_that_of_the_largest_argos():
    rng = np.random.default_rng(0)
    x, y, _ = mixture(4000, rng)
    w = rng.uniform(0.5, 2.0, 4000)
    options = {"learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 20}
    model = boost(options, x, y, w, max_iter=60, validation_fraction=0.5, patience=15, seed=7)
    training, held = train_test_split(np.arange(4000), test_size=0.5, stratify=y, random_state=7)
    full = HistGradientBoostingClassifier(**options, max_iter=60, early_stopping=False, random_state=7)
    full.fit(x[training], y[training], w[training])
    values = [argos(y[held] == 1, s, w[held]).value for s in full.staged_decision_function(x[held])]
    kept = model.n_iter_
    assert 1 < kept < 60
    assert values[kept - 1] == max(values[: kept + 15])
    np.testing.assert_array_equal(
        model.decision_function(x), list(full.staged_decision_function(x))[kept - 1]
    )


def test_argos_of_networks_is_that_of_events():
    rng = np.random.default_rng(2)
    logits = np.round(rng.normal(size=(3, 600)), 1)
    data, w = rng.random((3, 600)) < 0.4, rng.uniform(0.5, 2.0, (3, 600))
    w[1, 200:500] = 0.0
    tensors = (torch.as_tensor(a, dtype=torch.float32) for a in (logits, data, w))
    costs = minus_argos(*tensors).numpy()
    for cost, s, d, weights in zip(costs, logits, data, w, strict=True):
        used = weights > 0
        assert -cost == pytest.approx(argos(d[used], s[used], weights[used]).value, rel=1e-5)
    assert torch.isnan(
        minus_argos(torch.tensor([[np.nan, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2))
    )


@pytest.mark.parametrize("name", ["trees", "network"])
def test_selection_changes_the_classifier_and_its_value_on_held_back_events(name):
    rng = np.random.default_rng(4)
    x, y, _ = mixture(3000, rng, 0.02)
    fitted = {}
    for by in ("loss", "argos"):
        model = build_classifier(name, members=2, seed=1, select_by=by)
        if name == "network":
            model.set_params(hidden=(16,), max_rounds=12, best_rounds=1, learning_rate=0.01)
        fitted[by] = model.fit(x, y)
    assert np.abs(fitted["loss"].predict_proba(x) - fitted["argos"].predict_proba(x)).max() > 1e-3
    with pytest.raises(ValueError, match="loss or argos is expected"):
        fitted["loss"].set_params(select_by="auc").fit(x, y)


def test_networks_keep_the_rounds_of_the_largest_argos():
    rng = np.random.default_rng(5)
    x, y, _ = mixture(3000, rng, 0.05)
    judged = np.arange(3000) % 4 >= 2
    options = {
        "members": 1,
        "hidden": (16,),
        "max_rounds": 10,
        "patience": 10,
        "best_rounds": 1,
        "random_state": 1,
    }
    reached = {}
    for by in ("loss", "argos"):
        (model,) = NetworkEnsemble(**options, select_by=by).fit_splits(
            x, y, None, ~judged[None], validation=judged[None]
        )
        score = model.predict_proba(x[judged])[:, 1]
        reached[by] = argos(y[judged] == 1, score).value, log_loss(y[judged], score)
    assert reached["argos"][0] > reached["loss"][0]
    assert reached["argos"][1] > reached["loss"][1]


@pytest.mark.parametrize(
    "method", [Cwola(CwolaConfig(select_by="argos")), Cathode(CathodeConfig(select_by="argos"))]
)
def test_option_of_a_method_reaches_its_classifier(method):
    assert method.classifier().select_by == "argos"
    assert type(method)().classifier().select_by == "loss"
