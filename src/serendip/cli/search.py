"""``serendip search``: scan a mass spectrum and write a run directory with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.parsing import assign_option

__all__ = ["search"]


def search(
    file: Annotated[
        Path, typer.Argument(help="Event table (Parquet, CSV, HDF5, ROOT), or a YAML file with all settings.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Run directory: new, or one to continue.")],
    mass: Annotated[
        str | None, typer.Option(help="Resonant mass: a column or an expression of columns.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="Features: EXPR[,EXPR...].")] = None,
    where: Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with event weights.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Column with the truth; only for references and the truth panel.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Column with event ids; default: the row number.")] = None,
    tree: Annotated[str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5).")] = None,
    preset: Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")] = None,
    simulation: Annotated[
        str | None,
        typer.Option(help="Simulated background with the same columns, for methods that start from it."),
    ] = None,
    simulation_weight: Annotated[
        str | None, typer.Option("--simulation-weight", help="Column with the weights of the simulation.")
    ] = None,
    simulation_where: Annotated[
        str | None,
        typer.Option("--simulation-where", help="Cut on the simulation; default: the one of --where."),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the mass column: GeV (default) or TeV.")] = None,
    window: Annotated[str | None, typer.Option(help="One signal region, LO:HI.")] = None,
    scan: Annotated[str | None, typer.Option(help="Scan of windows from LO to HI, LO:HI.")] = None,
    width: Annotated[
        float | None, typer.Option(help="Relative width of each window of a scan, e.g. 0.1.")
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(
            help="Distance of scan windows in widths; 1 = adjacent (default), 0.5 = half overlapping."
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="cwola[,cathode,...]; default: cwola.")] = None,
    working_points: Annotated[
        str | None, typer.Option(help="Background efficiencies; default 1e-2,1e-3.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds; default 10.")] = None,
    combination: Annotated[
        str | None,
        typer.Option(
            help="sequential (default), sequential-stouffer, kfold-bonferroni, kfold-summed (over-claims)."
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            help="Background of the spectrum: exppoly (default), exppoly:DEGREE, dijet, dijet:N, poly:DEGREE."
        ),
    ] = None,
    range: Annotated[
        str | None,
        typer.Option("--range", help="Mass range of the background fit, LO:HI; default: chosen per window."),
    ] = None,
    sqrt_s: Annotated[
        float | None, typer.Option("--sqrt-s", help="Collision energy in TeV; default 13.")
    ] = None,
    toys: Annotated[int | None, typer.Option(help="Toys for the global p-value; default 1000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random; default 1.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option of a method, METHOD.OPTION=VALUE; may be repeated."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: one for each core.")
    ] = None,
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
