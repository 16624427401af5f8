from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from serendip.errors import InputError
from serendip.search.config import load_config, parse_config

BASE = {"file": "a.parquet", "mass": "m", "features": ["x"], "window": [3300, 3700]}


def test_windows_of_a_scan_are_adjacent_and_of_equal_relative_width() -> None:
    settings = {**BASE, "window": None, "scan": [2500, 6000], "width": 0.1}
    windows = parse_config(settings).windows
    assert len(windows) == 9
    assert windows[0].low == 2500
    for left, right in itertools.pairwise(windows):
        assert right.low == pytest.approx(left.high, abs=1e-3)
        assert right.high / right.low == pytest.approx(1.1, abs=1e-5)
    assert windows[-1].high <= 6000
    assert len(parse_config({**settings, "step": 0.5}).windows) > 16


def test_windows_of_light_resonances_keep_their_width() -> None:
    settings = {**BASE, "window": None, "scan": [0.0028, 0.004], "width": 0.01}
    for window in parse_config(settings).windows:
        assert window.high / window.low == pytest.approx(1.01, abs=1e-5)


def test_windows_in_tev_become_gev() -> None:
    (window,) = parse_config({**BASE, "window": [3.3, 3.7], "unit": "TeV"}).windows
    assert (window.low, window.high) == (3300, 3700)
    assert parse_config({**BASE, "range": [2.5, 6], "window": [3.3, 3.7], "unit": "TeV"}).mass_range == (
        2500,
        6000,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fold": 5}, "unknown option 'fold'; did you mean 'folds'"),
        ({"folds": 1}, "folds"),
        ({"window": None}, "either a window"),
        ({"scan": [2500, 6000], "width": 0.1}, "either a window"),
        ({"window": None, "scan": [2500, 6000]}, "needs a width"),
        ({"width": 0.1}, "requires a scan"),
        ({"features": []}, "mass and features are needed"),
        ({"method": ["cwolla"]}, "cwola"),
        ({"method": []}, "at least one method"),
        ({"working_points": [2.0]}, "between 0 and 1"),
        ({"combination": "summed"}, "combination"),
        ({"method": ["supervised"]}, "label"),
        ({"options": {"cathode": {}}}, "not among the methods"),
        ({"options": {"cwola": {"membres": 3}}}, "did you mean 'members'"),
        ({"unit": "MeV"}, "unit"),
        ({"window": ["a", "b"]}, "'a:b' is not a mass interval: expected LO:HI"),
        ({"window": "3300:3700:4000"}, "'3300:3700:4000' is not a mass interval"),
        ({"window": 3300}, "window: '3300' is not a mass interval"),
        ({"range": "4000:3000"}, "range: '4000:3000' is not a mass interval"),
        ({"step": 0.5}, "step requires a scan"),
        ({"unit": "TeV"}, "beyond the collision energy of 13 TeV"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_a_wrong_option_is_an_error(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("'", "['‘]?").replace("?'", "?")):
        parse_config({**BASE, **change})


def test_every_default_is_written_out_and_changes_the_hash() -> None:
    config = parse_config(BASE)
    resolved = config.resolved()
    assert resolved["folds"] == 10
    assert resolved["combination"] == "weighted"
    assert resolved["orders"] == 4
    assert "members" in resolved["options"]["cwola"]
    assert parse_config(resolved).digest() == config.digest()
    assert parse_config({**BASE, "seed": 2}).digest() != config.digest()


def test_yaml_has_the_same_keys_as_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text("file: a.parquet\nmass: m\nfeatures: x\nwindow: 3300:3700\nworking-points: [0.01]\n")
    assert parse_config(load_config(path)) == parse_config({**BASE, "working_points": [0.01]})
    path.write_text(
        "file: a.parquet\nmass: m\nfeatures: x, max(y,z)\nwindow: 3300:3700\nmethod: cwola, cathode\nworking-points: 1e-2, 1e-3\n"
    )
    config = parse_config(load_config(path))
    assert config.features == ("x", "max(y,z)")
    assert config.method == ("cwola", "cathode")
    assert config.working_points == (1e-2, 1e-3)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_damaged_yaml_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"search\.yaml"):
        load_config(path)


BOUNDS = """
search.config.SearchConfig             width (0, 1) step (0, 1] folds [2, 100] orders [1, 20] sqrt_s (0, inf) toys [100, inf) seed [0, 4294967296)
search.compare.config.CompareConfig    folds [2, 100] noise [0, 1000]
search.infer.config.InferConfig        folds [2, 100] toys [100, inf) grid_points [3, 100] half_samples [0, 20] scan_points [0, 50] retrain [0, inf) draws [1000, inf)
search.limit.LimitConfig               width (0, 1)
search.monitor.config.MonitorConfig    folds [1, 20]
theories.mixture.BoostConfig           leaves [2, inf) depth [0, inf) learning_rate (0, inf) bins [8, 1023] threads [0, inf)
theories.sets.network.SetConfig        width [2, inf) weight_decay [0, inf) learning_rate (0, inf)
theories.training_sample.SampleConfig  validation_fraction (0, 0.9) seed [0, inf)
methods.cwola.CwolaConfig              validation_fraction (0, 1)
methods.supervised.SupervisedConfig    validation_fraction (0, 1)
methods.template_method.ClassifierConfig  validation_fraction (0, 1)
methods.idealised.IdealisedConfig      validation_fraction (0, 1) data_fraction (0, 1)
methods.ranode.RanodeConfig            scan_points [2, inf) members [2, inf) bins [2, inf) fraction (0, 1)
methods.signal.family.FamilyConfig     members [1, 5] bins [2, inf)
validate.bias.Options                  share (0.1, 0.99) min_gof [0, 1)
validate.closure.Options               per_side [1, 10] gap [0, 10] max_auc [0.5, 1) errors [0, inf) min_p (0, 1) bootstraps [20, inf) permutations [5, inf)
validate.control.Options               per_side [1, 10] gap [0, 10] min_p (0, 1) peak_z (0, inf)
validate.coverage.Options              share (0.1, 0.99) errors (0, inf) slack [0, 0.5)
validate.dream.DreamOptions            folds [2, 20] permutations [9, inf) bootstraps [20, inf) max_events [200, inf)
validate.injection.Options             repeats [2, inf)
validate.null.Options                  experiments [25, inf) same_data [0, inf) alarm (0, 0.5) max_auc (0.5, 1)
validate.sculpting.Options             max_correlation (0, 1] min_p (0, 1) max_pull (0, inf)
validate.simulation.Options            min_p (0, 1) max_auc [0.5, 1) max_ratio [1, inf)
"""


@pytest.mark.parametrize("line", BOUNDS.strip().splitlines(), ids=lambda line: line.split()[0])
def test_numbers_of_options_are_allowed_up_to_their_bounds(line: str) -> None:
    place, rest = line.split(maxsplit=1)
    module, _, name = place.rpartition(".")
    options = getattr(importlib.import_module(f"serendip.{module}"), name)

    def allowed(option: str, value: float) -> bool:
        try:
            options(**{option: value})
        except ValidationError as error:
            return not any(option in found["loc"] for found in error.errors())
        return True

    for option, opening, low, high, closing in re.findall(
        r"(\w+) ([\[(])([\d.]+), ([\d.]+|inf)([\])])", rest
    ):
        whole = options.model_fields[option].annotation is int
        for bound, closed, inwards in ((low, opening == "[", 1.0), (high, closing == "]", -1.0)):
            if bound != "inf":
                step = inwards * (1 if whole else 1e-6)
                edge = int(bound) if whole else float(bound)
                assert allowed(option, edge) == closed, (option, edge)
                assert allowed(option, edge + step), (option, edge + step)
                assert not allowed(option, edge - step), (option, edge - step)
