"""Numbers of a run as sentences that a physicist would write."""

from serendip.report.words.cautions import VISIBLE_CLOSURE, Note, notes, reservation
from serendip.report.words.numbers import counted, cut, interval, number, p_text, percent, with_error, z_text
from serendip.report.words.sentences import (
    GLOSSARY,
    choice_sentence,
    describe_look,
    effective_sentence,
    global_label,
    headline,
    left_out_sentence,
    signal_share,
    toys_exhausted,
    trials_sentence,
    verdict,
)
from serendip.report.words.weighted import (
    checks_sentence,
    count_text,
    orders_sentence,
    selection,
    short_selection,
)

__all__ = [
    "GLOSSARY", "VISIBLE_CLOSURE", "Note", "checks_sentence", "choice_sentence", "count_text", "counted", "cut", "describe_look", "effective_sentence", "global_label", "headline",
    "interval", "left_out_sentence", "notes", "number", "orders_sentence", "p_text", "percent", "reservation", "selection", "short_selection", "signal_share", "toys_exhausted", "trials_sentence", "verdict",
    "with_error", "z_text",
]  # fmt: skip
