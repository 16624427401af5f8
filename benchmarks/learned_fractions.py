"""The fraction of signal that R-ANODE learns: rates without signal, and fraction over truth with one.

    python benchmarks/learned_fractions.py exact OUT --repeats 100
    python benchmarks/learned_fractions.py null OUT --file FILE --events 25000 --repeats 100
    python benchmarks/learned_fractions.py signal OUT --file FILE --signals 250 --repeats 2 [--settings default]
    python benchmarks/learned_fractions.py gbi OUT --file FILE --events 25000 --repeats 20
    python benchmarks/learned_fractions.py table OUT

``exact`` has four features whose density of background is known exactly: what it finds is the fit's own doing. ``null`` draws
background from the labelled table FILE and learns its density, too; its windows beside the window are the floor. ``signal`` adds
signal to all background of FILE. ``gbi`` measures the strength of a learnt signal (``serendip infer``) in the samples of ``null``. Window 3300-3700 GeV; each split sees all folds but one. Finished repeats are skipped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm
from threadpoolctl import threadpool_limits
from weighted_chains import FAST, settings

from serendip.events.events import Events, Window
from serendip.methods.ranode import Ranode, RanodeConfig
from serendip.methods.signal.floor import spurious_fraction
from serendip.search.config import parse_settings
from serendip.search.engine import read_events
from serendip.search.folds import event_folds
from serendip.search.infer import InferConfig, run_infer
from serendip.search.pseudo_data import SampledBackground
from serendip.statistics.pvalues import binomial_interval

WINDOW = Window(3300.0, 3700.0)
D = 4
SETTINGS: dict[str, dict[str, Any]] = {"fast": FAST["ranode"], "default": {}}
QUANTILES = (5, 16, 50, 84, 95)


class Exact:
    """The density of :func:`exact_events`."""

    def log_prob(self, x: Any, m: Any, split: int = 0) -> Any:
        """Ln p(x|m)."""
        del split
        return norm.logpdf(x - np.log(m / 3500)[:, None]).sum(1)


def exact_events(n: int, rng: np.random.Generator) -> Events:
    m = 2500 * (1 - rng.random(n) * (1 - 2.2**-4.0)) ** -0.25
    x = rng.normal(size=(n, D)) + np.log(m / 3500)[:, None]
    return Events(
        {"m": m} | {f"x{i}": x[:, i] for i in range(D)}, mass="m", features=tuple(f"x{i}" for i in range(D))
    )


def with_signal(events: Events, number: int, seed: int) -> Events:
    rows = np.random.default_rng([5, seed]).permutation(np.flatnonzero(events.labels))
    inside = np.cumsum(WINDOW.contains(events.m[rows]))
    keep = ~events.labels
    keep[rows[: np.searchsorted(inside, number) + 1]] = True
    return events.select(keep)


def one(given: argparse.Namespace, source: Any, k: int) -> dict[str, Any]:
    options, folds, background = SETTINGS[given.settings], given.folds, None
    if given.kind == "exact":
        events = exact_events(given.events, np.random.default_rng([77, k]))
        options, folds, background = options | {"floor": False}, 1, Exact()
    elif given.kind == "null":
        events = source.draw(np.random.default_rng([77, k]))
    else:
        events = with_signal(source, given.signals, k)
    fold = event_folds(events, folds, 1000 + k) if folds > 1 else np.full(len(events), -1)
    splits = np.array([fold != f for f in range(folds)])
    method = Ranode(RanodeConfig(**options), seed=1000 + k, background=background)  # type: ignore[arg-type]
    started = time.perf_counter()
    method.fit(events.without_label(), WINDOW, splits)
    out: dict[str, Any] = {
        "fraction": method.fraction_.tolist(), "error": method.fraction_error_.tolist(), "gain": method.gain_.tolist(),
        "trained": method.trained_fraction_.tolist(), "floor": method.floor_.tolist(), "s": time.perf_counter() - started,
    }  # fmt: skip
    if given.kind == "signal":
        inside = WINDOW.contains(events.m)
        out["truth"] = [float(events.labels[inside & split].mean()) for split in splits]
        every = source.select(source.labels & WINDOW.contains(source.m))
        learned = np.concatenate([method.signal(j, 4000).x for j in range(folds)])
        out["quantiles"] = {
            name: [np.percentile(values[:, i], QUANTILES).tolist() for values in (learned, every.x)]
            for i, name in enumerate(events.features)
        }
    return out


def gbi(given: argparse.Namespace, source: SampledBackground, k: int) -> dict[str, Any]:
    sample = source.draw(np.random.default_rng([77, k]))
    file = given.out / "gbi.parquet"
    pq.write_table(pa.table({name: sample[name] for name in sample.features} | {"mass": sample.m}), file)
    config = {
        "file": str(file), "mass": "mass", "features": list(sample.features), "window": [WINDOW.low, WINDOW.high],
        "folds": given.folds, "seed": 1000 + k, "scan_points": 0, "toys": 200, "options": {"ranode": SETTINGS[given.settings]},
    }  # fmt: skip
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_infer(parse_settings(InferConfig, config, "gbi"), Path(folder) / "run", unblind=True, threads=1)
        found = json.loads((Path(folder) / "run" / "infer.json").read_text(encoding="utf-8"))
    statistical, total = (found[name]["fit"] for name in ("statistical", "total"))
    return {
        "fraction": [total["fraction"]], "error": [total["fraction_error"]], "statistical": [statistical["fraction_error"]],
        "gain": [total["gain"]], "floor": [], "s": time.perf_counter() - started,
        "holds_zero": [found[name]["toys"]["interval_95"][0] <= 0 for name in ("statistical", "total")],
    }  # fmt: skip


def table(out: Path) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        groups.setdefault(path.stem.rsplit("-", 1)[0], []).append(
            json.loads(path.read_text(encoding="utf-8"))
        )
    for name, rows in groups.items():
        print(f"{name}: {len(rows)} repeats, {np.mean([r['s'] for r in rows]):.0f} s each")
        w, error = (np.array([r[key] for r in rows]) for key in ("fraction", "error"))
        if "truth" in rows[0]:
            truth = np.array([r["truth"] for r in rows])
            print(
                f"  fraction / truth {(w / truth).mean():.2f}, (fraction - truth) / error {((w - truth) / error).mean():+.1f}"
            )
            print(
                f"  gain {np.ravel([r['gain'] for r in rows]).round(0)}, floor {[np.round(r['floor'], 4).tolist() for r in rows]}"
            )
            for feature, (learned, true) in rows[0]["quantiles"].items():
                print(f"  {feature}: {QUANTILES} % learned {np.round(learned, 3)}, true {np.round(true, 3)}")
            continue
        if "holds_zero" in rows[0]:
            statistical = np.array([r["statistical"] for r in rows])
            for i, kind in enumerate(("statistical", "total")):
                rate("95 % interval by toys holds zero", kind, np.array([r["holds_zero"][i] for r in rows]))
        else:
            spurious = np.array([spurious_fraction(np.reshape(r["floor"], (-1, 3))) for r in rows])
            statistical = np.sqrt(np.maximum(error**2 - spurious[:, None] ** 2, 0))
        for what, e in (("statistical", statistical), ("quoted", error)):
            rate("first split within 2 errors of zero", what, w[:, 0] <= 2 * e[:, 0])
            print(f"  any split, which share events ({what}): {np.mean(w <= 2 * e):.3f}")
        gain = np.array([r["gain"][0] for r in rows])
        print(
            f"  gain of one split: 50, 95 % {np.percentile(gain, [50, 95]).round(2)}, largest {gain.max():.1f}"
        )
        floor = np.concatenate([np.reshape(r["floor"], (-1, 3)) for r in rows])
        if len(floor):
            print(
                f"  gain of the floor: 50, 95 % {np.percentile(floor[:, 2], [50, 95]).round(2)}, largest {floor[:, 2].max():.1f}"
            )
            rate("gain above the 95 % point of the floor", "one split", gain > np.percentile(floor[:, 2], 95))
            largest = np.array([np.max(r["floor"], axis=0)[2] for r in rows])
            rate("gain above all of its own floor", "one split", gain > largest)


def rate(what: str, kind: str, hits: Any) -> None:
    k, n = int(np.sum(hits)), len(hits)
    low, high = binomial_interval(k, n)
    print(f"  {what} ({kind}): {k / n:.3f} [{low:.3f}, {high:.3f}]")


def main() -> None:
    threadpool_limits(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("exact", "null", "signal", "gbi", "table"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--file")
    parser.add_argument("--events", type=int, default=25_000)
    parser.add_argument("--signals", type=int, default=250)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--settings", choices=tuple(SETTINGS), default="fast")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.kind == "table":
        table(given.out)
        return
    source: Any = None
    if given.kind != "exact":
        source = read_events(settings(given.file, "ranode"))
    if given.kind in ("null", "gbi"):
        source = SampledBackground(source.select(~source.labels).without_label(), given.events)
    for k in range(given.repeats):
        size = given.signals if given.kind == "signal" else given.events
        path = given.out / f"{given.kind}-{given.settings}-{size}-{k:04d}.json"
        if not path.exists():
            found = (gbi if given.kind == "gbi" else one)(given, source, k)
            path.write_text(json.dumps(found), encoding="utf-8")
            print(
                path.name,
                np.round(found["fraction"], 4),
                np.round(found["error"], 4),
                np.round(found["gain"], 1),
                flush=True,
            )


if __name__ == "__main__":
    main()
