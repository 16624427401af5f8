"""Closure, sculpting, control, the command, its folder and its page."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from run_factory import write_run
from samples import FEATURES, make_columns, search_settings
from scipy import stats
from typer.testing import CliRunner

from serendip.cli.flags import Command
from serendip.cli.main import run as main_run
from serendip.cli.validate import validate
from serendip.errors import InputError
from serendip.events.events import Window
from serendip.report import write_report
from serendip.report.validation.page import headline, lights, write_validation_page
from serendip.report.validation.plots import draw, interactive
from serendip.statistics.compound import CompoundTail
from serendip.statistics.pvalues import asimov_z
from serendip.validate import closure, control, registry, sculpting
from serendip.validate.base import Check, Validation, read_validations, write_validation
from serendip.validate.config import ValidateConfig, parse_validation
from serendip.validate.engine import read_state, run_validations
from serendip.validate.pictures import Picture, Series
from serendip.validate.regions import background_sample, validation_regions

WINDOW = Window(3300.0, 3700.0)
FAST = {"closure": {"per_side": 1, "permutations": 5, "bootstraps": 20}, "control": {"per_side": 1}}


def write(path: Path, *, n: int = 9000, seed: int = 1, change: Any = None) -> Path:
    columns = make_columns(n, 0, seed)
    if change is not None:
        change(columns)
    pq.write_table(pa.table(columns), path)
    return path


def settings(path: Path, **more: Any) -> dict[str, Any]:
    given = {
        **search_settings(path),
        "method": ["cwola"],
        "options": {"cwola": {"members": 1}},
        "working_points": [0.1],
        "folds": 3,
        "toys": 200,
    }
    return given | more


def prepared(
    path: Path, kind: str, own: dict[str, Any] | None = None, **more: Any
) -> tuple[ValidateConfig, Any]:
    chosen = FAST.get(kind, {}) | (own or {})
    config, found = parse_validation(settings(path, **more) | {"validate": {kind: chosen}}, [kind], "test")
    return config, found[kind]


def run_kind(
    module: Any, tmp_path: Path, path: Path, own: dict[str, Any] | None = None, **more: Any
) -> Validation:
    config, chosen = prepared(path, module.__name__.rsplit(".", 1)[1], own, **more)
    found = module.run(config, chosen, tmp_path / "out", jobs=1)
    assert 0 < found.seconds < 600
    return found


def bump(**more: Any) -> dict[str, Any]:
    """The inclusive bump hunt trains nothing."""
    return {"method": ["bump-hunt"], "options": {}} | more


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "events.parquet")


# kinds and settings -------------------------------------------------------------------------------------------------


def test_kinds_by_name():
    assert registry.kind_names("control, closure,control") == ("closure", "control")
    assert registry.kind_names("all") == tuple(registry.KINDS)
    with pytest.raises(InputError, match="unknown validation 'closur'; did you mean 'closure'"):
        registry.kind_names("closur")
    with pytest.raises(InputError, match="name at least one"):
        registry.kind_names(",")


@pytest.mark.parametrize("kind", list(registry.KINDS))
def test_every_kind_has_the_interface(kind):
    module = registry.KINDS[kind]
    assert module.Options().model_config["extra"] == "forbid"
    assert callable(module.run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validate": {"closure": {"max_acu": 0.6}}},
            "validate.closure: unknown option 'max_acu'; did you mean 'max_auc'",
        ),
        ({"validate": {"closure": {"min_p": 2}}}, "validate.closure: min_p: .*less than 1"),
        ({"validate": {"closur": {}}}, "unknown validation 'closur'"),
        ({"validate": ["closure"]}, "expected validate: {KIND: {OPTION: VALUE}}"),
        ({"window": None}, "'closure' needs a window"),
        ({"window": None, "width": 0.1}, "width requires a scan|give either a window"),
        ({"method": ["salad"], "options": {}}, "starts from simulated background"),
        ({"simulation": "s.parquet", "options": {"cathode": {}}}, "options are given for 'cathode'"),
        ({"folsd": 3}, "unknown option 'folsd'"),
    ],
)
def test_settings_that_are_wrong(data, change, message):
    with pytest.raises(InputError, match=message):
        parse_validation(settings(data) | change, ["closure"], "test")


def test_a_simulation_may_be_compared_that_no_method_starts_from(data):
    config, options = parse_validation(
        settings(data, simulation="s.parquet") | {"window": None, "validate": {"simulation": None}},
        ["simulation"],
        "test",
    )
    assert config.simulation == "s.parquet"
    assert config.windows == ()
    assert options["simulation"].folds == 5


def test_the_kind_null_needs_no_quotes_in_yaml(data):
    given = yaml.safe_load("validate: {null: {experiments: 40}}")
    _, options = parse_validation(settings(data) | given, ["null"], "test")
    assert options["null"].experiments == 40
    given["validate"]["null"] = {"same_data": 3}
    _, options = parse_validation(settings(data) | given, ["null"], "test")
    assert (options["null"].experiments, options["null"].same_data) == (40, 3)


# where background is tested ------------------------------------------------------------------------------------------


def test_validation_windows_lie_beside_the_closed_region_and_see_their_side_only(data):
    config, _ = prepared(data, "closure")
    background = background_sample(config, "data")
    assert background.hidden == WINDOW
    regions, left_out = validation_regions(config, background, per_side=2, gap=0.5)
    ratio = 3700 / 3300
    expected = [3300 * ratio**-2.5, 3300 * ratio**-1.5, 3700 * ratio**0.5, 3700 * ratio**1.5]
    # the highest has too few events above it in this sample
    places = [region.window.low for region in regions] + [float(name.split("-")[0]) for name in left_out]
    assert sorted(places) == pytest.approx(expected, rel=1e-3)
    for region in regions:
        assert region.window.high / region.window.low == pytest.approx(ratio, rel=1e-3)
        m = region.events.m
        assert not WINDOW.contains(m).any()
        assert (m < 3300).all() or (m >= 3700).all()
        assert region.window.contains(m).any()
        assert region.config.windows == (region.window,)


def test_a_range_and_tev_are_kept_on_the_side_of_a_window(data, tmp_path):
    def to_tev(columns):
        columns["mjj"] = columns["mjj"] / 1000

    path = write(tmp_path / "tev.parquet", change=to_tev)
    config, _ = prepared(path, "closure", unit="TeV", window=[3.3, 3.7], range=[2.2, 6.0])
    regions, _ = validation_regions(config, background_sample(config, "data"), per_side=1, gap=0.5)
    low, high = regions
    assert low.config.mass_range == pytest.approx((2200, 3300))
    assert high.config.mass_range == pytest.approx((3700, 6000))
    assert low.window.high == pytest.approx(3300 * (3.7 / 3.3) ** -0.5, rel=1e-3)


def test_labelled_background_is_tested_in_the_window_too(data):
    config, _ = prepared(data, "closure", label="truth")
    background = background_sample(config, "auto")
    assert background.hidden is None
    assert background.events.label is None
    regions, _ = validation_regions(config, background, per_side=1, gap=0.5)
    assert WINDOW in [region.window for region in regions]
    assert all(len(region.events) == 9000 for region in regions)


def test_windows_that_cannot_be_tested_say_why(data):
    config, _ = prepared(data, "closure", scan=[2100, 6000], width=0.1, window=None)
    with pytest.raises(InputError, match=r"no window outside 2100-.* can be tested .*labelled background"):
        validation_regions(config, background_sample(config, "data"), per_side=1, gap=0.0)
    config, _ = prepared(data, "closure")
    with pytest.raises(InputError, match="overlaps with the closed region 3300-3700 GeV"):
        validation_regions(
            config, background_sample(config, "data"), per_side=1, gap=0.0, wanted=[Window(3600, 4000)]
        )
    with pytest.raises(InputError, match="needs simulated background"):
        background_sample(config, "simulation")
    with pytest.raises(InputError, match="needs the truth"):
        background_sample(config, "label")
    config, _ = prepared(data, "closure", method=["supervised"], options={}, label="truth")
    with pytest.raises(InputError, match="supervised: references that use the truth are not validated"):
        validation_regions(config, background_sample(config, "label"), per_side=1, gap=0.5)


# closure -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "relative", "scale"), [(400.0, 0.0, 1.0), (3.0, 0.0, 1.0), (30.0, 0.1, 2.5)])
def test_pulls_of_a_right_expectation_have_mean_0_and_width_1(b, relative, scale):
    rng = np.random.default_rng(5)
    pulls = []
    for _ in range(1500):
        # the expectation is itself a Poisson measurement with that relative error
        measured = b if relative == 0 else rng.poisson(1 / relative**2) * relative**2 * b
        n = rng.poisson(b)
        result = SimpleNamespace(
            observed=n * scale,
            expected=measured * scale,
            expected_error=np.sqrt(measured * b) * relative * scale,
            spectrum=SimpleNamespace(scale=scale),
            tail=None,
            orders=(),
        )
        pulls.append(closure.pull(SimpleNamespace(result=result)))
    assert np.mean(pulls) == pytest.approx(0, abs=4 / np.sqrt(1500))
    # a mid-p-value of few counts has a width a little below 1
    assert 0.88 < np.std(pulls) < 1 + 4 / np.sqrt(3000)


def test_pulls_of_weighted_sums_know_their_law_and_are_those_of_one_order():
    rng = np.random.default_rng(6)
    # weights as those of ranks: many small ones and few large ones
    weights = np.log1p(0.003 / rng.uniform(1e-3, 0.1, 4000))
    scale = float((weights**2).sum() / weights.sum())
    tail = CompoundTail.of(weights, (), scale)
    expected = 40.0 * float(weights.mean())

    def of(total, tail, **more):
        return SimpleNamespace(
            observed=total, expected=expected, expected_error=0.01 * expected, spectrum=SimpleNamespace(scale=scale),
            tail=tail, **more,
        )  # fmt: skip

    def pulls(law):
        return np.array([closure.pull(SimpleNamespace(result=of(total, law, orders=()))) for total in totals])

    totals = [rng.choice(weights, rng.poisson(40.0)).sum() for _ in range(400)]
    right, poisson = pulls(tail), pulls(None)
    assert right.mean() == pytest.approx(0, abs=4 / 20)
    assert right.std() == pytest.approx(1.0, abs=4 / np.sqrt(800))
    assert stats.kstest(right, "norm").pvalue > 1e-3
    # the tail of such a sum is longer than that of a Poisson number with the same variance
    high = np.array(totals) > np.quantile(totals, 0.97)
    assert (poisson[high] > right[high] + 0.05).all()
    orders = tuple(of(total, tail, orders=()) for total in totals[:4])
    combined = SimpleNamespace(result=of(99.0, None, orders=orders))
    assert closure.pull(combined) == pytest.approx(right[0])


def test_pull_of_an_empty_and_of_an_impossible_count_is_finite():
    def of(n, b):
        spectrum = SimpleNamespace(scale=1.0)
        result = SimpleNamespace(
            observed=n, expected=b, expected_error=0.0, spectrum=spectrum, tail=None, orders=()
        )
        return closure.pull(SimpleNamespace(result=result))

    assert -1.5 < of(0.0, 1.0) < 0
    assert of(0.0, 0.1) == pytest.approx(stats.norm.isf(0.5 * (1 + 1 - np.exp(-0.1))))
    assert of(5000.0, 10.0) == pytest.approx(asimov_z(4990.0, 10.0), rel=1e-3)


def test_closure_of_features_that_do_not_know_the_mass(data, tmp_path):
    found = run_kind(closure, tmp_path, data)
    assert not found.failed
    assert len(found.facts["windows"]) == 2
    for entry in found.facts["auc"]:
        assert entry["auc"] == pytest.approx(0.5, abs=3.5 * entry["error"])
        assert 0 < entry["error"] < 0.08
    weighted, cut = found.facts["pulls"]
    assert (weighted["working_point"], cut["working_point"]) == (None, 0.1)
    assert np.abs([weighted["pulls"], cut["pulls"]]).max() < 3.5
    assert all(0 < n < 0.3 * 9000 for n in cut["expected"])
    names = [check.name for check in found.checks if "pulls" in check.name]
    assert names == ["cwola: pulls of the counts, weighted", "cwola: pulls of the counts, ε_B = 0.1"]


def test_the_window_stays_closed(data, tmp_path):
    """Whatever the events of the window are, the answer is the same."""

    def spoil(columns):
        inside = WINDOW.contains(columns["mjj"])
        for name in FEATURES:
            columns[name] = np.where(inside, 9.0, columns[name])
        columns["mjj"] = np.where(inside, 3333.0, columns["mjj"])

    other = write(tmp_path / "other.parquet", change=spoil)
    one, two = (run_kind(closure, tmp_path / name, path) for name, path in (("a", data), ("b", other)))
    assert one.facts == two.facts
    assert one.checks == two.checks


def test_a_template_that_follows_the_mass_badly_fails(tmp_path):
    def curved(columns):
        # strips beside a window have other values than the window itself
        columns["f1"] = columns["f1"] * 0.2 + np.cos(columns["mjj"] / 90)

    path = write(tmp_path / "curved.parquet", change=curved)
    found = run_kind(closure, tmp_path, path)
    aucs = [check for check in found.checks if "AUC" in check.name]
    assert any(check.passed is False for check in aucs)
    weighted, cut = (check for check in found.checks if "pulls" in check.name)
    assert (weighted.passed, cut.passed) == (False, False)
    assert min(weighted.value, cut.value) > 1.5


def test_thresholds_of_the_template_auc():
    def passed(auc, error, **options):
        done = SimpleNamespace(region=SimpleNamespace(window=WINDOW))
        return closure._auc_check("m", done, {"auc": auc, "error": error}, closure.Options(**options)).passed

    assert passed(0.539, 0.01)
    assert passed(0.541, 0.01) is False
    assert passed(0.541, 0.01, errors=3)
    assert passed(0.541, 0.01, max_auc=0.53)
    assert (
        closure._auc_check(
            "m", SimpleNamespace(region=SimpleNamespace(window=WINDOW)), None, closure.Options()
        ).passed
        is None
    )


def test_a_wrong_background_function_shows_in_the_pulls(tmp_path):
    def step(columns):
        # a fifth of the events of the lower window moves to masses below the fit
        m = columns["mjj"]
        move = (m > 2780) & (m < 3116) & (columns["event"] % 5 == 0)
        columns["mjj"] = np.where(move, 2010 + 0.3 * (m - 2780), m)

    found = run_kind(closure, tmp_path, write(tmp_path / "s.parquet", n=30_000, change=step), **bump())
    (check,) = [check for check in found.checks if "pulls" in check.name]
    assert check.passed is False
    assert check.value < -1
    # a method without any template
    assert {check.passed for check in found.checks if "AUC" in check.name} == {None}


@pytest.mark.slow
def test_density_ratios_are_closed_by_their_density(data, tmp_path):
    anode = {"method": ["anode"], "options": {"anode": {"steps": 60}}, "folds": 2}
    found = run_kind(closure, tmp_path, data, **anode)
    aucs = [entry["auc"] for entry in found.facts["auc"]]
    assert all(0.4 < auc < 0.8 for auc in aucs)


# sculpting -----------------------------------------------------------------------------------------------------------


def test_sculpting_of_independent_features_passes(data, tmp_path):
    found = run_kind(sculpting, tmp_path, data)
    assert [check.passed for check in found.checks] == [True, True, True]
    (entry,) = found.facts["results"]
    assert entry["cuts"][0]["pull"] is entry["weighted"]["pull"] is None
    assert [check.value for check in found.checks if "weighted" in check.name] == [
        entry["weighted"]["efficiency_gof_p"]
    ]
    assert entry["distance_correlation"] < entry["null_level"]
    (figure,) = found.facts["figures"]
    assert [series["name"] for series in figure["series"]] == ["weighted", "ε_B = 0.1"]
    for series in figure["series"]:
        # a bin that reaches over the closed window has its centre there
        assert len([x for x in series["x"] if 3320 < x < 3680]) <= 1
        pulls = (np.array(series["y"]) - 1) / np.array(series["error"])
        assert np.abs(pulls).max() < 4


def test_the_smallest_of_several_p_values_is_paid_for():
    def look(*fits):
        orders = tuple(SimpleNamespace(spectrum=SimpleNamespace(gof_p=p)) for p in fits)
        return SimpleNamespace(result=SimpleNamespace(orders=orders))

    assert sculpting._weighted_fit(look(0.1, 0.3)) == pytest.approx(0.2)
    assert sculpting._weighted_fit(look(0.6, 0.9)) == 1.0


def test_a_feature_that_knows_the_window_sculpts(tmp_path):
    def knows(columns):
        near = np.exp(-0.5 * ((columns["mjj"] - 3500) / 100) ** 2)
        columns["f1"] = near + 0.1 * columns["f1"]

    path = write(tmp_path / "k.parquet", change=knows)
    found = run_kind(sculpting, tmp_path, path, label="truth")
    counts = [check for check in found.checks if "background in the window" in check.name]
    assert found.facts["sample"] == "label"
    assert ["weighted" in count.name for count in counts] == [True, False]
    assert [count.passed for count in counts] == [False, False]
    assert min(count.value for count in counts) > 10
    (shape,) = [check for check in found.checks if "mass shape" in check.name]
    assert shape.passed is False
    assert shape.value > 5


def test_a_smooth_dependence_on_the_mass_is_undecided(tmp_path):
    def slope(columns):
        columns["f1"] = columns["f1"] + columns["mjj"] / 1500

    forest = {"method": ["isolation-forest"], "options": {}, "range": [2640, 5920]}
    found = run_kind(sculpting, tmp_path, write(tmp_path / "s.parquet", change=slope), **forest)
    correlation, weighted, shape = found.checks
    assert weighted.passed
    assert (correlation.passed, shape.passed) == (None, None)
    assert correlation.value > 2 * found.facts["results"][0]["null_level"]
    assert shape.value > 2
    assert "smoothly" in shape.meaning
    strict = run_kind(
        sculpting, tmp_path, tmp_path / "s.parquet", {"max_correlation": 0.01, "min_p": 0.999999}, **forest
    )
    assert [check.passed for check in strict.checks] == [False, True, False]


# control -------------------------------------------------------------------------------------------------------------


def peak(columns: dict[str, np.ndarray], at: float, n: int) -> None:
    rng = np.random.default_rng(9)
    rows = rng.choice(len(columns["mjj"]), n, replace=False)
    columns["mjj"][rows] = rng.normal(at, 30, n)


def test_control_windows_of_background_are_quiet(data, tmp_path):
    found = run_kind(control, tmp_path, data, **bump())
    assert [check.passed for check in found.checks] == [True, True]
    assert all(check.limit.startswith("at least 0.005") for check in found.checks)
    for entry in found.facts["searches"]:
        assert entry["global"]["p"] > 0.005


def test_a_peak_in_a_control_window_is_a_failure_and_a_known_one_is_found(tmp_path):
    path = write(tmp_path / "p.parquet", change=lambda columns: peak(columns, 2900, 250))
    found = run_kind(control, tmp_path, path, {"windows": "2800:3000", "peak": [[2800, 3000]]}, **bump())
    quiet, known = found.checks
    assert quiet.passed is False
    assert quiet.value < 0.005
    assert known.passed
    assert known.value > 4
    away = run_kind(control, tmp_path, path, {"windows": "4000:4300", "peak": "2500:2650"}, **bump())
    assert [check.passed for check in away.checks] == [True, False]


def test_a_known_peak_is_no_control_window(tmp_path):
    # the windows beside 3300-3700 are 2780-3117 and 3918-4393
    path = write(tmp_path / "p.parquet", change=lambda columns: peak(columns, 2900, 400))
    found = run_kind(control, tmp_path, path, {"peak": "2800:3000"}, **bump())
    assert [check.name.split(",")[0] for check in found.checks] == ["global p-value", "known peak"]
    assert found.facts["left_out"] == {"2780-3117 GeV": "the known peak 2800-3000 GeV reaches into it"}
    with pytest.raises(InputError, match="reach into every control window"):
        run_kind(control, tmp_path, path, {"peak": "2000:5000"}, **bump())


def test_control_intervals():
    assert control.Options(peak="80:100,2:4").peak == ((80, 100), (2, 4))
    assert control.Options(peak=[80, 100]).peak == ((80, 100),)
    assert control.Options(peak=["80:100"]).peak == ((80, 100),)
    with pytest.raises(ValueError, match="is not a mass interval"):
        control.Options(windows="100:80")
    with pytest.raises(ValueError, match="in quotes"):
        control.Options(peak=184)


# the folder ----------------------------------------------------------------------------------------------------------


def test_finished_kinds_are_skipped_and_others_join(data, tmp_path, monkeypatch):
    calls = []

    def counted(module, name):
        original = module.run

        def run(*arguments, **more):
            calls.append(name)
            return original(*arguments, **more)

        monkeypatch.setattr(module, "run", run)

    counted(control, "control")
    counted(sculpting, "sculpting")
    out = tmp_path / "out"

    def go(kinds, options=None, **more):
        given = settings(data, **bump(**more)) | {"validate": {"control": FAST["control"] | (options or {})}}
        config, chosen = parse_validation(given, kinds, "test")
        return run_validations(config, chosen, out, jobs=1)

    go(["control"])
    before = (out / "validation" / "control.json").read_bytes()
    found = go(["control", "sculpting"])
    assert calls == ["control", "sculpting"]
    assert [one.kind for one in found] == ["sculpting", "control"]
    assert (out / "validation" / "control.json").read_bytes() == before
    go(["control"], {"min_p": 0.5})
    assert calls == ["control", "sculpting", "control"]
    assert read_state(out)["kinds"]["control"]["options"]["min_p"] == 0.5
    with pytest.raises(InputError, match=r"other settings \(seed differ\)"):
        go(["control"], seed=2)


def test_a_killed_command_is_continued(data, tmp_path, monkeypatch):
    config, chosen = parse_validation(settings(data, **bump()) | {"validate": FAST}, ["control"], "test")
    out = tmp_path / "out"
    original = control.run

    def killed(*arguments, **more):
        # what a kill leaves behind: whatever is on the disk now
        shutil.copytree(out, tmp_path / "left")
        return original(*arguments, **more)

    monkeypatch.setattr(control, "run", killed)
    whole = run_validations(config, chosen, out, jobs=1)
    monkeypatch.setattr(control, "run", original)
    continued = run_validations(config, chosen, tmp_path / "left", jobs=1)
    assert [(one.checks, one.facts) for one in continued] == [(one.checks, one.facts) for one in whole]


def test_other_events_are_refused(tmp_path):
    path = write(tmp_path / "e.parquet")
    config, chosen = parse_validation(settings(path, **bump()) | {"validate": FAST}, ["control"], "test")
    run_validations(config, chosen, tmp_path / "out", jobs=1)
    write(path, seed=2)
    with pytest.raises(InputError, match="holds validations of other events"):
        run_validations(config, chosen, tmp_path / "out", jobs=1)


def test_folders_that_hold_something_else(data, tmp_path):
    config, chosen = parse_validation(settings(data, **bump()) | {"validate": FAST}, ["control"], "test")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="contains no validation and no run of a search"):
        run_validations(config, chosen, tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run_validations(config, chosen, tmp_path / "file")
    run = write_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"is the run of a search with other settings \(.*mass.* differ\)"):
        run_validations(config, chosen, run)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "validation.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        run_validations(config, chosen, tmp_path / "bad")


def test_a_kind_that_cannot_run(data, tmp_path):
    config, chosen = parse_validation(
        settings(data, **bump()) | {"validate": FAST}, ["control", "simulation"], "test"
    )
    with pytest.raises(InputError, match="simulation: 'simulation' compares two samples"):
        run_validations(config, {"simulation": chosen["simulation"]}, tmp_path / "a", jobs=1)
    found = run_validations(config, chosen, tmp_path / "b", strict=False, jobs=1)
    assert [one.kind for one in found] == ["control"]
    assert "compares two samples" in read_state(tmp_path / "b")["left_out"]["simulation"]
    with pytest.raises(InputError, match="no kind of validation could run"):
        run_validations(config, {"simulation": chosen["simulation"]}, tmp_path / "c", strict=False, jobs=1)


# the page ------------------------------------------------------------------------------------------------------------

PICTURE = Picture(
    name="demo<1",
    title="A <b>title</b> with $ and ε_B",
    caption="Look here.",
    x_label="feature",
    y_label="ratio",
    series=(
        Series(name="points & more", x=(0, 1), y=(1.0, None), error=(0.1, None)),
        Series(name="line", x=(0, 1), y=(1.0, 2.0), style="line"),
        Series(name="steps", x=(0, 1, 2), y=(3.0, 1.0), style="steps"),
    ),
    level=1.0,
    categories=("a_long_feature_name", "<i>b</i>"),
)


def folder(path: Path, *passed: bool | None) -> Path:
    checks = tuple(
        Check(f"check {i} <script>", state, 0.51, 0.012, "at most 0.52", "It <b>means</b> this.")
        for i, state in enumerate(passed)
    )
    path.mkdir(exist_ok=True)
    write_validation(path, Validation("closure", checks, {"figures": [PICTURE.model_dump(mode="json")]}, 1.5))
    config = {
        "file": "e.parquet",
        "method": ["cwola"],
        "features": ["f1"],
        "folds": 3,
        "combination": "sequential",
        "seed": 1,
    }
    state = {
        "schema": 1,
        "serendip": "0",
        "config": config,
        "input": {"input": {"file": "e.parquet", "digest": "ab", "rows_used": 10}},
        "kinds": {"closure": {"options": {"max_auc": 0.52}}},
        "left_out": {"null": "too <few> events"},
    }
    (path / "validation.json").write_text(json.dumps(state))
    return path


def test_the_page_carries_all_it_needs(tmp_path, printing):
    with printing():
        page = write_validation_page(folder(tmp_path / "v", True, None, False))
    text = page.read_text(encoding="utf-8")
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(https?:)?//', body)
    assert "check 0 &lt;script&gt;" in text
    assert "It &lt;b&gt;means&lt;/b&gt; this." in text
    assert "too &lt;few&gt; events" in text
    assert "0.510\u00a0±\u00a00.012" in text
    rows = re.findall(r'<tr class="(\w+)"><td class="l"><span class="light (\w+)"', body)
    assert rows == [("red", "red"), ("amber", "amber"), ("green", "green")]
    assert "1 of 3 checks failed, 1 is undecided." in text
    numbers = json.loads((tmp_path / "v" / "validation" / "figures" / "closure-demo-1.json").read_text())
    assert Picture.model_validate(numbers) == PICTURE
    for suffix in ("pdf", "png"):
        assert (tmp_path / "v" / "validation" / "figures" / f"closure-demo-1.{suffix}").stat().st_size > 1000
        assert f'href="validation/figures/closure-demo-1.{suffix}"' in text


@pytest.mark.parametrize(
    ("passed", "colour"),
    [((True, True), "green"), ((True, None), "amber"), ((None, False), "red"), ((), "amber")],
)
def test_the_light_of_a_kind_is_its_worst(tmp_path, passed, colour):
    (lamp,) = lights(folder(tmp_path / "v", *passed))
    assert lamp.colour == colour
    assert lamp.question == registry.KINDS["closure"].QUESTION


def test_a_kind_whose_package_is_gone_keeps_its_lights(tmp_path):
    path = folder(tmp_path / "v", True) / "validation" / "closure.json"
    path.write_text(path.read_text().replace('"kind": "closure"', '"kind": "horoscope"'))
    (lamp,) = lights(tmp_path / "v")
    assert (lamp.kind, lamp.question, lamp.colour) == ("horoscope", "", "green")


def test_headlines():
    def of(*passed):
        return headline([Validation("closure", tuple(Check("", p, None, None, "", "") for p in passed))])

    assert of() == "No check was made."
    assert of(True, True) == "None of 2 checks failed."
    assert of(False, None, None) == "1 of 3 checks failed, 2 are undecided."


def test_damaged_files_are_named(tmp_path):
    path = folder(tmp_path / "v", True)
    content = json.loads((path / "validation" / "closure.json").read_text())
    content["facts"]["figures"][0]["series"][0]["y"] = [1.0]
    (path / "validation" / "closure.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="a figure is damaged"):
        write_validation_page(path)
    (path / "validation" / "closure.json").write_text("[")
    with pytest.raises(InputError, match=r"closure\.json: is damaged .*; delete it and run again"):
        read_validations(path)
    with pytest.raises(InputError, match="contains no validation"):
        write_validation_page(tmp_path)


def test_pictures_draw_points_beside_each_other_and_logarithms():
    many = Picture(
        name="n",
        title="t",
        caption="c",
        x_label="x",
        y_label="y",
        series=tuple(Series(name=str(i), x=(1, 2), y=(1, 2), error=(1, 1)) for i in range(2)),
        y_log=True,
    )
    spec = interactive(many)
    assert spec["data"][0]["x"] != spec["data"][1]["x"]
    assert spec["layout"]["yaxis"]["type"] == "log"
    figure = draw(many)
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes[0].containers) == 2
    with pytest.raises(ValueError, match="2 x for 1 y"):
        Series(name="s", x=(0, 1), y=(1,))


def test_the_report_of_a_search_shows_the_lights(tmp_path):
    run = write_run(tmp_path / "run", n_windows=1, methods=("cwola",), working_points=(0.01,))
    folder(run, True, False)
    text = write_report(run).read_text(encoding="utf-8")
    assert "closure: fail" in text
    assert "1 pass, 0 undecided, 1 fail" in text
    assert 'href="validation.html"' in text
    assert "report of the search" in write_validation_page(run).read_text(encoding="utf-8")
    (run / "validation.html").unlink()
    assert main_run(["report", str(run)]) == 0
    assert (run / "validation.html").is_file()


# the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command():
    app = typer.Typer()
    app.command(cls=Command)(validate)

    def call(*arguments: Any):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_the_command_fails_with_exit_code_1_and_passes_with_0(tmp_path, command):
    path = write(tmp_path / "p.parquet", change=lambda columns: peak(columns, 2900, 250))
    flags = (
        "--mass",
        "mjj",
        "--features",
        "f1,f2",
        "--id",
        "event",
        "--window",
        "3300:3700",
        "--method",
        "bump-hunt",
    )
    more = ("--toys", 200, "--jobs", 1)
    failed = command(
        "control", path, "--out", tmp_path / "a", *flags, *more, "--set", "control.windows=2800:3000"
    )
    assert failed.exit_code == 1
    assert "FAIL: global p-value, 2800-3000 GeV" in failed.output
    assert (tmp_path / "a" / "validation.html").exists()
    passed = command(
        "control", path, "--out", tmp_path / "b", *flags, *more, "--set", "control.windows=4000:4300"
    )
    assert passed.exit_code == 0
    assert "FAIL" not in passed.output


def test_the_command_reads_a_yaml_file_and_a_flag_wins(data, tmp_path, command):
    lines = [
        "mass: mjj",
        "features: [f1, f2]",
        "id: event",
        "window: [3300, 3700]",
        "method: bump-hunt",
        "toys: 200",
    ]
    lines += [f"file: {data}", "validate:", "  control: {windows: '4000:4300', min_p: 0.9999}"]
    (tmp_path / "v.yaml").write_text("\n".join(lines))
    failed = command("control", tmp_path / "v.yaml", "--out", tmp_path / "a", "--jobs", 1)
    assert failed.exit_code == 1
    passed = command(
        *(
            "control",
            tmp_path / "v.yaml",
            "--out",
            tmp_path / "a",
            "--jobs",
            1,
            "--set",
            "control.min_p=0.001",
        )
    )
    assert passed.exit_code == 0
    (found,) = read_validations(tmp_path / "a")
    assert found.facts["windows"] == [[4000.0, 4300.0]]


def test_all_leaves_out_a_broken_kind_of_another_package_and_says_why(data, tmp_path, command, monkeypatch):
    broken = EntryPoint("horoscope", "no_stars_today", registry.KINDS.group)
    monkeypatch.setattr(
        "serendip.registry.entry_points", lambda group: [broken] if group == broken.group else []
    )
    with pytest.raises(InputError, match="'horoscope' of the module no_stars_today cannot be loaded"):
        registry.kind_names("horoscope")
    monkeypatch.setattr(registry.KINDS, "built_in", {"control": "serendip.validate.control"})
    flags = ("--mass", "mjj", "--features", "f1,f2", "--window", "3300:3700", "--method", "bump-hunt")
    more = ("--toys", 200, "--jobs", 1, "--set", "control.windows=4000:4300")
    passed = command("all", data, "--out", tmp_path / "a", *flags, *more)
    assert passed.exit_code == 0, passed.output
    assert "left out: horoscope: validation 'horoscope' of" in passed.output
