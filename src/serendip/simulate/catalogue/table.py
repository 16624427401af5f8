"""The catalogue compared with the papers, as the table of the documentation."""

from __future__ import annotations

from serendip.simulate.catalogue.papers import CHALLENGE, MIXTURES, SIGNALS, PaperSignal
from serendip.simulate.catalogue.points import CATALOGUE, FAMILIES
from serendip.wording import counted

__all__ = ["catalogue_table", "usable"]


def catalogue_table() -> str:
    """Markdown: what is usable in each channel, the signals of each paper with the corresponding points, and our own points."""
    lines = [
        f"### Channels of arXiv:{MIXTURES}",
        "",
        "| channel | signals that train there | named | usable under their name | by a substitute | not usable | all points here |",
        "|---|---|---|---|---|---|---|",
        *(_channel_row(channel, trained) for channel, trained in _TRAINED_THERE.items()),
        "",
    ]
    for paper, title in ((MIXTURES, "mixtures of theories"), (CHALLENGE, "the Dark Machines challenge")):
        lines += [
            f"### Signals of arXiv:{paper}, {title}",
            "",
            "| family | signal | channels there | here, and where it is usable | remark |",
            "|---|---|---|---|---|",
            *(_signal_row(signal) for signal in SIGNALS if signal.paper == paper),
            "",
        ]
    lines += ["### Points of our own", "", "| family | points |", "|---|---|"]
    for family, points in FAMILIES.items():
        if own := [f"`{point.name}`" for point in points if point.origin == "ours"]:
            lines.append(f"| {family} | {', '.join(own)} |")
    return "\n".join(lines) + "\n"


# Numbers of signals in the trainings; the appendix of the paper names fewer.
_TRAINED_THERE = {"1": 37, "2a": 51, "2b": 18, "3": 71}


def usable(signal: PaperSignal, channel: str) -> list[str]:
    """Points that represent a signal and have enough events in a channel; its own first."""
    names = (signal.made, *signal.substitutes)
    return [name for name in names if name and channel in CATALOGUE[name].channels]


def _channel_row(channel: str, trained: int) -> str:
    named = [signal for signal in SIGNALS if signal.paper == MIXTURES and channel in signal.channels]
    found = {signal.made or signal.name: usable(signal, channel) for signal in named}
    own = sum(names[:1] == [made] for made, names in found.items())
    other = {made: names for made, names in found.items() if names and names[0] != made}
    points = {name for names in other.values() for name in names}
    missing = ", ".join(f"`{made}`" for made, names in found.items() if not names) or "none"
    everything = sum(channel in point.channels for point in CATALOGUE.values())
    substitutes = f"{len(other)} ({counted(len(points), 'point')})"
    return f"| {channel} | {trained} | {len(named)} | {own} | {substitutes} | {missing} | {everything} |"


def _signal_row(signal: PaperSignal) -> str:
    here = []
    for name in (signal.made, *signal.substitutes):
        if name:
            kind = "" if name == signal.made else "substitute "
            here.append(f"{kind}`{name}` ({', '.join(CATALOGUE[name].channels) or 'no channel'})")
    cells = (
        signal.family,
        f"`{signal.name}`",
        ", ".join(signal.channels),
        ", ".join(here) or "none",
        signal.remark,
    )
    return f"| {' | '.join(cells)} |"
