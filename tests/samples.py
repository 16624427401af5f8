"""Synthetic tables with a falling mass spectrum, features that change slowly with the mass, and an optional signal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = ("f1", "f2", "f3")
TINY_DENSITIES = {
    "flow-matching": {"hidden": 16, "layers": 2, "steps": 40, "batch_size": 64},
    "spline": {"hidden": 16, "layers": 1, "transforms": 1, "steps": 20, "batch_size": 64},
    "spline-coupling": {"hidden": 16, "layers": 1, "transforms": 2, "steps": 20, "batch_size": 64},
    "maf": {"hidden": 16, "layers": 1, "transforms": 2, "steps": 20, "batch_size": 64},
}


def make_columns(n_background: int = 12_000, n_signal: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    mass = 2000.0 * (1 - rng.random(n_background) * (1 - 3.5**-5)) ** -0.2
    x = rng.normal(size=(n_background, 3)) + 0.1 * np.log(mass / 3000)[:, None]
    signal_mass = rng.normal(3500, 60, n_signal)
    signal = rng.normal([2.2, -2.0, 2.0], 0.25, size=(n_signal, 3))
    mass, x = np.concatenate([mass, signal_mass]), np.concatenate([x, signal])
    truth = np.repeat([0, 1], [n_background, n_signal]).astype(np.int8)
    order = rng.permutation(len(mass))
    columns = {"mjj": mass[order], "event": np.arange(len(mass)), "truth": truth[order]}
    return columns | {name: x[order, i] for i, name in enumerate(FEATURES)}


def write_table(path: Path, n_background: int = 12_000, n_signal: int = 0, seed: int = 0) -> Path:
    pq.write_table(pa.table(make_columns(n_background, n_signal, seed)), path)
    return path


def search_settings(path: Path, **more: Any) -> dict[str, Any]:
    """Settings of a search of such a table in the window of its signal."""
    return {
        "file": str(path),
        "mass": "mjj",
        "features": list(FEATURES),
        "id": "event",
        "window": [3300, 3700],
        **more,
    }


def results(run: Path) -> dict[str, Any]:
    """What a search has written."""
    return json.loads((run / "results.json").read_text())


def numbers(run: Path) -> dict[str, Any]:
    """The same without the times that it took."""
    return {key: value for key, value in results(run).items() if key != "timing_s"}


def pyhf_q0(data: Any, model: Any) -> float:
    """Test statistic of discovery by pyhf."""
    import pyhf

    found = pyhf.infer.test_statistics.q0(
        0.0,
        data,
        model,
        model.config.suggested_init(),
        model.config.suggested_bounds(),
        model.config.suggested_fixed(),
    )
    return float(np.ravel(found)[0])
