"""Medians and ranges over the repeats of a comparison, and the signal that they show at 5 sigma."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["five_sigma", "summary"]

_CLAIM = 5.0


def summary(entries: Sequence[Mapping[str, Any]], references: Collection[str] = ()) -> list[dict[str, Any]]:
    """Median, smallest and largest value over the repeats of each method and injection.

    Names of quantities: ``max_sic``, ``sigma_min``, ``regret`` (``sigma_min`` over the smallest one of all methods but the
    ``references`` on the same events), ``z_weighted``, ``auc``, ``closure_auc``, ``truth_auc``, ``distance_correlation``, ``own_s``,
    ``background_s``, ``cpu_s``, ``peak_memory_gib``, and at each working point ``sic@0.01``, ``z@0.01``, ``chi2_ndf@0.01``.
    Z is 0 if there is no excess.
    """
    best: dict[tuple[int, int], float] = {}
    for entry in entries:
        if entry["sigma_min"] and entry["method"] not in references:
            cell = entry["injection"], entry["repeat"]
            best[cell] = min(best.get(cell, np.inf), entry["sigma_min"]["s_over_sqrt_b"])
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
            "values": _spread([_quantities(entry, best) for entry in found]),
        }
        for (method, injection), found in rows.items()
    ]


def five_sigma(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many signal events in the window half of the injections show with 5 sigma, for each method and kind of look.

    Between the largest injection whose median Z is below 5 and the next one, straight in the number of events.

    Parameters
    ----------
    rows
        As :func:`summary` returns them.

    Returns
    -------
    With ``method``, ``quantity`` (``z_weighted`` or ``z@0.01``), ``signal``, ``s_over_sqrt_b``, and ``bound``: ``"above"`` or
    ``"below"`` if 5 sigma lie beyond the injections, of which ``signal`` then is the last one, else None.
    """
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["injection"])
        for name in dict.fromkeys(name for row in own for name in row["values"] if name.startswith("z")):
            points = [
                (row["injection"], row["s_over_sqrt_b"], row["values"][name]["median"])
                for row in own
                if name in row["values"]
            ]
            n, strength, z = (np.array(column, dtype=float) for column in zip(*points, strict=True))
            if not n[-1]:
                continue
            missed = np.flatnonzero(z < _CLAIM)
            last = int(missed[-1]) if len(missed) else -1
            if last < 0:
                signal, bound = float(n[0]), "below"
            elif last == len(n) - 1:
                signal, bound = float(n[-1]), "above"
            else:
                share = (_CLAIM - z[last]) / (z[last + 1] - z[last])
                signal, bound = float(n[last] + share * (n[last + 1] - n[last])), None
            found.append(
                {
                    "method": method,
                    "quantity": name,
                    "signal": signal,
                    "s_over_sqrt_b": float(signal * strength[-1] / n[-1]),
                    "bound": bound,
                }
            )
    return found


def _quantities(entry: Mapping[str, Any], best: Mapping[tuple[int, int], float]) -> dict[str, float | None]:
    template, cost = entry["template"], entry["cost"]
    strength = entry["sigma_min"] and entry["sigma_min"]["s_over_sqrt_b"]
    least = best.get((entry["injection"], entry["repeat"]))
    found = {
        "max_sic": entry["max_sic"] and entry["max_sic"]["sic"],
        "sigma_min": strength,
        "regret": strength / least if strength and least else None,
        "auc": entry["auc"],
        "closure_auc": template["closure_auc"],
        "truth_auc": template["truth_auc"],
        "distance_correlation": entry["distance_correlation"],
        **{name: cost[name] for name in ("own_s", "background_s", "cpu_s", "peak_memory_gib")},
    }
    found |= {f"sic@{point['working_point']:g}": point["sic"] for point in entry["sic_at"]}
    for look in entry["looks"]:
        shape = look["mass_shape"]
        # a combination that multiplies p by the folds stops at p = 1, which is not a deficit of many sigma
        z = None if look["p_local"] is None else max(look["z_local"] or 0.0, 0.0)
        if look["working_point"] is None:
            found["z_weighted"] = z
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
