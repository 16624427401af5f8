"""The ``serendip`` command: registers the commands and turns exceptions into messages and exit codes.

Exit codes: 0 done, 1 a check failed, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from serendip.errors import SerendipError
from serendip.registry import package_at_fault

__all__ = ["app", "main", "run"]

_UNUSABLE_PATH = (
    errno.ENOSPC,
    errno.EACCES,
    errno.EROFS,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ELOOP,
)

app = typer.Typer(
    name="serendip",
    help="Model-agnostic searches for new physics: is there an excess, where, how significant is it, and what does it look like?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(value: bool) -> None:
    if value:
        from serendip import __version__

        typer.echo(f"serendip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def _register() -> None:
    from serendip.cli.abcd import abcd
    from serendip.cli.bump import bump
    from serendip.cli.compare import compare
    from serendip.cli.demo import demo
    from serendip.cli.export import app as export
    from serendip.cli.export import export_onnx
    from serendip.cli.fetch import fetch
    from serendip.cli.fit import fit
    from serendip.cli.flags import Command
    from serendip.cli.infer import infer
    from serendip.cli.inspect import inspect
    from serendip.cli.limit import limit
    from serendip.cli.monitor import monitor
    from serendip.cli.report import report
    from serendip.cli.schema import schema
    from serendip.cli.score import score
    from serendip.cli.search import search
    from serendip.cli.simulate import app as simulate
    from serendip.cli.theories.app import app as theories
    from serendip.cli.tune import tune
    from serendip.cli.validate import validate

    for command in (search, monitor, tune, compare, validate, infer, limit):
        app.command(cls=Command)(command)
    for command in (bump, fit, abcd, inspect, fetch):
        app.command()(command)
    app.add_typer(simulate, name="simulate", help="Make events: Pythia 8, a fast detector, FastJet.")
    app.add_typer(
        theories,
        name="theories",
        help="Mixtures of theories: simulate, audit, train, evaluate, excess, study.",
    )
    app.command()(report)
    app.command()(score)
    app.command()(schema)
    app.add_typer(
        export, name="export", help="A finished search in other formats: pyhf, Combine, HEPData, ROOT, ONNX."
    )
    app.command("export-onnx", hidden=True)(export_onnx)
    app.command()(demo)


class _Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, which the command-line library would report as a plain failure."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGINT, _interrupt)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; messages go to standard error."""
    if not app.registered_commands:
        _register()
    try:
        app(args=arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except SerendipError as error:
        _complain(str(error))
        return error.exit_code
    except _Interrupted:
        _complain("interrupted; repeat the same command to continue")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (for example `| head`): nothing to report, and nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _UNUSABLE_PATH:
            raise
        _complain(f"{error.filename or 'output'}: cannot be used ({error.strerror})")
        return 2
    # a defect of this package must be seen with its traceback; an error of another package must be distinguished from ours
    except Exception as error:
        package = package_at_fault(error)
        if package is None:
            raise
        _complain(f"{package} failed ({type(error).__name__}: {error}); update it or tell its authors")
        return 1
    return 0


def _complain(text: str) -> None:
    typer.echo(f"error: {text}", err=True)
