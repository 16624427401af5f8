"""Anomaly scores of new events from a bundle of models; needs numpy and onnxruntime only.

    python score.py --model models/NAME --events events.csv --out scores.csv

``events.csv`` has a header with the names of the features and of the mass (in GeV), as in ``model.json``. The output has one
row for each event: mass, score, background_efficiency, in_window.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["load", "score"]


def load(folder: Path | str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Read a folder of the bundle: its metadata and the reference for its scores."""
    folder = Path(folder)
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return facts, np.load(folder / "sideband.npy", allow_pickle=False)


def score(
    folder: Path | str, features: ArrayLike, mass: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anomaly score of each event: higher is more signal-like.

    Parameters
    ----------
    folder
        ``models/NAME``.
    features
        In the order of ``model.json``, shape ``(n, d)``.
    mass
        In GeV, shape ``(n,)``.

    Returns
    -------
    score, background_efficiency
        The second is the fraction of sideband events at or above each score; shape ``(n,)``.
    """
    facts, (thresholds, efficiencies) = load(folder)
    recipe, folder = facts["score"], Path(folder)
    x, m = np.asarray(features, dtype=np.float32), np.asarray(mass, dtype=np.float64)

    def run(name: str, output: str, **inputs: NDArray[Any]) -> NDArray[Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(folder / name), options, providers=["CPUExecutionProvider"]
        )
        # pieces, because networks of many members need memory
        starts = range(0, max(len(x), 1), 20_000)
        parts = [session.run([output], {k: v[i : i + 20_000] for k, v in inputs.items()})[0] for i in starts]
        return np.concatenate(parts)

    if recipe["kind"] == "mean of classifiers":
        s = np.mean([run(name, "score", features=x) for name in recipe["classifiers"]], axis=0)
    elif recipe["kind"] == "classifier of latent":
        latent = run(recipe["latent"], "latent", features=x, mass=m).astype(np.float32)
        s = run(recipe["classifier"], "score", features=latent)
    else:
        raise ValueError("unknown recipe: " + recipe["kind"])
    place = np.searchsorted(thresholds, s, side="left")
    return s, np.append(efficiencies, 0.0)[place]


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "events", "out"):
        parser.add_argument("--" + name, required=True)
    options = parser.parse_args()
    facts, _ = load(options.model)
    with Path(options.events).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        features = np.array([[row[name] for name in facts["features"]] for row in rows], dtype=np.float64)
        mass = np.array([row[facts["mass"]] for row in rows], dtype=np.float64)
    except (KeyError, TypeError) as error:
        parser.error(f"{options.events}: column {error} is missing")
    except ValueError as error:
        parser.error(f"{options.events}: {error}")
    s, efficiency = score(options.model, features.reshape(len(rows), -1), mass)
    low, high = facts["window"]
    with Path(options.out).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["mass", "score", "background_efficiency", "in_window"])
        for row in zip(mass, s, efficiency, strict=True):
            writer.writerow([*(repr(float(value)) for value in row), int(low <= row[0] < high)])


if __name__ == "__main__":
    _main()
