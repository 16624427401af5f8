"""``serendip export KIND RUN --out ...``: a finished search in the formats of others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from serendip.cli.flags import with_flags
from serendip.errors import InputError

__all__ = ["app", "export_onnx"]


class _Exports(TyperGroup):
    """The commands of this module, and one for each export of another package."""

    def list_commands(self, ctx: Any) -> list[str]:
        from serendip.report.exports.registry import EXPORTS

        return [*super().list_commands(ctx), *EXPORTS.others()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from serendip.report.exports.registry import EXPORTS

        found = super().get_command(ctx, cmd_name)
        return _command_of_others(cmd_name) if found is None and cmd_name in EXPORTS.others() else found


app = typer.Typer(cls=_Exports, no_args_is_help=True, rich_markup_mode="markdown")

Run = Annotated[
    Path, typer.Argument(help="Run directory written by 'serendip search --out RUN'.", metavar="RUN")
]
Folder = Annotated[Path, typer.Option("--out", help="Folder, new or empty, or a name that ends in .zip.")]
Method = Annotated[str | None, typer.Option(help="Only the models of this method; default: all of the run.")]
ModelWindow = Annotated[
    str | None, typer.Option(help="Only the models of this window, LO:HI in the unit of the run.")
]
Look = Annotated[
    int | None, typer.Option(min=0, help="Only this look, by its index in results.json; default: all.")
]
Asimov = Annotated[
    bool,
    typer.Option("--asimov", help="Replace the data by the expected background; required while blinded."),
]
SignalEvents = Annotated[
    float | None,
    typer.Option(help="Signal events in the window at mu = 1; default: twice the error of the count."),
]
SignalMass = Annotated[
    float | None,
    typer.Option(help="Mass of the signal in the unit of the run; default: centre of the window."),
]
SignalSigma = Annotated[
    float | None,
    typer.Option(
        help="Gaussian width of the signal in the unit of the run; default: a quarter of the window."
    ),
]
_LIKELIHOOD = {
    "look": Look, "asimov": Asimov, "signal_events": SignalEvents, "signal_mass": SignalMass, "signal_sigma": SignalSigma,
}  # fmt: skip


@app.command()
@with_flags(_LIKELIHOOD)
def pyhf(run: Run, out: Folder, **shared: Any) -> None:
    """Write pyhf workspaces: the count of each look with its measured background, and the spectrum in its window."""
    from serendip.report.exports import export_pyhf

    _likelihood(export_pyhf, run, out, **shared)


@app.command()
@with_flags(_LIKELIHOOD)
def combine(run: Run, out: Folder, **shared: Any) -> None:
    """Write datacards for the Combine tool, with their histograms in ROOT files: the same models as for pyhf."""
    from serendip.report.exports import export_combine

    _likelihood(export_combine, run, out, **shared)


def _likelihood(
    export: Callable[..., list[Path]],
    run: Path,
    out: Path,
    *,
    look: int | None,
    asimov: bool | None,
    signal_events: float | None,
    signal_mass: float | None,
    signal_sigma: float | None,
) -> None:
    from serendip.report.exports import SignalShape

    in_unit = (signal_mass, signal_sigma)
    to_gev = 1.0 if in_unit == (None, None) else _to_gev(run)
    shape = SignalShape(signal_events, *(None if value is None else value * to_gev for value in in_unit))
    for path in export(run, out, look=look, asimov=bool(asimov), signal=shape):
        typer.echo(path)


def _to_gev(run: Path) -> float:
    from serendip.io.units import GEV
    from serendip.search.models import run_config

    return GEV[run_config(run).unit]


@app.command()
def hepdata(run: Run, out: Folder) -> None:
    """Write a HEPData submission: all looks, the scan, the global p-value, spectra, features of the selected events."""
    from serendip.report.exports import export_hepdata

    tables = export_hepdata(run, out)
    typer.echo(f"{out}: submission.yaml with {len(tables)} tables")


@app.command()
def root(run: Run, out: Annotated[Path, typer.Option("--out", help="ROOT file to write.")]) -> None:
    """Write a ROOT file: histograms of all spectra, a tree of the looks, and trees with the score of each event."""
    from serendip.report.exports import export_root

    names = export_root(run, out)
    typer.echo(f"{out}: {len(names)} histograms and trees")


@app.command()
def bundle(run: Run, out: Folder, method: Method = None, window: ModelWindow = None) -> None:
    """Write the models as ONNX with their selection, thresholds and a script that scores events without this package."""
    from serendip.report.exports import export_bundle

    for name in export_bundle(run, out, method=method, window=_window(run, window)):
        typer.echo(f"{out}: models/{name}")


@app.command("onnx")
def export_onnx(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder for the ONNX files; new or empty.")],
    method: Method = None,
    window: ModelWindow = None,
) -> None:
    """Write the models of a finished search as ONNX files, to use them without this package.

    One folder for each method and window: classifier.onnx (features to score), for methods with a density also
    density.onnx and density-latent.onnx, and model.json with the names and ranges of the features and the window.
    """
    from serendip.search.onnx_export import export_run

    for folder, files in export_run(run, out, method=method, window=_window(run, window)).items():
        size = sum(path.stat().st_size for path in files) / 1e6
        typer.echo(f"{folder}: {', '.join(path.name for path in files)} ({size:.2f} MB)")


def _command_of_others(name: str) -> Any:
    """Make the command of an export of another package: its keyword-only arguments are flags."""
    from serendip.report.exports.registry import EXPORTS

    single = typer.Typer(add_completion=False)
    try:
        export = EXPORTS[name]
    except InputError as error:
        reason = str(error)

        @single.command(
            name,
            help=f"Cannot be used: {reason}",
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        def refuse() -> None:
            raise InputError(reason)

        return typer.main.get_command(single)

    def write(run: Path, out: Path, **options: Any) -> None:
        for path in export(run, out, **options):
            typer.echo(path)

    signature = inspect.signature(export, eval_str=True)
    flags = {"run": Run, "out": Annotated[Path, typer.Option("--out", help="File or folder to write.")]}
    ordered = [p.replace(annotation=flags.get(p.name, p.annotation)) for p in signature.parameters.values()]
    # typer reads both
    vars(write)["__signature__"] = signature.replace(parameters=ordered)
    write.__annotations__ = {p.name: p.annotation for p in ordered}
    summary = (inspect.getdoc(export) or name).partition("\n\n")[0]
    single.command(name, help=summary)(write)
    return typer.main.get_command(single)


def _window(run: Path, text: str | None) -> Any:
    from serendip.cli.parsing import parse_window
    from serendip.search.models import run_config

    return None if text is None else parse_window(text, run_config(run).unit)
