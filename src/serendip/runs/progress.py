"""What a program tells while it works."""

from __future__ import annotations

import logging
from typing import Protocol

__all__ = ["LogProgress", "Progress"]

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives what a program is doing."""

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""

    def advance(self, done: str) -> None:
        """Report one finished step."""


class LogProgress:
    """Writes everything to the log."""

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        log.info("%s (%d)", stage, total)

    def advance(self, done: str) -> None:
        """Report one finished step."""
        log.info("done: %s", done)
