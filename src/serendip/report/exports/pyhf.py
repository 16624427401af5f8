"""Looks as pyhf workspaces (HistFactory JSON, schema 1.0.0); pyhf itself is not needed to write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serendip.io.json import write_json
from serendip.report.exports.likelihood import LookModel, SignalShape, Spectrum, look_models
from serendip.report.exports.target import export_folder, write_index

__all__ = ["counting_workspace", "export_pyhf", "spectrum_workspace"]

_VERSION = "1.0.0"
_MU = "mu"
_BACKGROUND = "background_norm"

# pyhf stops at 5 standard deviations by default, where a large excess would look larger than it is
_PULLS = [[-30.0, 30.0]]


def export_pyhf(
    run: Path | str,
    out: Path | str,
    *,
    look: int | None = None,
    asimov: bool = False,
    signal: SignalShape | None = None,
) -> list[Path]:
    """Write a counting workspace for each look, or each order of a weighted one, and one of the spectrum in the window where that is sound.

    ``OUT/NAME.counting.json`` and ``OUT/NAME.spectrum.json``, and ``OUT/index.json`` with the look, the number of events per unit and the p-value of each workspace.

    Parameters
    ----------
    run, out
        The run directory, and a folder that is new or empty, or a name that ends in ``.zip``.
    look, asimov, signal
        As for :func:`~serendip.report.exports.likelihood.look_models`.

    Returns
    -------
    Paths of the workspaces below ``out``.

    Raises
    ------
    InputError
        As :func:`~serendip.report.exports.likelihood.look_models`, and if ``out`` cannot be used.
    """
    out = Path(out)
    content, models = look_models(run, look=look, asimov=asimov, signal=signal)
    with export_folder(out) as folder:
        for model in models:
            write_json(folder / f"{model.name}.counting.json", counting_workspace(model))
            if model.spectrum is not None:
                write_json(folder / f"{model.name}.spectrum.json", spectrum_workspace(model, model.spectrum))
        names = write_index(folder, content, models, "json")
    return [out / name for name in names]


def counting_workspace(model: LookModel) -> dict[str, Any]:
    """The count in the window and the side measurement of its background (on/off)."""
    b, expected_side, side = model.side
    factor = {"name": _BACKGROUND, "type": "normfactor", "data": None}
    channels = [
        _channel("window", {"signal": [model.signal]}, {"background": [b]}, [] if model.known else [factor])
    ]
    observations = [{"name": "window", "data": [model.observed]}]
    parameters = [_strength(model)]
    if not model.known:
        channels.append(_channel("sideband", {}, {"background": [expected_side]}, [factor]))
        observations.append({"name": "sideband", "data": [side]})
        parameters.append({"name": _BACKGROUND, "inits": [1.0], "bounds": [[1e-10, model.largest_norm]]})
    return _workspace(channels, observations, parameters)


def spectrum_workspace(model: LookModel, spectrum: Spectrum) -> dict[str, Any]:
    """The bins of the window, with the eigenvectors of the fit as nuisance parameters that all bins share.

    Each bin's background is a sample of its own: a ``normsys`` is an exponential of its parameter, which a ``histosys``
    of all bins is not.
    """
    n = len(spectrum.background)
    backgrounds = {
        f"background_bin{i + 1}": np.where(np.arange(n) == i, spectrum.background, 0.0).tolist()
        for i in range(n)
    }
    channel = _channel("window", {"signal": spectrum.signal.tolist()}, backgrounds, [])
    for i, sample in enumerate(channel["samples"][1:]):
        sample["modifiers"] = [
            {
                "name": f"fit_{k + 1}",
                "type": "normsys",
                "data": {"hi": float(np.exp(mode[i])), "lo": float(np.exp(-mode[i]))},
            }
            for k, mode in enumerate(spectrum.modes)
        ]
    pulls = [{"name": f"fit_{k + 1}", "bounds": _PULLS} for k in range(len(spectrum.modes))]
    observations = [{"name": "window", "data": spectrum.observed.tolist()}]
    return _workspace([channel], observations, [_strength(model), *pulls])


def _channel(
    name: str,
    signals: dict[str, list[float]],
    backgrounds: dict[str, list[float]],
    modifiers: list[dict[str, Any]],
) -> dict[str, Any]:
    strength = {"name": _MU, "type": "normfactor", "data": None}
    samples = [{"name": sample, "data": data, "modifiers": [strength]} for sample, data in signals.items()]
    samples += [
        {"name": sample, "data": data, "modifiers": modifiers} for sample, data in backgrounds.items()
    ]
    return {"name": name, "samples": samples}


def _strength(model: LookModel) -> dict[str, Any]:
    return {"name": _MU, "inits": [1.0], "bounds": [[0.0, model.largest_strength]]}


def _workspace(
    channels: list[dict[str, Any]], observations: list[dict[str, Any]], parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    measurement = {"name": "serendip", "config": {"poi": _MU, "parameters": parameters}}
    return {
        "channels": channels,
        "observations": observations,
        "measurements": [measurement],
        "version": _VERSION,
    }
