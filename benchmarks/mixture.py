"""Time, memory and AUC of mixtures: ``python benchmarks/mixture.py SM BSM [--channel 1] [--settings fast,paper,deepsets,transformer] [--threads 2]``.

SM and BSM are folders of ``serendip theories simulate``. Trained is on ``--background`` events of the Standard Model and ``--events`` events of
each of the ``--theories`` largest theories (trees, or epochs of a network), tested on the rest of the background and of these theories. The size that is
compared with the paper is 200,000 background events, 37 theories of 10,000 events, 85 features. If the samples are smaller,
``--fill`` repeats their events for the clock; AUCs are then not quoted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from serendip.search.task import peak_memory_gib
from serendip.theories.merits import BackgroundScores
from serendip.theories.mixture import PAPER, BoostConfig, MixtureConfig, TheorySample, train_mixture
from serendip.theories.samples import read_channel_samples
from serendip.theories.sets import SetConfig, train_set_network

SETTINGS = {"fast": BoostConfig(), "paper": PAPER}


def part(sample: TheorySample, rows: Any) -> TheorySample:
    return TheorySample(sample.name, sample.family, sample.x[rows], sample.weight[rows], sample.group[rows])


def draw(sample: TheorySample, train: Any, n: int, fill: bool, rng: np.random.Generator) -> TheorySample:
    rows = rng.permutation(np.flatnonzero(train))
    if fill and len(rows) < n:
        rows = np.resize(rows, n)
    return part(sample, rows[:n])


def measure(given: argparse.Namespace, name: str) -> dict[str, Any]:
    network = name in ("deepsets", "transformer")
    samples = read_channel_samples(
        [given.standard], [given.theories_folder], given.channel, rotate=not given.not_turned,
        encoding="objects" if network else "flat",
    )  # fmt: skip
    rng = np.random.default_rng(1)
    chosen = sorted(samples.theories, key=lambda theory: -len(theory.x))[: given.theories]
    background = draw(
        samples.background, samples.background.fold >= given.test, given.background, given.fill, rng
    )
    mixed = [draw(theory, theory.fold >= given.test, given.events, given.fill, rng) for theory in chosen]
    common: dict[str, Any] = {
        "features": samples.features, "background_weight": background.weight, "background_group": background.group,
    }  # fmt: skip
    start, cpu = time.perf_counter(), time.process_time()
    model: Any
    if network:
        settings = SetConfig(kind=name, events_per_theory=given.events, threads=given.threads)
        model = train_set_network(background.x, mixed, settings, **common)
    else:
        boost = SETTINGS[name].model_copy(update={"threads": given.threads})
        model = train_mixture(
            background.x, mixed, MixtureConfig(events_per_theory=given.events, boost=boost), **common
        )
    found = {
        "settings": name, "background": len(background.x), "theories": len(mixed), "signal": sum(len(t.x) for t in mixed),
        "trees": model.epochs if network else model.rounds, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu,
        "memory_gib": peak_memory_gib(),
    }  # fmt: skip
    test = samples.background.fold < given.test
    reference = BackgroundScores(
        model.score(samples.background.x[test]),
        samples.background.weight[test],
        samples.background.group[test],
    )
    merits = [reference.merits(model.score(t.x[t.fold < given.test]), targets=[1e-2]) for t in chosen]
    together = np.concatenate([t.x[t.fold < given.test] for t in chosen])
    weight = np.concatenate(
        [
            np.full(np.count_nonzero(t.fold < given.test), 1 / np.count_nonzero(t.fold < given.test))
            for t in chosen
        ]
    )
    mixture = reference.merits(model.score(together), weight, targets=[1e-2])
    return found | {
        "auc": mixture.auc, "auc_error": mixture.auc_error, "median_auc": float(np.median([m.auc for m in merits])),
        "eps_s": mixture.points[0].eps_s,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("standard", type=Path)
    parser.add_argument("theories_folder", type=Path)
    parser.add_argument("--channel", default="1")
    parser.add_argument("--settings", default="fast,paper")
    parser.add_argument("--background", type=int, default=200_000)
    parser.add_argument("--theories", type=int, default=37)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--test", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--not-turned", action="store_true", help="as in the paper: MET at its own angle")
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given, given.one)))
        return
    print(
        f"{'settings':12}{'background':>11}{'signal':>9}{'trees':>7}{'s':>8}{'cpu s':>8}{'GiB':>6}{'AUC':>18}{'median AUC':>12}{'eps_S 1e-2':>12}"
    )
    for name in given.settings.split(","):
        # a process of its own for each, so that the memory is that of one training
        out = subprocess.run(
            [sys.executable, *sys.argv, "--one", name], check=True, capture_output=True, text=True
        )
        row = json.loads(out.stdout.splitlines()[-1])
        quality = (
            f"{'-':>18}{'-':>12}{'-':>12}" if given.fill else
            f"{row['auc']:10.4f} ± {row['auc_error']:.4f}{row['median_auc']:12.4f}{row['eps_s']:12.4f}"
        )  # fmt: skip
        print(
            f"{name:12}{row['background']:11d}{row['signal']:9d}{row['trees']:7d}{row['seconds']:8.0f}{row['cpu']:8.0f}"
            f"{row['memory_gib'] or float('nan'):6.1f}{quality}",
            flush=True,
        )


if __name__ == "__main__":
    main()
