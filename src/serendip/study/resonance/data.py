"""Simulated events as the pseudo-data of a search for a resonance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.audit import distance_correlation
from serendip.events.events import Events, Window
from serendip.events.write import write
from serendip.runs.progress import Progress
from serendip.study.resonance.config import ResonantConfig
from serendip.study.resonance.table import (
    COUNTS,
    FEATURES,
    Flattening,
    one_per_group,
    resonant_table,
    unweight,
)
from serendip.theories.mixture import MixtureClassifier
from serendip.theories.training_sample import TheorySample

__all__ = ["TABLE", "fold_part", "pseudo_data"]

TABLE = "events.parquet"
_CORRELATED = 2000
_FEWEST_SIGNAL = 100


def fold_part(sample: TheorySample, low: float, high: float) -> NDArray[np.int64]:
    """Rows of the events whose number (:func:`~serendip.theories.split.hash_fold`) is in ``[low, high)``."""
    assert sample.fold is not None
    return np.flatnonzero((sample.fold >= low) & (sample.fold < high))


def pseudo_data(
    background: TheorySample,
    resonance: TheorySample,
    model: MixtureClassifier,
    out: Path,
    config: ResonantConfig,
    features: Sequence[str],
    progress: Progress,
) -> tuple[dict[str, Any], Window, tuple[float, float]]:
    """Write the table of the search: pseudo-data, and all of the signal.

    Parameters
    ----------
    background, resonance
        Encoded events; the background with weights, groups and numbers.
    model
        The mixture, trained on background with numbers from ``data_fraction + flatten_fraction`` on.
    out
        Folder of ``events.parquet``.
    config, features
        Options, and names of the columns of ``x``.
    progress
        Receives progress messages.

    Returns
    -------
    facts, window, range
        JSON-able facts about the table, the signal region and the range of masses (GeV).

    Raises
    ------
    InputError
        If there are too few events of signal, of background, or to flatten the score.
    """
    progress.start("making the pseudo-data", 1)
    assert background.weight is not None
    assert background.group is not None
    rng = np.random.default_rng([config.seed, 0x5E5])
    options: dict[str, Any] = {"mass": config.mass, "max_delta_eta": config.max_delta_eta}

    signal, rows = resonant_table(resonance.x, features, **options)
    signal["mot_score"] = model.score(resonance.x[rows])
    one, _ = one_per_group(
        rows if resonance.group is None else resonance.group[rows], np.ones(len(rows)), rng
    )
    signal = {name: values[one] for name, values in signal.items()}
    if len(one) < _FEWEST_SIGNAL:
        raise InputError(
            f"'{resonance.name}' has {len(one)} events with two jets in |delta eta| < {config.max_delta_eta:g}; at least "
            f"{_FEWEST_SIGNAL} are needed"
        )
    window = Window(*config.window) if config.window else _window(signal["mass"], config.window_share)
    bounds = config.range or (0.8 * window.low, 2.0 * window.high)
    mass_range = (float(f"{bounds[0]:.4g}"), float(f"{bounds[1]:.4g}"))

    def part(low: float, high: float) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.int64]]:
        rows = fold_part(background, low, high)
        columns, kept = resonant_table(background.x[rows], features, **options)
        inside = (columns["mass"] >= mass_range[0]) & (columns["mass"] < mass_range[1])
        rows = rows[kept[inside]]
        columns = {name: values[inside] for name, values in columns.items()}
        columns["mot_score"] = model.score(background.x[rows]) if len(rows) else np.zeros(0)
        assert background.weight is not None
        assert background.group is not None
        return columns, background.weight[rows] / (high - low), background.group[rows]

    columns, weight, group = part(0.0, config.data_fraction)
    if not weight.sum() > 0:
        raise InputError(f"no background event has a mass in {mass_range[0]:g}-{mass_range[1]:g} GeV")
    kept, sums = one_per_group(group, weight, rng)
    taken = unweight(sums, rng, max_overweight=config.max_overweight)
    if taken.effective < config.min_events:
        raise InputError(
            f"accept-reject leaves {len(taken.rows)} events ({taken.effective:.0f} effective) of {len(kept)} simulated ones with masses in "
            f"{mass_range[0]:g}-{mass_range[1]:g} GeV; at least {config.min_events} are needed: simulate more of the samples with large "
            "weights, raise the lower edge of the range above them, or raise max_overweight"
        )
    data = {name: values[kept[taken.rows]] for name, values in columns.items()}
    other, other_weight, other_group = part(
        config.data_fraction, config.data_fraction + config.flatten_fraction
    )
    other_kept, other_sums = one_per_group(other_group, other_weight, rng)
    other = {name: values[other_kept] for name, values in other.items()}
    # a constant column is not a feature, and cannot be decorrelated
    constant = [
        name
        for name in (*FEATURES, "mot_score")
        if len(np.unique(np.concatenate([sample[name] for sample in (other, data, signal)]))) < 2
    ]
    if "mot_score" in constant:
        raise InputError(
            "the classifier gives all events the same score; give more events or theories to train on"
        )
    flattened, effective = _flatten(other, other_sums, [data, signal], constant, config, rng)
    inside = (signal["mass"] >= mass_range[0]) & (signal["mass"] < mass_range[1])
    signal = {name: values[inside] for name, values in signal.items()}

    n, n_signal = len(taken.rows), int(np.count_nonzero(inside))
    table = {name: np.concatenate([data[name], signal[name]]) for name in data}
    table["signal"] = np.repeat([0, 1], [n, n_signal])
    table["weight"] = np.concatenate([taken.weight, np.ones(n_signal)])
    # row numbers must not carry information
    order = rng.permutation(n + n_signal)
    table = {name: values[order] for name, values in table.items()}
    about = {"mass": config.mass, "without the mass": flattened}
    varying = tuple(name for name in (*FEATURES, "mot_score", "mot_flat") if name not in constant)
    events = Events(table, mass="mass", features=varying, weight="weight", label="signal", provenance=about)
    if not (out / TABLE).exists():
        write(events, out / TABLE)
    in_window, near = window.contains(data["mass"]), window.contains(signal["mass"])
    record = {
        "simulated": len(weight),
        "groups": len(kept),
        **taken.to_dict(),
        "luminosity_fb": 10.0 / taken.reference,
        "scale": float((taken.weight**2).sum() / taken.weight.sum()),
        "background_in_window": int(np.count_nonzero(in_window)),
        "background_in_window_weight2": float((taken.weight[in_window] ** 2).sum()),
        "signal": n_signal,
        "signal_in_window": int(np.count_nonzero(near)),
        "flattened_with": effective,
        "constant": constant,
        "score": {
            "training_auc": model.validation_auc,
            "rounds": model.rounds,
            "largest_step": _largest_step(data["mot_score"]),
            **{
                name: _score_facts(
                    data, signal, taken.weight, window, name, np.random.default_rng([config.seed, 0xDC])
                )
                for name in ("mot_score", "mot_flat", *FEATURES)
            },
        },
    }
    progress.advance(f"{n} events")
    return record, window, mass_range


def _flatten(
    other: Mapping[str, NDArray[Any]],
    weight: NDArray[np.float64],
    samples: Sequence[dict[str, Any]],
    constant: Sequence[str],
    config: ResonantConfig,
    rng: np.random.Generator,
) -> tuple[list[str], float]:
    """Take the mass out of the score, as a new column, and out of the features; returns their names, and the events it took."""
    flattened, effective = [], 0.0
    features = [name for name in FEATURES if config.flatten_features and name not in constant]
    for name in (*features, "mot_score"):
        width = config.smear * float(np.std(other[name]))

        def smooth(values: NDArray[Any], name: str = name, width: float = width) -> NDArray[Any]:
            if name in COUNTS:
                return np.asarray(values + rng.uniform(-0.5, 0.5, len(values)))
            return np.asarray(values + rng.normal(0.0, width, len(values))) if name == "mot_score" else values

        flat = Flattening.fit(smooth(other[name]), other["mass"], weight)
        new = "mot_flat" if name == "mot_score" else name
        for sample in samples:
            sample[new] = flat(smooth(sample[name]), sample["mass"])
        flattened.append(new)
        effective = flat.effective
    return flattened, effective


def _window(mass: NDArray[np.float64], share: float) -> Window:
    """Shortest interval with a share of the signal, edges rounded to 10 GeV."""
    ordered = np.sort(mass)
    n = min(max(2, round(share * len(ordered))), len(ordered))
    start = int(np.argmin(ordered[n - 1 :] - ordered[: len(ordered) - n + 1]))
    low, high = 10 * np.floor(ordered[start] / 10), 10 * np.ceil(ordered[start + n - 1] / 10)
    return Window(float(low), float(high) if high > low else float(low + 10))


def _largest_step(score: NDArray[np.float64]) -> float:
    """Fraction of events with the commonest score."""
    return float(np.unique(score, return_counts=True)[1].max() / len(score))


def _score_facts(
    data: Mapping[str, NDArray[Any]],
    signal: Mapping[str, NDArray[Any]],
    weight: NDArray[np.float64],
    window: Window,
    name: str,
    rng: np.random.Generator,
) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    inside, near = window.contains(data["mass"]), window.contains(signal["mass"])
    auc = roc_auc_score(
        np.repeat([0, 1], [int(inside.sum()), int(near.sum())]),
        np.concatenate([data[name][inside], signal[name][near]]),
        sample_weight=np.concatenate([weight[inside], np.ones(int(near.sum()))]),
    )
    drawn = rng.choice(len(weight), min(_CORRELATED, len(weight)), replace=False, p=weight / weight.sum())
    correlation, limit = distance_correlation(data[name][drawn], data["mass"][drawn])
    return {"auc_in_window": float(auc), "distance_correlation": correlation, "correlation_limit": limit}
