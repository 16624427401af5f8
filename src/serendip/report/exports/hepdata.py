"""A HEPData submission: every look, the scan, the global p-value, the spectra, and the events of the best look."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from serendip.errors import InputError
from serendip.report.counting import poisson_errors
from serendip.report.exports.target import export_folder
from serendip.report.load import Run, read_run
from serendip.search.diagnostic_records import Selected, Spectrum
from serendip.search.results import Look
from serendip.wording import counted

__all__ = ["export_hepdata"]

_RESULTS = "results.json"


@dataclass(frozen=True)
class _Table:
    name: str
    description: str
    independent: list[dict[str, Any]]
    dependent: list[dict[str, Any]]


def export_hepdata(run: Path | str, out: Path | str) -> list[str]:
    """Write a submission in the format of HEPData (``submission.yaml``, one YAML file for each table).

    Parameters
    ----------
    run, out
        The run directory, and a folder that is new or empty, or a name that ends in ``.zip`` (what HEPData takes).

    Returns
    -------
    Names of the tables.

    Raises
    ------
    InputError
        If the run is blinded or damaged, or ``out`` cannot be used.
    """
    content = read_run(Path(run))
    if content.results.blinded:
        raise InputError(
            f"{run}: is blinded, and a submission publishes observed counts; unblind it first (serendip search … --unblind)"
        )
    tables = [_looks(content), *_orders(content), *_global(content), *_scans(content)]
    tables += [*_spectra(content), *_selected(content)]
    with export_folder(Path(out)) as folder:
        documents: list[dict[str, Any]] = [_cover(content)]
        for i, table in enumerate(tables, start=1):
            file = f"table{i}.yaml"
            documents.append(
                {
                    "name": table.name,
                    "location": "Data from a serendip search",
                    "description": table.description,
                    "keywords": _keywords(),
                    "data_file": file,
                }
            )
            data = {"independent_variables": table.independent, "dependent_variables": table.dependent}
            (folder / file).write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
        (folder / "submission.yaml").write_text(text, encoding="utf-8")
        shutil.copyfile(content.path / _RESULTS, folder / _RESULTS)
    return [table.name for table in tables]


def _cover(run: Run) -> dict[str, Any]:
    overall = run.results.overall
    said = "" if overall is None else f" The global p-value is {overall.p:.3g} ({overall.trials})."
    return {
        "comment": f"Model-agnostic search for a resonance in {run.diagnostics.mass_name} with the methods "
        f"{', '.join(run.results.methods)}: {counted(run.results.n_looks, 'look')}.{said} Made with serendip "
        f"{run.manifest.serendip}.",
        "additional_resources": [
            {
                "location": _RESULTS,
                "description": "All numbers of the search in the format of serendip (schema 1)",
            }
        ],
    }


def _keywords() -> list[dict[str, Any]]:
    """Keywords valid for any search; beams and energy are not known to a run and are added by the submitter."""
    return [
        {"name": "observables", "values": ["N"]},
        {"name": "phrases", "values": ["anomaly detection", "model-agnostic search", "bump hunt"]},
    ]


def _number(value: float) -> float:
    """Seven digits: more than any error of a fit or a toy deserves."""
    return float(f"{value:.7g}")


def _exact(value: float) -> float | int:
    """All digits, for counts, which are whole, and for edges, which must stay apart."""
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _column(name: str, values: Sequence[Any], units: str | None = None) -> dict[str, Any]:
    header = {"name": name} if units is None else {"name": name, "units": units}
    return {
        "header": header,
        "values": [value if isinstance(value, dict) else {"value": value} for value in values],
    }


def _bins(name: str, edges: Sequence[tuple[float, float]], units: str | None = None) -> dict[str, Any]:
    return _column(name, [{"low": _exact(low), "high": _exact(high)} for low, high in edges], units)


def _value(
    value: float | None, *errors: tuple[str, float | None, float | None], rounded: bool = True
) -> dict[str, Any]:
    """A number with errors (label, below, above); a dash where there is none."""
    if value is None or not np.isfinite(value):
        return {"value": "-"}
    entry: dict[str, Any] = {"value": _number(value) if rounded else _exact(value)}
    known: list[dict[str, Any]] = []
    for label, below, above in errors:
        if below is None or above is None or not (below > 0 or above > 0):
            continue
        if below == above:
            known.append({"symerror": _number(above), "label": label})
        else:
            known.append(
                {"asymerror": {"minus": 0.0 - _number(below), "plus": _number(above)}, "label": label}
            )
    return entry | ({"errors": known} if known else {})


def _described(look: Look) -> list[dict[str, Any]]:
    qualifiers: list[dict[str, Any]] = [{"name": "method", "value": look.method}]
    if look.working_point is not None:
        qualifiers.append({"name": "background efficiency", "value": look.working_point})
    if look.weighted:
        qualifiers.append({"name": "selection", "value": "weights from the ranks of the scores"})
    return qualifiers


def _looks(run: Run) -> _Table:
    looks, unit = run.results.looks, run.diagnostics.unit
    weights = (
        " Weighted looks have no cut: each event counts with a weight from the rank of its score, observed and expected are sums of weights "
        "(means over the orders of the folds), and p is the Cauchy combination of the orders. Cross-checks do not enter the global p-value."
        if any(look.weighted for look in looks)
        else ""
    )
    return _Table(
        "Looks",
        "Observed and expected events in each window after the cut on the anomaly score. The error of the expectation is that "
        f"of the background fits. The local p-value is one-sided and has no trials factor.{weights}",
        [
            _column("look", list(range(len(looks)))),
            _column("method", [look.method for look in looks]),
            _bins("window", [look.window for look in looks], unit),
            _column(
                "background efficiency", ["-" if x.working_point is None else x.working_point for x in looks]
            ),
            _column(
                "selection",
                ["weighted" if x.weighted else "no cut" if x.working_point == 1 else "cut" for x in looks],
            ),
            _column("role", ["cross-check" if x.cross_check else "result" for x in looks]),
        ],
        [
            _column("observed events", [_value(look.observed, rounded=False) for look in looks]),
            _column(
                "expected background events",
                [
                    _value(None if x.dead else x.expected, ("fit", x.expected_error, x.expected_error))
                    for x in looks
                ],
            ),
            _column("local p-value", [_value(look.p_local) for look in looks]),
            _column("local significance", [_value(look.z_local) for look in looks]),
            _column(
                "note", [f"cannot find anything: {x.dead}" if x.dead else x.warning or "-" for x in looks]
            ),
        ],
    )


def _orders(run: Run) -> list[_Table]:
    """The single orders of the folds of each weighted look."""
    tables = []
    for index, look in enumerate(run.results.looks):
        if not look.orders:
            continue
        columns = [
            _column("observed sum of weights", [_value(x.observed, rounded=False) for x in look.orders]),
            _column(
                "expected sum of weights",
                [_value(x.expected, ("fit", x.expected_error, x.expected_error)) for x in look.orders],
            ),
            _column("local p-value", [_value(x.p_local) for x in look.orders]),
            _column("local significance", [_value(x.z_local) for x in look.orders]),
        ]
        for column in columns:
            column["qualifiers"] = _described(look)
        tables.append(
            _Table(
                _short(f"Orders of the folds of look {index}, {look.method}", None),
                "The same weighted look in single orders of the folds, fixed before the training. They share their events; the p-value of the look is the "
                "Cauchy combination of theirs.",
                [_column("order", list(range(1, len(look.orders) + 1)))],
                columns,
            )
        )
    return tables


def _global(run: Run) -> list[_Table]:
    overall = run.results.overall
    if overall is None:
        return []
    low, high = overall.p_interval_68 or (overall.p, overall.p)
    error = ("68% interval of the toys", max(overall.p - low, 0.0), max(high - overall.p, 0.0))
    return [
        _Table(
            "Global p-value",
            f"p-value of the most significant look among all ({overall.trials}); with no toy as extreme as the data it is an "
            "upper bound.",
            [_column("number of looks", [run.results.n_looks])],
            [
                _column("global p-value", [_value(overall.p, error)]),
                _column("global significance", [_value(overall.z)]),
                _column("Bonferroni bound", [_value(overall.bonferroni)]),
            ],
        )
    ]


def _scans(run: Run) -> list[_Table]:
    results, tables = run.results, []
    if len(results.windows) < 2:
        return []
    for method, point in dict.fromkeys((look.method, look.working_point) for look in results.looks):
        looks = [x for x in results.looks if (x.method, x.working_point) == (method, point)]
        columns = [
            _column("local p-value", [_value(look.p_local) for look in looks]),
            _column("local significance", [_value(look.z_local) for look in looks]),
        ]
        for column in columns:
            column["qualifiers"] = _described(looks[0])
        check = " A cross-check, which does not enter the global p-value." if looks[0].cross_check else ""
        tables.append(
            _Table(
                _short(f"p-value scan, {method}", point),
                f"Local p-value against the window.{check}",
                [_bins("window", [look.window for look in looks], run.diagnostics.unit)],
                columns,
            )
        )
    return tables


def _short(text: str, point: float | None) -> str:
    """Name of a table, at most 64 characters."""
    end = "" if point is None else f", eps {point:g}"
    return text[: 64 - len(end)] + end


def _spectra(run: Run) -> list[_Table]:
    return [_spectrum(run, record) for record in run.diagnostics.spectra]


def _spectrum(run: Run, record: Spectrum) -> _Table:
    low, high = record.window
    if record.look is None:
        name = f"Spectrum of all events, {low:.7g}-{high:.7g} {run.diagnostics.unit}"
        qualifiers = []
    else:
        look = run.results.looks[record.look]
        name = f"Spectrum of look {record.look}, {record.method}"
        qualifiers = _described(look)
    weighted = "" if record.scale == 1 else f" of the sums of weights in units of {record.scale:.4g}"
    if record.look is not None and look.orders:
        weighted += " (counts are means over the orders of the folds, errors those of one order)"
    what = "Sum of weights" if record.weighted else "Events"
    function = "" if record.fit is None else f" ({record.fit.name})"
    counts = []
    for n in record.observed:
        below, above = (None, None) if n is None else (float(v[0]) for v in poisson_errors([n], record.scale))
        counts.append(_value(n, ("stat", below, above), rounded=False))
    expected = [
        _value(b, ("fit", error, error))
        for b, error in zip(record.expected, record.expected_error, strict=True)
    ]
    names = (
        ("observed sum of weights", "expected sum of weights")
        if record.weighted
        else ("observed events", "expected background events")
    )
    columns = [_column(names[0], counts), _column(names[1], expected)]
    if record.variance is not None:
        columns.append(_column("sum of squared weights", [_value(v) for v in record.variance]))
    for column in columns:
        column["qualifiers"] = [
            *qualifiers,
            {"name": "window", "value": f"{low:.7g}-{high:.7g}", "units": run.diagnostics.unit},
        ]
    return _Table(
        _short(name, None),
        f"{what} per bin of {run.diagnostics.mass_name} and the background fit{function}, which excludes the window. Errors of "
        f"the data are central 68.3% Poisson intervals{weighted}; those of the fit are correlated between bins.",
        [
            _bins(
                run.diagnostics.mass_name,
                list(zip(record.edges, record.edges[1:], strict=False)),
                run.diagnostics.unit,
            )
        ],
        columns,
    )


def _which(record: Selected) -> str:
    if record.working_point is None:
        return f"the {counted(record.n, 'event')} in the window with non-zero weights ({record.effective or record.n:.3g} effective events)"
    return f"the {counted(record.n, 'event that passes', 'events that pass')} the cut"


def _selected(run: Run) -> list[_Table]:
    """Features of the events of the most significant look."""
    best, tables = run.results.best, []
    for record in run.diagnostics.selected:
        if record.look is None or run.results.looks[record.look] is not best:
            continue
        for feature in record.features:
            if feature.selected is None:
                continue
            columns = [_column("fraction of selected events", [_value(v) for v in feature.selected])]
            if feature.template is not None:
                columns.append(
                    _column("fraction of the background template", [_value(v) for v in feature.template])
                )
            for column in columns:
                column["qualifiers"] = _described(best)
            units = run.diagnostics.unit if feature.name == run.diagnostics.mass_name else None
            tables.append(
                _Table(
                    _short(f"Selected events of look {record.look}: {feature.name}", None),
                    f"Distribution of {feature.name} for {_which(record)}; events beyond the outer bins are counted in them.",
                    [_bins(feature.name, list(zip(feature.edges, feature.edges[1:], strict=False)), units)],
                    columns,
                )
            )
    return tables
