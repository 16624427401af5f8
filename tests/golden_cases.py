"""The numbers of the golden set: each case is a function of an empty folder that returns plain numbers.

A number is not right because it is written down: ``tests/golden/*.json`` holds what came out before a change, so that code that is moved or merged
cannot change it unnoticed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, make_columns

import serendip

WINDOW = (3300.0, 3700.0)
SEARCH = {"mass": "mjj", "features": FEATURES, "id": "event", "window": WINDOW, "toys": 100}
FLOW = {"density": "maf", "steps": 3, "batch_size": 128, "members": 1}
BRIEF = {"steps": 5, "batch_size": 128}
TRAINED = {
    "anode": {**FLOW, "density": "flow-matching", "window_density": "spline-coupling", "window_steps": 3},
    "autoencoder": BRIEF,
    "bump-hunt": {},
    "cathode": {**FLOW, "oversample": 1.0},
    "curtains": {**FLOW, "density": "spline", "transport_steps": 3, "oversample": 1.0},
    "cwola": {"members": 1},
    "dagmm": BRIEF,
    "deep-svdd": {**BRIEF, "targets": [0], "dimensions": [3]},
    "ensemble": {"methods": ["cwola", "autoencoder"], "options": {"cwola": {"members": 1}, "autoencoder": BRIEF}},
    "feta": {**FLOW, "transport_steps": 3, "oversample": 1.0},
    "flow": {**BRIEF, "flow": "maf", "transforms": 1},
    "gaussian-mixture": {"components": 2},
    "idealised": {"members": 1},
    "isolation-forest": {"trees": 20},
    "kde": {"max_events": 200},
    "lacathode": {**FLOW, "oversample": 1.0},
    "planar-vae": BRIEF,
    "ranode": {**FLOW, "members": 2, "signal_steps": 3},
    "salad": {"members": 1, "reweighting_members": 1, "reweighting_rounds": 3},
    "supervised": {"members": 1},
    "vae-radius": BRIEF,
    "vae-reconstruction": BRIEF,
}  # fmt: skip
"""Every method with tiny trainings."""

SCHEMES = {
    "weighted": {"combination": "weighted", "orders": 2, "background": "auto"},
    "weights and groups": {"combination": "weighted", "orders": 1, "weight": "w", "group": "block"},
    "sequential": {"combination": "sequential", "working_points": (0.1, 0.03)},
    "sequential-stouffer": {"combination": "sequential-stouffer", "working_points": 0.05},
    "kfold-bonferroni": {"combination": "kfold-bonferroni", "working_points": 0.05},
    "scan": {"combination": "sequential", "working_points": 0.05, "window": None, "scan": (3000.0, 4000.0), "width": 0.15},
}  # fmt: skip


@contextmanager
def linear() -> Iterator[str]:
    """The name of a method whose score, for the time being, is a sum of features and needs no training."""
    from serendip.methods.registry import get_method

    name = "isolation-forest"
    with pytest.MonkeyPatch.context() as patch:
        method = get_method(name)
        patch.setattr(method, "fit", lambda self, events, window, splits=None: self)
        patch.setattr(method, "save_model", lambda self, folder, split: None)
        patch.setattr(
            method,
            "score",
            lambda self, events, split=0: (events["f1"] - events["f2"] + events["f3"]) / (10 + split),
        )
        yield name


def events(path: Path, seed: int = 0) -> Path:
    """5,000 events, 60 of them signal, with weights and blocks of three."""
    columns = make_columns(4940, 60, seed)
    columns |= {"w": 0.5 + np.arange(5000) % 4 / 2, "block": np.arange(5000) // 3}
    pq.write_table(pa.table(columns), path)
    return path


def search(source: Path, out: Path, **settings: Any) -> dict[str, Any]:
    from serendip.search.config import parse_config
    from serendip.search.engine import run_search

    config = parse_config({"file": str(source), **SEARCH, **settings}, "golden")
    return finished(run_search(config, out, unblind=True, jobs=1).path)


def finished(run: Path) -> dict[str, Any]:
    """Numbers of a search: results, diagnostics and scores."""
    results = json.loads((run / "results.json").read_text())
    scores = pq.read_table(run / "scores.parquet")
    return {
        **{name: results[name] for name in ("looks", "global", "sidebands")},
        "diagnostics": json.loads((run / "diagnostics.json").read_text()),
        "scores": {name: scores[name].to_numpy() for name in scores.column_names if name.startswith("score")},
        "fold": scores["fold"].to_numpy(),
    }  # fmt: skip


def trained(folder: Path) -> dict[str, Any]:
    """One search with a tiny training of every method: counts, p-values and quantiles of the scores."""
    found = search(
        events(folder / "events.parquet"), folder / "run", method=tuple(TRAINED), options=TRAINED, label="truth", folds=2,
        combination="sequential", working_points=0.05, background="dijet:3", range=(2400.0, 6000.0),
        simulation=str(events(folder / "simulation.parquet", seed=5)),
    )  # fmt: skip
    kept = ("observed", "expected", "expected_error", "p_local", "z_local", "folds")
    looks = {look["method"]: {key: look[key] for key in kept} for look in found["looks"]}
    scores = found["scores"]["score"].reshape(len(TRAINED), -1)
    for look, score in zip(looks.values(), scores, strict=True):
        look |= {"quantiles": np.nanquantile(score, (0, 0.1, 0.5, 0.9, 0.99, 1)), "scores": score}
    return {"looks": looks, "global": found["global"]}


def schemes(folder: Path) -> dict[str, Any]:
    """A score without training in every combination of the folds, with weights and groups, in a scan."""
    table, found = events(folder / "events.parquet"), {}
    with linear() as method:
        for name, settings in SCHEMES.items():
            one = search(
                table, folder / name, **{"method": method, "folds": 3, "background": "dijet:3"} | settings
            )
            found[name] = (
                one
                if name in ("weighted", "sequential")
                else {key: one[key] for key in ("looks", "global", "scores")}
            )
    return found


def demo(folder: Path) -> dict[str, Any]:
    """The embedded sample, without training."""
    from serendip.simulate.embedded import embedded_sample_path

    settings = {
        "features": ["mj1"],
        "id": "id",
        "window": None,
        "scan": (3000.0, 3400.0),
        "width": 0.12,
        "method": "bump-hunt",
    }
    return search(embedded_sample_path(), folder / "run", **settings)


def compared(folder: Path) -> dict[str, Any]:
    """Figures of merit of a comparison at three injected signals, and upper limits by injection."""
    from serendip.search.compare import run_compare
    from serendip.search.compare.config import parse_comparison
    from serendip.search.injection_limits import injection_limits

    with linear() as method:
        settings = SEARCH | {
            "file": str(events(folder / "events.parquet")),
            "label": "truth",
            "method": [method],
        }
        more = {
            "injections": [0, 6, 60],
            "repeats": 1,
            "folds": 2,
            "working_points": 0.05,
            "min_background": 20,
        }
        del settings["toys"]
        config, left_out, strict = parse_comparison(settings | more, "golden")
        found = run_compare(config, folder / "run", left_out=left_out, strict=strict, jobs=1)
    entries = [
        {key: value for key, value in entry.items() if key not in ("cost", "task")}
        for entry in found["entries"]
    ]
    timed = ("own_s", "background_s", "cpu_s", "peak_memory_gib")
    summary = [
        row | {"values": {key: v for key, v in row["values"].items() if key not in timed}}
        for row in found["summary"]
    ]
    limits = [limit.to_dict() for limit in injection_limits(found)]
    return {"entries": entries, "summary": summary, "limits": limits}


def programs(folder: Path) -> dict[str, Any]:
    """A search that looks after every period, and windows without signal that validate one."""
    from serendip.search.config import parse_settings
    from serendip.search.monitor import MonitorConfig, run_monitor
    from serendip.validate.config import parse_validation
    from serendip.validate.engine import run_validations

    first, second = (str(events(folder / f"{k}.parquet", seed=k)) for k in (0, 1))
    given = {key: value for key, value in SEARCH.items() if key not in ("id", "toys")} | {
        "background": "dijet:3"
    }
    with linear() as method:
        config = parse_settings(MonitorConfig, {**given, "file": first, "method": method}, "golden")
        monitored = run_monitor(config, folder / "monitor", append=[second], unblind=True, jobs=1).path
    control = {
        **given,
        "file": first,
        "method": "bump-hunt",
        "folds": 2,
        "validate": {"control": {"per_side": 1}},
    }
    found = run_validations(*parse_validation(control, ["control"], "golden"), folder / "validation", jobs=1)
    return {
        "monitor": json.loads((monitored / "monitor.json").read_text()),
        "control": [replace(kind, seconds=0.0) for kind in found],
    }


def spectra(folder: Path) -> dict[str, Any]:
    """Bump hunts and signal fits of the inclusive spectrum."""
    sample = serendip.read(events(folder / "events.parquet"), mass="mjj")
    weighted = serendip.read(folder / "events.parquet", mass="mjj", weight="w", group="block")
    fast = {"background": ("dijet:3",), "bins": 24, "mass_range": (2400.0, 6000.0)}
    return {
        "bump": {name: serendip.bump(sample, WINDOW, background=name).to_dict() for name in ("auto", "dijet:4", "exppoly:3")},
        "weighted bump": serendip.bump(weighted, WINDOW, background="dijet:3", masks=[(2500, 2600)]).to_dict(),
        "anywhere": serendip.bump(sample, toys=10, background="dijet:3").to_dict(),
        "fit": serendip.fit(sample, "gauss:3500:0.03", **fast).to_dict(),
        "envelope": serendip.fit(sample, "gauss:3500:0.03", background=("dijet:3", "exppoly:2"), bins=24, mass_range=(2400.0, 6000.0), limit=False).to_dict(),
        "weighted fit": serendip.fit(weighted, "gauss:3500:0.03", **fast, scale_error=0.01, resolution_error=0.1).to_dict(),
        "floating mass": serendip.fit(sample, "gauss:3500:0.03", **fast, floats=("mass",)).to_dict(),
    }  # fmt: skip


def limits(folder: Path) -> dict[str, Any]:
    """CLs limits and intervals of counts, ABCD regions and mixtures of densities."""
    from serendip.statistics.abcd import AbcdCounts, abcd_limit, exact_log_p_value, fit_abcd
    from serendip.statistics.limits import cls_asymptotic, cls_toys, upper_limit
    from serendip.statistics.mixture import MixtureLikelihood
    from serendip.statistics.mixture import upper_limit as mixture_limit
    from serendip.statistics.model import counting_data, counting_model
    from serendip.statistics.pvalues import binomial_interval, count_p_value

    model, counts = counting_model(40.0, 5.0), counting_data(52.0, 40.0, 5.0)
    regions = AbcdCounts(60.0, 200.0, 300.0, 1200.0, (1.0,) * 4)
    low = AbcdCounts(5.0, 20.0, 30.0, 200.0, (1.0,) * 4)
    ratio, data = np.log([0.1 / 0.7, 0.3 / 0.25, 0.6 / 0.05]), np.array([700.0, 262.0, 71.0])
    mixture = MixtureLikelihood(ratio, data, background=(990.0, 15.0), spurious=0.0, scale=1.0)
    asimov = MixtureLikelihood(
        ratio, 1000 * np.array([0.7, 0.25, 0.05]), background=(1000.0, 15.0), scale=1.0
    )
    return {
        "counting": [upper_limit(model, counts, level=level).to_dict() for level in (0.95, 0.9)],
        "cls": cls_asymptotic(model, counts, 20.0),
        "toys": asdict(cls_toys(model, counts, 20.0, 200, np.random.default_rng(1))),
        "abcd": [asdict(f(n, s, closure=d)) for f in (fit_abcd, abcd_limit)
                 for n, s, d in ((regions, (20.0, 3.0, 2.0, 1.0), 0.0), (low, (4.0, 1.0, 0.5, 0.2), 0.2))],
        "abcd p": exact_log_p_value(regions),
        "mixture": [asdict(mixture.fit()), mixture_limit(mixture, asimov)],
        "interval": [binomial_interval(k, 30) for k in (0, 7, 30)],
        "p": count_p_value([0.0, 5.0, 60.0], [2.0, 2.0, 30.0], [0.0, 0.5, 4.0]),
    }  # fmt: skip


def merits(folder: Path) -> dict[str, Any]:
    """Figures of merit of scores with ties: SIC, smallest strength, ARGOS, improvements, excesses, the audit of a table."""
    from serendip.methods.figures_of_merit import argos, max_sic, sic_at, sic_curve, smallest_strength
    from serendip.theories.excess import excess
    from serendip.theories.merits import merits as improvement
    from serendip.theories.merits import total_improvement

    rng = np.random.default_rng(3)
    label = np.arange(5000) < 400
    score = np.round(rng.normal(size=5000) + 1.5 * label, 2)
    weight = rng.uniform(0.5, 1.5, 5000)
    curve = sic_curve(label, score, weight)
    background, signal = score[~label], score[label]
    own = {
        name: improvement(background, signal, convention=name)
        for name in ("strict", "interpolated", "challenge")
    }
    channels = {
        ("s", "1"): own["strict"],
        ("s", "3"): improvement(background, signal + 0.4),
        ("t", "1"): improvement(background, signal - 0.3),
    }
    return {
        "sic": [asdict(point) for point in (max_sic(curve), sic_at(curve, 0.01))],
        "curve": {name: getattr(curve, name) for name in ("eps_s", "eps_b", "sic", "error")},
        "strength": smallest_strength(curve)[0],
        "argos": asdict(argos(label, score, weight)),
        "merits": {name: found.to_dict() for name, found in own.items()},
        "total": total_improvement(channels, np.random.default_rng(4), toys=100).to_dict(),
        "excess": asdict(excess(score[:1500], score[1500:], weight[1500:], np.arange(3500) // 2, eps_b=(0.1, 0.02), rng=rng, toys=100)),
        "audit": asdict(serendip.inspect(events(folder / "events.parquet"), mass="mjj", features=FEATURES, label="truth")),
    }  # fmt: skip


def study(folder: Path) -> dict[str, Any]:
    """Answers of a study of theories, from trainings that are made up."""
    from study_factory import write_study

    answers: dict[str, Any] = write_study(
        folder / "study", n_families=2, points=2, channels=("1",), targets=(1e-1, 1e-2)
    )["answers"]
    return answers


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "trained": trained, "demo": demo, "schemes": schemes, "compared": compared, "programs": programs, "spectra": spectra, "limits": limits, "merits": merits, "study": study,
}  # fmt: skip


def plain(value: Any) -> Any:
    """As JSON holds it. Words and paths are left out, and of a long list its length, ends, sum and a sum that knows the order."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): kept for key, item in value.items() if (kept := plain(item)) is not ...}
    if isinstance(value, str):
        return ... if " " in value or "/" in value or not value else value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return ...
    items = value.tolist() if isinstance(value, np.ndarray) else list(value)
    if len(items) > 8 and all(isinstance(item, int | float | None) for item in items):
        x = np.array([math.nan if item is None else item for item in items], dtype=float)
        known, place = np.isfinite(x), np.cos(np.arange(len(x)))
        return {
            "n": len(x), "known": int(known.sum()), "ends": plain([items[0], items[-1]]),
            "sum": math.fsum(x[known]), "size": math.fsum(abs(x[known])), "in order": math.fsum((place * x)[known]),
        }  # fmt: skip
    return [kept for item in items if (kept := plain(item)) is not ...]
