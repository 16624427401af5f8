"""The kinds of validation by name. A kind is a module with ``Options`` and ``run`` (see :mod:`serendip.validate.base`)."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from serendip.errors import InputError

__all__ = ["KINDS", "Kind", "check_kind", "kind_names", "load_kind"]


@dataclass(frozen=True)
class Kind:
    """What a kind of validation asks.

    Attributes
    ----------
    question
        In one sentence.
    needs_window
        False if it works without a signal region.
    """

    question: str
    needs_window: bool = True


KINDS: dict[str, Kind] = {
    "closure": Kind("Does the background estimate predict a sideband that it was not made from?"),
    "sculpting": Kind("Does a cut on the score change the mass spectrum of background?"),
    "control": Kind(
        "Does a search where no signal is expected find none (and a known peak, if one is named)?"
    ),
    "null": Kind("Does the full chain, training included, claim excesses in background as often as it says?"),
    "bias": Kind("Does a wrong background function look like a signal?"),
    "coverage": Kind("Do intervals contain the truth as often as they say?"),
    "injection": Kind("Is a signal that is put in found, with the size it has?"),
    "simulation": Kind("Does the simulation look like the data (or another simulation)?", needs_window=False),
}
"""All kinds, in the order in which they run and are shown."""


def check_kind(name: str) -> None:
    """Stop if there is no kind of this name.

    Raises
    ------
    InputError
        Naming the kinds.
    """
    if name not in KINDS:
        near = get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"unknown kind of validation '{name}'{hint} (known: {', '.join(KINDS)}, or all)")


def kind_names(text: str) -> tuple[str, ...]:
    """Names in ``KIND[,KIND...]`` or ``all``, in the order of :data:`KINDS`.

    Raises
    ------
    InputError
        If a name is unknown, or there is none.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError(f"name at least one kind of validation: {', '.join(KINDS)}, or all")
    if "all" in wanted:
        return tuple(KINDS)
    for name in wanted:
        check_kind(name)
    return tuple(name for name in KINDS if name in wanted)


def load_kind(name: str) -> ModuleType:
    """Import the module of a kind.

    Raises
    ------
    InputError
        If the kind is unknown, or this installation does not have it.
    """
    check_kind(name)
    path = f"serendip.validate.{name}"
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name == path:
            raise InputError(
                f"'{name}' is not part of this installation of serendip: {path} is missing"
            ) from None
        raise
