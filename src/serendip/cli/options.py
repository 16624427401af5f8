"""Flags that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson", "AsJsonInGev", "CollisionEnergy", "Drawing", "File", "Group", "Jobs", "JoinedTree", "Masks", "OutFolder", "Preset", "RunFolder",
    "SeedOfToys", "SetOption", "SpectrumMass", "Table", "Threads", "Tree", "Weight", "Where",
]  # fmt: skip

_TABLE = "Parquet, Arrow, CSV, HDF5, NumPy or ROOT; several files, a folder or a quoted pattern are one table"
Table = Annotated[list[Path], typer.Argument(help=f"Event table: {_TABLE}.", metavar="FILE...")]
File = Annotated[
    list[Path],
    typer.Argument(help=f"Event table ({_TABLE}), or a YAML file with all settings.", metavar="FILE..."),
]
Where = Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")]
Weight = Annotated[str | None, typer.Option(help="Column with event weights.")]
Group = Annotated[
    str | None,
    typer.Option(
        help="COL[,COL...]: events that are equal in these columns depend on each other (copies, candidates of one event). "
        "Or: duplicates, for exact copies; none, to take all events as independent whatever they look like."
    ),
]
Tree = Annotated[str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5).")]
Preset = Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        help="Known resonance LO:HI that the fits leave out; may be repeated, or a list with commas.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of a method, METHOD.OPTION=VALUE; may be repeated."),
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder: new, or one to continue.")]
RunFolder = Annotated[Path, typer.Option("--out", help="Run directory: new, or one to continue.")]
SpectrumMass = Annotated[str | None, typer.Option(help="Mass: a column or an expression of columns.")]
JoinedTree = Annotated[str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5); A+B joins two.")]
CollisionEnergy = Annotated[
    float, typer.Option("--sqrt-s", help="Collision energy in TeV (dijet functions).")
]
SeedOfToys = Annotated[int, typer.Option(help="Seed of the toys.")]
Drawing = Annotated[Path | None, typer.Option(help="Draw spectrum and fit to this file (PNG, PDF or SVG).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
AsJsonInGev = Annotated[bool, typer.Option("--json", help="Print everything as JSON, masses in GeV.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of a training; default: all cores.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one for each core.")]
