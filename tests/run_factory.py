"""Synthetic run directories: the files of a search, with plausible numbers, without a search."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

SIGNAL = 90  # planted events before the cut
HARD_NAME = 'tau21 <b>"j1"</b> & $x$'  # a column name that HTML, plotly or mathtext could trip over


def poisson_z(n: float, b: float, error: float) -> tuple[float, float]:
    """p and Z of a count with a Gaussian-smeared expectation, good enough for a picture."""
    means = np.maximum(b + error * np.linspace(-4, 4, 201), 1e-3)
    weights = np.exp(-0.5 * np.linspace(-4, 4, 201) ** 2)
    p = float(np.average(special.gammainc(max(n, 1e-9), means), weights=weights))
    return p, float(-special.ndtri(p))


def smooth(edges: np.ndarray, total: float) -> np.ndarray:
    x = 0.5 * (edges[1:] + edges[:-1]) / 13_000
    shape = (1 - x) ** 9 * x**-5.0
    return total * shape / shape.sum()


def histogram(rng: np.random.Generator, edges: np.ndarray, draws: np.ndarray) -> list[float]:
    return (np.histogram(draws, edges)[0] / max(len(draws), 1)).round(6).tolist()


def shown(inside: np.ndarray, seen: np.ndarray, *, blinded: bool) -> list[float | None]:
    """Counts as a run shows them: those in the window are hidden while it is blinded."""
    return [None if blinded and i else v for i, v in zip(inside.tolist(), seen.tolist(), strict=True)]


def write_run(
    path: Path,
    *,
    kind: str = "excess",
    methods: tuple[str, ...] = ("cwola", "cathode"),
    n_windows: int = 9,
    working_points: tuple[float, ...] = (0.01, 0.001),
    truth: bool = False,
    seed: int = 1,
    feature: str = "mj1",
    combination: str = "sequential, stouffer",
    weighted: bool = False,
) -> Path:
    """Write a run directory. ``kind``: excess, null or blinded; with weighted looks, the cuts are cross-checks."""
    rng = np.random.default_rng(seed)
    blinded = kind == "blinded"
    edges = np.linspace(2300, 6300, 41)
    centre_of_signal = 3500.0
    if n_windows == 1:
        windows = [(3300.0, 3700.0)]
    else:
        centres = 2700 * (1.1 ** np.arange(n_windows))
        windows = [(round(0.95 * c, 1), round(1.05 * c, 1)) for c in centres]
        centre_of_signal = float(centres[min(3, n_windows - 1)])
    features = [feature, "mj2-mj1", "tau21j1", "tau21j2"]
    looks: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    scores, closure, selected, correlation, roc, weighted_looks = [], [], [], [], [], []
    truth_of = {
        name: (f, w)
        for name, f, w in zip(features, (100.0, 400.0, 0.3, 0.35), (12, 30, 0.06, 0.07), strict=True)
    }
    range_of = dict(zip(features, ((0, 500), (0, 800), (0, 1), (0, 1)), strict=True))

    def bulk(name: str, n: int) -> np.ndarray:
        low, high = range_of[name]
        return low + (high - low) * rng.beta(2, 5 if high > 1 else 2, n)

    before = smooth(edges, 90_000)
    seen_before = rng.poisson(before).astype(float)
    if kind == "excess":
        seen_before += rng.poisson(SIGNAL * np.diff(special.ndtr((edges - centre_of_signal) / 130)))
    for window in windows:
        inside = (edges[:-1] < window[1]) & (edges[1:] > window[0])
        spectra.append(
            {
                "look": None,
                "method": None,
                "window": window,
                "working_point": None,
                "edges": edges.tolist(),
                "observed": shown(inside, seen_before, blinded=blinded),
                "expected": before.round(3).tolist(),
                "expected_error": (0.01 * before).round(3).tolist(),
                "fit": {"function": "dijet-4", "n_parameters": 4, "gof_p": 0.43},
            }
        )
    for method in methods:
        for window in windows:
            inside = (edges[:-1] < window[1]) & (edges[1:] > window[0])
            has_signal = kind == "excess" and window[0] < centre_of_signal < window[1]
            if weighted:
                strength = SIGNAL * np.diff(special.ndtr((edges - centre_of_signal) / 130)) * has_signal
                look, spectrum, record = _weighted(
                    rng, len(looks), method, window, edges, inside, strength, blinded
                )
                looks.append(look)
                spectra.append(spectrum)
                weighted_looks.append(record)
                if not blinded:
                    pictures = [
                        _selected(
                            rng, name, range_of[name], truth_of[name], bulk, 600, 40 * has_signal, truth
                        )
                        for name in features
                    ]
                    where = {"look": len(looks) - 1, "method": method, "window": window}
                    selected.append(
                        {**where, "working_point": None, "n": 600, "effective": 150.0, "features": pictures}
                    )
            for working_point in working_points:
                efficiency = 0.22 if working_point < 0.005 else 0.45
                after = smooth(edges, 90_000 * working_point)
                seen = rng.poisson(after).astype(float)
                if has_signal:
                    seen += rng.poisson(
                        SIGNAL * efficiency * np.diff(special.ndtr((edges - centre_of_signal) / 130))
                    )
                error = 0.06 * after + 0.05
                expected = float(after[inside].sum())
                expected_error = float(0.06 * expected + 0.3)
                observed = float(seen[inside].sum())
                p, z = poisson_z(observed, expected, expected_error)
                index = len(looks)
                spectra.append(
                    {
                        "look": index,
                        "method": method,
                        "window": window,
                        "working_point": working_point,
                        "edges": edges.tolist(),
                        "observed": shown(inside, seen, blinded=blinded),
                        "expected": after.round(4).tolist(),
                        "expected_error": error.round(4).tolist(),
                        "fit": {"function": "dijet-4 x exp(poly-1)", "n_parameters": 6, "gof_p": 0.31},
                    }
                )
                folds = []
                shares = rng.multinomial(int(observed), np.full(9, 1 / 9))
                for fold, share in enumerate(shares, start=1):
                    p_fold = poisson_z(float(share), expected / 9, expected_error / 9)[0]
                    folds.append(
                        {
                            "fold": fold,
                            "observed": None if blinded else int(share),
                            "expected": expected / 9,
                            "expected_error": expected_error / 9,
                            "p": None if blinded else p_fold,
                        }
                    )
                looks.append(
                    {
                        "method": method,
                        "window": window,
                        "working_point": working_point,
                        "statistic": "bump-fit",
                        "observed": None if blinded else observed,
                        "expected": expected,
                        "expected_error": expected_error,
                        "p_local": None if blinded else p,
                        "z_local": None if blinded else z,
                        "combination": combination,
                        "folds": folds,
                        "fit": {
                            "function": "dijet-4",
                            "n_parameters": 4,
                            "gof_p": 0.43,
                            "efficiency_order": 1,
                        },
                        "warning": None,
                        "cross_check": weighted,
                    }
                )
                if not blinded:
                    n = max(int(observed), 1)
                    n_signal = int(efficiency * SIGNAL) if has_signal else 0
                    selected.append(
                        {
                            "look": index,
                            "method": method,
                            "window": window,
                            "working_point": working_point,
                            "n": n,
                            "features": [
                                _selected(rng, name, range_of[name], truth_of[name], bulk, n, n_signal, truth)
                                for name in features
                            ],
                        }
                    )
            bins = np.linspace(0, 4, 41)
            base = rng.exponential(1 / np.log(10), 40_000)
            signal = np.minimum(rng.normal(2.6, 0.9, 1000), 3.99)
            scores.append(
                {
                    "method": method,
                    "window": window,
                    "edges": bins.tolist(),
                    "sideband": histogram(rng, bins, base),
                    "signal_region": None
                    if blinded
                    else histogram(
                        rng,
                        bins,
                        np.concatenate([rng.exponential(1 / np.log(10), 5000), signal[: 120 * has_signal]]),
                    ),
                    "truth_signal": histogram(rng, bins, signal) if truth else None,
                    "scale": "minus log10 of background efficiency",
                }
            )
            closure.append(
                {
                    "method": method,
                    "window": window,
                    "auc": 0.508,
                    "auc_error": 0.006,
                    "n_events": 4000,
                    "features": [_closure(rng, name, range_of[name], bulk) for name in features],
                }
            )
            correlation.append(
                {"method": method, "window": window, "distance_correlation": 0.021, "null_level": 0.018}
            )
            if truth:
                eps_b = np.geomspace(0.002, 1, 60)
                sic = eps_b ** (0.22 if method == "cathode" else 0.3) / np.sqrt(eps_b)
                roc.append(
                    {
                        "method": method,
                        "window": window,
                        "max_sic": float(sic.max()),
                        "max_sic_error": 0.6,
                        "min_background": 20,
                        "sic_at": {"0.01": [float(np.interp(0.01, eps_b, sic)), 0.4]},
                        "eps_b": eps_b.tolist(),
                        "sic": sic.tolist(),
                    }
                )
    claims = [i for i, look in enumerate(looks) if not look.get("cross_check")]
    best = None if blinded else min(claims, key=lambda i: looks[i]["p_local"])
    overall = None
    if best is not None:
        p_local, n = looks[best]["p_local"], len(claims)
        p = max(min(1.0, 0.6 * n * p_local), 1 / 1001)
        overall = {
            "p": p,
            "z": float(-special.ndtri(p)),
            "p_interval_68": [0.8 * p, min(1.0, 1.2 * p)],
            "n_looks": n,
            "n_toys": 1000,
            "n_reached": round(1001 * p) - 1,
            "trials": "toys, refitted, n=1000",
            "best_look": best,
            "gross_vitells": min(1.0, 0.7 * n * p_local),
            "bonferroni": min(1.0, n * p_local),
        }
    config = f"""input:
  file: events.h5
  mass: mjj
  features: [{", ".join(json.dumps(name) for name in features)}]
  where: "pt_j1 > 1200"
methods: [{", ".join(methods)}]
folds: 10
combination: {"weighted" if weighted else "sequential"}
seed: {seed}
"""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(config, encoding="utf-8")
    _json(
        path / "results.json",
        {
            "schema": 1,
            "seed": seed,
            "blinded": blinded,
            "looks": looks,
            "global": overall,
            "timing_s": {"density": 31.0, "classify": 24.0, "statistics": 3.0, "total": 60.2},
        },
    )
    _json(
        path / "diagnostics.json",
        {
            "schema": 1,
            "mass_name": "mjj",
            "unit": "GeV",
            "features": features,
            "spectra": spectra,
            "weighted": weighted_looks,
            "scores": scores,
            "closure": closure,
            "selected": selected,
            "correlation": correlation,
            "truth": {"signal_in_window": SIGNAL, "roc": roc} if truth else None,
        },
    )
    _json(
        path / "manifest.json",
        {
            "serendip": "0.1.0",
            "python": "3.11.9",
            "packages": {"numpy": "2.3.1", "torch": "2.13.0", "scikit-learn": "1.7.2"},
            "seed": seed,
            "input": {
                "file": "events.h5",
                "rows_read": 100_000,
                "rows_used": 91_183,
                "left_out": {"where: pt_j1 > 1200": 8800, "NaN in tau21j1": 17},
                "digest": "9f1c0a7745d24e9cb3a1",
            },
            "hardware": {"cpu": "x86_64", "cores": 2, "memory_gb": 8.0},
            "timing_s": {"density": 31.0, "classify": 24.0, "statistics": 3.0, "total": 60.2},
            "started": "2026-05-04T09:00:00Z",
            "finished": "2026-05-04T09:01:00Z",
            "unblinding": [] if blinded else [{"time": "2026-05-04T09:00:55Z", "config_hash": "41d7c2aa"}],
        },
    )
    return path


def _weighted(rng, index, method, window, edges, inside, signal, blinded) -> tuple[Any, Any, Any]:
    """A weighted look in four orders of the folds: its record in the results, its mean spectrum, and what lies behind it."""
    after, scale, n_folds = smooth(edges, 400), 0.5, 10
    growth = np.arange(1, n_folds) ** 1.5 / np.sum(np.arange(1, n_folds) ** 1.5)
    where = {
        "look": index,
        "method": method,
        "window": window,
        "working_point": None,
        "edges": edges.tolist(),
    }
    fit = {"function": "efficiency-2", "n_parameters": 2, "gof_p": 0.31}

    hide = partial(shown, inside, blinded=blinded)

    orders, seen = [], []
    expected = float(after[inside].sum())
    error = float(0.06 * expected + 0.2)
    for k in range(4):
        counts = scale * rng.poisson((after + signal) / scale)
        seen.append(counts)
        observed = float(counts[inside].sum())
        p, z = poisson_z(observed / scale, expected / scale, error / scale)
        folds = [
            {
                "fold": f + 1,
                "observed": None if blinded else expected / 9 + (observed - expected) * growth[f],
                "expected": expected / 9,
                "expected_error": error / 9,
                "p": None if blinded else float(special.ndtr(-z * growth[f] / np.sqrt((growth**2).sum()))),
            }
            for f in range(n_folds - 1)
        ]
        orders.append(
            {
                "order": k + 1,
                "observed": None if blinded else observed,
                "expected": expected,
                "expected_error": error,
                "p_local": None if blinded else p,
                "z_local": None if blinded else z,
                "effective_events": {"window": None if blinded else 30.0, "sideband": 400.0},
                "folds": folds,
                "spectrum": {
                    **where,
                    "observed": hide(counts),
                    "variance": hide(scale * counts),
                    "expected": after.tolist(),
                    "expected_error": (0.06 * after).tolist(),
                    "scale": scale,
                    "fit": fit,
                },
            }
        )
    mean = np.mean(seen, axis=0)
    known = [] if blinded else [order["p_local"] for order in orders]
    p = None if blinded else min(1.0, float(1 / np.mean(1 / np.maximum(known, 1e-300))))
    names = ("observed", "expected", "expected_error", "p_local", "z_local")
    look = {
        "method": method,
        "window": window,
        "working_point": None,
        "statistic": "bump-fit",
        "observed": None if blinded else float(mean[inside].sum()),
        "expected": expected,
        "expected_error": error,
        "p_local": p,
        "z_local": None if p is None else float(-special.ndtri(p)),
        "combination": "weighted",
        "folds": orders[0]["folds"],
        "fit": {"function": "dijet-4", "n_parameters": 4, "gof_p": 0.43, "efficiency_order": 1},
        "warning": None,
        "effective_events": {"window": None if blinded else 30.0, "sideband": 400.0},
        "orders": [{name: order[name] for name in names} for order in orders],
        "cross_check": False,
    }
    spectrum = orders[0]["spectrum"] | {"observed": hide(mean), "variance": hide(scale * mean)}
    rank = np.geomspace(1e-4, 0.1, 30, endpoint=False)
    record = {
        "look": index,
        "method": method,
        "window": window,
        "weights": {
            "scale": 1e-3,
            "loosest_rank": 0.1,
            "n_folds": n_folds,
            "rank": rank.tolist(),
            "curves": [
                {"place": f, "weight": np.log1p(1e-3 / rank * (f / 9) ** 1.5).tolist()} for f in (1, 5, 9)
            ],
        },
        "orders": orders,
        "heaviest": None
        if blinded
        else [
            {
                "id": {"run": 1, "event": 100 - i},
                "mass": 3500.0 + i,
                "features": [100.0, 400.0, 0.3, 0.35],
                "weight": 2.0 - 0.05 * i,
            }
            for i in range(20)
        ],
    }
    return look, spectrum, record


def _selected(rng, name, limits, truth, bulk, n, n_signal, with_truth) -> dict[str, Any]:
    edges = np.linspace(*limits, 26)
    peak = rng.normal(*truth, max(n_signal, 1))[:n_signal]
    draws = np.concatenate([bulk(name, max(n - n_signal, 0)), peak])
    return {
        "name": name,
        "edges": edges.tolist(),
        "selected": histogram(rng, edges, draws),
        "template": histogram(rng, edges, bulk(name, 20_000)),
        "truth_signal": histogram(rng, edges, rng.normal(*truth, 5000)) if with_truth else None,
    }


def _closure(rng, name, limits, bulk) -> dict[str, Any]:
    edges = np.linspace(*limits, 26)
    return {
        "name": name,
        "edges": edges.tolist(),
        "observed": np.histogram(bulk(name, 4000), edges)[0].tolist(),
        "predicted": (np.histogram(bulk(name, 80_000), edges)[0] / 20).tolist(),
    }


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
