"""The page of a study of theories: verdicts by hand-made numbers, the page from made-up trainings, any subset of questions."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_factory import HARD_NAME, resonant_answer, write_study

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.io.json import write_json
from serendip.report import figures
from serendip.report.theories import claims as theory_claims
from serendip.report.theories import interactive as theory_interactive
from serendip.report.theories import panels as theory_panels
from serendip.report.theories import plots as theory_plots
from serendip.report.theories import summaries
from serendip.report.theories.page import PAGE, PUBLISHED, is_study, write_study_page
from serendip.report.theories.study_plots import draw_families, draw_kind_spreads, family_test, kind_spreads
from serendip.report.theories.tables import auc_steps, combinations, false_claims, needed, tree
from serendip.report.theories.words import model_table, summary_rows
from serendip.theories.merits import TotalImprovement

pytest.importorskip("lightgbm")


def model(
    kind: str, name: str, median: float, *, minimum: float = 0.1, maximum: float = 50.0, error: float = 0.1
) -> dict[str, Any]:
    """Summary of a model with the same TI in both groups; three theories at minimum, median and maximum."""
    signals = [
        {"signal": f"s{i}", "value": value, "error": error, "channel": "1", "target": 0.01, "reliable": True}
        for i, value in enumerate((minimum, median, maximum))
    ]
    ti = {"signals": signals, "left_out": [], "minimum": minimum, "median": median, "maximum": maximum}
    ti |= {f"{which}_error": error for which in ("minimum", "median", "maximum")}
    group = {"ti": ti, "auc": {"1": 0.8 + 0.01 * median}}
    return {"name": name, "kind": kind, "groups": {"held_out_points": group, "held_out_families": group}}


def verdicts(models: list[dict[str, Any]], saturation: dict[str, Any] | None = None) -> dict[str, str]:
    found = theory_claims.claims({"models": {"models": models}, "saturation": saturation})
    for claim in found:
        assert {finding.verdict for finding in claim.findings} == {claim.findings[0].verdict}
    return {claim.title: claim.findings[0].verdict for claim in found}


MOT = [model("mixture", "MoT 1", 9.0), model("mixture", "MoT 2", 11.0)]
SSA = "at equal numbers of signal events a mini-MoT beats training on a single theory (SSA)"
BEST_SSA = "at equal numbers of signal events a mini-MoT beats even the best SSA"
EQUAL = "at equal numbers of signal events MoT beats training on a single theory (SSA)"
MEDIAN = "MoT beats unsupervised scores in median TI"
MINIMUM = "MoT beats unsupervised scores in minimum TI"
MAXIMUM = "MoT does not beat unsupervised scores in maximum TI"
MINI = "a mini-MoT is as good as MoT"
SATURATED = "the gain saturates at about 10 theories"


def test_mean_of_trainings_has_their_scatter_and_the_common_error_of_the_samples():
    level = theory_claims.average(MOT, "held_out_points", "median", "MoT")
    assert (level.value, level.trainings) == (10.0, 2)
    # standard deviation of 9 and 11 is sqrt(2): that of the mean is 1; the samples are the same for both
    assert level.error == pytest.approx(math.hypot(0.1, 1.0))
    one = theory_claims.average(MOT[:1], "held_out_points", "median", "MoT")
    assert one.error == pytest.approx(0.1)
    assert theory_claims.average([], "held_out_points", "median", "MoT") is None


@pytest.mark.parametrize(
    ("median", "expected"),
    # the error of the difference is sqrt(0.1^2 + 1 + 0.1^2) = 1.01
    [(7.9, "confirmed"), (8.1, "undecided"), (11.9, "undecided"), (12.1, "not confirmed")],
)
def test_a_difference_needs_two_errors(median, expected):
    found = verdicts([*MOT, model("unsupervised", "flow", median)])
    assert found[MEDIAN] == expected
    assert SSA not in found


def test_every_claim_is_judged_against_the_right_models():
    models = [
        *MOT,
        model("equal mixture", "MoT at equal numbers 1", 5.6),
        *(model("mini-mixture", f"mini {i}", m) for i, m in enumerate((9.0, 11.0))),
        model("single theory", "best SSA (held out points)", 12.5),
        model("single theory", "SSA 1", 5.0),
        model("single theory", "SSA 2", 6.0),
        model("unsupervised", "flow", 4.0, minimum=0.9, maximum=20.0),
        model("one variable", "MET", 3.0, minimum=0.0, maximum=90.0),
    ]
    found = verdicts(models)
    assert found[SSA] == "confirmed"
    assert found[EQUAL] == "undecided"  # 5.6 against 5.5, whatever MoT with more events has
    assert found[BEST_SSA] == "not confirmed"  # 12.5 is 2.5 errors above
    assert found[MEDIAN] == "confirmed"
    assert found[MINIMUM] == "not confirmed"  # 0.9 against 0.1
    assert found[MAXIMUM] == "confirmed"  # MET has 90, MoT 50
    texts = {
        claim.title: claim.findings[0].text for claim in theory_claims.claims({"models": {"models": models}})
    }
    assert "MET" in texts[MAXIMUM]
    assert "flow" in texts[MINIMUM]
    assert "mean of 2 SSA" in texts[SSA]


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ((9.9, 10.1), "confirmed"),  # 10 and 10, error 0.17 at MoT of error 0.1
        ((9.0, 9.1), "confirmed"),  # differs by six errors, but by less than a fifth
        ((7.0, 7.1), "not confirmed"),
        ((8.0, 9.2), "undecided"),  # 8.6: 2.3 errors of 0.6 reach beyond a fifth, but zero is near
    ],
)
def test_equal_means_small_with_its_error(medians, expected):
    mot = [model("mixture", "MoT 1", 10.0)]
    models = [*mot, *(model("mini-mixture", f"mini {i}", m) for i, m in enumerate(medians))]
    if expected == "undecided":
        models = [*mot, *(model("mini-mixture", f"mini {i}", m, error=0.5) for i, m in enumerate(medians))]
    assert verdicts(models)[MINI] == expected


def curve(*columns: tuple[float, ...]) -> dict[str, Any]:
    rows = np.array(columns).T.tolist()
    groups = {group: {"median": rows, "minimum": rows} for group in theory_claims.GROUPS}
    return {"channels": {}, "joined": {"theories": {**groups, "steps": ["1", "3", "10", "all"]}}}


def test_saturation_compares_ten_theories_with_all():
    flat = curve((1.0, 2.0, 1.5), (4.0, 5.0, 4.5), (9.5, 9.6, 9.7), (10.0, 10.1, 10.0))
    rising = curve((1.0, 2.0, 1.5), (2.0, 2.5, 2.2), (4.5, 4.6, 4.7), (10.0, 10.1, 10.0))
    noisy = curve((1.0, 2.0, 1.5), (2.0, 2.5, 2.2), (4.0, 9.0, 14.0), (10.0, 10.1, 10.0))
    assert verdicts(MOT, flat)[SATURATED] == "confirmed"
    assert verdicts(MOT, rising)[SATURATED] == "not confirmed"
    assert verdicts(MOT, noisy)[SATURATED] == "undecided"
    claim = next(c for c in theory_claims.claims({"saturation": flat}) if c.title == SATURATED)
    # 10.0, 10.1 and 10.0 again are two trainings: 10.05 with an error of 0.05
    assert "with all 10.05\u00a0±\u00a00.05" in claim.findings[0].text


def test_kinds_that_are_not_known_come_last():
    models = [model("new", "n", 1.0), model("one variable", "MET", 1.0), *MOT]
    assert theory_claims.titles_of(models) == {"mixture": "MoT", "one variable": "one variable", "new": "new"}


def test_sign_test_counts_theories():
    other = model("unsupervised", "flow", 11.0, minimum=0.1, maximum=60.0)
    # mean of MoT: 0.1, 10, 50 against 0.1 (equal, does not count), 11, 60
    assert theory_claims.paired(MOT, other, "held_out_points") == (0, 2, 0.5)


def test_improvement_is_read_back():
    content = MOT[0]["groups"]["held_out_points"]["ti"]
    found = theory_panels.improvement(json.loads(json.dumps(content)))
    assert isinstance(found, TotalImprovement)
    assert json.loads(json.dumps(found.to_dict())) == content


def test_spread_of_models_by_signal():
    models = [*MOT, model("unsupervised", "flow", 4.0), model("other", "hidden", 1.0)]
    record = kind_spreads("held_out_points", models, theory_claims.KINDS, {"s0": "a", "s1": "b"})
    assert [row.signal for row in record.signals] == ["s2", "s1", "s0"]
    assert record.kinds == ("MoT", "unsupervised")
    middle = record.signals[1]
    assert (middle.family, middle.kinds[0].values, middle.kinds[0].models) == (
        "b",
        (9.0, 11.0),
        ("MoT 1", "MoT 2"),
    )
    assert len(draw_kind_spreads(record).axes[0].get_yticks()) == 3
    spec = theory_interactive.kind_spreads(record)
    assert [box["x"] for box in spec["data"]] == [[50, 50, 9, 11, 0.1, 0.1], [50, 4, 0.1]]


def test_theories_that_lose_most_come_first():
    def ti(*values: float) -> dict[str, Any]:
        return {"signals": [{"signal": f"s{i}", "value": v, "error": 0.1} for i, v in enumerate(values)]}

    record = family_test({"trained": ti(9, 9, 9), "point": ti(8, 4, 0), "family": ti(2, 3, 1)}, {"s0": "a"})
    assert [row.theory for row in record.theories] == ["s0", "s1", "s2"]
    assert [row.ratio for row in record.theories] == [0.25, 0.75, None]
    drawn = draw_families(record).axes[0]
    assert [text.get_text() for text in drawn.get_yticklabels()] == ["s0", "s1", "s2"]
    scatter = theory_interactive.family_scatter(record)["data"][1]
    assert (scatter["x"], scatter["y"]) == ([8, 4], [2, 3])


def test_levels_have_the_colour_of_their_curve():
    curves = tuple(
        summaries.saturation_curve(name, [1, 3, 10], [[v, v + 1, v + 2]])
        for name, v in (("held-out points", 5.0), ("held-out families", 1.0))
    )
    record = summaries.Saturation(
        x_label="theories", y_label="TI", curves=curves, x_log=True, title="channel 1",
        levels={"best SSA, held-out points": 4.0, "best SSA, held-out families": 2.0},
        level_of={"best SSA, held-out points": 0, "best SSA, held-out families": 1},
    )  # fmt: skip
    axes = theory_plots.draw_saturations([record, record, record]).axes
    assert len(axes) == 4
    lines = axes[0].lines
    assert [line.get_color() for line in lines[2:]] == [line.get_color() for line in lines[:2]]
    assert [line.get_ydata()[0] for line in lines[2:]] == [4.0, 2.0]
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["1", "3", "10"]
    drawn = [
        entry
        for entry in theory_interactive.saturation(record)["data"]
        if entry.get("showlegend") is not False
    ]
    assert [entry["name"] for entry in drawn] == ["held-out points", "held-out families", "best SSA"]


def test_zero_has_a_place_on_the_axis_of_logarithms():
    plane = summaries.improvement_plane([], {}, {})
    point = summaries.ModelPoint(model="a <b>", family="MoT", minimum=0.0, median=2.0, maximum=9.0)
    plane = plane.model_copy(update={"ours": (point,)})
    entry = theory_interactive.plane(plane, "minimum")["data"][0]
    assert (entry["x"], entry["y"]) == ([2], [theory_interactive.FLOOR])
    assert "&lt;b&gt;" in entry["text"][0]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("study") / "run"
    results = write_study(out, names={0: HARD_NAME})
    results["answers"]["resonant"] = resonant_answer()
    write_json(out / "results.json", results)
    return out, json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(study) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_: None)  # slow, and not part of the page
        return write_study_page(study[0])


def text_of(page: Path) -> str:
    """What is read on the page, without the scripts."""
    body = page.read_text(encoding="utf-8").split("<main>")[1].split("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def sections(page: Path) -> list[str]:
    return re.findall(r'<section [^>]*id="([a-z-]+)"', page.read_text(encoding="utf-8"))


def test_the_page_has_every_answer(study, page):
    out, results = study
    assert page == out / PAGE
    assert sections(page) == [
        "summary", "claims", "cautions", "models", "saturation", "signals", "families", "weights", "combination",
        "resonant", "excess", "channels", "facts", "words",
    ]  # fmt: skip
    text = text_of(page)
    answers = results["answers"]
    mot = theory_claims.average(
        theory_claims.of_kind(answers["models"]["models"], "mixture"), "held_out_families", "median", "MoT"
    )
    assert f"MoT has a median total improvement of {mot}".replace("\u00a0", " ") in text
    kinds = {"MoT": "equal mixture", "mini-MoT": "mini-mixture"}
    parts = [
        f"{name} {theory_claims.average(theory_claims.of_kind(answers['models']['models'], kind), 'held_out_points', 'median', '')}"
        for name, kind in kinds.items()
    ]
    said = f"Held-out points, at equal numbers of signal events: {', '.join(parts)}, mean of 3 SSA"
    assert said.replace("\u00a0", " ") in text
    for entry in answers["models"]["models"]:
        assert entry["name"].replace("&", "&amp;") in text
    assert f"{answers['families']['ratio']['median']:.2f}"[:3] in text
    assert "cuts change the mass shape of background" in text
    assert (
        "is 1.20 times that with plain features alone (S/√B = 2; 0.90 to 1.40, larger in 3 of 5 repeats)"
        in text
    )
    mot_needs = answers["excess"]["needed"]["1"]["MoT"]["held_out_points"]
    assert f"{mot_needs:.3g} with MoT" in text
    specs = json.loads(
        re.search(r'id="specs">(.*?)</script>', page.read_text(encoding="utf-8"), re.S).group(1)
    )
    assert len(specs) == page.read_text(encoding="utf-8").count('class="chart"')
    assert HARD_NAME not in page.read_text(encoding="utf-8")


def test_tables_hold_the_numbers_of_the_answers(study):
    answers = study[1]["answers"]
    models = answers["models"]["models"]
    rows = {row.name: row for row in model_table(answers)}
    assert len(rows) == len(models)
    first = models[0]["groups"]["held_out_points"]["ti"]
    assert rows[models[0]["name"]].cells[1].startswith(f"{first['median']:.1f}"[:2])
    best = max(
        theory_claims.of_kind(models, "unsupervised"),
        key=lambda m: m["groups"]["held_out_families"]["ti"]["median"],
    )
    assert rows[best["name"]].best
    assert [row.kind for row in summary_rows(answers) if row.name.startswith("mean of")] == [
        "MoT",
        "MoT at equal numbers",
        "mini-MoT",
        "SSA",
    ]
    steps, table = auc_steps(answers["saturation"], "theories", "held_out_points")
    assert steps[-1] == "all"
    channel, cells = table[0]
    entry = answers["saturation"]["channels"][channel.split(" ")[0]]["theories"]
    medians = [row[-1] for row in entry["held_out_points"]["auc"]]
    assert cells[-1].startswith(f"{np.median(medians):.3f}")
    rules = combinations(answers, "held_out_points")
    assert len(rules) == 4
    assert all(len(cells) == 4 for _, cells in rules)
    # the package that brought a score is not there any more
    gone = json.loads(json.dumps(answers["combination"]).replace('"score": "kde"', '"score": "gone"'))
    titles = {title for title, _ in combinations({"combination": gone}, "held_out_points")}
    assert titles - {title for title, _ in rules} == {"gone"}


def test_false_claims_and_needed_signal():
    rate = {
        "eps_b": 0.01,
        "level": 0.05,
        "found": 40,
        "tested": 200,
        "rate": 0.2,
        "low": 0.15,
        "high": 0.26,
        "expected": 30.0,
    }
    good = rate | {"eps_b": None, "rate": 0.05, "low": 0.03, "high": 0.09, "expected": None}
    answer = {"null": {"1": {"rates": [rate, good]}, "2a": {"reason": "too little"}}}
    assert [(channel, above) for channel, _, above in false_claims(answer)] == [
        ("1", True),
        ("1", False),
        ("2a", False),
    ]
    answer = {
        "needed": {
            "1": {"MoT": {"held_out_points": 50.0, "each": {"a": 1.0}}, "flow": {"held_out_points": 80.0}}
        }
    }
    columns, rows = needed(answer)
    assert columns == [("1", "held_out_points")]
    assert rows == [("MoT", [("50", True)]), ("flow", [("80", False)])]
    assert tree({"a_b": [{"x": 1.0, "y": None}], "c": 3}) == (
        "list",
        [("a b", ("rows", ["x", "y"], [["1", "–"]])), ("c", ("text", "3"))],
    )


def test_guards_say_what_cannot_be_said(study, page):
    text = text_of(page)
    # made-up trainings: 30,000 effective events in the first channel, 30,000 / 10^1.2 = 1893 in the other
    assert "Channel 1. ε B = 0.01 % is excluded from all TIs" in text
    assert "Channel 3. ε B = 0.1 %, 0.01 % is excluded from all TIs" in text
    shutil.copytree(study[0], study[0].parent / "moved", ignore=shutil.ignore_patterns("tasks", PAGE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_: None)
        moved = text_of(write_study_page(study[0].parent / "moved"))
    assert "Channel 3. ε B = 0.1 %, 0.01 % is excluded from all TIs" in moved


@pytest.mark.parametrize(
    "questions",
    [("models",), ("saturation",), ("families",), ("weights", "excess"), ("combination", "resonant")],
)
def test_any_subset_of_the_questions_will_do(study, tmp_path, monkeypatch, questions):
    monkeypatch.setattr(figures, "save", lambda *_: None)
    results = study[1] | {"answers": {name: study[1]["answers"][name] for name in questions}}
    write_json(tmp_path / "results.json", results)
    found = sections(write_study_page(tmp_path))
    assert set(questions) <= set(found)
    others = {"models", "saturation", "families", "weights", "combination", "excess", "resonant"} - set(
        questions
    )
    assert not others & set(found)


def test_an_answer_of_another_form_is_shown_as_it_is(study, tmp_path):
    results = study[1] | {
        "answers": {"excess": {"rate of everything": 0.0123, "rows": [{"region": "tight"}]}}
    }
    write_json(tmp_path / "results.json", results)
    text = text_of(write_study_page(tmp_path))
    assert "rate of everything 0.0123" in text
    assert "tight" in text


def test_printed_figures_and_the_published_models(study, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(
        "Model,MinTotalImprovement,MedianTotalImprovement,MaxTotalImprovement\nKDE_1,0.0,0.7,12.0\nSimpleAE,0.2,0.98,39.6\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    answers = {"models": copy.deepcopy(study[1]["answers"]["models"])}
    for model_of in answers["models"]["models"]:
        model_of["groups"].pop("held_out_families", None)
    write_json(out / "results.json", study[1] | {"answers": answers})
    (out / "figures").mkdir()
    (out / "figures" / "saturation-old.pdf").write_text("of another time")
    assert run(["report", str(out), "--published", str(table)]) == 0
    assert "theories.html" in capsys.readouterr().out
    names = sorted(path.name for path in (out / "figures").iterdir())
    assert names == [
        f"{stem}-held_out_points.{end}" for stem in ("signals", "ti-plane") for end in ("json", "pdf", "png")
    ]
    plane = summaries.ImprovementPlane.model_validate_json(
        (out / "figures" / "ti-plane-held_out_points.json").read_text()
    )
    assert [(p.model, p.family) for p in plane.published] == [("KDE_1", "KDE"), ("SimpleAE", "autoencoder")]
    titles = theory_claims.titles_of(answers["models"]["models"])
    assert {p.family for p in plane.ours} == set(titles.values())
    assert "on other samples and other signals" in text_of(out / PAGE)
    # the table stays for the next time
    table.unlink()
    assert (out / PUBLISHED).exists()
    before = (out / PAGE).read_bytes()
    assert run(["report", str(out)]) == 0
    assert (out / PAGE).read_bytes() == before


def test_the_official_table(study, shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save", lambda *_: None)
    write_json(tmp_path / "results.json", study[1] | {"answers": {"models": study[1]["answers"]["models"]}})
    page = write_study_page(tmp_path, shared_data / "darkmachines" / "published")
    assert "The 1 040 pale ones" in text_of(page)


def test_errors_are_for_people(study, tmp_path, capsys):
    assert not is_study(tmp_path)
    with pytest.raises(InputError, match=r"results\.json"):
        write_study_page(tmp_path)
    write_json(tmp_path / "results.json", study[1] | {"answers": {}})
    assert is_study(tmp_path)
    with pytest.raises(InputError, match="no question has an answer"):
        write_study_page(tmp_path)
    write_json(tmp_path / "results.json", study[1] | {"answers": {"families": {"wrong": 1}}})
    with pytest.raises(InputError, match="an answer was not written by this version"):
        write_study_page(tmp_path)
    with pytest.raises(InputError, match="no table of total improvements"):
        write_study_page(study[0], tmp_path / "absent.csv")
    write_json(tmp_path / "results.json", {"looks": []})
    assert run(["report", str(tmp_path), "--published", str(tmp_path)]) != 0
    assert "contains no study of theories" in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 375])
def test_every_plot_is_drawn_without_a_message(browser, page, width):
    def wait() -> None:
        end = time.monotonic() + 240
        while browser.execute_script("return document.documentElement.dataset.plots") != "ready":
            assert time.monotonic() < end, "the plots were not drawn within four minutes"
            time.sleep(0.2)

    mobile = {"width": width, "height": 812, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    browser.get(page.as_uri())
    wait()
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    time.sleep(0.3)
    wait()
    undrawn = browser.execute_script(
        "return Array.from(document.querySelectorAll('.chart')).filter(p => !p.querySelector('svg.main-svg .trace')).map(p => p.id)"
    )
    assert undrawn == []
    assert browser.execute_script("return document.querySelectorAll('.chart').length") > 15
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('main b').length") == 0
    assert browser.get_log("browser") == []
