"""Figures of weighted looks: the weight against the rank, and the evidence by fold."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from serendip.report.figures import COLOURS, DATA, FIT, styled_figure
from serendip.report.weighted.evidence import Evidence
from serendip.search.diagnostic_records import Weights

__all__ = ["evidence_by_fold", "shade", "weight_curves"]


def shade(i: int, n: int) -> str:
    """Colour of the i-th of n folds, darker for those that are tested later."""
    return str(mpl.colors.to_hex(mpl.colormaps["viridis_r"](0.15 + 0.85 * (i + 1) / n)))


def weight_curves(record: Weights) -> Figure:
    """The weight of an event against the rank of its score, one line for each place of its fold in the order."""
    with styled_figure() as (figure, axes):
        for i, curve in enumerate(record.curves):
            axes.plot(
                (*record.rank, record.loosest_rank, 1.0),
                (*curve.weight, 0.0, 0.0),
                color=shade(i, len(record.curves)),
                lw=1.8,
                label=f"{curve.place} of {record.n_folds - 1}",
            )
        axes.set_xscale("log")
        axes.set_xlim(record.rank[0], 1)
        axes.set_ylim(0, None)
        axes.set_xlabel("rank of the score")
        axes.set_ylabel("weight")
        axes.legend(title="place of the fold", title_fontsize=12, fontsize=12)
    return figure


def evidence_by_fold(found: Evidence) -> Figure:
    """Observed minus expected sum of weights by place of the fold, and below it the significance in each order and its mean."""
    with styled_figure(2, gap=0.12, sharex=True, height_ratios=(3, 2)) as (figure, (top, bottom)):
        top.errorbar(found.place, found.excess, yerr=found.error, fmt="o", ms=5, lw=1.2, color=DATA)
        top.axhline(0, color="#666666", lw=1)
        top.set_ylabel("observed − expected\n(sum of weights)", fontsize=12)
        for k, z in enumerate(found.z):
            bottom.plot(
                found.place, z, "o", ms=4, color=COLOURS[5], label=None if k else "single orders of the folds"
            )
        bottom.plot(found.place, found.mean_z, "-", lw=1.8, color=FIT, label="mean")
        bottom.axhline(0, color="#666666", lw=1)
        low, high = float(found.z.min()), float(found.z.max())
        bottom.set_ylim(min(low, -2.0) - 0.5, max(high, 2.0) + 0.35 * (high - low) + 0.5)
        bottom.set_ylabel("Z [σ]", loc="center", fontsize=12)
        bottom.set_xlabel("place of the fold in the order (folds trained on)")
        bottom.set_xticks(found.place)
        bottom.minorticks_off()
        bottom.set_xlim(found.place[0] - 0.5, found.place[-1] + 0.5)
        bottom.legend(fontsize=11, ncols=2, loc="upper left")
        top.minorticks_off()
        top.margins(y=0.12)
    return figure
