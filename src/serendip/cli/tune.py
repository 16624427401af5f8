"""``serendip tune``: choose the options of a method without labels, on events that the search does not test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    Features,
    File,
    Id,
    Mass,
    Preset,
    Scan,
    Simulation,
    SimulationWeight,
    SimulationWhere,
    Tree,
    Unit,
    Weight,
    Where,
    Width,
    Window,
)

__all__ = ["tune"]


def tune(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Folder: new, or one to continue.")],
    mass: Mass = None,
    features: Features = None,
    where: Where = None,
    weight: Weight = None,
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
    method: Annotated[str | None, typer.Option(help="cwola[,cathode,...]; default: cwola.")] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds of the search; default 10.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search and the tuning; default 1.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option that is not tuned, METHOD.OPTION=VALUE; may be repeated."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials for each method.")] = 20,
    on: Annotated[
        str,
        typer.Option(
            help="untested: fold 0 of the sequential search; all: every event, for use on other data (--unblind)."
        ),
    ] = "untested",
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Needed for --on all: look into the window; is recorded.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads of a training; default: all cores.")
    ] = None,
) -> None:
    """Choose the options of a method by ARGOS, without labels, on events that the search never tests.

    Repeating the command continues it. Afterwards: serendip search OUT/best.yaml --out RUN.
    """
    from serendip.cli.parsing import assign_option
    from serendip.cli.progress import TerminalProgress
    from serendip.errors import InputError
    from serendip.search.config import SearchConfig, load_config, parse_config
    from serendip.search.executor import available_cores
    from serendip.search.tune import tune as run_tune

    is_config = file.suffix.lower() in {".yaml", ".yml"}
    settings: dict[str, Any] = load_config(file) if is_config else {"file": str(file)}
    flags = {
        "mass": mass,
        "features": features,
        "where": where,
        "weight": weight,
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
        "method": method,
        "folds": folds,
        "seed": seed,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if "scan" in given and "window" not in given:
        settings.pop("window", None)
    if "window" in given and "scan" not in given:
        settings = {key: value for key, value in settings.items() if key not in ("scan", "width", "step")}
    settings |= given
    for assignment in set_ or []:
        assign_option(settings, assignment)
    if on not in ("untested", "all"):
        raise InputError(f"--on {on}: 'untested' or 'all' is expected")
    config: SearchConfig = parse_config(settings, str(file) if is_config else "tune")
    with TerminalProgress() as progress:
        result = run_tune(
            config,
            out,
            trials=trials,
            on="all" if on == "all" else "untested",
            unblind=unblind,
            threads=jobs or available_cores(),
            progress=progress,
        )
    _print_table(result.path, result.content, trials)


def _print_table(path: Path, content: dict[str, Any], trials: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, entry in content["methods"].items():
        finished = [trial for trial in entry["trials"][:trials] if trial["value"] is not None]
        ranked = sorted(finished, key=lambda trial: -trial["value"])
        table = Table(title=f"{name}: ARGOS less control, {content['n_events']} events")
        for head in ("trial", "value", "ARGOS", "control", *ranked[0]["options"], "s"):
            table.add_column(head)
        for trial in ranked:
            table.add_row(
                f"{trial['number']}" + (" (defaults)" if trial["number"] == 0 else ""),
                f"{trial['value']:.4f}",
                f"{trial['argos']:.4f} +- {trial['error']:.4f}",
                f"{trial['control']:.4f}",
                *(str(value) for value in trial["options"].values()),
                f"{trial['seconds']:.0f}",
            )
        console.print(table)
        if entry["best"] == 0:
            console.print(
                f"{name}: no trial beats the defaults by twice the error of the difference: they are kept",
                highlight=False,
            )
    if content["warning"]:
        typer.echo(f"warning: {content['warning']}", err=True)
    typer.echo(f"best options: serendip search {path / 'best.yaml'} --out RUN")
