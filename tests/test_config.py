from __future__ import annotations

import itertools
from pathlib import Path

import pytest

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
        ({"width": 0.1}, "belongs to a scan"),
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
        ({"step": 0.5}, "step belongs to a scan"),
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
