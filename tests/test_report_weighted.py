"""The report of a search whose events count with weights: what it says, draws and hides."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_factory import write_run
from samples import FEATURES, make_columns, search_settings
from scipy import stats

from serendip.cli.search import _print_summary
from serendip.report import figures, plots, read_run, words, write_report
from serendip.report.weighted import figures as weighted_figures
from serendip.report.weighted import plots as weighted_plots
from serendip.report.weighted.evidence import evidence
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.search.results import Results
from serendip.statistics.combination import cauchy_log_p

EVENTS = 12_000


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("weighted")


def search(folder: Path, name: str, *, unblind: bool, **changes) -> Path:
    columns = make_columns(EVENTS, n_signal=60)
    columns["w"] = np.random.default_rng(3).uniform(0.5, 2.0, len(columns["mjj"]))
    (folder / name).mkdir()
    pq.write_table(pa.table(columns), folder / name / "events.parquet")
    settings = {
        **search_settings(folder / name / "events.parquet"),
        "folds": 4,
        "toys": 100,
        "combination": "weighted",
        "orders": 3,
        "options": {"cwola": {"members": 1}},
        **changes,
    }
    return run_search(parse_config(settings), folder / name / "run", unblind=unblind, jobs=1).path


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """A search with event weights besides those from the ranks."""
    return search(folder, "open", unblind=True, weight="w")


@pytest.fixture(scope="module")
def blinded(folder) -> Path:
    return search(folder, "blinded", unblind=False)


@pytest.fixture(scope="module")
def factory(tmp_path_factory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("factory") / "run", n_windows=3, methods=("cwola",), weighted=True
    )


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(figures, "save", lambda *_: None)


# numbers of a search ---------------------------------------------------------------------------------


def test_the_numbers_of_each_order_are_those_of_the_look(run):
    content = read_run(run)
    look = content.results.best
    (record,) = content.diagnostics.weighted
    assert look.weighted
    assert content.results.looks[record.look] == look
    assert len(record.orders) == 3
    for order, said in zip(record.orders, look.orders, strict=True):
        assert (order.observed, order.expected, order.p_local) == (said.observed, said.expected, said.p_local)
        edges = np.array(order.spectrum.edges)
        inside = (edges[:-1] >= 3300) & (edges[1:] <= 3700)
        counts, squares = (
            np.array(v, dtype=float) for v in (order.spectrum.observed, order.spectrum.variance)
        )
        assert counts[inside].sum() == pytest.approx(order.observed, rel=1e-9)
        assert np.array(order.spectrum.expected)[inside].sum() == pytest.approx(order.expected, rel=1e-6)
        # the scale is the sum of squares over the sum beside the window
        assert squares[~inside].sum() / counts[~inside].sum() == pytest.approx(order.spectrum.scale, rel=1e-9)
        assert sum(fold.observed for fold in order.folds) == pytest.approx(order.observed, rel=1e-9)
        assert [fold.fold for fold in order.folds] == [1, 2, 3]
    log_p = [np.log(order.p_local) for order in record.orders]
    assert look.p_local == pytest.approx(float(np.exp(cauchy_log_p(np.array(log_p)))), rel=1e-6)
    mean = next(s for s in content.diagnostics.spectra if s.look == record.look)
    assert mean.weighted
    np.testing.assert_allclose(mean.observed, np.mean([o.spectrum.observed for o in record.orders], axis=0))
    np.testing.assert_allclose(mean.variance, np.mean([o.spectrum.variance for o in record.orders], axis=0))


def test_weight_curves_are_the_rule(run):
    weights = read_run(run).diagnostics.weighted[0].weights
    assert [curve.place for curve in weights.curves] == [1, 2, 3]
    for curve in weights.curves:
        expected = np.log1p(weights.scale / np.array(weights.rank) * (curve.place / 3) ** 1.5)
        np.testing.assert_allclose(curve.weight, expected, rtol=1e-9)
    assert max(weights.rank) < 0.1


def test_the_heaviest_events_are_the_signal(run):
    content = read_run(run)
    found = content.diagnostics.weighted[0].heaviest
    table = pq.read_table(run.parent / "events.parquet").to_pydict()
    assert len(found) == 20
    weights = [event.weight for event in found]
    assert weights == sorted(weights, reverse=True)
    assert np.mean([table["truth"][event.id["id"]] for event in found]) > 0.8
    for event in found:
        row = event.id["id"]
        assert event.mass == table["mjj"][row]
        assert event.features == tuple(table[name][row] for name in FEATURES)


def test_evidence_adds_up_and_grows(run):
    content = read_run(run)
    record = content.diagnostics.weighted[0]
    found = evidence(record)
    look = content.results.best
    assert found.excess.sum() == pytest.approx(look.observed - look.expected, rel=1e-6)
    assert found.mean_z[-1] > found.mean_z[0] + 0.5
    fold = record.orders[1].folds[2]
    assert found.z[1, 2] == pytest.approx(stats.norm.isf(fold.p), abs=1e-6)
    # a fold in which nothing counts has p = 1 and no finite significance
    empty = record.model_dump()
    empty["orders"][0]["folds"][0]["p"] = 1.0
    assert evidence(type(record).model_validate(empty)).z[0, 0] == -2.0


def test_blinded_runs_hold_no_count_of_the_window(blinded):
    content = read_run(blinded)
    (record,) = content.diagnostics.weighted
    assert record.heaviest is None
    assert evidence(record) is None
    for order in record.orders:
        assert (order.observed, order.p_local, order.effective_events.window) == (None, None, None)
        assert all(fold.observed is None and fold.p is None for fold in order.folds)
        edges = np.array(order.spectrum.edges)
        inside = (edges[:-1] >= 3300) & (edges[1:] <= 3700)
        for values in (order.spectrum.observed, order.spectrum.variance):
            assert [value is None for value in values] == inside.tolist()
    for spectrum in content.diagnostics.spectra:
        for values in (spectrum.observed, spectrum.variance or ()):
            assert None in values or not values
    assert "expected to sum to a weight of" in words.headline(content.results)
    write_report(blinded)
    page = (blinded / "report.html").read_text()
    assert "Events with the largest weights" not in page
    assert not list((blinded / "figures").glob("heaviest*"))
    assert not list((blinded / "figures").glob("evidence*"))
    assert list((blinded / "figures").glob("weights-cwola.pdf"))


# words -----------------------------------------------------------------------------------------------


def test_the_headline_is_that_of_the_weighted_look(factory):
    content = read_run(factory)
    results, best = content.results, content.results.best
    # a cut may be more significant by chance: it is no claim
    better = json.loads((factory / "results.json").read_text())
    index = results.looks.index(results.cross_checks(best)[0])
    better["looks"][index] |= {"p_local": 1e-250, "z_local": 33.8}
    better["global"] = None
    again = Results.model_validate(better)
    assert again.best.weighted
    assert again.n_looks == 3
    assert again.series == (("cwola", None),)
    text = plain(words.headline(results))
    assert f"(method cwola, weighted events): sum of weights {best.observed:.1f} observed, " in text
    assert "3 looks" in text


def test_scatter_of_orders_and_cross_checks_are_said(factory):
    content = read_run(factory)
    best = content.results.best
    z = [order.z_local for order in best.orders]
    text = plain(words.orders_sentence(best))
    assert text.startswith(
        f"Single orders of the folds lie between {min(z):.1f} σ and {max(z):.1f} σ (4 orders"
    )
    assert "Cauchy combination" in text
    checks = plain(words.checks_sentence(content.results, best))
    for look in content.results.cross_checks(best):
        assert f"{look.z_local:.1f} σ ({look.observed:.0f} observed" in checks
    assert len(content.results.cross_checks(best)) == 2
    one = best.model_copy(
        update={"orders": (best.orders[0].model_copy(update={"z_local": None}), *best.orders[1:])}
    )
    assert "between no excess and" in words.orders_sentence(one)
    assert words.orders_sentence(best.model_copy(update={"orders": ()})) == ""


def test_selections_are_named(factory):
    content = read_run(factory)
    weighted, cut = content.results.looks[:2]
    assert words.selection(weighted) == "weighted events"
    assert plain(words.selection(cut)) == "ε_B = 1 % (cross-check)"
    assert plain(words.short_selection(cut)) == "1 % (cross-check)"
    assert words.count_text(31.234, 2.1, weighted) == "31.2"
    assert words.count_text(31.0, 2.1, cut) == "31"
    assert "weighted: 30 in the window and 400 outside" in plain(words.effective_sentence(content))
    grouped = replace(content, config={**content.config, "weight": "w", "group": "g"})
    assert "with the weights, groups and ranks of the scores, in" in words.effective_sentence(grouped)


def test_a_weighted_look_that_cannot_see_is_said(factory):
    content = json.loads((factory / "results.json").read_text())
    for look in content["looks"]:
        if not look["cross_check"]:
            look["dead"] = "weights from ranks need 50 sideband events in each fold"
    content["global"] = None
    blind = Results.model_validate(content)
    assert words.headline(blind) == "No search was possible: none of the 3 looks can find anything."
    assert "signal. Weights from ranks need 50" in words.verdict(blind)


def test_the_summary_of_the_command_speaks_of_weights(factory, capsys):
    _print_summary(factory, factory / "report.html")
    text = plain(capsys.readouterr().out)
    assert "sum of weights" in text
    assert "Single orders of the folds" in text
    assert "Cross-check by cut and count" in text


def test_the_bound_of_one_look_is_its_own_p():
    best = {
        "p": 9.2e-7,
        "z": 4.77,
        "n_looks": 1,
        "n_toys": 1000,
        "n_reached": 0,
        "best_look": 0,
        "bonferroni": 9.2e-7,
    }
    look = {
        "method": "cwola", "window": [3300.0, 3700.0], "combination": "weighted", "observed": 68.8, "expected": 45.9,
        "expected_error": 3.0, "p_local": 9.2e-7, "z_local": 4.77,
    }  # fmt: skip
    one = Results.model_validate({"schema": 1, "blinded": False, "looks": [look], "global": best})
    assert "global 4.8 σ (p = 9.2 × 10⁻⁷, 1 look)" in plain(words.headline(one))
    assert "above 3 σ (evidence)" in plain(words.verdict(one))
    assert "none of 1000 toys" in plain(words.trials_sentence(one))
    two = Results.model_validate(
        {
            "schema": 1,
            "blinded": False,
            "looks": [look, look],
            "global": best | {"n_looks": 2, "p": 1.8e-6, "bonferroni": 1.8e-6},
        }
    )
    assert "global p < 1.8 × 10⁻⁶" in plain(words.headline(two))
    assert "times the number of looks" in words.verdict(two)


# pictures --------------------------------------------------------------------------------------------


def test_the_weighted_spectrum_is_drawn_as_sums_of_weights(factory):
    content = read_run(factory)
    index = content.results.looks.index(content.results.best)
    record = next(s for s in content.diagnostics.spectra if s.look == index)
    axes = figures.spectrum(record).axes[0]
    assert axes.get_ylabel() == "Sum of weights / 100 GeV"
    assert axes.get_legend().get_title().get_text() == "cwola, weighted"
    spec = plots.spectrum(record, "mjj", "GeV")
    assert spec["layout"]["yaxis"]["title"]["text"] == "Sum of weights / 100 GeV"
    pulls = next(trace["y"] for trace in spec["data"] if trace.get("name") == "pull")
    centre = int(np.argmax(np.array(record.observed) - np.array(record.expected)))
    n, b = record.observed[centre] / record.scale, record.expected[centre] / record.scale
    assert pulls[centre] == pytest.approx(stats.norm.isf(stats.gamma.cdf(b, n)), rel=1e-4)


def test_cross_checks_are_not_in_the_scan(factory):
    results = read_run(factory).results
    spec = plots.p_value_scan(results, "GeV")
    assert [trace["name"] for trace in spec["data"]] == ["cwola, weighted"]
    assert len(spec["data"][0]["x"]) == 3
    (container,) = figures.p_value_scan(results).axes[0].containers
    assert container.get_label() == "cwola, weighted"


def test_weights_and_evidence_are_drawn(factory):
    record = read_run(factory).diagnostics.weighted[0]
    lines = weighted_figures.weight_curves(record.weights).axes[0].get_lines()
    np.testing.assert_allclose(lines[2].get_ydata()[:-2], record.weights.curves[2].weight)
    found = evidence(record)
    drawn = {trace["name"]: trace for trace in weighted_plots.evidence_by_fold(found)["data"]}
    np.testing.assert_allclose(drawn["observed − expected"]["y"], found.excess, rtol=1e-4)
    np.testing.assert_allclose(drawn["mean Z"]["y"], found.mean_z, rtol=1e-4, atol=1e-6)
    assert len(weighted_figures.evidence_by_fold(found).axes) == 2


def test_the_page_shows_orders_and_marks_cross_checks(factory):
    write_report(factory)
    content = read_run(factory)
    page = plain((factory / "report.html").read_text())
    best = content.results.best
    section = page[page.index('<section id="weighted">') : page.index('<section id="looks">')]
    for order in best.orders:
        assert f"<td>{order.z_local:.1f} σ</td>" in section
    assert section.count("Events with the largest weights in the window") == 3
    assert len(re.findall(r'<tr class="look soft">', page)) == 6
    with (factory / "figures" / "heaviest-cwola.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert (rows[1]["run"], rows[1]["event"], float(rows[1]["weight"])) == ("1", "99", 1.95)
    numbers = json.loads((factory / "figures" / "weights-cwola.json").read_text())
    assert numbers["scale"] == 1e-3


def test_the_line_in_the_scores_is_where_events_count(factory, no_figures, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "score_distribution", lambda record, marks: seen.append(marks) or {})
    write_report(factory)
    assert {tuple(marks) for marks in seen} == {((0.1, "weight > 0"),)}


def test_a_search_is_drawn(run, no_figures):
    page = write_report(run).read_text()
    best = read_run(run).results.best
    assert f"<td>{words.count_text(best.observed, best.expected_error, best)}</td>" in page
    assert "Evidence by fold" in page
