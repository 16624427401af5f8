"""The models of a run with the selection around them, for reinterpretation without this package."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.json import read_json, write_json
from serendip.methods.registry import get_method
from serendip.report.exports import bundle_score
from serendip.report.exports.target import export_folder
from serendip.report.load import Run, read_run
from serendip.runs.folder import RunDirectory
from serendip.search.models import StoredModel, run_config, stored_models
from serendip.search.onnx_export import export_run

__all__ = ["export_bundle"]

_CHECKED = 300
_PRESETS = {
    "lhco": "LHC Olympics columns: mjj, mj1 (lighter jet), delta_mj, tau21_j1 and tau21_j2 = tau2/(tau1 + 1e-5) of the lighter "
    "and the heavier jet"
}


def export_bundle(
    run: Path | str, out: Path | str, *, method: str | None = None, window: Window | None = None
) -> list[str]:
    """Write the models of a run as ONNX with features, window, working points and thresholds.

    ``README.md`` explains its use, ``selection.json`` has the selection, ``score.py`` (numpy and onnxruntime) computes
    scores, ``models/NAME`` has one model each. Before it is written, every model has to give the scores of the
    original through ``score.py``.

    Parameters
    ----------
    run, out
        The run directory, and a folder that is new or empty, or a name that ends in ``.zip``.
    method, window
        Only the models of this method, or of this window.

    Returns
    -------
    Names of the models.

    Raises
    ------
    InputError
        If the run has no models, a model has no ONNX form or cannot be rebuilt from it, or ``onnx`` or ``onnxruntime`` is
        not installed.
    """
    run, out = Path(run), Path(out)
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise InputError("a bundle is checked with onnxruntime: pip install 'serendip[onnx]'") from None
    content = read_run(run)
    with export_folder(out) as folder:
        exported = list(export_run(run, folder / "models", method=method, window=window))
        models = stored_models(run, method=method, window=window)
        entries = [_complete(content, target, model) for target, model in zip(exported, models, strict=True)]
        write_json(folder / "selection.json", _selection(content, entries))
        (folder / "README.md").write_text(_readme(content, entries), encoding="utf-8")
        shutil.copyfile(str(files("serendip.report.exports") / "bundle_score.py"), folder / "score.py")
    return [entry["name"] for entry in entries]


def _complete(run: Run, folder: Path, model: StoredModel) -> dict[str, Any]:
    """Add recipe, cuts and sideband scores to an exported model, and check that it gives its scores."""
    facts = read_json(folder / "model.json")
    facts["score"] = _recipe(facts["onnx"], model)
    points = get_method(model.method.name).working_points or run_config(run.path).working_points
    thresholds = _beside_plateaus(model.thresholds)
    facts["working_points"] = [_cut(thresholds, model.efficiencies, point) for point in points]
    np.save(folder / "sideband.npy", np.stack([thresholds, model.efficiencies]), allow_pickle=False)
    write_json(folder / "model.json", facts)
    _check(folder, model)
    return {
        "name": folder.name,
        "method": model.method.name,
        "window": [model.window.low, model.window.high],
        "working_points": facts["working_points"],
    }


def _recipe(names: list[str], model: StoredModel) -> dict[str, Any]:
    """How to compute the score from the ONNX files, verified by :func:`_check`."""
    classifiers = [name for name in names if name.startswith("classifier")]
    if classifiers and "density-latent.onnx" in names:
        return {"kind": "classifier of latent", "latent": "density-latent.onnx", "classifier": classifiers[0]}
    if classifiers:
        return {"kind": "mean of classifiers", "classifiers": classifiers}
    raise InputError(
        f"method '{model.method.name}' has no known way from its ONNX files to a score; leave it out with --method"
    )


def _beside_plateaus(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds just above scores, shape ``(k,)``.

    Trees give many events the same score. In ONNX it is rounded otherwise, and a threshold on the score itself would let
    a whole plateau change sides.
    """
    room = 2e-6 * np.maximum(1.0, np.abs(scores))
    room[:-1] = np.minimum(room[:-1], 0.5 * np.diff(scores))
    return scores + room


def _cut(
    thresholds: NDArray[np.float64], efficiencies: NDArray[np.float64], point: float
) -> dict[str, float | None]:
    """Events with a score above ``score_above`` pass; null: there were too few sideband events, or no cut."""
    k = int(np.searchsorted(-efficiencies, -point, side="left"))
    reached = 0 < k < len(efficiencies)
    return {
        "background_efficiency": point,
        "score_above": float(thresholds[k - 1]) if reached else None,
        "sideband_efficiency": float(efficiencies[k]) if reached else None,
    }


def _check(folder: Path, model: StoredModel) -> None:
    rng = np.random.default_rng(1)
    low, high = model.limits.T
    x = (low + (high - low) * rng.random((_CHECKED, len(low)))).astype(np.float32)
    m = rng.uniform(0.9 * model.window.low, 1.1 * model.window.high, _CHECKED)
    columns: dict[str, NDArray[Any]] = dict(zip(model.features, x.T, strict=True)) | {model.mass: m}
    expected = model.score(Events(columns, model.mass, model.features))
    found, _ = bundle_score.score(folder, x, m)
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
        worst = float(np.abs(found - expected).max())
        raise InputError(
            f"method '{model.method.name}' cannot be bundled: the ONNX files give scores that differ by up to {worst:.2g}; leave "
            "it out with --method"
        )


def _selection(run: Run, entries: list[dict[str, Any]]) -> dict[str, Any]:
    source = RunDirectory(run.path).manifest().get("input", {})
    return {
        "schema": 1,
        "serendip": run.manifest.serendip,
        "run": run.path.resolve().name,
        "config_hash": RunDirectory(run.path).manifest().get("config_hash"),
        "mass": run.diagnostics.mass_name,
        "mass_unit": "GeV",
        "input_mass_unit": source.get("unit", "GeV"),
        "features": list(run.diagnostics.features),
        "where": source.get("where"),
        "preset": source.get("preset"),
        "models": entries,
        "weights": [
            {
                "method": record.method,
                "window": list(record.window),
                "scale": record.weights.scale,
                "loosest_rank": record.weights.loosest_rank,
            }
            for record in run.diagnostics.weighted
        ],
        "looks": [
            {
                "method": look.method,
                "window": list(look.window),
                "working_point": look.working_point,
                "combination": look.combination,
                "cross_check": look.cross_check,
                "observed": look.observed,
                "expected": look.expected,
                "expected_error": look.expected_error,
            }
            for look in run.results.looks
        ],
    }


def _readme(run: Run, entries: list[dict[str, Any]]) -> str:
    selection = _selection(run, entries)
    preset = _PRESETS.get(selection["preset"] or "")
    lines = [
        f"# Models of the search {selection['run']}",
        "",
        f"Made with serendip {selection['serendip']}. Needs numpy and onnxruntime; nothing here runs code of its own when it is",
        "loaded, except `score.py`, which is short enough to be read.",
        "",
        "## Selection",
        "",
        f"- Cut before everything: `{selection['where'] or 'none'}`",
        f"- Mass, in GeV: `{selection['mass']}`"
        + (
            f" (the input is in {selection['input_mass_unit']})"
            if selection["input_mass_unit"] != "GeV"
            else ""
        ),
        "- Features, in this order, in the units of the input:",
        *(f"  {i}. `{name}`" for i, name in enumerate(selection["features"], start=1)),
        *([f"- Preset `{selection['preset']}`: {preset}"] if preset else []),
        "",
        "## Models",
        "",
        "| folder in `models/` | method | window in GeV | background efficiency: score above |",
        "|---|---|---|---|",
    ]
    for entry in entries:
        cuts = "; ".join(
            f"{cut['background_efficiency']:g}: "
            + ("-" if cut["score_above"] is None else f"{cut['score_above']:.6g}")
            for cut in entry["working_points"]
        )
        low, high = entry["window"]
        lines.append(f"| `{entry['name']}` | {entry['method']} | {low:.7g}-{high:.7g} | {cuts} |")
    weighted = [
        "",
        "The search made no cut: each event counted with a weight ln(1 + a/r (f/F)^1.5) from the rank r of its score, where it is below 0.1, among the",
        "sideband events of its fold, the f-th of F tested ones, with a as `weights` of `selection.json` says. For these models (f = F) r is",
        "the `background_efficiency`. The thresholds are those of the cut-and-count cross-checks.",
    ]
    lines += [
        *(weighted if run.diagnostics.weighted else []),
        "",
        "`python score.py --model models/NAME --events events.csv --out scores.csv`, or `score(folder, features, mass)` in Python.",
        "An event is selected if its mass lies in the window and its score above the threshold, which is the same as a",
        "`background_efficiency` of at most the working point.",
        "",
        "Each model is the last one of its training, which saw most events of the search. In the search, fold by fold, other",
        "models and other thresholds with the same background efficiency were applied, so that counts of the search",
        "itself cannot be reproduced with one model; the efficiency of a signal can be estimated. The models of a weakly",
        "supervised method learnt from the data: with more or less signal in them they would be others.",
        "",
        "`model.json` has the options of the method, the range of each feature in training (`limits`) and the inputs of the score;",
        "`sideband.npy` the scores of sideband events and the fraction at or above each.",
        "",
    ]
    return "\n".join(lines)
