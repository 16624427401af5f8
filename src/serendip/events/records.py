"""The official Dark Machines records: which files belong to a channel, in a folder or inside a tar archive.

``training_files.tar`` holds ``training_files/chan1``, ``chan2a``, ``chan2b`` and ``chan3``, each with one
background file and the signal files; ``secret_data.tar`` holds ``chan1`` ... with one file without labels in each
(Zenodo 3961917 and 4443151, arXiv:2105.14027).
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from serendip.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CHANNEL_NAMES", "Record", "RecordFile", "read_record"]

CHANNEL_NAMES = ("1", "2a", "2b", "3")

_IN_NAME = re.compile(r"(?:^|_)chan(1|2a|2b|3)(?=[_.]|$)")
_FOLDER = re.compile(r"^chan(?:nel)?_?(1|2a|2b|3)$")
_LUMINOSITY = re.compile(r"_chan(?:1|2a|2b|3)_(\d+(?:\.\d+)?)(?=[_.]|$)")
# name with folders, bytes, the file or archive, name in the archive
_Found = tuple[str, int, Path, str | None]
_HIDDEN = re.compile(r"^(unlabell?ed|secret)", re.IGNORECASE)


@dataclass(frozen=True)
class RecordFile:
    """One CSV file of a record; :func:`serendip.events.darkmachines.read_events` and ``read_chunks`` take it.

    Parameters
    ----------
    name
        File name without folders.
    label
        Name of the signal, or ``background``, or ``unlabelled``.
    size
        Bytes.
    path
        The file, or the tar archive that holds it.
    member
        Its name in the archive; None for a plain file.
    luminosity
        Integrated luminosity in fb^-1 that the name of a background file states, or None.
    """

    name: str
    label: str
    size: int
    path: Path
    member: str | None = None
    luminosity: float | None = None

    def open(self) -> BinaryIO:
        """Open it for reading; nothing is unpacked to disk."""
        if self.member is None:
            return self.path.open("rb")
        return io.BufferedReader(_Member(self.path, self.member))


class _Member(io.RawIOBase):
    """A file in an archive that closes the archive with itself."""

    def __init__(self, path: Path, member: str) -> None:
        try:
            self._archive = tarfile.open(path)  # noqa: SIM115 - closed with the member
            stream = self._archive.extractfile(member)
        except (tarfile.TarError, KeyError) as error:
            raise OSError(f"{path.name}: {error}") from error
        if stream is None:
            raise OSError(f"'{member}' in '{path.name}' is not a file")
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            data = self._stream.read(memoryview(buffer).nbytes)
        except tarfile.TarError as error:
            raise OSError(f"the archive is damaged or incomplete ({error})") from error
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._archive.close()
        super().close()


@dataclass(frozen=True)
class Record:
    """The files of one channel.

    Parameters
    ----------
    channel
        ``1``, ``2a``, ``2b`` or ``3``.
    background
        The Standard Model sample, or None (the secret data have none).
    signals
        The labelled signal samples, by name.
    unlabelled
        Samples with hidden labels.
    """

    channel: str
    background: RecordFile | None
    signals: tuple[RecordFile, ...]
    unlabelled: tuple[RecordFile, ...]


def read_record(path: str | os.PathLike[str], channel: str) -> Record:
    """List the files of a channel in an unpacked record, or directly in its tar archive.

    A file belongs to the channel in its name (``..._chan2a.csv``); without one, to that of its folder (``chan2a``
    or ``channel_2a``). ``background...`` is background, ``unlabeled...`` or ``secret...`` has hidden labels, as has
    the only file of a channel; everything else is a signal. Only names are looked at.

    Parameters
    ----------
    path
        A folder, searched with its subfolders, or a ``.tar`` or ``.tar.gz`` file.
    channel
        ``1``, ``2a``, ``2b`` or ``3``.

    Raises
    ------
    InputError
        If the channel is not known, nothing is there, the archive is damaged, or a channel has two background files.
    """
    if channel not in CHANNEL_NAMES:
        raise InputError(f"channel '{channel}' is not known; expected one of {', '.join(CHANNEL_NAMES)}")
    path = Path(path)
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file():
        found = _in_archive(path)
    else:
        raise InputError(f"there is no folder or tar archive '{path}'")
    by_channel: dict[str, list[_Found]] = {}
    for inner, size, file, member in found:
        name = PurePosixPath(inner).name
        if name.startswith((".", "_")) or not name.endswith((".csv", ".csv.gz")):
            continue
        of = _channel_of(inner, path.name if path.is_dir() else "")
        if of is not None:
            by_channel.setdefault(of, []).append((name, size, file, member))
    entries = sorted(by_channel.get(channel, []), key=lambda entry: entry[0])
    if not entries:
        there = ", ".join(sorted(by_channel)) or "none"
        raise InputError(
            f"'{path}' has no CSV file of channel {channel} (channels found: {there}); expected names such as "
            f"'background_chan{channel}_....csv' or a folder 'chan{channel}'"
        )
    files = [_record_file(*entry, alone=len(entries) == 1) for entry in entries]
    background = [file for file in files if file.label == "background"]
    if len(background) > 1:
        names = ", ".join(file.name for file in background)
        raise InputError(f"'{path}' has several background files of channel {channel}: {names}; keep one")
    return Record(
        channel=channel,
        background=background[0] if background else None,
        signals=tuple(file for file in files if file.label not in ("background", "unlabelled")),
        unlabelled=tuple(file for file in files if file.label == "unlabelled"),
    )


def _in_folder(folder: Path) -> Iterable[_Found]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file.stat().st_size, file, None


def _in_archive(path: Path) -> Iterable[_Found]:
    try:
        with tarfile.open(path) as archive:
            members = [(m.name, m.size) for m in archive if m.isfile()]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"'{path.name}' is not a readable tar archive ({error}); it may be incomplete, fetch it again"
        ) from error
    return [(name, size, path, name) for name, size in members]


def _channel_of(inner: str, root: str) -> str | None:
    *folders, name = [root, *PurePosixPath(inner).parts]
    found = _IN_NAME.search(name)
    if found is None:
        found = next((match for folder in reversed(folders) if (match := _FOLDER.match(folder))), None)
    return found.group(1) if found else None


def _record_file(name: str, size: int, path: Path, member: str | None, *, alone: bool) -> RecordFile:
    stem = name.removesuffix(".gz").removesuffix(".csv")
    luminosity = _LUMINOSITY.search(name)
    if stem.startswith("background"):
        label = "background"
    elif alone or _HIDDEN.match(stem):
        label = "unlabelled"
    else:
        label = _IN_NAME.split(stem)[0]
    return RecordFile(name, label, size, path, member, float(luminosity.group(1)) if luminosity else None)
