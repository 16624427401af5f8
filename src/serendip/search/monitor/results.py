"""``monitor.json``: the evidence of every look after every period of data taking."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serendip.io.records import Interval, Numbers, Probability, Record, Whole

__all__ = ["Evidence", "LookEvidence", "Monitored", "MonitoredLook", "PeriodFacts"]


class PeriodFacts(Record):
    """One period of data taking; the first one trains and is not tested."""

    period: Whole
    file: str
    digest: str
    events: Whole


class Evidence(Record):
    """Evidence of a tested period and of all until then; None while blinded."""

    period: Whole
    log_e: float | None = Field(description="ln of the evidence of this period")
    log_w: float | None = Field(description="ln of the evidence of all periods so far")
    log_p: float | None = Field(description="ln of the p-value, valid at any time of stopping")
    p: Probability | None
    z: float | None


class LookEvidence(Evidence):
    """Evidence of one look, with what it is made of."""

    expected: Numbers = Field(
        description="sum of the bets that the sidebands predict in the window, by horizon"
    )
    degree: tuple[Whole, ...] = Field(description="of the efficiency in ln m, by horizon")
    observed: Numbers | None = Field(description="sum of the bets in the window, by horizon")
    log_w_horizons: Numbers | None = Field(description="ln of the evidence so far, by horizon")


class MonitoredLook(Record):
    """A method in a window."""

    method: str
    window: Interval
    periods: tuple[LookEvidence, ...]


class Monitored(Record, title="monitor.json of a serendip monitor"):
    """All looks, and their evidence together."""

    schema_version: Literal[1] = Field(alias="schema")
    seed: Whole
    blinded: bool
    horizons: Numbers = Field(
        description="data after which each bet wants to claim its signal, in units of the first period"
    )
    periods: Annotated[tuple[PeriodFacts, ...], Field(min_length=1)]
    looks: Annotated[tuple[MonitoredLook, ...], Field(min_length=1)]
    overall: tuple[Evidence, ...] = Field(alias="global")
