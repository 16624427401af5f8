from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig
from serendip.methods.cwola import Cwola, CwolaConfig
from serendip.methods.figures_of_merit import (
    max_sic,
    sic_at,
    sic_curve,
    smallest_strength,
)
from serendip.methods.idealised import Idealised, IdealisedConfig
from serendip.methods.registry import METHODS, get_method
from serendip.methods.supervised import Supervised, SupervisedConfig
from serendip.statistics.pvalues import asimov_z
from serendip.statistics.ranks import fraction_kept

WINDOW = Window(3300.0, 3700.0)


def events_with_blob(n_background=12_000, n_signal=150, *, seed=0, weight=None):
    """Falling spectrum with features independent of the mass, and a narrow blob at 3500 GeV."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_background + n_signal) >= n_background
    rng.shuffle(label)
    m = np.where(label, rng.normal(3500, 60, len(label)), 2500 + rng.exponential(900, len(label)))
    x = np.where(label[:, None], rng.normal(2.0, 0.3, (len(label), 2)), rng.normal(size=(len(label), 2)))
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "label": label.astype(float)}
    if weight is not None:
        columns["w"] = weight(rng, m)
    return Events(
        columns, mass="m", features=("a", "b"), label="label", weight=None if weight is None else "w"
    )


def halves(n, seed=1):
    first = np.random.default_rng(seed).random(n) < 0.5
    return np.stack([first, ~first])


def held_out(method, events, splits):
    """Scores of the window's events, and their labels, from the model that did not see them."""
    out, truth = [], []
    for k, seen in enumerate(splits):
        test = events.select(~seen & WINDOW.contains(events.m))
        out.append(method.score(test, k))
        truth.append(test.labels)
    return np.concatenate(out), np.concatenate(truth)


# CWoLa


@pytest.mark.parametrize(
    "weight", [None, lambda rng, m: rng.uniform(0.2, 3, len(m))], ids=["unweighted", "weighted"]
)
def test_each_strip_counts_half_of_the_signal_region(weight):
    events = events_with_blob(weight=weight)
    splits = halves(len(events))
    splits[1] &= np.random.default_rng(2).random(len(events)) < 0.6
    method = Cwola(CwolaConfig(members=1)).fit(events.without_label(), WINDOW, splits)
    for k, seen in enumerate(splits):
        in_window = events.weights[seen & WINDOW.contains(events.m)].sum()
        for low, high in ((2900, 3300), (3700, 4100)):
            strip = seen & (events.m >= low) & (events.m < high)
            template = method.template(k)
            # the strip of a template event is known from its features
            rows = np.isin(template.x[:, 0], events.x[strip, 0])
            assert rows.sum() == strip.sum()
            assert template.weights[rows].sum() == pytest.approx(in_window / 2, rel=1e-9)
            given = events.weights[strip] / events.weights[strip].sum()
            np.testing.assert_allclose(template.weights[rows], given * in_window / 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("config", "edges"),
    [
        ({}, (2900, 4100)),
        ({"strip_width": 0.25}, (3200, 3800)),
        ({"strip_width_gev": 50}, (3250, 3750)),
        ({"strip_width_gev": 50, "strip_width": 2}, (3250, 3750)),
    ],
)
def test_strips_lie_beside_the_window(config, edges):
    lower, upper = Cwola(CwolaConfig(**config)).strips(WINDOW)
    assert (lower.low, lower.high, upper.low, upper.high) == (edges[0], 3300, 3700, edges[1])


def test_cwola_finds_a_blob():
    events = events_with_blob()
    splits = halves(len(events))
    method = Cwola(CwolaConfig(members=3), seed=1).fit(events.without_label(), WINDOW, splits)
    scores, labels = held_out(method, events, splits)
    assert roc_auc_score(labels, scores) > 0.85
    # S/sqrt(B) of 3.5 before the cut; the blob covers 0.1 % of the background
    assert sic_at(sic_curve(labels, scores, min_background=5), 0.01).sic > 5


def test_cwola_makes_no_signal_of_background():
    """Without a signal the cut that keeps 10 % of held-out strips keeps 10 % of the held-out window."""
    events = events_with_blob(20_000, 0, seed=3)
    splits = halves(len(events))
    method = Cwola(CwolaConfig(members=2), seed=1).fit(events, WINDOW, splits)
    kept = total = 0
    for k, seen in enumerate(splits):
        strips = ~seen & np.any([strip.contains(events.m) for strip in method.strips(WINDOW)], axis=0)
        threshold = np.quantile(method.score(events.select(strips), k), 0.9)
        scores = method.score(events.select(~seen & WINDOW.contains(events.m)), k)
        kept, total = kept + int((scores > threshold).sum()), total + len(scores)
    # both the threshold and the count fluctuate
    assert kept / total == pytest.approx(0.1, abs=4 * np.sqrt(2 * 0.1 * 0.9 / total))


def test_event_weights_change_what_cwola_learns():
    """Background thinned to one half by weights in half of feature space, in the window only."""
    events = events_with_blob(8000, 0, seed=4, weight=lambda rng, m: np.ones(len(m)))
    columns = dict(events.columns)
    columns["w"] = np.where(WINDOW.contains(events.m) & (events["a"] < 0), 0.5, 1.0)
    weighted = Events(columns, mass="m", features=("a", "b"), weight="w")
    plain = Cwola(CwolaConfig(members=3)).fit(events.without_label(), WINDOW)
    method = Cwola(CwolaConfig(members=3)).fit(weighted, WINDOW)
    high, low = events.select(events["a"] > 0.3), events.select(events["a"] < -0.3)
    assert method.score(high).mean() - method.score(low).mean() == pytest.approx(np.log(2), abs=0.2)
    assert plain.score(high).mean() - plain.score(low).mean() == pytest.approx(0.0, abs=0.2)


def test_a_strip_beyond_the_spectrum_is_named():
    events = events_with_blob(3000, 0)
    with pytest.raises(
        InputError, match=r"0 in the lower strip \(2200-2500 GeV\) of the window 2500-2800 GeV"
    ):
        Cwola().fit(events, Window(2500.0, 2800.0))
    top = float(events.m.max())
    with pytest.raises(InputError, match="in the upper strip"):
        Cwola(CwolaConfig(strip_width=0.5)).fit(events, Window(4000.0, top + 1))
    with pytest.raises(InputError, match="reach down to zero mass"):
        Cwola(CwolaConfig(strip_width_gev=3300)).fit(events, WINDOW)


def test_cwola_with_networks_and_with_any_estimator():
    events = events_with_blob(1500, 0, seed=5)
    network = Cwola(CwolaConfig(classifier="network", members=1)).fit(events, WINDOW)
    assert np.isfinite(network.score(events)).all()

    class Linear(Cwola):
        def classifier(self):
            return LogisticRegression()

    linear = Linear().fit(events, WINDOW)
    x = events.x
    direction = np.linalg.lstsq(np.c_[x, np.ones(len(x))], linear.score(events), rcond=None)[0]
    np.testing.assert_allclose(linear.score(events), np.c_[x, np.ones(len(x))] @ direction, atol=1e-5)


@pytest.mark.parametrize("config", [CwolaConfig, SupervisedConfig, IdealisedConfig])
def test_unknown_options_are_errors(config):
    with pytest.raises(ValidationError):
        config(strip_widht=0.5)


# All methods


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Cwola(CwolaConfig(members=2), seed=seed),
        lambda seed: Supervised(SupervisedConfig(members=2), seed=seed),
        lambda seed: Idealised(IdealisedConfig(members=2), seed=seed),
    ],
    ids=["cwola", "supervised", "idealised"],
)
def test_seeds_and_splits(make):
    events = events_with_blob(6000, 300, seed=6)
    splits = halves(len(events))
    method = make(1).fit(events, WINDOW, splits)
    np.testing.assert_array_equal(
        make(1).fit(events, WINDOW, splits).score(events, 1), method.score(events, 1)
    )
    assert np.abs(make(2).fit(events, WINDOW, splits).score(events, 1) - method.score(events, 1)).max() > 1e-3
    outside = ~splits[0]
    columns = {name: np.where(outside, values[::-1], values) for name, values in events.columns.items()}
    columns["m"] = events.m
    swapped = Events(columns, mass="m", features=("a", "b"), label="label")
    other = make(1).fit(swapped, WINDOW, splits)
    np.testing.assert_array_equal(other.score(events, 0), method.score(events, 0))
    assert np.abs(other.score(events, 1) - method.score(events, 1)).max() > 1e-3
    assert method.score(events.select(slice(0, 7)), 0).shape == (7,)


@pytest.mark.parametrize("method", [Supervised, Idealised])
def test_references_need_labels(method):
    assert method.uses_labels
    events = events_with_blob(2000, 100)
    with pytest.raises(InputError, match="no truth label"):
        method().fit(events.without_label(), WINDOW)


def test_idealised_never_compares_an_event_with_itself():
    """Without signal, data and template are the same thing: held-in scores must not separate them."""
    events = events_with_blob(8000, 0, seed=7)
    splits = halves(len(events))
    method = Idealised(IdealisedConfig(members=4)).fit(events, WINDOW, splits)
    assert len(method.template(0).x) == int((splits[0] & WINDOW.contains(events.m)).sum())
    masks = method.drawn
    n = masks.shape[1] // 2
    assert not (masks[:, :n] & masks[:, n:]).any()
    assert (masks[:4].any(axis=0)[:n] | masks[:4].any(axis=0)[n:]).sum() == len(method.template(0).x)


def test_labels_help_and_a_perfect_template_beats_none():
    """Few signal events: supervised above idealised above chance, on events that no model saw."""
    figures = {"supervised": [], "idealised": []}
    for seed in range(3):
        events = events_with_blob(16_000, 60, seed=10 + seed)
        test = events_with_blob(20_000, 2000, seed=20 + seed)
        test = test.select(WINDOW.contains(test.m))
        for method in (
            Supervised(SupervisedConfig(members=4), seed=seed),
            Idealised(IdealisedConfig(members=4), seed=seed),
        ):
            scores = method.fit(events, WINDOW).score(test)
            figures[method.name].append(sic_at(sic_curve(test.labels, scores), 0.02).sic)
    assert np.mean(figures["supervised"]) > np.mean(figures["idealised"]) > 2


def test_supervised_classes_weigh_the_same():
    events = events_with_blob(12_000, 300, seed=8, weight=lambda rng, m: rng.uniform(0.5, 2, len(m)))
    method = Supervised(SupervisedConfig(members=5)).fit(events, WINDOW)
    template = method.template()
    background = WINDOW.contains(events.m) & ~events.labels
    np.testing.assert_array_equal(template.x, events.x[background])
    given = events.weights[background]
    np.testing.assert_allclose(template.weights / template.weights.sum(), given / given.sum())
    # classes that look the same: odds near even (and not ln 1/19 = -2.9), although one in twenty is signal
    alike = events_with_blob(12_000, 0, seed=9)
    columns = dict(alike.columns) | {"label": (np.arange(12_000) % 20 == 0).astype(float)}
    alike = Events(columns, mass="m", features=("a", "b"), label="label")
    odds = Supervised(SupervisedConfig(members=5)).fit(alike, WINDOW).score(alike)
    assert np.median(odds) == pytest.approx(0.0, abs=1.2)


# Registry


def test_methods_by_name():
    assert get_method("cwola") is Cwola
    assert get_method("supervised") is Supervised
    assert get_method("idealised") is Idealised
    with pytest.raises(
        InputError, match=r"unknown method 'cwolla'; did you mean 'cwola'\?.*available: .*cathode, .*cwola"
    ):
        get_method("cwolla")
    with pytest.raises(InputError, match="unknown method 'zzz' "):
        get_method("zzz")


def test_every_built_in_method_keeps_the_contract():
    assert {"cathode", "cwola", "idealised", "lacathode", "supervised"} <= set(METHODS)
    assert list(METHODS.built_in) == sorted(METHODS.built_in)
    for name in METHODS.built_in:
        method = get_method(name)
        assert issubclass(method, Method)
        assert method.name == name
        assert method.title
        assert method.uses_labels == (name in {"idealised", "supervised"})


# Figures of merit


def test_sic_of_a_hand_made_sample():
    # threshold: 5 | 4 | 3 | 2; two events tied at 4
    scores = [5, 4, 4, 3, 2, 2]
    labels = [1, 1, 0, 0, 1, 0]
    curve = sic_curve(labels, scores, min_background=0)
    np.testing.assert_array_equal(curve.threshold, [5, 4, 3, 2])
    np.testing.assert_allclose(curve.eps_s, [1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.eps_b, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.sic, [0, 2 / np.sqrt(3), np.sqrt(2 / 3), 1])
    assert np.isinf(curve.error[0])
    # (sigma / SIC)^2 = (1 - 2/3) / (3 * 2/3) + (1 - 1/3) / (4 * 3 * 1/3) = 1/3
    assert curve.error[1] == pytest.approx(curve.sic[1] / np.sqrt(3))
    assert curve.error[-1] == 0
    np.testing.assert_array_equal(curve.background, [0, 1, 2, 3])
    assert sic_curve(labels, scores, min_background=2).threshold[0] == 3
    best = max_sic(curve)
    assert (best.threshold, best.background) == (4, 1)
    assert sic_at(curve, 0.34).threshold == 4
    assert sic_at(curve, 1 / 3).threshold == 4
    assert sic_at(curve, 0.32).eps_b == 0


def test_ties_are_kept_or_rejected_together():
    """A constant score improves nothing, whatever the order of the events."""
    labels = np.r_[np.ones(50), np.zeros(500)]
    curve = sic_curve(labels, np.zeros(550))
    assert (curve.sic, curve.eps_b) == (pytest.approx([1.0]), pytest.approx([1.0]))
    with pytest.raises(InputError, match=r"background efficiency of 0\.01 or less"):
        sic_at(curve, 0.01)


def test_sic_errors_are_the_spread_between_samples():
    rng = np.random.default_rng(30)
    labels = np.r_[np.ones(300, bool), np.zeros(4000, bool)]
    points = [
        sic_at(sic_curve(labels, np.r_[rng.normal(1.5, 1, 300), rng.normal(0, 1, 4000)]), 0.5)
        for _ in range(200)
    ]
    fixed = []
    for _ in range(400):
        scores = np.r_[rng.normal(1.5, 1, 300), rng.normal(0, 1, 4000)]
        curve = sic_curve(labels, scores)
        row = np.flatnonzero(curve.threshold >= 2.0)[-1]
        fixed.append((curve.sic[row], curve.error[row]))
    values, errors = np.transpose(fixed)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.15)
    assert np.mean([p.sic for p in points]) == pytest.approx(0.9332 / np.sqrt(0.5), rel=0.01)


def test_smallest_strength_of_a_curve_in_closed_form():
    # signal efficiency eps^0.48: the SIC eps^-0.02 rises without end, while few events of background make 5 sigma dear
    n, power = 100_000, 0.48
    place = (np.arange(n) + 0.5) / n
    labels = np.repeat([True, False], n)
    scores = -np.concatenate([place ** (1 / power), place])
    curve = sic_curve(labels, scores, min_background=26)

    def strength(b: float) -> float:
        signal = optimize.brentq(lambda s: float(asimov_z(s, b)) - 5.0, 1.0, 1e5)
        return signal / ((b / n) ** power * np.sqrt(n))

    best = optimize.minimize_scalar(strength, bounds=(26, 5000), method="bounded")
    assert 300 < best.x < 500
    found, cut = smallest_strength(curve)
    assert found == pytest.approx(best.fun, rel=2e-3)
    assert cut.background == pytest.approx(best.x, rel=0.5)
    assert max_sic(curve).background == 26
    # where much background is left it is 5 / SIC, and with less data more is needed
    assert smallest_strength(curve, 1e9)[0] == pytest.approx(5 / max_sic(curve).sic, rel=0.01)
    assert smallest_strength(curve, n / 10)[0] > 1.04 * found
    assert smallest_strength(curve, z=3.0)[0] < 0.62 * found
    with pytest.raises(InputError, match="no threshold"):
        smallest_strength(sic_curve([1, 0], [2.0, 1.0]))


def test_smallest_strength_of_weighted_events():
    # the cut keeps 50 heavy events of background and half of the signal; all counts are in units of their weight
    weights = np.concatenate([np.ones(100), np.full(50, 2.0), np.ones(5000)])
    labels = np.arange(5150) < 100
    scores = np.concatenate([np.ones(50), np.zeros(50), np.ones(50), np.zeros(5000)])
    found, cut = smallest_strength(sic_curve(labels, scores, weights, min_background=26))
    assert (cut.eps_s, cut.background) == pytest.approx((0.5, 50.0))
    signal = optimize.brentq(lambda s: float(asimov_z(s, 50.0)) - 5.0, 1.0, 1e3)
    # S/sqrt(B) counts the squares of the weights: 50 events of 2, 5000 of 1
    assert found == pytest.approx(2.0 * signal / 0.5 / np.sqrt(5200), rel=1e-3)
    same = smallest_strength(sic_curve(labels, scores, 3.0 * weights, min_background=26))[0]
    assert same == pytest.approx(found, rel=1e-9)


def test_weights_of_the_sic():
    rng = np.random.default_rng(31)
    scores, labels = rng.normal(size=2000), rng.random(2000) < 0.3
    copies = rng.integers(0, 3, 2000)
    weighted = sic_curve(labels, scores, copies, min_background=0)
    repeated = sic_curve(np.repeat(labels, copies), np.repeat(scores, copies), min_background=0)
    at = np.searchsorted(-weighted.threshold, -repeated.threshold)
    np.testing.assert_allclose(weighted.sic[at], repeated.sic, rtol=1e-9)
    double = sic_curve(labels, scores, 2.0 * np.ones(2000))
    plain = sic_curve(labels, scores)
    np.testing.assert_allclose(double.background, plain.background)
    np.testing.assert_allclose(double.error, plain.error)


def test_sic_refuses_what_it_cannot_use():
    with pytest.raises(InputError, match="score of event 1 is not finite"):
        sic_curve([1, 0, 0], [1.0, np.nan, 2.0])
    with pytest.raises(InputError, match="signal and background"):
        sic_curve([0, 0], [1.0, 2.0])
    with pytest.raises(InputError, match="enough background"):
        max_sic(sic_curve([0, 1], [1.0, 2.0]))


def test_background_efficiency_counts_the_reference_above():
    np.testing.assert_allclose(fraction_kept([0.5, 2.0, 9.0], [1, 2, 3]), [1.0, 3 / 4, 1 / 4])


def test_a_method_without_a_score_cannot_be_made():
    class Silent(Method):
        name = "silent"

        def fit(self, events, window, splits=None):
            return self

    with pytest.raises(TypeError, match="score"):
        Silent(MethodConfig())


@pytest.mark.parametrize("name", ["cwola", "cathode", "supervised", "idealised"])
def test_held_back_part_reaches_the_classifier(name):
    method = get_method(name)
    assert method(method.Config(validation_fraction=0.2)).classifier().validation_fraction == 0.2
    network = method(method.Config(validation_fraction=0.3, classifier="network")).classifier()
    assert network.validation_fraction == 0.3
    assert method().classifier().validation_fraction == 0.5


def test_nested_validation_has_no_held_back_part():
    with pytest.raises(ValueError, match="is used with validation 'random'"):
        CwolaConfig(validation="nested", validation_fraction=0.2)
