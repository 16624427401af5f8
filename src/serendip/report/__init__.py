"""Figures and the HTML report, drawn from the files of a run directory only."""

from serendip.report.html import write_report
from serendip.report.load import Run, read_run

__all__ = ["Run", "read_run", "write_report"]
