"""Comparison of methods: injections, stress, figures of merit, resume, and what a user may get wrong."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from run_files import check_files
from samples import FEATURES, make_columns, write_table

from serendip.classify.separation import two_sample_auc
from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.cwola import Cwola
from serendip.report.compare.data import pictures, read_comparison
from serendip.report.compare.page import write_comparison
from serendip.report.compare.words import markdown
from serendip.runs.training import TaskResult
from serendip.search.compare import CompareConfig, LeftOut, choose_methods, method_names, run_compare
from serendip.search.compare.stress import stress
from serendip.search.compare.summary import five_sigma, summary
from serendip.search.config import parse_settings
from serendip.search.injection import inject, look_at
from serendip.search.merits import (
    _signal_and_variance,
    best_trained,
    mass_shape,
    merits,
)
from serendip.statistics.ranks import pooled_efficiency

WINDOW = Window(3300.0, 3700.0)
METHODS = ("cwola", "cathode", "lacathode", "supervised")
FAST = {
    "cwola": {"members": 1},
    "supervised": {"members": 1},
    "cathode": {"members": 1, "steps": 20},
    "lacathode": {"members": 1, "steps": 20},
}


class Steps:
    """Collects what a comparison reports."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.done: dict[str, list[str]] = {}

    def start(self, stage: str, total: int) -> None:
        self.stage = stage
        self.stages[stage] = total
        self.done[stage] = []

    def advance(self, done: str) -> None:
        self.done[self.stage].append(done)

    def fresh(self, stage: str) -> list[str]:
        return [text for text in self.done[stage] if "already there" not in text]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "events.parquet", n_background=8000, n_signal=300)


def config(path: Path, **changes: Any) -> CompareConfig:
    methods = changes.get("method", METHODS)
    settings = {
        "file": str(path),
        "mass": "mjj",
        "features": list(FEATURES),
        "id": "event",
        "label": "truth",
        "window": [3300, 3700],
        "method": methods,
        "injections": [0, 120],
        "repeats": 2,
        "folds": 2,
        "working_points": [0.05],
        "min_background": 20,
        "options": {name: FAST[name] for name in methods if name in FAST},
    }
    return parse_settings(CompareConfig, settings | changes, "test")


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory, printing: Any) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_compare(config(table, method=("cwola", "cathode", "supervised")), out, jobs=1, progress=Steps())
    with printing():
        write_comparison(out)
    return out


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "compare.json").read_text())


def without_time(found: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(found)
    del found["timing_s"]
    for entry in found["entries"]:
        for name in ("own_s", "background_s", "cpu_s", "peak_memory_gib"):
            del entry["cost"][name]
    for row in found["summary"]:
        for name in ("own_s", "background_s", "cpu_s", "peak_memory_gib"):
            row["values"].pop(name, None)
    return found


def sample(n_background: int = 4000, n_signal: int = 300, **roles: Any) -> Events:
    columns = make_columns(n_background, n_signal, seed=3)
    return Events(columns, mass="mjj", features=FEATURES, id="event", **({"label": "truth"} | roles))


# injection ------------------------------------------------------------------------------------------------------


def test_an_injection_has_all_background_and_as_much_signal_as_asked_in_the_window() -> None:
    events = sample()
    narrow = Window(3450.0, 3550.0)  # about 60 % of a signal of width 60
    found = look_at(events, narrow)
    assert 0.5 < found.share < 0.7
    rows = inject(events, narrow, 50, repeat=0, seed=1)
    part = events.select(rows)
    assert np.count_nonzero(~part.labels) == 4000
    assert np.count_nonzero(part.labels & narrow.contains(part.m)) == 50
    assert np.count_nonzero(part.labels) == pytest.approx(50 / found.share, abs=1) == found.total(50)
    assert np.array_equal(rows, np.sort(rows))
    assert np.array_equal(rows, inject(events, narrow, 50, repeat=0, seed=1))
    for other in (inject(events, narrow, 50, 1, 1), inject(events, narrow, 50, 0, 2)):
        assert not np.array_equal(rows, other)
    assert not events.labels[inject(events, narrow, 0, 0, 1)].any()
    everything = inject(events, narrow, found.signal_in_window, 0, 1)
    assert len(everything) == len(events)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": None}, "name the label column"),
        ({"label": "f1"}, "is not a label"),
        ({"truth": np.zeros(4300)}, "none of the 4300 events signal"),
        ({"truth": np.ones(4300)}, "none of the 4300 events background"),
    ],
)
def test_labels_that_cannot_be_used(change: dict[str, Any], words: str) -> None:
    events = sample()
    if "truth" in change:
        events = replace(events, columns={**events.columns, **change})
    else:
        events = replace(events, features=("f2", "f3"), **change)
    with pytest.raises(InputError, match=words):
        look_at(events, WINDOW)


def test_windows_without_signal_and_injections_beyond_it() -> None:
    events = sample()
    with pytest.raises(InputError, match=r"5000-5500 GeV holds none of the 300 signal events, .* from 3\d+"):
        look_at(events, Window(5000.0, 5500.0))
    with pytest.raises(InputError, match=r"400 signal events .* only 299 of the 300"):
        inject(events, WINDOW, 400, 0, 1)


# stress ---------------------------------------------------------------------------------------------------------


def test_correlated_features_gain_their_part_of_the_mass() -> None:
    events = sample()
    hard = stress(events, correlate={"f2": 0.1})
    assert np.allclose(hard["f2"], events["f2"] + 0.1 * events.m)
    assert np.array_equal(hard["f1"], events["f1"])
    assert hard.features == FEATURES
    assert np.corrcoef(hard["f2"], hard.m)[0, 1] > 0.99
    with pytest.raises(InputError, match=r"'mjj' .* not a feature .*f1, f2, f3"):
        stress(events, correlate={"mjj": 0.1})
    with pytest.raises(InputError, match="other than 0"):
        stress(events, correlate={"f1": 0.0})


def test_noise_follows_the_event_and_nothing_else() -> None:
    events = sample()
    noisy = stress(events, noise=2, seed=5)
    assert noisy.features == (*FEATURES, "noise_1", "noise_2")
    table = np.stack([noisy["noise_1"], noisy["noise_2"], events["f1"], events.m, events.labels])
    n = len(events)
    assert np.abs(table[:2].mean(axis=1)).max() < 4 / np.sqrt(n)
    assert np.abs(table[:2].std(axis=1) - 1).max() < 4 / np.sqrt(2 * n)
    assert np.abs(np.corrcoef(table)[0, 1:]).max() < 4 / np.sqrt(n)
    rows = np.random.default_rng(0).permutation(n)[:100]
    assert np.array_equal(stress(events.select(rows), noise=2, seed=5)["noise_1"], noisy["noise_1"][rows])
    for other in (stress(events, noise=1, seed=6), stress(events, noise=1, seed=5, sample="simulation")):
        assert abs(np.corrcoef(other["noise_1"], noisy["noise_1"])[0, 1]) < 4 / np.sqrt(n)
    with pytest.raises(InputError, match="has a column 'noise_1' already"):
        stress(noisy, noise=1)


# figures of merit -----------------------------------------------------------------------------------------------


def test_pooled_scores_are_made_comparable_by_the_sidebands_and_stay_equal_where_they_were() -> None:
    scores = np.array([3.0, 2.0, 1.0, 3.0, np.nan, 30.0, 20.0, 10.0, 10.0])
    fold = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    sideband = np.array([True, True, True, False, True, True, True, True, False])
    w = np.array([2.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    found = pooled_efficiency(scores, fold, sideband, w)
    assert found[[0, 3]] == pytest.approx(3 / 5)  # tied: weight 2 at or above it, and the least weight
    assert found[[1, 2]] == pytest.approx([4 / 5, 1.0])
    assert np.isnan(found[4])
    assert found[5:] == pytest.approx([2 / 4, 3 / 4, 1.0, 1.0])
    assert np.isnan(pooled_efficiency(scores, fold, fold == 0, w)[5:]).all()


def test_the_mass_shape_of_a_blind_cut_is_a_chi2_and_that_of_a_mass_cut_is_not() -> None:
    rng = np.random.default_rng(1)
    edges = np.linspace(2000, 5000, 31)
    values, ps = [], []
    for _ in range(200):
        m = rng.uniform(2000, 5000, 3000)
        found = mass_shape(m, rng.random(3000) < 0.1, edges, np.full(3000, 0.5))
        assert found is not None
        assert found["ndf"] == 29
        values.append(found["chi2"])
        ps.append(found["p"])
    assert np.mean(values) == pytest.approx(29, abs=4 * np.sqrt(2 * 29 / 200))
    assert 0.4 < np.mean(ps) < 0.6
    m = rng.uniform(2000, 5000, 3000)
    sculpted = mass_shape(m, rng.random(3000) < 0.1 * (m / 3500) ** 4, edges, np.ones(3000))
    assert sculpted is not None
    assert sculpted["p"] < 1e-6
    thin = mass_shape(m, np.arange(3000) < 12, edges, np.ones(3000))
    assert thin is not None
    assert thin["ndf"] == 1
    assert mass_shape(m, np.ones(3000, bool), edges, np.ones(3000)) is None


def test_two_sample_auc_sees_a_shift_and_honours_weights() -> None:
    rng = np.random.default_rng(2)
    same, other = rng.normal(size=(2, 3000, 2)).astype(np.float32)
    ones = np.ones(3000)
    auc, error = two_sample_auc(other, ones, same, ones, rng)
    assert error == pytest.approx(np.sqrt(6001 / (12 * 3000**2)))
    assert abs(auc - 0.5) < 4 * error
    shifted, _ = two_sample_auc(other, ones, same + np.float32(0.7), ones, rng)
    assert shifted > 0.65
    # weights that undo the shift of a wider sample
    wide = rng.uniform(-4, 4, size=(12_000, 1)).astype(np.float32)
    normal = np.exp(-0.5 * wide[:, 0].astype(np.float64) ** 2)
    assert two_sample_auc(other[:, :1], ones, wide, np.ones(12_000), rng)[0] > 0.65
    auc, error = two_sample_auc(other[:, :1], ones, wide, normal, rng)
    assert abs(auc - 0.5) < 4 * error


def measured(events: Events, scores: np.ndarray, **changes: Any) -> dict[str, Any]:
    """Figures of merit of given scores, as if a method had made them."""
    nothing = np.empty((0, 3), np.float32), np.empty(0), np.empty((0, 4)), np.empty(0)
    settings = config(Path("none"), method=["cwola"], working_points=[0.1], **changes)
    more = scores[None].repeat(len(settings.positions) - 1, axis=0)
    return merits(
        settings, events, TaskResult(scores, *nothing, {"closure": None}, more_scores=more), min_background=20
    )


def test_weights_count_and_equal_ones_change_nothing() -> None:
    columns = make_columns(8000, 150, seed=4)
    columns["w"] = np.full(8150, 3.0)
    plain = Events(columns, mass="mjj", features=FEATURES, id="event", label="truth")
    tripled = replace(plain, weight="w")
    scores = plain["f1"] - plain["f2"]
    one, three = measured(plain, scores), measured(tripled, scores)
    assert three["max_sic"] == pytest.approx(one["max_sic"])
    assert three["auc"] == pytest.approx(one["auc"])
    assert three["s_over_sqrt_b"] == pytest.approx(one["s_over_sqrt_b"])
    assert three["looks"][0]["true_signal"] == pytest.approx(3 * one["looks"][0]["true_signal"])
    assert three["looks"][0]["mass_shape"] == pytest.approx(one["looks"][0]["mass_shape"])
    # background that looks like signal counts less
    columns["w"] = np.where((columns["truth"] == 0) & (scores > 1), 0.1, 1.0)
    light = measured(replace(plain, columns=columns, weight="w"), scores)
    assert 1 - light["auc"] < 0.5 * (1 - one["auc"])


def test_equal_scores_improve_nothing() -> None:
    events = sample(8000, 150)
    found = measured(events, np.zeros(len(events)))
    assert found["auc"] == pytest.approx(0.5)
    assert found["max_sic"]["sic"] == pytest.approx(1.0)
    assert found["sic_at"] == []


def test_the_summary_is_median_and_range_and_knows_no_deficit() -> None:
    def entry(sic: float, z: float | None) -> dict[str, Any]:
        return {
            "method": "a",
            "injection": 5,
            "repeat": 0,
            "signal_in_window": 5,
            "s_over_sqrt_b": 1.0,
            "auc": None,
            "max_sic": {"sic": sic},
            "sigma_min": {"s_over_sqrt_b": 5 / sic},
            "sic_at": [{"working_point": 0.01, "sic": sic / 2}],
            "looks": [
                {
                    "working_point": 0.01,
                    "p_local": z and 0.5,
                    "z_local": z,
                    "mass_shape": {"chi2": 7.5, "ndf": 3},
                }
            ],
            "template": {"closure_auc": None, "truth_auc": 0.5},
            "distance_correlation": 0.1,
            "cost": {"own_s": 1.0, "background_s": None, "cpu_s": 1.0, "peak_memory_gib": None},
        }

    (row,) = summary([entry(1.0, -8.0), entry(4.0, 2.0), entry(2.0, None)])
    assert row["values"]["sigma_min"] == {"median": 2.5, "min": 1.25, "max": 5.0, "n": 3}
    assert row["values"]["max_sic"] == {"median": 2.0, "min": 1.0, "max": 4.0, "n": 3}
    assert row["values"]["sic@0.01"]["max"] == 2.0
    assert row["values"]["z@0.01"] == {"median": 1.0, "min": 0.0, "max": 2.0, "n": 2}
    assert row["values"]["chi2_ndf@0.01"]["median"] == 2.5
    assert "auc" not in row["values"]
    assert "closure_auc" not in row["values"]


def test_regret_is_that_of_the_same_events_and_no_reference_is_the_best() -> None:
    def entry(method: str, repeat: int, strength: float | None) -> dict[str, Any]:
        return {
            "method": method, "injection": 100, "repeat": repeat, "signal_in_window": 100, "s_over_sqrt_b": 1.0, "auc": None,
            "max_sic": None, "sigma_min": strength and {"s_over_sqrt_b": strength}, "sic_at": [], "looks": [],
            "template": {"closure_auc": None, "truth_auc": None}, "distance_correlation": 0.1,
            "cost": {"own_s": 1.0, "background_s": None, "cpu_s": 1.0, "peak_memory_gib": None},
        }  # fmt: skip

    strengths = {"a": (0.5, 2.0, 1.0), "b": (1.0, 1.0, None), "truth": (0.25, 0.25, 0.25)}
    entries = [entry(name, i, value) for name, row in strengths.items() for i, value in enumerate(row)]
    found = {row["method"]: row["values"].get("regret") for row in summary(entries, ["truth"])}
    assert found["a"] == {"median": 1.0, "min": 1.0, "max": 2.0, "n": 3}
    assert found["b"] == {"median": 1.5, "min": 1.0, "max": 2.0, "n": 2}
    assert found["truth"] == {"median": 0.25, "min": 0.25, "max": 0.5, "n": 3}


def test_the_signal_at_five_sigma_lies_between_the_injections() -> None:
    def rows(method: str, medians: dict[int, float], name: str = "z_weighted") -> list[dict[str, Any]]:
        return [
            {"method": method, "injection": n, "s_over_sqrt_b": n / 100, "values": {name: {"median": z}}}
            for n, z in medians.items()
        ]

    found = five_sigma(
        [
            *rows("between", {250: 8.0, 0: 0.0, 150: 4.0}),
            # half of the injections reach 5 sigma for good only beyond the last one that does not
            *rows("twice", {100: 5.5, 200: 4.5, 300: 6.5}),
            *rows("never", {100: 2.0, 200: 3.0}),
            *rows("always", {100: 6.0, 200: 9.0}, "z@0.01"),
            *rows("nothing", {0: 0.3}),
        ]
    )
    assert [(row["method"], row["signal"], row["bound"]) for row in found] == [
        ("between", 175.0, None),
        ("twice", 225.0, None),
        ("never", 200.0, "above"),
        ("always", 100.0, "below"),
    ]
    assert [row["s_over_sqrt_b"] for row in found] == pytest.approx([1.75, 2.25, 2.0, 1.0])
    assert found[-1]["quantity"] == "z@0.01"


def test_a_mean_over_orders_has_the_mean_variance_of_single_orders() -> None:
    counts, truth = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 4.0]]), np.array([True, False, True])
    assert _signal_and_variance(counts, truth, None) == {
        "true_signal": (1 + 7) / 2,
        "true_signal_variance": (1 + 25) / 2,
        "variance": (5 + 25) / 2,
    }
    # the second and the third are one event
    assert _signal_and_variance(counts, truth, np.array([1, 2, 2]))["variance"] == (5 + 25) / 2
    assert _signal_and_variance(counts, truth, np.array([1, 2, 1])) == {
        "true_signal": 4.0,
        "true_signal_variance": (1 + 49) / 2,
        "variance": (5 + 49) / 2,
    }


def test_every_event_has_the_score_of_the_model_that_saw_most() -> None:
    events = sample(2000, 100)
    settings = config(Path("none"), method=["cwola"], folds=5)
    fold = np.arange(len(events)) % 5
    place = settings.positions[:, fold]
    assert place.shape == (4, 2100)
    scores = np.where(place > 0, place + 10.0 * np.arange(4)[:, None], np.nan)
    nothing = np.empty((0, 3), np.float32), np.empty(0), np.empty((0, 4)), np.empty(0)
    result = TaskResult(scores[0], *nothing, {}, more_scores=scores[1:])
    best, seen = best_trained(settings, fold, result)
    # folds begin at places 0, 1, 2, 3 of the four orders: fold 0 never comes last, each other one does once
    assert [set(best[fold == f]) for f in range(5)] == [{33.0}, {34.0}, {24.0}, {14.0}, {4.0}]
    assert [set(seen[fold == f]) for f in range(5)] == [{0.6}, {0.8}, {0.8}, {0.8}, {0.8}]
    alone = config(Path("none"), method=["cwola"], folds=5, combination="kfold-bonferroni")
    best, seen = best_trained(alone, fold, result)
    assert best is result.scores
    assert set(seen) == {0.8}
    _, seen = best_trained(alone.model_copy(update={"combination": "sequential"}), fold, result)
    assert [set(seen[fold == f]) for f in range(5)] == [{0.0}, {0.2}, {0.4}, {0.6}, {0.8}]


# the whole chain ------------------------------------------------------------------------------------------------


def test_methods_are_measured_on_background_and_on_injected_signal(finished: Path) -> None:
    found = content(finished)
    names = [(e["method"], e["injection"], e["repeat"]) for e in found["entries"]]
    assert len(names) == len(set(names)) == 10
    # all of the truth is known: nothing in the folder is blinded
    assert json.loads((finished / "manifest.json").read_text())["unblinding"]
    assert found["sample"] == {
        "signal": 300,
        "background": 8000,
        "signal_in_window": 300,
        "background_in_window": found["sample"]["background_in_window"],
        "signal_share_in_window": 1.0,
    }
    for entry in found["entries"]:
        assert entry["signal_in_window"] == entry["injection"]
        b = entry["background_in_window"]
        assert b == found["sample"]["background_in_window"]
        assert entry["s_over_sqrt_b"] == pytest.approx(entry["injection"] / np.sqrt(b))
        assert (entry["max_sic"] is None) == (entry["injection"] == 0)
        assert (entry["template"]["closure_auc"] is not None) == (entry["method"] == "cathode")
        assert abs(entry["template"]["truth_auc"] - 0.5) < 0.2
        if entry["injection"]:
            assert entry["auc"] > 0.9
            assert entry["max_sic"]["background"] >= entry["max_sic"]["min_background"] == 20
            assert 1.5 < entry["max_sic"]["sic"] <= np.sqrt(b / 20) * (1 + 1e-9)
            # the Asimov 5 sigma over a known background need more than S/sqrt(B) = 5 after the cut
            strength = entry["sigma_min"]["s_over_sqrt_b"]
            assert 5 / entry["max_sic"]["sic"] < strength < 6.5 / entry["max_sic"]["sic"]
            weighted, cut = entry["looks"]
            assert (weighted["working_point"], cut["working_point"]) == (None, 0.05)
            assert weighted["z_local"] > cut["z_local"] > 2
            # two folds in two orders: the cut tests one half of the signal, the weights both
            assert 0.35 * entry["injection"] < cut["true_signal"] < 0.65 * entry["injection"]
            assert entry["trained_fraction"] == 0.5
            curve = entry["sic_curve"]
            assert max(curve["sic"]) == pytest.approx(entry["max_sic"]["sic"], rel=0.1)
            assert curve["eps_b"][-1] == curve["eps_s"][-1] == curve["sic"][-1] == 1.0
        else:
            assert entry["auc"] is None
            assert entry["sigma_min"] is None
    (left_out,) = found["left_out"]
    assert (left_out["method"], left_out["injection"]) == ("supervised", 0)
    assert "0 in the signal sample" in left_out["reason"]


def test_repeats_differ_in_signal_and_folds(finished: Path) -> None:
    cells = {(e["injection"], e["repeat"]): e for e in content(finished)["entries"] if e["method"] == "cwola"}
    for injection in (0, 120):
        first, second = cells[injection, 0], cells[injection, 1]
        assert second["seed"] == first["seed"] + 1
        assert first["task"] != second["task"]
        assert first["distance_correlation"] != second["distance_correlation"]


def test_a_lost_training_is_repeated_with_the_same_result(
    table: Path, finished: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    lost = content(again)["entries"][-1]["task"]
    shutil.rmtree(again / "tasks" / lost)
    steps = Steps()
    run_compare(config(table, method=("cwola", "cathode", "supervised")), again, jobs=1, progress=steps)
    assert steps.fresh("training") == ["supervised, 120 signal events, repeat 2"] == steps.fresh("measuring")
    assert without_time(content(again)) == without_time(content(finished))


def test_a_method_that_is_added_shares_what_is_trained(table: Path, finished: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(finished, more)
    steps = Steps()
    run_compare(config(table, injections=[120], repeats=1), more, jobs=1, progress=steps)
    # cathode has trained the density already
    assert steps.fresh("training") == ["lacathode, 120 signal events, repeat 1"]
    assert steps.stages["training"] == 4
    entries = {e["method"]: e for e in content(more)["entries"]}
    assert entries["lacathode"]["background_task"] == entries["cathode"]["background_task"]
    assert entries["lacathode"]["cost"]["background_users"] == 2
    before = {
        e["method"]: e for e in content(finished)["entries"] if (e["injection"], e["repeat"]) == (120, 0)
    }
    assert entries["cwola"] == before["cwola"]
    with pytest.raises(InputError, match=r"other settings \(seed differ\)"):
        run_compare(config(table, seed=2), more, jobs=1, progress=Steps())


def test_stress_reaches_the_training_and_the_record(table: Path, tmp_path: Path) -> None:
    hard = config(
        table,
        method=["cwola"],
        injections=[0],
        repeats=1,
        correlate={"f1": 0.01},
        noise=1,
        working_points=[0.1],
        range=[2640, 5920],
    )
    found = run_compare(hard, tmp_path / "run", jobs=1, progress=Steps())
    assert found["features"] == [*FEATURES, "noise_1"]
    assert (found["config"]["correlate"], found["config"]["noise"]) == ({"f1": 0.01}, 1)
    (entry,) = found["entries"]
    # the window moves f1 by 4 of its own widths
    assert entry["distance_correlation"] > 3 * entry["distance_correlation_null"]
    assert entry["template"]["truth_auc"] > 0.8
    weighted, cut = entry["looks"]
    assert weighted["mass_shape"] is None
    assert cut["mass_shape"]["p"] < 1e-6
    write_comparison(tmp_path / "run")
    page = (tmp_path / "run" / "compare.html").read_text()
    for words in (
        "f1 + 0.01·mjj",
        "1 features of pure noise",
        "changes the mass spectrum",
        "is not the background",
    ):
        assert words in page


def test_a_training_that_fails_is_left_out_or_stops(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cwola, "score", lambda self, events, split=0: np.full(len(events), np.nan))
    settings = config(table, method=["cwola", "supervised"], injections=[120], repeats=1)
    with pytest.raises(InputError, match="not a finite number"):
        run_compare(settings, tmp_path / "strict", jobs=1, progress=Steps())
    found = run_compare(settings, tmp_path / "run", strict=False, jobs=1, progress=Steps())
    assert [entry["method"] for entry in found["entries"]] == ["supervised"]
    (missing,) = found["left_out"]
    assert (missing["method"], missing["injection"]) == ("cwola", 120)
    assert "not a finite number" in missing["reason"]


@pytest.mark.parametrize("place", ["__init__", "background_request"])
def test_a_method_that_cannot_be_made_is_left_out_or_stops(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def refuse(self, *args: Any, **kwargs: Any) -> None:
        raise InputError("no library for this method")

    monkeypatch.setattr(Cwola, place, refuse)
    settings = config(table, method=["cwola", "supervised"], injections=[120], repeats=1)
    with pytest.raises(InputError, match="no library"):
        run_compare(settings, tmp_path / "strict", jobs=1, progress=Steps())
    assert not (tmp_path / "strict").exists()
    found = run_compare(settings, tmp_path / "run", strict=False, jobs=1, progress=Steps())
    assert [entry["method"] for entry in found["entries"]] == ["supervised"]
    assert found["left_out"] == [
        {"method": "cwola", "reason": "no library for this method", "injection": 120}
    ]


def test_a_measurement_that_fails_leaves_the_others(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(config: Any, events: Events, result: TaskResult, **options: Any) -> dict[str, Any]:
        if config.method == ("cwola",) and config.seed == 2:
            raise InputError("the fit does not converge")
        return merits(config, events, result, **options)

    monkeypatch.setattr("serendip.search.compare.run.merits", fail_once)
    settings = config(table, method=["cwola", "supervised"], injections=[120])
    found = run_compare(settings, tmp_path / "run", jobs=1, progress=Steps())
    assert [(e["method"], e["repeat"]) for e in found["entries"]] == [
        ("cwola", 0),
        ("supervised", 0),
        ("supervised", 1),
    ]
    (missing,) = found["left_out"]
    assert (missing["method"], missing["injection"]) == ("cwola", 120)
    assert missing["reason"] == "repeat 2 cannot be measured: the fit does not converge"
    assert f"cwola at 120 signal events: {missing['reason']}" in markdown(read_comparison(tmp_path / "run"))
    # nothing of a failure is stored: the same call measures it when it can
    monkeypatch.undo()
    steps = Steps()
    found = run_compare(settings, tmp_path / "run", jobs=1, progress=steps)
    assert (steps.fresh("training"), steps.fresh("measuring")) == ([], ["cwola, 120 signal events, repeat 2"])
    assert (len(found["entries"]), found["left_out"]) == (4, [])

    def fail(*args: Any, **options: Any) -> dict[str, Any]:
        raise InputError("the fit does not converge")

    monkeypatch.setattr("serendip.search.compare.run.merits", fail)
    alone = config(table, method=["cwola"], injections=[120], working_points=[0.1])
    with pytest.raises(InputError, match="no method can be compared: repeat 1 cannot be measured: the fit"):
        run_compare(alone, tmp_path / "run", jobs=1, progress=Steps())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["all"]),
        ("cwola", ["cwola"]),
        ("cwola, cathode", ["cwola", "cathode"]),
        ("[cwola, cathode]", ["cwola", "cathode"]),
        ("[]", []),
        ("5", None),
        ("[cwola, 5]", None),
        ("[cwola, ]", ["cwola"]),
        ("{cwola: 1}", None),
        ("true", None),
    ],
)
def test_names_of_methods_in_a_file(text: str, names: list[str] | None) -> None:
    value = yaml.safe_load(f"method: {text}")["method"]
    if names is not None:
        assert method_names(value) == names
        return
    with pytest.raises(InputError, match=r"method: .* names no methods; expected a list"):
        method_names(value)


def test_all_leaves_out_what_needs_a_simulation() -> None:
    names, left_out = choose_methods(["all"], simulation=False)
    more, none = choose_methods(["all"], simulation=True)
    assert {"cwola", "cathode", "supervised"} <= set(names) <= set(more)
    assert {"isolation-forest", "autoencoder"} <= set(names)
    assert "kde" in {entry.method for entry in none}
    assert all("outlier score" in entry.reason for entry in none)
    assert choose_methods(["kde"], simulation=False) == (("kde",), ())
    assert {entry.method for entry in left_out} == set(more) - set(names) | {entry.method for entry in none}
    assert all("--simulation" in entry.reason for entry in left_out if entry not in none)
    assert choose_methods(["cwola", "cwola"], simulation=False) == (("cwola",), ())
    assert left_out == tuple(LeftOut(e.method, e.reason) for e in left_out)


# the report -----------------------------------------------------------------------------------------------------


def test_files_follow_their_models(finished: Path) -> None:
    check_files(finished)


def test_figures_carry_medians_and_ranges(finished: Path) -> None:
    found = read_comparison(finished)
    curves, (smallest, largest), (weighted, achieved), costs = pictures(found)
    assert [picture.name for picture in (smallest, weighted)] == ["sigma-min", "z-weighted"]
    assert [curve.name for curve in curves] == ["sic-120-eps-s", "sic-120-eps-b"]
    values = sorted(
        e["max_sic"]["sic"]
        for e in content(finished)["entries"]
        if (e["method"], e["injection"]) == ("cwola", 120)
    )
    band = next(band for band in largest.bands if band.method == "cwola")
    assert (band.low[0], band.high[0]) == pytest.approx(values)
    assert band.median[0] == pytest.approx(np.mean(values))
    assert achieved.bands[0].x == (0.0, band.x[0])
    assert {band.method: band.uses_labels for band in largest.bands}["supervised"]
    by_eps_b = {band.method: band for band in curves[1].bands}["cwola"]
    middle = np.array(by_eps_b.median, dtype=float)
    assert np.all(np.array(by_eps_b.low) <= middle)
    assert np.all(middle <= np.array(by_eps_b.high))
    assert middle[-1] == pytest.approx(1.0)
    # no curve, no picture
    bare = found.model_copy(
        update={"entries": tuple(e.model_copy(update={"sic_curve": None}) for e in found.entries)}
    )
    assert pictures(bare)[0] == []
    cost = {row.method: row for row in costs.costs}
    assert cost["cathode"].background_s > 0 == cost["cwola"].background_s
    for name in ("max-sic", "sic-120-eps-b", "z-0.05", "time"):
        for suffix in ("pdf", "png", "json"):
            assert (finished / "figures" / f"{name}.{suffix}").stat().st_size > 500
    assert json.loads((finished / "figures" / "max-sic.json").read_text()) == largest.model_dump(mode="json")


def test_the_page_stands_alone_and_says_what_is_counted(finished: Path) -> None:
    page = (finished / "compare.html").read_text()
    assert "in the window" in page
    assert "supervised</strong> at 0 signal events" in page
    assert "src=" not in page.split("<script>")[0]
    assert page.count('class="chart"') == 7
    table = (finished / "compare.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    # who reaches 5 sigma, and all numbers
    assert len(rows) == 2 + 3 + 2 + 5 + 1
    assert [len({row.count("|") for row in part}) for part in (rows[:5], rows[5:])] == [1, 1]
    assert "by models trained on 50 % of the data" in table
    (row,) = (line for line in rows if line.startswith("| cwola | 120"))
    median = next(r for r in content(finished)["summary"] if (r["method"], r["injection"]) == ("cwola", 120))
    assert f"{median['values']['max_sic']['median']:.2g} [" in row


# the command ----------------------------------------------------------------------------------------------------


def arguments(file: Path, out: Path, **changes: str | None) -> list[str]:
    options = {
        "mass": "mjj",
        "features": ",".join(FEATURES),
        "id": "event",
        "label": "truth",
        "window": "3300:3700",
        "methods": "cwola",
        "injections": "100",
        "repeats": "1",
        "folds": "2",
        "working-points": "0.05",
        "jobs": "1",
        "set": "cwola.members=1",
        **changes,
    }
    flags = [part for key, value in options.items() if value is not None for part in (f"--{key}", value)]
    return ["compare", str(file), *flags, "--out", str(out)]


def test_the_command_prints_the_table_and_can_be_repeated(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(arguments(table, out, correlate="f2=0.001", noise="1")) == 0
    output = capfd.readouterr()
    assert "| cwola | 100 (" in output.out
    assert "Signal events are counted in the window" in output.out
    assert "[1/1] cwola, 100 signal events, repeat 1" in output.err or "training" in output.err
    settings = content(out)["config"]
    assert (settings["correlate"], settings["noise"]) == ({"f2": 0.001}, 1)
    assert (settings["combination"], settings["orders"]) == ("weighted", 4)
    assert settings["min_background"] == 26
    before = without_time(content(out))
    assert run(["compare", str(out / "config.yaml"), "--out", str(out), "--jobs", "1"]) == 0
    assert without_time(content(out)) == before
    assert (
        run(["compare", str(out / "config.yaml"), "--out", str(out), "--jobs", "1", "--injections", "0"]) == 0
    )
    # figures of the injection that is gone are gone too
    assert sorted(path.name for path in (out / "figures").glob("*.png")) == [
        "time.png",
        "z-0.05.png",
        "z-weighted.png",
    ]
    assert "No signal was injected" in (out / "compare.html").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "trth"}, ["trth", "truth"]),
        ({"label": None}, ["label column"]),
        ({"label": "f1", "features": "f2,f3"}, ["f1", "not a label"]),
        ({"window": "5000:5500"}, ["none of the 300 signal events"]),
        ({"window": None}, ["window"]),
        ({"injections": "100,500"}, ["500 signal events", "only 300 of the 300"]),
        ({"injections": "100,-5"}, ["numbers of signal events"]),
        ({"injections": "many"}, ["injections"]),
        ({"methods": "cwloa", "set": None}, ["cwloa", "cwola"]),
        ({"methods": "supervised", "injections": "0", "set": None}, ["no method can be trained"]),
        ({"correlate": "f9=0.1"}, ["f9", "f1, f2, f3"]),
        ({"correlate": "f1"}, ["--correlate f1", "COL=NUMBER"]),
        ({"noise": "-1"}, ["noise"]),
        ({"repeats": "0"}, ["repeats"]),
        ({"set": "cwola.member=1"}, ["member", "members"]),
    ],
)
def test_what_cannot_be_compared(
    table: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, str | None],
    words: list[str],
) -> None:
    assert run(arguments(table, tmp_path / "run", **changes)) == 2
    output = capfd.readouterr().err
    assert "Traceback" not in output
    for word in words:
        assert word in output, output
    assert not (tmp_path / "run").exists()


def test_the_methods_of_a_file_are_all_if_it_names_none(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def stop(settings: CompareConfig, out: Path, **options: Any) -> None:
        asked.append((settings.method, options["strict"]))
        raise InputError("far enough")

    monkeypatch.setattr("serendip.search.compare.run_compare", stop)
    lines = f"file: {table}\nmass: mjj\nfeatures: [f1, f2]\nlabel: truth\nwindow: [3300, 3700]\nmethod:"
    file = tmp_path / "settings.yaml"
    for text, words in (("", "far enough"), (" cwola", "far enough"), (" 5", "method: 5 names no methods")):
        file.write_text(lines + text + "\n")
        assert run(["compare", str(file), "--out", str(tmp_path / "run")]) == 2
        assert words in capfd.readouterr().err
    everything, _ = choose_methods(["all"], simulation=False)
    assert asked == [(everything, False), (("cwola",), True)]


def test_only_one_class_and_folders_of_others(
    tmp_path: Path, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    background = write_table(tmp_path / "background.parquet", n_background=6000)
    assert run(arguments(background, tmp_path / "run")) == 2
    assert "calls none of the 6000 events signal" in capfd.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert run(arguments(table, tmp_path / "mine")) == 2
    assert "not empty" in capfd.readouterr().err
    (tmp_path / "mine" / "config.yaml").write_text("method: [cwola]\n")
    assert run(arguments(table, tmp_path / "mine")) == 2
    assert "holds another run, not a comparison" in capfd.readouterr().err


def test_row_order_and_other_methods_change_nothing(table: Path, finished: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.take(np.random.default_rng(1).permutation(len(rows))), shuffled)
    settings = config(shuffled, method=["cwola"], injections=[120], repeats=1)
    found = run_compare(settings, tmp_path / "run", jobs=1, progress=Steps())
    before = next(e for e in content(finished)["entries"] if (e["method"], e["injection"]) == ("cwola", 120))
    (entry,) = found["entries"]
    assert {**entry, "cost": None} == {**before, "cost": None}
