"""Scoring a new table with the models of a finished run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.formats import Source, shown
from serendip.events.read import read
from serendip.io.files import atomic_write
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.search.models import events_in_windows, run_config, stored_models

__all__ = ["ScoreSummary", "score_file"]

log = logging.getLogger(__name__)

_BY_CHANCE = 0.01
"""Fraction of the events in the windows that may look like events of a blinded run, and get no score."""


@dataclass(frozen=True)
class ScoreSummary:
    """Counts of one model on a new table; without events of a blinded run.

    Attributes
    ----------
    method, window
        The model.
    n_events, n_in_window
        Events of the new table, and those in the window.
    n_selected
        Events in the window at or below each working point (background efficiency).
    n_outside
        Events with a feature outside the range of training.
    outside
        The same for each feature.
    """

    method: str
    window: Window
    n_events: int
    n_in_window: int
    n_selected: Mapping[float, int]
    n_outside: int
    outside: Mapping[str, int]


def score_file(
    run: Path | str,
    file: Source,
    out: Path | str,
    *,
    method: str | None = None,
    window: Window | None = None,
    tree: str | None = None,
    threads: int = 1,
) -> list[ScoreSummary]:
    """Score a new table with the models of a run and write one row for each event and model.

    As long as the run is blinded, its own events in its windows (same mass and features) are not scored: a table with
    some of them is refused, and if they are at most 1 % of its events in the windows, their scores are null.

    Parameters
    ----------
    run
        The run directory.
    file
        A table with the columns of the run; its label is not needed and not looked at.
    out
        Parquet file with ``id``, ``mass`` (GeV), ``method``, ``window_low``, ``window_high``, ``score`` and
        ``background_efficiency``.
    method, window
        Only the models of this method, or of this window.
    tree
        Tree (ROOT) or key (HDF5) of the new table, if it is not that of the run.

    Raises
    ------
    InputError
        If the run has no models, the table cannot be used, or it holds events of a run that is still blinded.
    """
    run, out = Path(run), Path(out)
    if out.suffix.lower() not in {".parquet", ".pq"}:
        raise InputError(f"--out {out}: scores are written as Parquet; give a name that ends in .parquet")
    config = run_config(run)
    models = stored_models(run, method=method, window=window, threads=threads)
    events = read(
        file,
        mass=config.mass,
        features=config.features,
        id=config.id,
        where=config.where,
        tree=tree or config.tree,
        unit=config.unit,
        preset=config.preset,
        for_training=False,
    ).without_label()
    hidden = _hidden(run, file, events, config.windows)
    ids = {name: pa.array(values) for name, values in events.id_columns.items()}
    schema = pa.schema(
        {
            **{name: values.type for name, values in ids.items()},
            "mass": pa.float64(),
            "method": pa.dictionary(pa.int8(), pa.string()),
            "window_low": pa.float64(),
            "window_high": pa.float64(),
            "score": pa.float64(),
            "background_efficiency": pa.float64(),
        }
    )
    n, summaries = len(events), []
    with atomic_write(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for model in models:
            score = model.score(events)
            efficiency = model.background_efficiency(score)
            columns = [
                *ids.values(),
                pa.array(events.m),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), [model.method.name]),
                pa.array(np.full(n, model.window.low)),
                pa.array(np.full(n, model.window.high)),
                pa.array(score, mask=hidden),
                pa.array(efficiency, mask=hidden),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            inside = model.window.contains(events.m) & ~hidden
            outside = model.outside_training(events) & ~hidden[:, None]
            points = get_method(model.method.name).working_points or config.working_points
            summaries.append(
                ScoreSummary(
                    method=model.method.name,
                    window=model.window,
                    n_events=n,
                    n_in_window=int(inside.sum()),
                    n_selected={p: int((inside & (efficiency <= p)).sum()) for p in points},
                    n_outside=int(outside.any(axis=1).sum()),
                    outside=dict(zip(model.features, outside.sum(axis=0).tolist(), strict=True)),
                )
            )
    return summaries


def _hidden(run: Path, file: Source, events: Events, windows: tuple[Window, ...]) -> NDArray[np.bool_]:
    """Events that must not be scored, shape ``(n,)``; no message gives the number, which could be the secret itself."""
    if RunDirectory(run).unblinded:
        return np.zeros(len(events), dtype=bool)
    hidden = events_in_windows(run, events)
    inside = np.zeros(len(events), dtype=bool)
    for window in windows:
        inside |= window.contains(events.m)
    if np.count_nonzero(hidden) > _BY_CHANCE * np.count_nonzero(inside):
        raise InputError(
            f"{shown(file)}: holds events of {run} in its windows, and that run is still blinded; unblind it first "
            "(serendip search … --unblind), its own scores are in scores.parquet"
        )
    if hidden.any():
        log.warning(
            "%s: some events in the windows have the mass and features of events of %s, which is still blinded; "
            "they get no score and are not counted",
            shown(file),
            run,
        )
    return hidden
