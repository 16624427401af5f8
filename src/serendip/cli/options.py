"""Flags that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "BACKGROUND", "EVENTS", "SEARCH", "SIMULATION", "WINDOWS", "AsJson", "AsJsonInGev", "Background", "CollisionEnergy", "Drawing", "Features", "File", "Group", "Id",
    "Jobs", "JoinedTree", "Label", "Mask", "Masks", "Mass", "MassRange", "Method", "Preset", "RunFolder", "Scan", "Seed", "SeedOfToys", "SetOption",
    "SignalWidth", "Simulation", "SimulationWeight", "SimulationWhere", "SpectrumMass", "SqrtS", "Step", "Table", "Tree", "Unit", "Weight", "Where", "Width",
    "Window", "WorkingPoints", "with_flags",
]  # fmt: skip

_TABLE = "Parquet, Arrow, CSV, HDF5, NumPy or ROOT; several files, a folder or a quoted pattern are one table"
Table = Annotated[list[Path], typer.Argument(help=f"Event table: {_TABLE}.", metavar="FILE...")]
File = Annotated[
    list[Path],
    typer.Argument(help=f"Event table ({_TABLE}), or a YAML file with all settings.", metavar="FILE..."),
]
Mass = Annotated[str | None, typer.Option(help="Resonant mass: a column or an expression of columns.")]
Features = Annotated[str | None, typer.Option(help="Features: EXPR[,EXPR...].")]
Where = Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")]
Weight = Annotated[str | None, typer.Option(help="Column with event weights.")]
Label = Annotated[
    str | None, typer.Option(help="Column with the truth; only for references and the truth panel.")
]
Id = Annotated[
    str | None,
    typer.Option(
        help="Column with event ids, or several: COL[,COL...], e.g. run,lumi,event; default: the row number."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="COL[,COL...]: events that are equal in these columns depend on each other (copies, candidates of one event). "
        "Or: duplicates, for exact copies; none, to take all events as independent whatever they look like."
    ),
]
Tree = Annotated[str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5).")]
Preset = Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")]
Unit = Annotated[str | None, typer.Option(help="Unit of the mass column: GeV (default) or TeV.")]
Simulation = Annotated[
    str | None,
    typer.Option(help="Simulated background with the same columns, for methods that start from it."),
]
SimulationWeight = Annotated[
    str | None, typer.Option("--simulation-weight", help="Column with the weights of the simulation.")
]
SimulationWhere = Annotated[
    str | None,
    typer.Option("--simulation-where", help="Cut on the simulation; default: the one of --where."),
]
Window = Annotated[str | None, typer.Option(help="One signal region, LO:HI.")]
Scan = Annotated[str | None, typer.Option(help="Scan of windows from LO to HI, LO:HI.")]
Width = Annotated[float | None, typer.Option(help="Relative width of each window of a scan, e.g. 0.1.")]
SignalWidth = Annotated[
    str | None,
    typer.Option(
        help="Relative widths sigma/m of the resonances that the windows are made for, e.g. 0.05 or 0.03,0.08."
    ),
]
Step = Annotated[
    float | None,
    typer.Option(help="Distance of scan windows in widths; 1 = adjacent (default), 0.5 = half overlapping."),
]
WorkingPoints = Annotated[
    str | None,
    typer.Option(
        help="Background efficiencies; default: from the size of the sample, 1e-2,1e-3 for a large one."
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        help="Background of the spectrum: auto (default), exppoly[:DEGREE], exp[:DEGREE], dijet[:N], poly:DEGREE ..."
    ),
]
MassRange = Annotated[
    str | None,
    typer.Option("--range", help="Mass range of the background fit, LO:HI; default: chosen per window."),
]
Mask = Annotated[
    str | None,
    typer.Option(help="Known resonances that the background fits leave out, LO:HI[,LO:HI...]."),
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        help="Known resonance LO:HI that the fits leave out; may be repeated, or a list with commas.",
    ),
]
SqrtS = Annotated[float | None, typer.Option("--sqrt-s", help="Collision energy in TeV; default 13.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random; default 1.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of a method, METHOD.OPTION=VALUE; may be repeated."),
]
Method = Annotated[str | None, typer.Option(help="cwola[,cathode,...]; default: cwola.")]
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
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one for each core.")]

EVENTS: Mapping[str, Any] = {
    "mass": Mass, "features": Features, "where": Where, "weight": Weight, "id": Id, "group": Group, "tree": Tree, "preset": Preset,
    "unit": Unit,
}  # fmt: skip
"""What is read from the table."""

SIMULATION: Mapping[str, Any] = {
    "simulation": Simulation, "simulation_weight": SimulationWeight, "simulation_where": SimulationWhere,
}  # fmt: skip

WINDOWS: Mapping[str, Any] = {"window": Window, "scan": Scan, "width": Width}

BACKGROUND: Mapping[str, Any] = {"background": Background, "range": MassRange, "sqrt_s": SqrtS}
"""The fit of the spectrum."""

SEARCH: Mapping[str, Any] = {**EVENTS, **SIMULATION, **WINDOWS, **BACKGROUND}
"""All of them: what a search is told about its data."""


def with_flags(*groups: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags that others have too, after ``--out``; they arrive in its ``**shared``, None if not given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag)
            for group in groups
            for name, flag in group.items()
        ]
        after = 1 + [p.name for p in own].index("out")
        ordered = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own[:after], *shared, *own[after:])
        ]
        # typer reads both
        vars(command)["__signature__"] = signature.replace(parameters=ordered)
        command.__annotations__ = {p.name: p.annotation for p in ordered}
        return command

    return decorate
