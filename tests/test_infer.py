"""Generator-based inference: densities that nobody judged himself with, the whole measurement, its blinding and its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, make_columns, write_table
from scipy.stats import norm

from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.background import train_background
from serendip.methods.gbi import Background, half_samples, learn_signals, log_ratio, sideband_transform
from serendip.methods.ranode import RanodeConfig
from serendip.methods.signal.family import FamilyConfig, SignalFamily, parameter_grid
from serendip.report.infer.page import summary, write_infer_report
from serendip.search.config import parse_settings
from serendip.search.engine import read_events
from serendip.search.folds import event_folds
from serendip.search.infer import InferConfig, run_infer
from serendip.search.infer import run as infer
from serendip.search.infer import session as infer_session
from serendip.search.infer.results import retrained, scanned
from serendip.statistics.functions import get_family
from serendip.statistics.looks import fit_inclusive
from serendip.statistics.mixture import MixtureLikelihood

WINDOW = Window(3300.0, 3700.0)
N_SIGNAL = 50
FAST = {
    "steps": 150,
    "batch_size": 256,
    "members": 2,
    "signal_steps": 80,
    "learning_rate": 4e-3,
    "min_events": 50,
}
SETTINGS = {
    "mass": "mjj", "features": list(FEATURES), "id": "event", "window": "3300:3700", "folds": 3, "toys": 100,
    "half_samples": 1, "draws": 4000, "options": {"ranode": FAST},
}  # fmt: skip


class TrueBackground:
    """The features of ``samples.make_columns``, exactly."""

    def log_prob(self, x, m, split=0):
        return norm.logpdf(x - 0.1 * np.log(m / 3000)[:, None]).sum(1)

    def sample(self, m, split=0, *, rng):
        return rng.normal(size=(len(m), 3)) + 0.1 * np.log(m / 3000)[:, None]


def table(n: int, n_signal: int, seed: int) -> Events:
    return Events(make_columns(n, n_signal, seed), mass="mjj", features=FEATURES, id="event")


def true_background(events: Events) -> Background:
    edges = np.concatenate(
        [np.linspace(2600, 3300, 15), np.linspace(3300, 3700, 9)[1:], np.linspace(3700, 5200, 21)[1:]]
    )
    spectrum = fit_inclusive(events.m, WINDOW, edges, get_family("exppoly"))
    return Background(TrueBackground(), 0, spectrum, WINDOW)


def config(file: Path, **more) -> InferConfig:
    return parse_settings(InferConfig, {"file": str(file)} | SETTINGS | more, "test")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("infer")
    file = write_table(folder / "events.parquet", 6000, N_SIGNAL, seed=3)
    settings = config(file, scan_points=2, retrain=1, folds=2)
    return settings, folder / "run", run_infer(settings, folder / "run", unblind=True, threads=1).results


def family_columns(n: int, seed: int, theta: float | None = None) -> dict[str, np.ndarray]:
    """Signal whose first two features follow the parameters ``ta`` and ``tb``."""
    rng = np.random.default_rng(seed)
    ta, tb = (rng.choice([1.0, 1.5, 2.0, 2.5], n) if theta is None else np.full(n, theta) for _ in range(2))
    x = np.column_stack([ta, -tb, np.full(n, 2.0)]) + rng.normal(0, 0.25, (n, 3))
    return {"mjj": rng.normal(3500, 60, n), "ta": ta, "tb": tb} | {
        name: x[:, i] for i, name in enumerate(FEATURES)
    }


FAMILY = {"steps": 150, "members": 1, "hidden": 16, "bins": 5, "learning_rate": 8e-3}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    background, extra = make_columns(6000, 0, 4), family_columns(40, 5, theta=2.0)
    columns = {name: np.concatenate([background[name], extra[name]]) for name in ("mjj", *FEATURES)}
    columns["event"] = np.arange(6040)
    pq.write_table(pa.table(columns), folder / "events.parquet")
    pq.write_table(pa.table(family_columns(6000, 6)), folder / "signal.parquet")
    settings = config(
        folder / "events.parquet",
        signal=str(folder / "signal.parquet"),
        parameters="ta,tb",
        grid_points=5,
        family=FAMILY,
    )
    return settings, folder, run_infer(settings, folder / "run", unblind=True, threads=1).results


def test_a_learned_signal_is_measured(learned):
    _, _, found = learned
    fit = found["total"]["fit"]
    assert abs(fit["count"] - N_SIGNAL) < 3 * fit["error"]
    assert 5 < fit["error"] < 15
    assert fit["z"] > 5
    low, high = found["total"]["toys"]["interval_95"]
    assert low < N_SIGNAL < high
    # the spectrum predicts the background, and the signal is what exceeds it
    assert found["expected_background"] == pytest.approx(
        found["events"] - N_SIGNAL, abs=4 * found["expected_background_error"]
    )
    assert found["normalisation"][0] == pytest.approx(1, abs=4 * found["normalisation"][1])


def test_the_total_error_holds_the_spurious_signal(learned):
    _, _, found = learned
    spurious = found["spurious"]
    halves = np.array(spurious["half_counts"]) - found["statistical"]["fit"]["count"]
    assert spurious["half_samples"] == pytest.approx(np.sqrt(np.mean(halves**2)))
    assert [entry["side"] for entry in spurious["control"]] == ["below", "above"]
    largest = max(entry["count"] for entry in spurious["control"])
    assert spurious["sigma"] == pytest.approx(np.hypot(spurious["half_samples"], largest))
    assert found["total"]["fit"]["error"] == pytest.approx(
        np.hypot(found["statistical"]["fit"]["error"], spurious["sigma"]), rel=0.01
    )
    # there is no signal next to the window
    assert all(entry["z"] < 3.5 for entry in spurious["control"])


def test_scan_and_retraining_are_reported(learned):
    _, _, found = learned
    assert found["scan"]["fraction"] == pytest.approx([1e-4, 0.1])
    assert found["scan"]["best_gain"] > 20
    none, some = found["retrained"]["without_signal"], found["retrained"]["with_signal"]
    assert len(none["counts"]) == len(some["counts"]) == 1
    assert some["mean_count"] > none["mean_count"] + 15
    assert none["p0"] == pytest.approx(1 / 2)


def test_a_finished_measurement_is_not_trained_again(learned):
    settings, run, found = learned
    stamps = {path: path.stat().st_mtime_ns for path in (run / "tasks").rglob("*") if path.is_file()}
    again = run_infer(settings, run, unblind=False, threads=1).results
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert json.dumps(again | {"timing_s": 0}) == json.dumps(found | {"timing_s": 0})


def test_the_page_shows_the_numbers(learned, printing):
    _, run, found = learned
    with printing():
        page = write_infer_report(run).read_text(encoding="utf-8")
    assert f"{found['total']['fit']['count']:.4g}" in page
    assert "https://" not in page.split("<script>")[0]
    numbers = json.loads((run / "figures" / "likelihood.json").read_text(encoding="utf-8"))
    assert numbers["lines"][0]["y"] == pytest.approx(found["curve"]["total"])
    assert (run / "figures" / "log-ratio.pdf").stat().st_size > 1000
    assert any("68 % interval" in line for line in summary(found))


def test_a_learned_signal_needs_unblinding(tmp_path):
    file = write_table(tmp_path / "events.parquet", 3000)
    with pytest.raises(InputError, match="--unblind"):
        run_infer(config(file), tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


def test_parameters_of_a_simulated_family_are_found(simulated):
    _, _, found = simulated
    # grid points at 1, 1.375, ..., 2.5
    assert found["parameters"]["best"] == pytest.approx([2.0, 2.0], abs=0.38)
    fit = found["total"]["fit"]
    assert abs(fit["count"] - 40) < 3 * fit["error"]
    assert found["global"]["p"] == pytest.approx(1 / 101)
    log_l = np.array(found["parameters"]["log_l"])
    assert log_l.shape == (len(found["parameters"]["points"]), len(found["parameters"]["counts"]))
    assert log_l.max() == 0
    # the likelihood at the best point peaks at its count
    best = np.argmax(log_l.max(1))
    step = found["parameters"]["counts"][1]
    assert found["parameters"]["counts"][int(np.argmax(log_l[best]))] == pytest.approx(
        found["parameters"]["count"][best], abs=step
    )


def test_corner_of_a_family_is_drawn(simulated):
    _, folder, found = simulated
    page = write_infer_report(folder / "run").read_text(encoding="utf-8")
    assert "Profile likelihood of ta" in page
    numbers = json.loads((folder / "run" / "figures" / "profile-1-2.json").read_text(encoding="utf-8"))
    assert numbers["best"] == pytest.approx(found["parameters"]["best"][::-1])
    z = np.array(numbers["z"], dtype=float)
    assert z.shape == (5, 5)
    assert z.min() == pytest.approx(0, abs=1e-9)
    assert any("Best parameters" in line for line in summary(found))


def test_a_blinded_measurement_does_not_look(simulated, tmp_path):
    """Other events in the window give the same expected limits, and nothing observed is written."""
    settings, folder, _ = simulated
    columns = {
        name: np.array(column)
        for name, column in pq.read_table(folder / "events.parquet").to_pydict().items()
    }
    inside = WINDOW.contains(columns["mjj"])
    rng = np.random.default_rng(0)
    columns["f1"][inside] = rng.normal(0, 1, inside.sum())
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    results = []
    for name, file in (("a", settings.file), ("b", str(tmp_path / "other.parquet"))):
        one = settings.model_copy(update={
            "file": file, "parameters": (), "half_samples": 0, "draws": 2000, "options": {"ranode": FAST | {"steps": 20}},
            "family": FamilyConfig(**FAMILY | {"steps": 20}),
        })  # fmt: skip
        results.append(run_infer(one, tmp_path / name, threads=1).results)
    for found in results:
        assert found["blinded"]
        assert found["events"] is None
        assert "fit" not in found["total"]
        assert "best" not in found["parameters"]
        assert "global" not in found
        assert any("expected limit" in line.lower() for line in summary(found))
    assert results[0]["total"] == results[1]["total"]
    bands = results[0]["total"]["expected_upper_limit_95"]
    assert np.all(np.diff(bands) >= 0)
    assert bands[0] > 0


def test_signal_events_that_are_data_are_refused(simulated, tmp_path):
    settings, folder, _ = simulated
    changed = settings.model_copy(update={"signal": str(folder / "events.parquet"), "parameters": ()})
    with pytest.raises(InputError, match="must not be learnt from the events on which it is evaluated"):
        run_infer(changed, tmp_path / "run", threads=1)


def test_no_event_is_judged_by_a_signal_that_saw_it():
    """What the model of fold 0 says does not depend on the events of fold 0."""
    events = table(6000, 60, 1)
    inside = events.select(WINDOW.contains(events.m))
    background, transform = (
        true_background(events),
        sideband_transform(events, WINDOW, np.random.default_rng(0)),
    )
    x, m, w = inside.x.astype(float), inside.m, inside.weights
    fold = np.arange(len(m)) % 2
    splits = np.stack([fold != 0, fold != 1])
    probe = inside.x.astype(float)
    said = []
    for moved in (x, np.where((fold == 0)[:, None], x[::-1], x)):
        model = learn_signals(
            moved,
            m,
            w,
            splits,
            (0, 1),
            background,
            transform,
            RanodeConfig(**FAST | {"signal_steps": 30}),
            seed=1,
        )
        said.append([log_ratio(model, background, probe, m, f) for f in (0, 1)])
    np.testing.assert_array_equal(said[0][0], said[1][0])
    assert np.abs(said[0][1] - said[1][1]).max() > 0.1


def test_a_learned_signal_does_not_depend_on_the_units_of_the_features():
    scale = np.array([10.0, 0.5, 8.0])

    class Scaled(TrueBackground):
        def log_prob(self, x, m, split=0):
            return super().log_prob(x / scale, m) - np.log(scale).sum()

    columns = make_columns(6000, 60, 1)
    said = []
    for units, density in ((np.ones(3), TrueBackground()), (scale, Scaled())):
        changed = columns | {name: columns[name] * unit for name, unit in zip(FEATURES, units, strict=True)}
        events = Events(changed, mass="mjj", features=FEATURES, id="event")
        background = Background(density, 0, true_background(events).spectrum, WINDOW)
        transform = sideband_transform(events, WINDOW, np.random.default_rng(0))
        inside = events.select(WINDOW.contains(events.m))
        x, m, w = inside.x.astype(float), inside.m, inside.weights
        everything = np.ones((1, len(m)), dtype=bool)
        options = RanodeConfig(**FAST | {"signal_steps": 30})
        model = learn_signals(x, m, w, everything, (0,), background, transform, options, seed=1)
        said.append((log_ratio(model, background, x, m, 0), model.fit.fraction))
    np.testing.assert_allclose(said[0][1], said[1][1], rtol=1e-3)
    assert np.abs(said[0][0] - said[1][0]).max() < 1e-3


class Remembered:
    """A signal that knows the events that it learnt from, and counts how often it judges one of them."""

    def __init__(self, m, splits, folds):
        self.seen = {f: set(m[split].tolist()) for f, split in zip(folds, splits, strict=True)}
        self.window, self.fit = WINDOW, self
        self.judged, self.own = {f: set() for f in folds}, 0

    def trained_fraction(self, split):
        del split
        return 0.01

    def held(self, x, fold):
        del fold
        return x

    def log_prob(self, x, m, fold):
        self.own += sum(each in self.seen[fold] for each in m.tolist())
        self.judged[fold] |= set(m.tolist())
        return norm.logpdf(x).sum(1) - np.log(WINDOW.width)

    def sample(self, n, fold, rng):
        del fold
        return rng.normal(size=(n, 3)), rng.uniform(WINDOW.low, WINDOW.high, n)


@pytest.mark.parametrize("combination", ["kfold", "sequential"])
def test_a_measurement_judges_events_by_densities_that_did_not_see_them(combination, tmp_path, monkeypatch):
    models, halves, controls = [], [], []

    def learn(x, m, weights, splits, folds, *others, **options):
        del x, weights, others, options
        models.append(Remembered(m, splits, folds))
        return models[-1]

    def train(request, events, splits, **options):
        halves.extend(set(events.m[split].tolist()) for split in splits)
        return train_background(request, events, splits, **options)

    def ratio(model, background, x, m, fold):
        if background.window != WINDOW:
            controls.append((background.window, background.split, set(m.tolist())))
        return log_ratio(model, background, x, m, fold)

    monkeypatch.setattr(infer, "learn_signals", learn)
    monkeypatch.setattr(infer_session, "train_background", train)
    monkeypatch.setattr(infer_session, "log_ratio", ratio)
    file = write_table(tmp_path / "events.parquet", 6000, N_SIGNAL, seed=3)
    settings = config(
        file,
        combination=combination,
        scan_points=2,
        retrain=1,
        draws=1000,
        options={"ranode": FAST | {"steps": 10}},
    )
    run_infer(settings, tmp_path / "run", unblind=True, threads=1)
    # the measurement, two fractions of the scan, pseudo-experiments with and without signal
    assert len(models) == 5
    assert [model.own for model in models] == [0] * 5
    nominal = models[0]
    events = read_events(settings)
    inside = set(events.m[WINDOW.contains(events.m)].tolist())
    tested = {f: inside & judged for f, judged in nominal.judged.items()}
    fold = dict(zip(events.m.tolist(), event_folds(events, 3, settings.seed).tolist(), strict=True))
    folds = (0, 1, 2) if combination == "kfold" else (1, 2)
    assert tested == {f: {m for m in inside if fold[m] == f} for f in folds}
    # beside the window the background is that of the half that an event is not in
    assert {window.low for window, *_ in controls} == {2900.0, 3700.0}
    for window, split, judged in controls:
        assert split in (1, 2)
        assert judged
        assert not judged & halves[split]
        assert all(window.contains(np.array(sorted(judged))))


def test_a_control_window_takes_the_signal_to_the_same_place():
    events = table(4000, 0, 2)
    background = true_background(events)
    sample = Events(family_columns(1500, 3, theta=2.0), mass="mjj", features=FEATURES)
    model = SignalFamily(FamilyConfig(**FAMILY | {"steps": 100})).fit(sample, WINDOW).at()
    m = np.array([3350.0, 3500.0])
    x = np.array([[2.0, -2.0, 2.0]] * 2)
    shifted = Background(TrueBackground(), 0, background.spectrum, Window(3700.0, 4100.0))
    own = log_ratio(model, background, x, m, 0) + background.log_prob(x, m)
    other = log_ratio(model, shifted, x, m + 400, 0) + shifted.log_prob(x, m + 400)
    np.testing.assert_allclose(own, other)
    assert own[1] > own[0] + 1


def test_half_samples_measure_the_error_of_a_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, 4000)
    halves = half_samples(len(x), 60, rng)
    assert np.all(halves[::2] ^ halves[1::2])
    deviation = np.sqrt(np.mean([(x[half].mean() - x.mean()) ** 2 for half in halves]))
    assert deviation == pytest.approx(3 / np.sqrt(4000), rel=0.3)
    assert half_samples(10, 0, rng).shape == (0, 10)


def test_a_family_interpolates_between_its_points():
    """Trained at four values, it is right at a fifth: samples, and a normalised density close to the true one."""
    sample = Events(family_columns(6000, 7), mass="mjj", features=FEATURES)
    family = SignalFamily(FamilyConfig(**FAMILY | {"steps": 300}), seed=2).fit(sample, WINDOW, ("ta", "tb"))
    theta = np.array([1.75, 2.2])
    x, m = family.sample(4000, theta, np.random.default_rng(0))
    np.testing.assert_allclose(x.mean(0), [1.75, -2.2, 2.0], atol=0.08)
    np.testing.assert_allclose(x.std(0), 0.25, rtol=0.25)
    assert m.mean() == pytest.approx(3500, abs=8)
    truth = norm.logpdf(x, [1.75, -2.2, 2.0], 0.25).sum(1) + norm.logpdf(m, 3500, 60)
    # a Kullback-Leibler divergence
    assert 0 < np.mean(family.log_prob(x, m, theta) - truth) < 0.25
    # mean of true over learned density of learned events is the integral of the true one
    assert np.mean(np.exp(np.clip(truth - family.log_prob(x, m, theta), -20, 3))) == pytest.approx(
        1, abs=0.12
    )


def test_family_weights_count():
    columns = family_columns(4000, 8)
    columns["w"] = np.where(columns["ta"] > 1.8, 1e-6, 1.0)
    weighted = Events(columns, mass="mjj", features=FEATURES, weight="w")
    x, _ = (
        SignalFamily(FamilyConfig(**FAMILY), seed=1)
        .fit(weighted, WINDOW)
        .sample(2000, np.empty(0), np.random.default_rng(0))
    )
    assert x[:, 0].mean() == pytest.approx(1.25, abs=0.12)


def test_the_grid_stays_inside_what_was_simulated():
    points = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0]])
    grid = parameter_grid(points, 3)
    assert sorted(map(tuple, grid)) == [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]
    assert parameter_grid(np.empty((5, 0)), 3).shape == (1, 0)
    np.testing.assert_allclose(parameter_grid(np.array([[1.0], [2.0]]), 3)[:, 0], [1.0, 1.5, 2.0])
    with pytest.raises(InputError, match="span no area"):
        parameter_grid(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), 3)


def test_a_family_says_what_is_wrong():
    sample = Events(family_columns(500, 9, theta=2.0), mass="mjj", features=FEATURES)
    with pytest.raises(InputError, match="no parameter column 'mx'"):
        SignalFamily().fit(sample, WINDOW, ("mx",))
    with pytest.raises(InputError, match="not constant"):
        SignalFamily().fit(sample, WINDOW, ("ta",))
    with pytest.raises(InputError, match="too few events"):
        SignalFamily().fit(sample, Window(5000.0, 6000.0))


def test_scan_finds_the_fraction_and_the_drop():
    """With the true density at every fraction the scan is the likelihood of the fraction."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=2000), rng.normal(3.5, 0.3, 60)])
    r = norm.logpdf(x, 3.5, 0.3) - norm.logpdf(x)
    found = scanned([(w, r) for w in np.geomspace(1e-4, 0.1, 25)], np.ones(len(x)))
    fit = MixtureLikelihood(r).fit()
    assert found["best_fraction"] == pytest.approx(fit.fraction, rel=0.02)
    assert found["best_gain"] == pytest.approx(fit.gain, rel=1e-3)
    low, high = found["interval_68"]
    assert (high - low) / 2 == pytest.approx(fit.error, rel=0.05)
    assert found["interval_95"][0] < low < fit.count < high < found["interval_95"][1]
    doubled = scanned([(w, r) for w in np.geomspace(1e-4, 0.1, 25)], np.full(len(x), 2.0))
    assert doubled["best_gain"] == pytest.approx(found["best_gain"])
    assert doubled["count"] == pytest.approx(2 * found["count"])


def test_scan_without_signal_and_without_end():
    nothing = scanned([(w, np.full(100, -5.0)) for w in (1e-3, 1e-2, 0.1)], np.ones(100))
    assert (nothing["count"], nothing["best_gain"], nothing["interval_95"][0]) == (0.0, 0.0, 0.0)
    rising = scanned([(w, np.full(100, 2.0)) for w in (1e-3, 1e-2, 0.1)], np.ones(100))
    assert rising["interval_68"][1] is None


def test_retrained_toys_are_summarised():
    toys = np.array([[8.0, 2, 1.0, 1, 1], [10.0, 2, 4.0, 1, 1], [12.0, 2, 9.0, 0, 1]])
    some = retrained(toys, 12.0, {"gain": 2.0, "count": 12.0})
    assert (some["mean_count"], some["spread"]) == (10.0, 2.0)
    assert some["mean_count_error"] == pytest.approx(2 / np.sqrt(3))
    assert some["coverage_68"] == pytest.approx(2 / 3)
    # 2 of 3 toys reach q0 = 4
    assert retrained(toys, 0.0, {"gain": 2.0, "count": 12.0})["p0"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"window": None, "scan": "3000:4000", "width": 0.1}, "one window"),
        ({"method": "cwola", "options": {}}, "remove method"),
        ({"working_points": "1e-2"}, "working_points is a setting of a search"),
        ({"options": {"ranode": {"fraction": 0.1}}}, "ranode.fraction is not used"),
        ({"options": {"ranode": {"background": "shared"}}}, "shared by windows"),
        ({"parameters": "mx"}, "requires a simulated signal"),
        ({"signal": "s.parquet", "retrain": 3}, "retrain applies"),
        ({"signal": "s.parquet", "scan_points": 3}, "scan_points applies"),
        ({"spurious": -1.0}, "not negative"),
        ({"combination": "kfold-summed"}, "combination"),
        ({"signal": "s.parquet", "options": {"family": {"step": 3}}}, "family.step"),
    ],
)
def test_settings_without_effect_are_refused(more, match):
    with pytest.raises(InputError, match=match):
        config(Path("events.parquet"), **more)


def test_options_of_the_family_can_be_given_like_those_of_a_method():
    found = config(
        Path("events.parquet"), signal="s.parquet", options={"ranode": FAST, "family": {"steps": 7}}
    )
    assert found.family.steps == 7
    again = parse_settings(InferConfig, found.resolved(), "config.yaml")
    assert again.resolved() == found.resolved()


def test_sideband_transform_needs_neighbours():
    events = table(300, 0, 1)
    with pytest.raises(InputError, match="too few events"):
        sideband_transform(events, Window(6500.0, 6900.0), np.random.default_rng(0))
    found = sideband_transform(table(3000, 0, 1), WINDOW, np.random.default_rng(0))
    z, _ = found.forward(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), np.zeros(2))
    assert isinstance(found, FeatureTransform)
    np.testing.assert_allclose(z[1] - z[0], 1.0, atol=0.35)


def test_command_line_refuses_and_says_why(tmp_path):
    import typer
    from typer.testing import CliRunner

    from serendip.cli.flags import Command
    from serendip.cli.infer import infer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(cls=Command)(infer)
    file = write_table(tmp_path / "events.parquet", 3000)
    given = [
        str(file),
        "--out",
        str(tmp_path / "run"),
        "--mass",
        "mjj",
        "--features",
        ",".join(FEATURES),
        "--window",
        "3300:3700",
    ]
    found = CliRunner().invoke(app, given)
    assert isinstance(found.exception, InputError)
    assert "--unblind" in str(found.exception)
    found = CliRunner().invoke(app, [*given, "--unblind", "--set", "ranode.fraction=0.1"])
    assert "ranode.fraction is not used" in str(found.exception)
    found = CliRunner().invoke(app, [*given, "--unblind", "--combination", "kfold-summed"])
    assert "combination" in str(found.exception)
