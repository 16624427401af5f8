from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from run_files import check_files
from samples import FEATURES, make_columns, write_table
from scipy import stats

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Template
from serendip.methods.registry import get_method
from serendip.methods.template_method import ClassifierConfig, TemplateMethod
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.search.folds import assign_folds, cross_training_plan
from serendip.search.task import Task, run_task
from serendip.search.template_curves import REPLICAS, can_count, template_curves
from serendip.statistics.event_toys import LookEvents
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.looks import LookResult, fit_inclusive, make_edges
from serendip.statistics.pvalues import count_p_value
from serendip.statistics.ranks import randomised_efficiency
from serendip.statistics.template_count import (
    GRID,
    TemplateCurves,
    count_look,
    selected_fraction,
    template_errors,
)
from serendip.statistics.trials import draw_looks, global_p_value

WINDOW = Window(3300.0, 3700.0)
BOUNDS = (2400.0, 5500.0)


class Gaussian(TemplateMethod):
    """Background is normal with a mean linear in ln m, fitted beside the window; the score is its distance from the data."""

    name = "gaussian"
    title = "normal background"
    Config = ClassifierConfig

    def make_templates(self, events, window, splits):
        m, x, w = events.m, events.x.astype(float), events.weights
        self.fits, templates = [], []
        for k, mask in enumerate(splits):
            use = mask & ~window.contains(m)
            basis, root = (
                np.column_stack([np.ones(use.sum()), np.log(m[use] / 3500)]),
                np.sqrt(w[use])[:, None],
            )
            line = np.linalg.lstsq(basis * root, x[use] * root, rcond=None)[0]
            rest = x[use] - basis @ line
            covariance = (rest * w[use][:, None]).T @ rest / w[use].sum()
            self.fits.append((line, np.linalg.cholesky(covariance)))
            rng = np.random.default_rng([self.seed, k])
            drawn = self.predict_background(rng.uniform(window.low, window.high, 4000), k, rng)
            templates.append(Template(drawn, np.ones(4000)))
        return templates

    def predict_background(self, mass, split, rng):
        line, root = self.fits[split]
        mean = np.column_stack([np.ones(len(mass)), np.log(mass / 3500)]) @ line
        return (mean + rng.standard_normal((len(mass), len(root))) @ root.T).astype(np.float32)

    def _train_classifier(self, x, weights, masks, groups=None):
        means = [np.average(x[mask], axis=0, weights=weights[mask]) for mask in masks]
        self.directions = [mean - t.x.mean(axis=0) for mean, t in zip(means, self._templates, strict=True)]

    def score(self, events, split=0):
        return events.x.astype(float) @ self.directions[split]


def draw(n: int, seed: int, *, weighted: bool = False, bend: float = 0.0) -> Events:
    """Falling masses and three normal features that follow them; ``bend`` is what no straight line follows."""
    rng = np.random.default_rng([seed, 5])
    n = rng.poisson(n)
    mass = 2000.0 * (1 - rng.random(n) * (1 - 3.5**-5)) ** -0.2
    u = np.log(mass / 3500)[:, None]
    x = rng.normal(size=(n, 3)) + 0.3 * u + bend * np.exp(-0.5 * (u / 0.06) ** 2)
    columns = {"m": mass, "id": np.arange(n)} | {f"f{i}": x[:, i] for i in range(3)}
    if weighted:
        columns["w"] = rng.exponential(1.0, n)
    return Events(columns, mass="m", features=("f0", "f1", "f2"), id="id", weight="w" if weighted else None)


def looks(
    events: Events, seed: int, points=(3e-2,), combination="sequential", draws=4000, blinded=False
) -> tuple[list[LookResult], TemplateCurves]:
    fold = assign_folds(events.ids, 3, seed)
    plan = cross_training_plan(fold, 3, combination)
    method = Gaussian(seed=seed).fit(events, WINDOW, plan.splits)
    scores = np.full(len(events), np.nan)
    for f, model in plan.scores:
        scores[fold == f] = method.score(events.select(fold == f), model)
    efficiency, curves = template_curves(
        method, events, WINDOW, plan, fold, scores, bounds=BOUNDS, draws=draws, seed=seed
    )
    weights = None if events.weight is None else events.weights
    inclusive = fit_inclusive(events.m, WINDOW, make_edges(BOUNDS, WINDOW), weights=weights)
    found = [
        count_look(
            events.m, fold, efficiency, WINDOW, inclusive, curves, working_point=point,
            combination=combination, n_folds=3, weights=weights, blinded=blinded, method="gaussian",
        )
        for point in points
    ]  # fmt: skip
    return found, curves


def curves_of(
    window: np.ndarray, *, closure: float = 1.0, held_out: float = 5000.0, draws=(10**9, 10**9)
) -> TemplateCurves:
    """Curves of F folds whose ratios in the window are given, shape ``(B, F)``."""
    n_replicas, n_folds = window.shape
    flat = np.tile(GRID, (n_folds, 1))
    return TemplateCurves(
        folds=np.arange(1, n_folds + 1),
        window=window[:, :, None] * GRID,
        sideband=flat,
        replicas=np.tile(GRID, (n_replicas, 2, n_folds, 1)),
        held_out=closure * held_out * flat,
        held_out_squared=held_out * flat,
        held_out_total=np.full(n_folds, held_out),
        draws=draws,
    )


def flat_spectrum(seed: int = 1) -> tuple[np.ndarray, SpectrumFit]:
    mass = draw(20_000, seed).m
    return mass, fit_inclusive(mass, WINDOW, make_edges(BOUNDS, WINDOW))


def test_template_efficiency_is_uniform_for_the_template():
    rng = np.random.default_rng(1)
    template, events = np.round(rng.normal(size=(2, 20_000)), 1)
    efficiency = randomised_efficiency(events, rng.random(20_000), template[:5000])
    assert stats.kstest(efficiency, "uniform").pvalue > 1e-3
    # few drawn events: 30 of them, thousands of templates
    passed = [
        np.mean(randomised_efficiency(rng.normal(size=50), rng.random(50), rng.normal(size=30)) <= 0.05)
        for _ in range(2000)
    ]
    assert np.mean(passed) == pytest.approx(0.05, abs=4 * np.std(passed) / np.sqrt(2000))
    assert randomised_efficiency(
        np.array([2.0, -1.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0])
    ).tolist() == [
        0.0,
        2 / 3,
    ]


def test_selected_fraction_is_the_mean_over_ranks():
    rng = np.random.default_rng(2)
    score, template = np.round(rng.normal(0.5, 1, 400), 1), np.round(rng.normal(size=300), 1)
    weights = rng.random(400)
    order = (np.arange(300) + 0.5) / 300
    efficiency = randomised_efficiency(np.repeat(score, 300), np.tile(order, 400), template)
    for i in (0, 5, 13, 20):
        expected = np.average(efficiency <= GRID[i], weights=np.repeat(weights, 300))
        assert selected_fraction(score, template, weights)[i] == pytest.approx(expected, abs=2e-3)
    many = selected_fraction(rng.normal(size=200_000), rng.normal(size=200_000))
    assert many[20] == pytest.approx(GRID[20], rel=4 * np.sqrt(2 / 2000))


def test_correction_and_covariance_of_known_ratios():
    rng = np.random.default_rng(3)
    common, own = rng.normal(0, 0.2, (4000, 1)), rng.normal(0, 0.1, (4000, 3))
    correction, covariance, errors = template_errors(curves_of(1.3 + common + own), 0.01, 0.05)
    assert correction == pytest.approx(1.3, rel=0.02)
    assert errors.correction == pytest.approx(1.3, rel=0.02)
    relative = np.array([[0.05, 0.04, 0.04], [0.04, 0.05, 0.04], [0.04, 0.04, 0.05]]) / 1.3**2
    assert covariance == pytest.approx(relative + 0.05**2, rel=0.1)
    assert errors.training**2 == pytest.approx(relative.mean(), rel=0.1)
    assert errors.shape == 0.05
    assert errors.closure == 0.0
    few = template_errors(curves_of((1.3 + common + own)[:10]), 0.01, 0.05)[2]
    straight = np.cov((1.3 + common + own)[:10].mean(axis=1)) / (1.3 + common + own)[:10].mean() ** 2
    assert few.training**2 == pytest.approx(straight * 9 / 7 * 1.1, rel=0.03)


def test_the_noise_of_drawing_is_no_error_of_the_training():
    """Ratios that scatter because few events were drawn: known binomial noise is taken out, and the real cut has its own."""
    rng, n, point = np.random.default_rng(4), 2000, 0.01
    noise = rng.normal(0, np.sqrt(2 * (1 - point) / (point * n)), (3000, 3))
    _, covariance, errors = template_errors(curves_of(1.0 + noise, draws=(4 * n, n)), point, 0.0)
    assert errors.training < 0.05
    assert errors.drawing == pytest.approx(np.sqrt((1 - point) / (point * 4 * n) / 3), rel=0.01)
    assert np.diag(covariance) == pytest.approx((1 - point) / (point * 4 * n), rel=0.4)


def test_closure_is_an_error_beyond_its_own():
    ratios = np.random.default_rng(5).normal(1, 0.01, (10, 3))
    good = template_errors(curves_of(ratios, closure=1.05), 0.01, 0.0)[2]
    assert good.closure == 0.0
    assert good.closure_ratio == pytest.approx(1.05)
    assert good.closure_ratio_error == pytest.approx(1 / np.sqrt(3 * 5000 * 0.01))
    bad = template_errors(curves_of(ratios, closure=1.5), 0.01, 0.0)[2]
    assert bad.closure == pytest.approx(np.sqrt(0.5**2 - good.closure_ratio_error**2))
    # a cut that is too tight is tested where 25 held-out events are expected
    tight = template_errors(curves_of(ratios, closure=1.5), 1e-4, 0.0)[2]
    assert tight.closure_efficiency == pytest.approx(10**-2.7)
    assert tight.closure == pytest.approx(np.sqrt(0.25 - 1 / (15_000 * 10**-2.7)), rel=1e-3)
    with pytest.raises(InputError, match="at least 25 held-out events, and there are 15"):
        template_errors(curves_of(ratios, held_out=5.0), 0.01, 0.0)


def test_expected_count_is_yield_times_fraction():
    mass, inclusive = flat_spectrum()
    fold = np.arange(len(mass)) % 4
    ratios = np.random.default_rng(6).normal(1, 0.05, (10, 3))
    ratios += 1 - ratios.mean(axis=0)
    efficiency = np.random.default_rng(7).random(len(mass))
    count = partial(count_look, mass, fold, efficiency, WINDOW, inclusive, curves_of(ratios))
    look = count(working_point=0.05, n_folds=4, method="x")
    low, high = np.searchsorted(inclusive.edges, [WINDOW.low, WINDOW.high])
    n, error = inclusive.window(int(low), int(high))
    assert look.expected == pytest.approx(0.75 * n * 0.05)
    selected = WINDOW.contains(mass) & (efficiency <= 0.05) & (fold > 0)
    assert look.observed == np.count_nonzero(selected)
    assert [f.observed for f in look.folds] == [np.count_nonzero(selected & (fold == f)) for f in (1, 2, 3)]
    assert sum(f.expected for f in look.folds) == pytest.approx(look.expected)
    assert look.statistic == "template-count"
    assert "null test" in str(look.warning)
    assert look.shape_error == pytest.approx(error / n)
    assert look.expected_error == pytest.approx(
        look.expected * np.sqrt(look.template.training**2 + look.template.drawing**2 + (error / n) ** 2)
    )
    assert look.p_local == pytest.approx(
        float(count_p_value(look.observed, look.expected, look.expected_error))
    )
    assert abs(look.z_local) < 4
    # what is drawn: the inclusive fit times the fraction, with the expected count in the window
    share = look.expected / n
    np.testing.assert_allclose(look.spectrum.expected, inclusive.expected * share)
    np.testing.assert_allclose(look.spectrum.expected_error, inclusive.expected_error * share)
    np.testing.assert_allclose(look.spectrum.jacobian, inclusive.jacobian * share)
    half = count(working_point=0.025, n_folds=4)
    assert half.expected == pytest.approx(look.expected / 2)
    hidden = count(working_point=0.05, n_folds=4, blinded=True)
    assert hidden.observed is None
    assert hidden.p_local is None
    assert (hidden.expected, hidden.expected_error) == (look.expected, look.expected_error)
    assert hidden.spectrum.counts[hidden.spectrum.mask].sum() == 0
    with pytest.raises(ValueError, match="tested are"):
        count(working_point=0.05, n_folds=5)


@pytest.mark.parametrize("combination", ["sequential", "sequential-stouffer", "kfold-bonferroni"])
def test_p_values_hold_only_with_the_statistics_of_the_training(combination):
    """Counts whose prediction is off by 20 %, an error that the ratios show: fraction of p < 0.05, and without that error."""
    rng = np.random.default_rng(8)
    mass, inclusive = flat_spectrum()
    n_folds = 3 if combination == "kfold-bonferroni" else 4
    inside = np.flatnonzero(WINDOW.contains(mass))
    fold = np.arange(len(mass)) % n_folds
    n = inclusive.window(*np.searchsorted(inclusive.edges, [WINDOW.low, WINDOW.high]).tolist())[0]
    reached = {True: 0, False: 0}
    for _ in range(150):
        truth = rng.gamma(25.0, 1 / 25.0)
        wrong = rng.normal(1, 0.2, (10, 1)) + np.zeros((1, 3))
        wrong += 1 - wrong.mean(axis=0)
        efficiency = np.ones(len(mass))
        efficiency[inside[rng.random(len(inside)) < 0.3 * truth * n / len(inside)]] = 0.0
        for known in (True, False):
            curves = curves_of(wrong if known else np.ones_like(wrong))
            curves = replace(curves, folds=np.arange(n_folds - 3, n_folds))
            look = count_look(
                mass, fold, efficiency, WINDOW, inclusive, curves,
                working_point=0.3, n_folds=n_folds, combination=combination,
            )  # fmt: skip
            reached[known] += look.p_local < 0.05
    assert 0.005 < reached[True] / 150 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert reached[False] / 150 > 0.15


def test_toys_of_a_template_count_follow_its_own_p():
    """Global p of a single look is its local p; nested working points correlate."""
    mass, inclusive = flat_spectrum()
    fold = np.arange(len(mass)) % 4
    rng = np.random.default_rng(9)
    ratios = rng.normal(1, 0.15, (10, 1)) + np.zeros((1, 3))
    efficiency = rng.random(len(mass))
    efficiency[np.flatnonzero(WINDOW.contains(mass))[:30]] = 0.0
    count = partial(count_look, mass, fold, efficiency, WINDOW, inclusive, curves_of(ratios))
    pair = [count(working_point=p, n_folds=4, method="x") for p in (0.02, 0.01)]
    for look in pair:
        toys = draw_looks([look], 4000, rng)[0]
        for level in (0.1, 0.02):
            assert np.mean(toys <= np.log(level)) == pytest.approx(
                level, abs=4 * np.sqrt(level / 4000) + 0.3 * level
            )
        overall = global_p_value([look], 2000, rng)
        assert overall.p == pytest.approx(look.p_local, abs=0.02)
    passed = tuple(np.flatnonzero((efficiency <= p) & (fold > 0)) for p in (0.02, 0.01))
    both = draw_looks(pair, 3000, rng, LookEvents(mass, fold, passed))
    assert stats.spearmanr(*both).statistic > 0.5


def test_count_of_background_has_pulls_of_width_one():
    """Whole chain with a fast method that learns its template and its score from the data."""
    pulls, uncorrected, ratio = [], [], []
    for seed in range(25):
        (look,), _ = looks(draw(5000, seed), seed)
        sigma = np.sqrt(look.expected + look.expected_error**2)
        pulls.append((look.observed - look.expected) / sigma)
        plain = look.expected / look.template.correction
        uncorrected.append((look.observed - plain) / np.sqrt(plain))
        ratio.append(look.template.correction)
    assert abs(np.mean(pulls)) < 3 / np.sqrt(25)
    assert np.std(pulls) == pytest.approx(1.0, abs=3 / np.sqrt(50))
    # a classifier selects where its template has too little: the plain prediction is too small
    assert np.mean(ratio) > 1.0
    assert np.mean(uncorrected) > np.mean(pulls)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_pulls_with_more_experiments(weighted):
    pulls, without = [], []
    for seed in range(300):
        (look,), _ = looks(draw(5000, seed, weighted=weighted), seed)
        scale = look.spectrum.scale
        n, b, s = (v / scale for v in (look.observed, look.expected, look.expected_error))
        pulls.append((n - b) / np.sqrt(b + s**2))
        plain = b / look.template.correction
        without.append((n - plain) / np.sqrt(plain))
    print(f"pull {np.mean(pulls):+.2f} width {np.std(pulls):.2f}; no correction, no error: "
          f"{np.mean(without):+.2f} width {np.std(without):.2f}")  # fmt: skip
    assert abs(np.mean(pulls)) < 3 / np.sqrt(300)
    assert np.std(pulls) == pytest.approx(1.0, abs=3 / np.sqrt(600))


def test_a_template_that_is_wrong_beside_the_window_says_so():
    good = looks(draw(20_000, 1), 1)[0][0]
    # a bend around the window that the straight line cannot follow: the sidebands near it are mispredicted as well
    bad = looks(draw(20_000, 1, bend=1.0), 1)[0][0]
    assert abs(good.template.closure_ratio - 1) < 4 * good.template.closure_ratio_error
    assert bad.template.closure > 0.3
    assert bad.expected_error > 2 * good.expected_error


def test_weights_enter_the_count():
    events = draw(6000, 2, weighted=True)
    one = looks(events, 2)[0][0]
    doubled = replace(events, columns={**events.columns, "w": 2 * events.columns["w"]})
    two = looks(doubled, 2)[0][0]
    assert two.observed == pytest.approx(2 * one.observed)
    assert two.expected == pytest.approx(2 * one.expected, rel=0.02)
    assert two.z_local == pytest.approx(one.z_local, abs=0.05)
    assert two.spectrum.expected[two.spectrum.mask].sum() == pytest.approx(two.expected, rel=0.01)
    assert one.spectrum.scale == pytest.approx(2.0, rel=0.35)


def test_only_methods_with_a_conditional_template_can_count():
    can = {
        name for name in ("cathode", "lacathode", "curtains", "feta", "salad") if can_count(get_method(name))
    }
    assert can == {"cathode", "lacathode", "curtains", "feta", "salad"}
    for name in ("cwola", "anode", "ranode", "bump-hunt", "isolation-forest", "ensemble"):
        assert not can_count(get_method(name))
    settings = {"file": "x", "mass": "m", "features": ["f"], "window": [3300, 3700], "counting": "template"}
    with pytest.raises(InputError, match="'cwola' is none; use counting 'fit'"):
        parse_config(settings | {"method": "cathode,cwola"}, "search")
    config = parse_config(settings | {"method": "cathode", "working_points": [1e-2, 1e-4]}, "search")
    assert config.template_draws == 1_000_000
    assert parse_config(settings | {"method": "cathode"}, "search").template_draws == 100_000
    assert parse_config(settings | {"method": "cathode", "counting": "fit"}, "search").template_draws is None


def test_a_fold_without_sideband_events_is_explained():
    events = draw(6000, 3)
    near = (events.m > 2900) & (events.m < 4100) & ~WINDOW.contains(events.m)
    fold = assign_folds(events.ids, 3, 3)
    few = events.select(~(near & (fold == 2)))
    with pytest.raises(InputError, match="where fold 2 has no event"):
        looks(few, 3)


FAST = {
    "cathode": {"density": "maf", "steps": 30, "members": 1, "oversample": 1.0},
    "lacathode": {"density": "maf", "steps": 30, "members": 1, "oversample": 1.0},
    "curtains": {"density": "maf", "steps": 30, "members": 1, "transport_steps": 20, "oversample": 1.0},
    "feta": {"density": "maf", "steps": 30, "members": 1, "transport_steps": 20, "oversample": 1.0},
    "salad": {"members": 1, "reweighting_members": 1, "reweighting_rounds": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAST))
def test_every_method_gives_curves(name):
    columns = make_columns(4000, seed=5)
    events = Events(columns, mass="mjj", features=FEATURES, id="event").select(np.arange(4000))
    simulation = Events(make_columns(6000, seed=6), mass="mjj", features=FEATURES)
    method = get_method(name)
    options = method.Config(**FAST[name]).model_dump(mode="json")
    task = Task("", name, options, WINDOW, 2, "sequential", 1, 1, template_draws=2000)
    result = run_task(task, events, simulation if method.needs_simulation else None)
    assert result.curves is not None
    assert result.curves.window.shape == (REPLICAS, 1, len(GRID))
    # not the same template ten times, and near the real one
    ratio = result.curves.window[:, 0, 10] / GRID[10]
    assert 0.01 < np.std(ratio) < 0.7
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.7)
    tested = ~np.isnan(result.scores)
    assert np.array_equal(tested, ~np.isnan(result.efficiency))
    score, efficiency = result.scores[tested], result.efficiency[tested]
    # between two neighbouring scores of the template the rank is random
    assert np.all(np.diff(efficiency[np.lexsort((-efficiency, score))]) <= 1 / 2001)
    again = run_task(task, events, simulation if method.needs_simulation else None)
    assert np.array_equal(again.curves.window, result.curves.window)


def test_search_counts_and_continues(tmp_path):
    path = write_table(tmp_path / "events.parquet", 4000, 120, seed=7)
    simulation = write_table(tmp_path / "simulation.parquet", 6000, 0, seed=8)
    settings = {
        "file": str(path), "simulation": str(simulation), "mass": "mjj", "features": list(FEATURES), "id": "event",
        "window": [3300, 3700], "method": "salad", "options": {"salad": FAST["salad"] | {"members": 2}}, "folds": 2,
        "working_points": [0.02, 0.01], "counting": "template", "toys": 100,
    }  # fmt: skip
    config = parse_config(settings, "search")
    blind = run_search(config, tmp_path / "run", jobs=1).results
    for look in blind["looks"]:
        assert look["statistic"] == "template-count"
        assert look["observed"] is None
        assert look["p_local"] is None
        assert look["template"]["replicas"] == REPLICAS
    opened = run_search(config, tmp_path / "run", jobs=1, unblind=True).results
    assert opened["timing_s"]["total"] < blind["timing_s"]["total"]
    for before, after in zip(blind["looks"], opened["looks"], strict=True):
        assert after["expected"] == before["expected"]
        assert after["expected_error"] == before["expected_error"]
    assert opened["looks"][0]["z_local"] > 4
    assert opened["global"]["n_looks"] == 2
    check_files(tmp_path / "run")
    # the training of a fit has another key: no run mixes them
    other = parse_config(settings | {"counting": "fit"}, "search")
    with pytest.raises(InputError, match="counting differ"):
        run_search(other, tmp_path / "run", jobs=1)
