"""Contract check of exports."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from serendip.report.exports.registry import is_export
from serendip.testing.base import FEATURES, WINDOW, need, refusal, write_events

__all__ = ["check_export", "finished_search"]


def check_export(export: Callable[..., Any], name: str = "out", **options: Any) -> None:
    """Check an export on a small search, once blinded and once unblinded.

    Parameters
    ----------
    export
        The function ``(run, out, *, options)``.
    name
        Of the file or folder that it writes, with a suffix if it needs one.
    **options
        Of the export.

    Raises
    ------
    AssertionError
        Naming the promise that is broken:

        * its arguments are ``run`` and ``out``, then keyword-only options with annotations and defaults, which become flags;
        * it has a docstring, the help text of its command;
        * it writes ``out``, returns what it wrote, and leaves the run unchanged;
        * a blinded run is exported as well, or refused with an :class:`~serendip.errors.InputError`;
        * an existing target, and a folder without a run, are refused with an :class:`~serendip.errors.InputError`.
    """
    need(is_export(export), "an export is a function (run, out, *, options)")
    need(
        bool(inspect.getdoc(export)),
        "the export needs a docstring: its first paragraph is the help of its command",
    )
    for option in list(inspect.signature(export).parameters.values())[2:]:
        described = option.annotation is not option.empty and option.default is not option.empty
        need(described, f"the option '{option.name}' needs an annotation and a default")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for blinded in (True, False):
            run = finished_search(root, blinded=blinded)
            before = _content(run)
            out = root / str(blinded) / name
            out.parent.mkdir()
            with refusal("a run that cannot be written while it is blinded", needed=False):
                written = export(run, out, **options)
                need(out.exists(), f"nothing was written to {out.name}")
                need(bool(written), "the export must say what it wrote: return the paths")
            need(_content(run) == before, "the export changed the run")
        with refusal("a target that exists already"):
            export(run, out, **options)
        with refusal("a folder without a run"):
            export(root / "nothing", root / f"other-{name}", **options)


def finished_search(root: Path, *, blinded: bool) -> Path:
    """Run the inclusive bump hunt, which trains nothing, below a folder; returns the folder of the run."""
    from serendip.search.config import parse_config
    from serendip.search.engine import run_search

    settings = {
        "file": str(write_events(root / "events")), "mass": "mjj", "features": FEATURES, "window": (WINDOW.low, WINDOW.high),
        "method": "bump-hunt", "toys": 100,
    }  # fmt: skip
    out = root / f"run-{blinded}"
    run_search(parse_config(settings), out, unblind=not blinded, jobs=1)
    return out


def _content(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }
