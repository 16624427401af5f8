"""All outlier scores on a Dark Machines channel: ``python benchmarks/outlier_scores.py CHANNEL BACKGROUND.csv SIGNAL.csv ... [--only NAME ...]``.

Each score is trained with its defaults on four fifths of the background and tested on the rest and on all signal events, once with
the events as published and once with objects cleaned alike in all files and the selection applied again. Printed are AUCs
with their errors, which do not contain the choice of the training events, and the time of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from serendip import outliers
from serendip.events.darkmachines import read_events
from serendip.events.objects import ObjectEvents
from serendip.outliers.registry import SCORES
from serendip.theories.encoding import encode, encode_objects, feature_names
from serendip.theories.harmonise import harmonise
from serendip.theories.merits import merits


def scores(names: tuple[str, ...]) -> dict[str, Any]:
    """All scores of the study, another DeepSet VAE, and flow with SVDD by rule."""
    found = {entry.title: entry.make(names) for entry in map(SCORES.__getitem__, SCORES.built_in)}
    found["DeepSet VAE, β = 0.1"] = outliers.DeepSetVAE(0.1)
    for rule in ("and", "or"):
        found[f"flow {rule.upper()} SVDD"] = outliers.flow_and_svdd(rule, flow=outliers.FlowLikelihood("maf"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("channel")
    parser.add_argument("background", type=Path)
    parser.add_argument("signals", type=Path, nargs="+")
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    events: list[ObjectEvents] = [read_events(path)[0] for path in (given.background, *given.signals)]
    samples = {
        "as published": events,
        "harmonised": [harmonise(sample, given.channel)[0] for sample in events],
    }
    print(
        f"{'score':32}{'events':14}{'fit s':>7}" + "".join(f"{path.stem[:14]:>17}" for path in given.signals)
    )
    for treatment, (background, *signals) in samples.items():
        order = np.random.default_rng(0).permutation(len(background))
        train, test = np.split(order, [4 * len(order) // 5])
        flat = [encode(sample).features for sample in (background, *signals)]
        sets = [encode_objects(sample).values for sample in (background, *signals)]
        for name, score in scores(feature_names()).items():
            if given.only and name not in given.only:
                continue
            data = sets if isinstance(score, outliers.DeepSetVAE) else flat
            start = time.process_time()
            score.fit(data[0][train])
            seconds = time.process_time() - start
            reference = score.score_samples(data[0][test])
            found = [merits(reference, score.score_samples(x), targets=(0.1,)) for x in data[1:]]
            row = "".join(f"{m.auc:10.3f} ± {m.auc_error:.3f}"[-17:].rjust(17) for m in found)
            print(f"{name:32}{treatment:14}{seconds:7.1f}{row}", flush=True)


if __name__ == "__main__":
    main()
