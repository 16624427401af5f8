"""Whole chains of the weighted search, from the training to the p-value: rates without signal, significances with one.

    python benchmarks/weighted_chains.py null FILE.parquet OUT --method cwola --chains 1000
    python benchmarks/weighted_chains.py signal FILE OUT --method cwola --signals 150,250 --injections 8 [--fold-seeds 4]
    python benchmarks/weighted_chains.py table OUT

FILE is a labelled table with the columns of the LHC Olympics features. Every chain is trained anew and kept in OUT with its scores: a run that was
stopped goes on, and ``table`` repeats the statistics, of which an improvement needs no training. ``null`` draws 25,000 of the background
events for each chain (five folds, fast settings), ``signal`` adds signal to all background (ten folds, default settings), and repeats
each injection with other folds and trainings (``--fold-seeds``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from serendip.events.events import Events
from serendip.runs.folder import RunDirectory
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig, parse_config
from serendip.search.engine import plan_training, read_events
from serendip.search.folds import event_folds
from serendip.search.measure import Look, Measurement, measure, prepare_window
from serendip.search.pseudo_data import SampledBackground
from serendip.search.task import run_background, run_task
from serendip.statistics.combination import cauchy_log_p
from serendip.statistics.pvalues import binomial_interval, z_value

EVENTS = 25_000
FLOW = {"density": "maf", "steps": 60, "batch_size": 256}
FAST: dict[str, dict[str, Any]] = {
    "cwola": {"members": 2},
    "cathode": FLOW | {"members": 2, "oversample": 2.0},
    "lacathode": FLOW | {"members": 2, "oversample": 2.0},
    "ranode": FLOW | {"members": 2, "signal_steps": 40},
}
LEVELS = (0.05, 0.01, 0.003, 0.001)


def settings(file: str, method: str, **more: Any) -> SearchConfig:
    return parse_config({"file": file, "preset": "lhco", "window": [3300, 3700], "method": [method], **more})


def trained(config: SearchConfig, events: Events) -> TaskResult:
    (window,) = config.windows
    plan = plan_training(config, RunDirectory(Path()), events, None, 1)
    (task,) = plan.tasks
    if (background := plan.backgrounds.get((task.method, window))) is not None:
        task = dataclasses.replace(task, background=run_background(background, events)[0])
    return run_task(task, events)


def measured(config: SearchConfig, events: Events, task: TaskResult) -> Measurement:
    (window,) = config.windows
    folds = event_folds(events, config.folds, config.seed)
    tasks = {(config.method[0], window): task}
    return measure(
        config, events, folds, [prepare_window(events, window, config)], tasks, blinded=False, trials=False
    )


def chain(config: SearchConfig, events: Events, path: Path, **facts: Any) -> None:
    if path.exists():
        return
    started = time.perf_counter()
    task = trained(config, events)
    train = time.perf_counter() - started
    looks = measured(config, events, task).looks
    facts |= {"settings": config.model_dump(mode="json"), "train_s": train}
    facts["statistics_s"] = time.perf_counter() - started - train
    label = np.zeros(len(events)) if events.label is None else events.labels
    np.savez(
        path, mass=events.m, id=events.ids, label=label, facts=json.dumps(facts),
        scores=np.array(task.all_scores, dtype=np.float32),
    )  # fmt: skip
    print(path.name, [f"{z(look):.2f}" for look in looks], f"{train:.0f} s", flush=True)


def z(look: Look) -> float:
    log_p = look.result.log_p_local
    assert log_p is not None
    return float(z_value(log_p=log_p))


def null(given: argparse.Namespace) -> None:
    options = {given.method: FAST[given.method]} if given.method in FAST else {}
    config = settings(given.file, given.method, folds=5, options=options)
    events = read_events(config)
    source = SampledBackground(events.select(~events.labels).without_label(), EVENTS)
    for k in range(given.chains):
        sample = source.draw(np.random.default_rng([77, k]))
        one = config.model_copy(update={"seed": 1000 + k})
        chain(one, sample, given.out / f"null-{given.method}-{k:05d}.npz")


def signal(given: argparse.Namespace) -> None:
    config = settings(given.file, given.method)
    events = read_events(config)
    (window,) = config.windows
    for k in range(given.injections):
        rows = np.random.default_rng([5, k]).permutation(np.flatnonzero(events.labels))
        inside = np.cumsum(window.contains(events.m[rows]))
        for number in map(int, given.signals.split(",")):
            keep = ~events.labels
            keep[rows[: np.searchsorted(inside, number) + 1]] = True
            name = f"{Path(given.file).parent.name}-{given.method}-{number}"
            for seed in range(given.fold_seeds):
                one = config.model_copy(update={"seed": 100 + k + 1000 * seed})
                path = given.out / f"{name}-{k}{f'.{seed}' if seed else ''}.npz"
                chain(one, events.select(keep), path, signal=number)


def again(path: Path) -> tuple[Measurement, Any, dict[str, Any]]:
    """The statistics of a chain that was trained before; its features are not needed."""
    with np.load(path) as kept:
        arrays = dict(kept)
    facts = json.loads(str(arrays["facts"]))
    config = SearchConfig(**facts["settings"])
    mass = arrays["mass"].astype(float)
    columns = {"m": mass, "x": np.zeros(len(mass)), "id": arrays["id"]}
    events = Events(columns, mass="m", features=("x",), id="id")
    none = np.empty((0, 1), np.float32), np.empty(0), np.empty((0, 0)), np.empty(0)
    scores = arrays["scores"].astype(float)
    (window,) = config.windows
    inside = window.contains(mass)
    found = measured(config, events, TaskResult(scores[0], *none, {}, more_scores=scores[1:]))
    return found, inside & (arrays["label"] < 0.5), facts


def known(look: Look, background: Any, ranked: Any) -> float:
    """Z if the true sum of weights of the background were the expectation."""
    log_p = []
    for order, weight in zip(look.result.orders, ranked, strict=True):
        unit = order.spectrum.scale
        assert order.tail is not None
        assert order.observed is not None
        log_p.append(order.tail.log_p(order.observed / unit, weight[background].sum() / unit, 1e-9)[0])
    return float(z_value(log_p=float(cauchy_log_p(np.ravel(log_p)))))


def table(given: argparse.Namespace) -> None:
    rows: dict[str, list[Any]] = defaultdict(list)
    seeds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(given.out.glob("*.npz")):
        found, background, facts = again(path)
        first, *cuts = found.looks
        orders = [float(z_value(log_p=order.log_p_local)) for order in first.result.orders]
        (ranked,) = found.ranked.values()
        best = known(first, background, ranked) if "signal" in facts else np.nan
        seconds = [facts["train_s"], facts["statistics_s"]]
        row = [z(first), best, *seconds, *(z(cut) for cut in cuts[:2]), *orders]
        name, place = path.stem.rsplit("-", 1)
        rows[name].append(row)
        seeds[name][place.split(".")[0]].append(row[0])
    for name, values in rows.items():
        v = np.array(values, dtype=float)
        if name.startswith("null"):
            p = stats.norm.sf(v[:, 0])
            print(
                f"{name}: {len(v)} chains; mean Z of single orders {v[:, 6:].mean():+.2f}, sd {v[:, 6:].std():.2f}"
            )
            for level in LEVELS:
                k = int((p < level).sum())
                low, high = binomial_interval(k, len(p))
                print(
                    f"  p < {level:g}: {k} = {k / len(p):.4f} [{low:.4f}, {high:.4f}]; single orders {(stats.norm.sf(v[:, 6:]) < level).mean():.4f}"
                )
            print("  correlation of the orders:", np.round(np.corrcoef(v[:, 6:].T), 2).tolist())
            continue
        names = ("weighted", "known background", "s training", "s statistics", "cut 1e-2", "cut 1e-3")
        cells = [
            f"{n} {np.median(x):.1f} [{np.percentile(x, 16):.1f}, {np.percentile(x, 84):.1f}]"
            for n, x in zip(names, v.T, strict=False)
        ]
        spread = v[:, 6:].std(axis=1, ddof=1).mean()
        print(
            f"{name}: {len(v)} chains; {'; '.join(cells)}; one order {v[:, 6:].mean():.1f}, scatter {spread:.2f}"
        )
        repeated = [values for values in seeds[name].values() if len(values) > 1]
        if repeated:
            scatter = np.sqrt(np.mean([np.var(values, ddof=1) for values in repeated]))
            print(
                f"  {len(repeated)} injections with other folds: {np.round(repeated, 1).tolist()}, scatter of Z {scatter:.2f}"
            )


def main() -> None:
    threadpool_limits(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("null", "signal", "table"):
        one = kinds.add_parser(kind)
        if kind != "table":
            one.add_argument("file")
        one.add_argument("out", type=Path)
        one.add_argument("--method", default="cwola")
        one.add_argument("--chains", type=int, default=1000)
        one.add_argument("--signals", default="150,250")
        one.add_argument("--injections", type=int, default=8)
        one.add_argument("--fold-seeds", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    {"null": null, "signal": signal, "table": table}[given.kind](given)


if __name__ == "__main__":
    main()
