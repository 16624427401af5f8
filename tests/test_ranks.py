"""One score, one reference, every rule: where they agree and where they differ on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from serendip.statistics.ranks import (
    cut_efficiency,
    fraction_kept,
    leave_one_out_rank,
    pooled_efficiency,
    randomised_efficiency,
    share_below,
)

# three events beside the window (6, 4, 2), two in it
SCORE = np.array([6.0, 4.0, 2.0, 5.0, 4.0])
SIDE = np.array([True, True, True, False, False])
FOLD, ONES = np.zeros(5, dtype=np.int64), np.ones(5)
FIRST_WINS = np.array([9, 8, 7, 6, 5], dtype=np.uint64)


def test_each_rule_counts_the_event_itself_in_its_own_way():
    ranks = leave_one_out_rank(SCORE, FOLD, SIDE, ONES, FIRST_WINS)
    assert ranks == pytest.approx([1 / 3, 2 / 3, 1.0, 2 / 4, 3 / 4])
    cuts = cut_efficiency(SCORE, FOLD, SIDE, ONES, FIRST_WINS)
    assert cuts == pytest.approx([1 / 3, 2 / 3, 1.0, 2 / 3, 1.0])
    assert pooled_efficiency(SCORE, FOLD, SIDE, ONES) == pytest.approx([2 / 4, 3 / 4, 1.0, 2 / 4, 3 / 4])
    beside = np.sort(SCORE[SIDE])
    assert fraction_kept([5.0, 4.0, 7.0], beside) == pytest.approx([2 / 4, 3 / 4, 1 / 4])
    drawn = randomised_efficiency(np.array([4.0, 4.0, 5.0]), np.array([0.0, 0.5, 0.5]), beside)
    assert drawn == pytest.approx([3 / 4, 2 / 4, 1.5 / 4])
    assert share_below([4.0, 5.0, 1.0, 7.0], beside, ONES[:3]) == pytest.approx([0.5, 2 / 3, 0.0, 1.0])


def test_events_of_weight_zero_are_no_reference():
    reference, weights = np.array([1.0, 2.0, 3.0, 8.0]), np.array([2.0, 4.0, 1.0, 0.0])
    assert fraction_kept([2.5, 9.0], reference, weights) == pytest.approx([2 / 8, 1 / 8])
