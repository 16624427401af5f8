"""CATHODE on LHC Olympics R&D events: time of each stage, closeness of the template to truth, SIC.

    python benchmarks/cathode.py FEATURES.h5 [--plan sequential|kfold] [--signal 250] [--seed 0] [--option
    KEY=VALUE ...]

FEATURES.h5 is a file in the layout of the LHC Olympics features (preset ``lhco``). All background events and
a random subset of the signal with the given number of events in the window 3300-3700 GeV are searched.
``sequential`` trains 9 models on 1/10 ... 9/10 of the events; ``kfold`` trains 5 on 4/5 each, so that every
event has a score. Seconds are CPU seconds, which do not depend on what else runs on the machine. The
template AUC is that of a classifier between the template of the last model and the true background in the
window; 0.5 is perfect. Scores of different models are pooled as background efficiencies, each against its
own sideband events.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from serendip.events.events import Events, Window
from serendip.events.read import read
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.methods.figures_of_merit import background_efficiency, max_sic, sic_at, sic_curve

WINDOW = Window(3300.0, 3700.0)


class TimedCathode(Cathode):
    """CATHODE with a clock on each stage."""

    def fit(self, *args: Any, **kwargs: Any) -> TimedCathode:
        """Start the clocks and fit."""
        self.seconds: dict[str, float] = {}
        return super().fit(*args, **kwargs)

    def _clocked(self, name: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = call(*args, **kwargs)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return result

    def _learn_background(self, *args: Any) -> None:
        self._clocked("density", super()._learn_background, *args)

    def _draw_template(self, *args: Any, **kwargs: Any) -> Any:
        return self._clocked("sampling", super()._draw_template, *args, **kwargs)

    def _train_classifier(self, *args: Any) -> None:
        self._clocked("classifier", super()._train_classifier, *args)


def sample(path: Path, in_window: int, seed: int) -> Events:
    events = read(path, mass=None, preset="lhco")
    signal = np.flatnonzero(events.labels)
    share = np.mean(WINDOW.contains(events.m[signal]))
    chosen = np.random.default_rng(seed).choice(signal, round(in_window / share), replace=False)
    return events.select(np.sort(np.concatenate([np.flatnonzero(~events.labels), chosen])))


def template_auc(real: NDArray[Any], drawn: NDArray[Any], seed: int = 0) -> float:
    x, y = np.concatenate([real, drawn]), np.repeat([1, 0], [len(real), len(drawn)])
    w = np.where(y == 1, len(y) / len(real), len(y) / len(drawn))
    fold = np.random.default_rng(seed).integers(0, 3, len(y))
    values = []
    for k in range(3):
        trees = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.05, max_leaf_nodes=16, min_samples_leaf=50
        )
        trees.fit(x[fold != k], y[fold != k], w[fold != k])
        values.append(roc_auc_score(y[fold == k], trees.decision_function(x[fold == k])))
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--plan", choices=["sequential", "kfold"], default="kfold")
    parser.add_argument("--signal", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--option", action="append", default=[], help="KEY=VALUE of the method's configuration"
    )
    arguments = parser.parse_args()
    events = sample(arguments.file, arguments.signal, arguments.seed)
    options = dict(item.split("=", 1) for item in arguments.option)
    folds = 10 if arguments.plan == "sequential" else 5
    fold = np.random.default_rng([arguments.seed, 1]).integers(0, folds, len(events))
    if arguments.plan == "sequential":
        splits, scored = np.stack([fold < f for f in range(1, folds)]), list(enumerate(range(1, folds)))
    else:
        splits, scored = np.stack([fold != f for f in range(folds)]), [(f, f) for f in range(folds)]
    method = TimedCathode(
        CathodeConfig.model_validate_strings(options), seed=arguments.seed, threads=arguments.threads
    )
    wall, cpu = time.perf_counter(), time.process_time()
    method.fit(events.without_label(), WINDOW, splits)
    inside = WINDOW.contains(events.m)
    pooled = np.full(len(events), np.nan)
    for model, f in scored:
        rows = fold == f
        scores = method.score(events.select(rows), model)
        pooled[rows] = -np.log(background_efficiency(scores, scores[~inside[rows]]))
    method.seconds["all"] = time.process_time() - cpu
    use = inside & np.isfinite(pooled)
    curve = sic_curve(events.labels[use], pooled[use])
    best, loose = max_sic(curve), sic_at(curve, 1e-2)
    background = events.x[inside & ~events.labels]
    aucs = {k: template_auc(background, method.template(k).x) for k in sorted({0, len(splits) - 1})}
    facts = {
        "plan": arguments.plan,
        "signal": int(events.labels[use].sum()),
        "seed": arguments.seed,
        **options,
    }
    print(json.dumps(facts))
    print("CPU seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in method.seconds.items()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"wall {time.perf_counter() - wall:.0f} s; peak memory {peak:.2f} GB")
    print("template AUC: " + ", ".join(f"model {k}: {value:.4f}" for k, value in aucs.items()))
    print(f"max SIC {best.sic:.2f} +- {best.error:.2f} at eps_B {best.eps_b:.2g}", end=" ")
    print(
        f"({best.background:.0f} background); SIC at 1e-2: {loose.sic:.2f} +- {loose.error:.2f}", flush=True
    )


if __name__ == "__main__":
    main()
