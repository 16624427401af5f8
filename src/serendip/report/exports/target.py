"""Where an export goes: a folder that is new or empty, or a zip file; all of it or nothing."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.io.json import write_json
from serendip.report.exports.likelihood import LookModel
from serendip.report.load import Run

__all__ = ["export_folder", "write_index"]

# the time stamp of every member, so that the same run gives the same bytes
_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def export_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write into; on success it becomes ``out``, or the zip file ``out`` if it ends in ``.zip``.

    Raises
    ------
    InputError
        If ``out`` exists already (a zip file, or a folder that is not empty), or cannot be written.
    """
    zipped = out.suffix.lower() == ".zip"
    if zipped and out.exists():
        raise InputError(f"--out {out}: exists already; choose another name or remove it")
    if not zipped and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not an empty folder; choose another one")
    try:
        if not zipped:
            out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    try:
        yield folder
        if zipped:
            _zip(folder, out)
        else:
            folder.chmod(0o755)
            if out.exists():
                out.rmdir()
            folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_index(folder: Path, run: Run, models: Iterable[LookModel], suffix: str) -> list[str]:
    """Write ``index.json``, which lists the files of each look; returns their names."""
    names, entries = [], []
    for model in models:
        counting = f"{model.name}.counting.{suffix}"
        spectrum = None if model.spectrum is None else f"{model.name}.spectrum.{suffix}"
        names += [name for name in (counting, spectrum) if name]
        entries.append(model.to_dict(counting=counting, spectrum=spectrum))
    write_json(folder / "index.json", {"schema": 1, "run": run.path.resolve().name, "looks": entries})
    return names


def _zip(folder: Path, out: Path) -> None:
    with atomic_write(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{out.stem}/{path.relative_to(folder).as_posix()}"
                member = zipfile.ZipInfo(name, _EPOCH)
                member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(member, path.read_bytes())
