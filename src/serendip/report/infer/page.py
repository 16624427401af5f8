"""The page, the figures and the summary of a measurement of the signal strength, from its ``infer.json`` only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serendip.io.json import read_json
from serendip.report import words
from serendip.report.infer.plots import (
    Lines,
    Map,
    corner,
    draw_lines,
    draw_map,
    interactive_lines,
    interactive_map,
    likelihood,
    log_ratio,
    shapes,
    toys,
)  # fmt: skip
from serendip.report.page import Page, Panel, write_page

__all__ = ["read_infer", "summary", "write_infer_report"]

_FEW_SIGMA = 5.0


def read_infer(folder: Path) -> dict[str, Any]:
    """Content of ``infer.json``; InputError if it is missing or damaged."""
    return read_json(folder / "infer.json", missing="the folder contains no finished measurement", schema=1)


def write_infer_report(folder: Path | str) -> Path:
    """Write ``infer.html`` and the figures of a finished measurement, as :func:`~serendip.report.page.write_page`."""
    return write_page(folder, "infer.html", read_infer, _render)


def summary(found: dict[str, Any]) -> list[str]:
    """The result in sentences."""
    low, high = found["window"]
    where = words.interval((low, high), found["unit"])
    total = found["total"]
    expected = total["expected_upper_limit_95"]
    limit = f"expected limit without signal: {expected[2]:.3g} events (68 %: {expected[1]:.3g} to {expected[3]:.3g})"
    if found["blinded"]:
        return [f"Blinded: the expectation for an experiment in {where}.", limit[0].upper() + limit[1:] + "."]
    fit, statistical, by_toys = total["fit"], found["statistical"]["fit"], total["toys"]
    in_68, in_95 = (by_toys[f"interval_{level}"] for level in ("68", "95"))
    measured = f"{fit['count']:.4g} ± {fit['error']:.2g} signal events in {where}, of {found['weight']:.6g}"
    without = words.z_text(statistical["z"])
    lines = [
        f"{measured} (statistical error {statistical['error']:.2g}).",
        f"68 % interval by toys: {in_68[0]:.4g} to {in_68[1]:.4g}; 95 %: {in_95[0]:.4g} to {in_95[1]:.4g}.",
        f"Significance {words.z_text(fit['z'])} (without the systematic error {without}).",
        f"p of no signal, by {by_toys['toys']} toys: {words.p_text(by_toys['p0'])}.",
    ]
    if in_95[0] == 0:
        lines.append(f"Upper limit at 95 % CLs: {by_toys['upper_limit_95']:.4g} events; {limit}.")
    if "best" in found.get("parameters", {}) and found["parameters"]["names"]:
        pairs = zip(found["parameters"]["names"], found["parameters"]["best"], strict=True)
        lines.append("Best parameters: " + ", ".join(f"{name} = {value:.4g}" for name, value in pairs) + ".")
    if "global" in found:
        lines.append(
            f"Anywhere on the grid of {found['global']['points']} signals: p = {words.p_text(found['global']['p'])}."
        )
    return lines


def cautions(found: dict[str, Any]) -> list[str]:
    """Caveats to the number."""
    out = []
    if found["source"] == "learned":
        out.append(
            "The signal was learnt from few events, so its density is not the true one, and events that it misses count as "
            "background: the measured number is too small. Pseudo-experiments with a retrained signal (retrain) "
            "measure by how much."
        )
        if found["folds"] > 1 and "retrained" not in found:
            out.append(
                "The folds share training events, so the significance is approximate; use combination 'sequential' or "
                "retrain for a p-value."
            )
    value, error = found["normalisation"]
    if abs(value - 1) > max(0.05, 3 * error):
        out.append(
            f"The ratio of the densities is normalised to {value:.3f} ± {error:.3f}, not to 1: they cannot be trusted."
        )
    spurious = found["spurious"]
    for entry in spurious["control"]:
        if entry["z"] > _FEW_SIGMA - 2:
            out.append(
                f"In the control window {entry['side']} this one, {entry['count']:.3g} signal events are found "
                f"({words.z_text(entry['z'])}): the density of background is wrong there, or signal reaches into it."
            )
    scan = found["scan"]
    if scan and None in scan["interval_95"]:
        out.append("The scan of the trained fraction finds no end of its 95 % interval between 1e-4 and 0.1.")
    return out


def _render(page: Page, found: dict[str, Any]) -> str:
    def lines(record: Lines) -> Panel:
        files = page.static(record.name, record, lambda: draw_lines(record))
        return page.panel(interactive_lines(record), record.title, record.caption, files)

    def heat(record: Map) -> Panel:
        files = page.static(record.name, record, lambda: draw_map(record))
        return page.panel(interactive_map(record), record.title, record.caption, files)

    main = [] if found["blinded"] else [lines(likelihood(found)), lines(log_ratio(found)), lines(toys(found))]
    flat, maps = corner(found)
    return page.render(
        "infer.html.j2",
        name=page.path.resolve().name,
        found=found,
        summary=summary(found),
        cautions=cautions(found),
        main=main,
        corner=[lines(record) for record in flat] + [heat(record) for record in maps],
        shapes=[lines(record) for record in shapes(found)],
    )
