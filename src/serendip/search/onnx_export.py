"""The models of a finished run as ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from serendip.density import KINDS
from serendip.errors import InputError
from serendip.events.events import Window
from serendip.io.json import read_json, write_json
from serendip.methods.base import MODEL_FACTS, read_model_facts
from serendip.onnx_graph import require_onnx
from serendip.search.models import REFERENCE_FILES, StoredModel, stored_models

__all__ = ["export_run"]


def export_run(
    run: Path | str, out: Path | str, *, method: str | None = None, window: Window | None = None
) -> dict[Path, list[Path]]:
    """Write the models of a run as ONNX files, one folder ``METHOD_LOW-HIGH`` for each model.

    Parameters
    ----------
    run, out
        The run directory, and a folder that is new or empty.
    method, window
        Only the models of this method, or of this window.

    Returns
    -------
    dict
        The ONNX files by folder.

    Raises
    ------
    InputError
        If the run has no models, ``onnx`` is not installed, or a model has a part without an ONNX form.
    """
    require_onnx()
    run, out = Path(run), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not an empty folder; choose another one")
    parts = {model: _onnx_parts(model) for model in stored_models(run, method=method, window=window)}
    return {
        target: _export_model(model, parts[model], target)
        for model in parts
        for target in [out / f"{model.method.name}_{model.window.low:g}-{model.window.high:g}"]
    }


def _onnx_parts(model: StoredModel) -> dict[str, Path]:
    """Folders of classifiers and densities of a model, by the name that their files get."""
    parts, known = {}, {*REFERENCE_FILES, MODEL_FACTS}
    for path in sorted(model.folder.rglob("*.json")):
        if path.name == "density.json":
            # other networks are stored in the same way; other parts than densities have no ONNX form
            if read_json(path).get("kind") not in KINDS:
                continue
            folder = path.parent
        elif path.name == "classifier.json":
            folder = path.parent.parent
        else:
            continue
        parts["-".join(folder.relative_to(model.folder).parts)] = folder
    for path in sorted(model.folder.rglob("*")):
        inside = any(folder in path.parents for folder in parts.values())
        if path.is_file() and not inside and path.relative_to(model.folder).as_posix() not in known:
            raise InputError(
                f"method '{model.method.name}' cannot be exported: there is no ONNX form of its part "
                f"'{path.relative_to(model.folder).parts[0]}'; leave it out with --method"
            )
    if not parts:
        raise InputError(f"method '{model.method.name}' has learnt nothing that could be exported")
    return parts


def _export_model(model: StoredModel, parts: Mapping[str, Path], target: Path) -> list[Path]:
    from serendip.classify.onnx_export import export_classifier
    from serendip.classify.splits import SplitClassifiers
    from serendip.density import load_density
    from serendip.density.onnx_export import export_density

    target.mkdir(parents=True, exist_ok=True)
    facts = read_model_facts(model.folder)
    facts["limits"] = model.limits.tolist()
    notes = {name: json.dumps(facts[name]) for name in ("method", "features", "mass", "window", "serendip")}
    files = []
    for name, folder in parts.items():
        if (folder / "density.json").is_file():
            density = load_density(folder)
            files.append(target / f"{name}.onnx")
            export_density(files[-1], density, 0, notes)
            if getattr(density, "ensemble", 1) == 1:
                files.append(target / f"{name}-latent.onnx")
                export_density(files[-1], density, 0, notes, log_prob=False)
            continue
        estimators = SplitClassifiers.load(folder).estimators
        for i, estimator in enumerate(estimators):
            files.append(target / (f"{name}.onnx" if len(estimators) == 1 else f"{name}-{i}.onnx"))
            export_classifier(files[-1], estimator, notes)
    facts["onnx"] = [path.name for path in files]
    write_json(target / "model.json", facts)
    return files
