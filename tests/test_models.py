"""Stored models: the same scores after loading, safe files, and scoring new events with a run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from samples import FEATURES, make_columns, write_table
from sklearn.linear_model import LogisticRegression

from serendip.classify.networks import NetworkEnsemble
from serendip.classify.node_tables import Tree
from serendip.classify.splits import SplitClassifiers
from serendip.classify.storage import load_classifier, save_classifier
from serendip.classify.trees import TreeEnsemble
from serendip.cli.main import run as cli
from serendip.density import load_density, make_density
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Method
from serendip.methods.cwola import Cwola
from serendip.methods.registry import METHODS, get_method
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.search.models import StoredModel, fingerprints, pack_model, stored_models
from serendip.search.score import score_file

WINDOW = Window(3300.0, 3700.0)
FAST = {
    "cwola": {"members": 2},
    "supervised": {"members": 2},
    "idealised": {"members": 2},
    "cathode": {"members": 2, "steps": 60, "batch_size": 128},
    "lacathode": {"members": 2, "steps": 60, "batch_size": 128},
}
FLOW = {"steps": 30, "batch_size": 128}
MORE = {
    "curtains": {**FLOW, "members": 2, "density": "maf", "transport_steps": 10},
    "feta": {**FLOW, "members": 2, "density": "maf", "transport_steps": 10},
    "salad": {"members": 2, "reweighting_members": 1, "reweighting_rounds": 3},
    "anode": {**FLOW, "members": 2, "window_density": "maf", "window_steps": 20},
    "ranode": {**FLOW, "density": "maf", "members": 2, "signal_steps": 15},
    "autoencoder": {"steps": 60, "batch_size": 128},
    "dagmm": FLOW,
    "deep-svdd": {**FLOW, "targets": [0], "dimensions": [3]},
    "flow": FLOW,
    "gaussian-mixture": {"components": 3},
    "isolation-forest": {"trees": 20},
    "kde": {"max_events": 500},
    "planar-vae": FLOW,
    "vae-radius": FLOW,
    "vae-reconstruction": FLOW,
    "bump-hunt": {},
    "ensemble": {
        "methods": ["cwola", "anode"],
        "options": {
            "cwola": {"members": 2},
            "anode": {**FLOW, "density": "maf", "members": 1, "window_density": "maf", "window_steps": 20},
        },
    },
}


@cache
def fitted(name: str, classifier: str | None) -> Method:
    """A method with two models, of the even and the odd events of ``sample()``."""
    cls, events = get_method(name), sample()
    own = {} if classifier is None else {"classifier": classifier}
    simulation = sample(seed=5).without_label() if cls.needs_simulation else None
    method = cls(cls.Config(**(FAST | MORE)[name], **own), seed=3, simulation=simulation)
    half = np.arange(len(events)) % 2 == 0
    return method.fit(events if cls.uses_labels else events.without_label(), WINDOW, np.stack([half, ~half]))


def table(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 3] = np.round(x[:, 3])
    return x, x[:, 0] + 0.5 * x[:, 3] + rng.normal(size=n) > 0


def small(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = table(n)
    return x[:, :3], y


def sample(n: int = 6000, seed: int = 0) -> Events:
    columns = make_columns(n, 150, seed)
    return Events(columns, mass="mjj", features=FEATURES, label="truth", id="event")


# classifiers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_leaf_nodes": 150, "min_samples_leaf": 3, "max_bins": 255}])
def test_loaded_trees_give_the_same_bits(tmp_path: Path, options: dict) -> None:
    x, y = table()
    x[:200, 1] = np.nan
    model = TreeEnsemble(members=3, random_state=1, **options).fit(x, y)
    save_classifier(tmp_path, model)
    loaded = load_classifier(tmp_path)
    new, _ = table(20_000, seed=1)
    new[::7, 1] = np.nan
    new[::11, 0] = np.nan
    new[:400, 2] = np.resize(model.edges_[2], 400)
    # trees deeper than 64 leaves take more than one word of bits
    leaves = max(len(np.flatnonzero(tree.feature < 0)) for m in loaded.members_ for tree in m.trees)
    assert (leaves > 64) == bool(options)
    assert np.array_equal(loaded.predict_proba(new), model.predict_proba(new))
    assert np.array_equal(loaded.predict(new), model.predict(new))
    save_classifier(tmp_path / "again", loaded)
    for name in ("classifier.json", "classifier.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_loaded_networks_give_the_same_bits(tmp_path: Path) -> None:
    x, y = table()
    model = NetworkEnsemble(members=2, hidden=(8, 6), max_rounds=3, random_state=1).fit(x, y)
    save_classifier(tmp_path, model)
    loaded = load_classifier(tmp_path)
    assert loaded.hidden == (8, 6)
    assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))


def test_a_tree_written_by_hand() -> None:
    # x0 <= 2 ? (x1 <= 0 ? 1 : 10) : 100; missing x0 goes left, missing x1 goes right
    tree = Tree(
        feature=np.array([0, 1, -1, -1, -1]),
        threshold=np.array([2.0, 0.0, 0.0, 0.0, 0.0]),
        missing_left=np.array([True, False, False, False, False]),
        value=np.array([0.0, 0.0, 1.0, 10.0, 100.0]),
    )
    assert tree.right_children().tolist() == [4, 3, 0, 0, 0]
    total = np.zeros(6)
    tree.add_to(total, np.array([[0, 2, 3, 255, 255, 1], [0, 1, 0, 0, 5, 255]], dtype=np.uint8))
    assert total.tolist() == [1, 10, 100, 1, 10, 10]


def test_other_classifiers_are_refused_and_no_pickle_is_written(tmp_path: Path) -> None:
    x, y = table(200)
    with pytest.raises(InputError, match="LogisticRegression cannot be stored"):
        SplitClassifiers((LogisticRegression().fit(x, y),)).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def break_array(change) -> object:
    def apply(folder: Path) -> None:
        arrays = {name: array.copy() for name, array in load_file(folder / "classifier.safetensors").items()}
        change(arrays)
        save_file(arrays, folder / "classifier.safetensors")

    return apply


def rewrite(name: str, value: object) -> object:
    def apply(folder: Path) -> None:
        facts = json.loads((folder / "classifier.json").read_text())
        (folder / "classifier.json").write_text(json.dumps(facts | {name: value}))

    return apply


def put(name: str, place: object, value: object) -> object:
    return break_array(lambda arrays: arrays[name].__setitem__(place, value))


def replace(name: str, make) -> object:
    return break_array(lambda arrays: arrays.__setitem__(name, make(arrays[name])))


TREE_DAMAGE = {
    "all inner nodes": put("feature", slice(None), 0),
    "all leaves": put("feature", slice(None), -1),
    "leaves come first": replace("feature", lambda a: a[::-1].copy()),
    "the border between two trees": break_array(
        lambda arrays: arrays["nodes"].__setitem__(slice(0, 2), arrays["nodes"][:2] + np.array([2, -2]))
    ),
    "a tree of negative size": break_array(
        lambda arrays: arrays["nodes"].__setitem__(slice(0, 2), [-1, arrays["nodes"][:2].sum() + 1])
    ),
    "a feature too many": put("feature", 0, 4),
    "a negative feature": put("feature", 0, -2),
    "a leaf is nan": put("value", 3, np.nan),
    "a threshold is nan": put("threshold", 0, np.nan),
    "the baseline is infinite": put("baseline", 0, np.inf),
    "nodes of the wrong tree": put("nodes", slice(0, 2), [1, 1]),
    "a huge number of nodes": put("nodes", 0, 2**31 - 1),
    "negative counts": put("trees", 0, -1),
    "counts are fractions": replace("nodes", lambda a: a.astype(np.float64)),
    "values are cut": replace("value", lambda a: a[:-1]),
    "a matrix": replace("value", lambda a: a[None]),
    "edges fall": replace("edges", lambda a: a[::-1].copy()),
    "too many edges": put("edge_counts", 0, 300),
    "no threshold": break_array(lambda arrays: arrays.pop("threshold")),
    "three classes": rewrite("classes", [0, 1, 2]),
    "an unknown kind": rewrite("kind", "forest"),
    "another schema": rewrite("schema", 2),
    "no number of rounds": rewrite("rounds", None),
    "not JSON": lambda folder: (folder / "classifier.json").write_text("{"),
    "a list": lambda folder: (folder / "classifier.json").write_text("[]"),
    "cut off": lambda folder: (folder / "classifier.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{"),
    "missing": lambda folder: (folder / "classifier.safetensors").unlink(),
}


@pytest.fixture(scope="module")
def stored_trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    save_classifier(folder, TreeEnsemble(members=2, max_iter=5, random_state=1).fit(*table(800)))
    return folder


@pytest.mark.parametrize("damage", TREE_DAMAGE.values(), ids=TREE_DAMAGE)
def test_damaged_trees_are_an_input_error(stored_trees: Path, tmp_path: Path, damage) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(stored_trees, folder)
    load_classifier(folder)
    damage(folder)
    with pytest.raises(InputError, match="copy"):
        load_classifier(folder)


@pytest.mark.parametrize(
    "damage",
    [
        replace("weight1", lambda a: a[:, :-1]),
        replace("bias0", lambda a: a[:1]),
        put("weight0", (0, 0, 0), np.inf),
        put("deviation", 0, 0.0),
        rewrite("layers", 1),
        rewrite("layers", 9),
        rewrite("layers", "many"),
    ],
)
def test_damaged_networks_are_an_input_error(tmp_path: Path, damage) -> None:
    x, y = table(300)
    save_classifier(tmp_path, NetworkEnsemble(members=1, hidden=(4,), max_rounds=1, random_state=1).fit(x, y))
    load_classifier(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        load_classifier(tmp_path)


# methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        *((name, "trees") for name in FAST),
        *((name, None) for name in MORE),
        ("cwola", "network"),
        ("idealised", "network"),
    ],
)
def test_a_loaded_method_scores_as_the_one_that_was_saved(tmp_path: Path, name: str, classifier: str) -> None:
    events, method = sample(), fitted(name, classifier)
    cls = type(method)
    method.save(tmp_path, 1, features=events.features, mass=events.mass, window=WINDOW)
    loaded = cls.load(tmp_path)
    new = sample(2000, seed=9).without_label()
    assert np.array_equal(loaded.score(new), method.score(new, 1))
    # all events are the same to a bump hunt
    assert np.allclose(loaded.score(new), method.score(new, 0)) == (name == "bump-hunt")
    assert loaded.config == method.config
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in {".json", ".safetensors", ""}]
    with pytest.raises(InputError, match=f"holds a model of method '{name}'"):
        get_method("cwola" if name != "cwola" else "cathode").load(tmp_path)


def test_all_methods_can_be_saved() -> None:
    assert not {name for name in METHODS.built_in if get_method(name).save_model is Method.save_model}
    assert {*METHODS.built_in} == {*FAST, *MORE}


def test_a_loaded_signal_is_the_one_that_was_saved(tmp_path: Path) -> None:
    method = fitted("ranode", None)
    for split in (0, 1):
        folder = tmp_path / str(split)
        method.save(folder, split, features=FEATURES, mass="mjj", window=WINDOW)
        loaded = type(method).load(folder)
        for name in ("fraction_", "fraction_error_", "gain_", "trained_fraction_"):
            assert getattr(loaded, name).tolist() == [getattr(method, name)[split]]
        assert np.array_equal(loaded.floor_, method.floor_)
    assert len(method.floor_) > 0
    assert method.fraction_error_[0] != method.fraction_error_[1]
    first, again = method.signal(0, 50), type(method).load(tmp_path / "0").signal(0, 50)
    for name in ("x", "m", "weights"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert np.ptp(first.m) > 1


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def new_array(name: str, make) -> object:
    def apply(path: Path) -> None:
        save_file({n: make(a).copy() if n == name else a for n, a in load_file(path).items()}, path)

    return apply


def without(name: str) -> object:
    return lambda path: save_file({n: a for n, a in load_file(path).items() if n != name}, path)


RATIO_DAMAGE = [
    ("anode", "range.safetensors", Path.unlink),
    ("anode", "range.safetensors", cut_short),
    ("anode", "range.safetensors", without("window")),
    ("anode", "range.safetensors", new_array("window", lambda a: a[::-1])),
    ("anode", "range.safetensors", new_array("window", lambda a: a[:1])),
    ("anode", "range.safetensors", new_array("low", lambda a: a + 1e6)),
    ("anode", "range.safetensors", new_array("high", lambda a: a[:-1])),
    ("anode", "range.safetensors", new_array("high", lambda a: a * np.nan)),
    ("anode", "window/1/density.safetensors", Path.unlink),
    ("anode", "window/1/density.safetensors", cut_short),
    ("anode", "window/0/density.json", lambda path: path.write_text("{")),
    ("anode", "window/0/density.json", lambda path: path.write_text("[]")),
    ("anode", "density/density.json", Path.unlink),
    ("ranode", "signal.safetensors", Path.unlink),
    ("ranode", "signal.safetensors", cut_short),
    ("ranode", "signal.safetensors", without("found")),
    ("ranode", "signal.safetensors", without("transform.mass")),
    ("ranode", "signal.safetensors", without("signal.gain")),
    ("ranode", "signal.safetensors", without("signal.flows.mean")),
    ("ranode", "signal.safetensors", new_array("found", lambda a: a[:3])),
    ("ranode", "signal.safetensors", new_array("signal.fraction", lambda a: a[:1])),
    ("ranode", "signal.safetensors", new_array("signal.flows.width", lambda a: a[:, :, :2])),
    ("ranode", "signal.safetensors", new_array("signal.flows.place", lambda a: a * np.inf)),
]


@pytest.mark.parametrize(("name", "file", "damage"), RATIO_DAMAGE)
def test_a_damaged_density_ratio_is_an_input_error(tmp_path: Path, name: str, file: str, damage) -> None:
    method = fitted(name, None)
    method.save(tmp_path, 0, features=FEATURES, mass="mjj", window=WINDOW)
    type(method).load(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(InputError):
        type(method).load(tmp_path)


@pytest.mark.parametrize("name", ["anode", "ranode", "ensemble"])
def test_a_search_keeps_a_density_ratio(tmp_path: Path, name: str) -> None:
    events, method = sample(1000, seed=4).without_label(), fitted(name, None)
    scores, seen = method.score(events, 1), np.arange(len(events)) % 2 == 1
    files, facts = pack_model(
        method, 1, events, WINDOW, seen=seen, scores=scores, sideband=~WINDOW.contains(events.m)
    )
    assert facts["model"]["bytes"] < 2e6
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    assert np.array_equal(StoredModel.load(tmp_path).score(events), scores)


def test_a_bridge_of_a_shared_density_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    m = 2000 + rng.exponential(800, 3000)
    x = rng.normal(size=(3000, 2)) + (m / 2000)[:, None]
    splits = np.stack([m > 0, rng.random(3000) < 0.7])
    density = make_density("flow-matching", steps=60, batch_size=128, frequencies=4, seed=1)
    bridged = density.fit(x, m, splits=splits).bridged(2400.0, 2800.0)
    bridged.only(1).save(tmp_path)
    loaded = load_density(tmp_path)
    inside = (m > 2400) & (m < 2800)
    assert np.array_equal(loaded.to_latent(x[:200], m[:200]), bridged.to_latent(x[:200], m[:200], 1))
    plain = density.to_latent(x[inside], m[inside], 1)
    assert np.abs(loaded.to_latent(x[inside], m[inside]) - plain).max() > 1e-3
    with pytest.raises(IndexError):
        loaded.to_latent(x, m, 1)


@pytest.mark.parametrize("kind", ["maf", "spline"])
def test_one_model_of_a_flow_is_that_model(kind: str) -> None:
    rng = np.random.default_rng(0)
    m, x = 2000 + rng.exponential(800, 1000), rng.normal(size=(1000, 2))
    splits = np.stack([m > 0, m > 2300])
    density = make_density(kind, steps=20, batch_size=64, transforms=2, hidden=8).fit(x, m, splits=splits)
    assert np.array_equal(density.only(1).log_prob(x, m), density.log_prob(x, m, 1))
    assert not np.allclose(density.only(0).log_prob(x, m), density.log_prob(x, m, 1))


def test_a_method_without_storage_says_so(tmp_path: Path) -> None:
    class Plain(Method):
        name, title = "plain", "scores the first feature"

        def fit(self, events, window, splits=None):
            return self

        def score(self, events, split=0):
            return events.x[:, 0].astype(np.float64)

    with pytest.raises(InputError, match="method 'plain' cannot be saved"):
        Plain().save(tmp_path, features=("a",), mass="m", window=WINDOW)
    with pytest.raises(InputError, match="contains no model"):
        Plain.load(tmp_path)


# runs -------------------------------------------------------------------------------------------------------


def settings(file: Path, **changes: object) -> dict:
    return {
        "file": str(file),
        "mass": "mjj / 1000",
        "features": [*FEATURES],
        "id": "event",
        "unit": "TeV",
        "where": "f1 > -3",
        "window": [3.3, 3.7],
        "folds": 4,
        "toys": 200,
        "working_points": [0.02],
        "method": ["cwola", "lacathode"],
        "options": {name: FAST[name] for name in ("cwola", "lacathode")},
        **changes,
    }


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "new.parquet", 4000, n_signal=100, seed=7)


@pytest.fixture(scope="module")
def run(with_signal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_search(
        parse_config(settings(with_signal)), tmp_path_factory.mktemp("runs") / "run", jobs=1
    ).path


def test_every_task_keeps_its_last_model(run: Path) -> None:
    for folder in (run / "tasks").iterdir():
        facts = json.loads((folder / "task.json").read_text())
        if "method" not in facts:
            continue
        files = [path for path in (folder / "model").rglob("*") if path.is_file()]
        assert facts["model"]["split"] == 2
        assert facts["model"]["bytes"] == sum(path.stat().st_size for path in files) < 1e6
        assert {path.suffix for path in files} == {".json", ".safetensors"}
        stored = json.loads((folder / "model" / "method.json").read_text())
        assert (stored["features"], stored["mass"]) == ([*FEATURES], "mjj / 1000")
        assert stored["window"] == [3300.0, 3700.0]


def test_the_last_fold_is_scored_as_in_the_search(run: Path, with_signal: Path) -> None:
    """The scores of sideband events in the last fold come from the stored model."""
    rows = pq.read_table(run / "scores.parquet").to_pandas()
    columns = make_columns(n_signal=150)
    mass = dict(zip(columns["event"].tolist(), columns["mjj"].tolist(), strict=True))
    x = np.stack([columns[name] for name in FEATURES], axis=1)
    # a blind run withholds some scores beside the window too; the stored model gives them
    from serendip.statistics.looks import fit_range

    low, high = fit_range(columns["mjj"][columns["f1"] > -3], WINDOW)
    for model in stored_models(run):
        mine = rows[(rows.method == model.method.name) & (rows.fold == 3)]
        order = mine.id.to_numpy()
        events = Events(
            {"mjj / 1000": columns["mjj"][order]} | {name: x[order, i] for i, name in enumerate(FEATURES)},
            mass="mjj / 1000",
            features=FEATURES,
        )
        scores = model.score(events)
        told = mine.score.notna().to_numpy()
        assert np.allclose(scores[told], mine.score[told], rtol=1e-6, atol=1e-6)
        # background efficiency: the fraction of these events at or above a score, in the range of the fit
        m = np.array([mass[i] for i in order.tolist()])
        beside = scores[(m >= low) & (m < high) & ~WINDOW.contains(m)]
        assert 100 < np.count_nonzero(told) < len(beside) < len(mine)
        for score in np.quantile(beside, [0.0, 0.5, 0.9, 0.99, 1.0], method="nearest"):
            expected = np.mean(beside >= score)
            assert model.background_efficiency(np.array([score]))[0] == pytest.approx(expected, abs=1e-12)
        assert model.background_efficiency(np.array([beside.max() + 1, beside.min() - 1])).tolist() == [0, 1]


def test_score_new_events(run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.parquet"
    assert cli(["score", str(run), str(new), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    got = pq.read_table(out)
    assert got.column_names == [
        "id", "mass", "method", "window_low", "window_high", "score", "background_efficiency",
    ]  # fmt: skip
    columns = make_columns(4000, 100, seed=7)
    kept = columns["f1"] > -3
    assert len(got) == 2 * kept.sum()
    frame = got.to_pandas()
    for method in ("cwola", "lacathode"):
        mine = frame[frame.method == method]
        assert np.array_equal(mine.id, columns["event"][kept])
        assert np.allclose(mine.mass, columns["mjj"][kept])
        assert set(mine.window_low) == {3300.0}
        truth = columns["truth"][kept].astype(bool)
        assert np.median(mine.background_efficiency[truth]) < 0.01
        assert np.median(mine.background_efficiency[~truth]) > 0.3
        inside = mine.mass.between(3300, 3700, inclusive="left")
        chosen = int((inside & (mine.background_efficiency <= 0.02)).sum())
        assert (
            f"{method} 3300-3700 GeV: {inside.sum()} in the window, of these {chosen} at background efficiency 0.02"
            in printed
        )


def test_score_names_method_and_window(run: Path, new: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    (summary,) = score_file(run, new, out, method="cwola", window=WINDOW)
    assert summary.method == "cwola"
    assert set(pq.read_table(out)["method"].to_pylist()) == {"cwola"}


def test_score_counts_events_outside_the_range_of_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = make_columns(50, seed=3)
    for i, name in enumerate(FEATURES):
        columns[name] = np.zeros(50)
        columns[name][:i] = 99.0
    pq.write_table(
        pa.table({name: columns[name] for name in ("mjj", "event", *FEATURES)}), tmp_path / "few.parquet"
    )
    out = tmp_path / "scores.parquet"
    assert (
        cli(["score", str(run), str(tmp_path / "few.parquet"), "--out", str(out), "--method", "cwola"]) == 0
    )
    assert "2 events have a feature outside the range of training (f2: 1, f3: 2)" in capsys.readouterr().out


def unblinded(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["unblinding"] = [{"time": "now", "config_hash": "x"}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def mixed(path: Path, own: pa.Table, rows: np.ndarray, other: pa.Table | None = None) -> Path:
    """Rows of one table under new ids, after those of another one."""
    chosen = own.take(rows)
    ids = pa.array(chosen["event"].to_numpy() + 1_000_000)
    chosen = chosen.set_column(chosen.column_names.index("event"), "event", ids)
    pq.write_table(chosen if other is None else pa.concat_tables([other, chosen]), path)
    return path


def test_blinded_data_cannot_be_scored_by_their_own_run(
    run: Path, with_signal: Path, new: Path, tmp_path: Path
) -> None:
    own, other, out = pq.read_table(with_signal), pq.read_table(new), tmp_path / "scores.parquet"
    inside = WINDOW.contains(own["mjj"].to_numpy())
    order = np.random.default_rng(1).permutation(len(own))
    single = pa.table({
        name: own[name] if name in ("event", "truth") else own[name].cast(pa.float32())
        for name in own.column_names
    })  # fmt: skip
    refused = {
        "all": with_signal,
        "shuffled": mixed(tmp_path / "shuffled.parquet", own, order),
        "half": mixed(tmp_path / "half.parquet", own, order[: len(own) // 2]),
        "one row more": mixed(tmp_path / "more.parquet", own, order, other.slice(0, 1)),
        "one row": mixed(tmp_path / "one.parquet", own, np.flatnonzero(inside)[:1]),
        "a tenth": mixed(tmp_path / "tenth.parquet", own, np.flatnonzero(inside)[:60], other),
        "single precision": mixed(tmp_path / "single.parquet", single, order),
    }
    for name, file in refused.items():
        for region in (None, WINDOW):
            with pytest.raises(InputError, match=r"still blinded.*--unblind") as caught:
                score_file(run, file, out, window=region)
            assert not any(str(n) in str(caught.value) for n in (inside.sum(), inside[order].sum())), name
    assert not out.exists()
    sideband = mixed(tmp_path / "sideband.parquet", own, np.flatnonzero(~inside))
    assert [summary.n_in_window for summary in score_file(run, sideband, out)] == [0, 0]
    assert pq.read_table(out)["score"].null_count == 0
    opened = unblinded(run, tmp_path / "opened")
    for file in refused.values():
        assert len(score_file(opened, file, out)) == 2
        assert pq.read_table(out)["score"].null_count == 0


def test_single_events_of_a_blinded_window_get_no_score(
    run: Path, with_signal: Path, new: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, other, out = pq.read_table(with_signal), pq.read_table(new), tmp_path / "scores.parquet"
    before = score_file(run, new, out, method="cwola")
    plain = pq.read_table(out)
    assert not caplog.records
    mine = np.flatnonzero(WINDOW.contains(own["mjj"].to_numpy()) & (own["f1"].to_numpy() > -3))[:2]
    file = mixed(tmp_path / "few.parquet", own, mine, other)
    assert score_file(run, file, out, method="cwola") == [
        dataclasses.replace(before[0], n_events=before[0].n_events + 2)
    ]
    got = pq.read_table(out)
    assert got.slice(0, len(plain)).equals(plain)
    for name in ("score", "background_efficiency"):
        assert got[name].to_pylist()[-2:] == [None] * 2
    assert "still blinded" in caplog.text
    (opened,) = score_file(unblinded(run, tmp_path / "opened"), file, out, method="cwola")
    assert opened.n_in_window == before[0].n_in_window + 2


def test_fingerprints_follow_mass_and_features_only() -> None:
    events = sample(500)
    found = fingerprints(events)
    assert len(np.unique(found)) == len(events)
    rows = np.random.default_rng(0).permutation(len(events))
    weighted = Events({**events.columns, "w": np.full(len(events), np.nan)}, "mjj", FEATURES, weight="w")
    assert np.array_equal(fingerprints(weighted.select(rows)), found[rows])
    for name in ("mjj", *FEATURES):
        changed = dataclasses.replace(events, columns={**events.columns, name: events[name] * (1 + 1e-6)})
        assert np.mean(fingerprints(changed) == found) < 0.05
    swapped = dataclasses.replace(events, features=("f2", "f1", "f3"))
    assert not np.any(fingerprints(swapped) == found)
    zero = {name: np.zeros(1) for name in ("mjj", *FEATURES)}
    minus = {name: -values for name, values in zero.items()}
    assert fingerprints(Events(zero, "mjj", FEATURES)) == fingerprints(Events(minus, "mjj", FEATURES))


@pytest.mark.parametrize(
    ("window", "counts", "size"),
    [(WINDOW, (0, 100, 300), 1024), (Window(2100.0, 2600.0), (1100, 1700), 2048)],
)
def test_a_model_does_not_tell_how_many_events_its_window_holds(
    tmp_path: Path, window: Window, counts: tuple[int, ...], size: int
) -> None:
    events, method = sample().without_label(), fitted("cwola", "trees")
    inside = np.flatnonzero(window.contains(events.m))
    outside = np.flatnonzero(~window.contains(events.m))
    assert len(inside) >= max(counts)
    sizes = set()
    for n in counts:
        part = events.select(np.concatenate([outside, inside[:n]]))
        beside = np.arange(len(part)) < len(outside)
        files, facts = pack_model(
            method, 0, part, window, seen=beside, scores=method.score(part, 0), sideband=beside
        )
        sizes.add((facts["model"]["bytes"], len(files["reference.safetensors"])))
        (tmp_path / "reference").write_bytes(files["reference.safetensors"])
        known = load_file(tmp_path / "reference")["fingerprints"]
        assert len(known) == size
        assert np.isin(fingerprints(part), known).tolist() == (~beside).tolist()
    assert len(sizes) == 1


def test_an_old_training_in_the_folder_is_not_the_model(run: Path, new: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "run", tmp_path / "scores.parquet"
    shutil.copytree(run, copy)
    used = {model.method.name: model.folder.parent for model in stored_models(copy)}
    # last in the order of names, with other scores
    stale = copy / "tasks" / "zzz"
    shutil.copytree(used["cwola"], stale)
    facts = stale / "model" / "classifier" / "0"
    save_classifier(facts, TreeEnsemble(members=1, max_iter=2, random_state=5).fit(*small(800)))
    manifest = json.loads((copy / "manifest.json").read_text())

    def folders(keys: object) -> dict[str, str]:
        manifest["task_keys"] = keys
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return {model.method.name: model.folder.parent.name for model in stored_models(copy)}

    keys = [{"method": name, "window": [3300.0, 3700.0], "key": folder.name} for name, folder in used.items()]
    assert folders(keys) == {name: folder.name for name, folder in used.items()}
    assert folders(None)["cwola"] == "zzz"
    assert list(folders(keys[:1])) == [keys[0]["method"]]
    with pytest.raises(InputError, match="task_keys"):
        folders(["cwola"])
    (copy / "manifest.json").write_text(json.dumps(manifest | {"task_keys": keys}))
    score_file(copy, new, out, method="cwola")
    expected = tmp_path / "expected.parquet"
    score_file(run, new, expected, method="cwola")
    assert pq.read_table(out).equals(pq.read_table(expected))


def test_score_explains_what_is_wrong(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "scores.parquet")
    few = tmp_path / "few.parquet"
    pq.write_table(pa.table({"mjj": [3000.0], "event": [1], "f1": [0.0]}), few)

    def message(*arguments: str) -> str:
        assert cli(["score", *arguments]) == 2
        return capsys.readouterr().err

    assert "f2" in message(str(run), str(few), "--out", out)
    assert "has no method 'anode'; it has: cwola, lacathode" in message(
        str(run), str(new), "--out", out, "--method", "anode"
    )
    assert "has no window 2000-3000 GeV" in message(str(run), str(new), "--out", out, "--window", "2:3")
    assert "ends in .parquet" in message(str(run), str(new), "--out", out + ".csv")
    assert "not a run directory" in message(str(tmp_path), str(new), "--out", out)
    old = tmp_path / "old"
    shutil.copytree(run, old)
    for folder in old.glob("tasks/*/model"):
        shutil.rmtree(folder)
    assert "contains no model to score with" in message(str(old), str(new), "--out", out)
    assert not Path(out).exists()


def test_a_damaged_model_is_an_input_error(run: Path, tmp_path: Path) -> None:
    source = next(p for p in run.glob("tasks/*/model") if (p / "density").is_dir())
    StoredModel.load(source)
    for number, (name, change) in enumerate(
        [
            ("density/density.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-100])),
            (
                "density/density.json",
                lambda p: p.write_text(p.read_text().replace('"hidden": ', '"hidden": 1')),
            ),
            (
                "density/density.json",
                lambda p: p.write_text(p.read_text().replace('"models": 1', '"models": 0')),
            ),
            ("classifier/0/classifier.json", lambda p: p.unlink()),
            ("reference.safetensors", lambda p: p.unlink()),
            ("method.json", lambda p: p.write_text(p.read_text().replace('"seed"', '"sed"'))),
            ("method.json", lambda p: p.write_text(p.read_text().replace('"members"', '"member"'))),
            ("method.json", lambda p: p.write_text(p.read_text().replace('"f3"', '"f3", "f4"'))),
            ("method.json", lambda p: p.write_text(p.read_text().replace('"lacathode"', '"unheard"'))),
        ]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        before = (folder / name).read_bytes()
        change(folder / name)
        assert not (folder / name).exists() or (folder / name).read_bytes() != before
        with pytest.raises(InputError):
            StoredModel.load(folder)


def test_methods_that_cannot_be_stored_still_search(
    with_signal: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(settings(with_signal, method=["cwola"], options={"cwola": FAST["cwola"]}))
    monkeypatch.setattr(Cwola, "save_model", Method.save_model)
    run = run_search(config, tmp_path / "run", jobs=1).path
    (path,) = run.glob("tasks/*/task.json")
    facts = json.loads(path.read_text())
    assert facts["model"] is None
    assert "cannot be saved" in facts["model_note"]
    assert not (path.parent / "model").exists()
    with pytest.raises(InputError, match="method 'cwola' cannot be saved"):
        score_file(run, new, tmp_path / "scores.parquet")


def test_a_model_that_scores_differently_is_not_kept(
    with_signal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(settings(with_signal, method=["cwola"], options={"cwola": FAST["cwola"]}))
    monkeypatch.setattr(
        Cwola, "save_model", lambda self, folder, split: self._classifiers.save(folder / "classifier", 0)
    )
    run = run_search(config, tmp_path / "run", jobs=1).path
    (path,) = run.glob("tasks/*/task.json")
    assert "gives other scores" in json.loads(path.read_text())["model_note"]


def test_k_fold_keeps_one_model(with_signal: Path, new: Path, tmp_path: Path) -> None:
    config = parse_config(
        settings(
            with_signal, method=["cwola"], options={"cwola": FAST["cwola"]}, combination="kfold-bonferroni"
        )
    )
    run = run_search(config, tmp_path / "run", jobs=1).path
    (path,) = run.glob("tasks/*/task.json")
    assert json.loads(path.read_text())["model"]["split"] == 3
    assert len(score_file(run, new, tmp_path / "scores.parquet")) == 1
