"""A package from elsewhere adds a method, without a change to serendip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from samples import FEATURES, write_table
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.events.read import read

PLUGIN = Path(__file__).resolve().parents[1] / "examples" / "plugin"
WINDOW = Window(3300.0, 3700.0)
ROLES = {"mass": "mjj", "features": FEATURES, "id": "event", "label": "truth"}

pytestmark = pytest.mark.skipif(not PLUGIN.is_dir(), reason="examples/ is not part of this distribution")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installer leaves in site-packages: the module, and the entry points beside it."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in (PLUGIN / "src").glob("*.py"):
        (site / module.name).write_bytes(module.read_bytes())
    return site


def serendip(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", "serendip", *arguments], capture_output=True, text=True, env=environment, check=False
    )  # fmt: skip


def test_a_search_with_the_method_of_another_package(installed, tmp_path):
    table = write_table(tmp_path / "events.parquet", 6000, 120)
    finished = serendip(
        installed, "search", str(table), "--mass", "mjj", "--features", ",".join(FEATURES), "--id", "event",
        "--window", "3300:3700", "--method", "knn-ratio", "--folds", "3", "--working-points", "0.05",
        "--toys", "100", "--jobs", "1", "--unblind", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    look, cut = json.loads((tmp_path / "run" / "results.json").read_text())["looks"]
    assert cut["cross_check"]
    assert look["method"] == "knn-ratio"
    assert look["z_local"] > 4


def test_without_the_package_the_method_is_unknown(tmp_path):
    table = write_table(tmp_path / "events.parquet", 100)
    finished = serendip(
        tmp_path, "search", str(table), "--mass", "mjj", "--features", "f1", "--window", "3300:3700",
        "--method", "knn-ratio", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert finished.returncode == 2
    assert "unknown method 'knn-ratio'" in " ".join(finished.stderr.split())


def test_the_example_keeps_the_contract(installed, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed)
    from serendip.methods.registry import get_method

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
