"""Classifier between two samples: AUC, permutation null, rankings of features, and where the samples differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, make_columns
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB

from serendip.classify import NetworkEnsemble, TreeEnsemble
from serendip.errors import InputError
from serendip.validate import dream, importance, simulation
from serendip.validate.config import parse_validation
from serendip.validate.dream import DreamOptions, compare_samples
from serendip.validate.importance import input_derivatives, log_ratio_gradient, permutation_importance
from serendip.validate.ratio_map import find_regions, ratio_profiles
from serendip.validate.twosample import (
    FoldedAuc,
    balanced,
    bootstrap_error,
    cross_validate,
    null_error,
    permutation_test,
    stratified_folds,
)

FAST = {"folds": 2, "permutations": 9, "members": 2, "bootstraps": 20, "repeats": 1}


def two(n1: int, n0: int) -> np.ndarray:
    return np.repeat([True, False], [n1, n0])


def test_auc_is_that_of_scikit_learn_with_weights_and_ties_in_each_fold():
    rng = np.random.default_rng(0)
    y, w = two(300, 500), rng.uniform(0.1, 3, 800)
    score = np.round(rng.normal(size=800) + 0.4 * y, 1)
    fold = rng.integers(0, 3, 800)
    expected = np.mean(
        [roc_auc_score(y[fold == f], score[fold == f], sample_weight=w[fold == f]) for f in range(3)]
    )
    assert FoldedAuc(y, score, fold)(w) == pytest.approx(expected, abs=1e-12)


def test_error_without_separation_is_the_spread_of_weighted_aucs():
    rng = np.random.default_rng(1)
    y = two(80, 200)
    w = np.where(y, 1.0, rng.exponential(1.0, 280))
    fold = np.zeros(280, dtype=np.int64)
    found = [FoldedAuc(y, rng.normal(size=280), fold)(w) for _ in range(2000)]
    # a standard deviation of 2000 numbers is known to 1.6 %
    assert np.std(found) == pytest.approx(null_error(y, w), rel=0.06)
    assert np.mean(found) == pytest.approx(0.5, abs=3 * null_error(y, w) / np.sqrt(2000))


def test_bootstrap_error_is_that_of_hanley_and_mcneil():
    rng = np.random.default_rng(2)
    n, y = 400, two(400, 400)
    found = []
    for _ in range(8):
        x = rng.normal(size=(2 * n, 1)).astype(np.float32) + 0.8 * y[:, None]
        sample = cross_validate(x, y, np.ones(2 * n), GaussianNB(), 2, rng)
        found.append((sample.auc, bootstrap_error(sample, 60, rng)))
    aucs, errors = np.array(found).T
    # two Gaussians of distance d, and the closed form of the error of their AUC
    a = stats.norm.cdf(0.8 / np.sqrt(2))
    variance = a * (1 - a) + (n - 1) * (a / (2 - a) + 2 * a * a / (1 + a) - 2 * a * a)
    expected = np.sqrt(variance) / n
    assert aucs.mean() == pytest.approx(a, abs=3.5 * expected / np.sqrt(8))
    # 480 bootstraps: 3 %, and a little more than the closed form because folds are compared one by one
    assert errors.mean() == pytest.approx(expected, rel=0.12)


def test_events_are_scored_by_classifiers_that_did_not_see_them():
    # a classifier with a memory tells identical samples apart on the events that it saw
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 2)).astype(np.float32)
    y = two(300, 300)
    trees = TreeEnsemble(members=1, max_iter=60, validation_fraction=0.1, n_iter_no_change=60, random_state=0)
    sample = cross_validate(x, y, np.ones(600), trees, 3, rng)
    seen = sample.models.score(x, 0)[sample.fold != 0]
    assert roc_auc_score(y[sample.fold != 0], seen) > 0.8
    assert abs(sample.auc - 0.5) < 4 * null_error(y, np.ones(600))


def test_both_samples_get_the_same_total_weight():
    y, w = two(60, 240), np.random.default_rng(0).uniform(1, 9, 300)
    out = balanced(y, w)
    assert (out[y].sum(), out[~y].sum()) == (pytest.approx(150), pytest.approx(150))
    assert np.allclose(out[~y] / out[~y][0], w[~y] / w[~y][0])


def test_folds_have_equal_shares_of_both_samples():
    y = two(100, 37)
    fold = stratified_folds(y, 5, np.random.default_rng(0))
    assert np.bincount(fold[y]).tolist() == [20] * 5
    assert sorted(np.bincount(fold[~y])) == [7, 7, 7, 8, 8]


@pytest.mark.parametrize("weighted", [False, True])
def test_p_value_is_uniform_for_samples_of_one_distribution(weighted):
    n_sets, n = 50, 9
    p = []
    for seed in range(n_sets):
        rng = np.random.default_rng([7, seed])
        y = two(160, 60) if weighted else two(80, 80)
        x = rng.normal(size=(len(y), 2)).astype(np.float32)
        w = np.ones(len(y))
        if weighted:
            # sample 0 is drawn with a shift and weighted back to the distribution of sample 1
            x[~y, 0] += 0.5
            w[~y] = np.exp(-0.5 * x[~y, 0].astype(float) ** 2 + 0.5 * (x[~y, 0] - 0.5) ** 2)
        sample = cross_validate(x, y, w, GaussianNB(), 2, rng)
        test = permutation_test(sample, GaussianNB(), n, rng, jobs=1)
        assert test.p == (test.n_reached + 1) / (n + 1)
        p.append(test.p)
    p = np.array(p)
    # p is one of 1/10 ... 10/10 with equal probability: mean 0.55, and it must not be small too often
    assert np.mean(p) == pytest.approx(0.55, abs=3.3 * 0.29 / np.sqrt(n_sets))
    for level in (0.1, 0.2, 0.5):
        assert stats.binom.sf(np.count_nonzero(p <= level) - 1, n_sets, level) > 1e-3
        assert stats.binom.cdf(np.count_nonzero(p <= level), n_sets, level) > 1e-3


def test_without_the_weights_the_same_samples_are_told_apart():
    rng = np.random.default_rng(8)
    y = two(400, 400)
    x = rng.normal(size=(800, 2)).astype(np.float32)
    x[~y, 0] += 0.5
    w = np.where(y, 1.0, np.exp(-0.5 * x[:, 0].astype(float) ** 2 + 0.5 * (x[:, 0] - 0.5) ** 2))
    aucs = [
        cross_validate(x, y, weights, GaussianNB(), 2, np.random.default_rng(0)).auc
        for weights in (w, np.ones(800))
    ]
    assert aucs[0] == pytest.approx(0.5, abs=3 * null_error(y, w))
    assert aucs[1] == pytest.approx(stats.norm.cdf(0.5 / np.sqrt(2)), abs=0.06)


@pytest.mark.slow
def test_permutations_do_not_depend_on_the_number_of_workers():
    rng = np.random.default_rng(4)
    y = two(60, 60)
    sample = cross_validate(
        rng.normal(size=(120, 2)).astype(np.float32), y, np.ones(120), GaussianNB(), 2, rng
    )
    one, other = (
        permutation_test(sample, GaussianNB(), 11, np.random.default_rng(5), jobs=jobs) for jobs in (1, 2)
    )
    assert one.aucs.tolist() == other.aucs.tolist()
    assert len(set(one.aucs)) > 5


@pytest.fixture(scope="module")
def shifted():
    """Feature c of the second sample lies 0.5 standard deviations higher."""
    rng = np.random.default_rng(11)
    n = 2000
    first, second = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(n, 4)).astype(np.float32)
    second[:, 2] += 0.5
    return compare_samples(first, second, ("a", "b", "c", "d"), options=DreamOptions(**FAST), seed=3, jobs=1)


def test_a_shifted_feature_comes_first_in_both_rankings(shifted):
    assert shifted.auc == pytest.approx(stats.norm.cdf(0.5 / np.sqrt(2)), abs=2.5 * shifted.error)
    assert 0.008 < shifted.error < 0.02
    assert shifted.null.p == 1 / 10
    for ranking in (shifted.derivatives, shifted.importance):
        assert ranking.features[0] == "c"
        assert ranking.values[0] > 1.5 * abs(ranking.values[1])
        assert sorted(ranking.features) == ["a", "b", "c", "d"]
        assert list(ranking.values) == sorted(ranking.values, reverse=True)
    # ln p1/p0 falls with slope 0.5; the standard deviation of both samples together is sqrt(1 + 0.25^2)
    assert shifted.derivatives.values[0] == pytest.approx(0.5 * np.sqrt(1.0625), abs=0.12)
    # without c nothing is left to tell the samples apart
    lost = shifted.sample.auc - 0.5
    assert shifted.importance.values[0] == pytest.approx(lost, abs=4 * shifted.error)


def test_the_profile_of_a_shifted_feature_is_the_ratio_of_densities(shifted):
    profiles = {profile.feature: profile for profile in shifted.profiles}
    c = profiles["c"]
    assert c.p < 1e-10
    assert min(profiles[name].p for name in ("a", "b", "d")) > 1e-3
    inner = slice(1, -1)
    expected = np.diff(stats.norm.cdf(c.edges[1:-1])) / np.diff(stats.norm.cdf(c.edges[1:-1] - 0.5))
    pulls = (c.ratio[inner] - expected) / c.error[inner]
    assert stats.chi2.sf((pulls**2).sum(), len(pulls)) > 1e-3
    assert np.std(pulls) > 0.3  # errors are not far too large
    assert np.corrcoef(c.learned, c.ratio)[0, 1] > 0.95


def test_gradient_of_a_network_is_that_of_its_log_odds():
    rng = np.random.default_rng(6)
    x = rng.normal([3.0, -1.0], [0.1, 20.0], size=(400, 2)).astype(np.float32)
    y = x[:, 0] > 3.0
    network = NetworkEnsemble(members=2, hidden=(8,), max_rounds=3, steps_per_round=20, random_state=0).fit(
        x, y
    )
    here = x[:50].astype(np.float64)
    gradient = log_ratio_gradient(network, here.astype(np.float32))

    def log_odds(values):
        p = network.predict_proba(values)
        return np.log(p[:, 1] / p[:, 0])

    for i in range(2):
        step = np.zeros(2)
        step[i] = 0.02 * network.deviation_[i]
        numeric = (log_odds(here + step) - log_odds(here - step)) / 0.04
        # a kink of a ReLU may lie between the two points
        assert np.median(np.abs(numeric - gradient[:, i])) < 1e-3 * np.abs(gradient[:, i]).mean()


def weighted_samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Events of two samples and weights that move the means by their feature."""
    x = np.random.default_rng(21).normal(size=(2 * n, 2)).astype(np.float32)
    return x, np.exp(0.8 * x[:, 0].astype(float) - 0.5 * x[:, 1])


def test_all_classifiers_learn_from_weighted_events(monkeypatch):
    found = []
    monkeypatch.setattr(dream, "build_classifier", lambda *_, **__: GaussianNB())
    monkeypatch.setattr(dream, "StackedClassifier", lambda *_, **__: GaussianNB())
    monkeypatch.setattr(dream, "input_derivatives", lambda networks, names: found.append(networks))
    monkeypatch.setattr(dream, "find_regions", lambda *_: ())
    x, w = weighted_samples(300)
    options = DreamOptions(**FAST, derivatives=True)
    found.append(
        compare_samples(
            x[:300],
            x[300:],
            ("a", "b"),
            first_weights=w[:300],
            second_weights=w[300:],
            options=options,
            jobs=1,
        ).sample
    )
    assert len(found) == 2
    for sample in found:
        for f, model in enumerate(sample.models.estimators):
            for kind in (False, True):
                rows = (sample.fold != f) & (sample.y == kind)
                expected = np.average(sample.x[rows], axis=0, weights=w[rows])
                np.testing.assert_allclose(model.theta_[int(kind)], expected, rtol=1e-5)
                assert abs(expected[0] - sample.x[rows, 0].mean()) > 0.4
            assert model.class_prior_ == pytest.approx([0.5, 0.5], abs=0.05)


def test_derivatives_are_averaged_by_weight(monkeypatch):
    x, w = weighted_samples(200)
    sample = cross_validate(x, two(200, 200), w, GaussianNB(), 2, np.random.default_rng(0))
    monkeypatch.setattr(importance, "log_ratio_gradient", lambda network, x: x.astype(float) * [1, 3])
    ranking = input_derivatives(sample, ("a", "b"))
    each = np.array([
        np.average(np.abs(x[sample.fold == f]) * [1, 3], axis=0, weights=sample.weights[sample.fold == f])
        for f in (0, 1)
    ])  # fmt: skip
    assert ranking.features == ("b", "a")
    np.testing.assert_allclose(ranking.values, each.mean(axis=0)[::-1])
    np.testing.assert_allclose(ranking.errors, np.abs(each[0] - each[1])[::-1] / 2)


def drawn_and_weighted(
    n: int, rng: np.random.Generator, width: float, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two normal features, drawn with the width 1.7 and the mean ``shift`` and weighted to ``width`` and mean 0."""
    x = rng.normal([0.0, shift], [1.7, 1.0], size=(n, 2))
    log_weight = -0.5 * x[:, 0] ** 2 * (1 / width**2 - 1 / 1.7**2) - shift * x[:, 1]
    return x.astype(np.float32), np.exp(log_weight)


def test_weighted_samples_are_the_distributions_that_they_stand_for():
    # as drawn, the samples differ in the second feature alone; as weighted, in the width of the first
    rng = np.random.default_rng(30)
    first, w1 = drawn_and_weighted(6000, rng, 1.3, 0.5)
    second, w0 = drawn_and_weighted(6000, rng, 1.0, 0.0)
    found = compare_samples(
        first, second, ("a", "b"), first_weights=w1, second_weights=w0, options=DreamOptions(**FAST), jobs=1
    )
    # P(|1.3 g| > |g'|) for normal g, g'
    true = 2 / np.pi * np.arctan(1.3)
    assert found.auc == pytest.approx(true, abs=2 * found.error)
    assert found.error < 0.012
    # |ds/da| = |a| (1 - 1 / 1.69), averaged over both distributions, and in units of the deviation of both
    slope = (1 - 1 / 1.69) * np.sqrt(2 / np.pi) * 0.5 * (1.3 + 1) * np.sqrt(0.5 * (1.69 + 1))
    derivatives = dict(zip(found.derivatives.features, found.derivatives.values, strict=True))
    assert derivatives["a"] == pytest.approx(slope, rel=0.15)
    assert derivatives["b"] < 0.4 * slope
    profile = next(profile for profile in found.profiles if profile.feature == "a")
    edges = np.concatenate([[-np.inf], profile.edges[1:-1], [np.inf]])
    expected = np.diff(stats.norm.cdf(edges / 1.3)) / np.diff(stats.norm.cdf(edges))
    pulls = (profile.ratio - expected) / profile.error
    assert stats.chi2.sf((pulls**2).sum(), len(pulls)) > 1e-3


def test_importance_of_a_feature_that_is_not_used_is_zero():
    class First(GaussianNB):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X[:, :1], y, sample_weight)

        def predict_proba(self, X):
            return super().predict_proba(X[:, :1])

    rng = np.random.default_rng(9)
    y = two(400, 400)
    x = rng.normal(size=(800, 2)).astype(np.float32) + y[:, None]
    ranking = permutation_importance(
        cross_validate(x, y, np.ones(800), First(), 4, rng), ("used", "unused"), 2, rng
    )
    assert ranking.features == ("used", "unused")
    assert (ranking.values[1], ranking.errors[1]) == (0.0, 0.0)
    assert ranking.values[0] == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)) - 0.5, abs=0.08)
    assert 0 < ranking.errors[0] < 0.05


def corner(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two samples that are uniform in three features; the first lost 70 % of its events in a corner of two."""
    first, second = rng.random((2, n, 3)).astype(np.float32)
    lost = (first[:, 0] > 0.7) & (first[:, 1] > 0.7) & (rng.random(n) < 0.7)
    return first[~lost], second


def test_a_failure_in_a_corner_is_found_there():
    rng = np.random.default_rng(12)
    first, second = corner(6000, rng)
    y = two(len(first), len(second))
    trees = TreeEnsemble(members=1, random_state=0)
    sample = cross_validate(np.concatenate([first, second]), y, np.ones(len(y)), trees, 2, rng)
    regions = find_regions(sample, ("u", "v", "w"), trees, rng)
    worst = regions[0]
    bounds = {name: (low, high) for name, low, high in worst.cuts}
    assert 0.6 < bounds["u"][0] < 0.8
    assert 0.6 < bounds["v"][0] < 0.8
    # both samples have the same total, so that the ratio elsewhere is 1 / 0.937
    true = 0.3 / (1 - 0.7 * 0.09)
    assert true - 4 * worst.error < worst.ratio < 0.65
    assert worst.z < -5
    assert sum(region.share for region in regions) == pytest.approx(1)
    assert sum(region.reference_share for region in regions) == pytest.approx(1)
    others = [region.ratio for region in regions[1:] if region.share > 0.1]
    assert np.allclose(others, 1 / 0.937, atol=0.15)
    # no single feature shows it as clearly
    assert max(abs(np.log(ratio)) for p in ratio_profiles(sample, ("u", "v", "w")) for ratio in p.ratio) < 0.5


def test_regions_of_identical_samples_are_not_significant():
    z = []
    for seed in range(15):
        rng = np.random.default_rng([13, seed])
        y = two(700, 700)
        x = rng.normal(size=(1400, 2)).astype(np.float32)
        sample = cross_validate(x, y, rng.uniform(0.5, 1.5, 1400), GaussianNB(), 2, rng)
        z += [region.z for region in find_regions(sample, ("a", "b"), GaussianNB(), rng)]
    # measured on the events that chose them, their spread would be larger; 100 regions, 7 % error
    assert 0.75 < np.std(z) < 1.25
    assert abs(np.mean(z)) < 0.35


def test_errors_of_weighted_shares_are_the_spread_over_samples():
    rng = np.random.default_rng(14)
    y = two(400, 300)
    edges_at_zero, pulls = [], []
    for _ in range(300):
        x = rng.normal(size=(700, 1)).astype(np.float32)
        w = balanced(y, np.exp(0.4 * x[:, 0].astype(float)))
        sample = cross_validate.__globals__["TwoSample"](x, y, w, y.astype(int), np.zeros(700), None, 0.5)
        (profile,) = ratio_profiles(sample, ("a",))
        edges_at_zero.append(profile.p)
        pulls += ((profile.ratio - 1) / profile.error)[3:9].tolist()
    # 1800 correlated pulls; a ratio is a little skewed
    assert 0.85 < np.std(pulls) < 1.15
    assert stats.kstest(edges_at_zero, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b, w: (a, b, np.where(np.arange(len(w)) < 7, -1.0, w)), "7 of 400 weights are negative"),
        (
            lambda a, b, w: (np.where(a > 2.5, np.nan, a), b, w),
            "'a' is not a finite number in|'b' is not a finite",
        ),
        (lambda a, b, w: (a, a.copy(), w), "200 events of the first sample are in the second one too"),
        (lambda a, b, w: (a[:20], b, w[:20]), "the first sample has 20 events with weight; at least 50"),
    ],
)
def test_samples_that_cannot_be_compared(change, message):
    rng = np.random.default_rng(15)
    a, b = rng.normal(size=(2, 200, 2)).astype(np.float32)
    first, second, weights = change(a, b, np.ones(200))
    with pytest.raises(InputError, match=message):
        compare_samples(
            first, second, ("a", "b"), first_weights=weights, options=DreamOptions(**FAST), jobs=1
        )


def test_a_stack_of_one_member_is_refused():
    a, b = np.random.default_rng(1).normal(size=(2, 200, 2)).astype(np.float32)
    with pytest.raises(InputError, match="use 2 members or more"):
        compare_samples(a, b, ("a", "b"), options=DreamOptions(**FAST | {"members": 1}), jobs=1)


def write(path: Path, seed: int, n: int, change=None, **more) -> Path:
    columns = make_columns(n, 0, seed)
    if change:
        change(columns)
    pq.write_table(pa.table(columns | more), path)
    return path


def validation(tmp_path: Path, data: Path, reference: Path, **settings):
    options = {**FAST, "min_p": 0.11, "derivatives": False, **settings.pop("simulation", {})}
    given = {
        "file": str(data),
        "simulation": str(reference),
        "mass": "mjj",
        "features": list(FEATURES),
        "id": "event",
        "validate": {"simulation": options},
        **settings,
    }
    config, chosen = parse_validation(given, ["simulation"], "test")
    return simulation.run(config, chosen["simulation"], tmp_path, jobs=1)


def test_a_simulation_with_a_wrong_feature_fails_and_names_it(tmp_path):
    def shift(columns):
        columns["f2"] = columns["f2"] + 0.6

    found = validation(
        tmp_path,
        write(tmp_path / "d.parquet", 1, 2000),
        write(tmp_path / "s.parquet", 2, 2000, shift),
        window=[3300, 3700],
    )
    failed = {check.name for check in found.failed}
    assert "AUC of a classifier between the samples" in failed
    assert "f2: shape" in failed
    assert not {"f1: shape", "f3: shape"} & failed
    assert found.facts["importance"]["features"][0] == "f2"
    assert found.facts["derivatives"] is None
    assert 0 < found.seconds < 300
    pictures = {picture["name"]: picture for picture in found.facts["figures"]}
    profiles = {name: one for name, one in pictures.items() if name.startswith("simulation-profile")}
    assert {one["title"] for one in profiles.values()} == {
        f"Ratio along {name}" for name in ("f1", "f2", "f3")
    }
    first, second = pictures["simulation-score"]["series"]
    for series in (first, second):
        # the ends of the axis hold all that lies beyond
        assert sum(series["y"]) == pytest.approx(1.0)
        assert max(series["y"]) < 0.3
    assert sum(pictures["simulation-null"]["series"][0]["y"]) == found.facts["permutations"]
    # a difference that was called harmless is undecided
    harmless = validation(
        tmp_path, tmp_path / "d.parquet", tmp_path / "s.parquet", simulation={"max_auc": 0.9, "max_ratio": 50}
    )
    assert harmless.checks[0].passed is None
    assert not harmless.failed


def test_weights_of_the_simulation_count(tmp_path):
    def shift(columns):
        x = columns["f1"]
        columns["f1"] = x + 0.7
        centre = 0.1 * np.log(columns["mjj"] / 3000)
        columns["w"] = np.exp(-0.5 * (columns["f1"] - centre) ** 2 + 0.5 * (x - centre) ** 2)

    data = write(tmp_path / "d.parquet", 1, 2000)
    reference = write(tmp_path / "s.parquet", 2, 3000, shift)
    plain = validation(tmp_path, data, reference)
    weighted = validation(tmp_path, data, reference, simulation_weight="w")
    assert plain.checks[0].value > 0.6
    assert weighted.checks[0].passed
    assert weighted.checks[0].value == pytest.approx(0.5, abs=3 * weighted.checks[0].error)


def test_the_window_stays_closed_and_the_mass_is_compared_on_demand(tmp_path):
    def spoil(columns):
        inside = (columns["mjj"] >= 3300) & (columns["mjj"] < 3700)
        columns["f1"] = np.where(inside, 50.0, columns["f1"])

    data, reference = write(tmp_path / "d.parquet", 1, 2000, spoil), write(tmp_path / "s.parquet", 2, 2000)
    closed = validation(tmp_path, data, reference, window=[3300, 3700])
    assert [check.passed for check in closed.checks] == [True] * 6
    assert closed.checks[0].value == pytest.approx(0.5, abs=3 * closed.checks[0].error)
    inside = np.count_nonzero(
        (make_columns(2000, 0, 1)["mjj"] >= 3300) & (make_columns(2000, 0, 1)["mjj"] < 3700)
    )
    assert closed.facts["n_events"][0] == 2000 - inside
    opened = validation(
        tmp_path, data, reference, window=[3300, 3700], simulation={"region": "all", "mass": True}
    )
    assert opened.facts["n_events"] == [2000, 2000]
    assert opened.failed
    assert "mjj" in opened.facts["importance"]["features"]


def test_derivatives_need_no_second_training_of_networks():
    rng = np.random.default_rng(16)
    y = two(300, 300)
    x = rng.normal(size=(600, 2)).astype(np.float32) + 0.8 * y[:, None] * [1, 0]
    network = NetworkEnsemble(members=1, hidden=(16,), max_rounds=8, random_state=0)
    sample = cross_validate(x.astype(np.float32), y, np.ones(600), network, 2, rng)
    ranking = input_derivatives(sample, ("a", "b"))
    assert ranking.features[0] == "a"


def test_regions_are_measured_on_events_that_did_not_find_them():
    seen = []

    class Recorder(GaussianNB):
        def fit(self, X, y, sample_weight=None):
            seen.extend(X[:, 0].tolist())
            return super().fit(X, y, sample_weight)

    rng = np.random.default_rng(17)
    y = two(600, 600)
    x = rng.normal(size=(1200, 2)).astype(np.float32) + 0.5 * y[:, None].astype(np.float32)
    sample = cross_validate(x, y, np.ones(1200), GaussianNB(), 2, rng)
    regions = find_regions(sample, ("a", "b"), Recorder(), rng)
    new = ~np.isin(x[:, 0], np.array(seen, dtype=np.float32))
    assert np.count_nonzero(new) == 600
    for region in regions:
        inside = np.ones(1200, dtype=bool)
        for name, low, high in region.cuts:
            values = x[:, "ab".index(name)]
            inside &= (values > (-np.inf if low is None else low)) & (
                values <= (np.inf if high is None else high)
            )
        assert region.share == pytest.approx(np.mean(inside[new & y]))
        assert region.reference_share == pytest.approx(np.mean(inside[new & ~y]))


def test_values_of_a_shuffled_feature_are_drawn_by_weight():
    class Rule(GaussianNB):
        def predict_proba(self, X):
            # the first feature counts only where the second is negative
            p = 1 / (1 + np.exp(-np.where(X[:, 1] < 0, X[:, 0], 0.0)))
            return np.column_stack([1 - p, p])

    rng = np.random.default_rng(18)
    y = two(400, 400)
    x = rng.normal(size=(800, 2)).astype(np.float32)
    x[:, 0] += y
    negative = np.where(x[:, 1] < 0, 1.0, 0.0)
    lost = []
    for w in (negative, np.ones(800)):
        ranking = permutation_importance(cross_validate(x, y, w, Rule(), 2, rng), ("a", "b"), 2, rng)
        lost.append(dict(zip(ranking.features, ranking.values, strict=True)))
    # events of positive values have no weight, so that none of these values may be drawn
    assert lost[0]["b"] == pytest.approx(0, abs=1e-12)
    assert lost[0]["a"] > 0.15
    assert lost[1]["b"] > 0.02
