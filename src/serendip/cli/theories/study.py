"""``serendip theories study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import Jobs
from serendip.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["study"]


@flags_of("serendip.study.config:StudyConfig")
def study(
    samples: Annotated[
        Path,
        typer.Argument(
            help="Folder of 'serendip theories simulate' (with SM and BSM), or a YAML file with all settings."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder: new, or one to continue.")],
    published: Annotated[
        Path | None,
        typer.Option(help="Table of total improvements of the challenge, shown next to ours in the report."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE, e.g. boost.leaves=31; may be repeated."),
    ] = None,
    jobs: Jobs = None,
    **flags: Any,
) -> None:
    """Train on mixtures of theories, test on theories that were held out, and answer questions with a report page.

    Every finished training stays: the same command continues, and one with another question adds its answer.
    """
    from serendip.cli.parsing import is_settings
    from serendip.cli.progress import TerminalProgress
    from serendip.report.theories.page import write_study_page
    from serendip.search.config import load_config, parse_settings
    from serendip.study.config import StudyConfig
    from serendip.study.run import run_study

    if is_settings(samples):
        settings = load_config(samples)
    else:
        folders = {"background": samples / "SM", "theories": samples / "BSM"}
        for folder in folders.values():
            if not folder.is_dir():
                raise InputError(
                    f"{folder}: no such folder; 'serendip theories simulate --out {samples}' makes it, and a YAML file can "
                    "name others (background: ..., theories: ...)"
                )
        settings = {name: (str(folder),) for name, folder in folders.items()}
    settings |= {name: value for name, value in flags.items() if value is not None}
    for assignment in set_ or []:
        _assign(settings, assignment)
    config = parse_settings(StudyConfig, settings, str(samples) if is_settings(samples) else "study")
    with TerminalProgress() as progress:
        results = run_study(config, out, progress=progress, jobs=jobs)
        progress.start("page", 1)
        page = write_study_page(out, published)
        progress.advance("page")
    _print(results)
    for title, text in results["notes"]:
        typer.echo(f"{title}: {text}", err=True)
    for name, reason in results["unanswered"].items():
        typer.echo(f"not answered: {name}: {reason}", err=True)
    typer.echo(f"page: {page}")


def _assign(settings: dict[str, Any], assignment: str) -> None:
    import yaml

    key, equals, text = assignment.partition("=")
    outer, dot, inner = key.partition(".")
    if not (equals and outer) or (dot and not inner):
        raise InputError(f"--set {assignment}: expected OPTION=VALUE, e.g. orders=3 or boost.leaves=31")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {assignment}: the value '{text}' cannot be read") from None
    if not dot:
        settings[outer] = value
        return
    nested = settings.get(outer, {})
    if not isinstance(nested, dict):
        raise InputError(f"--set {assignment}: '{outer}' has no options of its own")
    settings[outer] = nested | {inner: value}


def _print(results: dict[str, Any]) -> None:
    models = results["answers"].get("models", {}).get("models", [])
    if not models:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="total improvement on theories that were held out", title_justify="left")
    table.add_column("model")
    groups = list(models[0]["groups"])
    for group in groups:
        for which in ("min", "median", "max"):
            table.add_column(f"{group.removeprefix('held_out_')}\n{which}", justify="right")
    for model in _shown(models):
        cells = []
        for group in groups:
            ti = model["groups"][group]["ti"]
            cells += [
                "-" if ti is None else f"{ti[which]:.2f} ± {ti[f'{which}_error']:.2f}"
                for which in ("minimum", "median", "maximum")
            ]
        table.add_row(model["name"], *cells)
    Console().print(table)


def _shown(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of several repeats; all others."""
    counted: dict[str, int] = {}
    shown = []
    for model in models:
        counted[model["kind"]] = counted.get(model["kind"], 0) + 1
        if model["kind"] not in {"mixture", "equal mixture", "mini-mixture"} or counted[model["kind"]] == 1:
            shown.append(model)
    return shown
