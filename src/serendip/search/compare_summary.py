"""Medians and ranges over the repeats of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["summary"]


def summary(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Median, smallest and largest value over the repeats of each method and injection.

    Names of quantities: ``max_sic``, ``auc``, ``closure_auc``, ``truth_auc``, ``distance_correlation``, ``own_s``,
    ``background_s``, ``cpu_s``, ``peak_memory_gib``, and at each working point ``sic@0.01``, ``z@0.01``, ``chi2_ndf@0.01``.
    Z is 0 where there is no excess.
    """
    rows: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for entry in entries:
        rows.setdefault((entry["method"], entry["injection"]), []).append(entry)
    return [
        {
            "method": method,
            "injection": injection,
            "repeats": len(found),
            "signal_in_window": found[0]["signal_in_window"],
            "s_over_sqrt_b": float(np.median([entry["s_over_sqrt_b"] for entry in found])),
            "values": _spread([_quantities(entry) for entry in found]),
        }
        for (method, injection), found in rows.items()
    ]


def _quantities(entry: Mapping[str, Any]) -> dict[str, float | None]:
    template, cost = entry["template"], entry["cost"]
    found = {
        "max_sic": entry["max_sic"] and entry["max_sic"]["sic"],
        "auc": entry["auc"],
        "closure_auc": template["closure_auc"],
        "truth_auc": template["truth_auc"],
        "distance_correlation": entry["distance_correlation"],
        **{name: cost[name] for name in ("own_s", "background_s", "cpu_s", "peak_memory_gib")},
    }
    found |= {f"sic@{point['working_point']:g}": point["sic"] for point in entry["sic_at"]}
    for look in entry["looks"]:
        shape = look["mass_shape"]
        # a combination that multiplies p by the folds stops at p = 1, which is no deficit of many sigma
        z = None if look["p_local"] is None else max(look["z_local"] or 0.0, 0.0)
        if look["working_point"] is None:
            found["z"] = z
            continue
        found[f"z@{look['working_point']:g}"] = z
        found[f"chi2_ndf@{look['working_point']:g}"] = shape and shape["chi2"] / shape["ndf"]
    return found


def _spread(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    spread = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [value for row in rows if (value := row.get(name)) is not None]
        if values:
            middle = float(np.median(values))
            spread[name] = {"median": middle, "min": min(values), "max": max(values), "n": len(values)}
    return spread
