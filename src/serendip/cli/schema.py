"""``serendip schema FILE``."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Annotated

import typer

from serendip.errors import InputError

__all__ = ["KINDS", "schema"]

KINDS = {
    "compare": "serendip.search.compare.results:Comparison",
    "results": "serendip.search.results:Results",
    "diagnostics": "serendip.search.diagnostic_records:Diagnostics",
    "monitor": "serendip.search.monitor.results:Monitored",
}
"""Files of results that have a schema, and their models."""


def schema(
    name: Annotated[str, typer.Argument(help=f"{', '.join(KINDS)}.", metavar="FILE", show_default=False)],
) -> None:
    """Print the JSON schema of a file of results: `serendip schema results > results.schema.json`."""
    name = name.removesuffix(".json")
    if name not in KINDS:
        raise InputError(f"there is no schema of '{name}'; expected one of: {', '.join(KINDS)}")
    module, kind = KINDS[name].split(":")
    typer.echo(json.dumps(getattr(import_module(module), kind).json_schema(), indent=1))
