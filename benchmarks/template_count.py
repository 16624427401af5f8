"""Pulls and false-positive rates of template counting on background-only pseudo-experiments.

    python benchmarks/template_count.py --out FILE.jsonl [--experiments 200] [--method cathode] [--events 12000] [--jobs 2]

Each experiment draws new events from a known law (falling masses, correlated features that follow the mass slowly), trains the method
on every fold, learns its template anew from bootstrap samples, and counts in one window. The table says how far the counts are
from their predictions in units of their errors, and what it would be without single parts of the error: without the
statistics of the data that trained the template, without the closure. The file gets one line for each experiment;
finished ones are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from serendip.events.events import Events, Window

WINDOW = Window(3300.0, 3700.0)
FEATURES = ("f1", "f2", "f3")
WORKING_POINTS = (3e-2, 1e-2, 3e-3, 1e-3)
FAST = {
    "cathode": {"density": "maf", "steps": 150, "members": 4, "oversample": 3.0},
    "lacathode": {"density": "maf", "steps": 150, "members": 4, "oversample": 3.0},
    "curtains": {"density": "maf", "steps": 150, "members": 4, "transport_steps": 100, "oversample": 3.0},
    "feta": {"density": "maf", "steps": 150, "members": 4, "transport_steps": 100, "oversample": 3.0},
    "salad": {"members": 4, "reweighting_members": 2, "reweighting_rounds": 20},
}


def draw(n_events: int, seed: int, *, shift: float = 0.0) -> Events:
    """Background; ``shift`` moves a feature, for a simulation that is not quite the data."""
    rng = np.random.default_rng([seed, 0x7C])
    n = rng.poisson(n_events)
    mass = 2000.0 * (1 - rng.random(n) * (1 - 3.5**-5)) ** -0.2
    z = rng.normal(size=(n, 3))
    u = np.log(mass / 3000.0)[:, None]
    x = np.column_stack([z[:, 0], 0.5 * z[:, 0] + z[:, 1], np.exp(0.4 * z[:, 2])]) + 0.3 * u
    x[:, 0] += shift
    columns = {"mjj": mass, "event": np.arange(n)} | {name: x[:, i] for i, name in enumerate(FEATURES)}
    return Events(columns, mass="mjj", features=FEATURES, id="event")


def experiment(method: str, n_events: int, folds: int, seed: int) -> dict[str, object]:
    import torch

    from serendip.methods.registry import get_method
    from serendip.search.config import parse_config
    from serendip.search.folds import assign_folds
    from serendip.search.measure import measure, prepare_window
    from serendip.search.task import Task, run_task

    torch.set_num_threads(1)
    started = time.process_time()
    simulated = get_method(method).needs_simulation
    config = parse_config(
        {
            "file": "pseudo-experiment",
            "mass": "mjj",
            "features": list(FEATURES),
            "window": [WINDOW.low, WINDOW.high],
            "method": method,
            "counting": "template",
            "working_points": WORKING_POINTS,
            "options": {method: FAST[method]},
            "folds": folds,
            "seed": seed,
            "toys": 100,
            **({"simulation": "pseudo-simulation"} if simulated else {}),
        },
        "benchmark",
    )
    events = draw(n_events, seed)
    simulation = draw(3 * n_events, seed + 1_000_000, shift=0.1) if simulated else None
    options = config.method_config(method).model_dump(mode="json")
    task = Task("", method, options, WINDOW, folds, config.combination, seed, 1, template_draws=20_000)
    result = run_task(task, events, simulation)
    window_fit = prepare_window(events, WINDOW, config)
    fold = assign_folds(events.ids, folds, seed)
    found = measure(
        config, events, fold, [window_fit], {(method, WINDOW): result}, blinded=False, trials=False
    )
    looks = [look.result.to_dict() for look in found.looks]
    return {"seed": seed, "looks": looks, "cpu_s": time.process_time() - started}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--method", choices=sorted(FAST), default="cathode")
    parser.add_argument("--events", type=int, default=12_000)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    done = (
        {json.loads(line)["seed"] for line in arguments.out.read_text().splitlines()}
        if arguments.out.exists()
        else set()
    )
    todo = [seed for seed in range(arguments.experiments) if seed not in done]
    n = len(todo)
    common = ([arguments.method] * n, [arguments.events] * n, [arguments.folds] * n)
    with (
        ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool,
        arguments.out.open("a") as log,
    ):
        for line in pool.map(experiment, *common, todo):
            log.write(json.dumps(line) + "\n")
            log.flush()
    report(arguments.out)


def report(path: Path) -> None:
    """Print the table of a file."""
    from serendip.statistics.pvalues import count_p_value

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    cpu = np.mean([line["cpu_s"] for line in lines])
    print(f"{len(lines)} background-only experiments, {cpu:.0f} CPU s each; errors: 68 %")
    for i, point in enumerate(WORKING_POINTS):
        looks = [line["looks"][i] for line in lines]
        n, b, s = (
            np.array([look[key] for look in looks]) for key in ("observed", "expected", "expected_error")
        )
        part = {
            key: np.array([look["template"][key] for look in looks])
            for key in ("correction", "training", "drawing", "shape", "closure", "closure_ratio")
        }
        versions = {
            "as it is": s,
            "without training": np.sqrt(np.maximum(s**2 - (b * part["training"]) ** 2, 0.0)),
            "without closure": np.sqrt(np.maximum(s**2 - (b * part["closure"]) ** 2, 0.0)),
            "without any": np.zeros_like(s),
            "not corrected": s,
        }
        uncorrected = b / part["correction"]
        print(
            f"eps = {point:g}: expected {b.mean():.1f}, observed {n.mean():.1f}, observed/expected {n.sum() / b.sum():.3f} +- "
            f"{np.std(n / b) / np.sqrt(len(n)):.3f}, correction {part['correction'].mean():.3f}, closure ratio {part['closure_ratio'].mean():.3f}; relative errors: "
            + ", ".join(
                f"{key} {np.sqrt(np.mean(part[key] ** 2)):.3f}"
                for key in ("training", "drawing", "shape", "closure")
            )
        )
        for name, sigma in versions.items():
            mean = uncorrected if name == "not corrected" else b
            pull = (n - mean) / np.sqrt(mean + sigma**2)
            p = count_p_value(n, mean, sigma)
            print(
                f"  {name:17s} pull {pull.mean():+.2f} +- {pull.std(ddof=1) / np.sqrt(len(n)):.2f}, width "
                f"{pull.std(ddof=1):.2f} +- {pull.std(ddof=1) / np.sqrt(2 * len(n)):.2f};  "
                + ", ".join(f"p < {level:g}: {np.mean(p < level):.3f}" for level in (0.1, 0.05, 0.01))
            )


if __name__ == "__main__":
    main()
