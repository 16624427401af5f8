"""Looks that cannot see: known before the training, no part of the result; zero events are an observation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from run_factory import write_run
from run_files import check_files

from serendip.errors import InputError
from serendip.events.events import Events
from serendip.methods.base import require_events
from serendip.report import words
from serendip.report.exports.hepdata import export_hepdata
from serendip.report.exports.likelihood import look_models
from serendip.report.html import write_report
from serendip.report.load import read_run
from serendip.search.compare.summary import _quantities
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.search.folds import event_folds
from serendip.search.measure import prepare_window
from serendip.search.null_experiment import _row
from serendip.search.sight import choose_by_size, dead_looks
from serendip.statistics.calibration import NullDistribution
from serendip.statistics.looks import analyse_look, calibrate_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import significance

WINDOW = (2500.0, 2750.0)


def table(path: Path, n: int = 2400, signal: int = 60, empty: bool = False) -> Path:
    """A falling spectrum and a signal that every method would find."""
    rng = np.random.default_rng(2)
    m = 1500.0 * (1 - rng.random(n) * (1 - 6.0**-5)) ** -0.2
    x = rng.normal(size=(n, 2))
    if empty:
        keep = (m < WINDOW[0]) | (m >= WINDOW[1])
        m, x = m[keep], x[keep]
    m = np.concatenate([m, rng.normal(2620, 40, signal)])
    x = np.concatenate([x, rng.normal(4, 0.3, (signal, 2))])
    pq.write_table(pa.table({"m": m, "a": x[:, 0], "b": x[:, 1]}), path)
    return path


def config(path: Path, **changes):
    settings = {
        "file": str(path), "mass": "m", "features": ["a", "b"], "window": list(WINDOW), "toys": 200,
        "combination": "sequential",
    }  # fmt: skip
    return parse_config({**settings, "options": {"cwola": {"members": 1}}, **changes})


def sample(n: int, weights=None) -> Events:
    """Events whose sidebands of the window 2500-2750 GeV in 2000-4000 GeV hold ``n``; each fold of ten has a tenth."""
    m = np.concatenate([np.linspace(2000.0, 2499.0, n - n // 2), np.linspace(2751.0, 3999.0, n // 2)])
    columns = {"m": m, "a": np.zeros(n), "b": np.zeros(n)}
    if weights is None:
        return Events(columns, mass="m", features=("a", "b"))
    return Events(columns | {"w": weights}, mass="m", features=("a", "b"), weight="w")


def prepared(events, settings):
    return [prepare_window(events, window, settings) for window in settings.windows]


@pytest.mark.parametrize(
    ("n", "points", "combination", "dead"),
    [
        (9_900, (0.01, 0.001), "kfold-bonferroni", {0.001}),
        (10_100, (0.01, 0.001), "kfold-bonferroni", set()),
        (900, (0.01, 0.001), "sequential", {0.01, 0.001}),
    ],
)
def test_a_look_needs_as_many_sideband_events_as_folds_over_efficiency(n, points, combination, dead):
    events = sample(n)
    settings = config(
        Path("x"), range=[2000, 4000], folds=10, working_points=points, combination=combination,
        method=["cwola", "bump-hunt"],
    )  # fmt: skip
    fold = np.arange(n) % 10
    found = dead_looks(settings, events, fold, prepared(events, settings))
    assert {point for _, _, point in found} == dead
    assert {name for name, _, _ in found} <= {"cwola"}
    if n == 9_900:
        (text,) = found.values()
        assert "ε_B = 0.001 needs 1000 sideband events in each fold, and the 10 tested folds have 990" in text
        assert "a working point from 0.005" in text


def test_few_heavy_events_are_few(tmp_path):
    n = 10_100
    weights = np.where(np.arange(n) % 100 == 0, 1000.0, 1.0)
    events = sample(n, weights)
    settings = config(Path("x"), weight="w", range=[2000, 4000], folds=10, working_points=(0.01,))
    found = dead_looks(settings, events, event_folds(events, 10, 1), prepared(events, settings))
    (text,) = found.values()
    # about ten heavy events in a fold say all there is
    assert re.search(r"have 1\d on average", text)


def test_ranks_need_fifty_sideband_events_in_each_fold():
    for n, dead in ((490, True), (510, False)):
        events = sample(n)
        settings = config(
            Path("x"), combination="weighted", range=[2000, 4000], folds=10, working_points=(0.1,)
        )
        found = dead_looks(settings, events, event_folds(events, 10, 1), prepared(events, settings))
        reason = found.get(("cwola", settings.windows[0], None), "")
        assert ("need 50 sideband events in each fold" in reason) == dead


@pytest.mark.parametrize(
    ("n", "folds", "points"),
    [
        (400, 4, (0.2, 0.1)),
        (1500, 7, (0.2, 0.02)),
        (5000, 10, (0.1, 0.01)),
        (12_000, 10, (0.05, 0.005)),
        (29_000, 10, (0.02, 0.002)),
        (30_000, 10, (0.01, 0.001)),
    ],
)
def test_folds_and_working_points_follow_the_size_of_the_sample(n, folds, points):
    events = sample(n)
    settings = config(Path("x"), range=[2000, 4000])
    windows = prepared(events, settings)
    chosen, record = choose_by_size(settings, events, windows)
    assert (chosen.folds, chosen.working_points) == (folds, points)
    assert record == {"sideband_events": n, "folds": folds, "working_points": list(points)}
    # the tightest keeps twenty events in the tested folds, and no look is dead
    assert n * points[-1] * (folds - 1) / folds >= 20
    assert not dead_looks(chosen, events, event_folds(events, folds, 1), windows)
    # again: nothing is left to choose
    assert choose_by_size(chosen, events, windows) == (chosen, None)


def test_a_scan_is_tight_where_it_can_be_and_loose_where_it_must_be():
    """Of two windows one has 40,000 events beside it and one 1,500."""
    rng = np.random.default_rng(3)
    mass = np.concatenate([rng.uniform(1600.0, 3199.0, 40_000), rng.uniform(3200.0, 8000.0, 1700)])
    columns = {"m": mass, "a": np.zeros(len(mass)), "b": np.zeros(len(mass))}
    events = Events(columns, mass="m", features=("a", "b"))
    (low,), (high,) = (config(Path("x"), window=w).windows for w in ([2400, 2600], [5000, 5400]))
    settings = config(Path("x"))
    windows = [SimpleNamespace(window=w, sideband=lambda m, r=r: (m > r[0]) & (m < r[1])) for w, r in (
        (low, (1600, 3199)), (high, (3200, 8000)))]  # fmt: skip
    chosen, record = choose_by_size(settings, events, windows)
    assert (chosen.folds, chosen.working_points) == (8, (0.02, 0.001))
    assert record["sideband_events"] == 1700


def test_what_is_given_is_respected():
    events = sample(1500)
    given = config(Path("x"), range=[2000, 4000], folds=10, working_points=[0.001])
    assert choose_by_size(given, events, prepared(events, given)) == (given, None)
    half = config(Path("x"), range=[2000, 4000], folds=5)
    chosen, record = choose_by_size(half, events, prepared(events, half))
    assert (chosen.folds, chosen.working_points, "folds" in record) == (5, (0.2, 0.02), False)
    template = config(Path("x"), range=[2000, 4000], method=["cathode"], options={}, counting="template")
    assert choose_by_size(template, events, prepared(events, template)) == (template, None)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """An unblinded run with one look that sees and one that cannot."""
    folder = tmp_path_factory.mktemp("mixed")
    settings = config(table(folder / "t.parquet", signal=150), folds=4, working_points=[0.05, 0.001])
    run_search(settings, folder / "run", unblind=True, jobs=1)
    return folder / "run"


def test_a_dead_look_is_no_look_of_the_result(mixed, tmp_path):
    results = json.loads((mixed / "results.json").read_text())
    check_files(mixed)
    sees, dead = results["looks"]
    assert (sees["dead"], results["global"]["n_looks"], results["global"]["best_look"]) == (None, 1, 0)
    assert sees["observed"] > 40
    assert sees["z_local"] > 5
    assert "needs 1000 sideband events" in dead["dead"]
    assert [dead[key] for key in ("observed", "p_local", "z_local")] == [None] * 3
    assert {fold["p"] for fold in dead["folds"]} == {None}

    write_report(mixed)
    page = (mixed / "report.html").read_text(encoding="utf-8")
    assert "Dead looks" in page
    (note,) = [note for note in words.notes(read_run(mixed)) if note.title == "Dead looks"]
    assert "0.1" in note.text
    assert "not enter the global p-value" in note.text

    _, models = look_models(mixed)
    assert [model.index for model in models] == [0]
    with pytest.raises(InputError, match="look 1 cannot find anything"):
        look_models(mixed, look=1)
    export_hepdata(mixed, tmp_path / "hepdata")
    looks = yaml.safe_load((tmp_path / "hepdata" / "table1.yaml").read_text())
    note, expected = (looks["dependent_variables"][i]["values"][1]["value"] for i in (4, 1))
    assert note.startswith("cannot find anything")
    assert expected == "-"


def test_settings_that_were_chosen_stay_when_a_run_is_continued(tmp_path):
    path = table(tmp_path / "t.parquet", n=8000)
    first = config(path, method=["bump-hunt"], options={})
    run_search(first, tmp_path / "run", jobs=1)
    written = (tmp_path / "run" / "config.yaml").read_text()
    chosen = yaml.safe_load(written)
    assert (chosen["folds"], len(chosen["working_points"])) == (10, 2)
    # as an earlier version would have chosen
    chosen |= {"folds": 6, "working_points": [0.03]}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    run_search(first, tmp_path / "run", jobs=1)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == chosen
    assert read_run(tmp_path / "run").manifest.chosen.folds == 10
    with pytest.raises(InputError, match=r"other settings \(folds differ\)"):
        run_search(config(path, method=["bump-hunt"], options={}, folds=5), tmp_path / "run", jobs=1)


def test_zero_events_are_an_observation_and_a_secret(tmp_path):
    path = table(tmp_path / "t.parquet", signal=0, empty=True)
    settings = config(path, method=["bump-hunt"], options={})
    run_search(settings, tmp_path / "run", jobs=1)
    blind = read_run(tmp_path / "run")
    assert "Blinded" in words.headline(blind.results)
    assert blind.results.looks[0].observed is None
    shown = pq.read_table(tmp_path / "run" / "scores.parquet")["in_window"]
    assert len(shown) - shown.null_count in {1000, 2000}

    run_search(settings, tmp_path / "run", unblind=True, jobs=1)
    results = read_run(tmp_path / "run").results
    (look,) = results.looks
    assert (look.observed, look.p_local, look.z_local) == (0, 1, None)
    assert look.expected > 50
    assert "0 events observed" in words.headline(results)
    assert "no excess (p = 1)" in words.headline(results)
    said = words.headline(results) + words.verdict(results)
    assert "Background alone" not in said
    assert "σ" not in said
    overall = json.loads((tmp_path / "run" / "results.json").read_text())["global"]
    assert (overall["p"], overall["z"]) == (1, None)
    write_report(tmp_path / "run")


def test_nothing_is_concluded_when_no_look_can_see(tmp_path):
    run = write_run(tmp_path / "run", kind="null", methods=("cwola",), n_windows=1)
    content = json.loads((run / "results.json").read_text())
    for look in content["looks"]:
        look |= {"dead": "ε_B = 0.001 needs more", "observed": None, "p_local": None, "z_local": None}
    (run / "results.json").write_text(json.dumps(content | {"global": None}))
    read = read_run(run)
    assert words.headline(read.results) == "No search was possible: none of the 2 looks can find anything."
    assert words.verdict(read.results) == "This run has no sensitivity to a signal. ε_B = 0.001 needs more."
    assert words.reservation(read) == ""
    write_report(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Background alone" not in page


def test_a_run_of_an_older_version_has_no_significance_of_one(tmp_path):
    run = write_run(tmp_path / "run", kind="null", methods=("cwola",), n_windows=1, working_points=(0.01,))
    content = json.loads((run / "results.json").read_text())
    content["looks"][0] |= {"observed": 0, "p_local": 1.0, "z_local": -8.209536151601387}
    content["global"] |= {"p": 1.0, "z": -8.209536151601387}
    (run / "results.json").write_text(json.dumps(content))
    results = read_run(run).results
    assert "8.2" not in words.headline(results) + words.verdict(results)
    assert "no excess" in words.headline(results)


def test_p_of_one_has_an_order_but_no_significance():
    assert significance(0.0) is None
    assert significance(np.log(0.5)) == pytest.approx(0.0)
    rng = np.random.default_rng(0)
    mass = 1500.0 * (1 - rng.random(3000) * (1 - 6.0**-5)) ** -0.2
    settings = config(Path("x"))
    (window,) = settings.windows
    mass = mass[~window.contains(mass)]
    edges = make_edges((2000.0, 4000.0), window)
    inclusive = fit_inclusive(mass, window, edges, "dijet:3")
    look = analyse_look(
        mass, np.zeros(len(mass), int), np.ones(len(mass), bool), window, edges, inclusive,
        combination="single", n_folds=2, method="x", working_point=1.0,
    )  # fmt: skip
    assert (look.observed, look.p_local, look.z_local) == (0, 1.0, None)
    # in a calibration it is the last of all experiments, in a comparison no deficit of many sigma
    assert _row(look)["z"] < -8
    null = NullDistribution(rng.standard_normal(200))
    assert calibrate_look(look, null, "x").z_local is None
    entry = {
        "injection": 0, "repeat": 0, "max_sic": None, "sigma_min": None, "auc": None, "distance_correlation": 0.0, "sic_at": [],
        "template": {"closure_auc": None, "truth_auc": None},
        "cost": dict.fromkeys(("own_s", "background_s", "cpu_s", "peak_memory_gib"), 0.0),
        "looks": [{"working_point": 0.01, "p_local": 1.0, "z_local": None, "mass_shape": None}],
    }  # fmt: skip
    assert _quantities(entry, {})["z@0.01"] == 0.0
    entry["looks"][0]["p_local"] = None
    assert _quantities(entry, {})["z@0.01"] is None
    assert replace(look, dead="x").blinded is False


def test_a_method_does_not_tell_how_many_events_a_window_holds():
    (window,) = config(Path("x")).windows
    few = np.arange(50) < 17
    with pytest.raises(InputError, match="too few events to train on in the signal region") as error:
        require_events(few, 20, "signal region", window)
    assert "17" not in str(error.value)
    with pytest.raises(InputError, match="17 in the lower strip"):
        require_events(few, 20, "lower strip", window)
