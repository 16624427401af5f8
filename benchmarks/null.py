"""False-positive rates of the whole chain on background-only pseudo-experiments.

    python benchmarks/null.py EVENTS --out FILE.jsonl [--experiments 200] [--events 60000] [--jobs 2]

EVENTS is a background sample in the LHC Olympics layout (preset ``lhco``; rows with label 1 are left out). A conditional
density p(x|m) and a smooth mass spectrum are learned from it once; each pseudo-experiment draws new independent events
from them (resampling events themselves would put copies of one event into different folds). Then CWoLa hunting is
trained on every fold, cut, fitted and counted with each combination rule, in a fast configuration: one window, few trees.
The file gets one line for each experiment; finished ones are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from serendip.events.events import Events, Window

WINDOW = Window(3300.0, 3700.0)
RANGE = (2500.0, 7000.0)
FEATURES = ("mj1", "delta_mj", "tau21_j1", "tau21_j2")
FOLDS = 10
WORKING_POINTS = (1e-2, 1e-3)
COMBINATIONS = ("sequential", "sequential-stouffer", "kfold-bonferroni", "kfold-summed")


def learn(source: Path, folder: Path) -> None:
    from serendip.density import make_density
    from serendip.events.read import read
    from serendip.statistics.fit import fit_spectrum

    events = read(source, mass=None, preset="lhco")
    if events.label is not None:
        events = events.select(~events.labels)
    events = events.select((events.m > RANGE[0]) & (events.m < RANGE[1]))
    make_density("flow-matching", seed=1).fit(events.x, events.m).save(folder)
    edges = np.geomspace(*RANGE, 61)
    spectrum = fit_spectrum(np.histogram(events.m, edges)[0], edges, "exppoly")
    grid = np.linspace(*RANGE, 4001)
    np.save(folder / "spectrum.npy", np.stack([grid, spectrum.density(grid)]))


def draw(folder: Path, n_events: int, seed: int) -> Events:
    from serendip.density import load_density

    rng = np.random.default_rng([seed, 99])
    grid, density = np.load(folder / "spectrum.npy")
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    n = rng.poisson(n_events)
    mass = np.interp(rng.random(n) * cumulative[-1], cumulative, grid)
    x = load_density(folder).sample(mass, rng=rng)
    columns = {"mjj": mass} | {name: x[:, i] for i, name in enumerate(FEATURES)} | {"event": np.arange(n)}
    return Events(columns, mass="mjj", features=FEATURES, id="event")


def experiment(folder: Path, n_events: int, members: int, seed: int) -> dict[str, object]:
    import torch

    from serendip.search.config import parse_config
    from serendip.search.folds import assign_folds
    from serendip.search.measure import measure, prepare_window
    from serendip.search.task import Task, run_task

    torch.set_num_threads(1)
    events = draw(folder, n_events, seed)
    fold = assign_folds(events.ids, FOLDS, seed)
    looks: dict[str, dict[str, list[float]]] = {}
    scores = {}
    for combination in COMBINATIONS:
        config = parse_config(
            {
                "file": "pseudo-experiment",
                "mass": "mjj",
                "features": list(FEATURES),
                "window": [WINDOW.low, WINDOW.high],
                "combination": combination,
                "working_points": WORKING_POINTS,
                "options": {"cwola": {"members": members}},
                "folds": FOLDS,
                "seed": seed,
                "toys": 100,
            }
        )
        scheme = combination.split("-")[0]
        if scheme not in scores:
            options = config.method_config("cwola").model_dump(mode="json")
            scores[scheme] = run_task(Task("", "cwola", options, WINDOW, FOLDS, combination, seed, 1), events)
        result = measure(
            config,
            events,
            fold,
            [prepare_window(events, WINDOW, config)],
            {("cwola", WINDOW): scores[scheme]},
            blinded=False,
        )
        looks[combination] = {
            f"{look.working_point:g}": [
                look.result.p_local,
                look.result.observed,
                look.result.expected,
                look.result.expected_error,
            ]
            for look in result.looks
        }
    return {"seed": seed, "looks": looks}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = arguments.out.with_suffix(".density")
    if not (folder / "spectrum.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        learn(arguments.file, folder)
    done = (
        {json.loads(line)["seed"] for line in arguments.out.read_text().splitlines()}
        if arguments.out.exists()
        else set()
    )
    todo = [seed for seed in range(arguments.experiments) if seed not in done]
    with (
        ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool,
        arguments.out.open("a") as log,
    ):
        n = len(todo)
        for line in pool.map(experiment, [folder] * n, [arguments.events] * n, [arguments.members] * n, todo):
            log.write(json.dumps(line) + "\n")
            log.flush()
    report(arguments.out)


def report(path: Path) -> None:
    from scipy.stats import binomtest

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    print(
        f"{len(lines)} background-only experiments, CWoLa, {FOLDS} folds; fraction with local p below (68 % interval)"
    )
    for combination in COMBINATIONS:
        for point in WORKING_POINTS:
            looks = [line["looks"][combination][f"{point:g}"] for line in lines]
            p = np.array([look[0] for look in looks])
            pulls = np.array([(o - b) / np.sqrt(b + s**2) for _, o, b, s in looks])
            print(f"  {combination:20s} eps_B = {point:g}:", end="")
            for level in (0.05, 0.01):
                k = int(np.sum(p < level))
                interval = binomtest(k, len(p)).proportion_ci(0.68, "wilson")
                print(f"  p<{level:g}: {k / len(p):.3f} [{interval.low:.3f}, {interval.high:.3f}]", end="")
            print(
                f"  pull {pulls.mean():+.2f} ± {pulls.std() / np.sqrt(len(p)):.2f}, width {pulls.std():.2f}"
            )


if __name__ == "__main__":
    main()
