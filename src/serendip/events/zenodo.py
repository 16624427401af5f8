"""The public data sets on Zenodo: their records and files.

Names, sizes and checksums are those that the Zenodo REST API states when it is asked.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from serendip.errors import InputError
from serendip.events.download import RemoteFile, open_address, repeat

__all__ = ["DATASETS", "ZENODO", "RemoteRecord", "choose", "find_record", "record_number"]

ZENODO = "https://zenodo.org"

DATASETS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # the first part of each is the default
        "darkmachines": {"hackathon": "3961917", "sm": "3685861", "secret": "4443151", "bsm": "6772776"},
        "lhco-rd": {"v2": "6466204"},
        "lhco-blackboxes": {"all": "4536624"},
        "top-tagging": {"v0": "2603256"},
    }
)
"""Data set to its parts and their Zenodo records: the Dark Machines challenge (arXiv:2105.14027), the LHC Olympics 2020
(arXiv:2101.08320) and the top-tagging landscape (arXiv:1902.09914)."""


@dataclass(frozen=True)
class RemoteRecord:
    """Zenodo's metadata of a record.

    Parameters
    ----------
    number
        Its number.
    title, doi, licence
        As stated there; empty where nothing is stated.
    files
        By name.
    """

    number: str
    title: str
    doi: str
    licence: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return asdict(self)


def record_number(dataset: str, part: str | None = None) -> str:
    """Number of the Zenodo record of a data set, or of one part of it.

    Raises
    ------
    InputError
        If the data set or the part is not known.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set '{dataset}' is not known; expected one of {', '.join(DATASETS)}")
    parts = DATASETS[dataset]
    if part is None:
        return next(iter(parts.values()))
    if part not in parts:
        raise InputError(f"'{dataset}' has no part '{part}'; expected one of {', '.join(parts)}")
    return parts[part]


def find_record(number: str, *, url: str = ZENODO, pause: float = 1.0) -> RemoteRecord:
    """Ask the Zenodo REST API for the files of a record.

    Parameters
    ----------
    number
        Number of the record, for example ``3961917``.
    url
        Address of Zenodo, or of a mirror with the same API.
    pause
        Seconds before the first repetition after a temporary failure; doubled each time, five attempts.

    Raises
    ------
    InputError
        If there is no such record, no network, or an answer that cannot be used.
    """
    if not number.isdigit():
        raise InputError(
            f"record '{number}' is not a number; it is the last part of a DOI 10.5281/zenodo.NUMBER"
        )
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"'{url}' is not an address; expected https://...")
    address = f"{url.rstrip('/')}/api/records/{number}"
    text = b""

    def fetch() -> None:
        nonlocal text
        with open_address(address, 0) as answer:
            text = answer.read()

    repeat(fetch, address, f"record {number}", pause=pause)
    try:
        answer = json.loads(text)
        metadata = answer.get("metadata", {})
        licence = metadata.get("license", "")
        files = tuple(_remote_file(entry, address) for entry in answer["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the answer of {address} is not that of the Zenodo API ({type(error).__name__}: {error}); try again later, or "
            f"download the files by hand from {url.rstrip('/')}/records/{number}"
        ) from error
    if not files:
        raise InputError(f"record {number} has no public files")
    return RemoteRecord(
        number=number,
        title=str(metadata.get("title", "")),
        doi=str(answer.get("doi", "")),
        licence=str(licence.get("id", "") if isinstance(licence, dict) else licence),
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


def choose(files: Sequence[RemoteFile], patterns: Sequence[str]) -> tuple[RemoteFile, ...]:
    """Files whose name matches one of the shell patterns; all of them without patterns.

    Raises
    ------
    InputError
        If a pattern matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(file.name, pattern) for file in files):
            names = ", ".join(file.name for file in files)
            raise InputError(f"no file matches '{pattern}'; the record has {names}")
    if not patterns:
        return tuple(files)
    return tuple(f for f in files if any(fnmatch.fnmatchcase(f.name, pattern) for pattern in patterns))


def _remote_file(entry: Mapping[str, Any], base: str) -> RemoteFile:
    name, size = str(entry["key"]), int(entry["size"])
    algorithm, _, checksum = str(entry["checksum"]).partition(":")
    # a name from the network becomes a path
    if name != Path(name).name or name.startswith(".") or "\\" in name:
        raise ValueError(f"'{name}' is not a file name")
    if algorithm not in hashlib.algorithms_guaranteed or not checksum or size < 0:
        raise ValueError(f"'{name}' has no usable size and checksum")
    url = urljoin(base, str(entry["links"]["self"]))
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"'{url}' is not an address")
    return RemoteFile(name, size, algorithm, checksum.lower(), url)
