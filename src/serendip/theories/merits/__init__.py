"""Figures of merit of a score: how well it separates signals from background.

* :mod:`~serendip.theories.merits.samples` - efficiencies of one weighted sample of scores
* :mod:`~serendip.theories.merits.figures` - area under the ROC curve, signal efficiencies and significance improvements of one signal
* :mod:`~serendip.theories.merits.improvement` - total improvement: signals and channels together
* :mod:`~serendip.theories.merits.tables` - files of the Dark Machines challenge, and your own in the same format
* :mod:`~serendip.theories.merits.published` - the published results, and impossible rows among them
"""

from serendip.theories.merits.figures import (
    MIN_BACKGROUND,
    TARGETS,
    BackgroundScores,
    Convention,
    Merits,
    WorkingPoint,
    merits,
    significance_improvement,
)
from serendip.theories.merits.improvement import (
    SignalImprovement,
    TotalImprovement,
    best_per_signal,
    total_improvement,
)
from serendip.theories.merits.published import (
    ModelImprovement,
    ResultTable,
    challenge_improvements,
    clean,
    impossible_rows,
)
from serendip.theories.merits.tables import read_improvements, read_results, result_files, secret_results

__all__ = [
    "MIN_BACKGROUND",
    "TARGETS",
    "BackgroundScores",
    "Convention",
    "Merits",
    "ModelImprovement",
    "ResultTable",
    "SignalImprovement",
    "TotalImprovement",
    "WorkingPoint",
    "best_per_signal",
    "challenge_improvements",
    "clean",
    "impossible_rows",
    "merits",
    "read_improvements",
    "read_results",
    "result_files",
    "secret_results",
    "significance_improvement",
    "total_improvement",
]
