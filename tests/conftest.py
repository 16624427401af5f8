from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# the same examples in every run: a change is judged by what it changes
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


# Files that take longest, first: a run by two workers then ends with short ones, and neither waits for the other.
_LONGEST = (
    "search", "validate", "anode", "ranode", "baselines", "infer", "cathode", "curtains", "models", "peaks", "compare", "null", "monitor",
    "salad_feta", "public", "lacathode", "dream", "full_chain_calibration", "catalogue", "spectrum_fit", "tune", "weighted_search",
    "template_count", "sight", "simulate_channel", "report_browser", "mixture", "ensemble", "report_theories", "trials",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": k for k, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; a stranger's clone has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder


@pytest.fixture(scope="module")
def halves(events: Any) -> Any:
    """Two splits, each with every other event of the module."""
    import numpy as np

    first = np.arange(len(events)) % 2 == 0
    return np.stack([first, ~first])


@pytest.fixture(scope="session")
def with_signal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a planted signal; to be read only."""
    from samples import write_table

    return write_table(tmp_path_factory.mktemp("data") / "signal.parquet", n_signal=150)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of ``examples/``."""
    from example_packages import lay_out_examples

    folder = tmp_path_factory.mktemp("site")
    lay_out_examples(folder)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages of ``examples/`` can be imported."""
    from example_packages import forget_loaded

    monkeypatch.syspath_prepend(site)
    forget_loaded(monkeypatch)
    return site


@pytest.fixture(scope="session")
def blinded_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blinded search whose models are networks, trees and a flow; to be left as it is."""
    from samples import search_settings, write_table

    from serendip.search.config import parse_config
    from serendip.search.engine import run_search

    folder = tmp_path_factory.mktemp("models")
    lacathode = {"members": 1, "steps": 20, "batch_size": 128, "oversample": 1.0}
    settings = search_settings(
        write_table(folder / "events.parquet", 6000),
        method=["cwola", "lacathode"],
        options={"cwola": {"members": 1, "classifier": "network"}, "lacathode": lacathode},
        where="f1 < 9",
        folds=2,
        combination="sequential",
        working_points=[0.05],
        toys=200,
    )
    return run_search(parse_config(settings), folder / "run", jobs=1).path


@pytest.fixture(scope="session", autouse=True)
def printing() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Figures as users get them, in a ``with`` block.

    Elsewhere a page is wanted, not its printed figures: each is drawn once, coarsely, and its PDF is a stand-in.
    """
    from serendip.report import figures

    def draft(figure: Any, path: Path, suffix: str) -> None:
        if suffix == ".png":
            figure.savefig(path, format="png", dpi=20)
        else:
            path.write_bytes(b"%PDF draft")

    printed = figures.print_file

    @contextmanager
    def as_printed() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(figures, "print_file", printed)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "print_file", draft)
        yield as_printed


@pytest.fixture(scope="module")
def unprinted(printing: Any) -> Iterator[None]:
    """Files of figures are stand-ins: for modules that look at no page."""
    from serendip.report import figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "print_file", lambda _, path, suffix: path.write_text(f"stand-in {suffix}"))
        yield


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """More threads than cores make torch many times slower on a small busy machine."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped where there is none."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("chromedriver not found; on Debian: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()
