"""Is the tool right on *your* data: closure, sculpting, null, bias, coverage, injection, control, simulation.

``serendip.validate(...)`` is :func:`serendip.run_validate`.
"""

from __future__ import annotations

from serendip.validate.base import Check, Validation, read_validations
from serendip.validate.engine import run_validations

__all__ = ["Check", "Validation", "read_validations", "run_validations"]
