"""Median significance of the combination rules by injected signal, on the LHC Olympics events.

    python benchmarks/power.py FEATURES.h5 --out DIR [--injections 150 200 250 300] [--repeats 20] [--null 300]
        [--folds 10] [--members 5] [--working-point 0.01] [--jobs 2]

FEATURES.h5 is a file in the layout of the LHC Olympics features (preset ``lhco``), with labels. For every number of signal
events in 3300-3700 GeV and every repeat (another part of the signal, other folds and seeds, all background), CWoLa with
boosted trees is trained and counted with ``sequential``, ``kfold-bonferroni`` and ``kfold-summed`` and, as half-split, with two
folds of which one trains and the other is tested. ``kfold-summed`` is calibrated by ``--null`` background-only experiments
(``serendip validate null``) of the same settings, which give the false-positive rates too.

DIR gets one file for each experiment (finished ones are skipped), ``power.json``, ``power.md`` and ``power.pdf``/``.png``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serendip.events.events import Events
from serendip.io.json import write_json
from serendip.runs.executor import as_finished, local_executor
from serendip.search.calibration import Calibration
from serendip.search.config import SearchConfig, parse_config
from serendip.search.engine import read_events
from serendip.search.injection import inject, look_at
from serendip.search.null_experiment import cross_trained
from serendip.statistics.calibration import NullDistribution
from serendip.validate import null
from serendip.validate.base import write_validation

WINDOW = (3300.0, 3700.0)
RULES = ("sequential", "kfold-bonferroni", "kfold-summed")
NAMES = {
    "sequential": "sequential",
    "kfold-bonferroni": "k-fold, Bonferroni",
    "calibrated": "k-fold, summed, calibrated",
    "half-split": "half-split",
}


@dataclass(frozen=True)
class Cell:
    """One injection of one repeat, and the file for what comes out."""

    injection: int
    repeat: int
    config: SearchConfig
    path: Path


def settings(arguments: argparse.Namespace, **more: Any) -> SearchConfig:
    return parse_config(
        {
            "file": str(arguments.file),
            "preset": "lhco",
            "window": list(WINDOW),
            "method": ["cwola"],
            "options": {"cwola": {"members": arguments.members}},
            "working_points": [arguments.working_point],
            "folds": arguments.folds,
            "seed": arguments.seed,
        }
        | more
    )


def run_cell(cell: Cell, events: Events) -> dict[str, Any]:
    (window,) = cell.config.windows
    rows = inject(events, window, cell.injection, cell.repeat, cell.config.seed)
    sample = events.select(rows)
    config = cell.config.model_copy(update={"seed": cell.config.seed + cell.repeat})
    trained: dict[str, Any] = {}
    looks = {}
    for rule in RULES:
        looks[rule] = cross_trained(config.model_copy(update={"combination": rule}), sample, None, trained)[0]
    half = config.model_copy(update={"combination": "sequential", "folds": 2})
    looks["half-split"] = cross_trained(half, sample, None, trained)[0]
    return {
        "injection": cell.injection,
        "repeat": cell.repeat,
        "looks": {
            name: {"z": look.z_local, "observed": look.observed, "expected": look.expected}
            for name, look in looks.items()
        },
    }


def cells(arguments: argparse.Namespace, events: Events) -> list[dict[str, Any]]:
    config = settings(arguments)
    setup = [arguments.folds, arguments.members, arguments.working_point, arguments.seed, events.digest()]
    folder = arguments.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "settings.json"
    if stored.exists() and json.loads(stored.read_text()) != setup:
        raise SystemExit(f"{folder} holds experiments with other settings; choose another --out")
    write_json(stored, setup)
    wanted = [
        Cell(injection, repeat, config, folder / f"{injection:05d}-{repeat:03d}.json")
        for injection in (0, *arguments.injections)
        for repeat in range(arguments.repeats)
    ]
    todo = [cell for cell in wanted if not cell.path.exists()]
    with local_executor(min(arguments.jobs, len(todo))) as pool:
        for number, (cell, content) in enumerate(as_finished(pool, run_cell, todo, events), 1):
            write_json(cell.path, content)
            print(
                f"{number} of {len(todo)}: {cell.injection} signal events, repeat {cell.repeat}", flush=True
            )
    return [json.loads(cell.path.read_text()) for cell in wanted]


def quantiles(values: Sequence[float], rng: np.random.Generator) -> dict[str, float]:
    array = np.array(values)
    resampled = np.median(rng.choice(array, (2000, len(array))), axis=1)
    low, middle, high = np.quantile(array, [0.16, 0.5, 0.84])
    return {
        "median": middle,
        "median_error": float(resampled.std()),
        "low": low,
        "high": high,
        "n": len(array),
    }


def summarise(
    found: list[dict[str, Any]], calibration: NullDistribution, events: Events, config: SearchConfig
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    (window,) = config.windows
    background = look_at(events, window).background_in_window
    rows = []
    for injection in dict.fromkeys(cell["injection"] for cell in found):
        of_it = [cell["looks"] for cell in found if cell["injection"] == injection]
        z = {rule: [looks[rule]["z"] for looks in of_it] for rule in (*RULES, "half-split")}
        calibrated = [calibration.p_value(value) for value in z["kfold-summed"]]
        z["calibrated"] = [value.z for value in calibrated]
        rows.append(
            {
                "injection": injection,
                "s_over_sqrt_b": injection / background**0.5,
                "extrapolated": sum(value.extrapolated for value in calibrated),
                "z": {
                    name: quantiles([max(value, -3.0) for value in values], rng) for name, values in z.items()
                },
            }
        )
    return {"schema": 1, "config": config.resolved(), "background_in_window": background, "rows": rows}


def table(summary: dict[str, Any], validation: Any, tail: Any) -> str:
    columns = (*NAMES, "kfold-summed")
    heads = [*NAMES.values(), "(k-fold, summed, not calibrated)"]
    lines = [
        f"| S (S/sqrt(B)) | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for row in summary["rows"]:
        values = [f"{row['z'][c]['median']:.1f} ± {row['z'][c]['median_error']:.1f}" for c in columns]
        values[2] += f" ({row['extrapolated']} of {row['z']['calibrated']['n']} extrapolated)"
        values[-1] = f"({values[-1]})"
        lines.append(f"| {row['injection']} ({row['s_over_sqrt_b']:.1f}) | {' | '.join(values)} |")
    lines += [
        "",
        "| background only | p < 0.05 | p < 0.003 | variance of the count / Poisson |",
        "|---|---|---|---|",
    ]
    for look in validation.facts["windows"][0]["looks"]:
        kinds = [("", look)] if "naive" not in look else [(", calibrated", look), (", naive", look["naive"])]
        for kind, rates in kinds:
            five, three = (
                f"{r['rate']:.3f} ± {r['error']:.3f}"
                for r in rates["rates"]
                if r["level"] in ("5 %", "0.3 %")
            )
            count = look["count"]
            spread = f"{count['variance_ratio']:.2f} ± {count['variance_ratio_error']:.2f}"
            lines.append(f"| {look['combination']}{kind} ({look['n']}) | {five} | {three} | {spread} |")
    if tail is not None:
        inflation, error = tail.inflation
        lines += ["", f"Variance of the naive Z of kfold-summed, upper half: {inflation:.2f} ± {error:.2f}."]
    return "\n".join(lines) + "\n"


def draw(summary: dict[str, Any], out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    x = np.array([row["injection"] for row in summary["rows"]])
    for (name, title), marker in zip(NAMES.items(), "os^D", strict=True):
        median, error, low, high = (
            np.array([row["z"][name][key] for row in summary["rows"]])
            for key in ("median", "median_error", "low", "high")
        )
        line = axes.errorbar(x, median, error, marker=marker, label=title, capsize=2)
        axes.fill_between(x, low, high, color=line[0].get_color(), alpha=0.1, lw=0)
    inclusive = [row["s_over_sqrt_b"] for row in summary["rows"]]
    axes.plot(x, inclusive, ls=":", color="#666666", label=r"$S/\sqrt{B}$, no cut")
    axes.set_xlabel(f"signal events in {WINDOW[0]:g}-{WINDOW[1]:g} GeV")
    axes.set_ylabel("significance: median, and 68 % of the repeats")
    axes.legend()
    for suffix in ("pdf", "png"):
        figure.savefig(out / f"power.{suffix}", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--injections", type=int, nargs="+", default=[150, 200, 250, 300])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--null", type=int, default=300)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--working-point", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    arguments.out.mkdir(parents=True, exist_ok=True)

    background = settings(arguments, where="label==0", combination="kfold-summed")
    options = null.Options(experiments=arguments.null, combinations=RULES)
    validation = null.run(background, options, arguments.out, jobs=arguments.jobs)
    write_validation(arguments.out, validation)
    calibration = Calibration(**json.loads(Path(validation.facts["calibration"]).read_text()))
    (window,) = background.windows
    null_z = calibration.null(background, "cwola", window, arguments.working_point)

    config = settings(arguments)
    events = read_events(config)
    found = cells(arguments, events)
    summary = summarise(found, null_z, events, config)
    summary["null"] = validation.facts
    write_json(arguments.out / "power.json", summary)
    text = table(summary, validation, null_z.tail)
    (arguments.out / "power.md").write_text(text, encoding="utf-8")
    draw(summary, arguments.out)
    print(text)


if __name__ == "__main__":
    main()
