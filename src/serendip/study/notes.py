"""Where a study falls short of the request, in sentences: nothing is reduced silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serendip.study.context import Context
from serendip.wording import counted, noun

__all__ = ["shortfalls"]

_SHOWN = 5


def shortfalls(
    context: Context, channels: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Titles and sentences.

    Parameters
    ----------
    context
        The study.
    channels
        Content of the samples, by channel: ``left_out`` and ``training`` events by theory.
    answers
        The existing ones; ``models`` has the numbers of signal events of trainings that are compared at equal numbers.
    """
    config, design = context.config, context.design
    found: list[tuple[str, str]] = []
    for part, names in (("families", design.held_out_families), ("points", design.held_out_points)):
        if not names:
            found.append(("Design", f"no held-out {part} are tested"))
    tested = {*design.held_out_families, *design.held_out_points}
    events = (answers.get("models") or {}).get("events") or {}
    for channel, content in channels.items():
        said: list[str] = []
        if not tested & set(context.present[channel]):
            said.append(
                f"no held-out theory has {config.min_events} events here, so that the channel is in no total improvement"
            )
        if left := content["left_out"]:
            what = f"{counted(len(left), 'theory', 'theories')} with fewer than {config.min_events} events"
            said.append(f"{what} {noun(len(left), 'is', 'are')} left out: {_fewest(left)}")
        sizes = {name: content["training"][name] for name in context.training(channel)}
        asked = config.events_per_theory
        if short := {name: n for name, n in sizes.items() if n < asked}:
            got = sum(min(n, asked) for n in sizes.values())
            said.append(
                f"{len(short)} of {counted(len(sizes), 'theory', 'theories')} {noun(len(short), 'has', 'have')} fewer than {asked} "
                f"events to train on: {_fewest(short)}. A mixture of all has {got} signal events, not {asked * len(sizes)}"
            )
        numbers = events.get(channel)
        if numbers and numbers["used"] < numbers["asked"]:
            said.append(
                f"single theories and mixtures are compared at {numbers['used']} signal events, not {numbers['asked']}: the smallest "
                "of these samples has no more"
            )
        found += [(f"Channel {channel}", text) for text in said]
    return found


def _fewest(sizes: Mapping[str, int]) -> str:
    order = sorted(sizes, key=lambda name: (sizes[name], name))
    more = len(order) - _SHOWN
    return ", ".join(f"{name} ({sizes[name]})" for name in order[:_SHOWN]) + (
        f" and {more} more" if more > 0 else ""
    )
