"""Exports by name: functions ``export(run, out, *, option=default, ...)`` that write a finished run in another format."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from serendip.registry import Registry

__all__ = ["EXPORTS", "is_export"]


def is_export(found: Any) -> bool:
    """Whether something is a function of a run, a target and options as keywords."""
    try:
        names = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        return False
    return [p.name for p in names[:2]] == ["run", "out"] and all(p.kind is p.KEYWORD_ONLY for p in names[2:])


EXPORTS: Registry[Callable[..., Any]] = Registry(
    "export",
    {
        "pyhf": "serendip.report.exports:export_pyhf",
        "combine": "serendip.report.exports:export_combine",
        "hepdata": "serendip.report.exports:export_hepdata",
        "root": "serendip.report.exports:export_root",
        "bundle": "serendip.report.exports:export_bundle",
        "onnx": "serendip.search.onnx_export:export_run",
    },
    "a function (run, out, *, options)",
    is_export,
)
"""All exports by name. The keyword-only arguments of one from another package are flags of its command."""
