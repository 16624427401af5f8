"""The state of an unfinished training in one file, written atomically; opening it runs no code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from serendip.errors import InputError

__all__ = ["Checkpoint"]

_FILE = "checkpoint.safetensors"
_SCHEMA = 1


class _Resumable(Protocol):
    """Where random batches come from."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...

    def digest(self, update: Callable[[Any], None]) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds the last state of one training.

    Attributes
    ----------
    folder
        Where ``checkpoint.safetensors`` is written. The state of the random numbers is in its header, as JSON.
    batches
        Its random numbers are stored and restored with the rest.
    identity
        Hash of the options and the events: a state is used by the training that wrote it only.
    """

    folder: Path
    batches: _Resumable
    identity: str

    @classmethod
    def make(cls, folder: str | Path, batches: _Resumable, options: dict[str, Any]) -> Checkpoint:
        """Prepare for a training with these options on the events of ``batches``."""
        digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
        batches.digest(digest.update)
        return cls(Path(folder), batches, digest.hexdigest())

    def write(self, step: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Replace the stored state; a crash in between leaves the former one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {"schema": _SCHEMA, "identity": self.identity, "step": step, "batches": self.batches.state()}
        part = self.folder / (_FILE + ".part")
        save_file(
            {name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, {"facts": json.dumps(facts)}
        )
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(self.folder / _FILE)

    def read(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return the last step and its arrays, and set the random numbers back to that step; None without a file.

        Raises
        ------
        InputError
            If the state cannot be read or is from a training with other options or events.
        """
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()["facts"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise InputError(f"{path} cannot be read ({error}); remove it to retrain") from error
        if facts.get("schema") != _SCHEMA or facts.get("identity") != self.identity:
            raise InputError(
                f"{path} is from a training with other options or events; remove it, or use another folder"
            )
        self.batches.restore(facts["batches"])
        return int(facts["step"]), arrays
