"""Which weight the events of a simulated signal have."""

from __future__ import annotations

import logging
from pathlib import Path

from serendip.errors import InputError
from serendip.events.formats import Source

__all__ = ["weight_of_signal"]

log = logging.getLogger(__name__)


def weight_of_signal(
    file: Source, signal_file: Path, weight: str | None, signal_weight: str | None, tree: str | None
) -> str | None:
    """Weight of a simulated signal: the requested one, or the weight of the data if the simulation has all its columns too.

    Raises
    ------
    InputError
        If only the simulation has the weight that was given for the data.
    """
    if weight is None or signal_weight is not None:
        return signal_weight
    if _has_weight(signal_file, weight, tree):
        if not _has_weight(file, weight, tree):
            raise InputError(
                f"the data have no weight '{weight}', but {signal_file.name} has: --weight applies to the data, "
                f"--signal-weight {weight} to the simulated signal"
            )
        return weight
    log.warning(
        "%s: no weight '%s' there, so the simulated events count equally (--signal-weight COL chooses another weight)",
        signal_file.name, weight,
    )  # fmt: skip
    return None


def _has_weight(file: Source, weight: str, tree: str | None) -> bool:
    from serendip.events.expressions import parse
    from serendip.events.formats import open_table

    table = open_table(file, tree)
    try:
        parse(weight, table.names)
    except InputError:
        return False
    finally:
        table.close()
    return True
