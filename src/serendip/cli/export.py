"""``serendip export-onnx RUN``: the models of a finished search as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export_onnx"]


def export_onnx(
    run: Annotated[
        Path, typer.Argument(help="Run directory written by 'serendip search --out RUN'.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the ONNX files; new or empty.")],
    method: Annotated[
        str | None, typer.Option(help="Only the models of this method; default: all of the run.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Only the models of this window, LO:HI in the unit of the run.")
    ] = None,
) -> None:
    """Write the models of a finished search as ONNX files, to use them without this package.

    One folder for each method and window: classifier.onnx (features to score), for methods with a density also
    density.onnx and density-latent.onnx, and model.json with the names and ranges of the features and the window.
    """
    from serendip.cli.parsing import parse_window
    from serendip.search.models import run_config
    from serendip.search.onnx_export import export_run

    region = None if window is None else parse_window(window, run_config(run).unit)
    for folder, files in export_run(run, out, method=method, window=region).items():
        size = sum(path.stat().st_size for path in files) / 1e6
        typer.echo(f"{folder}: {', '.join(path.name for path in files)} ({size:.2f} MB)")
