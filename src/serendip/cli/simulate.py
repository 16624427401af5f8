"""``serendip simulate``: make events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Self, cast

import typer

from serendip.cli.parsing import split_names
from serendip.errors import InputError
from serendip.wording import counted

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Make events: Pythia 8, a fast detector, FastJet."""


@app.command()
def dijet(
    *,
    out: Annotated[Path, typer.Option("--out", help="Output file (Parquet).")],
    background: Annotated[int, typer.Option(help="Selected QCD dijet events.")] = 0,
    signal: Annotated[int, typer.Option(help="Selected W' -> X Y events.")] = 0,
    masses: Annotated[str, typer.Option(help="Masses of W', X and Y in GeV.")] = "3500,500,100",
    prongs: Annotated[int, typer.Option(help="X and Y decay to this many jets: 2 or 3.")] = 2,
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever --jobs.")] = 1,
    jobs: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    mpi: Annotated[
        bool, typer.Option("--mpi/--no-mpi", help="Multiparton interactions: several times slower.")
    ] = False,
    pthat_min: Annotated[float, typer.Option(help="Smallest pT of the hard QCD process in GeV.")] = 1050.0,
) -> None:
    """Simulate dijet events with the selection and the columns of the LHC Olympics.

    An interrupted run is continued by the same command.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from serendip.simulate.dijet import read_settings, simulate_dijet

    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("simulating", total=background + signal)
        path = simulate_dijet(
            out,
            background,
            signal,
            _three(masses),
            prongs,
            seed=seed,
            jobs=jobs,
            mpi=mpi,
            pthat_min=pthat_min,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    generated = read_settings(path)["generated"]
    typer.echo(
        f"{path}: {background} background and {signal} signal events "
        f"(selected from {generated['background']} and {generated['signal']})"
    )


@app.command()
def channel(
    *,
    process: Annotated[
        str,
        typer.Option(
            help="Processes, families, points, SM, BSM or published: NAME[,NAME...]; --list shows them."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Output folder.")] = None,
    events: Annotated[int, typer.Option(help="Selected events of each file.")] = 1000,
    channels: Annotated[
        str, typer.Option("--channel", help="Keep events of these channels: 1, 2a, 2b, 3 or all.")
    ] = "all",
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever --jobs.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    max_generated: Annotated[
        int, typer.Option(help="Stop a file after this many generated events and keep the events so far.")
    ] = 1_000_000,
    met: Annotated[
        str, typer.Option(help="Missing momentum: measured (as in the public files) or truth.")
    ] = "measured",
    card: Annotated[str, typer.Option(help="Jet resolution: darkmachines or atlas.")] = "darkmachines",
    mpi: Annotated[
        bool, typer.Option("--mpi/--no-mpi", help="Multiparton interactions: about four times slower.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the available processes, and stop.")] = False,
) -> None:
    """Simulate Standard Model processes and theories of new physics in the Dark Machines format.

    Each process is cut into files by decay and by pT of the hard process, whose weights add up. An interrupted
    run is continued by the same command, and one with more events extends it.
    """
    from serendip.simulate.catalogue.points import RENAMED, known_samples, refuse_other_names
    from serendip.simulate.processes import samples_named

    if show:
        typer.echo(_listing())
        return
    if not process or out is None:
        raise InputError("--process and --out are needed; --list shows the available processes")
    from serendip.simulate.channel import SimulateConfig, simulate_samples
    from serendip.theories.channels import CHANNELS
    from serendip.theories.selection import ChannelSelection

    chosen = tuple(CHANNELS) if channels == "all" else tuple(part.strip() for part in channels.split(","))
    selection = ChannelSelection(chosen)
    known = known_samples()
    names = split_names(process, {*known, *RENAMED})
    refuse_other_names(names)
    samples = samples_named(names, known, chosen)
    config = SimulateConfig(events, seed, max_generated, mpi=mpi, met=cast("Any", met), card=card)
    for sample in samples:
        if not set(sample.channels) & set(chosen):
            usual = (
                f"usable in channel {', '.join(sample.channels)}"
                if sample.channels
                else "too rare in all channels"
            )
            typer.echo(
                f"{sample.name}: {usual}; in channel {', '.join(chosen)} it may end after {max_generated} generated events with few or none",
                err=True,
            )
    with _Bars() as bars:
        results = simulate_samples(out, samples, selection, config, jobs=jobs, progress=bars.update)
    for result in results:
        inside = ", ".join(f"{name}: {number}" for name, number in result.selected.items())
        typer.echo(
            f"{result.name}: {counted(result.events, 'event')} ({inside}) of {result.generated} generated, "
            f"sigma {result.cross_section_pb:.4g} +- {result.cross_section_error_pb:.2g} pb, "
            f"weight {result.weight:.4g} at 10/fb"
        )
    short = [result for result in results if not result.complete]
    for result in short:
        typer.echo(
            f"{result.name}: stopped after {result.generated} generated events with {result.events} of {events} "
            "selected ones; increase --max-generated, request other channels or omit it",
            err=True,
        )
    typer.echo(f"{out}: {counted(len(results), 'file')}, settings and numbers in settings.json")


def _listing() -> str:
    from serendip.simulate.catalogue.papers import SIGNALS
    from serendip.simulate.catalogue.points import CATALOGUE, FAMILIES
    from serendip.simulate.processes import NOT_IN_PYTHIA, PROCESSES

    lines = ["Standard Model (a process, or one of its files)"]
    for process in PROCESSES.values():
        lines.append(f"  {process.name}: {process.title}")
        lines += [
            f"    {sample.name}  (channels {', '.join(sample.channels)})" for sample in process.samples()
        ]
    lines.append("  not in Pythia:")
    lines += [f"    {name}: {why}" for name, why in NOT_IN_PYTHIA.items()]
    lines += [
        f"New physics, {len(CATALOGUE)} points in {len(FAMILIES)} families (a family, or a point)",
        "  published: a signal of arXiv:2207.07631 or arXiv:2105.14027; substitute: for one that Pythia lacks",
    ]
    width = max(map(len, CATALOGUE))
    for family, points in FAMILIES.items():
        lines.append(f"  {family}")
        for point in points:
            channels = (
                f"(channels {', '.join(point.channels)})" if point.channels else "(too rare in all channels)"
            )
            lines.append(f"    {point.name:{width}}  {point.origin:10}  {channels}")
    lines.append("Published signals that are not made under their name:")
    for signal in SIGNALS:
        if not signal.made:
            instead = f" (instead: {', '.join(signal.substitutes)})" if signal.substitutes else ""
            lines.append(f"  {signal.name}: {signal.remark}{instead}")
    return "\n".join(lines)


class _Bars:
    """One progress bar for each unfinished file on a terminal, one line for each finished file elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("of {task.fields[generated]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, name: str, selected: int, wanted: int, generated: int) -> None:
        """Show the numbers of a file."""
        full = selected >= wanted
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=wanted, generated=generated)
        elif self._bar.tasks[self._tasks[name]].finished:
            return
        self._bar.update(self._tasks[name], completed=selected, generated=generated, visible=not full)
        if full and not sys.stderr.isatty():
            typer.echo(f"  done: {name}, {counted(selected, 'event')} of {generated} generated", err=True)


def _three(text: str) -> tuple[float, float, float]:
    try:
        parent, x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--masses {text}: expected three numbers in GeV, for example 3500,500,100"
        ) from None
    return parent, x, y
