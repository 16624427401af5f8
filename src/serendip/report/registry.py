"""Pages by the file that they are drawn from: functions ``write(folder)`` that return the path of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serendip.registry import Registry
from serendip.report.html import write_report
from serendip.report.theories.page import is_study, write_study_page

__all__ = ["PAGES", "write_results_page"]


def write_results_page(folder: Path) -> Path:
    """Write the page of a study of theories or of a search, whose results have the same name."""
    return write_study_page(folder) if is_study(folder) else write_report(folder)


PAGES: Registry[Callable[[Path], Path]] = Registry(
    "page",
    {
        "results.json": write_results_page,
        "compare.json": "serendip.report.compare.page:write_comparison",
        "infer.json": "serendip.report.infer.page:write_infer_report",
        "monitor.json": "serendip.report.monitor:write_monitor_page",
        "validation.json": "serendip.report.validation.page:write_validation_page",
    },
    "a function of a folder",
    callable,
)
"""All pages. ``serendip report RUN`` draws those whose file is in ``RUN``."""
