r"""The measurement of a signal strength with learnt densities: from a table of events to ``infer.json``.

Generator-based inference (arXiv:2506.00119): the background of the window is learnt in the sidebands, the signal from the
events of other folds (R-ANODE, arXiv:2312.11629) or from simulation, and the likelihood of events that trained neither
is profiled in the signal strength. Each training is stored under a key of its own, so that the same call after a crash
continues where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.read import read
from serendip.io.json import write_json
from serendip.methods.gbi import LearnedSignals, learn_signals
from serendip.methods.signal.family import SignalFamily, parameter_grid
from serendip.runs.executor import available_cores
from serendip.runs.folder import FinishedRun, RunDirectory
from serendip.runs.progress import LogProgress, Progress
from serendip.search.engine import read_events, start_run
from serendip.search.folds import cross_training_plan
from serendip.search.infer.config import InferConfig
from serendip.search.infer.results import Arrays, family_results, retrained, scanned, strength, toy_summary
from serendip.search.infer.session import DRAWN, Session
from serendip.search.measure import prepare_window
from serendip.search.models import fingerprints
from serendip.torch_device import limited_threads

__all__ = ["InferResult", "read_signal", "run_infer"]

Array = NDArray[np.float64]


class InferResult(FinishedRun):
    """The return value of :func:`run_infer`; ``results`` is the content of ``infer.json``."""


def run_infer(
    config: InferConfig,
    out: Path | str,
    *,
    unblind: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> InferResult:
    """Measure the signal strength in a window and write ``infer.json``.

    Parameters
    ----------
    config
        The configuration of the measurement.
    out
        Run directory: new, or one of the same configuration, which is then continued.
    unblind
        Look at the events of the window; recorded in the manifest. Without it only a simulated signal can be used, and events drawn from the background replace the data.
    threads
        Of each training; default: one for each core that this process may use.
    progress
        Receives progress messages.

    Raises
    ------
    InputError
        If the input, the configuration or the folder cannot be used, or a training diverges.
    """
    clock = time.perf_counter()
    progress = progress or LogProgress()
    run = RunDirectory(Path(out), "measurement")
    run.check(config.resolved())
    unblind = unblind or run.unblinded
    if config.signal is None and not unblind:
        raise InputError(
            "the signal is learnt from the events in the window, so nothing can be measured without unblinding it: add "
            "--unblind, which is recorded, or give a simulated signal (--signal FILE) for the expected sensitivity"
        )
    events = read_events(config).without_label()
    (window,) = config.windows
    signal = read_signal(config, events, window)
    fit = prepare_window(events, window, config)
    run.open(config.resolved())
    manifest = start_run(run, config, events, unblind=unblind)
    digests = [events.digest(), None if signal is None else signal.digest()]
    if manifest.setdefault("signal_digest", digests[1]) != digests[1]:
        raise InputError(f"--out {out}: was started with another simulated signal; choose another folder")
    write_json(run.path / "manifest.json", manifest)
    session = _Measurement(
        config, run, events, fit, threads or available_cores(), progress, digests, blinded=not unblind
    )
    results: dict[str, Any] = {
        "schema": 1,
        "seed": config.seed,
        "blinded": not unblind,
        "source": "learned" if signal is None else "simulation",
        "window": [window.low, window.high],
        "features": list(events.features),
        "unit": "GeV",
    }
    with limited_threads(session.threads):
        session.learn_background()
        results |= session.from_data() if signal is None else session.from_simulation(signal)
    results["timing_s"] = {"total": time.perf_counter() - clock}
    write_json(run.path / "infer.json", results)
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    manifest["timing_s"] = results["timing_s"]
    write_json(run.path / "manifest.json", manifest)
    return InferResult(run.path, results)


def read_signal(config: InferConfig, events: Events, window: Window) -> Events | None:
    """Read the simulated signal of a configuration, with its parameters as further columns.

    Raises
    ------
    InputError
        If the file cannot be used as asked, or holds events of the data.
    """
    if config.signal is None:
        return None
    found = read(
        config.signal,
        mass=config.mass,
        features=(*events.features, *config.parameters),
        weight=config.signal_weight,
        where=config.signal_where,
        tree=config.tree,
        unit=config.unit,
        preset=config.preset,
        for_training=False,
    ).without_label()
    found = replace(found, features=events.features)
    shared = np.isin(fingerprints(found), fingerprints(events.select(window.contains(events.m))))
    if shared.any():
        raise InputError(
            f"{config.signal}: {int(shared.sum())} of its {len(found)} events are events of the data in {window}; a signal "
            "density must not be learnt from the events on which it is evaluated"
        )
    return found


class _Measurement(Session):
    """One measurement, with either kind of signal."""

    def from_data(self) -> dict[str, Any]:
        """Everything with a signal that is learnt from the other folds."""
        config, inside = self.config, self.window.contains(self.events.m)
        x, m, w, fold = self.x[inside], self.events.m[inside], self.events.weights[inside], self.fold[inside]
        plan = cross_training_plan(fold, config.folds, config.combination)
        folds = tuple(f for f, _ in plan.scores)
        points = [] if not config.scan_points else list(np.geomspace(1e-4, 0.1, config.scan_points))
        self.progress.start("signal", 1 + len(points))

        def learn(
            x: Array,
            m: Array,
            w: Array,
            splits: NDArray[np.bool_],
            fraction: float | None,
            groups: NDArray[np.int64] | None = None,
        ) -> LearnedSignals:
            return learn_signals(
                x,
                m,
                w,
                splits,
                folds,
                self.backgrounds[0],
                self.transform,
                config.ranode,
                seed=self.seed,
                fraction=fraction,
                groups=groups,
            )

        groups = None if self.events.groups is None else self.events.groups[inside]

        def nominal() -> dict[str, Array]:
            model = learn(x, m, w, plan.splits, None, groups)
            found = self.arrays(model, x, m, fold, folds)
            found["trained_fraction"] = np.array([model.fit.trained_fraction(k) for k in range(len(folds))])
            return found

        options = config.ranode.model_dump(mode="json")
        arrays = self.stored(nominal, "learned", options)
        self.progress.advance("signal, fraction learned")
        scan = []
        for point in points:

            def at(point: float = point) -> dict[str, Array]:
                return {
                    "log_ratio": self.judge(
                        learn(x, m, w, plan.splits, point, groups), x, m, fold, folds, self.backgrounds[0]
                    )
                }

            scan.append((point, self.stored(at, "fixed", options, point)["log_ratio"]))
            self.progress.advance(f"signal, fraction {point:.2g}")
        tested = np.isin(fold, folds)
        share = len(folds) / config.folds
        constraint = self.constraint(share)
        data = Arrays.of(arrays, w[tested], tested)
        results = self.common(share) | {
            "folds": len(folds),
            "events": int(tested.sum()),
            "weight": float(w[tested].sum()),
        }
        self.progress.start("toys", 1)
        results |= strength(config, data, constraint, self.rng, background=self.expected[0] * share)
        self.progress.advance("toys")
        results["trained_fraction"] = arrays["trained_fraction"].tolist()
        results["scan"] = scanned([(p, r[tested]) for p, r in scan], w[tested]) if scan else None
        results["signal"] = self.pictures(arrays)
        if config.retrain:
            scale = float((w**2).sum() / w.sum())
            fit = results["statistical"]["fit"]
            results["retrained"] = self._retrain(learn, folds, arrays, constraint, fit, scale)
        return results

    def from_simulation(self, sample: Events) -> dict[str, Any]:
        """Everything with a family of simulated signals."""
        config = self.config
        self.progress.start("signal", 2)
        family = SignalFamily(config.family, seed=self.seed).fit(sample, self.window, config.parameters)
        self.progress.advance("signal family")
        inside = self.window.contains(self.events.m)
        x, m, w = self.x[inside], self.events.m[inside], self.events.weights[inside]
        if self.blinded:
            scale = float((w**2).sum() / w.sum())
            x, m = self.backgrounds[0].sample(
                max(round(self.expected[0] / scale), 1), np.random.default_rng([self.seed, 9])
            )
            x = self.transform.dequantise(x, np.random.default_rng([self.seed, 10]))
            w = np.full(len(m), scale)
        grid = parameter_grid(family.points, config.grid_points)
        options = [
            config.ranode.model_dump(mode="json"),
            config.family.model_dump(mode="json"),
            list(config.parameters),
        ]

        def table() -> dict[str, Array]:
            draws_x, draws_m = self.draw(
                self.backgrounds[0], config.draws, np.random.default_rng([self.seed, 13])
            )
            log_b, log_draws = (
                self.backgrounds[0].log_prob(x, m),
                self.backgrounds[0].log_prob(draws_x, draws_m),
            )
            return {
                "table": np.stack([np.clip(family.log_prob(x, m, t) - log_b, -60, 60) for t in grid]).astype(np.float32),
                "draws": np.stack([
                    np.clip(family.log_prob(draws_x, draws_m, t) - log_draws, -60, 60) for t in grid
                ]).astype(np.float32),
            }  # fmt: skip

        tables = self.stored(table, "family", options, config.grid_points, config.draws, self.blinded)
        self.progress.advance("likelihood on the grid")
        constraint, fold = self.constraint(1.0), np.zeros(len(m), dtype=np.int64)

        def arrays_at(theta: Array) -> Arrays:
            return Arrays.of(self.arrays(family.at(theta), x, m, fold, (0,)), w, np.ones(len(m), dtype=bool))

        self.progress.start("toys", 1)
        results = self.common(1.0) | {"folds": 1, "events": len(m), "weight": float(w.sum())}
        if self.blinded:
            # even the number of events in the window is secret
            results |= {"events": None, "weight": None}
        found, theta = family_results(
            config, tables["table"].astype(float), tables["draws"].astype(float), w, grid, constraint, self.rng,
            arrays_at=arrays_at, background=self.expected[0], blinded=self.blinded,
        )  # fmt: skip
        self.progress.advance("toys")
        best = family.at(theta)
        drawn_x, drawn_m = best.sample(DRAWN, 0, np.random.default_rng([self.seed, 14]))
        background_x, background_m = self.backgrounds[0].sample(DRAWN, np.random.default_rng([self.seed, 15]))
        arrays = {
            "signal_x": drawn_x, "signal_m": drawn_m, "background_x": background_x, "background_m": background_m,
        }  # fmt: skip
        return results | found | {"scan": None, "signal": self.pictures(arrays)}

    def _retrain(
        self,
        learn: Callable[..., LearnedSignals],
        folds: tuple[int, ...],
        arrays: dict[str, Array],
        constraint: tuple[float, float] | None,
        fit: dict[str, float],
        scale: float,
    ) -> dict[str, Any]:
        """Pseudo-experiments in which the signal is relearnt, with the measured signal and without any."""
        config, share = self.config, len(folds) / self.config.folds
        self.progress.start("signal learnt anew", 2 * config.retrain)
        out = {}
        for name, count in (("without_signal", 0.0), ("with_signal", fit["count"])):
            rows = []
            for i in range(config.retrain):

                def toy(i: int = i, count: float = count) -> dict[str, Array]:
                    rng = np.random.default_rng([self.seed, i, round(count), 16])
                    # the pseudo-data have all folds, the counts are those of the tested ones
                    n_b, n_s = (int(rng.poisson(mean / share / scale)) for mean in (fit["background"], count))
                    x, m = self.draw(self.backgrounds[0], n_b, rng)
                    pick = rng.choice(len(arrays["signal_m"]), n_s, replace=n_s > len(arrays["signal_m"]))
                    x = np.concatenate([x, self.transform.dequantise(arrays["signal_x"][pick], rng)])
                    m = np.concatenate([m, arrays["signal_m"][pick]])
                    w, fold = np.full(len(m), scale), rng.integers(0, config.folds, len(m))
                    plan = cross_training_plan(fold, config.folds, config.combination)
                    model = learn(x, m, w, plan.splits, None)
                    tested = np.isin(fold, folds)
                    ratio = self.judge(model, x, m, fold, folds, self.backgrounds[0])[tested]
                    known = constraint and (
                        float(rng.normal(fit["background"], constraint[1])),
                        constraint[1],
                    )
                    return {"toy": toy_summary(ratio, w[tested], known, count)}

                what = (
                    "retrain",
                    config.ranode.model_dump(mode="json"),
                    name,
                    i,
                    count,
                    config.normalisation,
                )
                rows.append(self.stored(toy, *what)["toy"])
                self.progress.advance(f"{name.replace('_', ' ')}, {i + 1} of {config.retrain}")
            out[name] = retrained(np.array(rows), count, fit)
        return out
