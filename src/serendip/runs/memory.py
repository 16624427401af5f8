"""How much memory a training took."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["forget_peak_memory", "peak_memory_gib"]


def forget_peak_memory() -> None:
    """Reset :func:`peak_memory_gib`: a worker runs many trainings, and each has its own peak (Linux only)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_gib() -> float | None:
    """Most memory that this process held since its start or the last :func:`forget_peak_memory`; None if unknown."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    try:
        import resource
    except ImportError:
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(kilobytes) / 2**20 if sys.platform != "darwin" else float(kilobytes) / 2**30
