"""What ``import serendip`` offers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import awkward as ak
import grimp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, write_table

import serendip
from serendip.api.settings import program_settings
from serendip.errors import InputError
from serendip.events.formats.memory import write_parquet

NAMES = [
    "Audit", "BumpResult", "Events", "InputError", "Look", "Outcome", "PeakSearch", "Results", "Run", "SerendipError", "SpectrumFitResult",
    "Validation", "Window", "__version__", "bump", "compare", "concatenate", "fit", "infer", "inspect", "limit", "monitor", "open_run", "read",
    "run_compare", "run_infer", "run_limit", "run_monitor", "run_search", "run_validate", "search", "simulate", "simulate_dijet", "validate",
    "write",
]  # fmt: skip
WINDOW = (3300.0, 3700.0)
pytestmark = pytest.mark.usefixtures("unprinted")
SEARCH = {"mass": "mjj", "features": FEATURES, "window": WINDOW, "method": "bump-hunt", "toys": 100}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "events.parquet", n_background=4000)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory, unprinted: None) -> serendip.Run:
    return serendip.search(table, **SEARCH, unblind=True, out=tmp_path_factory.mktemp("runs") / "run")


def test_the_list_of_names_is_this_one_and_all_are_there():
    assert serendip.__all__ == NAMES
    assert dir(serendip) == sorted(NAMES)
    for name in NAMES:
        assert getattr(serendip, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'rum_search'"):
        _ = serendip.rum_search


def test_programs_have_short_names_of_which_three_are_packages_too():
    for name in ("compare", "infer", "limit", "monitor"):
        assert getattr(serendip, name) is getattr(serendip, f"run_{name}")
    from serendip import search, simulate, validate

    for package, program in (
        (search, serendip.run_search),
        (validate, serendip.run_validate),
        (simulate, serendip.simulate_dijet),
    ):
        assert package is sys.modules[package.__name__]
        assert inspect.signature(package) == inspect.signature(program)
        assert program.__name__ in package.__doc__
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'out'"):
        search("events.parquet")


def test_packages_are_programs_however_they_are_imported():
    """The name is that of the package after any import, so a function in its place would not last."""
    code = "import serendip.search, sys, serendip; print(callable(serendip.search), callable(serendip.simulate), 'numpy' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert found.stdout.split() == ["True", "True", "False"]


def test_nothing_is_loaded_before_it_is_used():
    code = "import sys, serendip; print(sorted(m for m in sys.modules if m.split('.')[0] in ('serendip', 'numpy')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert loaded.stdout.strip() == "['serendip', 'serendip.version']"


@pytest.mark.parametrize("kind", ["frame", "events"])
def test_a_table_in_memory_gives_the_numbers_of_the_file(kind, table, run, tmp_path):
    frame = pd.read_parquet(table)
    roles = {name: SEARCH[name] for name in ("mass", "features")}
    source = frame if kind == "frame" else serendip.read(table, **roles)
    settings = SEARCH if kind == "frame" else {k: v for k, v in SEARCH.items() if k not in roles}
    again = serendip.run_search(source, **settings, unblind=True, out=tmp_path / "run")
    names = ("observed", "expected", "expected_error", "p_local", "z_local")
    assert [getattr(again.looks[0], name) for name in names] == [
        getattr(run.looks[0], name) for name in names
    ]
    assert again.results.overall.p == run.results.overall.p
    # it is kept with the run, which other events cannot continue, and no run of a file is taken over
    with pytest.raises(InputError, match="was started on other events"):
        serendip.run_search(frame.iloc[:-1], **SEARCH, out=tmp_path / "run")
    with pytest.raises(InputError, match="was started from a file"):
        serendip.run_search(frame, **SEARCH, out=run.path)
    assert not list(run.path.glob(".events*"))


def test_a_refused_table_does_not_bar_the_folder(table, run, tmp_path):
    frame = pd.read_parquet(table)
    with pytest.raises(InputError, match="unknown option"):
        serendip.run_search(frame, feature=["x"], **SEARCH, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="mjj"):
        serendip.run_search(frame.drop(columns="mjj"), **SEARCH, out=tmp_path / "run")
    found = serendip.run_search(frame, **SEARCH, unblind=True, out=tmp_path / "run")
    assert found.looks[0].p_local == run.looks[0].p_local


def test_tables_of_all_kinds_are_kept_as_they_are(tmp_path):
    pt = ak.Array([[50.0, 20.0], [], [35.0]])
    columns = {"m": np.array([1.5, 2.5, 3.5]), "n": np.array([1, 2, 2**60]), "run": np.array(["a", "b", "b"])}
    for source in (
        columns | {"pt": pt},
        ak.zip(columns | {"pt": pt}, depth_limit=1),
        pd.DataFrame(columns),
        pa.table(columns),
    ):
        write_parquet(source, tmp_path / "kept.parquet")
        kept = pq.read_table(tmp_path / "kept.parquet").to_pydict()
        lists = kept.pop("pt", None)
        assert kept == {name: values.tolist() for name, values in columns.items()}
        assert lists in (None, pt.to_list())


def test_a_finished_run_has_looks_tables_figures_and_histograms(run, table, tmp_path):
    opened = serendip.open_run(run.path)
    stored = json.loads((run.path / "results.json").read_text())["looks"][0]
    (row,) = opened.arrow().to_pylist()
    frame = opened.table()
    assert isinstance(frame, pd.DataFrame)
    assert frame.to_dict("records") == [row]
    assert (row["window_low"], row["window_high"]) == WINDOW
    assert {name: row[name] for name in ("observed", "expected", "p_local")} == {
        name: stored[name] for name in ("observed", "expected", "p_local")
    }
    masses = pq.read_table(table, columns=["mjj"])["mjj"].to_numpy()
    spectrum = opened.hist(selected=False)
    edges = spectrum.axes[0].edges
    np.testing.assert_array_equal(spectrum.values(), np.histogram(masses, edges)[0])
    np.testing.assert_array_equal(spectrum.variances(), spectrum.values())
    inside = (masses >= WINDOW[0]) & (masses < WINDOW[1])
    assert row["observed"] == inside.sum()
    axes = opened.figure("spectrum").axes
    assert "mjj" in axes[-1].get_xlabel()
    assert opened.scores().num_rows == len(masses)
    opened.export("root", tmp_path / "run.root")
    assert (tmp_path / "run.root").stat().st_size > 1000
    assert str(opened.path / "report.html") in opened._repr_html_()
    assert opened.report().is_file()
    for wrong, words in (
        (lambda: opened.figure("scan"), "several windows"),
        (lambda: opened.figure("pie"), "expected spectrum, scan or scores"),
        (lambda: opened.figure(look=7), "there is no look 7"),
        (lambda: opened.export("pdf", tmp_path), "available: pyhf"),
        (lambda: serendip.open_run(tmp_path), "not the directory of a finished run"),
    ):
        with pytest.raises(InputError, match=words):
            wrong()


def test_figures_carry_the_label_that_is_asked_for(run):
    def texts(figure):
        return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]

    assert "ATLAS" not in texts(run.figure())
    figure = run.figure(label="ATLAS Simulation Internal")
    assert texts(figure)[-2:] == ["ATLAS", "Simulation Internal"]
    assert figure.subplotpars.top < run.figure().subplotpars.top
    assert texts(run.figure(label="CMS"))[-1] == "CMS"


def test_without_pandas_the_arrow_table_is_named(run, monkeypatch):
    def missing(self):
        raise ModuleNotFoundError("No module named 'pandas'")

    monkeypatch.setattr(type(run), "arrow", lambda _: type("Table", (), {"to_pandas": missing})())
    with pytest.raises(InputError, match=r"needs pandas .*\.arrow\(\) gives the same"):
        run.table()


def test_a_blinded_run_shows_no_counts_of_the_window(table, tmp_path, caplog, capsys):
    run = serendip.run_search(pd.read_parquet(table), **SEARCH, out=tmp_path / "run")
    # without a terminal or a notebook, the log tells the progress
    assert "training ..." in caplog.messages
    assert capsys.readouterr() == ("", "")
    assert run.looks[0].observed is None
    assert run.arrow()["p_local"].to_pylist() == [None] * len(run.looks)
    assert run.table()[["observed", "p_local", "z_local"]].isna().all(axis=None)
    spectrum = run.hist(selected=False)
    hidden = np.isnan(spectrum.values())
    centres = spectrum.axes[0].centers
    np.testing.assert_array_equal(hidden, (centres > WINDOW[0]) & (centres < WINDOW[1]))


def test_settings_of_a_yaml_file_stand_below_those_that_are_given(table, run, tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text(
        f"file: {table}\nmass: mjj\nfeatures: [{', '.join(FEATURES)}]\nwindow: [2000, 2200]\nmethod: bump-hunt\ntoys: 100\n"
    )
    found = serendip.run_search(file, windows=serendip.Window(*WINDOW), unblind=True, out=run.path)
    assert found.path == run.path  # which is no folder of a search in another window
    with pytest.raises(InputError, match=r"run_search: .*feature"):
        serendip.run_search(table, feature=["x"], **SEARCH, out=tmp_path / "other")
    with pytest.raises(InputError, match="first argument"):
        serendip.run_search(table, file="a.parquet", **SEARCH, out=tmp_path / "other")


def test_windows_and_methods_are_the_names_of_several(tmp_path):
    def settings(source="events.parquet", **given):
        found = program_settings(source, tmp_path, given)
        return {name: found[name] for name in found if name not in ("file", "mass", "features")}

    assert settings(methods=["cwola", "cathode"]) == {"method": ["cwola", "cathode"]}
    for one in ((3300, 3700), [(3300, 3700)], serendip.Window(3300, 3700), [serendip.Window(3300, 3700)]):
        assert settings(windows=one) == {"window": (3300, 3700)}
        assert settings(windows=one, width=0.1) == {"scan": (3300, 3700), "width": 0.1}
    assert settings(windows="3300:3700", signal_width=0.03)["scan"] == "3300:3700"
    file = tmp_path / "scan.yaml"
    file.write_text("scan: [2500, 5000]\nwidth: 0.2\nmethod: cwola\n")
    assert settings(file, windows=(3000, 4000)) == {"scan": (3000, 4000), "width": 0.2, "method": "cwola"}
    for given, words in (
        ({"methods": "cwola", "method": "anode"}, "methods= and method= mean the same"),
        ({"windows": (1, 2), "scan": (1, 2)}, "windows= and scan= mean the same"),
        ({"windows": [(3300, 3700), (4000, 4400)]}, "several windows are those of a scan"),
    ):
        with pytest.raises(InputError, match=words):
            settings(**given)
    with pytest.raises(InputError, match="'3300' is not a mass interval"):
        serendip.run_search("events.parquet", mass="m", features=["x"], windows=3300, out=tmp_path / "run")


def test_bump_and_fit_agree_with_the_functions_of_arrays(table):
    from serendip.statistics.bump import bump_hunt
    from serendip.statistics.signals import parse_shape
    from serendip.statistics.spectrum_fit import fit_resonance

    masses = serendip.read(table, mass="mjj").m
    found = serendip.bump(table, WINDOW, mass="mjj")
    assert found.p_local == bump_hunt(masses, serendip.Window(*WINDOW)).p_local
    assert serendip.bump(serendip.read(table, mass="mjj"), WINDOW).p_local == found.p_local
    heavy = serendip.bump(table, WINDOW, mass="mjj", where="mjj > 3000")
    assert heavy.spectrum.edges[0] >= 2990
    options = {"spurious": 5.0, "limit": False}
    fitted = serendip.fit(table, "gauss:3500:0.03", mass="mjj", **options)
    assert fitted.fit.mu == fit_resonance(masses, parse_shape("gauss:3500:0.03"), **options).fit.mu


def test_signatures_name_no_hidden_options():
    for name in ("run_search", "run_compare", "run_infer", "run_limit", "run_monitor", "run_validate"):
        function = getattr(serendip, name)
        for parameter in inspect.signature(function).parameters:
            assert parameter in function.__doc__, (name, parameter)


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and for types count, too."""
    graph = grimp.build_graph("serendip", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 400
    TopologicalSorter(imports).prepare()
