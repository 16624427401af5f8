"""Download files over HTTP: checked, resumed, with progress, repeated where a failure may pass."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from serendip.errors import InputError
from serendip.io.files import make_folder

__all__ = ["RemoteFile", "download", "open_address", "readable_size", "repeat"]

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0
_ATTEMPTS = 5
# errors that may be temporary; everything else is final
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a record.

    Parameters
    ----------
    name
        File name.
    size
        Bytes.
    algorithm, checksum
        Name of the hash (``md5``) and its hexadecimal value.
    url
        Where it is.
    """

    name: str
    size: int
    algorithm: str
    checksum: str
    url: str


def download(
    files: Sequence[RemoteFile],
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    pause: float = 1.0,
) -> dict[str, str]:
    """Download files into a folder, each checked against its checksum.

    A complete file is not fetched again. An interrupted one stays as ``NAME.part`` and is continued by the
    next call. Temporary failures are repeated five times in a row without progress before they are an error.

    Parameters
    ----------
    files
        From :func:`serendip.events.zenodo.find_record`.
    out
        Folder, made if missing.
    progress
        Called with name, bytes done and total bytes.
    pause
        Seconds before the first repetition; doubled each time.

    Returns
    -------
    dict of str to str
        Name to ``"downloaded"``, ``"resumed"`` or ``"already there"``.

    Raises
    ------
    InputError
        If the disk has too little space, a checksum is wrong, the server or the network fails, or a file of
        that name with other content exists.
    """
    folder = Path(out)
    make_folder(folder, "")
    missing = [file for file in files if not _is_there(file, folder)]
    _check_space(missing, folder)
    done = {file.name: "already there" for file in files if file not in missing}
    for file in missing:
        done[file.name] = _download_one(file, folder, progress or (lambda *_: None), pause)
    return {file.name: done[file.name] for file in files}


def _is_there(file: RemoteFile, folder: Path) -> bool:
    path = folder / file.name
    if not path.exists():
        return False
    if path.stat().st_size == file.size and _digest(path, file.algorithm) == file.checksum:
        return True
    raise InputError(
        f"'{path}' exists, but its content is not that of the record ({path.stat().st_size} bytes, expected {file.size} with "
        f"{file.algorithm} {file.checksum}); move it away or choose another folder"
    )


def _check_space(files: Sequence[RemoteFile], folder: Path) -> None:
    parts = [folder / f"{file.name}.part" for file in files]
    have = sum(part.stat().st_size for part in parts if part.exists())
    needed, free = sum(file.size for file in files) - have, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the disk of '{folder}' has {readable_size(free)} free, but {readable_size(needed)} are needed; "
            "make space, choose another folder, or take fewer files"
        )


def _download_one(file: RemoteFile, folder: Path, progress: Progress, pause: float) -> str:
    part = folder / f"{file.name}.part"
    try:
        target = part.open("r+b" if part.exists() else "w+b")
    except OSError as error:
        raise InputError(f"'{part}' cannot be written: {error.strerror}") from error
    with target:
        have = target.seek(0, os.SEEK_END)
        if have > file.size:
            have = target.truncate(0)

        def size() -> int:
            return target.seek(0, os.SEEK_END)

        def transfer() -> None:
            if size() < file.size:
                _transfer(file, target, size(), progress)
            if size() < file.size:
                raise ConnectionError(f"the transfer ended after {size()} of {file.size} bytes")

        repeat(transfer, file.url, f"'{file.name}'", pause=pause, progressed=size)
        os.fsync(target)
        arrived = size()
    progress(file.name, file.size, file.size)
    found = _digest(part, file.algorithm)
    if arrived != file.size or found != file.checksum:
        part.unlink()
        raise InputError(
            f"'{file.name}' arrived with {arrived} bytes and {file.algorithm} {found}, expected {file.size} bytes and "
            f"{file.checksum}; it was removed, repeat the command to fetch it again"
        )
    part.replace(folder / file.name)
    return "resumed" if have else "downloaded"


def _transfer(file: RemoteFile, target: BinaryIO, have: int, progress: Progress) -> None:
    with open_address(file.url, have) as answer:
        # a server that does not know ranges sends everything
        ranged = (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        done = have if answer.status == http.client.PARTIAL_CONTENT and ranged else 0
        target.truncate(done)
        target.seek(done)
        while done <= file.size and (data := answer.read(_BLOCK)):
            try:
                target.write(data)
                target.flush()
            except OSError as error:
                raise InputError(
                    f"'{file.name}.part' cannot be written after {done} bytes: {error.strerror}; existing data are kept, "
                    "repeat the command to continue"
                ) from error
            done += len(data)
            progress(file.name, min(done, file.size), file.size)


def open_address(address: str, start: int = 0) -> http.client.HTTPResponse:
    """Open an address for reading from byte ``start``, which a server may ignore; proxies as in the environment."""
    headers = {"User-Agent": "serendip", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    return cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=_TIMEOUT_S))


def repeat(
    action: Callable[[], None],
    address: str,
    what: str,
    *,
    pause: float,
    progressed: Callable[[], int] = lambda: 0,
) -> None:
    """Call ``action`` until it succeeds; five failures in a row without progress are final.

    Parameters
    ----------
    action
        What to do; network errors and answers such as 503 are repeated, answers such as 404 are not.
    address, what
        For the message.
    pause
        Seconds before the first repetition; doubled each time, longer if the server requests it.
    progressed
        A number that grows with progress.

    Raises
    ------
    InputError
        With the last reason.
    """
    failures, before = 0, progressed()
    while True:
        try:
            action()
        except urllib.error.HTTPError as error:
            error.close()
            reason, wait = f"the server answers {error.code} {error.reason}", _retry_after(error)
            if error.code not in _TEMPORARY:
                raise InputError(
                    f"{what} cannot be fetched from {address}: {reason}{_hint(error.code)}"
                ) from error
        except (OSError, http.client.HTTPException) as error:
            reason, wait = str(getattr(error, "reason", "")) or str(error) or type(error).__name__, 0.0
        else:
            return
        failures = 1 if progressed() > before else failures + 1
        before = progressed()
        if failures >= _ATTEMPTS:
            raise InputError(
                f"{what} cannot be fetched from {address} after {failures} attempts: {reason}. Is there a network (a proxy is "
                "taken from https_proxy)? Downloaded data are kept, repeat the command to continue; without a network, "
                "download the files elsewhere and copy them into the folder"
            )
        wait = max(wait, pause * 2 ** (failures - 1))
        log.warning("%s: %s; trying again in %g s", what, reason, wait)
        time.sleep(wait)


def _retry_after(error: urllib.error.HTTPError) -> float:
    text = error.headers.get("Retry-After") or "" if error.headers else ""
    return min(float(text), 60.0) if text.isdigit() else 0.0


def _hint(code: int) -> str:
    if code in (404, 410):
        return "; there is no such record or file, check the number"
    if code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return "; remove the .part file and start again"
    return "; it is not public" if code in (401, 403) else ""


def readable_size(size: int) -> str:
    """Bytes as a short text, for example ``3.0 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
