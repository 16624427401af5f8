"""The search whose events count with weights, from a table to its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from run_files import check_files
from samples import numbers, results, search_settings

from serendip.errors import InputError
from serendip.methods.cwola import Cwola
from serendip.search.config import SearchConfig, parse_config
from serendip.search.engine import run_search
from serendip.statistics.combination import cauchy_log_p


def config(path: Path, **changes: object) -> SearchConfig:
    settings = {
        **search_settings(path),
        "folds": 4, "orders": 2, "toys": 200, "working_points": [0.02], "options": {"cwola": {"members": 2}},
    }  # fmt: skip
    return parse_config({**settings, **changes})


@pytest.fixture(scope="module")
def run(with_signal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_search(config(with_signal), tmp_path_factory.mktemp("runs") / "run", unblind=True, jobs=1).path


def test_weights_claim_what_a_cut_does_not(run: Path) -> None:
    look, cut = results(run)["looks"]
    assert (look["working_point"], look["combination"], look["cross_check"]) == (None, "weighted", False)
    assert (cut["working_point"], cut["combination"], cut["cross_check"]) == (0.02, "sequential", True)
    assert look["z_local"] > cut["z_local"] > 4
    p = np.array([order["p_local"] for order in look["orders"]])
    assert len(p) == 2
    assert look["p_local"] == pytest.approx(np.exp(cauchy_log_p(np.log(p))), rel=1e-6)
    assert look["observed"] == pytest.approx(np.mean([order["observed"] for order in look["orders"]]))
    # evidence grows with the training
    excess = [fold["observed"] - fold["expected"] for fold in look["folds"]]
    assert excess[-1] > excess[0]
    overall = results(run)["global"]
    assert overall["n_looks"] == 1
    assert overall["best_look"] == 0


def test_files_follow_their_models(run: Path, with_signal: Path, tmp_path: Path) -> None:
    blind = run_search(config(with_signal), tmp_path / "run", jobs=1).path
    for path in (run, blind):
        check_files(path)
    look = results(blind)["looks"][0]
    assert look["observed"] is None
    assert all(order["observed"] is None and order["p_local"] is None for order in look["orders"])
    assert look["expected"] == results(run)["looks"][0]["expected"]


def test_scores_of_all_orders_are_kept_and_none_is_of_a_model_that_saw_the_event(run: Path) -> None:
    table = pq.read_table(run / "scores.parquet")
    assert table.column_names[5:8] == ["score", "score_2", "in_window"]
    # the folds in a circle: the second order begins with fold 2
    for name, first in (("score", 0), ("score_2", 2)):
        untested = table.filter(pc.equal(table["fold"], first))
        assert untested[name].null_count == len(untested)
        assert table.filter(pc.not_equal(table["fold"], first))[name].null_count == 0


def test_what_is_finished_is_not_trained_again(
    with_signal: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cwola, "fit", lambda *args: pytest.fail("trained again"))
    before = numbers(run)
    again = run_search(config(with_signal), run, unblind=True, jobs=1).path
    assert numbers(again) == before


def test_one_order_shares_the_training_of_the_sequential_search(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = []
    for settings in ({"combination": "sequential", "orders": 4}, {"orders": 1}):
        path = run_search(config(with_signal, **settings), tmp_path / str(len(tasks)), jobs=1).path
        tasks.append({task.name for task in (path / "tasks").iterdir()})
    assert tasks[0] == tasks[1]


def test_another_seed_changes_the_numbers(with_signal: Path, run: Path, tmp_path: Path) -> None:
    other = run_search(config(with_signal, seed=2), tmp_path / "run", unblind=True, jobs=1).path
    assert numbers(other)["looks"] != numbers(run)["looks"]


def test_orders_without_weights_are_an_error(with_signal: Path) -> None:
    with pytest.raises(InputError, match="orders is used with the combination 'weighted' only"):
        config(with_signal, combination="sequential")
    with pytest.raises(InputError, match="counting 'template' predicts the events that pass a cut"):
        config(with_signal, method="cathode", counting="template", combination="weighted", options={})
    assert config(with_signal, method="cathode", counting="template", orders=4, options={}).combination == (
        "sequential"
    )


def test_constant_scores_and_ties_are_no_signal(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cwola, "score", lambda self, events, split=0: np.zeros(len(events)))
    done = run_search(config(with_signal), tmp_path / "run", unblind=True, jobs=1)
    assert abs(done.results["looks"][0]["z_local"]) < 3
