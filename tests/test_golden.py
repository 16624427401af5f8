"""Numbers stay what they were: ``python tests/test_golden.py [CASE ...]`` writes them anew after a change that is meant."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_cases import CASES, TRAINED, plain

GOLDEN = Path(__file__).parent / "golden"
# Without the vector instructions of the processor that wrote the files, trainings in single precision moved scores by up to 2e-7, and p-values
# of folds, which are integrals, by 1e-15. Nothing else moved by more than 2e-11 of itself.
EXACT, SINGLE = {"rel": 1e-9, "abs": 1e-14}, {"rel": 1e-6, "abs": 1e-6}


def differences(golden: Any, found: Any, tolerance: dict[str, float], place: str = "") -> Iterator[str]:
    """What is missing or another number; results may say more than they did."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key, value in golden.items():
            if key in found:
                yield from differences(value, found[key], tolerance, f"{place}/{key}")
            else:
                yield f"{place}/{key}: missing"
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for i, (one, other) in enumerate(zip(golden, found, strict=True)):
            yield from differences(one, other, tolerance, f"{place}/{i}")
    elif isinstance(golden, float) and isinstance(found, float):
        if not math.isclose(golden, found, rel_tol=tolerance["rel"], abs_tol=tolerance["abs"]):
            yield f"{place}: {golden!r} is now {found!r}"
    elif golden != found or isinstance(golden, bool) != isinstance(found, bool):
        yield f"{place}: {golden!r} is now {found!r}"


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_the_golden_set(name: str, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    changed = list(differences(golden, plain(CASES[name](tmp_path)), SINGLE if name == "trained" else EXACT))
    assert not changed, f"{len(changed)} numbers changed:\n" + "\n".join(changed[:40])


def test_every_method_is_searched_with() -> None:
    from serendip.methods.registry import METHODS

    assert set(TRAINED) == set(METHODS)


def test_a_changed_number_is_noticed() -> None:
    golden = {"p": 0.01, "n": [3, None, True], "fit": "dijet-3"}
    assert not list(differences(golden, {**golden, "new": 1}, EXACT))
    for other in (
        {"p": 0.01 * (1 + 1e-8)},
        {"n": [3, 1, True]},
        {"n": [3, None]},
        {"n": [3, None, 1]},
        {"fit": "dijet-4"},
    ):
        assert len(list(differences(golden, golden | other, EXACT))) == 1
    assert list(differences(golden, {}, EXACT)) == [f"/{key}: missing" for key in golden]
    assert plain({"x": range(20), "words": "a b", "f": float("nan"), "p": [0.5, "two words"]}) == plain(
        {"x": tuple(range(20)), "f": float("nan"), "p": [0.5]}
    )
    assert plain(range(20)) != plain([1, 0, *range(2, 20)])


def text(value: Any, indent: int = 1) -> str:
    """JSON whose lines are neither long nor many."""
    short, inner = json.dumps(value, allow_nan=False), " " * indent
    if len(short) < 120 or not isinstance(value, dict | list):
        return short
    if isinstance(value, dict):
        items, ends = [f"{json.dumps(key)}: {text(item, indent + 1)}" for key, item in value.items()], "{}"
    else:
        items, ends = [text(item, indent + 1) for item in value], "[]"
    return f"{ends[0]}\n{inner}" + f",\n{inner}".join(items) + f"\n{inner[1:]}{ends[1]}"


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = plain(CASES[name](Path(folder)))
        (GOLDEN / f"{name}.json").write_text(text(found) + "\n")
        print(f"{name}: written")
