"""``serendip search``: scan a mass spectrum and write a run directory with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    Background,
    Features,
    File,
    Id,
    Jobs,
    Label,
    Mass,
    MassRange,
    Preset,
    Scan,
    Seed,
    SetOption,
    Simulation,
    SimulationWeight,
    SimulationWhere,
    SqrtS,
    Step,
    Tree,
    Unit,
    Weight,
    Where,
    Width,
    Window,
    WorkingPoints,
)
from serendip.cli.parsing import assign_option

__all__ = ["search"]


def search(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Run directory: new, or one to continue.")],
    mass: Mass = None,
    features: Features = None,
    where: Where = None,
    weight: Weight = None,
    label: Label = None,
    id: Id = None,
    tree: Tree = None,
    preset: Preset = None,
    simulation: Simulation = None,
    simulation_weight: SimulationWeight = None,
    simulation_where: SimulationWhere = None,
    unit: Unit = None,
    window: Window = None,
    scan: Scan = None,
    width: Width = None,
    step: Step = None,
    method: Annotated[str | None, typer.Option(help="cwola[,cathode,...]; default: cwola.")] = None,
    working_points: WorkingPoints = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds; default 10.")] = None,
    combination: Annotated[
        str | None,
        typer.Option(
            help="sequential (default), sequential-stouffer, kfold-bonferroni, kfold-summed (over-claims)."
        ),
    ] = None,
    counting: Annotated[
        str | None,
        typer.Option(
            help="What predicts a count: fit of the selected spectrum (default), or template, for very tight cuts."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Full-chain calibration of kfold-summed: the calibration.json that serendip validate null writes."
        ),
    ] = None,
    background: Background = None,
    range: MassRange = None,
    sqrt_s: SqrtS = None,
    toys: Annotated[int | None, typer.Option(help="Toys for the global p-value; default 1000.")] = None,
    seed: Seed = None,
    set_: SetOption = None,
    jobs: Jobs = None,
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Show and write observed counts; is recorded.")
    ] = False,
) -> None:
    """Search for a resonance with weakly supervised methods and write a run directory with a report.

    Blind by default: expected counts and closure are shown, observed counts in the windows are not. Repeating the
    command continues an interrupted run; adding --unblind to it opens the box.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report import write_report
    from serendip.search.config import load_config, parse_config
    from serendip.search.engine import run_search

    is_config = file.suffix.lower() in {".yaml", ".yml"}
    settings: dict[str, Any] = load_config(file) if is_config else {"file": str(file)}
    flags = {
        "mass": mass,
        "features": features,
        "where": where,
        "weight": weight,
        "label": label,
        "id": id,
        "tree": tree,
        "preset": preset,
        "simulation": simulation,
        "simulation_weight": simulation_weight,
        "simulation_where": simulation_where,
        "unit": unit,
        "window": window,
        "scan": scan,
        "width": width,
        "step": step,
        "method": method,
        "working_points": working_points,
        "folds": folds,
        "combination": combination,
        "counting": counting,
        "calibration": calibration,
        "background": background,
        "range": range,
        "sqrt_s": sqrt_s,
        "toys": toys,
        "seed": seed,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    # a flag wins over the file, so a window there takes the place of a scan here, and the other way round
    if "scan" in given and "window" not in given:
        settings.pop("window", None)
    if "window" in given and "scan" not in given:
        settings = {key: value for key, value in settings.items() if key not in ("scan", "width", "step")}
    settings |= given
    for assignment in set_ or []:
        assign_option(settings, assignment)
    config = parse_config(settings, str(file) if is_config else "search")
    with TerminalProgress() as progress:
        result = run_search(config, out, unblind=unblind, jobs=jobs, progress=progress)
        progress.start("report", 1)
        page = write_report(result.path)
        progress.advance("report")
    _print_summary(result.path, page)


def _print_summary(run: Path, page: Path) -> None:
    from serendip.report.load import read_run
    from serendip.report.words import headline, reservation, verdict

    content = read_run(run)
    lines = [headline(content.results), verdict(content.results), reservation(content), f"report: {page}"]
    typer.echo("\n".join(line for line in lines if line))
