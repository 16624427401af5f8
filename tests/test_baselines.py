"""Outlier scores find outliers and nothing else; the bump hunt is a plain count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from run_files import check_files
from samples import FEATURES, write_table
from scipy import stats
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.read import read
from serendip.methods.cwola import Cwola, CwolaConfig
from serendip.methods.outlier import OutlierMethod
from serendip.methods.registry import METHODS, get_method
from serendip.outliers.registry import SCORES
from serendip.report import write_report
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.statistics.bump import bump_hunt
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.functions import get_family
from serendip.statistics.looks import SINGLE, analyse_look, fit_inclusive, make_edges
from serendip.statistics.trials import draw_looks, global_p_value

WINDOW = Window(1400.0, 1600.0)
SETTINGS = {
    "isolation-forest": {},
    "autoencoder": {"steps": 120, "hidden": [32]},
    "gaussian-mixture": {"components": 1},
}
names = pytest.mark.parametrize("name", list(SETTINGS))


def make_events(n: int = 3000, n_signal: int = 0, place=(0.0, 0.0)) -> Events:
    """Two features that lie close to a line, and a signal at one place."""
    rng = np.random.default_rng(1)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    x = rng.normal(size=(n, 1)) + rng.normal(0.0, 0.15, (n, 2))
    signal = rng.normal(place, 0.1, (n_signal, 2))
    x = np.concatenate([x, signal])
    m = np.concatenate([m, rng.normal(1500, 20, n_signal)])
    columns = {
        "m": m,
        "a": x[:, 0],
        "b": x[:, 1],
        "truth": np.repeat([0, 1], [n, n_signal]),
        "w": np.ones(len(m)),
    }
    return Events(columns, mass="m", features=("a", "b"), label="truth")


def fitted(name: str, events: Events, splits=None, seed: int = 0, **options):
    method = get_method(name)
    config = method.Config(**(SETTINGS[name] | options))
    return method(config, seed=seed).fit(events.without_label(), WINDOW, splits)


@names
def test_outliers_score_high(name):
    events = make_events(n_signal=40, place=(2.0, -2.0))
    half = np.arange(len(events)) % 2 == 0
    method = fitted(name, events, np.stack([half, ~half]))
    for k, seen in enumerate((half, ~half)):
        test = events.select(~seen)
        assert roc_auc_score(test.labels, method.score(test, k)) > 0.98


@names
def test_a_signal_inside_the_bulk_is_not_found_but_a_density_ratio_finds_it(name):
    events = make_events(n_signal=150, place=(0.5, 0.5))
    half = np.arange(len(events)) % 2 == 0
    inside = WINDOW.contains(events.m)
    test = events.select(~half & inside)
    blind = fitted(name, events, half).score(test)
    ratio = Cwola(CwolaConfig(members=2)).fit(events.without_label(), WINDOW, half).score(test)
    assert roc_auc_score(test.labels, blind) < 0.6
    assert roc_auc_score(test.labels, ratio) > 0.8


@pytest.mark.parametrize("name", ["isolation-forest", "autoencoder"])
def test_a_model_depends_on_its_split_and_the_seed_only(name):
    events = make_events(1500)
    half = np.arange(len(events)) % 2 == 0
    columns = dict(events.columns) | {"a": np.where(half, events["a"], -2 * events["a"])}
    other = replace(events, columns=columns)
    one, two = (fitted(name, e, np.stack([half, ~half])) for e in (events, other))
    np.testing.assert_array_equal(one.score(events, 0), two.score(events, 0))
    assert np.abs(one.score(events, 1) - two.score(events, 1)).max() > 1e-3
    again, another = (fitted(name, events, np.stack([half, ~half]), seed=s) for s in (0, 1))
    np.testing.assert_array_equal(one.score(events, 1), again.score(events, 1))
    assert np.abs(one.score(events, 1) - another.score(events, 1)).max() > 1e-3
    assert one.score(events.select(slice(0, 0))).shape == (0,)
    alone = one.score(events.select(slice(3, 4)))
    np.testing.assert_allclose(alone, one.score(events)[3:4], rtol=1e-4)


@names
def test_weights_decide_what_is_rare(name):
    """Features on a cross, one arm with weight 30: the other becomes the rare one. Weight 0 is as good as absent."""
    events = make_events()
    second = np.random.default_rng(2).random(len(events)) < 0.5
    cross = replace(events, columns=dict(events.columns) | {"b": np.where(second, -events["b"], events["b"])})

    def weighted(first_arm: float, second_arm: float) -> Events:
        w = np.where(second, second_arm, first_arm)
        return replace(cross, columns=dict(cross.columns) | {"w": w}, weight="w")

    far = np.abs(cross["a"]) > 0.7
    for weights, sign in (((30.0, 1.0), 1), ((1.0, 30.0), -1)):
        scores = fitted(name, weighted(*weights)).score(cross)
        ranks = stats.rankdata(scores) / len(scores)
        assert sign * (np.mean(ranks[far & second]) - np.mean(ranks[far & ~second])) > 0.2
    zero, absent = fitted(name, weighted(1.0, 0.0)), fitted(name, cross.select(~second))
    np.testing.assert_array_equal(zero.score(cross), absent.score(cross))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("isolation-forest", {"trees": 20}),
        ("isolation-forest", {"subsample": 64}),
        ("autoencoder", {"bottleneck": 2}),
        ("autoencoder", {"hidden": [16]}),
        ("autoencoder", {"steps": 40}),
        ("autoencoder", {"batch_size": 64}),
        ("gaussian-mixture", {"components": 3}),
        ("gaussian-mixture", {"covariance": "diag"}),
    ],
)
def test_every_option_changes_the_score(name, option):
    events = make_events(1000)
    columns = dict(events.columns) | {"c": np.random.default_rng(3).normal(size=1000)}
    events = replace(events, columns=columns, features=("a", "b", "c"))
    scores = [fitted(name, events, **({"steps": 20} | o if name == "autoencoder" else o)).score(events)
              for o in ({}, option)]  # fmt: skip
    assert np.all(np.isfinite(scores))
    assert np.abs(scores[0] - scores[1]).max() > 1e-4


@names
def test_scores_are_finite_far_outside(name):
    method = fitted(name, make_events(1000))
    x = np.array([[0.0, 0.0], [1e30, -1e30], [3e38, 0.0]], dtype=np.float32)
    columns = {"m": np.array([1500.0, 1e5, 0.5]), "a": x[:, 0], "b": x[:, 1]}
    scores = method.score(Events(columns, mass="m", features=("a", "b")))
    assert np.all(np.isfinite(scores))
    assert scores[1] > scores[0] or name == "isolation-forest"


def test_bad_options_and_samples_are_explained():
    events = make_events(1000)
    with pytest.raises(InputError, match="bottleneck of 2 learns nothing from 2 columns"):
        fitted("autoencoder", events, bottleneck=2)
    with pytest.raises(InputError, match="bottleneck of 1 learns nothing from 1 column"):
        fitted("autoencoder", replace(events, features=("a",)))
    for name in SETTINGS:
        with pytest.raises(InputError, match="too few events to train on: 1000 in the sample"):
            fitted(name, events, min_events=1001)
        with pytest.raises(ValidationError):
            get_method(name).Config(trefs=3)


FLAT = [name for name in SCORES.built_in if not (SCORES[name].simple or SCORES[name].objects)]


def test_every_score_of_flat_features_is_a_method():
    found = [name for name in METHODS.built_in if issubclass(get_method(name), OutlierMethod)]
    assert found == sorted(FLAT)


@pytest.mark.parametrize("name", FLAT)
def test_options_are_those_of_the_score_and_checked_before_anything_is_trained(name):
    config = get_method(name).Config()
    options = config.model_dump(exclude={"min_events"})
    assert options.items() <= SCORES[name].make(()).get_params().items()
    for option in options.keys() & {
        "steps",
        "trees",
        "components",
        "dimensions",
        "latent",
        "layers",
        "flows",
    }:
        with pytest.raises(ValidationError, match=option):
            type(config)(**{option: [0] if name == "deep-svdd" and option == "dimensions" else 0})


def test_events_that_belong_together_are_held_out_together(monkeypatch):
    """The twin of a training event in the held-out part would hide over-training."""
    from serendip.density.samples import SplitSamples

    seen = []
    make = SplitSamples.make

    def spy(samples, **options):
        seen.append(options["groups"][0])
        return make(samples, **options)

    monkeypatch.setattr(SplitSamples, "make", spy)
    events = make_events(400)
    columns = dict(events.columns) | {"pair": np.arange(400) // 2}
    events = replace(events, columns=columns, group="pair")
    half = np.arange(400) < 200
    for name in ("autoencoder", "vae-radius", "flow"):
        get_method(name)(get_method(name).Config(steps=2)).fit(events.without_label(), WINDOW, half)
        np.testing.assert_array_equal(seen.pop(), events.groups[half])
        assert not seen


# Bump hunt

BAND = Window(3300.0, 3700.0)
EDGES = make_edges((2640.0, 5920.0), BAND)


def draw_masses(n: int, rng: np.random.Generator) -> np.ndarray:
    grid = np.geomspace(EDGES[0], EDGES[-1], 2001)
    density = get_family("dijet:4").value(grid, np.array([0.0, 10.0, 5.0, 0.5]))
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    return np.interp(rng.random(n) * cumulative[-1], cumulative, grid)


def plain_look(mass, weights=None, selected=None, background="dijet:4", **options):
    inclusive = fit_inclusive(mass, BAND, EDGES, background, weights=weights)
    chosen = np.ones(len(mass), dtype=bool) if selected is None else selected
    fold = np.arange(len(mass)) % 7
    return analyse_look(
        mass, fold, chosen, BAND, EDGES, inclusive,
        combination=SINGLE, n_folds=7, weights=weights, method="bump-hunt", working_point=1.0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_cut_the_look_is_the_bump_hunt(weighted):
    rng = np.random.default_rng(5)
    mass = draw_masses(20_000, rng)
    weights = rng.exponential(size=len(mass)) if weighted else None
    look = plain_look(mass, weights)
    bump = bump_hunt(mass, BAND, (EDGES[0], EDGES[-1]), background="dijet:4", weights=weights)
    assert look.observed == pytest.approx(bump.observed, rel=1e-12)
    assert look.expected == pytest.approx(bump.expected, rel=1e-12)
    assert look.expected_error == pytest.approx(bump.expected_error, rel=1e-12)
    assert look.p_local == pytest.approx(bump.p_local, rel=1e-9)
    # the error of the shape enters once: it is the whole error
    assert look.shape_error * look.expected == pytest.approx(look.expected_error)
    (fold,) = look.folds
    assert (fold.fold, fold.observed, fold.expected) == (0, look.observed, look.expected)
    assert fold.p == pytest.approx(look.p_local)
    assert look.combination == "single"


def test_without_a_cut_false_positives_are_as_many_as_they_should_be():
    rng = np.random.default_rng(6)
    looks = [plain_look(draw_masses(rng.poisson(10_000), rng)) for _ in range(300)]
    p = np.array([look.p_local for look in looks])
    assert 0.02 <= np.mean(p < 0.05) <= 0.08
    assert stats.kstest(p, "uniform").pvalue > 0.01
    # the toys of the global p-value repeat the fit, so they have the same distribution
    toys = np.exp(draw_looks(looks[:1], 3000, rng)[0])
    assert 0.035 <= np.mean(toys < 0.05) <= 0.065
    assert 0.45 <= np.mean(toys < 0.5) <= 0.55
    best = replace(looks[0], log_p_local=float(np.log(0.02)), p_local=0.02)
    assert global_p_value([best], 3000, rng).p == pytest.approx(0.02, abs=0.012)


def test_a_blinded_look_without_a_cut_hides_the_window():
    mass = draw_masses(20_000, np.random.default_rng(7))
    shown, hidden = plain_look(mass), plain_look(mass, blinded=True)
    assert hidden.observed is None
    assert hidden.p_local is None
    assert hidden.expected == shown.expected
    assert hidden.spectrum.counts[hidden.spectrum.mask].sum() == 0
    assert shown.spectrum.counts[shown.spectrum.mask].sum() == shown.observed


def test_a_cut_without_training_is_one_count_of_all_folds():
    rng = np.random.default_rng(8)
    mass = draw_masses(20_000, rng)
    selected = rng.random(len(mass)) < 0.1
    look = plain_look(mass, selected=selected)
    assert look.observed == np.count_nonzero(selected & BAND.contains(mass))
    assert look.spectrum.offset is not None
    refit = fit_spectrum(
        np.histogram(mass[selected], EDGES)[0], EDGES, look.spectrum.family,
        mask=look.spectrum.mask, offset=look.spectrum.offset,
    )  # fmt: skip
    assert look.expected == pytest.approx(refit.expected[refit.mask].sum())
    assert look.expected_error > refit.window(*np.flatnonzero(np.diff(refit.mask)) + 1)[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "events.parquet", n_background=20_000, n_signal=200)


@pytest.mark.parametrize("combination", ["sequential", "kfold-bonferroni"])
def test_bump_hunt_in_a_search_counts_every_event(table, tmp_path, combination):
    settings = {
        "file": str(table), "mass": "mjj", "features": list(FEATURES), "id": "event", "label": "truth",
        "window": [3300, 3700], "folds": 3, "toys": 100, "working_points": [0.05],
        "method": ["bump-hunt", "isolation-forest"], "combination": combination,
        "options": {"isolation-forest": {"trees": 10}}, "background": "dijet",
    }  # fmt: skip
    run = run_search(parse_config(settings), tmp_path / "run", unblind=True, jobs=1)
    check_files(run.path)
    look, other = run.results["looks"]
    events = read(table, mass="mjj", features=FEATURES)
    bump = bump_hunt(events.m, BAND, background="dijet")
    assert look["observed"] == np.count_nonzero(BAND.contains(events.m)) == bump.observed
    assert look["expected"] == pytest.approx(bump.expected, rel=1e-3)
    assert look["z_local"] == pytest.approx(bump.z_local, abs=0.02)
    assert (look["working_point"], look["combination"], len(look["folds"])) == (1.0, "single", 1)
    assert (other["working_point"], other["combination"]) == (0.05, combination)
    scores = pq.read_table(run.path / "scores.parquet").to_pandas()
    assert scores[scores.method == "bump-hunt"].score.notna().all()
    if combination == "sequential":
        assert scores[(scores.method != "bump-hunt") & (scores.fold == 0)].score.isna().all()
        (curve,) = [
            c for c in json.loads((run.path / "diagnostics.json").read_text())["truth"]["roc"]
            if c["method"] == "bump-hunt"
        ]  # fmt: skip
        assert curve["max_sic"] == 1.0
        assert "bump-hunt" in write_report(run.path).read_text()
