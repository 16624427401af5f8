"""Writing files so that a crash, a full disk or a kill leaves the old or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serendip.errors import InputError

__all__ = ["atomic_write"]

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
    """Give a temporary path beside ``path``; on success it is flushed to disk and replaces ``path``.

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
