"""Were the data stable while they were recorded? A complete validation in one file.

The table is taken to be in the order of recording. Outside the signal region, a Kolmogorov-Smirnov test compares each feature in the first half of the
events with the second half; p-values are multiplied by the number of features (Bonferroni).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.stats import ks_2samp

from serendip.errors import InputError
from serendip.search.config import SearchConfig
from serendip.search.engine import read_events
from serendip.validate.base import Answer, Check, Work, answers
from serendip.validate.config import KindOptions
from serendip.validate.pictures import Picture, Series

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Are the features the same in the first and in the second half of the data?"


class Options(KindOptions):
    """Smallest corrected p-value that passes, and number of bins in the figures."""

    min_p: float = Field(default=1e-3, gt=0, lt=1)
    bins: int = Field(default=20, ge=2, le=200)


@answers("stability")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Compare the two halves, without the signal region.

    Raises
    ------
    InputError
        If the events have weights, which the test cannot use.
    """
    events = read_events(config)
    if events.weight is not None:
        raise InputError(
            "the Kolmogorov-Smirnov test of 'stability' has no event weights; leave --weight out"
        )
    for window in config.windows:
        events = events.select(~window.contains(events.m))
    half = len(events) // 2
    work.progress.start("stability", len(events.features))
    checks, figures, p_values = [], [], {}
    for number, name in enumerate(events.features):
        first, second = events.x[:half, number], events.x[half:, number]
        p = min(1.0, float(ks_2samp(first, second).pvalue) * len(events.features))
        p_values[name] = p
        checks.append(
            Check(
                name, p >= options.min_p, p, None, f"at least {options.min_p:g}",
                f"'{name}' changed during data taking: something other than physics may separate the events.",
            )
        )  # fmt: skip
        edges = np.linspace(*np.quantile(events.x[:, number], (0.001, 0.999)), options.bins + 1)
        series = [
            Series(name=f"{label} half", x=edges.tolist(), y=(np.histogram(part, edges)[0] / len(part)).tolist(), style="steps")
            for label, part in (("first", first), ("second", second))
        ]  # fmt: skip
        figures.append(
            Picture(
                name=f"stability-{name}", title=name, caption=f"Corrected p-value {p:.2g}.", x_label=name,
                y_label="fraction of events", series=tuple(series),
            )
        )  # fmt: skip
        work.progress.advance(name)
    return checks, {"p_values": p_values, "events": [half, len(events) - half]}, figures
