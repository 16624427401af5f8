"""``serendip demo``: the whole chain on the embedded sample, explained step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]

_SCAN = (2600.0, 5200.0)
_WIDTH = 0.12


def demo(
    out: Annotated[Path, typer.Option("--out", help="Run directory: new, or one to continue.")] = Path(
        "demo-run"
    ),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: one for each core.")
    ] = None,
) -> None:
    """Search the embedded sample for a resonance that is hidden in it, then reveal the truth."""
    from serendip.cli.progress import TerminalProgress
    from serendip.report import write_report
    from serendip.report.load import read_run
    from serendip.report.words import headline, verdict
    from serendip.search.config import parse_config
    from serendip.search.engine import read_events, run_search
    from serendip.simulate.embedded import embedded_sample_path

    started = time.perf_counter()
    config = parse_config(
        {
            "file": str(embedded_sample_path()),
            "mass": "mjj",
            "features": ["mj1", "delta_mj", "tau21_j1", "tau21_j2"],
            "id": "id",
            "scan": _SCAN,
            "width": _WIDTH,
            "method": ["cwola", "cathode"],
            "folds": 5,
            # one density for all windows and few trees, so that the demo ends within three minutes
            "options": {
                "cwola": {"members": 10},
                "cathode": {"background": "shared", "members": 10, "oversample": 3.0},
            },
        }
    )
    events = read_events(config)
    typer.echo(
        f"1. The sample: {len(events):,} simulated proton-proton collisions with two energetic jets each (Pythia 8, 13 TeV).\n"
        "   There may be a resonance somewhere in the dijet mass spectrum. The program is not told where.\n"
        f"2. The search: {len(config.windows)} mass windows from {_SCAN[0]:g} to {config.windows[-1].high:.0f} GeV. In each, boosted "
        "trees are trained on four jet\n"
        "   features to separate the events in the window from background: from adjacent strips (CWoLa), and from a\n"
        "   template sampled from a density that is interpolated into the window (CATHODE).\n"
        "   Each event is scored only by models that were not trained on it. Then: weight the events by their scores,\n"
        "   fit the background, sum the weights in the window, draw up to 1000 toys."
    )
    with TerminalProgress() as progress:
        result = run_search(config, out, unblind=True, jobs=jobs, progress=progress)
        page = write_report(result.path)
    answer = read_run(result.path).results
    typer.echo(f"3. The answer: {headline(answer)}\n   {verdict(answer)}")
    best = result.results["looks"][result.results["global"]["best_look"]]
    typer.echo(f"4. The truth: {_truth(best['window'])}")
    typer.echo(f"Report: {page} (open it in a browser); {time.perf_counter() - started:.0f} s in all.")


def _truth(found: list[float]) -> str:
    import numpy as np

    from serendip.events.read import read
    from serendip.simulate.embedded import embedded_sample_path

    events = read(embedded_sample_path(), mass="mjj", label="truth")
    planted = events.m[events.labels]
    peak = float(np.median(planted))
    inside = int(((planted >= found[0]) & (planted < found[1])).sum())
    verdict = "found" if found[0] <= peak < found[1] else "NOT found"
    return (
        f"{len(planted)} events of a W' -> X Y were injected; their dijet mass peaks at {peak:.0f} GeV, {inside} of them "
        f"lie in the window {found[0]:.0f}-{found[1]:.0f} GeV. The resonance was {verdict}."
    )
