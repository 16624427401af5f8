"""Errors that are meant for the person at the keyboard.

Everything a user can cause ends in a :class:`SerendipError`; the command line prints its text as one
message and exits with :attr:`SerendipError.exit_code`. Any other exception is a defect of the package.
"""

from __future__ import annotations

__all__ = ["CheckFailedError", "InputError", "SerendipError"]


class SerendipError(Exception):
    """Base class. The text says what was wrong, what was expected and what to do."""

    exit_code = 1


class InputError(SerendipError):
    """Bad input or usage: a file, column, value or option that cannot be used (exit code 2)."""

    exit_code = 2


class CheckFailedError(SerendipError):
    """The input was usable, but a check on the result failed (exit code 1)."""
