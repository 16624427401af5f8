from __future__ import annotations

import hashlib
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from run_factory import HARD_NAME, write_run
from scipy import stats
from typer.testing import CliRunner

from serendip.errors import InputError
from serendip.report import figures, plots, read_run, words, write_report
from serendip.report.counting import bin_significance, poisson_errors, sigma_levels
from serendip.search.results import GlobalResult, Look, Results


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def edit(run: Path, name: str, change) -> None:
    content = json.loads((run / name).read_text())
    change(content)
    (run / name).write_text(json.dumps(content))


def look(**more) -> dict:
    return {
        "method": "cathode",
        "window": [3300.0, 3700.0],
        "working_point": 0.001,
        "observed": 61,
        "expected": 20.3,
        "expected_error": 2.1,
        "p_local": 3.1e-6,
        "z_local": 4.52,
        "combination": "sequential, stouffer",
        **more,
    }


def results(overall: dict | None, *looks: dict, blinded: bool = False) -> Results:
    return Results.model_validate({"schema": 1, "blinded": blinded, "looks": looks, "global": overall})


OVERALL = {
    "p": 0.002,
    "z": 2.88,
    "p_interval_68": [0.001, 0.003],
    "n_toys": 1000,
    "n_reached": 1,
    "trials": "toys, refitted, n=1000",
    "best_look": 0,
}


@pytest.fixture(scope="module")
def excess(tmp_path_factory, printing) -> Path:
    run = write_run(
        tmp_path_factory.mktemp("excess") / "run",
        n_windows=3,
        methods=("cwola",),
        truth=True,
        feature=HARD_NAME,
    )
    with printing():
        write_report(run)
    return run


@pytest.fixture
def no_figures(monkeypatch):
    """Leave out the static figures where a test is about the page: they take most of the time."""
    monkeypatch.setattr(figures, "save", lambda *_: None)


# numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.314, "0.31"),
        (0.002, "0.002"),
        (1 / 1001, "0.001"),
        (3.1e-6, "3.1 × 10⁻⁶"),
        (2.87e-17, "2.9 × 10⁻¹⁷"),
        (0.0, "< 10⁻³⁰⁰"),
        (None, "–"),
    ],
)
def test_p_values_have_two_digits(p, text):
    assert plain(words.p_text(p)) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (20.31, 2.14, "20.3 ± 2.1"),
        (20.31, 4.1, "20 ± 4"),
        (0.12345, 0.0123, "0.123 ± 0.012"),
        (5.04, 0.96, "5.0 ± 1.0"),
        (123456.7, 310.0, "123 457 ± 310"),
        (7.0, 0.0, "7"),
        (None, 1.0, "–"),
    ],
)
def test_values_are_rounded_to_their_error(value, error, text):
    assert plain(words.with_error(value, error)) == text


def test_significance_has_no_negative_zero():
    assert plain(words.z_text(-0.01)) == "0.0 σ"
    assert plain(words.z_text(-1.26)) == "−1.3 σ"


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ((3300.0, 3700.0), "3300–3700 GeV"),
        ((3261.44, 3652.81), "3261–3653 GeV"),
        ((91.188, 91.25), "91.1880–91.2500 GeV"),
        ((8.0, 12.0), "8.00–12.00 GeV"),
    ],
)
def test_windows_are_written_to_a_per_cent_of_their_width(window, text):
    assert words.interval(window) == text


def test_errors_and_pulls_of_weighted_counts_are_those_of_counts_in_their_unit():
    counts, expected = np.array([0.0, 4.0, 9.0]), np.array([1.0, 2.0, 12.0])
    np.testing.assert_allclose(poisson_errors(6 * counts, 6.0), 6 * poisson_errors(counts))
    np.testing.assert_allclose(
        bin_significance(6 * counts, 6 * expected, 6.0), bin_significance(counts, expected)
    )


def test_poisson_errors_are_the_garwood_interval():
    low, high = poisson_errors([0.0, 1.0, 10.0])
    # chi-squared form of the central interval
    tail = stats.norm.sf(1)
    n = np.array([0.0, 1.0, 10.0])
    assert high == pytest.approx(0.5 * stats.chi2.isf(tail, 2 * (n + 1)) - n)
    assert low[0] == 0
    assert low[1:] == pytest.approx(n[1:] - 0.5 * stats.chi2.ppf(tail, 2 * n[1:]))


def test_bin_significance_is_the_poisson_tail():
    z = bin_significance([15.0, 3.0, 10.0, np.nan], [8.0, 8.0, 10.0, 5.0])
    assert z[0] == pytest.approx(stats.norm.isf(stats.poisson.sf(14, 8.0)))
    assert z[1] == pytest.approx(-stats.norm.isf(stats.poisson.cdf(3, 8.0)))
    assert z[2] == 0  # p above one half
    assert np.isnan(z[3])


def test_sigma_lines_reach_the_smallest_p():
    assert sigma_levels(stats.norm.sf(4.5)) == [0, 1, 2, 3, 4]
    assert sigma_levels(1e-60) == [3, 5, 10, 15]


# sentences ----------------------------------------------------------------------------------------


def test_headline_of_an_excess():
    text = plain(words.headline(results(OVERALL, look(), look(method="cwola"))))
    assert text == (
        "The largest excess is at 3300–3700 GeV (method cathode, ε_B = 0.1 %): 61 events observed, "
        "20.3 ± 2.1 expected, local 4.5 σ (p = 3.1 × 10⁻⁶), "
        "global 2.9 σ (p = 0.002, 2 looks; toys, refitted, n=1000)."
    )
    assert "below 3 σ" in plain(words.verdict(results(OVERALL, look())))


def test_headline_names_the_best_look_not_the_first():
    text = words.headline(results({**OVERALL, "best_look": 1}, look(), look(method="other")))
    assert "method other" in text


def test_headline_without_an_excess():
    found = results({**OVERALL, "p": 0.38, "z": 0.31}, look(observed=22, p_local=0.2, z_local=0.84))
    text = plain(words.headline(found))
    assert text.startswith("No significant excess: ")
    assert "global 0.3 σ (p = 0.38, 1 look" in text
    assert words.verdict(found) == "Background alone explains the data of this run."


def test_exhausted_toys_give_a_bound():
    overall = {**OVERALL, "p": 1 / 1001, "z": 3.09, "n_reached": 0}
    text = plain(words.headline(results(overall, look())))
    assert "global p < 0.001, above 3.1 σ (1 look; toys exhausted: none of 1000 was as extreme)" in text
    assert "(p = 0.001" not in text
    assert "more than 3.1 σ; more toys are needed" in plain(
        words.verdict(results({**overall, "bonferroni": None}, look()))
    )
    bounded = plain(words.verdict(results({**overall, "bonferroni": 2.9e-7}, look())))
    assert "at least 5.0 σ (p ≤ 2.9 × 10⁻⁷)" in bounded
    few = {**OVERALL, "p": 1 / 301, "z": 2.7, "n_toys": 300, "n_reached": 0}
    assert "below" not in words.verdict(results(few, look()))
    with_checks = results({**overall, "gross_vitells": 2e-4, "bonferroni": 5e-4}, look())
    assert "Gross–Vitells p = 2.0 × 10⁻⁴" in plain(words.trials_sentence(with_checks))
    assert "Bonferroni (1 look) p ≤ 5.0 × 10⁻⁴" in plain(words.trials_sentence(with_checks))


def test_two_toys_as_extreme_are_no_bound():
    assert words.toys_exhausted(GlobalResult(p=3 / 1001, z=2.7, n_toys=1000, n_reached=2)) is None
    assert words.toys_exhausted(GlobalResult(p=1 / 1001, z=3.1, n_toys=1000, n_reached=0)) == 1000
    assert words.toys_exhausted(GlobalResult(p=1e-5, z=4.3, trials="bonferroni, n=12")) is None


@pytest.mark.parametrize(("z", "said"), [(3.5, "above 3 σ (evidence)"), (5.2, "above 5 σ")])
def test_verdict_uses_the_conventions_of_the_field(z, said):
    overall = {**OVERALL, "p": float(stats.norm.sf(z)), "z": z, "trials": "bonferroni"}
    assert said in plain(words.verdict(results(overall, look())))


def test_verdict_says_how_wrong_the_background_would_have_to_be():
    overall = {**OVERALL, "p": 1e-5, "z": 4.3}
    said = "With 34 % more background than expected, local 3 σ would be left."
    assert plain(words.verdict(results(overall, look(expectation_margin=0.341)))).endswith(said)
    assert "more background" not in words.verdict(results(overall, look()))
    # no excess with the trials factor: nothing to explain
    assert "more background" not in words.verdict(
        results({**OVERALL, "p": 0.2, "z": 0.8}, look(expectation_margin=0.05))
    )


def test_global_p_of_one_has_no_significance():
    text = plain(words.headline(results({**OVERALL, "p": 1.0, "z": None}, look(observed=3, z_local=-2.0))))
    assert "global p = 1 (1 look; toys, refitted, n=1000)" in text


def test_blinded_headline_tells_what_is_expected_and_how_to_go_on():
    hidden = results(None, look(observed=None, p_local=None, z_local=None), blinded=True)
    assert "20.3 ± 2.1 background events are expected" in plain(words.headline(hidden))
    assert "--unblind" in words.verdict(hidden)


# cautions -----------------------------------------------------------------------------------------


def titles(run: Path) -> set[str]:
    return {note.title for note in words.notes(read_run(run))}


@pytest.fixture
def quiet(tmp_path) -> Path:
    run = write_run(tmp_path / "run", kind="null", n_windows=1, methods=("cwola",), working_points=(0.01,))
    assert titles(run) == set()
    return run


@pytest.mark.parametrize(
    ("key", "part"), [("gof_p", "spectrum"), ("efficiency_gof_p", "efficiency of the cut")]
)
def test_poor_fit_is_a_caution(quiet, key, part):
    edit(quiet, "results.json", lambda r: r["looks"][0]["fit"].update({key: 0.004}))
    assert titles(quiet) == {"Poor fit"}
    assert f"{part}: p = 0.004" in plain(words.notes(read_run(quiet))[0].text)
    assert "not to be quoted as it stands: the fit is poor" in words.reservation(read_run(quiet)).lower()
    edit(quiet, "results.json", lambda r: r["looks"][0]["fit"].update({key: 0.02}))
    assert words.reservation(read_run(quiet)) == ""


def test_a_poor_fit_is_told_before_the_windows_are_opened(tmp_path):
    run = write_run(tmp_path / "run", kind="blinded", n_windows=1)
    assert words.reservation(read_run(run)) == ""
    edit(run, "results.json", lambda r: r["looks"][0]["fit"].update(gof_p=1e-9))
    assert "the fit is poor" in words.reservation(read_run(run))


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("results.json", lambda r, i: r["looks"][i]["fit"].update(efficiency_gof_p=1e-9), "fit is poor"),
        ("results.json", lambda r, i: r["looks"][i].update(warning="kept by hand"), "kept by hand"),
        (
            "results.json",
            lambda r, i: r["looks"][i]["fit"].update(turn_on_spread=0.2),
            "expect 20% more or less",
        ),
        (
            "results.json",
            lambda r, i: r["looks"][i]["fit"].update(rough_spread=0.08),
            "bend faster describe the sidebands better and expect 8%",
        ),
        (
            "results.json",
            lambda r, i: r["looks"][i]["fit"].update(kink_weight=0.3),
            "a kink of the spectrum in the window has 30% of the weight",
        ),
        (
            "diagnostics.json",
            lambda d, i: d["correlation"][0].update(distance_correlation=0.5),
            "on the mass",
        ),
        ("diagnostics.json", lambda d, i: d["closure"][0].update(auc=0.7, auc_error=0.01), "does not close"),
    ],
)
def test_an_excess_in_a_doubtful_look_is_not_to_be_quoted(tmp_path, file, change, reason):
    run = write_run(
        tmp_path / "run", kind="excess", n_windows=1, methods=("cathode",), working_points=(0.01,)
    )
    assert words.reservation(read_run(run)) == ""
    edit(run, file, lambda content: change(content, 0))
    assert reason in words.reservation(read_run(run))


def test_the_page_says_that_an_excess_is_not_to_be_quoted(tmp_path):
    run = write_run(
        tmp_path / "run", kind="excess", n_windows=1, methods=("cathode",), working_points=(0.01,)
    )
    assert "Not to be quoted as it stands" not in write_report(run).read_text()
    edit(run, "results.json", lambda content: content["looks"][0]["fit"].update(efficiency_gof_p=1e-9))
    assert "Not to be quoted as it stands" in write_report(run).read_text()


def test_over_claiming_combination_is_a_caution(quiet):
    edit(quiet, "results.json", lambda r: r["looks"][0].update(combination="kfold-summed"))
    assert titles(quiet) == {"Combination overstates the significance"}


@pytest.mark.parametrize(
    ("auc", "error", "expected"), [(0.60, 0.01, True), (0.56, 0.01, False), (0.52, 0.001, False)]
)
def test_open_template_is_a_caution_beyond_its_error(quiet, auc, error, expected):
    edit(quiet, "diagnostics.json", lambda d: d["closure"][0].update(auc=auc, auc_error=error))
    assert ("The template does not close" in titles(quiet)) is expected


def test_score_that_knows_the_mass_is_a_caution(quiet):
    edit(quiet, "diagnostics.json", lambda d: d["correlation"][0].update(distance_correlation=0.2))
    assert titles(quiet) == {"Score depends on the mass"}


def test_few_events_are_a_caution(quiet):
    edit(quiet, "results.json", lambda r: r["looks"][0].update(expected=0.4))
    assert titles(quiet) == {"Very few events expected"}


def test_few_sideband_events_after_the_cut_are_a_caution(quiet):
    def empty(d):
        after = next(s for s in d["spectra"] if s["working_point"] is not None)
        after["observed"] = [0.0] * len(after["expected"])
        after["observed"][0] = 19.0

    edit(quiet, "diagnostics.json", empty)
    assert titles(quiet) == {"Few sideband events after the cut"}


def test_warning_of_a_look_is_a_caution(quiet):
    edit(quiet, "results.json", lambda r: r["looks"][0].update(warning="efficiency fit at its bound"))
    notes = {note.title: note.text for note in words.notes(read_run(quiet))}
    assert set(notes) == {"Note from the fit"}
    assert "efficiency fit at its bound" in notes["Note from the fit"]


# reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["results.json", "diagnostics.json", "manifest.json", "config.yaml"])
def test_missing_and_damaged_files_are_named(tmp_path, name):
    run = write_run(tmp_path / "run", n_windows=1)
    text = (run / name).read_text()
    (run / name).write_text("{" + text[: len(text) // 2])
    with pytest.raises(InputError, match=re.escape(name)):
        write_report(run)
    (run / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        write_report(run)
    assert not (run / "report.html").exists()


def test_wrong_lengths_and_unknown_looks_are_named(tmp_path):
    run = write_run(tmp_path / "run", n_windows=1)
    edit(run, "diagnostics.json", lambda d: d["spectra"][1]["observed"].pop())
    with pytest.raises(InputError, match=r"diagnostics.json: .*'spectra.1' .* 39 numbers, but the 41 edges"):
        read_run(run)
    edit(run, "results.json", lambda r: r["global"].update(best_look=99))
    with pytest.raises(InputError, match=r"results.json.*best_look is 99"):
        read_run(run)


def test_missing_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nowhere")


# figures ------------------------------------------------------------------------------------------


def drawn(axes) -> list[float]:
    return [float(y) for container in axes.containers for y in container.lines[0].get_ydata()]


def test_spectrum_draws_the_counts_and_leaves_no_figure_behind(excess):
    import matplotlib.pyplot as plt

    record = read_run(excess).diagnostics.spectra[0]
    figure = figures.spectrum(record, "mjj", "GeV")
    top, bottom = figure.axes
    assert drawn(top) == [n for n in record.observed if n]
    assert top.get_ylabel() == "Events / 100 GeV"
    assert bottom.get_xlabel() == "mjj [GeV]"
    assert plt.get_fignums() == []


def test_blinded_bins_are_drawn_nowhere(tmp_path):
    run = read_run(write_run(tmp_path / "run", kind="blinded", n_windows=1))
    record = run.diagnostics.spectra[0]
    visible = [n for n in record.observed if n is not None]
    assert 0 < len(visible) < len(record.observed)
    assert len(drawn(figures.spectrum(record).axes[0])) == len(visible)
    points = next(
        trace for trace in plots.spectrum(record, "mjj", "GeV")["data"] if trace.get("name") == "data"
    )
    hidden = [x for x, y in zip(points["x"], points["y"], strict=True) if y is None]
    assert hidden == [3350.0, 3450.0, 3550.0, 3650.0]


def test_uneven_bins_are_labelled_per_bin():
    assert figures.bin_label([0, 1, 3], "GeV") == "Events / bin"
    assert figures.bin_label([0, 100, 200], "GeV") == "Events / 100 GeV"


def test_scan_draws_every_look_once(excess):
    run = read_run(excess)
    expected = sorted(x.p_local for x in run.results.looks)
    traces = plots.p_value_scan(run.results, "GeV")["data"]
    assert sorted(y for trace in traces for y in trace["y"]) == pytest.approx(expected, rel=1e-5)
    assert sorted(drawn(figures.p_value_scan(run.results).axes[0])) == pytest.approx(expected)


def test_an_excess_beyond_double_precision_stays_in_the_scan(excess):
    run = read_run(excess)
    looks = tuple(
        x.model_copy(update={"p_local": 0.0}) if x == run.results.best else x for x in run.results.looks
    )
    found = run.results.model_copy(update={"looks": looks})
    n = len(run.results.looks)
    assert len([y for trace in plots.p_value_scan(found, "GeV")["data"] for y in trace["y"]]) == n
    assert min(drawn(figures.p_value_scan(found).axes[0])) == figures.SMALLEST_P


def test_every_sign_of_a_tiny_p_value_can_be_drawn(tmp_path):
    with warnings.catch_warnings(), mpl.rc_context(figures.STYLE):
        warnings.simplefilter("error")
        figure = Figure()
        figure.suptitle("p = 7.3 × 10⁻⁸⁹, 1.2 × 10⁻⁴⁵⁶, χ² ≤ √s, 5 σ, ε_B, Δm, μ ± 1")
        figure.savefig(tmp_path / "p.pdf")
        figure.savefig(tmp_path / "p.png")


def test_figure_files_carry_their_numbers_and_repeat_byte_by_byte(excess, tmp_path, printing):
    stored = json.loads((excess / "figures" / "scores-cwola.json").read_text())
    run = read_run(excess)
    best = run.results.headline("cwola")
    record = next(s for s in run.diagnostics.scores if s.method == "cwola" and s.window == best.window)
    assert stored["sideband"] == list(record.sideband)
    for suffix in ("pdf", "png"):
        written = (excess / "figures" / f"scores-cwola.{suffix}").read_bytes()
        assert written.startswith({"pdf": b"%PDF-1", "png": b"\x89PNG"}[suffix])
        with printing():
            figures.save(
                figures.score_distribution(record, [(p, words.percent(p)) for p in (0.001, 0.01)]),
                record,
                tmp_path / "again",
            )
        assert written == (tmp_path / f"again.{suffix}").read_bytes()


# the page -----------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"])
        elif tag == "link":
            self.loads.append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])

    def handle_data(self, data):
        if self.tags[-1:] != ["script"]:
            self.words.append(data)


def test_page_loads_nothing_and_links_only_files_that_exist(excess):
    page = Page((excess / "report.html").read_text(encoding="utf-8"))
    assert page.loads == ["data:,"]
    files = [link for link in page.links if not link.startswith("#")]
    assert len(files) == 21
    assert all((excess / link).is_file() for link in files)
    assert page.tags.count("script") == 3


def test_page_escapes_the_names_of_users(excess):
    text = (excess / "report.html").read_text(encoding="utf-8")
    assert '<b>"j1"' not in text
    assert "tau21 &lt;b&gt;" in text


def test_page_survives_a_script_in_every_name(tmp_path, no_figures):
    evil = "</script><script>document.title='x'</script>"
    run = write_run(tmp_path / "run", n_windows=1, methods=(evil,), working_points=(0.01,), feature=evil)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.tags.count("script") == 3


def test_page_says_the_headline_and_the_truth(excess):
    run = read_run(excess)
    text = plain(" ".join("".join(Page((excess / "report.html").read_text(encoding="utf-8")).words).split()))
    assert plain(words.headline(run.results)).replace("ε_B", "εB") in text
    assert "at least 20 background events are left" in text
    assert "90 events labelled as signal" in text


def test_blinded_page_holds_no_observed_count(tmp_path, no_figures):
    run = write_run(tmp_path / "run", kind="blinded", n_windows=1, methods=("cwola",), working_points=(0.01,))
    text = write_report(run).read_text(encoding="utf-8")
    words_of_page = " ".join("".join(Page(text).words).split())
    assert "Blinded: nothing inside the tested windows has been counted." in words_of_page
    assert "--unblind" in words_of_page
    assert "events observed" not in words_of_page
    assert "Hidden while the run is blinded." in words_of_page


def test_page_without_labels_has_no_truth(tmp_path, no_figures):
    run = write_run(tmp_path / "run", n_windows=1, methods=("cwola",), working_points=(0.01,))
    assert 'id="truth"' not in write_report(run).read_text(encoding="utf-8")


def test_report_again_gives_the_same_bytes(tmp_path, printing):
    run = write_run(tmp_path / "run", n_windows=1, methods=("cwola",), working_points=(0.01,))
    edit(run, "diagnostics.json", lambda d: d.update(spectra=d["spectra"][1:], closure=[], selected=[]))

    def digest() -> dict[str, str]:
        write_report(run)
        files = [run / "report.html", *sorted((run / "figures").iterdir())]
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    with printing():
        assert digest() == digest()


def test_command_writes_the_report(tmp_path, no_figures):
    import typer

    from serendip.cli.report import report

    app = typer.Typer()
    app.command()(report)
    run = write_run(tmp_path / "run", kind="null", n_windows=1, methods=("cwola",), working_points=(0.01,))
    done = CliRunner().invoke(app, [str(run)])
    assert done.exit_code == 0
    assert (run / "report.html").stat().st_size > 1e6
    failed = CliRunner().invoke(app, [str(tmp_path / "none")])
    assert isinstance(failed.exception, InputError)


def test_look_without_folds_or_fit_is_enough(tmp_path, no_figures):
    run = write_run(tmp_path / "run", n_windows=1, methods=("cwola",), working_points=(0.01,))

    def strip(content):
        for entry in content["looks"]:
            entry.update(folds=[], fit=None)

    edit(run, "results.json", strip)
    edit(run, "diagnostics.json", lambda d: d.update(scores=[], closure=[], selected=[], correlation=[]))
    assert write_report(run).exists()
    assert Look.model_validate(look()).folds == ()


def test_looks_without_selected_events_are_left_out(tmp_path, no_figures):
    run = write_run(tmp_path / "run", kind="null", n_windows=1, methods=("cwola",), working_points=(0.01,))

    def nothing(content):
        entry = content["selected"][0]
        entry["n"] = 0
        for feature in entry["features"]:
            feature["selected"] = None
        content["scores"][0]["sideband"] = None

    edit(run, "diagnostics.json", nothing)
    text = write_report(run).read_text(encoding="utf-8")
    assert 'id="selected"' not in text
    assert 'id="scores"' not in text


def test_a_learnt_signal_is_drawn_beside_the_selected_events(tmp_path):
    run = write_run(tmp_path / "run", n_windows=1, methods=("ranode",), working_points=(0.01,))

    def learnt(content):
        content["selected"][0]["learned_signal"] = {
            "fraction": 0.0112, "fraction_error": 0.0021, "trained_fraction": 0.019, "gain": 24.31, "floor_gain": 18.22
        }  # fmt: skip
        feature = content["selected"][0]["features"][0]
        feature["learned_signal"] = [0.25, 0.75, *[0.0] * (len(feature["edges"]) - 3)]

    edit(run, "diagnostics.json", learnt)
    record = read_run(run).diagnostics.selected[0]
    first, second = record.features[:2]
    drawn = {trace["name"]: trace for trace in plots.selected_feature(first, record, "mjj", "GeV")["data"]}
    assert max(value for value in drawn["learned signal"]["y"] if value is not None) == 0.75
    assert "learned signal" not in str(plots.selected_feature(second, record, "mjj", "GeV"))
    axes = figures.selected_events(record).axes
    assert [len(a.get_legend_handles_labels()[1]) for a in axes[:2]] == [3, 2]
    assert axes[0].get_ylim()[1] > 0.75
    text = plain(write_report(run).read_text(encoding="utf-8"))
    share = "learned signal: 1.12 ± 0.21 % of the events in the window (1.9 % in its training)"
    assert (
        f"{share}; it raises ln L by 24.3, in adjacent windows, where no signal is expected, by up to 18.2"
        in text
    )
    edit(run, "diagnostics.json", lambda c: c["selected"][0]["learned_signal"].update(floor_gain=None))
    text = plain(write_report(run).read_text(encoding="utf-8"))
    assert f"{share}; it raises ln L by 24.3, the same fit was not made in adjacent windows" in text


def test_everything_kept_is_called_no_cut():
    assert words.cut(1.0) == words.cut(None) == "no cut"
    assert plain(words.cut(0.001)) == "ε_B = 0.1 %"
