from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples in every run: a change is judged by what it changes
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; a stranger's clone has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """More threads than cores make torch many times slower on a small busy machine."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
