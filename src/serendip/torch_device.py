"""Where tensors live and how many threads torch may use; torch is imported at first use, so that help pages need not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["limited_threads", "pick_device"]


def pick_device(name: str | None = None) -> torch.device:
    """Return the device to train on: ``name`` if given, else CUDA if there is one, else the CPU."""
    import torch

    if name is not None:
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Run torch on ``threads`` CPU threads inside the block and restore the former number after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
