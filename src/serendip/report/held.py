"""How much of a resonance of some width the windows of a run hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from serendip.report.load import Run

__all__ = ["fraction_held", "held_sentence"]

WIDTHS = (0.03, 0.05, 0.08, 0.15)


def fraction_held(window: tuple[float, float], mass: float, width: float) -> float:
    """Fraction of a Gaussian at ``mass`` with the relative width ``width`` (sigma/m) that lies in a window."""
    low, high = ((edge - mass) / (width * mass * math.sqrt(2)) for edge in window)
    return 0.5 * (math.erf(high) - math.erf(low))


def _best(windows: Sequence[tuple[float, float]], mass: float, width: float) -> float:
    return max(fraction_held(window, mass, width) for window in windows)


def held_sentence(run: Run) -> str:
    """The fraction of a resonance that its best window holds, for the widths of the search or some others."""
    windows = run.results.windows
    asked = run.config.get("signal_width")
    widths = [float(width) for width in asked] if isinstance(asked, list) and asked else list(WIDTHS)
    centres = sorted(0.5 * (low + high) for low, high in windows)
    between = [math.sqrt(a * b) for a, b in pairwise(centres)]
    parts = []
    for width in widths:
        most = min(_best(windows, mass, width) for mass in centres)
        text = f"{100 * most:.0f} % for σ/m = {100 * width:.3g} %"
        if between:
            least = min(_best(windows, mass, width) for mass in between)
            text = f"{100 * most:.0f} % to {100 * least:.0f} % for σ/m = {100 * width:.3g} %"
        parts.append(text)
    where = " (at the centre of a window, and between two)" if between else ""
    return (
        f"The window contains{where} {', '.join(parts)} of a Gaussian resonance. The rest is lost and pulls up the background "
        "fit, so the significance is reduced by more than that. A scan with --signal-width matches its windows to the width of the signal."
    )
