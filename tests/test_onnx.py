"""ONNX export: what onnxruntime computes agrees with the models here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from samples import FEATURES, make_columns
from sklearn.linear_model import LogisticRegression

from serendip.classify.networks import NetworkEnsemble
from serendip.classify.onnx_export import export_classifier
from serendip.classify.splits import SplitClassifiers
from serendip.classify.storage import load_classifier, save_classifier
from serendip.classify.trees import TreeEnsemble
from serendip.cli.main import run as cli
from serendip.density import make_density
from serendip.density.onnx_export import export_density
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.io.models import write_model
from serendip.search.models import stored_models
from serendip.search.onnx_export import export_run


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def table(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 3] = np.round(x[:, 3])
    return x, x[:, 0] + 0.5 * x[:, 3] + 0.3 * rng.normal(size=n) > 0


def agrees(model: object, path: Path, x: np.ndarray, tolerance: float) -> None:
    score, probability = session(path).run(["score", "probability"], {"features": x})
    assert (score.dtype, probability.dtype) == (np.float64, np.float64)
    assert np.abs(probability - model.predict_proba(x)).max() < tolerance
    expected = SplitClassifiers((model,)).score(x)
    assert np.abs(score - expected).max() < 5 * tolerance
    assert np.std(expected) > 1


def test_trees_agree_also_on_the_edges_of_bins_and_without_a_value(tmp_path: Path) -> None:
    x, y = table()
    x[:200, 1] = np.nan
    model = TreeEnsemble(members=4, random_state=1).fit(x, y)
    export_classifier(tmp_path / "trees.onnx", model)
    new, _ = table(4000, seed=1)
    new[::7, 1] = np.nan
    new[::11, 0] = np.nan
    agrees(model, tmp_path / "trees.onnx", new, 1e-6)
    # at an edge, one float32 below and one above it: the wrong side gives another leaf
    edges = np.stack([np.resize(column, 600).astype(np.float32) for column in model.edges_], axis=1)
    for shifted in (edges, np.nextafter(edges, np.float32(-9)), np.nextafter(edges, np.float32(9))):
        agrees(model, tmp_path / "trees.onnx", shifted, 1e-6)
    far = np.array([[3e38] * 4, [-3e38] * 4], dtype=np.float32)
    (score,) = session(tmp_path / "trees.onnx").run(["score"], {"features": far})
    assert np.allclose(score, SplitClassifiers((model,)).score(far), atol=1e-5)


def test_an_edge_between_two_neighbouring_float32_numbers(tmp_path: Path) -> None:
    """Their midpoint is no float32 and would round to the upper one, whose events then change sides."""
    low = np.nextafter(np.float32(1), np.float32(2))
    high = np.nextafter(low, np.float32(2))
    assert np.float32(0.5 * (np.float64(low) + np.float64(high))) == high
    rng = np.random.default_rng(0)
    y = rng.random(1000) < 0.5
    x = np.where(y ^ (rng.random(1000) < 0.1), high, low)[:, None]
    model = TreeEnsemble(members=1, random_state=1).fit(x, y)
    export_classifier(tmp_path / "trees.onnx", model)
    agrees(model, tmp_path / "trees.onnx", x, 1e-6)


def test_loaded_trees_export_the_same_graph(tmp_path: Path) -> None:
    model = TreeEnsemble(members=2, max_iter=8, random_state=1).fit(*table(800))
    save_classifier(tmp_path / "model", model)
    export_classifier(tmp_path / "a.onnx", model)
    export_classifier(tmp_path / "b.onnx", load_classifier(tmp_path / "model"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_networks_agree(tmp_path: Path) -> None:
    x, y = table()
    x[:, 0] = 3000 + 500 * x[:, 0]
    model = NetworkEnsemble(members=2, hidden=(16, 8), max_rounds=6, random_state=1).fit(x, y)
    export_classifier(tmp_path / "network.onnx", model)
    agrees(model, tmp_path / "network.onnx", x, 1e-5)


def test_other_classifiers_are_refused(tmp_path: Path) -> None:
    x, y = table(200)
    with pytest.raises(InputError, match="LogisticRegression cannot be exported"):
        export_classifier(tmp_path / "other.onnx", LogisticRegression().fit(x, y))


@pytest.mark.parametrize(
    ("kind", "options", "bridge"),
    [
        ("flow-matching", {"hidden": 24, "ode_steps": 8}, None),
        ("flow-matching", {"hidden": 24, "ode_steps": 4, "layers": 2, "frequencies": 3}, (2400.0, 2800.0)),
        ("maf", {"transforms": 3, "hidden": 16}, None),
        ("spline", {"transforms": 2, "hidden": 16}, None),
        (
            "spline-coupling",
            {"transforms": 3, "hidden": 16, "layers": 1, "preprocessing": "standardise"},
            None,
        ),
        ("maf", {"transforms": 2, "hidden": 16, "preprocessing": "logit", "ensemble": 2}, None),
    ],
)
def test_densities_agree(
    tmp_path: Path, kind: str, options: dict, bridge: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(0)
    m = 2000 + rng.exponential(800, 3000)
    x = (
        np.column_stack([rng.normal(size=(3000, 2)), rng.integers(0, 4, 3000)]) * [1, 40, 1]
        + m[:, None] / 2000
    )
    splits = rng.random((2, 3000)) < 0.7
    density = make_density(kind, steps=120, batch_size=128, learning_rate=5e-3, seed=1, **options)
    density.fit(x, m, splits=splits)
    if bridge:
        plain = density.to_latent(x[:500], m[:500], 1)
        density = density.bridged(*bridge)
        assert np.abs(density.to_latent(x[:500], m[:500], 1) - plain).max() > 1e-3
    alone = options.get("ensemble", 1) == 1
    # far from everything in training: the straight continuations, the identity of a spline flow, the held mass
    new = np.concatenate([x[:500], x[:200] * 4, x[:50] * -9]).astype(np.float32)
    mass = np.concatenate([m[:500], m[:200] * 2, np.full(50, 500.0)])
    export_density(tmp_path / "density.onnx", density, 1)
    inputs = {"features": new, "mass": mass}
    (log_prob,) = session(tmp_path / "density.onnx").run(["log_prob"], inputs)
    expected = density.log_prob(new, mass, 1)
    assert np.allclose(log_prob, expected, rtol=1e-9, atol=1e-9)
    assert np.abs(expected[:500] - density.log_prob(new, mass, 0)[:500]).max() > 1e-3
    if not alone:
        with pytest.raises(InputError, match="mean of 2 densities has no latent space"):
            export_density(tmp_path / "latent.onnx", density, 1, log_prob=False)
        return
    (latent,) = session(tmp_path / "density.onnx").run(["latent"], inputs)
    assert np.allclose(latent, density.to_latent(new, mass, 1), rtol=1e-9, atol=1e-9)
    export_density(tmp_path / "latent.onnx", density, 1, log_prob=False)
    latent_only = session(tmp_path / "latent.onnx")
    assert [output.name for output in latent_only.get_outputs()] == ["latent"]
    assert np.allclose(latent_only.run(None, inputs)[0], latent, rtol=1e-9, atol=1e-9)


def test_a_run_is_exported_and_scores_without_this_package(
    blinded_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "onnx"
    assert cli(["export-onnx", str(blinded_models), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "lacathode_3300-3700: classifier.onnx, density.onnx, density-latent.onnx" in printed
    assert {path.name for path in out.iterdir()} == {"cwola_3300-3700", "lacathode_3300-3700"}
    columns = make_columns(500, 20, seed=8)
    events = Events(columns, mass="mjj", features=FEATURES, label="truth")
    facts = json.loads((out / "lacathode_3300-3700" / "model.json").read_text())
    assert facts["features"] == [*FEATURES]
    assert facts["onnx"] == ["classifier.onnx", "density.onnx", "density-latent.onnx"]
    expected = {model.method.name: model.score(events) for model in stored_models(blinded_models)}
    x = events.x
    (score,) = session(out / "cwola_3300-3700" / "classifier.onnx").run(["score"], {"features": x})
    assert np.abs(score - expected["cwola"]).max() < 1e-4
    folder = out / "lacathode_3300-3700"
    (z,) = session(folder / "density-latent.onnx").run(["latent"], {"features": x, "mass": events.m})
    network = session(folder / "classifier.onnx")
    (score,) = network.run(["score"], {"features": z.astype(np.float32)})
    assert np.abs(score - expected["lacathode"]).max() < 1e-5
    assert json.loads(network.get_modelmeta().custom_metadata_map["window"]) == [3300.0, 3700.0]


def test_export_explains_what_is_wrong(
    blinded_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        export_run(blinded_models, tmp_path / "full")
    with pytest.raises(InputError, match="has no method 'anode'"):
        export_run(blinded_models, tmp_path / "new", method="anode")
    (model,) = stored_models(blinded_models, method="cwola")
    (model.folder / "forest").mkdir()
    (model.folder / "forest" / "forest.json").touch()
    try:
        with pytest.raises(InputError, match="no ONNX form of its part 'forest'"):
            export_run(blinded_models, tmp_path / "new")
    finally:
        shutil.rmtree(model.folder / "forest")
    # stored like a density, but none
    write_model(model.folder / "network", {"kind": "autoencoder"}, {"weights": np.ones(2)})
    try:
        with pytest.raises(InputError, match="no ONNX form of its part 'network'"):
            export_run(blinded_models, tmp_path / "new")
    finally:
        shutil.rmtree(model.folder / "network")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match="pip install"):
        export_run(blinded_models, tmp_path / "new")
    assert not (tmp_path / "new").exists()
