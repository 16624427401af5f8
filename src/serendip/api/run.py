"""A finished search as an object: its looks, tables, figures, histograms and exports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serendip.errors import InputError

if TYPE_CHECKING:
    import hist
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

    from serendip.report.load import Run as Content  # isort: skip
    from serendip.search.diagnostic_records import Spectrum  # isort: skip
    from serendip.search.results import Look, Results  # isort: skip

__all__ = ["Run", "open_run"]

_NUMBERS = ("observed", "expected", "expected_error", "p_local", "z_local")


@dataclass(frozen=True)
class Run:
    """The run directory of a finished search.

    Nothing that is blinded is shown: observed counts, p-values and scores are None or missing until the run is unblinded.

    Attributes
    ----------
    path
        The folder.

    Examples
    --------
    >>> run = serendip.open_run("run")
    >>> f"{run.looks[0].expected:.0f} events expected, {run.looks[0].observed:.0f} observed"
    '138 events expected, 189 observed'
    >>> run.hist(selected=False).axes[0].label
    'mjj [GeV]'
    """

    path: Path

    @cached_property
    def content(self) -> Content:
        """All files of the run as typed records."""
        from serendip.report.load import read_run

        return read_run(self.path)

    @property
    def results(self) -> Results:
        """``results.json``: looks, global p-value (``overall``), excesses outside the windows."""
        return self.content.results

    @property
    def looks(self) -> tuple[Look, ...]:
        """The tests, one for each method, window and selection; masses in :attr:`unit`."""
        return self.results.looks

    @property
    def unit(self) -> str:
        """Unit of all masses."""
        return self.content.diagnostics.unit

    def table(self) -> pd.DataFrame:
        """One row for each look, as a pandas data frame.

        Columns: ``method``, ``window_low`` and ``window_high`` in :attr:`unit`, ``working_point`` (background efficiency, missing without a
        cut), ``cross_check``, ``observed`` and ``expected`` counts with ``expected_error``, ``p_local`` and ``z_local``. Blinded values are NaN.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        table = self.arrow()
        try:
            return table.to_pandas()
        except ImportError:
            raise InputError(
                "a data frame needs pandas (pip install pandas); without it, .arrow() gives the same as an Arrow table"
            ) from None

    def arrow(self) -> pa.Table:
        """The same as :meth:`table`, as an Arrow table with nulls for blinded values."""
        import pyarrow as pa

        looks = self.looks
        numbers = {name: pa.array([getattr(x, name) for x in looks], pa.float64()) for name in _NUMBERS}
        return pa.table(
            {
                "method": [x.method for x in looks],
                "window_low": [x.window[0] for x in looks],
                "window_high": [x.window[1] for x in looks],
                "working_point": pa.array([x.working_point for x in looks], pa.float64()),
                "cross_check": [x.cross_check for x in looks],
                **numbers,
            }
        )

    def scores(self) -> pa.Table:
        """Score of every event by each method and window, as an Arrow table (``.to_pandas()`` makes a data frame of it).

        Raises
        ------
        InputError
            If the run has no scores.
        """
        import pyarrow.parquet as pq

        path = self.path / "scores.parquet"
        if not path.is_file():
            raise InputError(
                f"{self.path}: contains no scores.parquet; repeat the search command to write it again"
            )
        return pq.read_table(path)

    def figure(
        self,
        kind: Literal["spectrum", "scan", "scores"] = "spectrum",
        look: int | None = None,
        *,
        selected: bool = True,
        label: str | None = None,
    ) -> Figure:
        """Draw a figure of the report (matplotlib, mplhep style).

        Parameters
        ----------
        kind
            ``"spectrum"`` of a look, ``"scan"``: local p-values of all windows, ``"scores"``: their distributions for the method and window of a look.
        look
            Index in :attr:`looks`; default: the most significant one, while blinded the first.
        selected
            For a spectrum: of the events as the look counts them; False: of all events in its range.
        label
            Experiment and status above the axes, such as ``"ATLAS Internal"`` or ``"CMS Simulation Preliminary"``; the first word is set in
            bold. Default: none.

        Raises
        ------
        InputError
            If the run has no such figure.

        Examples
        --------
        >>> figure = serendip.open_run("run").figure("spectrum", label="ATLAS Internal")
        >>> figure.savefig("spectrum.pdf")
        """
        from serendip.report import figures

        drawn = self._draw(kind, look, selected)
        if label:
            figures.experiment_label(drawn, label)
        return drawn

    def _draw(self, kind: str, look: int | None, selected: bool) -> Figure:
        from serendip.report import figures

        pictures = self.content.diagnostics
        if kind == "spectrum":
            return figures.spectrum(self._spectrum(look, selected), pictures.mass_name, pictures.unit)
        if kind == "scan":
            if self.results.best is None or len(self.results.windows) < 2:
                raise InputError(f"{self.path}: a scan needs several windows of an unblinded run")
            return figures.p_value_scan(self.results, pictures.unit)
        if kind != "scores":
            raise InputError(f"there is no figure '{kind}'; expected spectrum, scan or scores")
        wanted = self.looks[self._place(look)]
        for record in pictures.scores:
            if (record.method, record.window) == (
                wanted.method,
                wanted.window,
            ) and record.sideband is not None:
                return figures.score_distribution(record)
        raise InputError(f"{self.path}: method '{wanted.method}' has no scores in {wanted.window}")

    def hist(self, look: int | None = None, *, selected: bool = True) -> hist.Hist[Any]:
        """Mass spectrum of a look as a histogram with variances; bins that are blinded are NaN.

        Parameters
        ----------
        look, selected
            As for :meth:`figure`.
        """
        import hist

        record = self._spectrum(look, selected)
        values = np.array(record.observed, dtype=float)
        name, unit = self.content.diagnostics.mass_name, self.unit
        axis = hist.axis.Variable(record.edges, name="mass", label=f"{name} [{unit}]", flow=False)
        found: hist.Hist[Any] = hist.Hist(axis, storage=hist.storage.Weight())
        variances = values if record.variance is None else np.array(record.variance, dtype=float)
        found[...] = np.stack([values, variances], axis=-1)
        return found

    def report(self) -> Path:
        """Draw ``report.html`` again; returns its path."""
        from serendip.report import write_report

        return write_report(self.path)

    def export(self, kind: str, out: Path | str, **options: Any) -> Any:
        """Write the run in another format: ``pyhf``, ``combine``, ``hepdata``, ``root``, ``bundle``, ``onnx`` or that of another package.

        Parameters
        ----------
        kind
            The format.
        out
            Folder or file.
        **options
            Those of the function that :data:`serendip.report.exports.registry.EXPORTS` names.

        Raises
        ------
        InputError
            If the format is not known, or cannot represent the run faithfully.
        """
        from serendip.report.exports.registry import EXPORTS

        return EXPORTS[kind](self.path, Path(out), **options)

    def __str__(self) -> str:
        from serendip.report.words import headline, verdict

        return f"{headline(self.results)} {verdict(self.results)}"

    def _repr_html_(self) -> str:
        page = escape(str(self.path / "report.html"))
        return f'<p>{escape(str(self))}</p><p><a href="{page}">{page}</a></p>'

    def _place(self, look: int | None) -> int:
        if look is None:
            best = self.results.best
            return 0 if best is None else self.looks.index(best)
        if not 0 <= look < len(self.looks):
            raise InputError(f"{self.path}: there is no look {look}; it has {len(self.looks)}, from 0 on")
        return look

    def _spectrum(self, look: int | None, selected: bool) -> Spectrum:
        place = self._place(look)
        for record in self.content.diagnostics.spectra:
            if selected and record.look == place:
                return record
            if not selected and record.look is None and record.window == self.looks[place].window:
                return record
        raise InputError(f"{self.path}: look {place} has no such spectrum")


def open_run(path: Path | str) -> Run:
    """Open the run directory of a finished search.

    Raises
    ------
    InputError
        If the folder is not a finished run, or a file in it is damaged.

    Examples
    --------
    >>> run = serendip.open_run("run")
    >>> run.table()[["method", "window_low", "window_high"]]
          method  window_low  window_high
    0  bump-hunt      3300.0       3700.0
    """
    run = Run(Path(path))
    run.content  # noqa: B018 - damaged files are named here and not at first use
    return run
