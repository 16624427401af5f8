"""The whole chain on samples without signal and on a ladder of injected signal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import FEATURES, search_settings, write_table
from scipy import stats

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.methods.background import BackgroundConfig
from serendip.runs.folder import RunDirectory
from serendip.search.calibration import Calibration
from serendip.search.config import parse_config
from serendip.search.engine import read_events, run_search
from serendip.search.measure import prepare_window
from serendip.search.null_experiment import NullExperiment, run_null_experiment
from serendip.search.pseudo_data import (
    SampledBackground,
    background_model,
    rate_error,
    without_window,
)
from serendip.statistics.functions import get_family
from serendip.validate import injection, null
from serendip.validate.base import read_validations, write_validation
from serendip.validate.curves import rate_pictures
from serendip.validate.null_verdict import dispersion, judge

WINDOW = Window(3300.0, 3700.0)
DENSITY = BackgroundConfig(density="maf", steps=100, batch_size=256)
RULES = ("sequential", "kfold-summed")
N = 25


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("null") / "events.parquet", 8000, 400, seed=3)


def settings(table, **more):
    given = search_settings(
        table, label="truth", method="cwola", options={"cwola": {"members": 1}}, working_points="0.1", folds=3, toys=100
    )  # fmt: skip
    return parse_config(given | more)


OPTIONS = null.Options(experiments=N, combinations=RULES, same_data=5, density=DENSITY, events=6000)


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("validation")
    validation = null.run(settings(table), OPTIONS, out, jobs=1)
    return out, validation


def row(validation, combination):
    (found,) = (
        look for look in validation.facts["windows"][0]["looks"] if look["combination"] == combination
    )
    return found


# the samples ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(table, tmp_path_factory):
    config = settings(table)
    events = read_events(config)
    fit = prepare_window(events, WINDOW, config)
    run = RunDirectory(tmp_path_factory.mktemp("density"))
    return background_model(events, fit, DENSITY, run, size=1.0, seed=1), events, fit


def test_model_draws_poisson_counts_of_the_fitted_spectrum(model):
    source, events, fit = model
    small = replace(source, size=0.1)
    # 400 signal events are in the window of the data and must not be in the pseudo-data
    assert fit.counts[fit.inside].sum() > fit.inclusive.expected[fit.inside].sum() + 300
    counts = np.array(
        [
            np.histogram(small.draw(np.random.default_rng(i)).m, [fit.edges[0], 3300, 3700, fit.edges[-1]])[0]
            for i in range(40)
        ]
    )
    inside = fit.inclusive.expected[fit.inside].sum()
    total = fit.inclusive.expected.sum()
    for found, mean in ((counts[:, 1], 0.1 * inside), (counts.sum(axis=1), 0.1 * total)):
        assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 40))
        assert found.var(ddof=1) / mean == pytest.approx(1.0, abs=4 * np.sqrt(2 / 39))
    assert source.mean == pytest.approx(total + np.count_nonzero(~fit.in_range(events.m)))


def test_model_knows_the_features_of_background_and_not_of_signal(model):
    source, events, _ = model
    drawn = source.draw(np.random.default_rng(1))
    assert drawn.features == FEATURES
    assert drawn.label is None
    inside, truth = WINDOW.contains(drawn.m), events.select(WINDOW.contains(events.m))
    background, signal = truth.select(~truth.labels), truth.select(truth.labels)
    for i in range(3):
        mean, error = background.x[:, i].mean(), background.x[:, i].std() / np.sqrt(len(background))
        assert drawn.x[inside, i].mean() == pytest.approx(mean, abs=5 * error + 0.05)
    near = np.abs(drawn.x[inside] - signal.x.mean(axis=0)).max(axis=1) < 0.5
    found = np.abs(signal.x - signal.x.mean(axis=0)).max(axis=1) < 0.5
    assert found.mean() > 0.8
    assert near.mean() < 0.01


def test_experiments_draw_other_events(model):
    source = model[0]
    first, second = (source.draw(np.random.default_rng(i)) for i in (0, 1))
    assert not np.intersect1d(first.m[:2000], second.m[:2000]).size
    again = source.draw(np.random.default_rng(0))
    assert again.digest() == first.digest()


def test_the_model_forgets_nothing_it_needs_and_is_trained_once(model, table):
    source, events, fit = model
    run = RunDirectory(source.density.parents[1])
    stored = (source.density / "task.json").stat().st_mtime_ns
    again = background_model(events, fit, DENSITY, run, size=0.5, seed=1)
    assert again.density == source.density
    assert (source.density / "task.json").stat().st_mtime_ns == stored
    assert again.mean == pytest.approx(source.mean / 2)
    # what lies in the window is not part of what is learnt
    outside = events.select(~WINDOW.contains(events.m))
    assert background_model(outside, fit, DENSITY, run, size=1.0, seed=1).density == source.density


def test_weighted_events_have_no_model(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from samples import make_columns

    columns = make_columns(6000, 0, 1)
    path = tmp_path / "weighted.parquet"
    pq.write_table(pa.table(columns | {"w": np.full(6000, 2.0)}), path)
    with pytest.raises(InputError, match="model of weighted events"):
        null.run(settings(path, weight="w"), OPTIONS, tmp_path, jobs=1)


def test_sampled_background_repeats_no_event(table):
    pool = read_events(settings(table))
    source = SampledBackground(pool, 2000.0)
    samples = [source.draw(np.random.default_rng(i)) for i in range(200)]
    assert all(len(np.unique(sample.ids)) == len(sample) for sample in samples)
    sizes = np.array([len(sample) for sample in samples])
    assert sizes.mean() == pytest.approx(2000, abs=4 * np.sqrt(2000 / 200))
    assert sizes.var(ddof=1) == pytest.approx(2000, abs=4 * 2000 * np.sqrt(2 / 199))
    common = [
        len(np.intersect1d(a.ids, b.ids)) / len(a) for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    assert np.mean(common) == pytest.approx(source.shared, rel=0.02)
    assert source.shared == 2000 / len(pool)


@pytest.mark.parametrize("shared", [0.0, 0.2, 0.6])
def test_rate_error_of_experiments_that_share_events(shared):
    rng = np.random.default_rng(5)
    n, level = 200, 0.05
    common = rng.normal(size=(4000, 1)) * np.sqrt(shared)
    z = common + rng.normal(size=(4000, n)) * np.sqrt(1 - shared)
    rates = np.mean(z > stats.norm.isf(level), axis=1)
    assert rates.mean() == pytest.approx(level, abs=4 * rates.std() / np.sqrt(4000))
    assert rate_error(level, n, shared) == pytest.approx(rates.std(), rel=0.06)
    assert rate_error(0.0, n, shared) == 0.0


def test_without_window_stays_beside_it(table):
    events = read_events(settings(table))
    near = without_window(events, WINDOW, np.random.default_rng(0), 500)
    assert len(near) == 500
    assert near.m.min() >= 2900
    assert near.m.max() < 4100
    assert not WINDOW.contains(near.m).any()


# the experiments ------------------------------------------------------------------------------------------------


def test_null_test_passes_and_its_control_fails(finished):
    out, validation = finished
    assert validation.kind == "null"
    assert not validation.failed
    control = row(validation, "same-data")
    assert control["n"] == 5
    assert control["rates"][0]["rate"] >= 0.5
    assert control["count"]["pull_mean"] > 2
    (check,) = (check for check in validation.checks if check.name.startswith("control"))
    assert check.passed is True
    for rule in RULES:
        count = row(validation, rule)["count"]
        assert count["mean_ratio"] == pytest.approx(1.0, abs=4 * count["mean_ratio_error"] + 0.02)
        assert 0.3 < count["variance_ratio"] < 2.5
    (picture,) = validation.facts["figures"]
    lines = {series["name"]: series for series in picture["series"]}
    assert set(lines) == {"nominal", "same-data", *RULES}
    for rule in RULES:
        assert lines[rule]["y"][-1] == 1.0
        p = np.array(row(validation, rule)["p"])
        assert lines[rule]["y"][-5] == pytest.approx(np.mean(p <= lines[rule]["x"][-5]))
    # two thirds of the events are tested by the sequential rule, all by the other
    ratio = (
        row(validation, "sequential")["count"]["mean_expected"]
        / row(validation, "kfold-summed")["count"]["mean_expected"]
    )
    assert ratio == pytest.approx(2 / 3, rel=0.08)
    assert validation.facts["windows"][0]["mean_events"] == pytest.approx(6000 * 8000 / 8400, rel=0.01)
    path = write_validation(out, validation)
    assert read_validations(out)[0].checks == validation.checks
    json.loads(path.read_text())


def test_experiments_that_were_lost_come_back_with_the_same_bytes(finished, table):
    out, validation = finished
    files = sorted((out / "validation" / "null" / "experiments").rglob("*.json"))
    calibration = out / "validation" / "null" / "calibration.json"
    assert len(files) == N
    before = {path: path.read_bytes() for path in [*files, calibration]}
    kept = {path: path.stat().st_mtime_ns for path in files}
    for path in (files[2], files[20], calibration):
        path.unlink()
    again = null.run(settings(table), OPTIONS, out, jobs=1)
    assert {path: path.read_bytes() for path in before} == before
    changed = [path for path in files if path.stat().st_mtime_ns != kept[path]]
    assert changed == [files[2], files[20]]
    assert again.checks == validation.checks
    assert again.facts == validation.facts


def test_experiments_differ_from_each_other(finished):
    looks = row(finished[1], "sequential")
    assert len(set(looks["p"])) > N - 3


def test_settings_that_change_an_experiment_change_its_folder(table, model):
    source, events, _ = model
    run = RunDirectory(source.density.parents[1])

    def folder(options=OPTIONS, rules=RULES, source=source, **more):
        config = null._in_window(settings(table, **more), WINDOW)
        return null._folder(config, options, rules, source, None, run)

    pool = SampledBackground(events, 3000.0)
    different = [
        folder(), folder(seed=2), folder(folds=4), folder(working_points="0.2"), folder(background="dijet"),
        folder(OPTIONS.model_copy(update={"same_data": 3})), folder(rules=("sequential",)),
        folder(source=replace(source, size=0.5)), folder(source=replace(source, beyond=np.append(source.beyond, 9000.0))),
        folder(source=pool), folder(source=replace(pool, mean=3100.0)),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    more = OPTIONS.model_copy(update={"experiments": 900, "alarm": 0.01, "max_auc": 0.6})
    assert folder(more, combination="kfold-bonferroni", toys=500) == folder()


def test_damaged_experiment_is_named(finished, table):
    out, _ = finished
    path = sorted((out / "validation" / "null" / "experiments").rglob("*.json"))[4]
    content = path.read_bytes()
    path.write_text("{")
    with pytest.raises(InputError, match=r"000004\.json: is damaged"):
        null.run(settings(table), OPTIONS, out, jobs=1)
    path.write_bytes(content)


def test_search_takes_the_calibration_of_the_null_test(finished, table, tmp_path):
    _, validation = finished
    path = validation.facts["calibration"]
    # a search on as many events, with signal: the calibration is for this size
    config = settings(table, combination="kfold-summed", calibration=path, where="event % 4 != 0 | truth > 0")
    with pytest.raises(InputError, match="where"):
        run_search(config, tmp_path / "other", jobs=1)
    smaller = write_table(tmp_path / "smaller.parquet", 5650, 250, seed=4)
    config = settings(smaller, combination="kfold-summed", calibration=path)
    (look,) = run_search(config, tmp_path / "run", unblind=True, jobs=1).results["looks"]
    assert look["z_local"] == pytest.approx(stats.norm.isf(1 / (N + 1)))
    assert look["calibration"]["z_naive"] > 5
    assert look["calibration"]["n_experiments"] == N
    curve = Calibration(**json.loads(Path(path).read_text())).curves[0]
    assert curve.z == pytest.approx(tuple(curve.z))
    assert len(curve.z) == N


def test_one_experiment_is_the_search_on_its_sample(model, table, tmp_path):
    source = model[0]
    config = null._in_window(settings(table, label=None), WINDOW)
    content = run_null_experiment(
        NullExperiment(3, config, ("sequential", "kfold-bonferroni"), False), source
    )
    events = source.draw(np.random.default_rng([config.seed, 0x6E756C6C, 3]))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"mjj": events.m, "event": events.ids} | {name: events[name] for name in FEATURES}),
        tmp_path / "events.parquet",
    )
    for rule in ("sequential", "kfold-bonferroni"):
        own = settings(tmp_path / "events.parquet", label=None, combination=rule, seed=config.seed + 4)
        (look,) = run_search(own, tmp_path / rule, unblind=True, jobs=1).results["looks"]
        (found,) = content["looks"][rule]
        assert found["observed"] == look["observed"]
        assert found["expected"] == pytest.approx(look["expected"], rel=1e-12)
        if look["p_local"] == 1:
            # the last one in the order of the experiments, but no significance
            assert (look["z_local"], found["z"] < -8) == (None, True)
        else:
            assert found["z"] == pytest.approx(look["z_local"], abs=1e-12)
    assert content["events"] == len(events)


def test_the_control_of_weighted_events_over_claims_and_the_search_does_not(model, table):
    """Ranks among events that the model was trained with are no ranks."""
    config = null._in_window(settings(table, label=None, combination="weighted", orders=2), WINDOW)
    found = [
        run_null_experiment(NullExperiment(i, config, ("weighted", "sequential"), True), model[0])
        for i in range(4)
    ]
    points = {name: [look["working_point"] for look in looks] for name, looks in found[0]["looks"].items()}
    assert points == {"weighted": [None], "sequential": [0.1], "same-data": [None, 0.1]}
    rows, checks = judge(found, null.Options().alarm, 0.0, WINDOW)
    z = {
        (row["combination"], row["working_point"]): -stats.norm.ppf(np.array(row["p"], dtype=float))
        for row in rows
    }
    assert z["weighted", None].max() < 3
    assert z["same-data", None].min() > 2.5
    names = [check.name for check in checks]
    assert "false-positive rate at 1 %, cwola, 3300-3700 GeV, weighted, weighted" in names
    (control,) = (check for check in checks if check.name.endswith("weighted, same-data"))
    assert (control.passed, control.value) == (True, 1.0)
    pictures = rate_pictures(rows, WINDOW)
    assert [picture.name for picture in pictures] == [
        "null-cwola-weighted-3300-3700",
        "null-cwola-0.1-3300-3700",
    ]
    assert {series.name for series in pictures[0].series} == {"nominal", "weighted", "same-data"}
    alone = run_null_experiment(NullExperiment(0, config, ("weighted",), True), model[0])
    assert alone["looks"]["weighted"] == found[0]["looks"]["weighted"]
    assert [look["working_point"] for look in alone["looks"]["same-data"]] == [None]


def test_labels_and_simulation_as_sources(table, tmp_path):
    config = settings(table)
    options = null.Options(source="labels", same_data=0)
    source = null._source(config, options, read_events(config), None, RunDirectory(tmp_path))
    assert isinstance(source, SampledBackground)
    assert len(source.events) == 8000
    assert source.events.label is None
    assert source.mean == 4000
    with pytest.raises(InputError, match="without repeating"):
        null._source(
            config,
            options.model_copy(update={"events": 7500}),
            read_events(config),
            None,
            RunDirectory(tmp_path),
        )
    options = null.Options(source="simulation")
    with pytest.raises(InputError, match="needs simulated background"):
        null._source(config, options, read_events(config), None, RunDirectory(tmp_path))
    simulated = settings(table, method="salad", options={}, simulation=str(table))
    with pytest.raises(InputError, match="starts from the same simulation"):
        null._source(simulated, options, read_events(config), read_events(config), RunDirectory(tmp_path))
    with pytest.raises(InputError, match="no truth label"):
        null._source(
            settings(table, label=None), null.Options(source="labels"), read_events(settings(table, label=None)),
            None, RunDirectory(tmp_path),
        )  # fmt: skip


def test_references_are_refused(table, tmp_path):
    config = settings(table, method="supervised", options={})
    with pytest.raises(InputError, match="trained with the truth"):
        null.run(config, OPTIONS, tmp_path, jobs=1)


# the verdict ----------------------------------------------------------------------------------------------------


def experiments(z, combination="sequential"):
    look = {"method": "cwola", "working_point": 0.01, "expected": 100.0, "expected_error": 0.0, "scale": 1.0}
    return [
        {"looks": {combination: [look | {"z": float(value), "observed": 100 + 10 * float(value)}]}}
        for value in z
    ]


def verdict(z, combination="sequential", shared=0.0):
    rows, checks = judge(experiments(z, combination), null.Options().alarm, shared, WINDOW)
    return rows[0], {check.name.split(",")[0]: check for check in checks}


def test_rates_are_fractions_with_binomial_errors():
    z = np.array([3.5] * 3 + [2.5] * 6 + [1.8] * 11 + [1.2] * 30 + [-1.0] * 350)
    found, _ = verdict(z)
    assert [rate["k"] for rate in found["rates"]] == [20, 9, 3, 50, 9, 3]
    first = found["rates"][0]
    assert first["rate"] == 0.05
    assert first["error"] == pytest.approx(np.sqrt(0.05 * 0.95 / 400))
    assert first["p_at_least"] == pytest.approx(stats.binom.sf(19, 400, 0.05))
    assert found["count"]["variance_ratio"] == pytest.approx(np.var(z, ddof=1))
    assert found["count"]["pull_mean"] == pytest.approx(z.mean())
    assert found["count"]["mean_ratio"] == pytest.approx(1 + z.mean() / 10)


def test_verdict_on_true_and_false_p_values():
    rng = np.random.default_rng(21)
    good, wide, shifted = rng.normal(size=400), rng.normal(0, 1.5, 400), rng.normal(0.6, 1.0, 400)
    narrow = rng.normal(-0.2, 0.6, 400)
    for z, passes in ((good, True), (narrow, True), (wide, False), (shifted, False)):
        _, checks = verdict(z)
        assert checks["false-positive rate at 5 %"].passed is passes
    assert verdict(good)[1]["p-values not too small"].passed
    assert not verdict(shifted)[1]["p-values not too small"].passed


def test_calibrated_verdict_is_about_calibrated_p_values():
    wide = np.random.default_rng(22).normal(0.2, 1.5, 400)
    found, checks = verdict(wide, "kfold-summed")
    assert all(check.passed is not False for check in checks.values())
    assert found["rates"][0]["rate"] == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 400))
    assert found["naive"]["rates"][0]["rate"] > 0.1
    assert found["line"]["inflation"][0] == pytest.approx(2.25, abs=3 * found["line"]["inflation"][1])
    assert checks["spread of the summed count"].passed is None


def test_variance_error_is_the_spread_of_variances():
    rng = np.random.default_rng(23)
    found = [
        dispersion(rng.poisson(1.0, 150).astype(float), np.full(150, 1.0), np.zeros(150)) for _ in range(600)
    ]
    values = np.array([one["variance_ratio"] for one in found])
    assert values.mean() == pytest.approx(1.0, abs=4 * values.std() / np.sqrt(600))
    assert np.mean([one["variance_ratio_error"] for one in found]) == pytest.approx(values.std(), rel=0.1)


def test_shared_events_make_the_verdict_milder():
    z = np.where(np.arange(400) < 40, 2.0, 0.0)
    alone, together = verdict(z)[0]["rates"][0], verdict(z, shared=0.3)[0]["rates"][0]
    assert alone["p_at_least"] < 1e-4
    assert together["p_at_least"] > 0.01
    assert together["error"] > 2 * alone["error"]


def test_control_that_shows_nothing_decides_nothing():
    z = np.random.default_rng(24).normal(size=25)
    _, checks = verdict(z, "same-data")
    assert checks["control: the test can fail"].passed is None
    assert verdict(z + 3, "same-data")[1]["control: the test can fail"].passed is True


# the ladder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ladder(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("ladder")
    found = injection.run(settings(table), injection.Options(injections=(100, 350), repeats=2), out, jobs=1)
    assert 0 < found.seconds < 600
    return found


def test_ladder_finds_what_was_injected(ladder):
    assert not ladder.failed
    assert len(ladder.checks) == 5
    (found,) = ladder.facts["ladders"]
    assert found["working_point"] is None
    medians = [(row["injected"], row["z"]) for row in found["medians"]]
    assert medians == [
        (n, pytest.approx(np.median([one["z"] for one in found["steps"] if one["injected"] == n])))
        for n in (0, 100, 350)
    ]
    (claim,) = (row for row in ladder.facts["five_sigma"] if row["quantity"] == "z_weighted")
    # straight between no signal and the first injection, which has far more than 5 sigma
    low, high = max(medians[0][1], 0.0), found["medians"][1]["z"]
    assert claim["signal"] == pytest.approx(100 * (5 - low) / (high - low), rel=0.2)
    assert [step["injected"] for step in found["steps"]] == [0, 0, 100, 100, 350, 350]
    strong = found["steps"][-1]
    assert strong["z"] > strong["z_inclusive"] > 10
    assert strong["mu_hat"] == pytest.approx(1.0, abs=4 * strong["mu_hat_error"])
    assert strong["mu_hat"] == pytest.approx(strong["signal_found"] / strong["signal_selected"])
    weak = found["steps"][2]
    assert weak["mu"] == pytest.approx(100 / 350)
    assert weak["s_over_sqrt_b"] == pytest.approx(strong["s_over_sqrt_b"] * 100 / 350, rel=1e-6)
    significance, strength = ladder.facts["figures"]
    line, points = significance["series"]
    assert line["x"] == line["y"]
    assert points["y"][2] == pytest.approx(np.mean([step["z"] for step in found["steps"][4:]]))
    # without signal there is no strength to measure
    assert strength["series"][1]["x"] == pytest.approx([100 / 350, 1.0])
    line = found["line"]
    assert line["slope"] == pytest.approx(1.0, abs=4 * line["slope_error"])


def step(injected, z, found, selected, repeat=0):
    efficiency = selected / injected if injected else None
    return {
        "injected": injected, "repeat": repeat, "z": z, "z_inclusive": injected / 50, "signal_found": found,
        "signal_found_error": 10.0, "signal_selected": selected, "mu": injected / 400,
        "mu_hat": found / (efficiency * 400) if efficiency else None,
        "mu_hat_error": 10.0 / (efficiency * 400) if efficiency else None,
    }  # fmt: skip


def judged(steps):
    found = {"method": "cwola", "working_point": 0.01, "steps": steps, "line": injection._line(steps)}
    checks = injection._checks(found, injection.Options(injections=(200, 400)))
    return {check.name.rsplit(", cwola")[0]: check for check in checks}


def test_line_is_the_weighted_least_squares_one():
    steps = [step(200, 4, 90, 100), step(200, 5, 120, 100), step(400, 9, 210, 200), step(400, 9, 170, 260)]
    line = injection._line(steps)
    mu, found, error = (np.array([one[name] for one in steps]) for name in ("mu", "mu_hat", "mu_hat_error"))
    (slope, offset), covariance = np.polyfit(mu, found, 1, w=1 / error, cov="unscaled")
    assert (line["slope"], line["offset"]) == pytest.approx((slope, offset))
    assert (line["slope_error"], line["offset_error"]) == pytest.approx(tuple(np.sqrt(np.diag(covariance))))
    assert injection._line(steps[:2]) is None


def test_each_check_of_the_ladder_can_fail():
    good = [step(0, 0.1 * r, 0, 0) for r in (1, 2)]
    good += [step(s, s / 40 + 0.1 * r, s / 2 + 5 * r - 7, s / 2) for s in (200, 400) for r in (1, 2)]
    assert all(check.passed for check in judged(good).values())
    cases = {
        "nothing injected": lambda one: one | {"z": 6.0} if not one["injected"] else one,
        "no more signal found": lambda one: step(
            one["injected"], one["z"], one["signal_found"] + 30, one["signal_selected"]
        ),
        "significance rises": lambda one: one | {"z": 3.0 - one["injected"] / 500},
        "signal strength": lambda one: step(
            one["injected"], one["z"], 0.1 * one["signal_found"], one["signal_selected"]
        ),
        "gain over": lambda one: one | {"z": 0.02 * one["z"]},
    }
    for name, spoil in cases.items():
        (check,) = (
            found for key, found in judged([spoil(one) for one in good]).items() if key.startswith(name)
        )
        assert check.passed is False, name


def test_a_pull_may_be_as_large_as_chance_makes_it():
    """A mean pull of 0.9 +- 0.5 is within two errors of a limit of 0.5, one of 1.9 +- 0.5 is not."""
    steps = [step(s, s / 40, s / 2 + shift, s / 2) for s in (200, 400) for shift in (-1.0, 19.0)]
    for more, passed in ((0.0, True), (10.0, False)):
        check = judged([one | {"signal_found": one["signal_found"] + more} for one in steps])
        found = check["no more signal found than selected"]
        assert found.value == pytest.approx(0.9 + more / 10)
        assert found.error == pytest.approx(0.577, abs=0.01)
        assert found.passed is passed


def test_ladder_needs_labels_and_one_window(table, tmp_path):
    with pytest.raises(InputError, match="--label COL"):
        injection.run(settings(table, label=None), injection.Options(), tmp_path, jobs=1)
    scan = settings(table, window=None, scan="3000:4000", width=0.1)
    with pytest.raises(InputError, match="one window"):
        injection.run(scan, injection.Options(), tmp_path, jobs=1)


@pytest.mark.slow
def test_false_positive_rates_of_the_whole_chain(shared_data, tmp_path):
    """``pytest -m slow -s tests/test_null.py``: 200 trainings of CWoLa with each rule on LHC Olympics background."""
    pytest.importorskip("hdf5plugin")
    config = parse_config(
        {
            "file": str(shared_data / "lhco_rd_v1" / "events_anomalydetection_v1_first100k.features.h5"),
            "preset": "lhco", "where": "label==0", "window": "3300:3700", "folds": 5, "working_points": "1e-2",
            "options": {"cwola": {"members": 1}},
        }
    )  # fmt: skip
    options = null.Options(experiments=200, events=26_400, combinations=RULES)
    validation = null.run(config, options, tmp_path)
    assert not validation.failed
    for rule in RULES:
        found = row(validation, rule)
        print(rule, [(rate["level"], rate["rate"], rate["error"]) for rate in found["rates"]], found["count"])
        assert found["rates"][0]["rate"] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert row(validation, "same-data")["rates"][0]["rate"] > 0.8


def test_toy_spectrum_of_the_model_is_that_of_the_family():
    """The masses of pseudo-data follow the fitted function within each bin, not only its integral."""
    from serendip.statistics.fit import fit_spectrum

    edges = np.linspace(2000, 6000, 9)
    shape = get_family("dijet:3").value(0.5 * (edges[1:] + edges[:-1]), np.array([0.0, 8.0, 5.0]))
    counts = np.round(20_000 * shape / shape.sum())
    fit = fit_spectrum(counts, edges, "dijet:3")
    masses = fit.sample(20_000, 2000.0, 6000.0, np.random.default_rng(2))
    grid = np.linspace(2000, 6000, 4001)
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (fit.density(grid)[1:] + fit.density(grid)[:-1]))])
    assert stats.ks_1samp(masses, lambda m: np.interp(m, grid, cumulative / cumulative[-1])).pvalue > 1e-3
