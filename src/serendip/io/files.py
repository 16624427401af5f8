"""Files: written so that a crash, a full disk or a kill leaves the old or the new one, and read with errors for people."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

from serendip.errors import InputError

__all__ = ["atomic_folder", "atomic_write", "make_folder", "reading"]

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "that is not a folder",
    errno.EISDIR: "a folder of that name exists",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path next to ``path``; on success it is flushed to disk and replaces ``path``.

    If the body raises, the temporary file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path
        The file to make or to replace. Its folder must exist.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        # Fails early and with a plain reason where a library would raise something of its own.
        temporary.touch()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        own = error.filename is None or Path(str(error.filename)) in (temporary, target)
        if error.errno not in _REASONS or not own:
            raise
        raise InputError(
            f"cannot write '{target.name}' in folder '{target.parent}': {_REASONS[error.errno]}; "
            "nothing was changed"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder next to ``folder``; on success it replaces ``folder``, so that a partial folder never exists.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); free space and repeat the command"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def reading(path: Path, *, missing: str = "", damaged: str = "") -> Iterator[None]:
    """Convert errors while reading and decoding a file, or a folder of files, into an error that names it.

    Parameters
    ----------
    path
        The file or folder.
    missing
        Expected content, if it does not exist.
    damaged
        Advice if it cannot be read, or holds something else.

    Raises
    ------
    InputError
        If it is missing or damaged.

    Examples
    --------
    >>> with reading(Path("run.json"), damaged="make it again"):
    ...     {}["seed"]
    Traceback (most recent call last):
        ...
    serendip.errors.InputError: run.json: is damaged ('seed' is missing); make it again
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        elif isinstance(error, FileNotFoundError):
            if not path.exists():
                raise InputError("; ".join(filter(None, [f"{path}: no such file", missing]))) from None
            reason = f"{Path(str(error.filename)).name} is missing"
        raise InputError("; ".join(filter(None, [f"{path}: is damaged ({reason})", damaged]))) from None


def make_folder(folder: Path, said: str = "--out ") -> None:
    """Make a folder and those above it, if they are not there.

    Raises
    ------
    InputError
        If that is impossible; the message begins with ``said``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{said}{folder}: cannot be created ({error.strerror or error})") from None
