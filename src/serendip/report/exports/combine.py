"""Looks as datacards for the Combine tool of CMS, each with its histograms in a ROOT file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray

from serendip.report.exports.likelihood import LookModel, SignalShape, Spectrum, look_models
from serendip.report.exports.target import export_folder, write_index
from serendip.report.load import Run

__all__ = ["export_combine"]

Array = NDArray[np.float64]
Shapes = dict[
    str, tuple[Array, Array, Array]
]  # histogram by its path in the file: contents, sums of squares, edges


def export_combine(
    run: Path | str,
    out: Path | str,
    *,
    look: int | None = None,
    asimov: bool = False,
    signal: SignalShape | None = None,
) -> list[Path]:
    """Write a counting card for each look, or each order of a weighted one, and a card of the spectrum in the window where that is sound.

    ``OUT/NAME.counting.txt`` and ``OUT/NAME.spectrum.txt``, each with a ROOT file of the same name, and ``OUT/index.json``
    as for pyhf. The models are those of :mod:`serendip.report.exports.likelihood`; the background of the counting card is
    tied to its sideband by a ``rateParam``.

    Parameters
    ----------
    run, out, look, asimov, signal
        As for :func:`~serendip.report.exports.pyhf.export_pyhf`.

    Returns
    -------
    Paths of the cards below ``out``.

    Raises
    ------
    InputError
        As :func:`~serendip.report.exports.pyhf.export_pyhf`.
    """
    out = Path(out)
    content, models = look_models(run, look=look, asimov=asimov, signal=signal)
    with export_folder(out) as folder:
        for model in models:
            _write(folder / f"{model.name}.counting", _header(content, model), *_counting(model))
            if model.spectrum is not None:
                _write(folder / f"{model.name}.spectrum", _header(content, model), *_spectrum(model.spectrum))
        names = write_index(folder, content, models, "txt")
    return [out / name for name in names]


def _header(run: Run, model: LookModel) -> list[str]:
    look = model.look
    how = "weighted events" if look.weighted else f"background efficiency {look.working_point}"
    where = f"{look.window[0]:.7g}-{look.window[1]:.7g} GeV, {how}"
    signal = f"{model.signal * model.scale:.6g}"
    lines = [
        f"serendip {run.manifest.serendip}, run {run.path.resolve().name}, look {model.index}: {look.method}, {where}",
        f"r = 1 is a signal whose weights in the window sum up to {signal}"
        if look.weighted
        else f"r = 1 is {signal} signal events in the window after the cut",
    ]
    if model.scale != 1.0:
        lines.append(f"weighted events: one unit corresponds to {model.scale:.6g} (sum of w^2 over sum of w)")
    if model.order is not None:
        lines.append(
            f"order {model.order.order} of {len(look.orders)} of the folds; they share their events and must not be combined with each other"
        )
    if look.cross_check:
        lines.append("a cross-check of a weighted look, not a result of the search")
    if (said := model.other_p) is not None:
        lines.append(f"p = {said:.3g} in the search, {model.p:.3g} of this count: quote the former")
    if model.asimov:
        lines.append("the data are the expected background (Asimov), not an observation")
    if model.counts.warning:
        lines.append(f"warning: {' '.join(model.counts.warning.split())}")
    return lines


def _counting(model: LookModel) -> tuple[dict[str, dict[str, float]], Shapes, list[str]]:
    edges = np.array(model.look.window)
    b, expected_side, side = model.side
    rates: dict[str, dict[str, float]] = {"window": {"signal": model.signal, "background": b}}
    data, lines = {"window": (model.observed, model.variance)}, []
    if not model.known:
        rates["sideband"] = {"background": expected_side}
        data["sideband"] = (side, side)
        lines.append(f"background_norm rateParam * background 1 [0,{model.largest_norm:.6g}]")
    shapes = {
        f"{name}/data_obs": (np.array([value]), np.array([squares]), edges)
        for name, (value, squares) in data.items()
    }
    for name, processes in rates.items():
        shapes |= {f"{name}/{process}": _expectation([rate], edges) for process, rate in processes.items()}
    return rates, shapes, lines


def _expectation(contents: Any, edges: Array) -> tuple[Array, Array, Array]:
    """An expectation has no statistical error of simulation, but the nuisance parameters of the card."""
    return np.asarray(contents), np.zeros(len(contents)), edges


def _spectrum(spectrum: Spectrum) -> tuple[dict[str, dict[str, float]], Shapes, list[str]]:
    shapes: Shapes = {
        "window/data_obs": (spectrum.observed, spectrum.variance, spectrum.edges),
        "window/signal": _expectation(spectrum.signal, spectrum.edges),
        "window/background": _expectation(spectrum.background, spectrum.edges),
    }
    lines = []
    for k, mode in enumerate(spectrum.modes, start=1):
        for suffix, sign in (("Up", 1.0), ("Down", -1.0)):
            varied = spectrum.background * np.exp(sign * mode)
            shapes[f"window/background_fit{k}{suffix}"] = _expectation(varied, spectrum.edges)
        lines.append(f"fit{k} shape - 1")
    rates = {"signal": float(spectrum.signal.sum()), "background": float(spectrum.background.sum())}
    return {"window": rates}, shapes, lines


def _write(
    stem: Path, header: list[str], rates: dict[str, dict[str, float]], shapes: Shapes, nuisances: list[str]
) -> None:
    root = stem.with_name(stem.name + ".root")
    with uproot.recreate(root) as file:
        for name, (contents, squares, edges) in shapes.items():
            file[name] = _histogram(contents, edges, squares)
    columns = [(channel, process, rate) for channel, made in rates.items() for process, rate in made.items()]
    number = {"signal": 0, "background": 1}
    observed = [float(shapes[f"{channel}/data_obs"][0].sum()) for channel in rates]
    table: list[list[Any]] = [
        ["bin", *(channel for channel, _, _ in columns)],
        ["process", *(process for _, process, _ in columns)],
        ["process", *(number[process] for _, process, _ in columns)],
        ["rate", *(f"{rate:.10g}" for _, _, rate in columns)],
    ]
    rule = "-" * 80
    lines = [
        *(f"# {line}" for line in header),
        f"imax {len(rates)}  number of channels",
        "jmax 1  number of processes minus 1",
        f"kmax {sum('rateParam' not in line for line in nuisances)}  number of nuisance parameters",
        rule,
        f"shapes * * {root.name} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
        rule,
        " ".join(["bin", *rates]),
        " ".join(["observation", *(f"{value:.10g}" for value in observed)]),
        rule,
        *(" ".join(str(cell) for cell in row) for row in table),
        rule,
        *nuisances,
    ]
    stem.with_name(stem.name + ".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _histogram(contents: Array, edges: Array, variances: Array) -> Any:
    """A ``TH1D`` with its sums of squared weights: without them, ROOT would take the contents for these."""
    import hist

    axis = hist.axis.Variable(edges, name="mass", label="mass [GeV]")
    histogram = hist.Hist(axis, storage=hist.storage.Weight())
    histogram.view()["value"], histogram.view()["variance"] = contents, variances
    return histogram
