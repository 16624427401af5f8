from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip.errors import InputError
from serendip.events.weights import explain_negative_weights, signed_weights, weight_sum


def test_sums_of_weights_of_both_signs():
    w = np.array([2.0, 2.0, -1.0, 2.0, 0.0])
    found = weight_sum(w)
    assert (found.n_events, found.n_negative) == (4, 1)
    assert found.total == 5.0
    assert found.error == pytest.approx(np.sqrt(13))
    assert found.effective == pytest.approx(25 / 13)
    assert found.negative_share == pytest.approx(1 / 7)
    assert "1 (25.0%) with negative weight" in str(found)
    assert "negative" not in str(weight_sum(np.ones(3)))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_of_extreme_weights_stay_in_range(size):
    found = weight_sum(np.array([1.0, -0.5, 1.0]) * size)
    assert found.effective == pytest.approx(1.5**2 / 2.25)
    assert found.error == pytest.approx(1.5 * size)


def test_weights_that_cannot_be_summed_are_refused():
    assert signed_weights(None, 3).tolist() == [1, 1, 1]
    assert signed_weights([1, -0.5], 2).tolist() == [1, -0.5]
    with pytest.raises(InputError, match="1 of 2 are not"):
        signed_weights([1.0, np.nan], 2)
    with pytest.raises(InputError, match="the sum of the weights of the signal is -1"):
        signed_weights([1.0, -2.0], 2, "the signal")
    with pytest.raises(ValueError, match="for 3 events"):
        signed_weights([1.0, 2.0], 3)


def test_a_training_sample_with_negative_weights_is_told_the_ways_out(tmp_path):
    from serendip.events.read import read

    w = np.where(np.arange(100) % 5 == 0, -1.0, 1.0)
    rng = np.random.default_rng(1)
    pq.write_table(
        pa.table({"m": rng.uniform(1, 2, 100), "x": rng.random(100), "w": w}), tmp_path / "a.parquet"
    )
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.parquet", mass="m", features=["x"], weight="w")
    text = str(caught.value)
    assert explain_negative_weights(w) in text
    # 80 - 20 = 60 become 80
    assert "20 of 100 events" in text
    assert "rise by 33.3%" in text
    for way in ("resample", "one weight", "weight>=0", "--signal-weight"):
        assert way in text
