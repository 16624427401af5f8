"""Packages from elsewhere add a method, a score, a reader, an export and a validation, without a change to serendip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from example_packages import EXAMPLES, PROJECTS, lay_out
from run_factory import write_run
from samples import FEATURES, make_columns, write_table
from sklearn.metrics import roc_auc_score

import serendip
from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.events import Window
from serendip.events.formats import READERS
from serendip.events.read import read
from serendip.methods.registry import METHODS, get_method
from serendip.outliers.registry import SCORES, load_score
from serendip.report.exports.registry import EXPORTS
from serendip.testing import check_export, check_method, check_reader, check_score, check_validation
from serendip.validate.base import read_validations
from serendip.validate.registry import KINDS

REGISTRIES = (METHODS, SCORES, READERS, EXPORTS, KINDS)
WINDOW = Window(3300.0, 3700.0)
ROLES = {"mass": "mjj", "features": FEATURES, "id": "event", "label": "truth"}
SEARCH = ("--mass", "mjj", "--features", ",".join(FEATURES), "--id", "event", "--window", "3300:3700")


def call(*arguments: Any) -> int:
    return run([str(argument) for argument in arguments])


def save_lines(table: Mapping[str, np.ndarray], path: Path) -> None:
    rows = zip(*(values.tolist() for values in table.values()), strict=True)
    lines = [
        json.dumps({name: None if v != v else v for name, v in zip(table, row, strict=True)}) for row in rows
    ]
    path.write_text("\n".join(lines))


# one of each ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", sorted(PROJECTS))
def test_an_example_is_one_file_whose_entry_points_can_be_used(installed, example):
    (module,) = (EXAMPLES / example).glob("*.py")
    groups = {registry.group: registry for registry in REGISTRIES}
    entry_points = PROJECTS[example]["entry-points"]
    assert f"serendip.{example}s" in entry_points
    for group, entries in entry_points.items():
        for name, value in entries.items():
            assert value.partition(":")[0] == module.stem
            assert name in groups[group].others()
            assert groups[group][name] is not None


CHECKS = {
    "method": lambda: check_method(get_method("knn-ratio"), {"neighbours": 30}),
    "score": lambda: check_score(SCORES["mahalanobis"].make(())),
    "reader": lambda: check_reader(READERS["jsonl"], save_lines, ".jsonl"),
    "export": lambda: check_export(EXPORTS["latex"], "table.tex"),
    "validation": lambda: check_validation(KINDS["stability"]),
}


@pytest.mark.parametrize("example", sorted(PROJECTS))
def test_an_example_keeps_its_contract(installed, example):
    CHECKS[example]()


# from the command line -----------------------------------------------------------------------------------------------


def test_a_search_with_the_method_of_another_package(installed, tmp_path, capsys):
    table = write_table(tmp_path / "events.parquet", 6000, 120)
    flags = ("--folds", 3, "--working-points", 0.05, "--toys", 100, "--jobs", 1, "--unblind")
    code = call("search", table, *SEARCH, "--method", "knn-ratio", *flags, "--out", tmp_path / "run")
    assert code == 0, capsys.readouterr().err
    look, cut = json.loads((tmp_path / "run" / "results.json").read_text())["looks"]
    assert cut["cross_check"]
    assert look["method"] == "knn-ratio"
    assert look["z_local"] > 4


def test_without_the_package_the_method_is_unknown(tmp_path, capsys):
    table = write_table(tmp_path / "events.parquet", 100)
    assert call("search", table, *SEARCH, "--method", "knn-ratio", "--out", tmp_path / "run") == 2
    assert "unknown method 'knn-ratio'" in " ".join(capsys.readouterr().err.split())


def test_files_of_another_format_are_read(installed, tmp_path, capsys):
    columns = make_columns(300)
    for name, rows in (("a.jsonl", slice(0, 100)), ("b.jsonl", slice(100, 300))):
        save_lines({key: values[rows] for key, values in columns.items()}, tmp_path / name)
    (tmp_path / "notes.md").write_text("no table")
    assert call("inspect", tmp_path / "a.jsonl", "--mass", "mjj", "--features", "f1") == 0
    assert "JSON Lines" in capsys.readouterr().out
    events = read(tmp_path, mass="mjj", features=["f1"])
    np.testing.assert_allclose(events.m, columns["mjj"], rtol=1e-14)
    pq.write_table(pq.read_table(write_table(tmp_path / "c.parquet", 100)), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"mixes formats: .*JSON Lines \('a.jsonl'\)"):
        read(tmp_path, mass="mjj")
    with pytest.raises(InputError, match="a JSON Lines file holds one table"):
        read(tmp_path / "a.jsonl", mass="mjj", tree="events")
    (tmp_path / "a.jsonl").write_text("[1, 2]\n")
    with pytest.raises(InputError, match=r"a.jsonl: is not JSON Lines .*; expected one object per line"):
        read(tmp_path / "a.jsonl", mass="mjj")
    with pytest.raises(
        InputError, match=r"'notes.md': the format is not known; expected .*\.root, \.jsonl, \.ndjson"
    ):
        read(tmp_path / "notes.md", mass="mjj")


def test_a_run_is_written_by_another_package(installed, tmp_path, capsys):
    folder = write_run(tmp_path / "run", n_windows=1, methods=("cwola",))
    assert call("export", "latex", folder, "--out", tmp_path / "a.tex", "--digits", 3) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.tex")
    text = (tmp_path / "a.tex").read_text()
    assert text.count("cwola & 3300--3700 & ") == 2
    serendip.open_run(folder).export("latex", tmp_path / "b.tex", digits=3)
    assert (tmp_path / "b.tex").read_text() == text
    assert call("export", "latex", folder, "--out", tmp_path / "c.tex", "--digits", 0) == 2
    assert call("export", "--help") == 0
    assert "latex" in capsys.readouterr().out


def test_a_broken_export_does_not_take_the_others_down(tmp_path, capsys, monkeypatch):
    lay_out(tmp_path, "broken", "1", {"serendip.exports": {"pdf": "nothing_here:x"}})
    monkeypatch.syspath_prepend(tmp_path)
    assert call("export", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "hepdata" in shown
    assert "Cannot be used" in shown
    assert call("export", "pdf", tmp_path, "--out", tmp_path / "a") == 2
    assert "export 'pdf' of the package broken 1 cannot be loaded" in capsys.readouterr().err


def test_a_validation_of_another_package_has_its_lights(installed, tmp_path, capsys):
    columns = make_columns(3000)
    columns["f2"][2000:] += 0.5
    pd.DataFrame(columns).to_parquet(tmp_path / "events.parquet")
    options = ("--method", "bump-hunt", "--toys", 100, "--jobs", 1, "--set", "stability.min_p=0.01")
    code = call(
        "validate", "stability", tmp_path / "events.parquet", *SEARCH, *options, "--out", tmp_path / "v"
    )
    assert code == 1, capsys.readouterr().err
    (found,) = read_validations(tmp_path / "v")
    assert [check.name for check in found.failed] == ["f2"]
    assert KINDS["stability"].QUESTION in (tmp_path / "v" / "validation.html").read_text()


# what each of them is worth ------------------------------------------------------------------------------------------


def test_the_method_weighs_and_finds(installed, tmp_path):
    method_class = get_method("knn-ratio")
    events = read(write_table(tmp_path / "events.parquet", 6000, 120), **ROLES)
    half = np.arange(len(events)) % 2 == 0
    inside = WINDOW.contains(events.m)
    method = method_class(method_class.Config(neighbours=50)).fit(
        events.without_label(), WINDOW, np.stack([half, ~half])
    )
    test = events.select(~half & inside)
    assert roc_auc_score(test.labels, method.score(test, 0)) > 0.9
    # model 0 has not seen the other half
    alone = method_class(method_class.Config(neighbours=50)).fit(events.select(half).without_label(), WINDOW)
    np.testing.assert_array_equal(alone.score(test), method.score(test, 0))
    # weights: one half of feature space counts half in the window
    weight = np.where(inside & (events["f1"] > 0), 0.5, 1.0)
    columns = dict(events.columns) | {"w": weight}
    weighted = type(events)(columns, mass="mjj", features=FEATURES, weight="w")
    lighter = method_class(method_class.Config(neighbours=40)).fit(weighted, WINDOW)
    plain = method_class(method_class.Config(neighbours=40)).fit(events.without_label(), WINDOW)
    moved = lighter.score(weighted) - plain.score(weighted)
    split = moved[events["f1"] > 0.9].mean() - moved[events["f1"] < -0.9].mean()
    assert split == pytest.approx(-np.log(2), abs=0.12)
    with pytest.raises(InputError, match="in the strips of the window"):
        method_class(method_class.Config(neighbours=50, strip_width=0.01)).fit(events, WINDOW)


def test_the_score_is_the_formula_and_a_method(installed, tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3)) @ [[2, 0, 0], [1, 1, 0], [0, 0, 5]]
    score = SCORES["mahalanobis"].make(()).set_params(shrinkage=1e-9).fit(x)
    away = x - x.mean(axis=0)
    wanted = np.sqrt((away @ np.linalg.inv(np.cov(x.T)) * away).sum(axis=1))
    np.testing.assert_allclose(score.score_samples(x), wanted, rtol=1e-6)
    score.save(tmp_path / "score")
    np.testing.assert_array_equal(load_score(tmp_path / "score").score_samples(x), score.score_samples(x))
    method = get_method("mahalanobis")
    check_method(method)
    assert method.title == "Outlier score (baseline): Mahalanobis distance"
    assert method.Config().shrinkage == 0.01


def test_missing_values_and_texts_of_json_lines(installed, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"m": 1, "t": "a"}\n\n{"m": null, "t": null, "l": [1]}\n{"m": 3.5}\n')
    table = READERS["ndjson"](path)
    assert table.n_rows == 3
    assert table.types == {"m": "float64", "t": "text"}
    assert table.unreadable == {"l": "holds neither numbers nor texts"}
    np.testing.assert_array_equal(table.load(["m"])["m"], [1, np.nan, 3.5])
    assert table.load(["t"], 0, 2)["t"].tolist() == ["a", ""]
