"""The score as an input to a search for a resonance, see :mod:`serendip.study.resonance`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serendip.errors import InputError
from serendip.study.context import Context
from serendip.study.resonance.question import resonant_question
from serendip.study.tasks import Task, sample_file
from serendip.theories.sample_cache import read_samples

__all__ = ["answer", "stages"]

_CHANNEL = "3"


def stages(context: Context) -> Iterator[list[Task]]:
    """No training is shared with the other questions: the mixture here has a part of the background less."""
    del context
    yield []


def answer(context: Context, progress: Any) -> dict[str, Any]:
    """Search for the resonance of the options in channel 3; the numbers of :class:`~serendip.study.resonance.answer.ResonantAnswer`.

    Raises
    ------
    InputError
        If channel 3 is not part of the study, or the resonance is not among its theories.
    """
    name = context.config.resonance
    if name not in context.present.get(_CHANNEL, ()):
        raise InputError(
            f"the question 'resonant' needs channel {_CHANNEL} and '{name}' with at least {context.config.min_events} events in it; set "
            "resonance to another theory, or leave the question out"
        )
    samples = read_samples(sample_file(context.out, _CHANNEL))
    return resonant_question(
        samples.background,
        samples.theories,
        next(theory for theory in samples.theories if theory.name == name),
        context.out / "resonant",
        context.config.resonant,
        features=samples.features,
        progress=progress,
    ).to_dict()
