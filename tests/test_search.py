"""The whole chain on small synthetic tables: blinding, unblinding, resume, determinism, labels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from run_files import check_files
from samples import FEATURES, numbers, results, search_settings, write_table

import serendip.search.engine
from serendip.cli.main import run as command_line
from serendip.errors import InputError
from serendip.methods.cathode import Cathode
from serendip.methods.cwola import Cwola
from serendip.report import write_report
from serendip.search.config import SearchConfig, parse_config
from serendip.search.engine import plan_training, run_search
from serendip.statistics.pvalues import count_p_value


def config(path: Path, **changes: object) -> SearchConfig:
    settings = {
        **search_settings(path),
        "folds": 4,
        "combination": "sequential",
        "toys": 200,
        "working_points": [0.02],
        "options": {"cwola": {"members": 2}},
    }
    return parse_config({**settings, **changes})


@pytest.fixture(scope="module")
def unblinded(with_signal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_search(config(with_signal), tmp_path_factory.mktemp("runs") / "run", unblind=True, jobs=1).path


def test_a_planted_signal_is_found(unblinded: Path) -> None:
    (look,) = results(unblinded)["looks"]
    assert look["observed"] > look["expected"] + 5 * look["expected_error"]
    assert look["z_local"] > 5
    assert len(look["folds"]) == 3
    assert sum(fold["observed"] for fold in look["folds"]) == look["observed"]
    overall = results(unblinded)["global"]
    assert overall["best_look"] == 0
    # no toy reaches it, and one look has no trials
    assert overall["n_reached"] == 0
    assert overall["p"] == pytest.approx(look["p_local"])


@pytest.mark.parametrize("blind", [True, False])
def test_files_follow_their_models(with_signal: Path, unblinded: Path, tmp_path: Path, blind: bool) -> None:
    check_files(run_search(config(with_signal), tmp_path / "run", jobs=1).path if blind else unblinded)


def test_every_tested_event_has_a_score_from_a_model_that_never_saw_it(unblinded: Path) -> None:
    table = pq.read_table(unblinded / "scores.parquet")
    assert table.column_names == ["id", "method", "window_low", "window_high", "fold", "score", "in_window"]
    assert len(table) == 12_150
    untested = table.filter(pc.equal(table["fold"], 0))
    assert untested["score"].null_count == len(untested)
    assert table.filter(pc.not_equal(table["fold"], 0))["score"].null_count == 0
    assert set(table["method"].to_pylist()) == {"cwola"}


def test_blind_until_unblinded(with_signal: Path, unblinded: Path, tmp_path: Path) -> None:
    run = run_search(config(with_signal), tmp_path / "run", jobs=1).path
    content = results(run)
    assert content["blinded"]
    assert content["global"] is None
    (look,) = content["looks"]
    assert look["observed"] is None
    assert look["p_local"] is None
    assert look["expected"] == results(unblinded)["looks"][0]["expected"]
    assert all(fold["observed"] is None and fold["p"] is None for fold in look["folds"])
    diagnostics = json.loads((run / "diagnostics.json").read_text())
    for spectrum in diagnostics["spectra"]:
        low, high = spectrum["window"]
        for edge, next_edge, count in zip(
            spectrum["edges"], spectrum["edges"][1:], spectrum["observed"], strict=False
        ):
            assert (count is None) == (edge >= low and next_edge <= high)
    assert diagnostics["scores"][0]["signal_region"] is None
    assert diagnostics["selected"] == []
    table = pq.read_table(run / "scores.parquet")
    inside = table.filter(table["in_window"])
    assert inside["score"].null_count == len(inside)
    assert json.loads((run / "manifest.json").read_text())["unblinding"] == []

    tasks = {path: path.stat().st_mtime_ns for path in (run / "tasks").rglob("*.npy")}
    run_search(config(with_signal), run, unblind=True, jobs=1)
    assert numbers(run) == numbers(unblinded)
    assert tasks == {path: path.stat().st_mtime_ns for path in (run / "tasks").rglob("*.npy")}, (
        "trained again"
    )
    assert len(json.loads((run / "manifest.json").read_text())["unblinding"]) == 1


def test_a_blind_scan_hides_every_window_from_the_looks_beside_it(with_signal: Path, tmp_path: Path) -> None:
    scan = config(with_signal, window=None, scan=[3000, 4000], width=0.15)
    run = run_search(scan, tmp_path / "run", jobs=1).path
    low, high = scan.windows[0].low, scan.windows[-1].high
    assert len(scan.windows) == 2
    for spectrum in json.loads((run / "diagnostics.json").read_text())["spectra"]:
        edges, shown = np.array(spectrum["edges"]), np.array([n is not None for n in spectrum["observed"]])
        assert np.array_equal(shown, (edges[1:] <= low) | (edges[:-1] >= high))
    table = pq.read_table(run / "scores.parquet")
    mass = pq.read_table(with_signal, columns=["mjj"])["mjj"].to_numpy()[table["id"].to_numpy()]
    inside = (mass >= low) & (mass < high)
    hidden = table["score"].is_null().to_numpy()
    tested = table["fold"].to_numpy() > 0
    assert hidden[inside].all()
    # a round number of the others is shown, so that the hidden ones do not count those in the windows
    places = table["in_window"].to_numpy(zero_copy_only=False)
    known = np.array([place is not None for place in places])
    assert not known[inside].any()
    assert not hidden[known & tested].any()
    shown, outside = (np.count_nonzero(rows) // 2 for rows in (known, ~inside))
    assert shown == 10_000 < outside < 20_000


def test_references_are_no_result_and_cost_no_trials(with_signal: Path, tmp_path: Path) -> None:
    def searched(*methods: str) -> Path:
        options = {name: {"members": 2} for name in methods}
        settings = config(
            with_signal,
            method=methods,
            label="truth",
            folds=3,
            combination="kfold-bonferroni",
            options=options,
        )
        return run_search(settings, tmp_path / "-".join(methods), unblind=True, jobs=1).path

    both = results(searched("supervised", "cwola"))
    supervised, cwola = both["looks"]
    assert "truth labels" in supervised["warning"]
    assert cwola["warning"] is None
    assert (both["global"]["best_look"], both["global"]["n_looks"]) == (1, 1)
    assert results(searched("cwola"))["global"] == both["global"] | {"best_look": 0}
    only = searched("supervised")
    assert results(only)["global"] is None
    assert "no global p-value" in write_report(only).read_text()


def test_a_score_that_is_no_number_stops_the_search(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cwola, "score", lambda self, events, split=0: np.full(len(events), np.nan))
    with pytest.raises(InputError, match=r"'cwola' gave .* not a finite number"):
        run_search(config(with_signal), tmp_path / "run", jobs=1)


def test_a_crash_keeps_what_was_trained_before_it(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = {"cwola": {"members": 2}, "cathode": {"density": "maf", "steps": 20, "batch_size": 512}}
    settings = config(with_signal, method=["cwola", "cathode"], options=fast)

    def crash(self: Cathode, *args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cathode, "fit", crash)
    with pytest.raises(KeyboardInterrupt):
        run_search(settings, tmp_path / "run", jobs=1)
    # the density that cathode asked for, and cwola
    assert len(list((tmp_path / "run").glob("tasks/*/density.json"))) == 1
    assert len(list((tmp_path / "run").glob("tasks/*/task.json"))) == 2


def test_the_same_run_twice_gives_the_same_numbers(
    with_signal: Path, unblinded: Path, tmp_path: Path
) -> None:
    again = run_search(config(with_signal), tmp_path / "again", unblind=True, jobs=1).path
    assert numbers(again) == numbers(unblinded)
    assert (again / "diagnostics.json").read_bytes() == (unblinded / "diagnostics.json").read_bytes()
    other = run_search(config(with_signal, seed=2), tmp_path / "other", unblind=True, jobs=1).path
    assert numbers(other) != numbers(unblinded)


def test_row_order_changes_nothing(with_signal: Path, unblinded: Path, tmp_path: Path) -> None:
    table = pq.read_table(with_signal)
    shuffled = tmp_path / "shuffled.parquet"
    pq.write_table(table.take(np.random.default_rng(1).permutation(len(table))), shuffled)
    run = run_search(config(shuffled), tmp_path / "run", unblind=True, jobs=1).path
    assert numbers(run) == numbers(unblinded)
    assert pq.read_table(run / "scores.parquet") == pq.read_table(unblinded / "scores.parquet")


def test_labels_change_nothing_but_the_truth_panel(
    with_signal: Path, unblinded: Path, tmp_path: Path
) -> None:
    run = run_search(config(with_signal, label="truth"), tmp_path / "run", unblind=True, jobs=1).path
    assert numbers(run) == numbers(unblinded)
    truth = json.loads((run / "diagnostics.json").read_text())["truth"]
    assert truth["roc"][0]["max_sic"] > 2
    assert truth["roc"][0]["min_background"] == 20
    assert json.loads((unblinded / "diagnostics.json").read_text())["truth"] is None


@pytest.mark.parametrize("combination", ["sequential-stouffer", "kfold-bonferroni", "kfold-summed"])
def test_combinations(with_signal: Path, tmp_path: Path, combination: str) -> None:
    run = run_search(
        config(with_signal, combination=combination), tmp_path / "run", unblind=True, jobs=1
    ).path
    (look,) = results(run)["looks"]
    assert combination.split("-")[1] in look["combination"]
    assert len(look["folds"]) == (3 if combination.startswith("sequential") else 4)
    assert look["z_local"] > 3
    p = [fold["p"] for fold in look["folds"]]
    if combination == "kfold-bonferroni":
        assert look["p_local"] == pytest.approx(4 * min(p), rel=1e-6)
    elif combination == "kfold-summed":
        summed = count_p_value(look["observed"], look["expected"], look["expected_error"])
        assert look["p_local"] == pytest.approx(summed, rel=1e-6)
    else:
        assert look["p_local"] < min(p)
    assert (look["warning"] is not None) == (combination == "kfold-summed")


def test_weights_scale_the_expectation_and_not_the_significance(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", n_signal=150)
    table = pq.read_table(path)
    weighted = tmp_path / "weighted.parquet"
    pq.write_table(table.append_column("w", [np.full(len(table), 3.0)]), weighted)
    plain = run_search(config(path), tmp_path / "plain", unblind=True, jobs=1).path
    tripled = run_search(config(weighted, weight="w"), tmp_path / "tripled", unblind=True, jobs=1).path
    one, three = results(plain)["looks"][0], results(tripled)["looks"][0]
    assert three["observed"] == pytest.approx(3 * one["observed"], rel=0.05)
    assert three["expected"] == pytest.approx(3 * one["expected"], rel=0.05)
    assert three["z_local"] == pytest.approx(one["z_local"], rel=0.05)


def test_any_executor_gives_the_same_numbers(with_signal: Path, unblinded: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        run = run_search(config(with_signal), tmp_path / "run", unblind=True, executor=executor).path
    assert numbers(run) == numbers(unblinded)


def test_a_scan_that_cannot_be_finished_is_not_started(with_signal: Path, tmp_path: Path) -> None:
    settings = config(
        with_signal,
        window=None,
        scan=[2600, 5300],
        width=0.15,
        options={"cwola": {"members": 3, "strip_width": 0.5, "min_events": 100}},
    )
    with pytest.raises(InputError, match="upper strip"):
        run_search(settings, tmp_path / "run", jobs=1)
    assert not (tmp_path / "run").exists()


def command(path: Path, out: Path) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "serendip",
            "search",
            str(path),
            "--mass",
            "mjj",
            "--features",
            ",".join(FEATURES),
        ),
        *(
            "--id",
            "event",
            "--scan",
            "3000:4000",
            "--width",
            "0.15",
            "--folds",
            "4",
            "--toys",
            "200",
            "--jobs",
            "2",
        ),
        *("--working-points", "2e-2", "--set", "cwola.members=2", "--unblind", "--out", str(out)),
    ]


@pytest.mark.slow
def test_kill_and_resume_gives_the_same_numbers(with_signal: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    subprocess.run(command(with_signal, tmp_path / "whole"), check=True, capture_output=True)
    duration = time.monotonic() - started
    rng = np.random.default_rng()
    for i, moment in enumerate(rng.uniform(0.2, 0.95, 3)):
        out = tmp_path / f"killed{i}"
        process = subprocess.Popen(
            command(with_signal, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        time.sleep(moment * duration)
        process.kill()
        process.wait()
        subprocess.run(command(with_signal, out), check=True, capture_output=True)
        assert numbers(out) == numbers(tmp_path / "whole"), f"killed at {moment:.2f} of the run"


def test_ctrl_c_stops_cleanly_and_can_be_resumed(with_signal: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(with_signal, out), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("tasks/*/task.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    assert "repeat the same command" in messages
    assert not (out / "results.json").exists()
    done = set(out.glob("tasks/*/task.json"))
    assert done
    before = {path: path.stat().st_mtime_ns for path in done}
    # the same command; a new process and new workers would only import everything once more
    again = command(with_signal, out)[3:]
    again[again.index("--jobs") + 1] = "1"
    assert command_line(again) == 0
    assert results(out)["global"]["p"] < 0.05
    assert {path: path.stat().st_mtime_ns for path in done} == before


def test_a_learnt_signal_is_shown_once_the_box_is_open(with_signal: Path, tmp_path: Path) -> None:
    quick = {"steps": 60, "batch_size": 128, "signal_steps": 30, "members": 2}
    settings = config(with_signal, method=["ranode"], options={"ranode": quick}, folds=2)
    path = run_search(settings, tmp_path / "run", jobs=1).path
    # nothing that can be read says how much signal there is
    for file in path.rglob("*.json"):
        assert not re.search("learned_signal|trained_fraction", file.read_text(encoding="utf-8")), file
    run_search(settings, tmp_path / "run", jobs=1, unblind=True)
    (selected,) = json.loads((path / "diagnostics.json").read_text())["selected"]
    assert 0 < selected["learned_signal"]["trained_fraction"] < 0.5
    mass, *features = selected["features"]
    assert (mass["name"], mass["template"]) == ("mjj", None)
    assert [feature["name"] for feature in features] == list(FEATURES)
    for feature in selected["features"]:
        assert sum(feature["learned_signal"]) == pytest.approx(1.0)
    assert "learned signal" in write_report(path).read_text(encoding="utf-8")


def test_a_blinded_run_does_not_say_which_events_lie_in_a_window(with_signal: Path, tmp_path: Path) -> None:
    settings = config(with_signal, method=["bump-hunt"], options={})
    path = run_search(settings, tmp_path / "run", jobs=1).path
    inside = pq.read_table(path / "scores.parquet")["in_window"]
    assert inside.null_count > 100
    assert pc.sum(inside).as_py() == 0
    run_search(settings, tmp_path / "run", jobs=1, unblind=True)
    (look,) = results(path)["looks"]
    assert pc.sum(pq.read_table(path / "scores.parquet")["in_window"]).as_py() == look["observed"]


def test_a_run_belongs_to_its_simulation_too(with_signal: Path, tmp_path: Path) -> None:
    simulation = write_table(tmp_path / "simulation.parquet", 3000, seed=5)
    options = {"salad": {"reweighting_members": 1, "reweighting_rounds": 2, "members": 1}}
    settings = config(with_signal, method=["salad"], options=options, folds=2, simulation=str(simulation))
    path = run_search(settings, tmp_path / "run", jobs=1).path
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["simulation"]["file"], manifest["simulation"]["rows_used"]) == (str(simulation), 3000)
    (used,) = manifest["task_keys"]
    assert (path / "tasks" / used["key"] / "task.json").exists()
    write_table(simulation, 3000, seed=6)
    with pytest.raises(InputError, match=r"other events: the content of .*simulation.parquet has changed"):
        run_search(settings, tmp_path / "run", jobs=1)
    with pytest.raises(InputError, match="none of cwola starts from one"):
        config(with_signal, simulation=str(simulation))
    with pytest.raises(InputError, match="simulation_where requires a simulation"):
        config(with_signal, simulation_where="mjj>3000")
    with pytest.raises(InputError, match="'ensemble' starts from simulated background"):
        config(with_signal, method=["ensemble"], options={"ensemble": {"methods": ["cwola", "salad"]}})


def test_a_run_continued_with_other_jobs_keeps_its_threads(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = []
    monkeypatch.setattr(
        serendip.search.engine, "plan_training", lambda *a: planned.append(a[-1]) or plan_training(*a)
    )
    for jobs in (1, 3):
        run_search(config(with_signal), tmp_path / "run", jobs=jobs)
    assert planned == [1, 1]
