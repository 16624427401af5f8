"""Interactive plots of weighted looks: the weight against the rank, and the evidence by fold."""

from __future__ import annotations

from serendip.report import plots
from serendip.report.figures import COLOURS, DATA, FIT
from serendip.report.weighted.evidence import Evidence
from serendip.report.weighted.figures import shade
from serendip.search.diagnostic_records import Weights

__all__ = ["evidence_by_fold", "weight_curves"]


def weight_curves(record: Weights) -> plots.Spec:
    """The weight of an event against the rank of its score, one line for each place of its fold in the order."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"place {curve.place} of {record.n_folds - 1}",
            "x": plots.number_list((*record.rank, record.loosest_rank, 1.0)),
            "y": plots.number_list((*curve.weight, 0.0, 0.0)),
            "line": {"color": shade(i, len(record.curves)), "width": 2},
        }
        for i, curve in enumerate(record.curves)
    ]
    x = plots.axis_spec("rank of the score", type="log", dtick=1, exponentformat="power")
    return {
        "data": data,
        "layout": plots.layout_spec(x, plots.axis_spec("weight", rangemode="tozero"), showlegend=True),
    }


def evidence_by_fold(found: Evidence) -> plots.Spec:
    """Observed minus expected sum of weights by place of the fold, and below it the significance in each order and its mean."""
    place = plots.number_list(found.place)
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "observed − expected",
            "x": place,
            "y": plots.number_list(found.excess),
            "error_y": {
                "type": "data",
                "array": plots.number_list(found.error),
                "thickness": 1.2,
                "width": 0,
            },
            "marker": {"color": DATA, "size": 6},
        },
        *(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "Z of single orders",
                "showlegend": k == 0,
                "x": place,
                "y": plots.number_list(z),
                "yaxis": "y2",
                "marker": {"color": COLOURS[5], "size": 5},
            }
            for k, z in enumerate(found.z)
        ),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "mean Z",
            "x": place,
            "y": plots.number_list(found.mean_z),
            "yaxis": "y2",
            "line": {"color": FIT, "width": 2},
        },
    ]
    x = plots.axis_spec("place of the fold in the order", anchor="y2", mirror="all", dtick=1)
    return {
        "data": data,
        "layout": plots.layout_spec(
            x,
            plots.axis_spec("sum of weights", domain=[0.45, 1], zeroline=True),
            height=460,
            yaxis2=plots.axis_spec("Z [σ]", domain=[0, 0.38], nticks=5, zeroline=True),
            showlegend=True,
        ),
    }
